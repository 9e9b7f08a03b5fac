# Hundreds of small pictures on their way to an object store (Swift), and the dispatcher is killed, or PostgreSQL stopped
# at once, again and again: each object is whole, each picture was paid for once, no row succeeds without its object.
#
# GENJOB_TEST_LONG=1 has 500 pictures and 20 ends instead of 120 and 3.

use strict;
use warnings;

use Digest::SHA ();
use HTTP::Tiny;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use OpenUploads;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my ($pictures, $ends) = $ENV{GENJOB_TEST_LONG} ? (500, 20) : (120, 3);
my $node = new_node(conf => "genjob.shutdown_grace = 1\nrestart_after_crash = on\n");
# a server that is asked again under the same Idempotency-Key has not made two
my $standin = StandIn->new(idempotent => 1);
my $http = HTTP::Tiny->new(timeout => 60);

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url
	  . "', bucket 'pictures', key '{server}/{job}-{ordinal}.{ext}', retry_base '100 ms', max_in_flight '8')");
query(q{CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')});
# one names predictions, the other answers at once
create_server($node, 'named', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1', poll_interval => '50 ms', max_in_flight => 500, retry_base => '100 ms', retry_max => '1 s');
create_server($node, 'plain', 'openai-images', $standin, store => 'pictures', max_in_flight => 500, retry_base => '100 ms', retry_max => '1 s');

my $jobs = q{server IN ('named', 'plain')};
foreach my $server ('named', 'plain')
{
	query("INSERT INTO gen_jobs (server, request, max_attempts) SELECT '$server', jsonb_build_object("
		  . ($server eq 'named' ? q{'input', jsonb_build_object('prompt', 'named ' || i, 'standin', jsonb_build_object('id', 'named ' || i))}
			: q{'prompt', 'plain ' || i, 'size', '64x64', 'standin', jsonb_build_object('id', 'plain ' || i)})
		  . "), 100 FROM generate_series(1, $pictures / 2) AS i");
}

subtest 'the ends' => sub {
	for my $end (1 .. $ends)
	{
		# some of them have come since the last end, or all have
		my $least = int($pictures * $end / ($ends + 1));
		ok($node->poll_query_until('postgres', "SELECT count(*) >= $least FROM gen_jobs WHERE $jobs AND state = 'succeeded'"), "$least pictures are stored");
		is(query("SELECT count(*) FROM gen_jobs j WHERE $jobs AND state = 'succeeded' AND NOT EXISTS (SELECT FROM gen_outputs o WHERE o.job_id = j.id AND o.url IS NOT NULL)"),
			0, '... none of their jobs succeeded without its object');
		if ($end % 2)
		{
			my $pid = dispatcher_pid($node);
			kill 'KILL', $pid if $pid;
			ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher' AND pid <> " . ($pid || 0)), '... the dispatcher is killed');
		}
		else
		{
			$node->stop('immediate');
			$node->start;
			ok(wait_dispatcher($node), '... PostgreSQL is stopped at once');
		}
	}
};

subtest 'what has become of it' => sub {
	ok(wait_all_ended($node), 'all jobs end');
	is(query("SELECT count(*) FROM gen_jobs WHERE $jobs AND state = 'succeeded'"), $pictures, '... well') or diag(query("SELECT server, state, error, count(*) FROM gen_jobs WHERE $jobs GROUP BY 1, 2, 3"));
	my $counts = $standin->counts;
	is(scalar(grep { ($counts->{ids}{"named $_"}{submitted} // 0) != 1 } 1 .. $pictures / 2), 0, 'each prediction was made once');
	is(scalar(keys %{ $counts->{keys} }), $pictures, '... and each picture paid for once: it was asked for under one key');
	my $wrong = 0;
	foreach my $row (split /\n/, query(qq{SELECT genjob.presign(o, '10 min'), encode(o.sha256, 'hex') FROM gen_jobs j LEFT JOIN gen_outputs o ON o.job_id = j.id AND o.data IS NULL WHERE $jobs}))
	{
		my ($link, $sha256) = split /\|/, $row;
		$wrong++ unless $link && Digest::SHA::sha256_hex($http->get($link)->{content}) eq $sha256;
	}
	is($wrong, 0, 'each object is there, and whole');
	my $list = enqueue($node, 'pictures', { list => '' });
	query("SELECT state FROM genjob.wait($list, '60 s')");
	is(query("SELECT jsonb_array_length(result -> 'objects') FROM gen_jobs WHERE id = $list"), $pictures, 'the store has no other');
	is(scalar(OpenUploads::list($store)), 0, 'and no upload is open');
};

$node->stop;
done_testing();

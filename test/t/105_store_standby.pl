# A standby is promoted while outputs are on their way to an object store (Swift): the new primary goes on, each picture
# was paid for once, each object is whole, and no upload stays open.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
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
my $between = PythonServer->new('between.py');
$between->set(target => 0 + $store->port);
my $files = PythonServer->new('files.py');
my $standin = StandIn->new(idempotent => 1);
my $http = HTTP::Tiny->new(timeout => 60);

my $primary = new_node(name => 'primary', init => { allows_streaming => 1 });
create_store($primary, 'pictures', $between, key => '{tenant}/{job}-{ordinal}.{ext}', max_in_flight => 64,
	retry_max => '1 s');
my %quick = (store => 'pictures', max_in_flight => 64, retry_base => '100 ms', retry_max => '1 s');
create_server($primary, 'plain', 'openai-images', $standin, %quick);
create_server($primary, 'named', 'replicate', $standin, %quick, model => 'stand-in/painter:1', poll_interval => '50 ms');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
# no claim and no name of an upload may be lost with the primary
$primary->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = '*'; SELECT pg_reload_conf()});

# a job of each kind stops at each step, after or before the store has done it; and many small ones are on their way
my (@rules, %job);
foreach my $kind (qw(plain named poured))
{
	foreach my $step (qw(begin part complete))
	{
		foreach my $does (0, 1)
		{
			my $name = "$kind-$step-$does";
			push @rules, { match => "^$step .*/$name/", times => 1, hold => 600, $does ? (does => \1) : (), close => \1 };
			my %script = (id => $name, $kind eq 'poured' ? (output => $files->url("/$name/20000000.png?chunked=1")) : ());
			$job{$name} = [ $kind eq 'plain' ? 'plain' : 'named',
				StandIn::request(prompt => $name, size => '1700x1700', standin => \%script) ];
		}
	}
}
$between->set(rules => \@rules);
enqueue($primary, @{ $job{$_} }, tenant => $_, max_attempts => 20) foreach sort keys %job;
ok(poll_until(sub {
	my $held = $http->get($between->url('/_waiting'))->{content};
	return !grep { index($held, "/$_/") < 0 } keys %job;
}), 'a job of each kind is held at each step');
$primary->safe_psql('postgres', q{INSERT INTO gen_jobs (server, request, tenant, max_attempts)
	SELECT 'plain', jsonb_build_object('prompt', 'small ' || i, 'standin', jsonb_build_object('id', 'small ' || i)), 'small', 20
	FROM generate_series(1, 100) AS i});
ok($primary->poll_query_until('postgres', q{SELECT count(*) > 10 FROM gen_jobs WHERE tenant = 'small' AND state = 'succeeded'}),
	'some of many small pictures are stored');

$primary->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', q{ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()});
ok(wait_dispatcher($standby), 'the standby is promoted, and has a dispatcher');
ok(wait_all_ended($standby), 'all jobs end there');
is(query_node($standby, q{SELECT state, count(*) FROM gen_jobs GROUP BY 1}), 'succeeded|' . (100 + keys %job), '... well')
  || diag(query_node($standby, q{SELECT tenant, error FROM gen_jobs WHERE state <> 'succeeded'}));
my %wrong;
foreach my $row (split /\n/, query_node($standby, q{SELECT j.id, tenant, genjob.presign(o), encode(o.sha256, 'hex')
	FROM gen_jobs j LEFT JOIN gen_outputs o ON o.job_id = j.id AND o.data IS NULL}))
{
	my ($id, $tenant, $link, $sha256) = split /\|/, $row;
	$wrong{"$tenant/$id"} = 1 unless $link && sha256_hex($http->get($link)->{content}) eq $sha256;
}
is(join(' ', sort keys %wrong), '', 'each object is there, and whole');
my $counts = $standin->counts;
is(join(' ', grep { ($counts->{ids}{$_}{submitted} // 0) != 1 } grep { !/^plain/ } sort keys %job), '',
	'each prediction was made once');
is(scalar(keys %{ $counts->{keys} }), 100 + keys %job, 'each picture was asked for under one key');
ok(OpenUploads::wait_none($store), 'no upload is open') || diag(OpenUploads::list($store));

$standby->stop;
done_testing();

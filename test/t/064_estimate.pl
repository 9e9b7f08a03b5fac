# genjob.estimate(): when a job inserted now would start.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $stall = literal(StandIn::request(prompt => 'stall', faults => [ { stall => 1 } ], repeat => 1));

sub insert
{
	my ($server, $n, $request, $tenant) = @_;
	query("INSERT INTO gen_jobs (server, request, tenant) SELECT '$server', $request, '$tenant' FROM generate_series(1, $n)");
	return;
}

# Whether a job of that tenant would start in LOW to HIGH seconds
sub starts_in
{
	my ($server, $tenant, $low, $high, $what) = @_;
	my $seconds = query("SELECT extract(epoch FROM genjob.estimate('$server', '$tenant') - clock_timestamp())");
	ok($seconds ne '' && $seconds >= $low && $seconds <= $high, $what) or diag("in $seconds s");
	return;
}

subtest 'a server whose pace is known' => sub {
	create_server($node, 'busy', 'openai-images', $standin, max_in_flight => 2);
	starts_in('busy', 'me', -1, 0.5, 'at a server that is idle, at once');
	my $quarter = literal(StandIn::request(prompt => 'a', latency_ms => 250));
	insert('busy', 6, $quarter, 'me');
	ok(wait_server_ended($node, 'busy'), 'a server works for a while');
	# how many times as long as asked for a call took on a busy machine
	my $slow = query(q{SELECT 4 * extract(epoch FROM max(finished_at - started_at)) FROM gen_jobs
		WHERE server = 'busy'});
	starts_in('busy', 'me', -1, 0.5, '... and at once when it is idle again');
	insert('busy', 2, $stall, 'me');
	eventually("SELECT in_flight = 2 FROM genjob.servers WHERE server = 'busy'", 'it is full');
	starts_in('busy', 'me', 0.1, 0.3 * $slow, '... so a place is free within the time of a call');
	insert('busy', 20, $quarter, 'other');
	eventually("SELECT queued = 20 FROM genjob.servers WHERE server = 'busy'", 'others come');
	starts_in('busy', 'other', 2, 4 * $slow, '... so the next of theirs comes after all of them');
	starts_in('busy', 'me', 0.2, 0.5 * $slow, '... but one of another tenant after one of them');
	query("INSERT INTO genjob.tenant_weights VALUES ('busy', 'other', 9)");
	starts_in('busy', 'me', 1, 2 * $slow, '... or after nine, if they have so many turns');
	query("SELECT genjob.pause('busy')");
	is(query("SELECT genjob.estimate('busy', 'me')"), 'infinity', 'never, at a server that is paused');
	query("SELECT genjob.resume('busy')");
	starts_in('busy', 'me', 1, 2 * $slow, '... until it is resumed');
};

subtest 'a server of which nothing is known' => sub {
	create_server($node, 'fresh', 'openai-images', $standin, max_in_flight => 1);
	insert('fresh', 1, $stall, 'me');
	eventually("SELECT in_flight = 1 FROM genjob.servers WHERE server = 'fresh'", 'a server is full whose calls never ended');
	is(query("SELECT genjob.estimate('fresh') IS NULL"), 't', '... nobody knows when one will');
};

subtest 'a rate' => sub {
	create_server($node, 'paced', 'openai-images', $standin, rate_limit => '6/h');
	starts_in('paced', 'me', -1, 0.5, 'at a server with a rate, at once');
	insert('paced', 1, q('{"prompt": "a"}'), 'me');
	ok($node->poll_query_until('postgres', "SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE server = 'paced'"), 'its token is used');
	eventually("SELECT tokens < 0.1 FROM genjob.servers WHERE server = 'paced'", '... as genjob.servers says');
	starts_in('paced', 'me', 580, 601, '... so the next starts when there is another');
	insert('paced', 12, q('{"prompt": "a"}'), 'me');
	eventually("SELECT queued = 12 AND held_reason = 'rate_limit is reached' FROM genjob.servers WHERE server = 'paced'", 'others wait for theirs');
	starts_in('paced', 'me', 12.9 * 600, 13 * 600 + 1, '... and one more after them');

	create_server($node, 'quick', 'openai-images', $standin, rate_limit => '5/s');
	insert('quick', 5, q('{"prompt": "a"}'), 'me');
	ok($node->poll_query_until('postgres', "SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE server = 'quick'"), 'a burst');
	eventually("SELECT tokens > 4.9 FROM genjob.servers WHERE server = 'quick'", '... after which tokens come back, also while there is nothing to do');
	starts_in('quick', 'me', -1, 0.1, '... so that one would start at once');
};

$node->stop('immediate');
$standin->stop;
done_testing();

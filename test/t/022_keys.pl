# Idempotency-Keys: the end of each key names the options of the server that made its body, whatever jobs were claimed
# together with it. A dispatcher that takes up a call after a crash relies on it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node(conf => <<'CONF');
genjob.max_memory = '64 MB'
genjob.debug_clock_speed = 10
synchronous_commit = off
autovacuum = off
CONF
my $standin = StandIn->new(latency_ms => 100, backlog => 1024);
my @servers = qw(first large last);

# each has calls that end together, and then claims for all three together
create_server($node, $_, 'http', $standin, path => "/echo/$_", max_in_flight => $_ eq 'large' ? 20 : 2)
  foreach @servers;

subtest 'a key names the options of the server that made its body, whatever was claimed with it' => sub {
	# 4 MB of inputs each; memory has room for few at a time
	query(q{
		CREATE TABLE input AS SELECT decode(repeat(md5('x'), 65536 * 4), 'hex') AS bytes;
		BEGIN;
		INSERT INTO gen_jobs (server, request)
			SELECT s, '{"prompt": "small"}' FROM generate_series(1, 40), unnest(ARRAY['first', 'last']) s;
		INSERT INTO gen_jobs (server, request, inputs)
			SELECT 'large', '{"image": {"$input": 1}}', ARRAY[bytes] FROM input, generate_series(1, 40);
		COMMIT});
	eventually("SELECT held_reason = 'genjob.max_memory is reached' FROM genjob.servers WHERE server = 'large'",
		'a server waits for memory');
	ok(wait_all_ended($node), 'all jobs end');
	is(query("SELECT string_agg(DISTINCT state || ' ' || attempt, ', '), count(*) FROM gen_jobs"),
		'succeeded 1|120', '... well, at once');

	my %ends;
	my %keys;
	foreach my $request ($standin->requests(1000))
	{
		my ($server) = $request->{uri} =~ m{^/echo/(\w+)$} or next;
		my %headers = map { lc $_ => $request->{headers}{$_} } keys %{ $request->{headers} };
		my $key = $headers{'idempotency-key'};
		$ends{$server}{ substr($key, -8) }++;
		$keys{$key}++;
	}
	is_deeply({ map { $_ => [ values %{ $ends{$_} } ] } keys %ends },
		{ map { $_ => [40] } @servers }, 'all keys of a server end alike')
	  or diag(explain(\%ends));
	is(scalar(keys %{ { map { %$_ } values %ends } }), 3, '... and those of others otherwise');
	is(scalar(keys %keys), 120, '... and no two are the same');
};

$node->stop;
$standin->stop;
done_testing();

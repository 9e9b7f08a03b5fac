# Whose turn it is: tenants of a server share it, each has its own order, and nothing is forgotten of a
# queue that is larger than memory.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $node = new_node(conf => "genjob.max_in_flight = 600\nsynchronous_commit = off\nautovacuum = off");
my $standin = StandIn->new;

# By how many seconds something may come late
my $slack = 1 + ($ENV{GENJOB_TEST_SLACK_S} // 1);

# INSERT of the jobs of generate_series(1, N), column by column an SQL expression in which i is the number.
sub backlog
{
	my ($n, %columns) = @_;
	$columns{request} //= q('{"prompt": "a"}');
	my @names = sort keys %columns;
	query('INSERT INTO gen_jobs (' . join(', ', @names) . ') SELECT ' . join(', ', @columns{@names})
		  . " FROM generate_series(1, $n) i");
	return;
}

# So many transactions of a thousand jobs, each of which the dispatcher is told of
sub insert_in_thousands
{
	my ($server, $n) = @_;
	query(qq{
		DO \$\$
		BEGIN
			FOR n IN 1 .. $n LOOP
				INSERT INTO gen_jobs (server, request) SELECT '$server', '{"prompt": "a"}' FROM generate_series(1, 1000);
				COMMIT;
			END LOOP;
		END \$\$});
	return;
}

# A paused server; one without a key fails its jobs once they are claimed, so that nothing is sent.
sub paused_server
{
	my ($name, %opts) = @_;
	return create_server($node, $name, 'openai-images', $standin, paused => 'on', %opts);
}

sub take_key_away
{
	my ($name) = @_;
	query("DROP USER MAPPING FOR PUBLIC SERVER $name");
	return;
}

sub start_and_stop_after
{
	my ($server, $n) = @_;
	query("SELECT genjob.resume('$server')");
	$node->poll_query_until('postgres', "SELECT count(*) >= $n FROM gen_jobs WHERE server = '$server' AND attempt > 0");
	query("SELECT genjob.pause('$server')");
	return;
}

# tenant:starts of the first N jobs that were started
sub first_starts
{
	my ($server, $n) = @_;
	return map { split /\|/ } split /\n/, query(qq{
		SELECT tenant, count(*) FROM (SELECT tenant FROM gen_jobs WHERE server = '$server' AND attempt > 0
			ORDER BY started_at, id LIMIT $n) s GROUP BY tenant});
}

# Jobs that were started before one that goes before them
sub inversions
{
	my ($server) = @_;
	return query(qq{
		SELECT count(*) FROM (SELECT started_at < lag(started_at) OVER (PARTITION BY tenant ORDER BY priority DESC, run_at, id) AS is_early
			FROM gen_jobs WHERE server = '$server') s WHERE is_early});
}

# ---- a tenant with a hundred thousand ----

paused_server('shared', max_in_flight => 8);
backlog(100_000, server => q('shared'), tenant => q('heavy'));
backlog(1_800, server => q('shared'), tenant => q('light ' || i % 9));
start_and_stop_after('shared', 1_000);
my %starts = first_starts('shared', 1_000);
is(scalar keys %starts, 10, 'of 10 tenants, one of which was first with 100,000 jobs, all are served');
is(join(' ', grep { abs($starts{$_} - 100) > 10 } sort keys %starts), '', '... evenly in the first 1,000 starts, within 10 %')
  or diag(explain(\%starts));
eventually("SELECT in_flight = 0 FROM genjob.servers WHERE server = 'shared'", '... until the server is paused');
is( query("SELECT bool_and(weight = 1), sum(queued + in_flight), max(queued) FROM genjob.tenants WHERE server = 'shared'"),
	query("SELECT true, count(*), count(*) FILTER (WHERE tenant = 'heavy') FROM gen_jobs WHERE server = 'shared' AND state = 'queued'"),
	'genjob.tenants says what each has waiting');

# ---- a newcomer ----

my $session = Session->new($node);
create_server($node, 'single', 'openai-images', $standin, max_in_flight => 1);
$standin->reset;
my $stalled = enqueue($node, 'single', StandIn::request(prompt => 'stalled', faults => [ { stall => 1 } ]), tenant => 'old', priority => 9);
backlog(3_000, server => q('single'), tenant => q('old'), priority => 5);
$standin->wait_for(sub { $_[0]{in_flight} == 1 });
my $newcomer = enqueue($node, 'single', StandIn::request(prompt => 'newcomer', faults => [ { stall => 1 } ]), tenant => 'new', priority => -5);
query("SELECT genjob.cancel($stalled)");
ok($node->poll_query_until('postgres', "SELECT state = 'running' FROM gen_jobs WHERE id = $newcomer"), 'the first job of a new tenant runs');
is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'single' AND tenant = 'old' AND attempt > 0}), 1,
	'... in the first place that is free, whatever others have waiting, and of whatever priority');

# ---- jobs that commit late ----

$session->query(q{BEGIN; INSERT INTO gen_jobs (server, request, tenant, priority) VALUES ('single', '{"prompt": "late"}', 'old', 5)});
query("SELECT genjob.cancel($newcomer)");
backlog(3_000, server => q('single'), tenant => q('old'), priority => 5);
$node->poll_query_until('postgres', q{SELECT count(*) > 20 FROM gen_jobs WHERE server = 'single' AND state = 'succeeded'});
$session->query('COMMIT');
eventually(q{SELECT state = 'succeeded' FROM gen_jobs WHERE request ->> 'prompt' = 'late'}, 'a job that commits after later ones is not forgotten');
is(query(q{SELECT count(*) > 100 FROM gen_jobs WHERE server = 'single' AND state = 'queued'}), 't', '... and takes its place before them');
query(q{TRUNCATE gen_jobs CASCADE});

# ---- weights ----

paused_server('weighted', max_in_flight => 4);
query(q{INSERT INTO genjob.tenant_weights VALUES ('weighted', 'gold', 3), ('other', 'tin', 7)});
backlog(1_000, server => q('weighted'), tenant => q('tin'));
backlog(3_000, server => q('weighted'), tenant => q('gold'));
start_and_stop_after('weighted', 400);
%starts = first_starts('weighted', 400);
ok(abs($starts{gold} - 300) <= 8, 'a tenant of weight 3 gets three turns where another gets one') or diag(explain(\%starts));
is(query(q{SELECT string_agg(tenant || ' ' || weight, ', ' ORDER BY tenant) FROM genjob.tenants WHERE server = 'weighted'}),
	'gold 3, tin 1', '... as genjob.tenants says');
query(q{TRUNCATE gen_jobs CASCADE; UPDATE genjob.tenant_weights SET weight = 0.001 WHERE tenant = 'gold'});

# One turn of a tenant of weight 0.001 is a thousand of others: not any more when its weight is 1
backlog(2, server => q('weighted'), tenant => q('gold'));
query("SELECT genjob.resume('weighted')");
eventually(q{SELECT count(*) = 2 FROM gen_jobs WHERE state = 'succeeded'}, 'a tenant of a small weight that is alone has all turns');
query("SELECT genjob.pause('weighted')");
backlog(200, server => q('weighted'), tenant => q('tin'));
backlog(200, server => q('weighted'), tenant => q('gold'));
query(q{TRUNCATE genjob.tenant_weights});
query("SELECT genjob.resume('weighted')");
ok(wait_all_ended($node), 'weights are taken away');
%starts = first_starts('weighted', 202);
ok(abs($starts{gold} - 102) <= 8, '... and what a tenant had at its old weight is not held against it') or diag(explain(\%starts));
query(q{TRUNCATE gen_jobs CASCADE});

# ---- the order of a tenant's jobs ----

paused_server('ordered', max_in_flight => 1);
backlog(200, server => q('ordered'), priority => '(i * 7) % 5 - 2', run_at => "now() - ((i * 13) % 7) * interval '1 s'");
query("SELECT genjob.resume('ordered')");
ok(wait_all_ended($node), 'jobs of one tenant');
is(inversions('ordered'), 0, '... are started by priority, then run_at, then id');
is(query('SELECT count(DISTINCT started_at) FROM gen_jobs'), 200, '... one after another');
query(q{TRUNCATE gen_jobs CASCADE});

# ---- queues larger than memory ----

paused_server('long', max_in_flight => 500);
insert_in_thousands('long', 50);
take_key_away('long');
query("SELECT genjob.resume('long')");
ok(wait_all_ended($node), '50,000 jobs of one tenant and priority');
is(query('SELECT count(*), min(attempt), max(attempt) FROM gen_jobs'), '50000|1|1', '... are all started, once');
is(inversions('long'), 0, '... and in order');
query(q{TRUNCATE gen_jobs CASCADE});

# ---- a queue that goes away ----

paused_server('dropped', max_in_flight => 1);
insert_in_thousands('dropped', 40);
eventually(q{SELECT queued = 40000 FROM genjob.servers WHERE server = 'dropped'}, 'a queue');
query(q{TRUNCATE gen_jobs CASCADE; SELECT genjob.resume('dropped')});
my $only = enqueue($node, 'dropped', '{"prompt": "only"}');
ok(wait_state($node, $only, 'succeeded'), '... that is emptied');
is(query("SELECT started_at - created_at < interval '$slack s' FROM gen_jobs WHERE id = $only"), 't', '... holds up nothing that comes after it')
  or diag(query("SELECT started_at - created_at FROM gen_jobs WHERE id = $only"));
query(q{TRUNCATE gen_jobs CASCADE});

# ---- many tenants ----

paused_server('wide', max_in_flight => 500);
backlog(15_000, server => q('wide'), tenant => q('tenant ' || i % 5000), priority => 'i % 2');
take_key_away('wide');
query("SELECT genjob.resume('wide')");
ok(wait_all_ended($node), '5,000 tenants with 3 jobs each');
is(query('SELECT count(*), min(attempt), max(attempt), count(DISTINCT tenant) FROM gen_jobs'), '15000|1|1|5000', '... are all served');
is(inversions('wide'), 0, '... each in order');
query(q{TRUNCATE gen_jobs CASCADE});

# ---- later ----

create_server($node, 'later', 'openai-images', $standin);
backlog(100_000, server => q('later'), run_at => "now() + i * interval '1 min' + interval '1 h'");
my $soon = enqueue($node, 'later', '{"prompt": "soon"}');
ok(wait_state($node, $soon, 'succeeded'), 'beside 100,000 jobs that are due much later, one that is due runs');
my $due = query(q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('later', '{"prompt": "due"}', now() + interval '300 ms') RETURNING id});
ok(wait_state($node, $due, 'succeeded'), '... and one that becomes due');
is(query("SELECT started_at - run_at < interval '$slack s' FROM gen_jobs WHERE id = $due"), 't', '... at its time');
is(query("SELECT queued, later, in_flight FROM genjob.servers WHERE server = 'later'"), '0|100000|0', 'genjob.servers counts those that are due later');

$session->quit;
$standin->stop;
$node->stop;
done_testing();

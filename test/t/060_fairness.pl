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

# By how many seconds something may come late on a busy machine.
my $slack = $ENV{GENJOB_TEST_SLACK_S} // 10;

# No job is left of other subtests, however many they had.
sub clear
{
	query(q{TRUNCATE gen_jobs CASCADE});
	return;
}

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

# N transactions of a thousand jobs, each of which the dispatcher is told of.
sub insert_in_thousands
{
	my ($server, $n) = @_;
	query(qq{
		DO \$\$
		BEGIN
			FOR n IN 1 .. $n LOOP
				INSERT INTO gen_jobs (server, request) SELECT '$server', '{"prompt": "a"}' FROM generate_series(1,
					1000);
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

# How often each tenant is among the first N jobs that were started.
sub first_starts
{
	my ($server, $n) = @_;
	return map { split /\|/ } split /\n/, query(qq{
		SELECT tenant, count(*) FROM (SELECT tenant FROM gen_jobs WHERE server = '$server' AND attempt > 0
			ORDER BY started_at, id LIMIT $n) s GROUP BY tenant});
}

# How many jobs were started before one that goes before them.
sub inversions
{
	my ($server) = @_;
	return query(qq{
		SELECT count(*) FROM (SELECT started_at < lag(started_at) OVER
				(PARTITION BY tenant ORDER BY priority DESC, run_at, id) AS is_early
			FROM gen_jobs WHERE server = '$server') s WHERE is_early});
}

subtest 'ten tenants have equal shares, although one was first with 100,000 jobs' => sub {
	clear();
	paused_server('shared', max_in_flight => 8);
	backlog(100_000, server => q('shared'), tenant => q('heavy'));
	backlog(1_800, server => q('shared'), tenant => q('light ' || i % 9));
	start_and_stop_after('shared', 1_000);
	my %starts = first_starts('shared', 1_000);
	is(scalar keys %starts, 10, 'all are served');
	is(join(' ', grep { abs($starts{$_} - 100) > 10 } sort keys %starts), '',
		'... evenly in the first 1,000 starts, within 10 %')
	  or diag(explain(\%starts));
	eventually("SELECT in_flight = 0 FROM genjob.servers WHERE server = 'shared'", '... until the server is paused');
	is( query(q{SELECT bool_and(weight = 1), sum(queued + in_flight), max(queued) FROM genjob.tenants
			WHERE server = 'shared'}),
		query(q{SELECT true, count(*), count(*) FILTER (WHERE tenant = 'heavy') FROM gen_jobs
			WHERE server = 'shared' AND state = 'queued'}),
		'genjob.tenants says what each has waiting');
};

subtest 'a new tenant gets the first place that is free, whatever others have waiting' => sub {
	clear();
	create_server($node, 'single', 'openai-images', $standin, max_in_flight => 1);
	$standin->reset;
	my $stalled = enqueue($node, 'single', StandIn::request(prompt => 'stalled', faults => [ { stall => 1 } ]),
		tenant => 'old', priority => 9);
	backlog(3_000, server => q('single'), tenant => q('old'), priority => 5);
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	my $newcomer = enqueue($node, 'single', StandIn::request(prompt => 'newcomer', faults => [ { stall => 1 } ]),
		tenant => 'new', priority => -5);
	query("SELECT genjob.cancel($stalled)");
	ok(wait_state($node, $newcomer, 'running'), 'the first job of a new tenant runs');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'single' AND tenant = 'old' AND attempt > 0}), 1,
		'... and no other since, although its priority is lower');
	query("SELECT genjob.pause('single'); SELECT genjob.cancel($newcomer)");
};

subtest 'a job that commits after later ones is not forgotten, and takes its place before them' => sub {
	clear();
	paused_server('behind', max_in_flight => 1);
	my $session = Session->new($node);
	backlog(3_000, server => q('behind'), tenant => q('old'), priority => 5);
	$session->query(q{BEGIN; INSERT INTO gen_jobs (server, request, tenant, priority)
		VALUES ('behind', '{"prompt": "late"}', 'old', 5)});
	backlog(3_000, server => q('behind'), tenant => q('old'), priority => 5);
	query("SELECT genjob.resume('behind')");
	eventually(q{SELECT count(*) > 20 FROM gen_jobs WHERE server = 'behind' AND state = 'succeeded'},
		'others are run');
	$session->query('COMMIT');
	eventually(q{SELECT state = 'succeeded' FROM gen_jobs WHERE server = 'behind' AND request ->> 'prompt' = 'late'},
		'it is run, too');
	is( query(q{SELECT count(*) < 5000 FROM gen_jobs j, gen_jobs late WHERE late.request ->> 'prompt' = 'late'
			AND late.server = 'behind' AND j.server = 'behind' AND j.started_at < late.started_at}),
		't', '... in its place');
	$session->quit;
};

subtest 'a tenant of weight 3 gets three turns where another gets one' => sub {
	clear();
	paused_server('weighted', max_in_flight => 4);
	query(q{INSERT INTO genjob.tenant_weights VALUES ('weighted', 'gold', 3), ('other', 'tin', 7)});
	backlog(1_000, server => q('weighted'), tenant => q('tin'));
	backlog(3_000, server => q('weighted'), tenant => q('gold'));
	start_and_stop_after('weighted', 400);
	my %starts = first_starts('weighted', 400);
	ok(abs($starts{gold} - 300) <= 8, 'in the first 400 starts') or diag(explain(\%starts));
	is(query(q{SELECT tenant, weight FROM genjob.tenants WHERE server = 'weighted' ORDER BY tenant}),
		"gold|3\ntin|1", '... as genjob.tenants says');
	query(q{TRUNCATE genjob.tenant_weights});
};

subtest 'what a tenant had at its old weight is not held against it' => sub {
	clear();
	paused_server('light', max_in_flight => 4);
	query(q{INSERT INTO genjob.tenant_weights VALUES ('light', 'gold', 3)});
	query(q{UPDATE genjob.tenant_weights SET weight = 0.001 WHERE server = 'light'});
	# one turn of a tenant of weight 0.001 is a thousand of others: not any more when its weight is 1
	backlog(2, server => q('light'), tenant => q('gold'));
	query("SELECT genjob.resume('light')");
	eventually(q{SELECT count(*) = 2 FROM gen_jobs WHERE server = 'light' AND state = 'succeeded'},
		'a tenant of a small weight that is alone has all turns');
	query("SELECT genjob.pause('light')");
	backlog(200, server => q('light'), tenant => q('tin'));
	backlog(200, server => q('light'), tenant => q('gold'));
	query(q{TRUNCATE genjob.tenant_weights});
	query("SELECT genjob.resume('light')");
	ok(wait_server_ended($node, 'light'), 'weights are taken away');
	my %starts = first_starts('light', 202);
	ok(abs($starts{gold} - 102) <= 8, '... and both have equal shares') or diag(explain(\%starts));
};

subtest 'the jobs of a tenant are started by priority, then run_at, then id' => sub {
	clear();
	paused_server('ordered', max_in_flight => 1);
	backlog(200, server => q('ordered'), priority => '(i * 7) % 5 - 2',
		run_at => "now() - ((i * 13) % 7) * interval '1 s'");
	query("SELECT genjob.resume('ordered')");
	ok(wait_server_ended($node, 'ordered'), 'all end');
	is(inversions('ordered'), 0, '... in order');
	is(query(q{SELECT count(DISTINCT started_at) FROM gen_jobs WHERE server = 'ordered'}), 200,
		'... one after another');
};

subtest 'a queue that is larger than memory is all run, once and in order' => sub {
	clear();
	paused_server('long', max_in_flight => 500);
	insert_in_thousands('long', 50);
	take_key_away('long');
	query("SELECT genjob.resume('long')");
	ok(wait_server_ended($node, 'long'), '50,000 jobs of one tenant and priority');
	is(query(q{SELECT count(*), min(attempt), max(attempt) FROM gen_jobs WHERE server = 'long'}), '50000|1|1',
		'... are all started, once');
	is(inversions('long'), 0, '... and in order');
};

subtest 'a queue that is emptied holds up nothing that comes after it' => sub {
	clear();
	paused_server('emptied', max_in_flight => 1);
	insert_in_thousands('emptied', 40);
	eventually(q{SELECT queued = 40000 FROM genjob.servers WHERE server = 'emptied'}, 'a queue');
	query(q{TRUNCATE gen_jobs CASCADE; SELECT genjob.resume('emptied')});
	my $only = enqueue($node, 'emptied', '{"prompt": "only"}');
	ok(wait_state($node, $only, 'succeeded'), 'is emptied, and another job is run');
	is(query("SELECT started_at - created_at < interval '$slack s' FROM gen_jobs WHERE id = $only"), 't', '... at once')
	  or diag(query("SELECT started_at - created_at FROM gen_jobs WHERE id = $only"));
};

subtest '5,000 tenants are all served, each in its order' => sub {
	clear();
	paused_server('wide', max_in_flight => 500);
	backlog(15_000, server => q('wide'), tenant => q('tenant ' || i % 5000), priority => 'i % 2');
	take_key_away('wide');
	query("SELECT genjob.resume('wide')");
	ok(wait_server_ended($node, 'wide'), '5,000 tenants with 3 jobs each');
	is( query(q{SELECT count(*), min(attempt), max(attempt), count(DISTINCT tenant) FROM gen_jobs
			WHERE server = 'wide'}),
		'15000|1|1|5000', '... are all served');
	is(inversions('wide'), 0, '... each in order');
};

subtest 'a job that is due, or becomes due, is run beside 100,000 that are due much later' => sub {
	clear();
	create_server($node, 'later', 'openai-images', $standin);
	backlog(100_000, server => q('later'), run_at => "now() + i * interval '1 min' + interval '1 h'");
	my $soon = enqueue($node, 'later', '{"prompt": "soon"}');
	ok(wait_state($node, $soon, 'succeeded'), 'one that is due runs');
	my $due = query(q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('later', '{"prompt": "due"}', now() + interval '300 ms') RETURNING id});
	ok(wait_state($node, $due, 'succeeded'), '... and one that becomes due');
	is(query("SELECT started_at - run_at < interval '$slack s' FROM gen_jobs WHERE id = $due"), 't', '... at its time');
	is(query(q{SELECT queued, later, in_flight FROM genjob.servers WHERE server = 'later'}), '0|100000|0',
		'genjob.servers counts those that are due later');
};

$standin->stop;
$node->stop;
done_testing();

# Every job is found, and no job runs that should not, whatever commits reported of it and when: the search of
# genjob.rescan_interval, which would find it in the end, is an hour away.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $bulk = 2500;    # more than a commit names one by one
my $node = new_node(conf => "genjob.rescan_interval = '1 h'");
my $standin = StandIn->new(backlog => 1024);

# Whether all jobs of a tenant come to be in a state.
sub all_become
{
	my ($tenant, $state, $what) = @_;
	return eventually("SELECT bool_and(state = '$state') FROM gen_jobs WHERE tenant = '$tenant'", $what);
}

sub set
{
	query($_) for ("ALTER SYSTEM SET $_[0]", 'SELECT pg_reload_conf()');
	return;
}

create_server($node, 'one', 'openai-images', $standin, max_in_flight => 50);
create_server($node, 'narrow', 'openai-images', $standin, max_in_flight => 1);
create_server($node, 'paused', 'openai-images', $standin);
create_server($node, 'wide', 'openai-images', $standin);
create_server($node, 'gone', 'openai-images', $standin);
query("SELECT genjob.pause('paused'), genjob.pause('gone')");

subtest 'more tenants than are found at a time, and nothing else that wakes the dispatcher' => sub {
	query(qq{INSERT INTO gen_jobs (server, request, tenant)
		SELECT CASE WHEN i < $bulk THEN 'paused' ELSE 'wide' END, '{"prompt": "wide"}', CASE WHEN i < $bulk THEN 'wide ' || i ELSE 'wide' END
		FROM generate_series(1, $bulk) i});
	all_become('wide', 'succeeded', 'a job is found behind those of a thousand tenants whose server is paused');
};

subtest 'run_at is put off while the dispatcher is about to claim' => sub {
	my $session = Session->new($node);
	# the first is answered when the table is locked
	kill 'STOP', $standin->pid;
	enqueue($node, 'narrow', { prompt => 'first' }, tenant => 'first');
	eventually(q{SELECT state = 'running' FROM gen_jobs WHERE tenant = 'first'}, 'a job runs');
	enqueue($node, 'narrow', { prompt => 'later' }, tenant => 'later');
	$session->query('BEGIN; LOCK TABLE gen_jobs IN ACCESS EXCLUSIVE MODE');
	kill 'CONT', $standin->pid;
	eventually(q{SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE NOT granted AND backend_type = 'genjob dispatcher')}, '... and ends while the table is locked');
	$session->query(q{UPDATE gen_jobs SET run_at = now() + interval '1 h' WHERE tenant = 'later'; COMMIT});
	enqueue($node, 'narrow', { prompt => 'next' }, tenant => 'next');
	all_become('next', 'succeeded', 'the next one is run');
	is(query(q{SELECT state, attempt FROM gen_jobs WHERE tenant = 'later'}), 'queued|0', '... and none before its run_at');
	$session->quit;
};

subtest 'expires_at' => sub {
	# each by itself, for whatever makes the dispatcher look finds the others too
	my $soon = q{clock_timestamp() + interval '300 ms'};
	enqueue($node, 'paused', { prompt => 'past' }, tenant => 'past', expires_at => '2001-01-01');
	all_become('past', 'failed', 'a job fails that has expired');
	enqueue($node, 'paused', { prompt => 'epoch' }, tenant => 'epoch', expires_at => '2000-01-01 00:00:00+00');
	all_become('epoch', 'failed', 'a job fails that expired at the time which stands for zero');
	query(qq{INSERT INTO gen_jobs (server, request, tenant, run_at, expires_at)
		SELECT 'one', '{"prompt": "never"}', 'never', 'infinity', $soon FROM generate_series(1, $bulk)});
	all_become('never', 'failed', 'jobs of a bulk that would never be due expire');
	query(qq{INSERT INTO gen_jobs (server, request, tenant, run_at, expires_at)
		SELECT 'one', '{"prompt": "mixed"}', CASE WHEN i <= 2100 THEN 'remaining' ELSE 'mixed' END, now() + interval '1 h',
			CASE WHEN i <= 2100 THEN NULL WHEN i = 2200 THEN '-infinity' ELSE $soon END
		FROM generate_series(1, $bulk) i});
	all_become('mixed', 'failed', '... and those of one in which some do not and one did long ago');
	enqueue($node, 'one', StandIn::request(prompt => 'retried', faults => [ { latency_ms => 600, status => 500 } ]),
		tenant => 'retried', expires_at => query("SELECT $soon"));
	all_become('retried', 'failed', '... and a job that is put off beyond it by a failure');
	like(query(q{SELECT error FROM gen_jobs WHERE tenant = 'retried'}), qr/not started before expires_at/, '... for that');
};

subtest "others' triggers" => sub {
	query(q{CREATE FUNCTION put_forward() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN NEW.run_at := NEW.run_at - interval '1 h'; RETURN NEW; END$$;
		CREATE TRIGGER put_forward BEFORE INSERT ON gen_jobs FOR EACH ROW WHEN (NEW.tenant = 'forward') EXECUTE FUNCTION put_forward();});
	query(qq{INSERT INTO gen_jobs (server, request, tenant)
		SELECT 'one', '{"prompt": "forward"}', 'forward' FROM generate_series(1, $bulk)});
	all_become('forward', 'succeeded', 'a bulk of jobs is found whose run_at another trigger has changed');

	query(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused'; END$$;
		CREATE TRIGGER refuse AFTER UPDATE ON gen_jobs FOR EACH ROW WHEN (NEW.tenant = 'refused' AND NEW.state = 'failed') EXECUTE FUNCTION refuse()});
	enqueue($node, 'one', { prompt => 'expires' }, tenant => 'refused', expires_at => '2001-01-01');
	enqueue($node, 'one', { prompt => 'others' }, tenant => "other $_") for 1 .. 3;
	all_become("other $_", 'succeeded', "one that expires, and whose row refuses that, keeps no other ($_) from running") for 1 .. 3;
	query('DROP TRIGGER refuse ON gen_jobs');
	all_become('refused', 'failed', '... and fails when it can');
};

subtest 'servers that are gone' => sub {
	my $session = Session->new($node);
	enqueue($node, 'gone', { prompt => 'gone' }, tenant => 'gone');
	$session->query(q{BEGIN; SELECT FROM gen_jobs WHERE tenant = 'gone' FOR UPDATE});
	query('DROP SERVER gone CASCADE');
	enqueue($node, 'one', { prompt => 'meanwhile' }, tenant => 'meanwhile');
	all_become('meanwhile', 'succeeded', 'while a job of a server that is gone is locked, others run');
	$session->query('ROLLBACK');
	all_become('gone', 'failed', '... and that one fails when it is free');
	$session->quit;
};

subtest 'the search of genjob.rescan_interval' => sub {
	run_unreported($node, qq{INSERT INTO gen_jobs (server, request, tenant, run_at)
		SELECT CASE WHEN i < 10 THEN 'one' ELSE 'paused' END, '{"prompt": "tied"}', CASE WHEN i < 10 THEN 'tied' ELSE 'paused' END, '2001-01-01'
		FROM generate_series(1, $bulk) i;});
	set(q{genjob.rescan_interval = '1 s'});
	all_become('tied', 'succeeded', 'of more jobs with the same run_at than are read at a time, all are found');
	set(q{genjob.rescan_interval = '1 h'});
};

$standin->stop;
$node->stop;
done_testing();

# An old transaction keeps VACUUM from removing the rows of jobs that have run.  Whatever makes the dispatcher look for
# jobs meanwhile, it does not read through all of those rows: it finds a bulk of jobs from its first run_at on, a row
# that somebody had locked by its id, and a job that no commit reported in slices of time.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $dead = 100_000;
my $bulk = 3000;    # more than a commit names one by one
my $node = new_node(conf => "genjob.rescan_interval = '1 h'");
my $standin = StandIn->new(backlog => 1024);

# Rows of the queue's indexes that the dispatcher has read so far, as it tells when it leaves.  The test's own
# statements read none.
sub rows_read
{
	query($_) for ('ALTER SYSTEM SET genjob.enabled = off', 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')})
	  or die('the dispatcher does not leave');
	return query(q{SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
		WHERE indexrelname IN ('gen_jobs_ready', 'gen_jobs_due', 'gen_jobs_expiring')});
}

create_server($node, 'one', 'openai-images', $standin, max_in_flight => 50);
query(q{INSERT INTO gen_jobs (server, request) VALUES ('one', '{"prompt": "first"}')});
ok(wait_all_ended($node), 'the dispatcher runs');

my $pin = Session->new($node);
$pin->query('BEGIN; SELECT pg_current_xact_id()');

# jobs that have run
run_unreported($node, qq{INSERT INTO gen_jobs (server, request, run_at, expires_at)
		SELECT 'one', '{}', now() - interval '1 h' + i * interval '10 ms', now() + interval '1 h' FROM generate_series(1, $dead) i;
	UPDATE gen_jobs SET state = 'succeeded' WHERE request = '{}';});

# a bulk of jobs, of which one is locked when its turn comes
query("SELECT genjob.pause('one')");
query(qq{INSERT INTO gen_jobs (server, request, tenant)
	SELECT 'one', jsonb_build_object('prompt', 'job ' || i), 't' || i % 3 FROM generate_series(1, $bulk) i});
my $holder = Session->new($node);
$holder->query(q{BEGIN; SELECT id FROM gen_jobs WHERE request->>'prompt' = 'job 1' FOR UPDATE});
query("SELECT genjob.resume('one')");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM gen_jobs WHERE state IN ('queued', 'running')"),
	'jobs of a bulk are run while a row is locked');
$holder->query('COMMIT');
ok(wait_all_ended($node), '... and that one when it is free');
my $read = rows_read();
cmp_ok($read, '<', $dead / 2, "... and $dead dead rows were not read for that");

# a bulk whose jobs are older than others that have run
query($_) for ('ALTER SYSTEM SET genjob.enabled = on', 'SELECT pg_reload_conf()');
my $early = Session->new($node);
$early->query('BEGIN');
query(q{INSERT INTO gen_jobs (server, request) SELECT 'one', '{"prompt": "later"}' FROM generate_series(1, 100)});
ok(wait_all_ended($node), 'the dispatcher is back');
$early->query(qq{INSERT INTO gen_jobs (server, request, tenant)
	SELECT 'one', jsonb_build_object('prompt', 'earlier ' || i), 't' || i % 3 FROM generate_series(1, $bulk) i});
query(q{INSERT INTO gen_jobs (server, request) SELECT 'one', '{"prompt": "latest"}' FROM generate_series(1, 100)});
$early->query('COMMIT');
ok(wait_all_ended($node), '... and runs a bulk whose transaction began before those of others');

# one that nobody tells of, from among the dead
run_unreported($node, q{INSERT INTO gen_jobs (server, request, tenant, run_at)
		VALUES ('one', '{"prompt": "untold"}', 'untold', now() - interval '55 min');});
query(q{INSERT INTO gen_jobs (server, request) VALUES ('one', '{"prompt": "third"}')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM gen_jobs WHERE request->>'prompt' = 'third' AND state <> 'succeeded'}),
	'jobs are run');
is(query(q{SELECT state FROM gen_jobs WHERE tenant = 'untold'}), 'queued', '... but one that no commit reported waits');
query($_) for (q{ALTER SYSTEM SET genjob.rescan_interval = '1 s'}, 'SELECT pg_reload_conf()');
ok(wait_all_ended($node), '... for the search of genjob.rescan_interval');
is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND attempt = 1}), 2 * $bulk + 203, 'each job ran once');

$pin->quit;
$standin->stop;
$node->stop;
done_testing();

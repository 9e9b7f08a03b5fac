# What a job costs does not depend on the statistics that the planner finds, nor on how many jobs wait: rows are
# claimed and written by their key, also right after ANALYZE has seen an empty queue.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $jobs = 2000;
my $pairs = 5000;    # more rows than a commit tells of one by one
my $node = new_node();
my $standin = StandIn->new(backlog => 1024);

# The dispatcher tells what it has read when it leaves.
sub stop_dispatcher
{
	query($_) for ('ALTER SYSTEM SET genjob.enabled = off', 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')})
	  or die('the dispatcher does not leave');
	return;
}

create_server($node, 'one', 'openai-images', $standin, max_in_flight => 20);
query('VACUUM ANALYZE gen_jobs, gen_outputs');
query("SELECT genjob.pause('one')");
query(qq{INSERT INTO gen_jobs (server, request)
	SELECT 'one', jsonb_build_object('prompt', 'job ' || i) FROM generate_series(1, $jobs) i});
query("SELECT genjob.resume('one')");
ok(wait_all_ended($node), "$jobs jobs end that came when statistics said that there are none");
is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND attempt = 1}), $jobs, '... all of them well');
stop_dispatcher();
cmp_ok(query(q{SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE indexrelname IN ('gen_jobs_due', 'gen_jobs_running')}),
	'<=', 3 * $jobs, '... each found by its key, without a scan of all that wait or run');

# jobs that wait for others, where the plans were made when there were none, and in one page of the table after another
query($_) for ('ALTER SYSTEM RESET genjob.enabled', 'SELECT pg_reload_conf()');
wait_dispatcher($node);
query('TRUNCATE gen_jobs CASCADE');
query('VACUUM ANALYZE gen_jobs, genjob.dependencies');
my $few = enqueue($node, 'one', { prompt => 'first' });
my $next = enqueue($node, 'one', { prompt => 'second' }, after => "{$few}");
ok(wait_state($node, $next, 'succeeded'), 'a job that waits for another makes the plans');
my $read = q{SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'dependencies'};
stop_dispatcher();
my $before = query($read);
query($_) for ('ALTER SYSTEM RESET genjob.enabled', 'SELECT pg_reload_conf()');
wait_dispatcher($node);
query("SELECT genjob.pause('one')");
query(qq{WITH first AS (INSERT INTO gen_jobs (server, request)
		SELECT 'one', jsonb_build_object('prompt', 'job ' || i) FROM generate_series(1, $pairs) i RETURNING id)
	INSERT INTO gen_jobs (server, request, after) SELECT 'one', '{"prompt": "next"}', ARRAY[id] FROM first});
query("SELECT genjob.resume('one')");
ok(wait_all_ended($node), "$pairs jobs end that wait for as many");
stop_dispatcher();
cmp_ok(query($read) - $before, '<=', 40 * $pairs, '... and what each waits for is found by its key');

$standin->stop;
$node->stop;
done_testing();

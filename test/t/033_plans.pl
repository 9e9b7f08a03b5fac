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

create_server($node, 'one', 'openai-images', $standin, max_in_flight => 20);

# Has statistics say that there are no jobs, and none wait for others.
sub forget_jobs
{
	query('TRUNCATE gen_jobs CASCADE');
	query('VACUUM ANALYZE gen_jobs, gen_outputs, genjob.dependencies');
	return;
}

# Index entries read so far, of the indexes for which the condition holds. A dispatcher tells what it has read when it
# leaves, so there is none afterwards.
sub entries_read
{
	my ($condition) = @_;
	set_enabled(0);
	return query("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE $condition");
}

# Runs an INSERT of jobs. None starts before all are there.
sub insert_at_once
{
	my ($sql) = @_;
	query("SELECT genjob.pause('one')");
	query($sql);
	query("SELECT genjob.resume('one')");
	return;
}

subtest 'jobs are found by their keys when statistics say that there are none' => sub {
	my $condition = q{indexrelname IN ('gen_jobs_due', 'gen_jobs_running')};
	my $before = entries_read($condition);
	forget_jobs();
	set_enabled(1);
	insert_at_once(qq{INSERT INTO gen_jobs (server, request)
		SELECT 'one', jsonb_build_object('prompt', 'job ' || i) FROM generate_series(1, $jobs) i});
	ok(wait_all_ended($node), "$jobs jobs end that came when statistics said that there are none");
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND attempt = 1}),
		$jobs, '... all of them well');
	cmp_ok(entries_read($condition) - $before, '<=', 3 * $jobs,
		'... each found by its key, without a scan of all that wait or run');
};

subtest 'what a job waits for is found by its key, in one page of the table after another' => sub {
	my $condition = q{relname = 'dependencies'};
	set_enabled(0);
	forget_jobs();
	set_enabled(1);
	my $few = enqueue($node, 'one', { prompt => 'first' });
	my $next = enqueue($node, 'one', { prompt => 'second' }, after => "{$few}");
	ok(wait_state($node, $next, 'succeeded'), 'a job that waits for another makes the plans');
	my $before = entries_read($condition);
	set_enabled(1);
	insert_at_once(qq{WITH first AS (INSERT INTO gen_jobs (server, request)
			SELECT 'one', jsonb_build_object('prompt', 'job ' || i) FROM generate_series(1, $pairs) i RETURNING id)
		INSERT INTO gen_jobs (server, request, after) SELECT 'one', '{"prompt": "next"}', ARRAY[id] FROM first});
	ok(wait_all_ended($node), "$pairs jobs end that wait for as many");
	cmp_ok(entries_read($condition) - $before, '<=', 40 * $pairs, '... and what each waits for is found by its key');
};

$standin->stop;
$node->stop;
done_testing();

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

create_server($node, 'one', 'openai-images', $standin, max_in_flight => 50);
my $pin = Session->new($node);
$pin->query('BEGIN; SELECT pg_current_xact_id()');

# jobs that have run
run_unreported($node, qq{INSERT INTO gen_jobs (server, request, run_at, expires_at)
		SELECT 'one', '{}', now() - interval '1 h' + i * interval '10 ms', now() + interval '1 h'
		FROM generate_series(1, $dead) i;
	UPDATE gen_jobs SET state = 'succeeded' WHERE request = '{}';});

# An INSERT of a bulk of jobs with prompts "NAME 1" and so on.
sub bulk_named
{
	my ($name) = @_;
	return qq{INSERT INTO gen_jobs (server, request, tenant)
		SELECT 'one', jsonb_build_object('prompt', '$name ' || i), 't' || i % 3 FROM generate_series(1, $bulk) i};
}

# Passes if there are N jobs whose prompts begin with these words, and each ran once.
sub ran_once
{
	my ($n, @words) = @_;
	my $pattern = '^(' . join('|', @words) . ')';
	return is(
		query(qq{SELECT count(*), count(*) FILTER (WHERE state = 'succeeded' AND attempt = 1) FROM gen_jobs
			WHERE request->>'prompt' ~ '$pattern'}),
		"$n|$n", 'each job ran once');
}

# Runs one job, and returns when the dispatcher has nothing to do, so all that its start looks for has been found.
sub come_to_rest
{
	run_to_end($node, 'one', { prompt => 'warm' });
	return eventually(q{SELECT state = 'idle' FROM genjob.workers WHERE database = 'postgres'}, 'the dispatcher runs');
}

# Entries of the queue's indexes that a new dispatcher has read when CODE has run, its start included. It tells when it
# leaves. The test's own statements read none.
sub entries_read_during
{
	my ($code) = @_;
	my $sum = q{SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
		WHERE indexrelname IN ('gen_jobs_ready', 'gen_jobs_due', 'gen_jobs_expiring')};
	set_enabled(0);
	my $before = query($sum);
	set_enabled(1);
	$code->();
	set_enabled(0);
	return query($sum) - $before;
}

subtest 'a bulk of jobs, of which one is locked when its turn comes, is found without a look at dead rows' => sub {
	my $start = entries_read_during(\&come_to_rest);
	my $all = entries_read_during(sub {
		come_to_rest();
		query("SELECT genjob.pause('one')");
		query(bulk_named('job'));
		my $holder = Session->new($node);
		$holder->query(q{BEGIN; SELECT id FROM gen_jobs WHERE request->>'prompt' = 'job 1' FOR UPDATE});
		query("SELECT genjob.resume('one')");
		eventually("SELECT count(*) = 1 FROM gen_jobs WHERE state IN ('queued', 'running')",
			'jobs of a bulk are run while a row is locked');
		$holder->query('COMMIT');
		ok(wait_all_ended($node), '... and that one when it is free');
		$holder->quit;
	});
	set_enabled(1);
	note("a start reads $start entries, a start and a bulk $all");
	cmp_ok($all - $start, '<', $dead / 2, "... and $dead dead rows were not read for that");
	ran_once($bulk, 'job');
};

subtest 'a bulk is run whose jobs are older than others that have run' => sub {
	my $early = Session->new($node);
	$early->query('BEGIN');
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'one', '{"prompt": "later"}' FROM generate_series(1, 100)});
	ok(wait_all_ended($node), 'jobs run');
	$early->query(bulk_named('earlier'));
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'one', '{"prompt": "latest"}' FROM generate_series(1, 100)});
	$early->query('COMMIT');
	ok(wait_all_ended($node), '... and so does a bulk whose transaction began before those of others');
	$early->quit;
	ran_once($bulk + 200, 'earlier', 'later', 'latest');
};

subtest 'a job among dead rows that no commit reported is found by the search of genjob.rescan_interval' => sub {
	come_to_rest();
	run_unreported($node, q{INSERT INTO gen_jobs (server, request, tenant, run_at)
			VALUES ('one', '{"prompt": "untold"}', 'untold', now() - interval '55 min');});
	run_to_end($node, 'one', { prompt => 'third' });
	is(query(q{SELECT state FROM gen_jobs WHERE tenant = 'untold'}), 'queued', 'others run, but it waits');
	reload_with(q{genjob.rescan_interval = '1 s'});
	ok(wait_all_ended($node), '... for the search');
	reload_with(q{genjob.rescan_interval = '1 h'});
	ran_once(2, 'untold', 'third');
};

$pin->quit;
$standin->stop;
$node->stop;
done_testing();

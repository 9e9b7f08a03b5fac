# Sessions insert, change, lock, cancel, retry and delete jobs at random, few and thousands at a time, in transactions
# that last and that are rolled back.  In the end each job has come to what it should, and none was run too early, too
# late or twice; and a queue that was filled in disorder is run in order.
#
# GENJOB_TEST_SEED repeats what was done, as far as the timing lets it; GENJOB_TEST_ROUNDS makes it longer.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $sessions = 5;
my $rounds = $ENV{GENJOB_TEST_ROUNDS} // 8;
my $seed = $ENV{GENJOB_TEST_SEED} // int rand 1_000_000;
my $node = new_node(conf => "genjob.rescan_interval = '1 h'\ngenjob.max_in_flight = 400\nfsync = off");
my $standin = StandIn->new(backlog => 4096);

note("GENJOB_TEST_SEED=$seed");
create_server($node, "s$_", 'openai-images', $standin, max_in_flight => 50) for 0 .. 2;
create_server($node, 'ordered', 'openai-images', $standin, max_in_flight => 50);

subtest 'at random' => sub {
	query(q{
		CREATE SEQUENCE calls;
		CREATE TABLE restarted (id bigint);

		CREATE FUNCTION up_to(n int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT floor(random() * (n + 1))::int';
		CREATE FUNCTION new_request() RETURNS jsonb LANGUAGE sql VOLATILE AS $$
			SELECT jsonb_build_object('prompt', 'a cat', 'standin', jsonb_build_object('id', 'call ' || nextval('calls'))) $$;
		CREATE FUNCTION some_ids(states text[], n int) RETURNS SETOF bigint LANGUAGE sql VOLATILE AS $$
			SELECT id FROM (SELECT id FROM gen_jobs WHERE state = ANY (states::gen_job_state[]) AND random() < 0.5 LIMIT n) c
			ORDER BY id $$;

		CREATE PROCEDURE add_jobs(n int) LANGUAGE plpgsql AS $$
		DECLARE
			spread int := up_to(2);
			expiring int := up_to(3);
		BEGIN
			INSERT INTO gen_jobs (server, request, tenant, priority, run_at, expires_at)
			SELECT 's' || up_to(2), new_request(), 't' || up_to(4), up_to(1), CASE spread WHEN 0 THEN now() WHEN 1 THEN clock_timestamp() - random() * interval '5 s'
					ELSE clock_timestamp() + (random() - 0.5) * interval '3 s' END,
				CASE WHEN expiring = 0 THEN clock_timestamp() + random() * interval '3 s' END
			FROM generate_series(1, n);
		END $$;

		CREATE PROCEDURE do_something() LANGUAGE plpgsql AS $$
		DECLARE
			what int := up_to(15);
			many int := (ARRAY[1, 5, 100, 1000, 2500])[1 + up_to(4)];
		BEGIN
			PERFORM pg_sleep(random() * 0.1 * up_to(2));
			IF what < 7 THEN
				CALL add_jobs(many);
			ELSIF what = 7 THEN
				CALL add_jobs(2);
				BEGIN
					CALL add_jobs(many);
					RAISE EXCEPTION 'rolled back';
				EXCEPTION WHEN raise_exception THEN
				END;
			ELSIF what = 8 THEN
				UPDATE gen_jobs SET priority = up_to(2), run_at = run_at + (random() - 0.5) * interval '2 s'
				WHERE id IN (SELECT id FROM gen_jobs WHERE id IN (SELECT some_ids('{queued}', many)) ORDER BY id
					FOR UPDATE SKIP LOCKED) AND state = 'queued';
			ELSIF what = 9 THEN
				UPDATE gen_jobs SET server = 's' || up_to(2), tenant = 't' || up_to(4)
				WHERE id IN (SELECT id FROM gen_jobs WHERE id IN (SELECT some_ids('{queued}', many)) ORDER BY id
					FOR UPDATE SKIP LOCKED) AND state = 'queued';
			ELSIF what = 10 THEN
				UPDATE gen_jobs SET state = 'cancelled'
				WHERE id IN (SELECT id FROM gen_jobs WHERE id IN (SELECT some_ids('{queued, running}', many / 4)) ORDER BY id
					FOR UPDATE SKIP LOCKED) AND state IN ('queued', 'running');
			ELSIF what = 11 THEN
				WITH again AS (UPDATE gen_jobs SET state = 'queued', request = new_request()
					WHERE id IN (SELECT id FROM gen_jobs WHERE id IN (SELECT some_ids('{cancelled, failed}', many)) ORDER BY id
						FOR UPDATE SKIP LOCKED) AND state IN ('cancelled', 'failed') RETURNING id)
				INSERT INTO restarted SELECT id FROM again;
			ELSIF what = 12 THEN
				DELETE FROM gen_jobs WHERE id IN (SELECT id FROM gen_jobs
					WHERE id IN (SELECT some_ids('{queued, running, failed}', many / 4)) ORDER BY id FOR UPDATE SKIP LOCKED);
			ELSE
				PERFORM FROM gen_jobs WHERE id IN (SELECT some_ids('{queued}', many)) ORDER BY id FOR UPDATE SKIP LOCKED;
				PERFORM pg_sleep(random() * 0.8);
			END IF;
			PERFORM pg_sleep(random() * 0.1 * up_to(2));
		END $$;

		CREATE PROCEDURE go_on(rounds int, seed float8) LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM setseed(seed);
			FOR i IN 1 .. rounds LOOP
				CALL do_something();
				IF random() < 0.15 THEN ROLLBACK; ELSE COMMIT; END IF;
			END LOOP;
		END $$;
	});

	my @sessions = map { Session->new($node) } 1 .. $sessions;
	$sessions[$_]->send("CALL go_on($rounds, " . (($seed * 7 + $_ * 101) % 1000) / 1000 . ')') for 0 .. $#sessions;
	for my $session (@sessions)
	{
		$session->answer;
		is($session->messages, '', 'a session has done what it should');
		$session->quit;
	}
	ok(wait_all_ended($node), 'all jobs end')
	  or diag(query(q{SELECT state, server, tenant, priority, run_at < now() due, expires_at < now() expired, count(*), min(id), max(id)
		FROM gen_jobs WHERE state IN ('queued', 'running') GROUP BY 1, 2, 3, 4, 5, 6}));
	note(query(q{SELECT string_agg(state || ' ' || n, ', ') FROM (SELECT state, count(*) n FROM gen_jobs GROUP BY 1) c}));
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'failed' AND error NOT LIKE '%not started before expires_at%'}),
		'0', '... none fails but for expires_at');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND started_at < run_at}), '0', '... none is run too early');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND started_at >= expires_at}), '0', '... or too late');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'failed' AND finished_at < expires_at}), '0', '... or failed before its time');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE attempt > 1 AND id NOT IN (SELECT id FROM restarted)}), '0', '... or started twice');
	my $counts = $standin->counts(summary => 1);
	is($counts->{max_per_id}, 1, '... or sent twice');
	cmp_ok($counts->{distinct_ids}, '>=', query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded'}), '... or not at all');
};

subtest 'in order' => sub {
	# What is read while it is filled must not be in the way of what comes before it.
	query("SELECT genjob.pause('ordered')");
	my @open = map { Session->new($node) } 1 .. 3;
	for my $i (0 .. 2)
	{
		$open[$i]->query('BEGIN; SELECT now()');
		query(q{INSERT INTO gen_jobs (server, request, tenant, run_at)
			SELECT 'ordered', '{"prompt": "ordered"}', 'ordered', now() - random() * interval '1 min' FROM generate_series(1, 700)});
		query(q{INSERT INTO gen_jobs (server, request) VALUES ('s0', '{"prompt": "look"}')});
	}
	for my $i (2, 0, 1)
	{
		$open[$i]->query(q{INSERT INTO gen_jobs (server, request, tenant, run_at)
			SELECT 'ordered', '{"prompt": "ordered"}', 'ordered', now() - (i % 2) * random() * interval '30 s' FROM generate_series(1, 2100) i; COMMIT});
		query(q{INSERT INTO gen_jobs (server, request) VALUES ('s0', '{"prompt": "look"}')});
		$open[$i]->quit;
	}
	query("SELECT genjob.resume('ordered')");
	ok(wait_all_ended($node), 'a queue is run that was filled in disorder');
	is( query(q{SELECT count(*) FROM (SELECT started_at, row_number() OVER (ORDER BY run_at, id) AS place,
			max(started_at) OVER (ORDER BY run_at, id) AS latest FROM gen_jobs WHERE tenant = 'ordered') o WHERE started_at < latest}),
		'0', '... in order');
};

$standin->stop;
$node->stop;
done_testing();

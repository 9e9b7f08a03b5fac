# on_done: the calls of one role share a process and its transactions, and none of them meets what another left there.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
# a failure that counts would be the last
my $node = new_node(name => 'on_done_session', conf => "genjob.callback_attempts = 1\ngenjob.callback_workers = 0");
create_server($node, 'painter', 'openai-images', $standin);

query(q{
	CREATE ROLE app LOGIN;
	CREATE SCHEMA app AUTHORIZATION app;
	GRANT SELECT, INSERT ON gen_jobs TO app;
	GRANT USAGE ON FOREIGN SERVER painter TO app;
	SET ROLE app;
	CREATE TABLE app.ledger (job bigint, what text)});

sub set_workers
{
	my ($n) = @_;
	query("ALTER SYSTEM SET genjob.callback_workers = $n");
	query('SELECT pg_reload_conf()');
	return if $n > 0;
	return $node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
}

# No process makes calls, and none is left to be made.
sub without_calls
{
	set_workers(0);
	query('DELETE FROM genjob.callbacks');
	return;
}

# Jobs whose ends are told to a function with this body all at once; passes if each is called once and none fails.
sub all_are_called
{
	my ($name, $body, $n, $workers) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	query(qq{SET ROLE app; CREATE FUNCTION app.$name(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS \$f\$
		BEGIN $body; INSERT INTO app.ledger VALUES (job.id, '$name'); END \$f\$});
	without_calls();
	query(qq{SET ROLE app; INSERT INTO gen_jobs (server, request, on_done)
		SELECT 'painter', jsonb_build_object('prompt', '$name'), 'app.$name' FROM generate_series(1, $n)});
	ok($node->poll_query_until('postgres', "SELECT count(*) = $n FROM genjob.callbacks"), "$name: all are to be called");
	set_workers($workers);
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM genjob.callbacks WHERE run_at < 'infinity')});
	is(query(q{SELECT string_agg(DISTINCT error, ', ') FROM genjob.callbacks}), '', '... and none fails');
	return is(query("SELECT count(*) || ' ' || count(DISTINCT job) FROM app.ledger WHERE what = '$name'"), "$n $n",
		'... each once');
}

subtest 'what works once in a transaction' => sub {
	all_are_called('on_commit_drop', 'CREATE TEMPORARY TABLE once ON COMMIT DROP AS SELECT 1', 50, 1);
};

subtest 'what works once in a session' => sub {
	all_are_called('temporary', 'CREATE TEMPORARY TABLE kept AS SELECT 1', 20, 1);
	all_are_called('cursor', q{EXECUTE 'DECLARE held CURSOR WITH HOLD FOR SELECT 1'}, 20, 1);
	all_are_called('prepared', q{EXECUTE 'PREPARE prepared AS SELECT 1'}, 20, 1);
};

subtest 'a lock of the session keeps nobody waiting' => sub {
	all_are_called('locked', 'PERFORM pg_advisory_lock(77)', 20, 2);
	ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 77)}), 'and goes with the call');
};

subtest 'two processes under a stricter isolation level' => sub {
	query(q{ALTER ROLE app SET default_transaction_isolation = 'repeatable read'});
	all_are_called('strict', 'PERFORM pg_sleep(0.002)', 2000, 2);
	query('ALTER ROLE app RESET default_transaction_isolation');
};

subtest 'a call that fails alone does so once' => sub {
	query(q{SET ROLE app; CREATE FUNCTION app.fails(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS
		$$ BEGIN IF job.request ->> 'prompt' = 'bad' THEN RAISE EXCEPTION 'never'; END IF; INSERT INTO app.ledger VALUES (job.id, 'fails'); END $$});
	without_calls();
	query(q{SET ROLE app; INSERT INTO gen_jobs (server, request, on_done)
		SELECT 'painter', jsonb_build_object('prompt', CASE WHEN n % 5 = 0 THEN 'bad' ELSE 'good' END), 'app.fails' FROM generate_series(1, 20) n});
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 20 FROM genjob.callbacks'));
	set_workers(1);
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 4 AND min(run_at) = 'infinity' FROM genjob.callbacks}), 'those that fail stay');
	is(query('SELECT DISTINCT attempts, error FROM genjob.callbacks'), '1|never', '... counted once');
	is(query(q{SELECT count(*) FROM app.ledger WHERE what = 'fails'}), '16', '... and the others are called');
};

subtest 'a call that fails at the commit, and another behind it' => sub {
	query(q{SET ROLE app; CREATE TABLE app.unique_later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);
		CREATE FUNCTION app.later(job public.gen_jobs) RETURNS void LANGUAGE plpgsql AS
		$$ BEGIN IF job.request ->> 'prompt' = 'later' THEN INSERT INTO app.unique_later VALUES (1), (1);
			ELSIF job.request ->> 'prompt' = 'now' THEN RAISE EXCEPTION 'at once'; END IF; END $$});
	without_calls();
	query(q{SET ROLE app; INSERT INTO gen_jobs (server, request, on_done)
		SELECT 'painter', jsonb_build_object('prompt', p), 'app.later' FROM unnest('{good, good, good, later, now}'::text[]) p});
	ok($node->poll_query_until('postgres', 'SELECT count(*) = 5 FROM genjob.callbacks'));
	query(q{UPDATE genjob.callbacks c SET run_at = now() - interval '1 hour' + c.job_id * interval '1 ms'});
	set_workers(1);
	ok($node->poll_query_until('postgres', q{SELECT min(run_at) = 'infinity' FROM genjob.callbacks}));
	is(query(q{SELECT string_agg((j.request ->> 'prompt') || ': ' || left(c.error, 20), ', ' ORDER BY j.id) FROM genjob.callbacks c JOIN gen_jobs j ON j.id = c.job_id}),
		'later: duplicate key value , now: at once', 'each says what it failed of');
};

$node->stop;
$standin->stop;
done_testing();

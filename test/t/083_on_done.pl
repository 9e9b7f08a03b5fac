# on_done: a function of the owner's that is called once the job has ended, in effect once, by a process that is connected
# as the owner.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'on_done', conf => "genjob.callback_timeout = 2s\nrestart_after_crash = on");
create_server($node, 'painter', 'openai-images', $standin, retry_base => '10 ms', retry_max => '20 ms');
create_server($node, 'paused', 'openai-images', $standin, paused => 'on');

sub as_app
{
	my ($sql) = @_;
	return query("SET ROLE app; SET search_path = app, public; $sql");
}

sub refusal
{
	my ($sql) = @_;
	my ($status, $out, $error) = $node->psql('postgres', "SET ROLE app; SET search_path = app, public; $sql");
	return $status == 0 ? 'accepted' : $error;
}

# A job of app's whose end is to be told to a function; gives its id.
sub enqueue_app
{
	my ($function, $prompt, %columns) = @_;
	my %row = (server => 'painter', request => StandIn::request(prompt => $prompt, standin => { id => $prompt }), on_done => $function, %columns);
	my @names = sort keys %row;
	return as_app('INSERT INTO gen_jobs (' . join(', ', @names) . ') VALUES (' . join(', ', map { literal($row{$_}) } @names) . ') RETURNING id');
}

sub ledger
{
	my ($id) = @_;
	return query("SELECT string_agg(what, ', ' ORDER BY n) FROM app.ledger WHERE job = $id");
}

sub wait_called
{
	my ($id, $times) = @_;
	$times //= 1;
	return $node->poll_query_until('postgres',
		"SELECT (SELECT count(*) FROM app.ledger WHERE job = $id) >= $times AND NOT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $id)");
}

sub callback
{
	my ($id, $columns) = @_;
	return query("SELECT $columns FROM genjob.callbacks WHERE job_id = $id");
}

sub wait_callback
{
	my ($id, $condition) = @_;
	return $node->poll_query_until('postgres', "SELECT coalesce((SELECT $condition FROM genjob.callbacks WHERE job_id = $id), false)");
}

query(q{
	CREATE ROLE app LOGIN;
	CREATE SCHEMA app AUTHORIZATION app;
	GRANT SELECT, INSERT, UPDATE, DELETE ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app;
	GRANT USAGE ON FOREIGN SERVER painter, paused TO app;
	SET ROLE app; SET search_path = app, public;
	CREATE TABLE ledger (n bigint GENERATED ALWAYS AS IDENTITY, job bigint, what text);
	CREATE FUNCTION note(job gen_jobs) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO app.ledger (job, what) VALUES (job.id, concat_ws(' ', job.state, session_user, current_user)) $$;
	CREATE FUNCTION fail_twice(job gen_jobs) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO app.ledger (job, what) VALUES (job.id, 'undone');
			IF (SELECT attempts FROM genjob.callbacks WHERE job_id = job.id) IS NOT NULL OR nextval('app.calls') <= 2 THEN
				RAISE EXCEPTION 'not yet' USING HINT = 'Try again';
			END IF;
			UPDATE app.ledger l SET what = 'at last' WHERE l.job = fail_twice.job.id;
		END $$;
	CREATE SEQUENCE calls;
	CREATE FUNCTION fail(job gen_jobs) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'never'; END $$;
	CREATE FUNCTION sleep(job gen_jobs) RETURNS void LANGUAGE sql AS $$ SELECT pg_sleep(1000) $$;
	CREATE FUNCTION stubborn(job gen_jobs) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
			LOOP
				BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END;
			END LOOP;
		END $$;
	CREATE FUNCTION late(job gen_jobs) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN INSERT INTO app.ledger (job, what) VALUES (job.id, 'too late'); END $$;
	CREATE TABLE unchecked (job bigint UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE FUNCTION at_commit(job gen_jobs) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO app.unchecked VALUES (1), (1) $$;
	CREATE FUNCTION fan_out(job gen_jobs) RETURNS void LANGUAGE sql AS $$
		INSERT INTO public.gen_jobs (server, request, on_done)
			SELECT 'painter', jsonb_build_object('prompt', 'part ' || i || ' of ' || job.id), 'app.note' FROM generate_series(1, 3) i $$;
	CREATE FUNCTION of_text(job text) RETURNS void LANGUAGE sql AS 'SELECT';
	CREATE PROCEDURE of_row(job gen_jobs) LANGUAGE sql AS 'SELECT';
	CREATE FUNCTION secret(job gen_jobs) RETURNS void LANGUAGE sql AS 'SELECT';
	RESET ROLE;
	ALTER FUNCTION app.secret OWNER TO postgres; REVOKE EXECUTE ON FUNCTION app.secret FROM PUBLIC});

subtest 'a function is called with the row, as the owner' => sub {
	my $good = enqueue_app('note', 'good');
	my $bad = enqueue_app('note', 'bad', request => StandIn::request(prompt => 'bad', standin => { id => 'bad', faults => [ { status => 400 } ] }));
	my $again = enqueue_app('note', 'again', request => StandIn::request(prompt => 'again', standin => { id => 'again', faults => [ { status => 503 } ] }));
	my $late = enqueue_app('note', 'late', expires_at => '2000-01-01');
	my $cancelled = enqueue_app('note', 'cancelled', server => 'paused');
	as_app("SELECT genjob.cancel($cancelled)");
	ok(wait_called($_)) foreach $good, $bad, $again, $late, $cancelled;
	is(ledger($good), 'succeeded app app', 'of a success');
	is(ledger($bad), 'failed app app', 'of a failure');
	is(ledger($again), 'succeeded app app', 'once after a retry');
	is(ledger($late), 'failed app app', 'of what expired');
	is(ledger($cancelled), 'cancelled app app', 'of what was cancelled');
	is(query("SELECT on_done FROM gen_jobs WHERE id = $good"), 'app.note', 'the column has the schema, whatever the search_path');
	is(query(q{SELECT string_agg(DISTINCT usename || ' ' || backend_type, ', ') FROM pg_stat_activity WHERE backend_type = 'genjob caller'}),
		'app genjob caller', 'by a process of the role');
	as_app("SELECT genjob.retry($cancelled)");
	as_app("SELECT genjob.cancel($cancelled)");
	ok(wait_called($cancelled, 2));
	is(ledger($cancelled), 'cancelled app app, cancelled app app', 'each end is told');
};

subtest 'what is refused at INSERT' => sub {
	my $insert = sub {
		my ($function) = @_;
		return refusal(qq{INSERT INTO gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "x"}', '$function')});
	};
	like($insert->('nowhere'), qr/function nowhere\(.*gen_jobs\) does not exist.*HINT:  It must be a function that takes one argument of type/s, 'no such function');
	like($insert->('of_text'), qr/function of_text does not take a row of gen_jobs.*HINT/s, 'another signature');
	like($insert->('of_row'), qr/function of_row does not take a row of gen_jobs.*HINT/s, 'a procedure');
	like($insert->('secret'), qr/permission denied for function secret.*HINT:  GRANT EXECUTE ON FUNCTION secret\(.*\) TO app/s, 'no EXECUTE');
	like($insert->('a b c'), qr/ERROR/, 'no name');
	like($insert->(q{note(gen_jobs); DROP TABLE ledger}), qr/ERROR/, 'more than a name');
	like($insert->(''), qr/ERROR/, 'an empty name');
	like($insert->('x' x 100_000), qr/^[^\n]{1,100}on_done is not the name of a function/, 'more than any name, which is not repeated');
	like($insert->('app.note(gen_jobs)'), qr/ERROR.*HINT/s, 'a signature');
	like($insert->('postgres.app.note'), qr/on_done is not the name of a function.*HINT/s, 'a database before it');
	query(q{CREATE FUNCTION app.twice(job gen_jobs) RETURNS void LANGUAGE sql AS 'SELECT';
		CREATE FUNCTION app.twice(job gen_jobs, more int DEFAULT 1) RETURNS void LANGUAGE sql AS 'SELECT'});
	like($insert->('twice'), qr/function twice is not unique.*HINT/s, 'one that a call could not tell from another');
	query(q{CREATE SCHEMA closed; CREATE FUNCTION closed.f(job gen_jobs) RETURNS void LANGUAGE sql AS 'SELECT'});
	like($insert->('closed.f'), qr/permission denied for schema closed.*HINT:  GRANT USAGE ON SCHEMA closed TO app/s, 'one in a schema that the role may not use');
	query('CREATE ROLE blind LOGIN; GRANT INSERT ON gen_jobs TO blind; GRANT USAGE ON FOREIGN SERVER painter TO blind; GRANT USAGE ON SCHEMA app TO blind');
	my ($status, $out, $error) = $node->psql('postgres', q{SET ROLE blind; INSERT INTO gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "x"}', 'app.note')});
	like($error, qr/permission denied for table gen_jobs.*HINT:  GRANT SELECT ON gen_jobs TO blind/s, 'a role that may not read its row');
	my $id = enqueue_app('note', 'changed', server => 'paused');
	like(refusal("UPDATE gen_jobs SET on_done = 'of_text' WHERE id = $id"), qr/does not take a row/, 'an UPDATE is checked, too');
	like(refusal("UPDATE gen_jobs SET on_done = 'fail' WHERE id = $id"), qr/accepted/, 'and accepted');
	is(query("SELECT on_done FROM gen_jobs WHERE id = $id"), 'app.fail');
	as_app("DELETE FROM gen_jobs WHERE id = $id");
};

subtest 'a function that raises is called again' => sub {
	my $id = enqueue_app('fail_twice', 'twice');
	ok(wait_callback($id, q{attempts > 0 AND error = 'not yet. Try again' AND NOT EXISTS (SELECT FROM app.ledger WHERE job = job_id)}),
		'the failure is counted, with its words, and without effect');
	ok(wait_called($id), 'until it succeeds');
	is(ledger($id), 'at last', 'in effect once');

	query('ALTER SYSTEM SET genjob.callback_attempts = 2');
	query('SELECT pg_reload_conf()');
	my $hopeless = enqueue_app('fail', 'hopeless');
	ok(wait_callback($hopeless, q{run_at = 'infinity'}), 'at last it stays');
	is(callback($hopeless, 'attempts, error'), '2|never', '... with what it failed of');
	is(query("SELECT state, error FROM gen_jobs WHERE id = $hopeless"), 'succeeded|', 'the job is what it was');
	as_app('CREATE OR REPLACE FUNCTION fail(job gen_jobs) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.ledger (job, what) VALUES (job.id, \'mended\') $$');
	query("UPDATE genjob.callbacks SET run_at = now() WHERE job_id = $hopeless");
	ok(wait_called($hopeless), 'until an administrator sets run_at');
	is(ledger($hopeless), 'mended');
	query('ALTER SYSTEM RESET genjob.callback_attempts');
	query('SELECT pg_reload_conf()');
};

subtest 'a function that raises a long text' => sub {
	as_app(q{CREATE FUNCTION long_winded(job gen_jobs) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', repeat('é', 1000000); END $$});
	my $id = enqueue_app('long_winded', 'long-winded');
	ok(wait_callback($id, 'attempts >= 1'));
	is(callback($id, q{error = repeat('é', 4000)}), 't', 'as much of it is kept as anyone reads');
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
};

subtest 'a function that takes too long' => sub {
	my %ids = map { $_ => enqueue_app($_, $_) } qw(sleep late stubborn);
	ok(wait_callback($ids{$_}, 'attempts >= 1'), "$_ is stopped") foreach sort keys %ids;
	like(callback($ids{$_}, 'error'), qr/^the call took longer than genjob\.callback_timeout \(2000 ms\)/, "$_: and says so") foreach sort keys %ids;
	like(callback($ids{stubborn}, 'error'), qr/did not stop when it was cancelled, so its process was ended/, 'also where nothing else helped');
	is(ledger($ids{late}), '', 'what was done after the time is not');
	query("DELETE FROM genjob.callbacks WHERE job_id = $_") foreach values %ids;
	my $id = enqueue_app('note', 'after the stubborn one');
	ok(wait_called($id), 'others are called');
};

subtest 'a call whose commit takes too long' => sub {
	as_app(q{CREATE TABLE late (job bigint, how text);
		CREATE FUNCTION at_end() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				LOOP
					BEGIN
						PERFORM pg_sleep(1000);
					EXCEPTION WHEN query_canceled THEN
						IF NEW.how = 'trigger' THEN RAISE; END IF;
					END;
					IF NEW.how = 'catcher' THEN RETURN NULL; END IF;
				END LOOP;
			END $$;
		CREATE CONSTRAINT TRIGGER at_end AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_end();
		CREATE FUNCTION trigger_sleeps(job gen_jobs) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.late VALUES (job.id, 'trigger') $$;
		CREATE FUNCTION trigger_catches(job gen_jobs) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.late VALUES (job.id, 'catcher') $$;
		CREATE FUNCTION trigger_stubborn(job gen_jobs) RETURNS void LANGUAGE sql AS $$ INSERT INTO app.late VALUES (job.id, 'stubborn') $$;
		CREATE FUNCTION cursor_sleeps(job gen_jobs) RETURNS void LANGUAGE plpgsql AS
			$$ BEGIN EXECUTE 'DECLARE slow CURSOR WITH HOLD FOR SELECT pg_sleep(1000)'; END $$});
	foreach my $function (qw(trigger_sleeps trigger_catches trigger_stubborn cursor_sleeps))
	{
		my $id = enqueue_app($function, $function);
		ok(wait_callback($id, 'attempts >= 1'), "$function: it is stopped");
		like(callback($id, 'error'), qr/^the call took longer than genjob\.callback_timeout \(2000 ms\)/, '... and says so');
		query("DELETE FROM genjob.callbacks WHERE job_id = $id");
		$id = enqueue_app('note', "after $function");
		ok(wait_called($id), '... others are called');
	}
	query('ALTER SYSTEM SET genjob.callback_workers = 0');
	query('SELECT pg_reload_conf()');
	my @ids = split /\n/, as_app(q{INSERT INTO gen_jobs (server, request, on_done)
		SELECT 'painter', jsonb_build_object('prompt', 'stubborn commit ' || i), CASE i WHEN 2 THEN 'trigger_stubborn' ELSE 'note' END FROM generate_series(1, 4) i RETURNING id});
	wait_state($node, $_, 'succeeded') foreach @ids;
	query('ALTER SYSTEM RESET genjob.callback_workers');
	query('SELECT pg_reload_conf()');
	ok(wait_callback($ids[1], 'attempts >= 1'), 'one that ends the process in the commit of several is found');
	ok(wait_called($_), '... and the others are made') foreach @ids[ 0, 2, 3 ];
	query("DELETE FROM genjob.callbacks WHERE job_id = $ids[1]");
	is(query('SELECT count(*) FROM app.late'), '0', 'what was done after the time is not');
};

subtest 'what a deferred trigger sets is not there in the next call' => sub {
	as_app(q{CREATE TABLE setting (name text, value text);
		CREATE FUNCTION set_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config(NEW.name, NEW.value, false); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER set_late AFTER INSERT ON setting DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION set_late();
		CREATE FUNCTION sets(job gen_jobs) RETURNS void LANGUAGE sql AS $$
			INSERT INTO app.ledger (job, what) VALUES (job.id, pg_backend_pid());
			INSERT INTO app.setting VALUES ('search_path', 'app'), ('app.word', 'left'), ('row_security', 'off'), ('role', 'lesser'), ('default_transaction_read_only', 'on') $$;
		CREATE FUNCTION shows(job gen_jobs) RETURNS void LANGUAGE sql AS $$
			INSERT INTO app.ledger (job, what) VALUES (job.id, concat_ws(', ', pg_backend_pid(), current_user, current_setting('search_path'), current_setting('app.word', true),
				current_setting('row_security'), current_setting('application_name'))) $$});
	query(q{CREATE ROLE lesser; GRANT lesser TO app; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
	my $sets = enqueue_app('sets', 'sets');
	ok(wait_called($sets));
	my $shows = enqueue_app('shows', 'shows');
	ok(wait_called($shows));
	my $pid = ledger($sets);
	like(ledger($shows), qr/^$pid, app, "\$user", public, (?:, )?on, genjob caller/, 'the same process has the settings of its start');
};

subtest 'what fails at the commit fails alone' => sub {
	my @ids = split /\n/, as_app(q{INSERT INTO gen_jobs (server, request, on_done)
		SELECT 'painter', jsonb_build_object('prompt', 'commit ' || i), CASE i WHEN 3 THEN 'at_commit' ELSE 'note' END
		FROM generate_series(1, 6) i RETURNING id});
	ok(wait_called($_), "job $_ is told of") foreach @ids[ 0, 1, 3, 4, 5 ];
	is(ledger($_), 'succeeded app app', '... once') foreach @ids[ 0, 1, 3, 4, 5 ];
	ok(wait_callback($ids[2], 'attempts >= 1'));
	like(callback($ids[2], 'error'), qr/duplicate key value violates unique constraint/, 'the other says why not');
	query("DELETE FROM genjob.callbacks WHERE job_id = $ids[2]");
};

subtest 'a function may insert jobs' => sub {
	my $id = enqueue_app('fan_out', 'whole');
	ok($node->poll_query_until('postgres', qq{SELECT count(*) = 3 FROM gen_jobs j JOIN app.ledger l ON l.job = j.id WHERE request->>'prompt' LIKE 'part % of $id'}),
		'which are run, and told of');
};

subtest 'what a role may be' => sub {
	my $prepare = sub {
		my ($role) = @_;
		query(qq{CREATE ROLE $role; GRANT app TO $role; GRANT SELECT, INSERT ON gen_jobs TO $role; GRANT USAGE ON FOREIGN SERVER painter TO $role;
			GRANT USAGE ON SCHEMA app TO $role; GRANT EXECUTE ON FUNCTION app.note TO $role; GRANT INSERT ON app.ledger TO $role});
		return;
	};
	my $insert = sub {
		my ($role) = @_;
		return query(qq{SET ROLE $role; INSERT INTO gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "of $role"}', 'app.note') RETURNING id});
	};
	$prepare->('quiet');
	my $id = $insert->('quiet');
	ok(wait_callback($id, 'attempts >= 1'));
	like(callback($id, 'error'), qr/^role "quiet" is not permitted to log in.*: ALTER ROLE quiet LOGIN$/, 'a role without LOGIN');
	query('ALTER ROLE quiet LOGIN');
	ok(wait_called($id), '... until it may');

	query('ALTER ROLE quiet CONNECTION LIMIT 0');
	$id = $insert->('quiet');
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'quiet'});
	$id = $insert->('quiet');
	ok(wait_callback($id, 'error IS NOT NULL'));
	is(callback($id, 'attempts, error'), '0|role "quiet" has as many connections as its CONNECTION LIMIT allows', 'a role at its connection limit: waits');
	query("ALTER ROLE quiet CONNECTION LIMIT -1; UPDATE genjob.callbacks SET run_at = now() WHERE job_id = $id");
	ok(wait_called($id), '... and is called then');

	query('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO app; CREATE ROLE outside LOGIN NOINHERIT');
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'quiet'});
	$prepare->('elsewhere');
	query('REVOKE app FROM elsewhere; ALTER ROLE elsewhere LOGIN');
	$id = $insert->('elsewhere');
	ok(wait_callback($id, 'attempts >= 1'));
	like(callback($id, 'error'), qr/^role "elsewhere" may not connect to this database: GRANT CONNECT ON DATABASE postgres TO elsewhere$/, 'a role that may not connect to the database');
	query('GRANT CONNECT ON DATABASE postgres TO PUBLIC');
	ok(wait_called($id), '... until it may');

	my $inside = Session->new($node);
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller'});
	$node->safe_psql('template1', 'ALTER DATABASE postgres ALLOW_CONNECTIONS false');
	$id = $inside->query(q{SET ROLE app; INSERT INTO gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "closed"}', 'app.note') RETURNING id; RESET ROLE});
	my $said = $inside->query(qq{DO \$\$ BEGIN WHILE (SELECT count(*) = 0 FROM genjob.callbacks WHERE job_id = $id AND error IS NOT NULL)
		LOOP COMMIT; PERFORM pg_sleep(0.05); END LOOP; END \$\$; SELECT attempts, error FROM genjob.callbacks WHERE job_id = $id});
	$node->safe_psql('template1', 'ALTER DATABASE postgres ALLOW_CONNECTIONS true');
	$inside->quit;
	is($said, '0|this database does not accept connections: ALTER DATABASE postgres ALLOW_CONNECTIONS true', 'a database that takes no connections: waits');
	ok(wait_called($id), '... until it does');

	$prepare->('gone');
	$id = $insert->('gone');
	ok(wait_callback($id, 'attempts >= 1'));
	query('DROP OWNED BY gone; DROP ROLE gone');
	query("UPDATE genjob.callbacks SET run_at = now() WHERE job_id = $id");
	ok(wait_callback($id, q{run_at = 'infinity'}));
	like(callback($id, 'error'), qr/^the role with OID \d+, which owned the job, does not exist$/, 'a role that was dropped: for an administrator');
	query("DELETE FROM genjob.callbacks WHERE job_id = $id");
};

subtest 'a job that has run again, or is gone' => sub {
	query('ALTER SYSTEM SET genjob.callback_workers = 0');
	query('SELECT pg_reload_conf()');
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'genjob caller'}), 'none may call: the callers leave');
	my $again = enqueue_app('note', 'bad again', request => StandIn::request(prompt => 'bad again', standin => { id => 'bad again', faults => [ { status => 400 } ] }));
	my $gone = enqueue_app('note', 'gone');
	ok(wait_state($node, $again, 'failed'));
	ok(wait_state($node, $gone, 'succeeded'));
	as_app("SELECT genjob.retry($again)");
	ok(wait_state($node, $again, 'succeeded'));
	is(callback($again, 'count(*)'), 2, 'two ends');
	as_app("DELETE FROM gen_jobs WHERE id = $gone");
	query('ALTER SYSTEM RESET genjob.callback_workers');
	query('SELECT pg_reload_conf()');
	ok(wait_called($again), 'once calls are allowed again, they are made');
	is(ledger($again), 'succeeded app app', 'only the last is told');
	ok(wait_callback($gone, 'error IS NOT NULL'));
	is(callback($gone, "error, run_at > now() + '9 min', attempts"), "job $gone does not exist|t|0", 'a job that is not there may be one that a restore is to bring');
	query("UPDATE genjob.callbacks SET run_at = now() WHERE job_id = $gone");
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM genjob.callbacks WHERE job_id = $gone)"), 'the second time it is given up');
	is(ledger($gone), '', '... without a call');
};

subtest 'processes leave' => sub {
	my $id = enqueue_app('note', 'one more');
	ok(wait_called($id));
	my $pid = query(q{SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'genjob caller' AND usename = 'app'});
	query('CREATE ROLE second LOGIN; GRANT SELECT, INSERT ON gen_jobs TO second; GRANT USAGE ON FOREIGN SERVER painter TO second; CREATE ROLE third LOGIN; GRANT second TO third;
		GRANT USAGE ON SCHEMA app TO second; GRANT EXECUTE ON FUNCTION app.note TO second; GRANT INSERT ON app.ledger TO second');
	my @ids = map { query(qq{SET ROLE $_; INSERT INTO gen_jobs (server, request, on_done) VALUES ('painter', '{"prompt": "of $_"}', 'app.note') RETURNING id}) } qw(second third);
	ok(wait_called($_), 'for other roles') foreach @ids;
	cmp_ok(query(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'genjob caller'}), '<=', 2, 'two at a time');
	query('CREATE DATABASE copy TEMPLATE postgres');
	pass('a copy of the database can be made beside them');
};

subtest 'no process is free' => sub {
	query('ALTER SYSTEM SET max_worker_processes = 3');
	$node->restart;
	wait_dispatcher($node);
	my $id = enqueue_app('note', 'no process');
	ok(wait_state($node, $id, 'succeeded'));
	ok($node->poll_query_until('postgres', q{SELECT last_error LIKE 'no background worker is free to call on_done%' FROM genjob.workers WHERE database = current_database()}), 'genjob.workers says so');
	query('ALTER SYSTEM RESET max_worker_processes');
	# no transaction may last longer than calls are made in it
	query("ALTER SYSTEM SET $_") foreach 'fsync = on', 'commit_delay = 20000', 'commit_siblings = 0';
	$node->restart;
	ok(wait_called($id), 'and it is called when one is, however slow the disk');
	query("ALTER SYSTEM RESET $_") foreach 'fsync', 'commit_delay', 'commit_siblings';
};

$node->stop;
done_testing();

# Whatever keeps jobs waiting says so where people look: genjob.servers.held_reason, genjob.workers, and the log once a
# minute. Triggers of others run in the dispatcher as they do in a session, and a trigger that raises an error holds up
# its own job alone.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest qw(!eventually);
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'reasons', conf => "genjob.rescan_interval = '1h'");

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'other', 'openai-images', $standin);

sub eventually
{
	my ($sql, $what) = @_;
	return ok($node->poll_query_until('postgres', $sql), $what)
	  || diag(query('SELECT server, held_reason FROM genjob.servers') . "\n" . query('SELECT * FROM genjob.workers'));
}

# Passes once genjob.servers says of a server what matches.
sub held_as
{
	my ($pattern, $server, $what) = @_;
	return eventually("SELECT bool_or(held_reason ~ '$pattern') FROM genjob.servers WHERE server = '$server'", $what);
}

# Passes if genjob.servers says nothing of a server.
sub not_held
{
	my ($server, $what) = @_;
	return is(query("SELECT held_reason IS NULL FROM genjob.servers WHERE server = '$server'"), 't', $what);
}

# Passes once what genjob.workers has of the database postgres meets a condition.
sub worker_has
{
	my ($condition, $what) = @_;
	return eventually("SELECT $condition FROM genjob.workers WHERE database = 'postgres'", $what);
}

# How many lines of the log match.
sub logged
{
	my ($pattern) = @_;
	my @lines = slurp_file($node->logfile) =~ /^.*(?:LOG|WARNING):.*$pattern/mg;
	return scalar @lines;
}

# Returns after so many seconds, when the dispatcher has tried several times to write what it cannot.
sub let_it_try
{
	my ($seconds) = @_;
	my $until = query("SELECT clock_timestamp() + '$seconds s'");
	$node->poll_query_until('postgres', "SELECT clock_timestamp() > '$until'") or die 'time does not pass';
	return;
}

# ---- a trigger that finds its table by the search_path of the database ----

query(q{
	CREATE SCHEMA shop;
	CREATE TABLE shop.audit (job bigint, state text, path text);
	GRANT USAGE ON SCHEMA shop TO PUBLIC; GRANT INSERT ON shop.audit TO PUBLIC});

# Creates a trigger that runs STATEMENTS for each row, with no search_path of its own.
sub create_audit
{
	my ($events, $statements) = @_;
	query(qq{
		CREATE OR REPLACE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS
			\$\$BEGIN $statements; RETURN NULL; END\$\$;
		CREATE TRIGGER audit AFTER $events ON gen_jobs FOR EACH ROW EXECUTE FUNCTION shop.audit()});
	return;
}

sub drop_audit
{
	query('DROP TRIGGER audit ON gen_jobs');
	query('DROP FUNCTION shop.audit()');
	return;
}

my $note = q{VALUES (NEW.id, NEW.state, current_setting('search_path'))};

# Passes if a job runs, whose triggers note that search_path.
sub path_in_trigger
{
	my ($path, $what) = @_;
	my $job = enqueue($node, 'painter', { prompt => 'path' });
	ok(wait_state($node, $job, 'succeeded'), "a job runs after $what");
	is(query("SELECT DISTINCT path FROM shop.audit WHERE job = $job AND state <> 'queued'"), $path,
		'... whose triggers see it');
	return;
}

subtest 'a trigger that names a table without its schema runs in the dispatcher as in a session' => sub {
	create_audit('INSERT OR UPDATE', "INSERT INTO audit $note");
	query('ALTER DATABASE postgres SET search_path = shop, public');
	my $id = enqueue($node, 'painter', { prompt => 'audited' });
	ok(wait_state($node, $id, 'succeeded'), 'it runs in the dispatcher');
	is(query("SELECT string_agg(state, ' ' ORDER BY state) FROM shop.audit WHERE job = $id"),
		'queued running succeeded',
		'... for every change');
	is(query("SELECT DISTINCT path FROM shop.audit WHERE job = $id"), 'shop, public',
		'... with the search_path of a session');

	query(q{ALTER FUNCTION shop.audit() SET search_path = shop, pg_temp});
	$id = enqueue($node, 'painter', { prompt => 'audited with a path of its own' });
	ok(wait_state($node, $id, 'succeeded'), 'one with a search_path of its own');
	is(query("SELECT DISTINCT path FROM shop.audit WHERE job = $id"), 'shop, pg_temp', '... has that');
	query('ALTER DATABASE postgres RESET search_path');
	drop_audit();
};

subtest 'what a trigger sets ends with it' => sub {
	create_audit('UPDATE',
		q{PERFORM set_config('search_path', 'shop', false), set_config('statement_timeout', '1', false),
		set_config('enable_seqscan', 'on', false), set_config('default_transaction_read_only', 'on', false),
		set_config('row_security', 'off', false)});
	for my $alter ('RESET ALL', 'SET DateStyle = iso')
	{
		query("ALTER FUNCTION shop.audit() $alter");
		my @ids = map { enqueue($node, 'painter', { prompt => 'set' }) } 1 .. 3;
		ok(wait_state($node, $_, 'succeeded'), "a trigger's settings end with it ($alter)") for @ids;
	}
	drop_audit();
};

subtest 'triggers see a search_path as soon as it changes, but not that of the role of the dispatcher' => sub {
	create_audit('UPDATE', "INSERT INTO shop.audit $note");
	query('ALTER DATABASE postgres SET search_path = public, shop');
	path_in_trigger('public, shop', 'ALTER DATABASE SET search_path');
	query('ALTER ROLE ALL IN DATABASE postgres SET search_path = shop, public, pg_temp');
	path_in_trigger('shop, public, pg_temp', 'ALTER ROLE ALL IN DATABASE');
	query('ALTER ROLE ALL SET search_path = public, pg_catalog');
	query('ALTER DATABASE postgres RESET search_path');
	path_in_trigger('public, pg_catalog', 'ALTER ROLE ALL');
	query('ALTER ROLE postgres SET search_path = public, pg_temp');
	$node->restart;
	path_in_trigger('public, pg_catalog', 'ALTER ROLE of the superuser and a restart');
	query('ALTER ROLE ALL RESET search_path; ALTER ROLE postgres RESET search_path');
	path_in_trigger('"$user", public', 'both are reset');
	drop_audit();
};

# ---- a trigger that raises an error: at the claim, at the report, when a job has expired, when its server is gone ----

query(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.state::text = TG_ARGV[0] AND NEW.request->>'prompt' = 'refused' THEN
			RAISE EXCEPTION 'no % for you', NEW.state;
		END IF;
		RETURN NEW;
	END$$});

# From now on jobs with the prompt "refused" may not come to that state.
sub refuse
{
	my ($state) = @_;
	query(qq{CREATE TRIGGER refuse AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION refuse('$state')});
	return;
}

sub allow
{
	query('DROP TRIGGER refuse ON gen_jobs');
	return;
}

subtest 'a job that cannot be claimed keeps no other waiting, and says why it waits' => sub {
	refuse('running');
	my $refused = enqueue($node, 'painter', { prompt => 'refused' });
	my @good = map { enqueue($node, $_, { prompt => 'good' }) } qw(painter other painter);
	ok(wait_state($node, $_, 'succeeded'), 'a job that cannot be claimed keeps no other waiting') for @good;
	held_as("genjob could not claim job $refused: no running for you", 'painter', 'genjob.servers says why it waits');
	not_held('other', '... for its server only');
	worker_has("last_error = 'no running for you'", 'and genjob.workers');
	query(q{CREATE ROLE nobody; GRANT SELECT ON gen_jobs TO nobody});
	my $reason = query(q{SET ROLE nobody; SELECT held_reason FROM genjob.servers WHERE server = 'painter'});
	unlike($reason, qr/for you/, 'its words are not for everyone');
	like($reason, qr/raised an error/, '... that there is trouble is');
	allow();
	query("UPDATE gen_jobs SET priority = 1 WHERE id = $refused");
	ok(wait_state($node, $refused, 'succeeded'), 'it runs when the trigger is gone');
	eventually(q{SELECT held_reason IS NULL FROM genjob.servers WHERE server = 'painter'},
		'... and genjob.servers has no more to say');
};

subtest 'a result that cannot be written keeps no other from being, and the log has a line of it a minute' => sub {
	refuse('succeeded');
	my $refused = enqueue($node, 'painter', { prompt => 'refused' });
	my @good = map { enqueue($node, $_, { prompt => 'good' }) } qw(painter other);
	ok(wait_state($node, $_, 'succeeded'), 'a result that cannot be written keeps no other from being') for @good;
	held_as("genjob could not write the result of job $refused: no succeeded for you", 'painter',
		'genjob.servers says so');
	worker_has("state = 'blocked' AND last_error = 'no succeeded for you'", 'and genjob.workers is blocked');
	not_held('other', 'not for another server');
	let_it_try(2);
	cmp_ok(logged(qr/genjob could not write the result of job $refused/), '<=', 2,
		'the log has at most one line a minute');
	allow();
	ok(wait_state($node, $refused, 'succeeded'), 'it is written when the trigger is gone');
	is(query(q{SELECT max(count) FROM (SELECT count(*) FROM gen_outputs GROUP BY job_id) o}), '1', 'once');
	worker_has("state = 'idle'", 'genjob.workers is idle');
};

foreach my $state (qw(running succeeded))
{
	subtest "a job that a trigger keeps from $state is named no longer when it is cancelled, or deleted" => sub {
		refuse($state);
		foreach my $end ("UPDATE gen_jobs SET state = 'cancelled'", 'DELETE FROM gen_jobs')
		{
			my $refused = enqueue($node, 'painter', { prompt => 'refused' });
			eventually(qq{SELECT held_reason ~ 'job $refused:' FROM genjob.servers WHERE server = 'painter'}, 'it is named');
			query("$end WHERE id = $refused");
			ok(wait_state($node, enqueue($node, 'painter', { prompt => 'good' }), 'succeeded'), 'the next job runs');
			not_held('painter', '... and nothing holds that server');
		}
		allow();
	};
}

subtest 'a trigger that has another error code for each job fills no log' => sub {
	query(q{
		CREATE FUNCTION refuse_variously() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.state = 'succeeded' AND NEW.request->>'prompt' ~ 'code' THEN
				RAISE EXCEPTION '%', NEW.request->>'prompt' USING ERRCODE = substr(NEW.request->>'prompt', 6);
			END IF;
			RETURN NEW;
		END$$;
		CREATE TRIGGER refuse_variously BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION refuse_variously()});
	my $lines_before = logged(qr/genjob could not write the result/);
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'painter', jsonb_build_object('prompt', 'code ' || c)
		FROM unnest('{P0001,P0002,23514,22P02,22003,XX000,54000,23505,ZZ001,ZZ002,ZZ003,ZZ004}'::text[]) AS c,
			generate_series(1, 4)});
	let_it_try(2);
	worker_has("state = 'blocked'", 'many error codes block');
	cmp_ok(logged(qr/genjob could not write the result/) - $lines_before, '<=', 8,
		'... and the log has a few lines a minute');
	query('DROP FUNCTION refuse_variously() CASCADE');
	eventually(
		q{SELECT count(*) = 48 FROM gen_jobs
			WHERE request->>'prompt' ~ 'code' AND state = 'succeeded' AND result IS NOT NULL},
		'they are written when the trigger is gone');
};

subtest 'an expired job that cannot be failed keeps no other from being' => sub {
	create_server($node, 'expiring', 'openai-images', $standin, paused => 'on');
	refuse('failed');
	my $refused = enqueue($node, 'expiring', { prompt => 'refused' }, expires_at => '2001-01-01');
	my @good = map { enqueue($node, 'expiring', { prompt => 'good' }, expires_at => '2001-01-01') } 1 .. 3;
	ok(wait_state($node, $_, 'failed'), 'an expired job that cannot be failed keeps no other from being') for @good;
	held_as("genjob could not fail job $refused: no failed for you|paused", 'expiring', 'genjob.servers says why');
	worker_has("last_error = 'no failed for you'", 'and genjob.workers');
	allow();
	ok(wait_state($node, $refused, 'failed'), 'it fails when the trigger is gone');
};

subtest 'a job without a server that cannot be failed keeps no other from being' => sub {
	create_server($node, 'passing', 'openai-images', $standin, paused => 'on');
	refuse('failed');
	my $refused = enqueue($node, 'passing', { prompt => 'refused' });
	my @good = map { enqueue($node, 'passing', { prompt => 'good' }) } 1 .. 3;
	query('DROP SERVER passing CASCADE');
	ok(wait_state($node, $_, 'failed'),
		'a job without a server that cannot be failed keeps no other from being') for @good;
	worker_has("last_error = 'no failed for you'", 'genjob.workers says why');
	allow();
	query("DELETE FROM gen_jobs WHERE id = $refused");
};

# ---- words are cut between characters, and can be read in any database ----

subtest 'long words of an error are cut between characters, and can be read in a database of any encoding' => sub {
	query(q{
		CREATE FUNCTION refuse_at_length() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.state = 'running' THEN RAISE EXCEPTION '%', repeat('x', NEW.priority) || repeat('€', 300); END IF;
			RETURN NEW;
		END$$;
		CREATE TRIGGER refuse_at_length AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION refuse_at_length();
		CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C';
		CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
	query('CREATE EXTENSION genjob', $_) for qw(latin ascii);
	my $words = q{SELECT last_error FROM genjob.workers WHERE database = 'postgres'};
	for my $shift (0 .. 2)
	{
		my $refused = enqueue($node, 'painter', { prompt => 'cut' }, priority => $shift);
		held_as("claim job $refused: x{$shift}€+\$", 'painter', "cut between characters, at the server ($shift)");
		worker_has("last_error ~ '^x{$shift}€+\$' AND octet_length(last_error) > 500", '... and in genjob.workers');
		like(query($words, 'latin'), qr/^x{$shift}\?+$/, 'what an encoding does not have is a question mark');
		like(query($words, 'ascii'), qr/^x{$shift}(?:€)+$/, 'or as it is');
		query("DELETE FROM gen_jobs WHERE id = $refused");
	}
	query('DROP FUNCTION refuse_at_length() CASCADE');
	query("DROP DATABASE $_") for qw(latin ascii);
};

# ---- the trigger of genjob's that tells of jobs ----

subtest 'a trigger of genjob that is disabled is named' => sub {
	query(q{ALTER TABLE gen_jobs DISABLE TRIGGER genjob_before_insert});
	query(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "nobody tells"}')});
	held_as('trigger genjob_before_insert of gen_jobs is disabled.*ENABLE ALWAYS TRIGGER', 'painter', 'at the server');
	query(q{ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_before_insert});
	query(q{UPDATE gen_jobs SET priority = 1 WHERE state = 'queued'});
	ok(wait_all_ended($node), 'and runs on');
};

subtest 'a trigger of genjob that a restore has left at ORIGIN is named, and stops no job' => sub {
	my @triggers = qw(before_insert before_update before_delete after_truncate after_change);
	my $words = q{SELECT last_error FROM genjob.workers WHERE database = 'postgres'};
	my $advice = 'ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_';
	# as pg_restore --data-only --disable-triggers leaves it
	query(q{ALTER TABLE gen_jobs DISABLE TRIGGER ALL; ALTER TABLE gen_jobs ENABLE TRIGGER ALL});
	like(query($words),
		qr/(?:^|; )trigger genjob_\w+ of gen_jobs does not fire for logical replication .*$advice/,
		'genjob.workers names it');
	is(query(q{SELECT genjob.standstill() IS NULL}), 't', '... which stops no job');
	query("ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_$_") for @triggers;
	unlike(query($words), qr/does not fire/, '... until it fires always');
};

# ---- genjob.enabled ----

subtest 'genjob.servers says that genjob.enabled is off' => sub {
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->reload;
	worker_has('pid IS NULL', 'without genjob.enabled there is no dispatcher');
	my $id = enqueue($node, 'painter', { prompt => 'later' });
	held_as('^genjob.enabled is off', 'painter', 'and genjob.servers says why jobs wait');
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	ok(wait_state($node, $id, 'succeeded'), 'until it is on');
};

# ---- no background worker ----

# Restarts the server with room for that many background workers, and a log of that level.
sub restart_with
{
	my ($workers, $level) = @_;
	$node->append_conf('postgresql.conf', "max_worker_processes = $workers\nlog_min_messages = $level");
	$node->restart;
	return;
}

subtest 'a database that gets no background worker says so, in it and in the log' => sub {
	my $lines_before = logged(qr/genjob found no free background worker/);
	# the launcher has one, and PostgreSQL's of logical replication; one is left for two databases
	restart_with(3, 'warning');
	query('CREATE DATABASE second');
	query('CREATE EXTENSION genjob', 'second');
	eventually(
		q{SELECT count(*) > 0 FROM genjob.workers
			WHERE state = 'blocked' AND pid IS NULL AND last_error ~ 'no background worker is free'},
		'genjob.workers says that no background worker is free');
	my $database = query(q{SELECT database FROM genjob.workers WHERE state = 'blocked' LIMIT 1});
	create_server($node, 'waits', 'openai-images', $standin, database => $database);
	enqueue($node, 'waits', { prompt => 'no worker' }, database => $database);
	ok( $node->poll_query_until(
			$database,
			q{SELECT held_reason ~ 'no background worker is free.*max_worker_processes' FROM genjob.servers
			WHERE server = 'waits'}),
		'and genjob.servers, in that database')
	  or diag(query('SELECT * FROM genjob.servers', $database));
	is(logged(qr/genjob found no free background worker/) - $lines_before, 1, 'and the log, once a minute');
	query('DROP DATABASE second');
	restart_with(16, 'log');
};

$node->stop;
$standin->stop;
done_testing();

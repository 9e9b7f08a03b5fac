# Whatever keeps jobs waiting says so where people look: genjob.servers.held_reason, genjob.workers, and the log once a
# minute. Triggers of others run in the dispatcher as they do in a session, and a trigger that raises an error holds up
# its own job alone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest qw(!eventually);
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'reasons', conf => "genjob.rescan_interval = '1h'");

sub eventually { my ($sql, $what) = @_; ok($node->poll_query_until('postgres', $sql), $what) or diag(query('SELECT server, held_reason FROM genjob.servers') . "\n" . query('SELECT * FROM genjob.workers')); return; }
sub held_as { my ($pattern, $server, $what) = @_; eventually("SELECT bool_or(held_reason ~ '$pattern') FROM genjob.servers WHERE server = '$server'", $what); return; }

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'other', 'openai-images', $standin);

# ---- a trigger that finds its table by the search_path of the database ----

query(q{
	CREATE SCHEMA shop;
	CREATE TABLE shop.audit (job bigint, state text, path text);
	CREATE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN INSERT INTO audit VALUES (NEW.id, NEW.state, current_setting('search_path')); RETURN NULL; END$$;
	CREATE TRIGGER audit AFTER INSERT OR UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION shop.audit();
	GRANT USAGE ON SCHEMA shop TO PUBLIC; GRANT INSERT ON shop.audit TO PUBLIC;
	ALTER DATABASE postgres SET search_path = shop, public;
});
my $id = enqueue($node, 'painter', { prompt => 'audited' });
ok(wait_state($node, $id, 'succeeded'), 'a trigger that names a table without its schema runs in the dispatcher');
is(query("SELECT string_agg(state, ' ' ORDER BY state) FROM shop.audit WHERE job = $id"), 'queued running succeeded', '... for every change');
is(query("SELECT DISTINCT path FROM shop.audit WHERE job = $id"), 'shop, public', '... with the search_path of a session');

query(q{ALTER FUNCTION shop.audit() SET search_path = shop, pg_temp});
$id = enqueue($node, 'painter', { prompt => 'audited with a path of its own' });
ok(wait_state($node, $id, 'succeeded'), 'one with a search_path of its own');
is(query("SELECT DISTINCT path FROM shop.audit WHERE job = $id"), 'shop, pg_temp', '... has that');

# what it sets ends with it
query(q{
	CREATE OR REPLACE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM set_config('search_path', 'shop', false), set_config('statement_timeout', '1', false), set_config('enable_seqscan', 'on', false),
			set_config('default_transaction_read_only', 'on', false), set_config('row_security', 'off', false);
		RETURN NULL;
	END$$;
	ALTER FUNCTION shop.audit() RESET ALL});
$standin->reset;
query(q{SET statement_timeout = 0; ALTER TABLE gen_jobs DISABLE TRIGGER audit});
query(q{DROP TRIGGER audit ON gen_jobs; CREATE TRIGGER audit AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION shop.audit()});
for my $alter ('RESET ALL', 'SET DateStyle = iso')
{
	query("ALTER FUNCTION shop.audit() $alter");
	my @ids = map { enqueue($node, 'painter', { prompt => 'set' }) } 1 .. 3;
	ok(wait_state($node, $_, 'succeeded'), "a trigger's settings end with it ($alter)") for @ids;
}

# ... at once when it changes, wherever it is set, and whatever the role has that the dispatcher is connected as

sub path_in_trigger
{
	my ($path, $what) = @_;
	my $job = enqueue($node, 'painter', { prompt => 'path' });
	ok(wait_state($node, $job, 'succeeded'), "a job runs after $what");
	is(query("SELECT DISTINCT path FROM shop.audit WHERE job = $job AND state <> 'queued'"), $path, '... whose triggers see it');
	return;
}
query(q{CREATE OR REPLACE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN INSERT INTO shop.audit VALUES (NEW.id, NEW.state, current_setting('search_path')); RETURN NULL; END$$});
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
query('DROP TRIGGER audit ON gen_jobs');

# ---- a trigger that raises an error: at the claim, at the report, when a job has expired, when its server is gone ----

query(q{
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.state::text = TG_ARGV[0] AND NEW.request->>'prompt' = 'refused' THEN RAISE EXCEPTION 'no % for you', NEW.state; END IF;
		RETURN NEW;
	END$$});

sub refuse
{
	my ($state) = @_;
	query(qq{DROP TRIGGER IF EXISTS refuse ON gen_jobs});
	query(qq{CREATE TRIGGER refuse AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION refuse('$state')}) if $state;
	return;
}

refuse('running');
my $refused = enqueue($node, 'painter', { prompt => 'refused' });
my @good = map { enqueue($node, $_, { prompt => 'good' }) } qw(painter other painter);
ok(wait_state($node, $_, 'succeeded'), 'a job that cannot be claimed keeps no other waiting') for @good;
held_as("genjob could not claim job $refused: no running for you", 'painter', 'genjob.servers says why it waits');
is(query(q{SELECT held_reason IS NULL FROM genjob.servers WHERE server = 'other'}), 't', '... for its server only');
eventually("SELECT last_error = 'no running for you' FROM genjob.workers WHERE database = 'postgres'", 'and genjob.workers');
query(q{CREATE ROLE nobody; GRANT SELECT ON gen_jobs TO nobody});
unlike(query(q{SET ROLE nobody; SELECT held_reason FROM genjob.servers WHERE server = 'painter'}), qr/for you/, 'its words are not for everyone');
like(query(q{SET ROLE nobody; SELECT held_reason FROM genjob.servers WHERE server = 'painter'}), qr/raised an error/, '... that there is trouble is');
refuse('');
query("UPDATE gen_jobs SET priority = 1 WHERE id = $refused");
ok(wait_state($node, $refused, 'succeeded'), 'it runs when the trigger is gone');
eventually(q{SELECT held_reason IS NULL FROM genjob.servers WHERE server = 'painter'}, '... and genjob.servers has no more to say');

refuse('succeeded');
$refused = enqueue($node, 'painter', { prompt => 'refused' });
@good = map { enqueue($node, $_, { prompt => 'good' }) } qw(painter other);
ok(wait_state($node, $_, 'succeeded'), 'a result that cannot be written keeps no other from being') for @good;
held_as("genjob could not write the result of job $refused: no succeeded for you", 'painter', 'genjob.servers says so');
eventually("SELECT state = 'blocked' AND last_error = 'no succeeded for you' FROM genjob.workers WHERE database = 'postgres'", 'and genjob.workers is blocked');
is(query(q{SELECT held_reason IS NULL FROM genjob.servers WHERE server = 'other'}), 't', 'not for another server');
sleep_until_logged(2);
cmp_ok(logged(qr/genjob could not write the result of job $refused/), '<=', 2, 'the log has at most one line a minute');
refuse('');
ok(wait_state($node, $refused, 'succeeded'), 'it is written when the trigger is gone');
is(query(q{SELECT max(count) FROM (SELECT count(*) FROM gen_outputs GROUP BY job_id) o}), '1', 'once');
eventually(q{SELECT state = 'idle' FROM genjob.workers WHERE database = 'postgres'}, 'genjob.workers is idle');

# ---- a trigger that has another error code for each job ----

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
	FROM unnest('{P0001,P0002,23514,22P02,22003,XX000,54000,23505,ZZ001,ZZ002,ZZ003,ZZ004}'::text[]) AS c, generate_series(1, 4)});
sleep_until_logged(2);
eventually(q{SELECT state = 'blocked' FROM genjob.workers WHERE database = 'postgres'}, 'many error codes block');
cmp_ok(logged(qr/genjob could not write the result/) - $lines_before, '<=', 8, '... and the log has a few lines a minute');
query('DROP FUNCTION refuse_variously() CASCADE');
eventually(q{SELECT count(*) = 48 FROM gen_jobs WHERE request->>'prompt' ~ 'code' AND state = 'succeeded' AND result IS NOT NULL},
	'they are written when the trigger is gone');

query(q{ALTER SERVER painter OPTIONS (ADD paused 'on')});
refuse('failed');
$refused = enqueue($node, 'painter', { prompt => 'refused' }, expires_at => '2001-01-01');
@good = map { enqueue($node, 'painter', { prompt => 'good' }, expires_at => '2001-01-01') } 1 .. 3;
ok(wait_state($node, $_, 'failed'), 'an expired job that cannot be failed keeps no other from being') for @good;
held_as("genjob could not fail job $refused: no failed for you|paused", 'painter', 'genjob.servers says why');
eventually("SELECT last_error = 'no failed for you' FROM genjob.workers WHERE database = 'postgres'", 'and genjob.workers');
refuse('');
ok(wait_state($node, $refused, 'failed'), 'it fails when the trigger is gone');

create_server($node, 'passing', 'openai-images', $standin, paused => 'on');
refuse('failed');
$refused = enqueue($node, 'passing', { prompt => 'refused' });
@good = map { enqueue($node, 'passing', { prompt => 'good' }) } 1 .. 3;
query('DROP SERVER passing CASCADE');
ok(wait_state($node, $_, 'failed'), 'a job without a server that cannot be failed keeps no other from being') for @good;
eventually("SELECT last_error = 'no failed for you' FROM genjob.workers WHERE database = 'postgres'", 'genjob.workers says why');
refuse('');
query("DELETE FROM gen_jobs WHERE id = $refused");
query(q{ALTER SERVER painter OPTIONS (DROP paused)});

# ---- words are cut between characters, and can be read in any database ----

query(q{CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.state = 'running' THEN RAISE EXCEPTION '%', repeat('x', NEW.priority) || repeat('€', 300); END IF;
		RETURN NEW;
	END$$});
refuse('running');
query(q{CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'; CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
$node->safe_psql($_, 'CREATE EXTENSION genjob') for qw(latin ascii);
for my $shift (0 .. 2)
{
	$refused = enqueue($node, 'painter', { prompt => 'cut' }, priority => $shift);
	held_as("claim job $refused: x{$shift}€+\$", 'painter', "cut between characters, at the server ($shift)");
	eventually("SELECT last_error ~ '^x{$shift}€+\$' AND octet_length(last_error) > 500 FROM genjob.workers WHERE database = 'postgres'", '... and in genjob.workers');
	like($node->safe_psql('latin', q{SELECT last_error FROM genjob.workers WHERE database = 'postgres'}), qr/^x{$shift}\?+$/, 'what an encoding does not have is a question mark');
	like($node->safe_psql('ascii', q{SELECT last_error FROM genjob.workers WHERE database = 'postgres'}), qr/^x{$shift}(?:€)+$/, 'or as it is');
	query("DELETE FROM gen_jobs WHERE id = $refused");
}
refuse('');

# ---- the trigger of genjob's that tells of jobs ----

query(q{ALTER TABLE gen_jobs DISABLE TRIGGER genjob_before_insert});
query(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "nobody tells"}')});
held_as('trigger genjob_before_insert of gen_jobs is disabled.*ENABLE ALWAYS TRIGGER', 'painter', 'a trigger that is disabled is named');
query(q{ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_before_insert; UPDATE gen_jobs SET priority = 1 WHERE state = 'queued'});
ok(wait_all_ended($node), 'and runs on');
# as pg_restore --data-only --disable-triggers leaves it
query(q{ALTER TABLE gen_jobs DISABLE TRIGGER ALL; ALTER TABLE gen_jobs ENABLE TRIGGER ALL});
like(query(q{SELECT last_error FROM genjob.workers WHERE database = 'postgres'}),
	qr/(?:^|; )trigger genjob_\w+ of gen_jobs does not fire for logical replication .*ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_/,
	'genjob.workers names a trigger that a restore has left at ORIGIN');
is(query(q{SELECT genjob.standstill() IS NULL}), 't', '... which stops no job');
query("ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_$_") for qw(before_insert before_update before_delete after_truncate after_change);
unlike(query(q{SELECT last_error FROM genjob.workers WHERE database = 'postgres'}), qr/does not fire/, '... until it fires always');

# ---- genjob.enabled ----

$node->append_conf('postgresql.conf', 'genjob.enabled = off');
$node->reload;
eventually(q{SELECT pid IS NULL FROM genjob.workers WHERE database = 'postgres'}, 'without genjob.enabled there is no dispatcher');
$id = enqueue($node, 'painter', { prompt => 'later' });
held_as('^genjob.enabled is off', 'painter', 'and genjob.servers says why jobs wait');
$node->append_conf('postgresql.conf', 'genjob.enabled = on');
$node->reload;
ok(wait_state($node, $id, 'succeeded'), 'until it is on');

# ---- no background worker ----

$node->stop;
$node->append_conf('postgresql.conf', "max_worker_processes = 3\nlog_min_messages = warning");
$node->start;
# the launcher has one, and PostgreSQL's of logical replication; one is left for two databases
query('CREATE DATABASE second');
$node->safe_psql('second', 'CREATE EXTENSION genjob');
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM genjob.workers WHERE state = 'blocked' AND pid IS NULL AND last_error ~ 'no background worker is free'}),
	'genjob.workers says that no background worker is free')
  or diag(query('SELECT * FROM genjob.workers'));
my $database = query(q{SELECT database FROM genjob.workers WHERE state = 'blocked' LIMIT 1});
create_server($node, 'waits', 'openai-images', $standin, database => $database);
enqueue($node, 'waits', { prompt => 'no worker' }, database => $database);
ok($node->poll_query_until($database, q{SELECT held_reason ~ 'no background worker is free.*max_worker_processes' FROM genjob.servers WHERE server = 'waits'}),
	'and genjob.servers, in that database')
  or diag($node->safe_psql($database, 'SELECT * FROM genjob.servers'));
is(logged(qr/genjob found no free background worker/), 1, 'and the log, once a minute');

sub logged
{
	my ($pattern) = @_;
	my @lines = slurp_file($node->logfile) =~ /^.*(?:LOG|WARNING):.*$pattern/mg;
	return scalar @lines;
}

# Until the dispatcher has tried several times to write what it cannot.
sub sleep_until_logged
{
	my ($seconds) = @_;
	my $from = query('SELECT extract(epoch FROM now())');
	$node->poll_query_until('postgres', "SELECT extract(epoch FROM now()) > $from + $seconds");
	return;
}

$node->stop;
$standin->stop;
done_testing();

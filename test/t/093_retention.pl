# The options retention and retention_failed: ended jobs go after that time, nobody else's and nothing that is needed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;

# Jobs that ended that long ago.
sub ended
{
	my ($server, $n, %more) = @_;
	my %row = (state => "'succeeded'", owner => "'postgres'", age => '1 day', %more);
	return query("INSERT INTO gen_jobs (server, request, state, owner, finished_at, created_at)
		SELECT '$server', '{}', $row{state}, $row{owner}, now() - '$row{age}'::interval, now() - '$row{age}'::interval FROM generate_series(1, $n) RETURNING id");
}

create_server($node, 'kept', 'openai-images', $standin);
create_server($node, 'short', 'openai-images', $standin, retention => '1 h', retention_failed => '2 days');

# ---- what goes, and what stays ----

ended('kept', 3);
ended('short', 1200);
my $young = ended('short', 1, age => '1 minute');
my $failed = ended('short', 1, state => "'failed'");
my $cancelled = ended('short', 1, state => "'cancelled'");
ended('short', 2, state => "'failed'", age => '3 days');
ended('short', 2, state => "'cancelled'", age => '3 days');
query("INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, data) SELECT id, 1, 'text/plain', 1, '', 'x' FROM gen_jobs");
# as ALTER SERVER would, it has the dispatcher look
query(q{ALTER SERVER short OPTIONS (ADD notify 'ended')});
eventually(q{SELECT string_agg(state::text, ' ' ORDER BY id) = 'succeeded failed cancelled' FROM gen_jobs WHERE server = 'short'},
	'what was kept long enough goes');
is(query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM gen_jobs WHERE server = 'short'"), "$young $failed $cancelled", '... and nothing else');
is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'kept'}), 3, 'a server without the option keeps all');
is(query('SELECT count(*) FROM gen_outputs'), 6, 'outputs go with their jobs');

# ---- a job goes when its time has come, without anybody's doing ----

query(q{ALTER SERVER short OPTIONS (SET retention '1 s')});
my $id = enqueue($node, 'short', StandIn::request(prompt => 'a boat'));
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id IN ($id, $young))", 'a job goes a second after its end');

# ---- what is needed stays ----

query(q{CREATE ROLE app LOGIN; CREATE TABLE orders (job_id bigint REFERENCES gen_jobs)});
query(q{ALTER SERVER short OPTIONS (SET retention '36500 days')});
my @needed = split /\n/, ended('short', 6);
query("INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, data) SELECT id, 1, 'text/plain', 1, '', 'x' FROM gen_jobs WHERE id >= $needed[0]");
query("INSERT INTO orders VALUES ($needed[0])");
query(q{SELECT genjob.pause('kept')});
my $refers = enqueue($node, 'kept', { prompt => 'x', image => { '$output' => [ $needed[1] + 0, 1 ] } });
my $takes = enqueue($node, 'kept', { prompt => { '$result' => [ $needed[2] + 0, '/a' ] } });
my $waits = query("INSERT INTO gen_jobs (server, request, after) VALUES ('kept', '{\"prompt\": \"x\"}', ARRAY[$needed[3], $refers]) RETURNING id");
query("INSERT INTO genjob.callbacks (job_id, attempt, owner, run_at) VALUES ($needed[4], 1, 'app', now() + '1 day')");
query(q{ALTER SERVER short OPTIONS (SET retention '1 s')});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $needed[5])", 'a job that nobody needs goes');
my ($status, $purged, $notice) = $node->psql('postgres', q{SELECT genjob.purge('short', '1 s')});
is($purged, 2, 'genjob.purge() deletes what failed');
like($notice, qr/NOTICE:  5 jobs are kept, since something needs them/, '... and says how many are needed');
query('GRANT SELECT, DELETE, INSERT ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app; GRANT USAGE ON FOREIGN SERVER kept TO app');
my ($apps, $supers) = split /\n/, query(q{BEGIN;
	INSERT INTO gen_jobs (server, request, state, owner, finished_at) VALUES ('short', '{}', 'succeeded', 'app', now() - interval '1 day') RETURNING id AS job \gset
	INSERT INTO gen_jobs (server, request) VALUES ('kept', jsonb_build_object('prompt', jsonb_build_object('$result', jsonb_build_array(:job, '/a')))) RETURNING id AS other \gset
	COMMIT;
	SELECT :job; SELECT :other});
is(query(q{SET ROLE app; SELECT genjob.purge('short', '0 s')}), 0, '... also by jobs that the caller does not see');
is(query("SET ROLE app; SELECT genjob.needed_jobs(ARRAY[$apps, $needed[0], $needed[1]])"), "{$apps}", '... but tells nobody about jobs of others');
query("SELECT genjob.cancel($supers)");
# by then retention may have had it
query(q{SET ROLE app; SELECT genjob.purge('short', '0 s')});
is(query("SELECT count(*) FROM gen_jobs WHERE id = $apps"), 0, '... until these have ended');
my $strange = query(qq{SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('kept', '{"prompt": "x", "image": {"\$output": [$needed[1], 1]}}') RETURNING id});
is(query("SELECT refers IS NULL FROM gen_jobs WHERE id = $strange"), 't', 'what strangers refer to is not noted');
query("SELECT genjob.cancel($strange)");
is(query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM gen_jobs WHERE server = 'short' AND state = 'succeeded'"), join(' ', @needed[ 0 .. 4 ]),
	'... those to which a foreign key, a request or an unfinished job refers, or whose on_done is to be called, stay');
is(query("SELECT refers FROM gen_jobs WHERE id = $refers"), "{$needed[1]}", 'gen_jobs.refers says to which');
like(($node->psql('postgres', qq{SET ROLE app;
	INSERT INTO gen_jobs (server, request, refers) VALUES ('kept', '{"prompt": "x"}', '{1}')}))[2], qr/column "refers" of gen_jobs is set by genjob/, '... and nobody else');
query("SELECT genjob.cancel(id) FROM gen_jobs WHERE id IN ($refers, $takes, $waits)");
query('DELETE FROM orders; DELETE FROM genjob.callbacks');
eventually(q{SELECT count(*) = 0 FROM gen_jobs WHERE server = 'short' AND state = 'succeeded'}, '... until that is over');

# ---- settings under which an index gives some of its rows only ----

my $wanted = ended('short', 1, age => '1 minute');
query(q{ALTER SERVER short OPTIONS (SET retention '36500 days'); ALTER DATABASE postgres SET gin_fuzzy_search_limit = 1});
query("INSERT INTO gen_jobs (server, request) SELECT 'kept', '{\"prompt\": {\"\$result\": [$wanted, \"/a\"]}}' FROM generate_series(1, 3000)");
# only what has left the pending list of the index is left out
query('VACUUM gen_jobs');
is(query(qq{SET gin_fuzzy_search_limit = 1; SELECT sum(cardinality(genjob.needed_jobs(ARRAY[$wanted]))) FROM generate_series(1, 30)}), 30,
	'a job that 3,000 others need is needed, in a session with such a setting');
my $pid = dispatcher_pid($node);
query("SELECT pg_terminate_backend($pid)");
wait_dispatcher($node, 'postgres', $pid);
query(q{ALTER SERVER short OPTIONS (SET retention '1 s')});
# a sentinel for each look of retention
for (1 .. 5)
{
	my $sentinel = ended('short', 1);
	query(q{ALTER SERVER short OPTIONS (SET retention '2 s'); ALTER SERVER short OPTIONS (SET retention '1 s')});
	$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $sentinel)") || last;
}
is(query("SELECT count(*) FROM gen_jobs WHERE id = $wanted"), 1, '... and stays in a database with it');
query(q{ALTER DATABASE postgres RESET gin_fuzzy_search_limit; DELETE FROM gen_jobs WHERE server = 'kept' AND state = 'queued'});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $wanted)", '... until they are gone');

# ---- code of others that a deletion would run ----

query(q{GRANT REFERENCES, SELECT ON gen_jobs TO app; GRANT CREATE ON SCHEMA public TO app});
query(q{SET ROLE app;
	CREATE TABLE notes (job_id bigint REFERENCES gen_jobs ON DELETE CASCADE, role text);
	CREATE TABLE seen (role text, means text);
	CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN INSERT INTO public.seen VALUES (current_user, session_user); RETURN NULL; END $$;
	GRANT ALL ON seen TO PUBLIC});
my $plain = query(q{BEGIN; INSERT INTO gen_jobs (server, request, state, finished_at) VALUES ('short', '{}', 'succeeded', now() - interval '1 day');
	INSERT INTO notes SELECT max(id) FROM gen_jobs; SELECT job_id FROM notes; COMMIT});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $plain) AND NOT EXISTS (SELECT FROM notes)", 'a table that refers with ON DELETE CASCADE goes along');
query(q{SET ROLE app; CREATE TRIGGER note AFTER DELETE ON notes FOR EACH ROW EXECUTE FUNCTION note()});
$plain = query(q{BEGIN; INSERT INTO gen_jobs (server, request, state, finished_at) VALUES ('short', '{}', 'succeeded', now() - interval '1 day');
	INSERT INTO notes SELECT max(id) FROM gen_jobs; SELECT job_id FROM notes; COMMIT});
query(q{ALTER SERVER short OPTIONS (SET notify 'again')});
eventually(q{SELECT last_error ~ 'trigger note of table public.notes runs code of role app.*genjob.purge' FROM genjob.workers WHERE database = 'postgres'},
	'... unless it has a trigger, whose code would run as the owner of gen_jobs');
is(query('SELECT count(*) FROM notes, seen'), 0, '... which did not');
is(query("SELECT count(*) FROM gen_jobs WHERE id = $plain"), 1, '... so the job is still there');
query('DROP TABLE notes');
query(q{ALTER SERVER short OPTIONS (SET notify 'once more')});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $plain)", '... until that is gone');

# ---- a deferred foreign key, and a row that is locked ----

query(q{CREATE TABLE later (job_id bigint REFERENCES gen_jobs DEFERRABLE INITIALLY DEFERRED)});
my @two = split /\n/, query(q{
	WITH two AS (INSERT INTO gen_jobs (server, request, state, finished_at, created_at)
		SELECT 'short', '{}', 'succeeded', now() - interval '1 day', now() - interval '1 day' FROM generate_series(1, 2) RETURNING id),
	kept AS (INSERT INTO later SELECT min(id) FROM two)
	SELECT id FROM two ORDER BY id});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $two[1])", 'a deferred foreign key keeps one job, and no other');
is(query("SELECT count(*) FROM gen_jobs WHERE id = $two[0]"), 1, '... which stays');
query('DROP TABLE later');

# ---- an idle server asks nothing ----

eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'short' AND state = 'succeeded')", 'all are gone');
query(q{ALTER SERVER short OPTIONS (SET retention '30 days')});
eventually(q{SELECT state = 'idle' FROM genjob.workers WHERE database = 'postgres'}, 'idle');
like(query(q{EXPLAIN SELECT id FROM gen_jobs WHERE server = 'short' AND state = 'succeeded' AND retained AND finished_at < now() ORDER BY finished_at, id LIMIT 10}),
	qr/gen_jobs_ended/, 'the oldest are found by an index');

# ---- a server that gets the option after its jobs have succeeded ----

create_server($node, 'late', 'openai-images', $standin);

sub succeed
{
	my @ids = map { enqueue($node, 'late', StandIn::request(prompt => 'a boat')) } 1 .. $_[0];
	eventually("SELECT count(*) = $_[0] FROM gen_jobs WHERE id IN (${\ join(', ', @ids)}) AND state = 'succeeded'", "$_[0] jobs succeed without retention")
	  || diag(query("SELECT id, state, error FROM gen_jobs WHERE id IN (${\ join(', ', @ids)})"));
	return @ids;
}

sub missing { return query("SELECT count(*) FROM gen_jobs WHERE NOT retained") }

my @late = succeed(3);
is(missing(), 3, 'jobs of a server without retention are not in the index');
query(q{CREATE TABLE told (job_id bigint);
	CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (NEW.id); RETURN NULL; END $$;
	CREATE TRIGGER tell AFTER UPDATE ON gen_jobs FOR EACH ROW WHEN (NEW.state = 'succeeded') EXECUTE FUNCTION tell()});
my $holder = $node->background_psql('postgres');
$holder->query_safe("BEGIN; SELECT FROM gen_jobs WHERE id = $late[1] FOR UPDATE");
query(q{ALTER SERVER late OPTIONS (ADD retention '1 h')});
eventually("SELECT count(*) = 1 FROM gen_jobs WHERE NOT retained", 'with the option they are put there, but for one that is locked');
$holder->query_safe('COMMIT');
$holder->quit;
eventually('SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE NOT retained)', '... and that one later');
is(query('SELECT count(*) FROM told'), 0, "... and no trigger of an application's takes it for an end");
query('DROP FUNCTION tell() CASCADE');
is(query("SELECT count(*) FROM gen_jobs WHERE id IN ($late[0], $late[1], $late[2])"), 3, '... none is due');
query(q{ALTER SERVER late OPTIONS (SET retention '1 s')});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'late')", '... until they are');

query(q{ALTER SERVER late OPTIONS (DROP retention)});
@late = succeed(2);
query(q{ALTER SYSTEM SET genjob.enabled = off; SELECT pg_reload_conf()});
eventually(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ 'genjob dispatcher')}, 'while no dispatcher runs');
query(q{ALTER SERVER late OPTIONS (ADD retention '1 s')});
query(q{ALTER SYSTEM RESET genjob.enabled; SELECT pg_reload_conf()});
eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'late')", '... the option comes, and the next one finds what it is for');

# ---- the column is genjob's ----

my $restored = query(q{INSERT INTO gen_jobs (server, request, state, finished_at, retained) VALUES ('short', '{}', 'succeeded', now(), false) RETURNING id});
is(query("SELECT retained FROM gen_jobs WHERE id = $restored"), 't', 'a row of a dump is in the index, whatever it was');
my (undef, undef, $refusal) = $node->psql('postgres', "UPDATE gen_jobs SET retained = false WHERE id = $restored");
like($refusal, qr/column "retained" of gen_jobs is set by genjob/, 'nobody sets it');

$node->stop;
$standin->stop;
done_testing();

# The options retention and retention_failed: ended jobs go after that time, nobody else's and nothing that is needed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
query(q{CREATE ROLE app LOGIN; GRANT SELECT, INSERT, DELETE ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app});

# Inserts jobs that ended that long ago; gives their ids.
sub ended
{
	my ($server, $n, %more) = @_;
	my %row = (state => "'succeeded'", owner => "'postgres'", age => '1 day', %more);
	my $then = "now() - '$row{age}'::interval";
	my $ids = query("INSERT INTO gen_jobs (server, request, state, owner, finished_at, created_at)
		SELECT '$server', '{}', $row{state}, $row{owner}, $then, $then FROM generate_series(1, $n) RETURNING id");
	return wantarray ? split /\n/, $ids : $ids;
}

# Sets the option retention of a server, which has the dispatcher look.
sub set_retention { my ($server, $time) = @_; return query("ALTER SERVER $server OPTIONS (SET retention '$time')") }

sub is_gone { my ($id, $what) = @_; return eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $id)",
	$what) }

sub all_are_gone
{
	my ($server, $what) = @_;
	return eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = '$server')", $what);
}

sub add_outputs
{
	my ($condition) = @_;
	return query("INSERT INTO gen_outputs (job_id, ordinal, content_type, bytes, sha256, data)
		SELECT id, 1, 'text/plain', 1, '', 'x' FROM gen_jobs WHERE $condition");
}

subtest 'what was kept long enough goes, and nothing else' => sub {
	create_server($node, 'kept', 'openai-images', $standin);
	create_server($node, 'short', 'openai-images', $standin, retention => '99 days', retention_failed => '99 days');
	my ($first) = ended('kept', 3);
	ended('short', 1200);
	my $young = ended('short', 1, age => '1 minute');
	my $failed = ended('short', 1, state => "'failed'");
	my $cancelled = ended('short', 1, state => "'cancelled'");
	ended('short', 2, state => "'failed'", age => '3 days');
	ended('short', 2, state => "'cancelled'", age => '3 days');
	add_outputs("id >= $first");
	query(q{ALTER SERVER short OPTIONS (SET retention '1 h', SET retention_failed '2 days')});
	eventually(q{SELECT string_agg(state::text, ' ' ORDER BY id) = 'succeeded failed cancelled' FROM gen_jobs
		WHERE server = 'short'}, 'what was kept long enough goes');
	is(query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM gen_jobs WHERE server = 'short'"),
		"$young $failed $cancelled", '... and nothing else');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'kept'}), 3, 'a server without the option keeps all');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id >= $first"), 6, 'outputs go with their jobs');
};

subtest q{a job goes when its time has come, without anybody's doing} => sub {
	create_server($node, 'timely', 'openai-images', $standin, retention => '1 h');
	my $young = ended('timely', 1, age => '1 minute');
	set_retention('timely', '1 s');
	my $id = enqueue($node, 'timely', StandIn::request(prompt => 'a boat'));
	is_gone("ANY (ARRAY[$id, $young])", 'a job goes a second after its end');
};

subtest 'what something needs stays until that is over' => sub {
	create_server($node, 'asks', 'openai-images', $standin, paused => 'on');
	create_server($node, 'asked', 'openai-images', $standin, retention => '36500 days', retention_failed => '2 days');
	query(q{CREATE TABLE orders (job_id bigint REFERENCES gen_jobs); GRANT USAGE ON FOREIGN SERVER asks TO app});
	ended('asked', 1, state => "'failed'");
	ended('asked', 1, state => "'cancelled'");
	my @needed = ended('asked', 6);
	add_outputs("id >= $needed[0]");
	query("INSERT INTO orders VALUES ($needed[0])");
	my $refers = enqueue($node, 'asks', { prompt => 'x', image => { '$output' => [ $needed[1] + 0, 1 ] } });
	my $takes = enqueue($node, 'asks', { prompt => { '$result' => [ $needed[2] + 0, '/a' ] } });
	my $waits = enqueue($node, 'asks', { prompt => 'x' }, after => "{$needed[3], $refers}");
	query("INSERT INTO genjob.callbacks (job_id, attempt, owner, run_at)
		VALUES ($needed[4], 1, 'app', now() + '1 day')");
	set_retention('asked', '1 s');
	is_gone($needed[5], 'a job that nobody needs goes');
	my ($status, $purged, $notice) = $node->psql('postgres', q{SELECT genjob.purge('asked', '1 s')});
	is($purged, 2, 'genjob.purge() deletes what failed');
	like($notice, qr/NOTICE:  5 jobs are kept, since something needs them/, '... and says how many are needed');

	my ($apps, $supers) = split /\n/, query(q{BEGIN;
		INSERT INTO gen_jobs (server, request, state, owner, finished_at)
			VALUES ('asked', '{}', 'succeeded', 'app', now() - interval '1 day') RETURNING id AS job \gset
		INSERT INTO gen_jobs (server, request) VALUES ('asks',
			jsonb_build_object('prompt', jsonb_build_object('$result', jsonb_build_array(:job, '/a'))))
			RETURNING id AS other \gset
		COMMIT;
		SELECT :job; SELECT :other});
	is(query(q{SET ROLE app; SELECT genjob.purge('asked', '0 s')}), 0, '... also by jobs that the caller does not see');
	is(query("SET ROLE app; SELECT genjob.needed_jobs(ARRAY[$apps, $needed[0], $needed[1]])"), "{$apps}",
		'... but tells nobody about jobs of others');
	query("SELECT genjob.cancel($supers)");
	# by then retention may have had it
	query(q{SET ROLE app; SELECT genjob.purge('asked', '0 s')});
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $apps"), 0, '... until these have ended');
	my $strange = query(qq{SET ROLE app; INSERT INTO gen_jobs (server, request)
		VALUES ('asks', '{"prompt": "x", "image": {"\$output": [$needed[1], 1]}}') RETURNING id});
	is(query("SELECT refers IS NULL FROM gen_jobs WHERE id = $strange"), 't', 'what strangers refer to is not noted');
	query("SELECT genjob.cancel($strange)");
	is(query("SELECT string_agg(id::text, ' ' ORDER BY id) FROM gen_jobs WHERE server = 'asked'
		AND state = 'succeeded'"),
		join(' ', @needed[ 0 .. 4 ]), '... those to which a foreign key, a request or an unfinished job refers,'
		  . ' or whose on_done is to be called, stay');
	is(query("SELECT refers FROM gen_jobs WHERE id = $refers"), "{$needed[1]}", 'gen_jobs.refers says to which');
	my (undef, undef, $refusal) = $node->psql('postgres', q{SET ROLE app;
		INSERT INTO gen_jobs (server, request, refers) VALUES ('asks', '{"prompt": "x"}', '{1}')});
	like($refusal, qr/column "refers" of gen_jobs is set by genjob/, '... and nobody else');
	query("SELECT genjob.cancel(id) FROM gen_jobs WHERE id IN ($refers, $takes, $waits)");
	query("DROP TABLE orders; DELETE FROM genjob.callbacks WHERE job_id = $needed[4]");
	eventually(q{SELECT count(*) = 0 FROM gen_jobs WHERE server = 'asked' AND state = 'succeeded'},
		'... until that is over');
};

subtest 'what is needed stays under a setting with which an index gives some of its rows only' => sub {
	create_server($node, 'many', 'openai-images', $standin, paused => 'on');
	create_server($node, 'fuzzy', 'openai-images', $standin, retention => '36500 days');
	my $wanted = ended('fuzzy', 1, age => '1 minute');
	query('ALTER DATABASE postgres SET gin_fuzzy_search_limit = 1');
	query(qq{INSERT INTO gen_jobs (server, request)
		SELECT 'many', '{"prompt": {"\$result": [$wanted, "/a"]}}' FROM generate_series(1, 3000)});
	# only what has left the pending list of the index is left out
	query('VACUUM gen_jobs');
	is(query(qq{SET gin_fuzzy_search_limit = 1;
		SELECT sum(cardinality(genjob.needed_jobs(ARRAY[$wanted]))) FROM generate_series(1, 30)}), 30,
		'a job that 3,000 others need is needed, in a session with such a setting');
	my $pid = dispatcher_pid($node);
	query("SELECT pg_terminate_backend($pid)");
	wait_dispatcher($node, 'postgres', $pid);
	set_retention('fuzzy', '1 s');
	# a sentinel for each look of retention
	for (1 .. 5)
	{
		my $sentinel = ended('fuzzy', 1);
		set_retention('fuzzy', $_) foreach '2 s', '1 s';
		$node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $sentinel)") || last;
	}
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $wanted"), 1, '... and stays in a database with it');
	query(q{ALTER DATABASE postgres RESET gin_fuzzy_search_limit; DELETE FROM gen_jobs WHERE server = 'many'});
	is_gone($wanted, '... until they are gone');
};

# ---- what others attach to the table ----

subtest 'code of others that a deletion would run is not run' => sub {
	create_server($node, 'watched', 'openai-images', $standin, retention => '1 s');
	query(q{GRANT REFERENCES ON gen_jobs TO app; GRANT CREATE ON SCHEMA public TO app; SET ROLE app;
		CREATE TABLE notes (job_id bigint REFERENCES gen_jobs ON DELETE CASCADE, role text);
		CREATE TABLE seen (role text, means text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO public.seen VALUES (current_user, session_user); RETURN NULL; END $$;
		GRANT ALL ON seen TO PUBLIC});
	my $add = q{WITH old AS (INSERT INTO gen_jobs (server, request, state, finished_at)
			VALUES ('watched', '{}', 'succeeded', now() - interval '1 day') RETURNING id)
		INSERT INTO notes SELECT id FROM old RETURNING job_id};
	my $plain = query($add);
	eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $plain) AND NOT EXISTS (SELECT FROM notes)",
		'a table that refers with ON DELETE CASCADE goes along');
	query(q{SET ROLE app; CREATE TRIGGER note AFTER DELETE ON notes FOR EACH ROW EXECUTE FUNCTION note()});
	$plain = query($add);
	query(q{ALTER SERVER watched OPTIONS (ADD notify 'again')});
	eventually(q{SELECT last_error ~ 'trigger note of table public.notes runs code of role app.*genjob.purge'
		FROM genjob.workers WHERE database = 'postgres'},
		'... unless it has a trigger, whose code would run as the owner of gen_jobs');
	is(query('SELECT count(*) FROM seen'), 0, '... which did not');
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $plain"), 1, '... so the job is still there');
	query('DROP TABLE notes');
	query(q{ALTER SERVER watched OPTIONS (SET notify 'once more')});
	is_gone($plain, '... until that is gone');
	query('REVOKE REFERENCES ON gen_jobs FROM app; REVOKE CREATE ON SCHEMA public FROM app');
};

subtest 'a deferred foreign key keeps one job, and no other' => sub {
	create_server($node, 'deferred', 'openai-images', $standin, retention => '1 s');
	query(q{CREATE TABLE later (job_id bigint REFERENCES gen_jobs DEFERRABLE INITIALLY DEFERRED)});
	my @two = split /\n/, query(q{
		WITH two AS (INSERT INTO gen_jobs (server, request, state, finished_at, created_at)
			SELECT 'deferred', '{}', 'succeeded', now() - interval '1 day', now() - interval '1 day'
			FROM generate_series(1, 2) RETURNING id),
		kept AS (INSERT INTO later SELECT min(id) FROM two)
		SELECT id FROM two ORDER BY id});
	is_gone($two[1], 'the other goes');
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $two[0]"), 1, '... and this one stays');
	query('DROP TABLE later');
};

subtest 'an idle server asks nothing' => sub {
	create_server($node, 'quiet', 'openai-images', $standin, retention => '1 s');
	ended('quiet', 2);
	set_retention('quiet', $_) foreach '2 s', '1 s';
	all_are_gone('quiet', 'all are gone');
	set_retention('quiet', '30 days');
	eventually(q{SELECT state = 'idle' FROM genjob.workers WHERE database = 'postgres'}, 'idle');
	like(query(q{EXPLAIN SELECT id FROM gen_jobs WHERE server = 'quiet' AND state = 'succeeded' AND retained
		AND finished_at < now() ORDER BY finished_at, id LIMIT 10}), qr/gen_jobs_ended/,
		'the oldest are found by an index');
};

# ---- a server that gets the option after its jobs have succeeded ----

sub succeed
{
	my ($server, $n) = @_;
	my @ids = map { enqueue($node, $server, StandIn::request(prompt => 'a boat')) } 1 .. $n;
	my $list = join ', ', @ids;
	eventually("SELECT count(*) = $n FROM gen_jobs WHERE id IN ($list) AND state = 'succeeded'",
		"$n jobs succeed without retention")
	  || diag(query("SELECT id, state, error FROM gen_jobs WHERE id IN ($list)"));
	return @ids;
}

subtest 'a server that gets the option late keeps jobs that ended before for as long as the others' => sub {
	my $missing = q{FROM gen_jobs WHERE server = 'late' AND NOT retained};
	create_server($node, 'late', 'openai-images', $standin);
	my @late = succeed('late', 3);
	is(query("SELECT count(*) $missing"), 3, 'jobs of a server without retention are not in the index');
	query(q{CREATE TABLE told (job_id bigint);
		CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO public.told VALUES (NEW.id); RETURN NULL; END $$;
		CREATE TRIGGER tell AFTER UPDATE ON gen_jobs FOR EACH ROW WHEN (NEW.state = 'succeeded')
			EXECUTE FUNCTION tell()});
	my $holder = Session->new($node);
	is($holder->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $late[1] FOR UPDATE"), $late[1], 'somebody has one');
	query(q{ALTER SERVER late OPTIONS (ADD retention '1 h')});
	eventually("SELECT count(*) = 1 $missing", 'with the option they are put there, but for one that is locked');
	$holder->query('COMMIT');
	$holder->quit;
	eventually("SELECT NOT EXISTS (SELECT $missing)", '... and that one later');
	is(query('SELECT count(*) FROM told'), 0, "... and no trigger of an application's takes it for an end");
	query('DROP FUNCTION tell() CASCADE; DROP TABLE told');
	is(query("SELECT count(*) FROM gen_jobs WHERE server = 'late'"), 3, '... none is due');
	set_retention('late', '1 s');
	all_are_gone('late', '... until they are');
};

subtest 'an option that comes while no dispatcher runs is found by the next one' => sub {
	create_server($node, 'unwatched', 'openai-images', $standin);
	succeed('unwatched', 2);
	query(q{ALTER SYSTEM SET genjob.enabled = off; SELECT pg_reload_conf()});
	eventually(q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type ~ 'genjob dispatcher')},
		'while no dispatcher runs');
	query(q{ALTER SERVER unwatched OPTIONS (ADD retention '1 s')});
	query(q{ALTER SYSTEM RESET genjob.enabled; SELECT pg_reload_conf()});
	all_are_gone('unwatched', '... the option comes, and the next one finds what it is for');
};

subtest q{the column retained is genjob's} => sub {
	create_server($node, 'restored', 'openai-images', $standin, retention => '30 days');
	my $restored = query(q{INSERT INTO gen_jobs (server, request, state, finished_at, retained)
		VALUES ('restored', '{}', 'succeeded', now(), false) RETURNING id});
	is(query("SELECT retained FROM gen_jobs WHERE id = $restored"), 't',
		'a row of a dump is in the index, whatever it was');
	my (undef, undef, $refusal) = $node->psql('postgres', "UPDATE gen_jobs SET retained = false WHERE id = $restored");
	like($refusal, qr/column "retained" of gen_jobs is set by genjob/, 'nobody sets it');
};

$node->stop;
$standin->stop;
done_testing();

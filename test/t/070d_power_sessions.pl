# The schema of genjob's tables is renamed while a session's function is at work on them, and mallory puts another one in
# its place. What a session does as the owner of the tables (jobs that wait for others go on) finds that out before
# anything there is opened. Only a superuser can rename it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'power_sessions', extension => 0, conf => 'autovacuum = off');
my $number = 0;
my $log_from = 0;
my $schema = 'q1';

query(q{
	CREATE ROLE mallory LOGIN;
	CREATE ROLE victim LOGIN;
	GRANT CREATE ON DATABASE postgres TO mallory;
	CREATE SCHEMA mallory AUTHORIZATION mallory;
	CREATE SCHEMA q1 AUTHORIZATION mallory;
	CREATE EXTENSION genjob SCHEMA q1;
	GRANT INSERT, SELECT, DELETE ON q1.gen_jobs TO victim;
	GRANT SELECT ON q1.gen_outputs TO victim;
	GRANT SELECT ON q1.gen_jobs, q1.gen_outputs TO mallory});
query(q{GRANT USAGE ON SCHEMA q1 TO victim}, 'postgres', 'mallory');
query(
	q{
	CREATE FUNCTION mallory.climb() RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		RAISE LOG 'planted code runs as [%]', current_user;
		RETURN true;
	END $$;
	CREATE FUNCTION mallory.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM mallory.climb(); RETURN NEW; END$$;
	GRANT USAGE ON SCHEMA mallory TO PUBLIC}, 'postgres', 'mallory');
wait_dispatcher($node);
create_server($node, 'painter', 'openai-images', $standin);
query('GRANT USAGE ON FOREIGN SERVER painter TO victim');

# What a session writes of a job that goes on after another waits for lock 1.
query(q{
	CREATE TABLE public.is_swapped ();
	CREATE FUNCTION public.wait_for_swap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
	BEGIN
		IF current_setting('application_name') LIKE 'genjob%' THEN
			RETURN NEW;
		END IF;
		PERFORM pg_advisory_xact_lock_shared(1);
		-- where a table is locked, caches are brought up to date
		PERFORM FROM public.is_swapped;
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait_for_swap BEFORE UPDATE ON q1.gen_jobs FOR EACH ROW
		WHEN (NEW.tenant = 'held' AND NEW.state <> OLD.state) EXECUTE FUNCTION public.wait_for_swap()});

sub ran_as
{
	my $log = slurp_file($node->logfile, $log_from);
	$log_from = -s $node->logfile;
	my %roles = map { $_ => 1 } $log =~ /planted code runs as \[([^]]*)\]/g;
	return join ' ', sort keys %roles;
}

# The schema gets another name, and its old one is that of what mallory has planted.
sub swap
{
	my $old = $schema;
	$schema = "q" . (1 + substr($schema, 1));
	query("ALTER SCHEMA $old RENAME TO $schema");
	query(
		qq{CREATE SCHEMA $old;
		CREATE TABLE $old.gen_jobs (LIKE $schema.gen_jobs INCLUDING ALL);
		CREATE TABLE $old.gen_outputs (LIKE $schema.gen_outputs INCLUDING ALL);
		CREATE DOMAIN $old.gen_job_state AS text CHECK (mallory.climb());
		CREATE TRIGGER x BEFORE INSERT OR UPDATE OR DELETE ON $old.gen_jobs FOR EACH ROW EXECUTE FUNCTION mallory.evil_trigger();
		CREATE TRIGGER y BEFORE INSERT OR UPDATE OR DELETE ON $old.gen_jobs FOR EACH STATEMENT EXECUTE FUNCTION mallory.evil_trigger();
		GRANT ALL ON SCHEMA $old TO PUBLIC;
		GRANT ALL ON ALL TABLES IN SCHEMA $old TO PUBLIC}, 'postgres', 'mallory');
	return;
}

# Jobs of victim's: one that is not due, one after it, and one after that.
sub chain
{
	my ($tenant) = @_;
	return split /\|/, query(qq{
		WITH first AS (INSERT INTO $schema.gen_jobs (server, request, run_at) VALUES ('painter', '{"prompt": "1"}', '2100-01-01') RETURNING id),
		second AS (INSERT INTO $schema.gen_jobs (server, request, after, tenant) SELECT 'painter', '{"prompt": "2"}', ARRAY[id], '$tenant' FROM first RETURNING id),
		third AS (INSERT INTO $schema.gen_jobs (server, request, after) SELECT 'painter', '{"prompt": "3"}', ARRAY[id] FROM second RETURNING id)
		SELECT first.id, second.id, third.id FROM first, second, third}, 'postgres', 'victim');
}

# victim's session runs SQL, whose work for what waits is held up while the schema is moved.
sub try_held
{
	my ($what, $sql, $end) = @_;
	$number++;
	subtest "power session $number: $what" => sub {
		my $session = Session->new($node, user => 'victim');
		my $holder = Session->new($node);
		$holder->query('SELECT pg_advisory_lock(1)');
		$session->send($sql);
		ok($node->poll_query_until('postgres', "SELECT wait_event = 'advisory' FROM pg_stat_activity WHERE pid = " . $session->pid), 'it is at work');
		swap();
		$holder->quit;
		note('it gives: ' . $session->answer . ' ' . $session->messages);
		is(ran_as(), '', 'nothing planted has run');
		eventually($end =~ s/gen_jobs/$schema.gen_jobs/gr, 'what waits goes on in its own table')
		  or diag(query("SELECT id, state, error FROM $schema.gen_jobs ORDER BY id"), query('SELECT last_error FROM genjob.workers'));
		is(ran_as(), '', 'nothing planted has run then');
		$session->quit;
	};
	return;
}

my ($first, $second, $third) = chain('held');
try_held('the schema is moved while genjob.cancel() has what waits for the job fail', "SELECT genjob.cancel($first)",
	"SELECT string_agg(state::text, ' ' ORDER BY id) = 'cancelled failed failed' FROM gen_jobs WHERE id IN ($first, $second, $third)");
try_held('... while genjob.retry() has it wait again', "SELECT genjob.retry($first)",
	"SELECT string_agg(state::text, ' ' ORDER BY id) = 'succeeded succeeded succeeded' FROM gen_jobs WHERE id IN ($first, $second, $third)");
try_held('... while genjob.submit() has a job go on that waits for one which has ended',
	qq{SELECT genjob.submit('painter', '{"prompt": "4"}', after => ARRAY[$first], tenant => 'held')},
	"SELECT state = 'succeeded' FROM gen_jobs WHERE id > $third AND tenant = 'held'");

$number++;
subtest "power session $number: the schema's owner renames it, so that functions which name it run what is put in its place" => sub {
	my (undef, undef, $stderr) = $node->psql('postgres', "ALTER SCHEMA $schema RENAME TO elsewhere", extra_params => [ '-U', 'mallory' ]);
	like($stderr, qr/ERROR:  cannot rename schema "$schema".*HINT:  Ask a superuser/s, 'it is refused');
	query('CREATE SCHEMA own; ALTER SCHEMA own RENAME TO his_own; DROP SCHEMA his_own', 'postgres', 'mallory');
};

# ---- functions that are called when the schema has been moved ----

# victim's jobs, all of which have ended
my @calls = (
	[ 'genjob.wait()', "SELECT state FROM genjob.wait($first)", 'succeeded' ],
	[ 'genjob.wait() of several', "SELECT count(*) FROM genjob.wait(ARRAY[$first, $second])", '2' ],
	[ 'genjob.wait_any()', "SELECT state FROM genjob.wait_any(ARRAY[$first, $second])", 'succeeded' ],
	[ 'genjob.tree()', "SELECT count(*) FROM genjob.tree($first)", '' ],
	[ 'genjob.needed_jobs()', "SELECT genjob.needed_jobs(ARRAY[$first])", '' ],
	[ 'genjob.cancel()', "SELECT genjob.cancel($first)", 'f' ],
	[ 'genjob.submit()', q{SELECT genjob.submit('painter', '{"prompt": "5"}') > 0}, 't' ],
	[ 'genjob.purge()', q{SELECT genjob.purge('painter', '0')}, '' ]);
foreach my $call (@calls)
{
	my ($name, $sql, $gives) = @$call;
	$number++;
	subtest "power session $number: $name after the schema was moved" => sub {
		swap();
		my ($status, $stdout, $stderr) = $node->psql('postgres', $sql, extra_params => [ '-U', 'victim' ]);
		note("$stdout $stderr");
		is($stdout, $gives, 'it gives what it would') if $gives ne '';
		is(ran_as(), '', 'nothing planted has run');
	};
}

$node->stop;
$standin->stop;
done_testing();

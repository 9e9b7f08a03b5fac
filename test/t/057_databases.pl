# Databases that come, go, and are copied, renamed and moved, and the extension in them: a dispatcher is
# there where there is work for one, and never in the way.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'databases', conf => 'log_min_messages = warning');

# A server and a job in a database that has the extension; true when the job succeeds.
sub runs_jobs
{
	my ($database) = @_;
	create_server($node, 'painter', 'openai-images', $standin, database => $database)
	  unless query(q{SELECT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'painter')}, $database) eq 't';
	return wait_state($node, enqueue($node, 'painter', { prompt => 'a job' }, database => $database),
		'succeeded', $database);
}

# Enqueues a call that takes a while and returns when the stand-in has it.
sub begin_call
{
	my ($database, $ms) = @_;
	$standin->reset;
	my $job = enqueue($node, 'painter', StandIn::request(prompt => 'a call', latency_ms => $ms),
		database => $database);
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	return $job;
}

# True once a database has no dispatcher.
sub no_dispatcher
{
	my ($database) = @_;
	return $node->poll_query_until(
		'postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'genjob dispatcher' AND datname = '$database')
		AND NOT EXISTS (SELECT FROM genjob.workers WHERE database = '$database')});
}

# Creates a database with the extension, and with a dispatcher.
sub create_database
{
	my ($database) = @_;
	query("CREATE DATABASE $database");
	query('CREATE EXTENSION genjob', $database);
	wait_dispatcher($node, $database);
	return;
}

sub is_served
{
	my ($database, $what) = @_;
	return ok(wait_dispatcher($node, $database) && runs_jobs($database), $what);
}

# Returns once the call that was in flight has been cut.
sub wait_aborted
{
	$standin->wait_for(sub { $_[0]{in_flight} == 0 && $_[0]{aborted} == 1 });
	return pass('... nor is the call');
}

query(
	q{SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION '';
	CREATE ROLE guest LOGIN; GRANT CREATE ON TABLESPACE elsewhere TO guest});

subtest 'a database has a dispatcher if it has the extension, and no other has one' => sub {
	ok(runs_jobs('postgres'), 'jobs run');
	query('CREATE DATABASE plain');
	query('CREATE DATABASE found');
	query('CREATE EXTENSION genjob', 'found');
	ok(wait_dispatcher($node, 'found'), 'a database that is created later gets its dispatcher with the extension');
	ok(runs_jobs('found'), '... and runs jobs');
	ok(no_dispatcher('plain'), 'a database without the extension has none');
	is( query(
			q{SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_stat_activity
			WHERE backend_type = 'genjob dispatcher' AND datname IN ('found', 'plain', 'postgres', 'template1')}),
		'found postgres',
		'there is one for each database that needs one');
	query("DROP DATABASE $_") foreach qw(found plain);
};

# ---- templates ----

subtest 'a database that has a dispatcher may be the template of another, and both are served' => sub {
	create_database('original');
	ok(runs_jobs('original'), 'a database runs jobs');
	# PostgreSQL would give up after 5 s with an error
	query('CREATE DATABASE copy TEMPLATE original');
	pass('CREATE DATABASE ... TEMPLATE of a database that has a dispatcher');
	is_served('original', '... which is served again afterwards');
	is_served('copy', '... and so is the copy');
	query("DROP DATABASE $_") foreach qw(original copy);
};

subtest 'calls in flight are let end before a database is copied, and are not made again in the copy' => sub {
	create_database('busy');
	ok(runs_jobs('busy'), 'a database runs jobs');
	my $job = begin_call('busy', 1000);
	query('CREATE DATABASE copy_of_busy TEMPLATE busy');
	is(job($node, $job, 'copy_of_busy')->{state}, 'succeeded', 'calls in flight are let end before the copy is made');
	is($standin->counts->{total}, 1, '... and are not made again');
	query('DROP DATABASE copy_of_busy');
	ok(no_dispatcher('copy_of_busy'), 'a database is dropped');
	query('DROP DATABASE busy');
};

subtest 'a template has no dispatcher, what is copied from one with the extension has' => sub {
	query('CREATE EXTENSION genjob', 'template1');
	query('CREATE DATABASE inheritor');
	is_served('inheritor', 'a database that has the extension from template1 is served');
	ok(no_dispatcher('template1'), 'a template has no dispatcher');
	query('ALTER DATABASE inheritor IS_TEMPLATE true');
	query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'
		AND datname = 'inheritor'});
	ok(no_dispatcher('inheritor'), '... nor one that has become a template');
	query('ALTER DATABASE inheritor IS_TEMPLATE false');
	ok(wait_dispatcher($node, 'inheritor'), '... until it is a template no more');
	query('DROP DATABASE inheritor');
	query('DROP EXTENSION genjob', 'template1');
};

# ---- renamed and moved ----

subtest 'a database may be renamed and moved while it is served' => sub {
	create_database('before');
	ok(runs_jobs('before'), 'a database runs jobs');
	my $job = begin_call('before', 1000);
	query('ALTER DATABASE before RENAME TO renamed');
	is(job($node, $job, 'renamed')->{attempt}, 1, 'ALTER DATABASE ... RENAME lets calls in flight end');
	is_served('renamed', '... and the database is served under its new name');
	is( query(q{SELECT application_name FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'
			AND datname = 'renamed'}),
		'genjob dispatcher: renamed',
		'... of which the dispatcher knows');
	query('ALTER DATABASE renamed SET TABLESPACE elsewhere');
	is_served('renamed', 'ALTER DATABASE ... SET TABLESPACE');
	query('DROP DATABASE renamed');
};

# ---- dropped ----

subtest 'DROP DATABASE fails for the sessions of others alone, and then the database is served again' => sub {
	create_database('in_use');
	my $session = Session->new($node, database => 'in_use');
	my (undef, undef, $stderr) = $node->psql('postgres', 'DROP DATABASE in_use');
	like($stderr, qr/is being accessed by other users\nDETAIL:  There is 1 other session/, 'it fails for the session');
	ok(wait_dispatcher($node, 'in_use'), '... and then the dispatcher is back');
	ok(runs_jobs('in_use'), '... and at work');
	$session->quit;
	$node->poll_query_until('postgres',
		'SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ' . $session->pid . ')');
	query('DROP DATABASE in_use');
};

subtest 'DROP DATABASE does not wait for calls in flight' => sub {
	create_database('dropped');
	ok(runs_jobs('dropped'), 'a database runs jobs');
	begin_call('dropped', 600_000);
	query('DROP DATABASE dropped');
	pass('it is dropped');
	ok(no_dispatcher('dropped'), '... and nothing is left');
	wait_aborted();
};

subtest 'who does not own a database does not disturb its dispatcher' => sub {
	create_database('theirs');
	my $pid = dispatcher_pid($node, 'theirs');
	foreach my $statement ('DROP DATABASE theirs', 'ALTER DATABASE theirs RENAME TO mine',
		'ALTER DATABASE theirs SET TABLESPACE elsewhere')
	{
		my (undef, undef, $stderr) = $node->psql('postgres', $statement, extra_params => [ '-U', 'guest' ]);
		like($stderr, qr/ERROR:  must be owner/, "$statement is for the owner");
	}
	is(dispatcher_pid($node, 'theirs'), $pid, 'the dispatcher is the same');
	query('DROP DATABASE theirs');
};

# ---- the extension dropped, created again, and elsewhere ----

subtest 'DROP EXTENSION ends the dispatcher and its calls, CREATE EXTENSION has it back' => sub {
	create_database('shop');
	ok(runs_jobs('shop'), 'a database runs jobs');
	begin_call('shop', 20_000);
	query('DROP EXTENSION genjob CASCADE', 'shop');
	ok(no_dispatcher('shop'), 'the dispatcher is not left');
	wait_aborted();
	query('CREATE EXTENSION genjob', 'shop');
	is_served('shop', 'CREATE EXTENSION has it back');
	query(q{BEGIN; DROP EXTENSION genjob CASCADE; ROLLBACK}, 'shop');
	ok(runs_jobs('shop'), 'a DROP EXTENSION that is rolled back changes nothing');
	for (1 .. 3)
	{
		query('DROP EXTENSION genjob CASCADE', 'shop');
		query('CREATE EXTENSION genjob', 'shop');
	}
	is_served('shop', 'dropped and created again and again: jobs run');
	query('DROP DATABASE shop');
};

subtest 'the extension dropped and created again in one moment runs its own jobs alone, once' => sub {
	create_database('again');
	create_server($node, 'painter', 'openai-images', $standin, database => 'again', max_in_flight => 1);
	# the dispatcher has jobs of the old extension in memory: one in flight, and more that wait
	begin_call('again', 1500);
	query(
		q{INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "of the old one"}'
		FROM generate_series(1, 5)}, 'again');
	query('BEGIN; DROP EXTENSION genjob CASCADE; CREATE EXTENSION genjob; COMMIT', 'again');
	create_server($node, 'painter', 'openai-images', $standin, database => 'again');
	query(
		q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', 'of the new one ' || i) FROM generate_series(1, 10) i},
		'again');
	ok(wait_all_ended($node, 'again'), 'jobs end');
	is( query(
			q{SELECT count(*), min(state), max(attempt), count(error),
				(SELECT count(*) FROM gen_outputs), min(id) FROM gen_jobs}, 'again'),
		'10|succeeded|1|0|10|1',
		'... each of its own, once, though old jobs had the same ids');
	is(scalar(grep { $_->{id} eq 'of the old one' } $standin->requests), '0', '... and none of the old ones is sent');
	query('DROP DATABASE again');
};

subtest 'jobs are run in a schema other than public, until it is dropped' => sub {
	query('CREATE DATABASE schemas');
	query(q{CREATE SCHEMA "Own Schema"; CREATE EXTENSION genjob SCHEMA "Own Schema"}, 'schemas');
	query(q{ALTER DATABASE schemas SET search_path = "Own Schema"});
	is_served('schemas', 'in a schema other than public');
	is(query(q{SELECT queued, in_flight, succeeded FROM genjob.servers}, 'schemas'), '0|0|1', '... with its views');
	is(query(q{SELECT state FROM genjob.wait((SELECT max(id) FROM gen_jobs))}, 'schemas'), 'succeeded',
		'... and functions');
	query(q{DROP SCHEMA "Own Schema" CASCADE}, 'schemas');
	ok(no_dispatcher('schemas'), 'DROP SCHEMA ... CASCADE drops it all');
	query(q{ALTER DATABASE schemas RESET search_path});
	query('CREATE EXTENSION genjob', 'schemas');
	is_served('schemas', '... and created again it runs jobs');
	query('DROP DATABASE schemas');
};

is( query(q{SELECT string_agg(datname, ' ') FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'}),
	'postgres', 'no dispatcher is left of a database that is gone');
unlike(slurp_file($node->logfile), qr/exited with exit code|FATAL:|PANIC:|genjob could not/,
	'no process of genjob has failed');

$standin->stop;
$node->stop;
done_testing();

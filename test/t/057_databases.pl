# Databases that come, go, and are copied, renamed and moved, and the extension in them: a dispatcher is
# there where there is work for one, and never in the way.

use strict;
use warnings;

use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'databases', conf => 'log_min_messages = warning');

sub dispatchers
{
	return query(
		q{SELECT coalesce(string_agg(datname, ' ' ORDER BY datname), '') FROM pg_stat_activity
		WHERE backend_type = 'genjob dispatcher'});
}

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

sub no_dispatcher
{
	my ($database) = @_;
	return $node->poll_query_until(
		'postgres', qq{SELECT NOT EXISTS (SELECT FROM pg_stat_activity
		WHERE backend_type = 'genjob dispatcher' AND datname = '$database')
		AND NOT EXISTS (SELECT FROM genjob.workers WHERE database = '$database')});
}

# ---- found by itself ----

ok(runs_jobs('postgres'), 'jobs run');
query('CREATE DATABASE plain');
query('CREATE DATABASE shop');
query('CREATE EXTENSION genjob', 'shop');
ok(wait_dispatcher($node, 'shop'), 'a database that is created later gets its dispatcher with the extension');
ok(runs_jobs('shop'), '... and runs jobs');
ok(no_dispatcher('plain'), 'a database without the extension has none');

# ---- templates ----

my $begun = time;
query('CREATE DATABASE copy TEMPLATE shop');
cmp_ok(time - $begun, '<', 5, 'CREATE DATABASE ... TEMPLATE of a database that has a dispatcher');
ok(wait_dispatcher($node, 'shop') && runs_jobs('shop'), '... which is served again afterwards');
ok(wait_dispatcher($node, 'copy') && runs_jobs('copy'), '... and so is the copy');

my $job = begin_call('shop', 1000);
query('CREATE DATABASE copy_of_busy TEMPLATE shop');
is(job($node, $job, 'copy_of_busy')->{state}, 'succeeded', 'calls in flight are let end before the copy is made');
is($standin->counts->{total}, 1, '... and are not made again');
query('DROP DATABASE copy_of_busy');
ok(no_dispatcher('copy_of_busy'), 'a database is dropped');

query('CREATE EXTENSION genjob', 'template1');
query('CREATE DATABASE inheritor');
ok(wait_dispatcher($node, 'inheritor') && runs_jobs('inheritor'),
	'a database that has the extension from template1 is served');
ok(no_dispatcher('template1'), 'a template has no dispatcher');
query('ALTER DATABASE inheritor IS_TEMPLATE true');
query(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'
	AND datname = 'inheritor'});
ok(no_dispatcher('inheritor'), '... nor one that has become a template');
query('ALTER DATABASE inheritor IS_TEMPLATE false');
ok(wait_dispatcher($node, 'inheritor'), '... until it is a template no more');

# ---- renamed and moved ----

$job = begin_call('copy', 1000);
query('ALTER DATABASE copy RENAME TO renamed');
is(job($node, $job, 'renamed')->{attempt}, 1, 'ALTER DATABASE ... RENAME lets calls in flight end');
ok(wait_dispatcher($node, 'renamed') && runs_jobs('renamed'), '... and the database is served under its new name');
is( query(q{SELECT application_name FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'
		AND datname = 'renamed'}),
	'genjob dispatcher: renamed',
	'... of which the dispatcher knows');
query("SET allow_in_place_tablespaces = on; CREATE TABLESPACE elsewhere LOCATION ''");
query('ALTER DATABASE renamed SET TABLESPACE elsewhere');
ok(wait_dispatcher($node, 'renamed') && runs_jobs('renamed'), 'ALTER DATABASE ... SET TABLESPACE');

# ---- dropped ----

my $session = $node->background_psql('renamed');
my ($code, undef, $stderr) = $node->psql('postgres', 'DROP DATABASE renamed');
like($stderr, qr/is being accessed by other users\nDETAIL:  There is 1 other session/,
	'DROP DATABASE fails for the sessions of others alone');
ok(wait_dispatcher($node, 'renamed'), '... and then the dispatcher is back');
ok(runs_jobs('renamed'), '... and at work');
$session->quit;

begin_call('renamed', 20_000);
$begun = time;
query('DROP DATABASE renamed');
cmp_ok(time - $begun, '<', 5, 'DROP DATABASE does not wait for calls in flight');
ok(no_dispatcher('renamed'), '... and nothing is left');
$standin->wait_for(sub { $_[0]{in_flight} == 0 && $_[0]{aborted} == 1 });
pass('... not even the call');

query(q{CREATE ROLE guest LOGIN; GRANT CREATE ON TABLESPACE elsewhere TO guest});
my $pid = dispatcher_pid($node, 'shop');
foreach my $statement ('DROP DATABASE shop', 'ALTER DATABASE shop RENAME TO mine',
	'ALTER DATABASE shop SET TABLESPACE elsewhere')
{
	($code, undef, $stderr) = $node->psql('postgres', $statement, extra_params => [ '-U', 'guest' ]);
	like($stderr, qr/ERROR:  must be owner/, "$statement is for the owner");
}
is(dispatcher_pid($node, 'shop'), $pid, '... and who is not does not disturb the dispatcher');

# ---- the extension dropped, created again, and elsewhere ----

begin_call('shop', 20_000);
query('DROP EXTENSION genjob CASCADE', 'shop');
ok(no_dispatcher('shop'), 'DROP EXTENSION ends the dispatcher');
$standin->wait_for(sub { $_[0]{in_flight} == 0 && $_[0]{aborted} == 1 });
pass('... and the calls in flight');
query('CREATE EXTENSION genjob', 'shop');
ok(wait_dispatcher($node, 'shop') && runs_jobs('shop'), 'CREATE EXTENSION has it back');

query(q{BEGIN; DROP EXTENSION genjob CASCADE; ROLLBACK}, 'shop');
ok(runs_jobs('shop'), 'a DROP EXTENSION that is rolled back changes nothing');

# the dispatcher has jobs of the old extension in memory: one in flight, and more that wait
query(q{ALTER SERVER painter OPTIONS (ADD max_in_flight '1')}, 'shop');
my $old = begin_call('shop', 1500);
query(
	q{INSERT INTO gen_jobs (server, request) SELECT 'painter', '{"prompt": "of the old one"}'
	FROM generate_series(1, 5)}, 'shop');
query('BEGIN; DROP EXTENSION genjob CASCADE; CREATE EXTENSION genjob; COMMIT', 'shop');
create_server($node, 'painter', 'openai-images', $standin, database => 'shop');
query(
	q{INSERT INTO gen_jobs (server, request)
	SELECT 'painter', jsonb_build_object('prompt', 'of the new one ' || i) FROM generate_series(1, 10) i},
	'shop');
ok(wait_all_ended($node, 'shop'), 'the extension dropped and created again in one moment runs jobs');
is( query(
		q{SELECT count(*), min(state), max(attempt), count(error),
			(SELECT count(*) FROM gen_outputs), min(id) FROM gen_jobs}, 'shop'),
	'10|succeeded|1|0|10|1',
	'... each of its own, once, though old jobs had the same ids');
is( scalar(grep { $_->{id} eq 'of the old one' } $standin->requests),
	'0', '... and none of the old ones is sent');

for (1 .. 3)
{
	query('DROP EXTENSION genjob CASCADE', 'shop');
	query('CREATE EXTENSION genjob', 'shop');
}
ok(wait_dispatcher($node, 'shop') && runs_jobs('shop'), 'dropped and created again and again: jobs run');

query('DROP EXTENSION genjob CASCADE', 'shop');
query(q{CREATE SCHEMA "Own Schema"; CREATE EXTENSION genjob SCHEMA "Own Schema"}, 'shop');
query(q{ALTER DATABASE shop SET search_path = "Own Schema"});
ok(wait_dispatcher($node, 'shop') && runs_jobs('shop'), 'in a schema other than public');
is( query(q{SELECT queued, in_flight, succeeded FROM genjob.servers}, 'shop'),
	'0|0|1', '... with its views');
is( query(q{SELECT state FROM genjob.wait((SELECT max(id) FROM gen_jobs))}, 'shop'),
	'succeeded', '... and functions');
query(q{DROP SCHEMA "Own Schema" CASCADE}, 'shop');
ok(no_dispatcher('shop'), 'DROP SCHEMA ... CASCADE drops it all');
query(q{ALTER DATABASE shop RESET search_path});
query('CREATE EXTENSION genjob', 'shop');
ok(wait_dispatcher($node, 'shop') && runs_jobs('shop'), '... and created again it runs jobs');

is(dispatchers(), 'inheritor postgres shop', 'at the end there is one dispatcher for each database that needs one');
unlike(slurp_file($node->logfile), qr/exited with exit code|FATAL:|PANIC:|genjob could not/,
	'and no process of genjob has failed');

$standin->stop;
$node->stop;
done_testing();

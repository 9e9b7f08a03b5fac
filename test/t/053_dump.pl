# pg_dump and restore: the queue, its outputs, the servers and their secrets come along; what waits is run
# in the copy, what has ended is not.
#
# One database is dumped in several ways while it has jobs in every state. Each subtest restores one of the dumps.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $here = new_node(name => 'here', conf => 'log_min_messages = warning');
my $there = new_node(name => 'there', extension => 0, conf => 'log_min_messages = warning');
my $dumps = PostgreSQL::Test::Utils::tempdir();

# Runs a program of PostgreSQL. Returns what it complains of; nothing if it ends well and does not complain.
sub complaints
{
	my @command = @_;
	my ($stdout, $stderr);
	my $ran = IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr);
	return $ran && $stderr !~ /ERROR:|WARNING:|error:|warning:/ ? '' : "$command[0] fails: $stderr";
}

# Restores a dump with psql.
sub restore
{
	my ($node, $database, $file) = @_;
	is(complaints('psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', "$dumps/$file"),
		'', "$file is restored into $database");
	return;
}

# What must be the same in a copy, as text: all rows but those that are yet to be run.
# Without retained: what comes from a dump is in the index of ended jobs, whatever it was. Nor claimed_elsewhere: it has
# ended in another database.
sub ended_rows
{
	my ($node, $database) = @_;
	return query_node(
		$node,
		q{SELECT to_jsonb(j) - ARRAY['server_oid', 'retained', 'claimed_elsewhere'] FROM gen_jobs j
			WHERE state IN ('succeeded', 'failed', 'cancelled') AND id <= 5 ORDER BY id;
		SELECT to_jsonb(o) FROM gen_outputs o WHERE job_id <= 5 ORDER BY job_id, ordinal}, $database);
}

sub servers
{
	my ($node, $database) = @_;
	return query_node(
		$node,
		q{SELECT srvname, srvoptions, srvacl, srvowner::regrole FROM pg_foreign_server ORDER BY srvname;
		SELECT srvname, usename, umoptions FROM pg_user_mappings ORDER BY srvname, usename;
		SELECT server, tenant, weight FROM genjob.tenant_weights ORDER BY server, tenant;
		SELECT server, owner, weight FROM genjob.owner_weights ORDER BY server, owner::text}, $database);
}

# ---- a database with jobs in every state, of two roles ----

query_node($here, 'CREATE ROLE app LOGIN; CREATE ROLE "Odd Role" LOGIN; CREATE DATABASE shop');
query_node($here, 'CREATE EXTENSION genjob', 'shop');
create_server($here, 'painter', 'openai-images', $standin, database => 'shop', max_in_flight => 2);
create_server($here, 'closed', 'openai-images', $standin, database => 'shop', paused => 'on');
query_node(
	$here, q{
	CREATE USER MAPPING FOR app SERVER painter OPTIONS (api_key 'sk-of-app');
	GRANT USAGE ON FOREIGN SERVER painter, closed TO app, "Odd Role";
	GRANT INSERT, SELECT ON gen_jobs TO app, "Odd Role";
	INSERT INTO genjob.tenant_weights VALUES ('painter', 'app', 2), ('gone', 'nightly', 0.1);
	INSERT INTO genjob.owner_weights VALUES ('painter', 'app', 3)}, 'shop');

sub enqueue_as
{
	my ($role, $server, $request, $more) = @_;
	$more //= '';
	return $here->safe_psql(
		'shop',
		"INSERT INTO gen_jobs (server, request, inputs, run_at) VALUES ('$server', "
		  . literal($request)
		  . ", ARRAY['\\x89504e470d0a1a0a0001'::bytea], now() $more) RETURNING id",
		extra_params => [ '-U', $role ]);
}

enqueue_as('app', 'painter', '{"prompt": "done, caf\u00e9 \\\\ \"quoted\""}');
enqueue_as('Odd Role', 'painter', StandIn::request(prompt => 'refused', faults => [ { status => 400 } ]));
wait_all_ended($here, 'shop') or die 'the first jobs do not end';
enqueue_as('app', 'closed', '{"prompt": "stopped"}');
query_node($here, 'SELECT genjob.cancel(3)', 'shop');
enqueue_as('app', 'closed', '{"prompt": "waits"}');
enqueue_as('app', 'painter', '{"prompt": "much later"}', "+ interval '1 year'");
$standin->reset;
my $running = enqueue_as('app', 'painter', StandIn::request(prompt => 'of app', latency_ms => 600_000));
my $own = enqueue_as('postgres', 'painter', StandIn::request(prompt => 'of postgres', latency_ms => 600_000));
$standin->wait_for(sub { $_[0]{in_flight} == 2 });
my $states = query_node($here, q{SELECT string_agg(state::text, ' ' ORDER BY id) FROM gen_jobs}, 'shop');

# Each dump: its file, how it is made, and what that complained of.
my @dumps = (
	{ file => 'all.sql', options => [] },
	{ file => 'all.custom', options => ['-Fc'] },
	{ file => 'schema.sql', options => ['--schema-only'] },
	{ file => 'data.sql', options => ['--data-only'] });
$_->{complaints} = complaints('pg_dump', '-d', $here->connstr('shop'), '-f', "$dumps/$_->{file}", @{ $_->{options} })
  foreach @dumps;
my $roles_complaints =
  complaints('pg_dumpall', '-d', $here->connstr('postgres'), '--roles-only', '-f', "$dumps/roles.sql");
my @keys = sort map { job($here, $_, 'shop')->{idempotency_key} } $running, $own;

# These calls must not stand in the way of what follows.
query_node($here, "SELECT genjob.cancel($running), genjob.cancel($own)", 'shop');
$standin->wait_for(sub { $_[0]{in_flight} == 0 });
my $ended = ended_rows($here, 'shop');

# In the other cluster the roles come first.
my (undef, undef, $roles_errors) = $there->psql('postgres', slurp_file("$dumps/roles.sql"), on_error_stop => 0);

# ---- the dumps ----

sub quicken
{
	my ($file) = @_;
	my $text = slurp_file($file);
	$text =~ s/"latency_ms": 600000/"latency_ms": 10/g or die "no running job in $file";
	open my $out, '>', $file or die "could not write $file: $!";
	print $out $text;
	close $out;
	return;
}

quicken("$dumps/$_") foreach 'all.sql', 'data.sql';

subtest 'a database with jobs of every state is dumped without a complaint' => sub {
	is($states, 'succeeded failed cancelled queued queued running running', 'jobs of every state');
	is($_->{complaints}, '', "pg_dump @{ $_->{options} }") foreach @dumps;
	is($roles_complaints, '', 'pg_dumpall --roles-only');
	unlike($roles_errors, qr/ERROR(?!:  role "[^"]*" already exists)/, '... restored elsewhere');
	like($ended, qr/caf\x{c3}\x{a9}/, 'there is something to compare');
};

# ---- what becomes of it in a copy ----

# A dump grants privileges after it has filled the tables. Where it is restored bit by bit, jobs of roles that
# may not use their server at that moment are put off for ten minutes, instead of failing.
sub check_copy
{
	my ($node, $database, $put_off) = @_;
	ok(wait_dispatcher($node, $database), 'there is a dispatcher');
	is(servers($node, $database), servers($here, 'shop'),
		'servers, their privileges, secrets and weights are the same');
	is(ended_rows($node, $database), $ended, 'jobs that have ended, and their outputs, are the same');
	ok(wait_state($node, $own, 'succeeded', $database), 'a job that was running is run in the copy');
	if ($put_off)
	{
		is( query_node(
				$node,
				qq{SELECT state, run_at BETWEEN now() + interval '5 min' AND now() + interval '10 min' FROM gen_jobs
				WHERE id = $running}, $database),
			'queued|t',
			'one whose owner was granted USAGE after it came is put off');
		query_node($node, "UPDATE gen_jobs SET run_at = now() WHERE id = $running", $database);
	}
	ok(wait_state($node, $running, 'succeeded', $database), 'one of another role is run, too');
	is( query_node(
			$node,
			qq{SELECT owner, attempt, failures, attempt_errors FROM gen_jobs
			WHERE id IN ($running, $own) ORDER BY id}, $database),
		"app|2|0|\npostgres|2|0|",
		'... each as a further attempt, for the same owner');
	is( query_node($node, q{SELECT id, state FROM gen_jobs WHERE id IN (4, 5) ORDER BY id}, $database),
		"4|queued\n5|queued",
		'jobs that wait do so');
	is( enqueue($node, 'closed', { prompt => 'new' }, database => $database),
		$own + 1,
		'a new job gets the next id');
	my $counts = $standin->counts;
	is($counts->{total}, 2, 'nothing else was sent');
	is_deeply([ sort keys %{ $counts->{keys} } ], \@keys, '... than with the Idempotency-Keys of the calls in flight');
	return;
}

subtest 'a copy in the same cluster goes on where the dump stopped' => sub {
	$standin->reset;
	query_node($here, 'CREATE DATABASE copy');
	restore($here, 'copy', 'all.sql');
	check_copy($here, 'copy', 1);
};

subtest 'a copy in another cluster goes on where the dump stopped' => sub {
	$standin->reset;
	query_node($there, 'CREATE DATABASE shop');
	restore($there, 'shop', 'all.sql');
	check_copy($there, 'shop', 1);
};

subtest 'a copy to which the schema came first and the data later goes on where the dump stopped' => sub {
	$standin->reset;
	query_node($there, 'CREATE DATABASE parts');
	restore($there, 'parts', 'schema.sql');
	is(query_node($there, 'SELECT count(*) FROM gen_jobs', 'parts'), '0', '--schema-only has no job');
	restore($there, 'parts', 'data.sql');
	check_copy($there, 'parts');
};

# ---- pg_restore ----

# Creates the database, and restores all.custom into it.
sub pg_restore
{
	my ($database, @options) = @_;
	query_node($there, "CREATE DATABASE $database");
	is(complaints('pg_restore', '-d', $there->connstr($database), @options, "$dumps/all.custom"), '',
		"pg_restore @options");
	return;
}

# Drops the database at the end.
sub check_restored
{
	my ($database) = @_;
	ok(wait_dispatcher($there, $database), '... gives a database that is served');
	is(ended_rows($there, $database), $ended, '... with the same rows');
	ok( $there->poll_query_until($database, "SELECT state = 'running' FROM gen_jobs WHERE id = $own"),
		'... and runs what has not ended');
	is(job($there, $running, $database)->{error}, undef, '... or keeps it');
	query_node($there, "DROP DATABASE $database");
	return;
}

subtest 'pg_restore in one transaction gives a database that is served' => sub {
	pg_restore('in_one', '--single-transaction');
	check_restored('in_one');
};

subtest 'pg_restore with genjob.enabled = off runs nothing, until it is on again' => sub {
	query_node($there, 'ALTER SYSTEM SET genjob.enabled = off');
	$there->reload;
	$there->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')})
	  or die 'the dispatchers do not leave';
	pg_restore('in_many', '--verbose');
	is(job($there, $own, 'in_many')->{state}, 'queued', '... runs nothing');
	query_node($there, 'ALTER SYSTEM RESET genjob.enabled');
	$there->reload;
	check_restored('in_many');
};

unlike(slurp_file($_->logfile), qr/genjob could not|exited with exit code/, 'no complaint in the log of ' . $_->name)
  foreach $here, $there;

$standin->stop;
$_->stop foreach $here, $there;
done_testing();

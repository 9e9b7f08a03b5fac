# What genjob's TAP tests share: they start a server with genjob, create GenAI servers and jobs in it, and
# wait for results. Every wait polls for a condition; none just sleeps.
#
# Works with the PostgreSQL::Test modules of PostgreSQL 15 to 18.

package GenJobTest;

use strict;
use warnings;

use Exporter qw(import);
use Fcntl qw(LOCK_EX);
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

use StandIn;
use Wire;

our @EXPORT = qw(
  new_node
  query
  refusal_of
  reload_with
  set_enabled
  query_node
  eventually
  create_server
  create_store
  restart_at_once
  enqueue
  enqueue_named
  run_to_end
  job
  wait_state
  wait_all_ended
  wait_server_ended
  start_and_stop_after
  eventually_succeed
  poll_until
  wait_dispatcher
  dispatcher_pid
  kill_dispatcher
  no_turn_is_long
  run_unreported
  literal
  read_request
  voluntary_switches
  private_memory
  figures_mean_nothing
  takes_less
);

my $next_node = 1;
my $first_node;

# The superuser of every server, whoever runs the tests. PostgreSQL's modules would name it after the operating system's
# user, and then a test could not create a role of that name, nor rely on any name. All clients, walreceivers and
# subscriptions among them, take it from PGUSER.
my $superuser = 'postgres';
$ENV{PGUSER} = $superuser;
# The first server of a test is a copy of one that initdb has made for all tests. initdb makes the others, because no
# two of them may have the same system identifier.
{
	no warnings 'redefine';
	my $init = \&PostgreSQL::Test::Cluster::init;
	my $n = 0;

	*PostgreSQL::Test::Cluster::init = sub {
		my ($self, %params) = @_;
		my @extra = @{ delete $params{extra} // [] };
		my $run = \&PostgreSQL::Test::Utils::system_or_bail;
		local *PostgreSQL::Test::Utils::system_or_bail = sub {
			my ($program, @arguments) = @_;
			return $run->($program, @arguments) if $program ne 'initdb' || $arguments[0] ne '-D';
			my (undef, $folder, @options) = @arguments;
			return $run->('cp', '-pR', template($run, @options), $folder);
		} if $n++ == 0;
		return $init->($self, %params, extra => [ '-U', $superuser, @extra ]);
	};
}

# A data directory that initdb has made with these options, once for all tests of a run.
sub template
{
	my ($run, @options) = @_;
	my $folder = "$PostgreSQL::Test::Utils::tmp_check/" . join('', 'template', @options) =~ s/[^\w-]/_/gr;
	open my $lock, '>', "$folder.lock" or die "could not write $folder.lock: $!\n";
	flock $lock, LOCK_EX or die "could not lock $folder.lock: $!\n";
	unless (-e $folder)
	{
		$run->('initdb', '-D', "$folder.new", @options);
		rename "$folder.new", $folder or die "could not rename $folder.new: $!\n";
	}
	return $folder;
}

# safe_psql() and poll_query_until() do without a psql where they can (Wire). psql shows what a server says before it
# takes a statement.
{
	no warnings 'redefine';
	my $safe_psql = \&PostgreSQL::Test::Cluster::safe_psql;

	*PostgreSQL::Test::Cluster::safe_psql = sub {
		my ($self, $database, $sql, %params) = @_;
		my ($option, $user, @more) = @{ delete $params{extra_params} // [] };
		my $answer = Wire::run($self, $database, $sql, user => $user) unless %params || @more || ($option // '-U') ne '-U';
		return $safe_psql->(@_) unless $answer;
		print "#### Begin standard error\n$answer->{err}\n#### End standard error\n" if $answer->{err} ne '';
		die "error running SQL: '$answer->{err}'\nwith sql '$sql'" if $answer->{status};
		return $answer->{out};
	};

	# Looks sooner at first than the original one. A server that is just coming up again may refuse psql before psql has read
	# its query, which IPC::Run takes for an error: such a poll is made again, as all others that get no answer are.
	*PostgreSQL::Test::Cluster::poll_query_until = sub {
		my ($self, $database, $sql, $expected) = @_;
		my ($wait, $left, $out, $err) = (0.01, $PostgreSQL::Test::Utils::timeout_default);
		while ($left > 0)
		{
			my $answer = Wire::run($self, $database, $sql);
			($out, $err) = $answer ? @$answer{qw(out err)} : eval { ($self->psql($database, $sql))[ 1, 2 ] };
			return 1 if ($out // '') eq ($expected // 't') && ($err // $@) eq '';
			die $@ if !defined $out && $@ !~ /Broken pipe/;
			$left -= $wait;
			sleep $wait;
			$wait = $wait < 0.05 ? 2 * $wait : 0.1;
		}
		diag("poll_query_until timed out executing this query:\n$sql\nexpecting this output:\n" . ($expected // 't')
			  . "\nlast actual query output:\n$out\nwith stderr:\n$err");
		return 0;
	};
}

# Returns a started server with genjob preloaded, and created in the database postgres, with a dispatcher
# at work there. Options:
#   name       of the node (node1, node2, ...)
#   conf       lines added to postgresql.conf
#   init       arguments of PostgreSQL::Test::Cluster's init, such as { allows_streaming => 1 }
#   extension  0: no CREATE EXTENSION (and so no dispatcher)
#   start      0: not started, so nothing is created either
sub new_node
{
	my (%opts) = @_;
	my $node = PostgreSQL::Test::Cluster->new($opts{name} // 'node' . $next_node++);
	$first_node //= $node;
	my %init = %{ $opts{init} // {} };
	my @extra = @{ delete $init{extra} // [] };

	$node->init(%init, extra => [ '--no-locale', '--encoding=UTF8', @extra ]);
	# max_connections is last: streaming nodes get a very small one
	$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'genjob'
max_worker_processes = 16
max_prepared_transactions = 4
max_connections = 50
log_min_messages = log
log_statement = none
CONF
	$node->append_conf('postgresql.conf', $opts{conf}) if defined $opts{conf};
	return $node unless $opts{start} // 1;

	$node->start;
	if ($opts{extension} // 1)
	{
		$node->safe_psql('postgres', 'CREATE EXTENSION genjob');
		wait_dispatcher($node);
	}
	return $node;
}

# Returns what SQL gives on the server that new_node() made first, run as ROLE (default: the superuser).
sub query
{
	my ($sql, $database, $role) = @_;
	return $first_node->safe_psql($database // 'postgres', $sql, defined $role ? (extra_params => [ '-U', $role ]) : ());
}

# Returns what that server says when it refuses SQL, run as ROLE.
sub refusal_of
{
	my ($sql, $database, $role) = @_;
	my ($status, undef, $error) = $first_node->psql($database // 'postgres', $sql,
		defined $role ? (extra_params => [ '-U', $role ]) : ());
	return $status == 0 ? 'it was not refused' : $error;
}

# Sets "NAME = VALUE" on that server.
sub reload_with
{
	my ($setting) = @_;
	query("ALTER SYSTEM SET $setting");
	query('SELECT pg_reload_conf()');
	return;
}

# Returns when that server has no dispatcher any more, or when the one of its database postgres is at work again.
sub set_enabled
{
	my ($is_enabled) = @_;
	reload_with('genjob.enabled = ' . ($is_enabled ? 'on' : 'off'));
	return wait_dispatcher($first_node) if $is_enabled;
	$first_node->poll_query_until('postgres',
		q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')})
	  or die('the dispatcher does not leave');
	return;
}

# Returns what SQL gives on a server, for tests that have several.
sub query_node
{
	my ($node, $sql, $database) = @_;
	return $node->safe_psql($database // 'postgres', $sql);
}

# Passes once SQL is true on the server that new_node() made first.
sub eventually
{
	my ($sql, $what) = @_;
	return ok($first_node->poll_query_until('postgres', $sql), $what);
}

# A foreign server NAME that speaks API with the stand-in server STANDIN (or with a URL), with a user
# mapping for PUBLIC. Options:
#   api_key   of the user mapping (sk-test)
#   mapping   all options of the user mapping instead, as a reference to a hash
#   database  where (postgres)
#   any other is an option of the server, such as max_in_flight => 4
sub create_server
{
	my ($node, $name, $api, $standin, %opts) = @_;
	my $api_key = delete $opts{api_key} // 'sk-test';
	my $mapping = delete $opts{mapping} // { api_key => $api_key };
	my $database = delete $opts{database} // 'postgres';
	my $options = options_of(api => $api, url => ref $standin ? $standin->url : $standin, %opts);

	$node->safe_psql(
		$database, qq{
		CREATE SERVER "$name" FOREIGN DATA WRAPPER genjob OPTIONS ($options);
		CREATE USER MAPPING FOR PUBLIC SERVER "$name" OPTIONS (@{[options_of(%$mapping)]});
	});
	return $name;
}

sub options_of
{
	my (%options) = @_;
	return join ', ', map { "$_ " . literal($options{$_}) } sort keys %options;
}

# A foreign server NAME for the object store STORE, a PythonServer. The options of create_server() override the bucket
# and the keys, which are those of test/aws/objectstore.py.
sub create_store
{
	my ($node, $name, $store, %opts) = @_;
	my %mapping = (access_key_id => 'test:tester', secret_access_key => 'testing', %{ delete $opts{mapping} // {} });
	return create_server($node, $name, 's3', $store, bucket => 'pictures', retry_base => '100 ms', %opts,
		mapping => \%mapping);
}

# Stops the server as a crash does, and starts it again, with a dispatcher at work in the database postgres.
sub restart_at_once
{
	my ($node) = @_;
	$node->stop('immediate');
	$node->start;
	return wait_dispatcher($node);
}

# Inserts a job and gives its id. REQUEST is JSON text or a reference to what it is made from;
# COLUMNS are further columns of gen_jobs, as text (max_attempts => 3, run_at => '2100-01-01').
sub enqueue
{
	my ($node, $server, $request, %columns) = @_;
	my $database = delete $columns{database} // 'postgres';
	my %row = (
		%columns,
		server => $server,
		request => ref $request ? JSON::PP->new->utf8->canonical->encode($request) : $request);
	my @names = sort keys %row;

	return $node->safe_psql($database,
		'INSERT INTO gen_jobs ('
		  . join(', ', @names)
		  . ') VALUES ('
		  . join(', ', map { literal($row{$_}) } @names)
		  . ') RETURNING id');
}

# As enqueue(), of a request for the stand-in: its prompt and the stand-in's id are NAME, and SCRIPT is what the stand-in is
# to do.
sub enqueue_named
{
	my ($node, $server, $name, $script, %columns) = @_;
	return enqueue($node, $server, StandIn::request(prompt => $name, standin => { id => $name, %$script }), %columns);
}

# As enqueue(), but waits for the end of the job, and gives the job.
sub run_to_end
{
	my ($node, @job) = @_;
	my $id = enqueue($node, @job);
	$node->safe_psql('postgres', "SELECT state FROM genjob.wait($id, '60 s')");
	return job($node, $id);
}

# The job as a hash of its columns (decoded from JSON: timestamps are text, result is data).
sub job
{
	my ($node, $id, $database) = @_;
	my $json = $node->safe_psql($database // 'postgres',
		"SELECT to_jsonb(j) - 'inputs' FROM gen_jobs AS j WHERE id = $id");
	return $json eq '' ? undef : JSON::PP->new->utf8->decode($json);
}

# Returns true once the job is in STATE. Returns false, and writes the job to the test's log, after the time-out of
# poll_query_until (PG_TEST_TIMEOUT_DEFAULT, 180 s).
sub wait_state
{
	my ($node, $id, $state, $database) = @_;
	$database //= 'postgres';
	return 1
	  if $node->poll_query_until($database, "SELECT state = '$state' FROM gen_jobs WHERE id = $id");
	diag(
		"job $id is not $state but: "
		  . $node->safe_psql(
			$database,
			"SELECT state, attempt, error, attempt_errors FROM gen_jobs WHERE id = $id"));
	return 0;
}

# True once no job waits or runs any more.
sub wait_all_ended
{
	my ($node, $database) = @_;
	$database //= 'postgres';
	return 1
	  if $node->poll_query_until(
		$database, q{
		SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE state IN ('waiting', 'queued', 'running'))});
	diag("not all jobs ended: "
		  . $node->safe_psql($database, "SELECT state, count(*) FROM gen_jobs GROUP BY state"));
	return 0;
}

# True once no job of a server is queued or runs.
sub wait_server_ended
{
	my ($node, $server) = @_;
	return $node->poll_query_until('postgres',
		"SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = '$server' AND state IN ('queued', 'running'))");
}

# Resumes a paused server until N of its jobs have been started.
sub start_and_stop_after
{
	my ($server, $n) = @_;
	my $started = "SELECT count(*) >= $n FROM gen_jobs WHERE server = '$server' AND attempt > 0";
	query("SELECT genjob.resume('$server')");
	$first_node->poll_query_until('postgres', $started) or die "server $server has not started $n jobs";
	query("SELECT genjob.pause('$server')");
	return;
}

# Passes once all jobs of a server have succeeded.
sub eventually_succeed
{
	my ($server, $what) = @_;
	return eventually("SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE server = '$server'", $what);
}

# True once CODE gives a true value; false if it does not within the time-out of poll_query_until.
sub poll_until
{
	my ($code) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $code->();
		sleep 0.1;
	}
	return 0;
}

# The process id of a database's dispatcher, or the empty string when there is none now.
sub dispatcher_pid
{
	my ($node, $database) = @_;
	$database //= 'postgres';
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher' AND datname = '$database'"
	);
}

# Waits for a dispatcher in a database, other than the process OTHER_THAN (as after killing that
# one), and gives its process id.
sub wait_dispatcher
{
	my ($node, $database, $other_than) = @_;
	$database //= 'postgres';
	$other_than ||= 0;
	$node->poll_query_until(
		'postgres', qq{
		SELECT count(*) = 1 FROM pg_stat_activity
		WHERE backend_type = 'genjob dispatcher' AND datname = '$database' AND pid <> $other_than})
	  or die("no genjob dispatcher came up in database $database");
	return dispatcher_pid($node, $database);
}

# Kills the dispatcher of that server's database postgres, and waits for the next one. Gives its process id.
sub kill_dispatcher
{
	my $pid = wait_dispatcher($first_node);
	kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	return wait_dispatcher($first_node, 'postgres', $pid);
}

# Reads an HTTP request with its body, for a server that is a part of a test; nothing if the client has hung up.
sub read_request
{
	my ($client) = @_;
	my $text = '';
	while ($text !~ /\r\n\r\n/)
	{
		sysread($client, $text, 65536, length $text) or return;
	}
	my ($length) = $text =~ /content-length: (\d+)/i;
	my $all = index($text, "\r\n\r\n") + 4 + ($length // 0);
	while (length $text < $all)
	{
		sysread($client, $text, 65536, length $text) or return;
	}
	return $text;
}

# How often a process has gone to sleep.
sub voluntary_switches
{
	my ($pid) = @_;
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m
	  or die "/proc/$pid/status has no count of switches";
	return $n;
}

# MB that a process has for itself.
sub private_memory
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/smaps_rollup") =~ /^Pss_Anon:\s+(\d+) kB/m;
	return $kb / 1024;
}

# Returns why figures of memory mean nothing in this run (a sanitizer has its own memory for each byte), or nothing.
sub figures_mean_nothing
{
	return $ENV{SANITIZE} ? 'memory and time under a sanitizer are not what they are without' : undef;
}

# Passes if a figure of memory or time is below $most, or means nothing in this run.
sub takes_less
{
	my ($figure, $most, $name) = @_;
  SKIP:
	{
		skip figures_mean_nothing(), 1 if figures_mean_nothing();
		cmp_ok($figure, '<', $most, $name);
	}
	return;
}

# Processor time of a turn, in ms: how long it waits for a processor depends on what else this machine does. Some 6 ms
# are usual; a virtual machine may be a third as fast for seconds.
my $longest_turn = 60;

# Passes if no turn of the dispatcher's loop was long since that offset of the log, which is to be of debug1.
sub no_turn_is_long
{
	my ($node, $offset, $what) = @_;
	my ($processor, $all) = (0, 0);
	foreach (split /\n/, slurp_file($node->logfile, $offset))
	{
		my ($took, $worked) = /a turn took (\d+) ms, (\d+) of them on the processor/ or next;
		$processor = $worked if $worked > $processor;
		$all = $took if $took > $all;
	}
	note("$what: $processor ms on the processor, $all ms in all");
	takes_less($processor, $longest_turn, "$what: no turn takes $longest_turn ms");
	return;
}

# Runs SQL that no commit reports: without triggers. Afterwards each is what it was.
sub run_unreported
{
	my ($node, $sql) = @_;
	my $enable = $node->safe_psql('postgres', q{
		SELECT string_agg(format('ALTER TABLE gen_jobs ENABLE %s TRIGGER %I;',
			CASE tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'R' THEN 'REPLICA' END, tgname), ' ')
		FROM pg_trigger WHERE tgrelid = 'gen_jobs'::regclass AND NOT tgisinternal AND tgenabled <> 'D'});
	$node->safe_psql('postgres', "BEGIN; ALTER TABLE gen_jobs DISABLE TRIGGER USER; $sql; $enable COMMIT");
	return;
}

# A value as an SQL literal.
sub literal
{
	my ($value) = @_;
	return 'NULL' unless defined $value;
	$value =~ s/'/''/g;
	my $escapes = $value =~ s/\\/\\\\/g;
	return ($escapes ? "E'" : "'") . $value . "'";
}

1;

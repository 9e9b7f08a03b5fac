# A process that stands still: stopped by a signal, waiting for a lock, waiting for a standby that is away. What came in
# that time has come in time: no answer is taken for late, none is called for twice, and a cancel is obeyed.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $n = 50;
my $node = new_node(init => { allows_streaming => 1 }, conf => 'log_min_messages = warning');
my $standin = StandIn->new;
my $pid = dispatcher_pid($node);

create_server($node, 'hasty', 'openai-images', $standin, timeout => '2 s', max_in_flight => $n);
create_server($node, 'patient', 'http', $standin, path => '/binary', max_in_flight => $n);
create_server($node, 'asked', 'replicate', $standin, model => 'm', timeout => '4 s', poll_interval => '100 ms', max_in_flight => $n);

sub insert
{
	my ($server, $script) = @_;
	my $request = literal(StandIn::request(prompt => 'x', standin => $script));
	query("INSERT INTO gen_jobs (server, request) SELECT '$server', jsonb_set($request, '{standin,id}', to_jsonb('$server' || i)) FROM generate_series(1, $n) i");
	return;
}

# All calls of a server have arrived at the stand-in. On a busy machine some may have been answered by then.
sub under_way
{
	return $standin->wait_for(sub { $_[0]{total} >= $n });
}

sub all_once
{
	my ($server, $what) = @_;
	ok(wait_all_ended($node), "$what: all end");
	is(query("SELECT state, count(*), max(attempt) FROM gen_jobs WHERE server = '$server' GROUP BY 1"), "succeeded|$n|1", '... with success, at the first attempt');
	return is($standin->counts(summary => 1)->{max_per_key}, 1, '... and none was called twice');
}

sub begin
{
	my ($server, $script) = @_;
	query('DELETE FROM gen_jobs');
	$standin->reset;
	insert($server, $script);
	return under_way();
}

# Stops the dispatcher for so many seconds.
sub stop_for
{
	my ($seconds) = @_;
	kill 'STOP', $pid;
	sleep $seconds;
	return kill 'CONT', $pid;
}

subtest 'wires 51: answers that came while the process was stopped for longer than timeout are not late' => sub {
	begin('hasty', { latency_ms => 1000 });
	stop_for(4);
	all_once('hasty', 'stopped');
};

subtest 'wires 52: nor are those that came in part, and wait to be read' => sub {
	begin('hasty', { faults => [ { latency_ms => 500, drip => { bytes => 100, every_ms => 100 } } ] });
	stop_for(4);
	all_once('hasty', 'stopped within answers');
};

subtest 'wires 53: predictions that ended while the process was stopped are asked about' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	insert('asked', { latency_ms => 2500 });
	$node->poll_query_until('postgres', 'SELECT count(remote_id) = 50 FROM gen_jobs');
	stop_for(6);
	all_once('asked', 'stopped between questions');
};

subtest 'wires 54: answers that came while gen_jobs was locked for longer than timeout are not late' => sub {
	my $session = Session->new($node);
	begin('hasty', { latency_ms => 1000 });
	$session->query('BEGIN; LOCK TABLE gen_jobs');
	# so that the dispatcher has something to write, and waits for the lock
	sleep 4;
	$session->query('COMMIT');
	all_once('hasty', 'locked');
	$session->quit;
};

subtest 'wires 55: a server that does not answer is given up in time, before and after' => sub {
	query('DELETE FROM gen_jobs');
	my $id = enqueue($node, 'hasty', StandIn::request(prompt => 'never', standin => { outcome => 'never' }), max_attempts => 1);
	ok(wait_state($node, $id, 'failed'), 'it fails');
	my $took = query("SELECT extract(epoch FROM finished_at - started_at) FROM gen_jobs WHERE id = $id");
	cmp_ok($took, '>=', 2, '... not before its timeout');
	cmp_ok($took, '<', 60, '... nor long after');
};

# On a machine that is busy with other things the dispatcher may stand still after all: one try in five suffices.
subtest 'an answer that comes half a second after timeout is late if the process does not stand still' => sub {
	my ($state, $took, $error);
	foreach (1 .. 5)
	{
		query('DELETE FROM gen_jobs');
		my $request = StandIn::request(prompt => "late $_", latency_ms => 2500);
		my $id = enqueue($node, 'hasty', $request, max_attempts => 1);
		ok(wait_all_ended($node), 'it ends');
		($state, $took, $error) = split /\|/,
		  query("SELECT state, extract(epoch FROM finished_at - started_at), error FROM gen_jobs WHERE id = $id");
		last if $state eq 'failed' && $took < 2.5;
	}
	is($state, 'failed', '... as failed');
	cmp_ok($took, '<', 2.5, '... before the answer');
	like($error, qr/timeout/, '... by its timeout');
};

# ---- a synchronous standby that is away ----

$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'");
$node->reload;
$node->poll_query_until('postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication") or die('no synchronous standby');

subtest 'wires 56: answers that come while a synchronous standby is away for longer than timeout are not late' => sub {
	begin('hasty', { latency_ms => 1000 });
	$standby->stop;
	sleep 4;
	$standby->start;
	all_once('hasty', 'without a standby');
};

# Without waiting for the standby, as an application may
sub query_locally { my ($sql) = @_; return query("SET synchronous_commit = local; $sql"); }

subtest 'wires 57: a cancel takes effect while a commit would wait for a standby, and no new call begins' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	my $id = enqueue($node, 'asked', StandIn::request(prompt => 'cancelled', latency_ms => 60_000));
	ok($node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id"), 'a prediction runs');
	my $calling = enqueue($node, 'patient', StandIn::request(prompt => 'cut', latency_ms => 3_000));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	$standby->stop;
	# what the dispatcher commits from now on waits for nobody
	query_locally(q{INSERT INTO gen_jobs (server, request) VALUES ('hasty', '{"prompt": "later"}')});
	query_locally("SELECT genjob.cancel($id)");
	ok($node->poll_query_until('postgres', "SELECT coalesce(error ~ 'confirmed it', false) FROM gen_jobs WHERE id = $id"), 'it is cancelled, at the provider, too');
	ok(wait_state($node, $calling, 'succeeded'), '... what is answered is written');
	is($standin->counts->{ids}{later}{arrived} // 0, 0, '... and what a failover would forget is not begun');
	$standby->start;
	ok($node->poll_query_until('postgres', q{SELECT state = 'succeeded' FROM gen_jobs WHERE request ->> 'prompt' = 'later'}), '... until the standby is back');
	is(query('SELECT max(attempt) FROM gen_jobs'), 1, 'nothing was begun twice');
};

# Claims a job, which the standby does not know of when it is gone: its call waits.
create_server($node, 'dear', 'openai-images', $standin, on_unknown => 'fail');

sub claim_alone
{
	my ($prompt) = @_;
	query('DELETE FROM gen_jobs');
	$standin->reset;
	$standby->stop;
	query_locally(qq{INSERT INTO gen_jobs (server, request) VALUES ('dear', '{"prompt": "$prompt"}')});
	ok($node->poll_query_until('postgres', "SELECT state = 'running' FROM gen_jobs"), 'a job is claimed while the standby is away');
	return;
}

subtest 'wires 58: a claim that fails while others wait for a standby takes them for calls that were cut short' => sub {
	claim_alone('kept');
	my $owner = query(q{SELECT relowner::regrole FROM pg_class WHERE relname = 'gen_outputs'});
	query_locally("ALTER TABLE gen_outputs OWNER TO CURRENT_USER");
	query_locally(q{INSERT INTO gen_jobs (server, request) VALUES ('hasty', '{"prompt": "beside"}')});
	ok($node->poll_query_until('postgres', "SELECT state = 'troubled' FROM genjob.workers WHERE database = current_database()"),
		'then claims fail');
	query_locally("ALTER TABLE gen_outputs OWNER TO $owner");
	ok($node->poll_query_until('postgres', "SELECT state <> 'troubled' FROM genjob.workers WHERE database = current_database()"),
		'... and do not any more');
	is(query(q{SELECT state, attempt, losses FROM gen_jobs WHERE server = 'dear'}), 'running|1|0', '... the job is as it was');
	$standby->start;
	ok(wait_all_ended($node), '... and runs when the standby is back');
	is(query('SELECT DISTINCT state, attempt, losses FROM gen_jobs'), 'succeeded|1|0', '... in the attempt that it was claimed for');
};

subtest 'wires 59: a stop takes a job for a call that was cut short whose call waits for a standby' => sub {
	claim_alone('given back');
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->reload;
	ok($node->poll_query_until('postgres', "SELECT state = 'queued' FROM gen_jobs"), 'it is queued again');
	is(query('SELECT losses, failures, error IS NULL FROM gen_jobs'), '0|0|t', '... as if nothing had been');
	$standby->start;
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	ok(wait_all_ended($node), '... and runs');
	is(query('SELECT state, losses FROM gen_jobs'), 'succeeded|0', '... with success');
};

$standby->stop;
$standin->stop;
$node->stop('immediate');
done_testing();

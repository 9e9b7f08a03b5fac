# Large answers are judged and written by writers beside the dispatcher, and large requests are built by them: nobody else
# waits for them, and nothing is lost or done twice, whatever becomes of a writer.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use Shapes;
use StandIn;

use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(sleep time);

my $bytes = 3_000_000;
my $standin = StandIn->new;
my $node = new_node(
	name => 'writers',
	conf => "max_wal_size = 4GB\nautovacuum = off\nrestart_after_crash = on\ngenjob.shutdown_grace = '1 s'\nlog_min_messages = warning");
my ($port, $server_pid) = Shapes::serve();
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 50);

# Seconds that the dispatcher has been on a processor.
sub dispatcher_time
{
	my $pid = dispatcher_pid($node);
	return (split / /, slurp_file("/proc/$pid/schedstat"))[0] / 1e9;
}

sub writer_pids
{
	return split /\n/, query("SELECT pid FROM pg_stat_activity WHERE backend_type = 'genjob writer' ORDER BY 1");
}

# No writer is there, or not any more.
sub without_writers
{
	return $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'genjob writer'");
}

sub set_writers
{
	my ($n) = @_;
	query("ALTER SYSTEM SET genjob.max_writers = $n; SELECT pg_reload_conf()");
	without_writers() if $n == 0;
	return;
}

# A job whose answer has a shape.
sub ask
{
	my ($shape, $size) = @_;
	$size //= $bytes;
	my $name = "$shape $size";
	my %options = Shapes::options($port, $shape, $size);
	create_server($node, $name, delete $options{api}, delete $options{url}, %options, max_attempts => 3, retry_base => '10 ms')
	  unless query('SELECT count(*) FROM pg_foreign_server WHERE srvname = ' . literal($name));
	return enqueue($node, $name, '{"prompt": "a"}');
}

sub has_ended
{
	my ($id) = @_;
	return $node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id");
}

sub answered
{
	my $id = ask(@_);
	has_ended($id);
	return $id;
}

sub result_of
{
	my ($id) = @_;
	return query("SELECT state, attempt, error, md5(result::text), (SELECT string_agg(encode(sha256, 'hex'), ' ' ORDER BY ordinal)
		FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id = $id");
}

# A job of somebody else's is run at once.
sub others_go_on
{
	my ($what) = @_;
	return ok(wait_state($node, enqueue($node, 'painter', { prompt => "beside $what" }), 'succeeded'), "$what: others' jobs go on");
}

# Starts a writer, the only one, and gives its pid. After one that failed, the next one is not started at once.
sub start_writer
{
	set_writers(0);
	set_writers(2);
	answered('words') until writer_pids();
	return (writer_pids())[0];
}

# ---- what they do ----

# what answers come to without writers
my %here;
my @shapes = ('words', 'one string', 'lines of new members', 'fractions', 'zeros as a PNG', 'one picture', 'words in events');
set_writers(0);
$here{$_} = result_of(answered($_)) foreach @shapes;
is(join(' ', writer_pids()), '', 'without writers, the dispatcher does all');
set_writers(2);

subtest 'writers 1: what they make of answers is what the dispatcher would' => sub {
	start_writer();
	foreach my $shape (@shapes)
	{
		my $before = dispatcher_time();
		my $id = answered($shape);
		my $took = dispatcher_time() - $before;
		note(sprintf '%s: %.0f ms', $shape, 1000 * $took);
		takes_less($took, 0.1, "$shape: the dispatcher has little to do with 3 MB");
		is(result_of($id), $here{$shape}, '... and it comes to the same');
	}
	is(scalar(writer_pids()), 1, 'there is a writer');
	others_go_on('large answers');
};

# What a prediction comes to whose poll, result and file are large, and so is the answer that says whether it is there.
sub predicted
{
	my ($server, $name) = @_;
	my $huge = { huge => 3_000_000 };
	my $prompt = $server eq 'comfy' ? { 9 => { class_type => 'SaveImage', inputs => { text => 'a cat' } } } : 'a cat';
	my $id = enqueue($node, $server, StandIn::request(prompt => $prompt, standin => {
		id => $name, latency_ms => 100, poll_faults => [ $huge, $huge ], result_faults => [$huge], download_faults => [$huge],
		$server eq 'comfy' ? (faults => [ { cut => 'accept' } ]) : () }));
	has_ended($id);
	return query("SELECT state, attempt, failures, error, (SELECT string_agg(content_type || ' ' || bytes || ' ' || encode(sha256, 'hex'), ' ' ORDER BY ordinal)
		FROM gen_outputs WHERE job_id = id) FROM gen_jobs WHERE id = $id");
}

subtest 'writers 2: nor does it matter what was asked' => sub {
	my @servers = qw(replicate fal comfy);
	create_server($node, 'replicate', 'replicate', $standin, model => 'painter', poll_interval => '50 ms');
	create_server($node, 'fal', 'fal', $standin, model => 'fal-ai/painter', poll_interval => '50 ms');
	create_server($node, 'comfy', 'comfyui', $standin, poll_interval => '50 ms', retry_base => '10 ms');
	set_writers(0);
	my %without = map { $_ => predicted($_, "without $_") } @servers;
	set_writers(2);
	foreach my $server (@servers)
	{
		like($without{$server}, qr/^succeeded\|1\|0\|\|\S+ 3\d{6} /, "$server: a prediction with large answers is done without writers");
		is(predicted($server, "with $server"), $without{$server}, '... and comes to the same with them');
	}
	is(scalar(writer_pids()), 1, 'there is a writer');
};

# The time that nine in ten of small jobs take from their INSERT to their call at most, while large answers come.
sub pickup
{
	my @large = map { ask($_, 20_000_000) } ('zeros as a PNG') x 3, ('one picture') x 3;
	my $large = join ',', @large;
	my @small;
	while (query("SELECT count(*) FROM gen_jobs WHERE id IN ($large) AND state IN ('queued', 'running')") > 0 || @small < 20)
	{
		push @small, enqueue($node, 'painter', '{"prompt": "small"}');
	}
	return query("SELECT percentile_disc(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at)) FROM gen_jobs
		WHERE id IN (" . join(',', @small) . ')');
}

subtest 'writers 3: small jobs do not wait for large answers' => sub {
	my ($with, $without);
	# on a busy machine all have to wait for a processor, now more and now less
	foreach (1 .. 4)
	{
		set_writers(0);
		$without = pickup();
		set_writers(2);
		$with = pickup();
		note(sprintf 'picked up after %.0f ms, without writers %.0f', 1000 * $with, 1000 * $without);
		last if $with < $without / 2 || $with < 0.05;
	}
	takes_less($with, $without / 2 > 0.05 ? $without / 2 : 0.05, 'they are picked up far sooner than without writers');
};

# ---- what becomes of them ----

# What writers write of answers like that waits for $node's lock 1.
query(q{CREATE TABLE held (how text);
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
	DECLARE how text := (SELECT h.how FROM public.held h);
	BEGIN
		IF how = 'wait' THEN
			PERFORM pg_advisory_xact_lock(1);
		ELSIF current_setting('application_name') LIKE 'genjob writer%' AND how = 'fatal' THEN
			PERFORM set_config('exit_on_error', 'on', false);
			RAISE EXCEPTION 'this process ends';
		ELSIF current_setting('application_name') LIKE 'genjob writer%' AND how = 'crash' THEN
			COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID';
			PERFORM pg_sleep(10);
		ELSIF how = 'error' THEN
			RAISE EXCEPTION 'not now';
		END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER hold BEFORE UPDATE ON gen_jobs FOR EACH ROW
		WHEN (NEW.state IN ('succeeded', 'failed') AND NEW.server <> 'painter') EXECUTE FUNCTION hold()});

sub hold
{
	my ($how) = @_;
	query('TRUNCATE held');
	query("INSERT INTO held VALUES ('$how')") if defined $how;
	return;
}

sub wait_for_writer
{
	my ($what) = @_;
	return $node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'genjob writer' AND $what");
}

subtest 'writers 4: one waits for a lock' => sub {
	start_writer();
	my $session = Session->new($node);
	$session->query('SELECT pg_advisory_lock(1)');
	hold('wait');
	my $id = ask('words');
	ok(wait_for_writer("wait_event_type = 'Lock'"), 'it waits');
	others_go_on('a writer that waits');
	query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = ' . literal('genjob writer'));
	$session->query('SELECT pg_advisory_unlock(1)');
	has_ended($id);
	is(result_of($id), $here{words}, 'what it has to write is written, though it was told to stop');
	hold();
};

subtest 'writers 5: one that ends by an error loses nothing' => sub {
	start_writer();
	hold('fatal');
	my $id = answered('words');
	is(result_of($id), $here{words}, 'the dispatcher writes what it had');
	hold('error');
	$id = ask('fractions');
	ok($node->poll_query_until('postgres', q{SELECT last_error ~ 'not now' FROM genjob.workers WHERE database = 'postgres'}),
		'an error of a trigger is shown');
	others_go_on('a trigger that raises errors');
	hold();
	has_ended($id);
	is(result_of($id), $here{fractions}, 'and then it is written');
};

subtest 'writers 6: one that crashes takes the server with it, but not for ever' => sub {
	start_writer();
	hold('crash');
	my $id = ask('words');
	ok($node->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE id = $id"), 'its job is put aside');
	like(query("SELECT attempt || ' ' || error FROM gen_jobs WHERE id = $id"), qr/^2 PostgreSQL crashed while/, '... at the second time');
	hold();
	others_go_on('then');
};

subtest 'writers 7: a job goes while a writer has it' => sub {
	my $pid = start_writer();
	kill 'STOP', $pid;
	my $id = ask('words');
	ok($node->poll_query_until('postgres', "SELECT bytes_received >= 2900000 FROM genjob.activity WHERE job_id = $id"), 'it is being sent');
	others_go_on('a writer that stands still');
	query("SELECT genjob.cancel($id)");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM genjob.activity WHERE job_id = $id"), 'a cancel is obeyed');
	$id = ask('fractions');
	query("SELECT pg_sleep(0.2); DELETE FROM gen_jobs WHERE id = $id");
	kill 'CONT', $pid;
	is(result_of(answered('words')), $here{words}, '... and the writer goes on with the next');
	ok((grep { $_ == $pid } writer_pids()), '... the same one');
	is(query('SELECT count(*) FROM gen_outputs o WHERE NOT EXISTS (SELECT FROM gen_jobs WHERE id = o.job_id)'), 0, 'nothing is left');
};

subtest 'writers 16: a job is cancelled while its result waits for a writer' => sub {
	create_server($node, 'predictions', 'replicate', $standin, model => 'stand-in/painter:1', poll_interval => '50 ms');
	start_writer();
	set_writers(1);
	my $session = Session->new($node);
	$session->query('SELECT pg_advisory_lock(1)');
	hold('wait');
	my ($first, $second) = map { enqueue($node, 'predictions', StandIn::request(prompt => $_, size => '600x600')) } 1, 2;
	ok(wait_for_writer("wait_event_type = 'Lock'"), 'a writer waits with a result');
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM genjob.activity WHERE job_id IN ($first, $second) AND phase = 'saving'"),
		'... and another result waits for it');
	query("SELECT genjob.cancel($second)");
	$session->query('SELECT pg_advisory_unlock(1)');
	$session->quit;
	ok(wait_state($node, $first, 'succeeded'), 'the first one is written');
	is(query("SELECT state FROM gen_jobs WHERE id = $second"), 'cancelled', '... the other is cancelled');
	hold();
	others_go_on('then');
	set_writers(2);
};

subtest 'writers 8: the dispatcher is told to stop while a writer stands still' => sub {
	start_writer();
	my $dispatcher = dispatcher_pid($node);
	kill 'STOP', $_ foreach writer_pids();
	my @ids = map { ask($_) } 'words', 'fractions', 'zeros as a PNG';
	sleep 1;
	my @writers = writer_pids();
	kill 'STOP', $_ foreach @writers;
	my $begun = time;
	query("SELECT pg_terminate_backend($dispatcher)");
	wait_dispatcher($node, 'postgres', $dispatcher);
	my $took = time - $begun;
	note(sprintf 'it has left after %.1f s', $took);
	takes_less($took, 10, 'it leaves soon');
	kill 'CONT', $_ foreach @writers;
	has_ended($_) foreach @ids;
	is_deeply([ map { result_of($_) } @ids ], [ @here{ 'words', 'fractions', 'zeros as a PNG' } ],
		'and every answer is there, in the first attempt');
};

subtest 'writers 9: the server is stopped while they are at work' => sub {
	start_writer();
	my $session = Session->new($node);
	$session->query('SELECT pg_advisory_lock(1)');
	hold('wait');
	my $id = ask('words');
	wait_for_writer("wait_event_type = 'Lock'");
	my $begun = time;
	$node->stop('fast');
	takes_less(time - $begun, 10, 'it stops soon');
	$node->start;
	hold();
	has_ended($id);
	is(result_of($id), $here{words}, 'what could not be written is written after the start');
};

subtest 'writers 10: a database is dropped while one of its writers is there' => sub {
	query('CREATE DATABASE other');
	$node->safe_psql('other', 'CREATE EXTENSION genjob');
	my %options = Shapes::options($port, 'words', $bytes);
	create_server($node, 'words', delete $options{api}, delete $options{url}, %options, database => 'other');
	my $id = enqueue($node, 'words', '{"prompt": "a"}', database => 'other');
	ok(wait_state($node, $id, 'succeeded', 'other'), 'it has written something');
	ok(wait_for_writer("datname = 'other'"), 'it is there');
	query('DROP DATABASE other');
	ok(without_writers() || 1, 'the database is gone');
};

# ---- large requests ----

query(q{CREATE TABLE large AS SELECT (SELECT jsonb_agg(v) FROM generate_series(1, 400000) v) AS list,
		(SELECT string_agg(sha512(v::text::bytea), '') FROM generate_series(1, 400000) v) AS bytes});

# A job with a request of many values, or with a large input.
sub order
{
	my ($server, $request, $input) = @_;
	return query('INSERT INTO gen_jobs (server, request, inputs) SELECT ' . literal($server) . ", $request, " . ($input // 'NULL') . ' FROM large RETURNING id');
}

my @orders = (
	[ 'json', q{jsonb_build_object('list', (SELECT jsonb_agg(v) FROM generate_series(1, 50000) v), 'text', chr(233) || chr(92) || '"')} ],
	[ 'json', q{'{"image": {"$input": 1}, "mask": {"$input": 2}}'}, q{ARRAY[substr(bytes, 1, 1000000), ''::bytea]} ],
	[ 'form', q{'{"image": {"$input": 1}, "n": 3}'}, q{ARRAY[substr(bytes, 1, 1000000)]} ],
	[ 'raw', q{'{"image": {"$input": 1}, "n": 3}'}, q{ARRAY[substr(bytes, 1, 1000000)]} ],
	[ 'signed', q{'{"image": {"$input": 1}}'}, q{ARRAY[substr(bytes, 1, 1000000)]} ],
	[ 'json', q{'{"image": {"$input": 3}}'}, q{ARRAY[substr(bytes, 1, 1000000)]} ]);

# What a server gets, as it echoes it, but for what differs each time.
sub echoed
{
	my ($server, @columns) = @_;
	my ($code, $id, $error) = $node->psql('postgres', 'INSERT INTO gen_jobs (server, request, inputs) SELECT ' . literal($server) . ", $columns[0], " . ($columns[1] // 'NULL') . ' FROM large RETURNING id');
	return $error if $code != 0;
	has_ended($id);
	my $text = query("SELECT coalesce(result::text, error) FROM gen_jobs WHERE id = $id");
	$text =~ s/("base64": ")([^"]*)/$1 . decode_base64($2)/e;
	$text =~ s/[0-9a-f]{8}-[0-9a-f-]{27}/KEY/g;
	$text =~ s/(X-Amz-Date": ")[^"]*|(Signature=)[0-9a-f]*/DATE/gi;
	return $text;
}

subtest 'writers 12: what they build of large requests is what the dispatcher would' => sub {
	my %echo = (path => '/echo', headers => '{"X-Team": "art"}', defaults => '{"d": [1, null]}', max_response => '64MB');
	create_server($node, 'json', 'http', $standin, %echo, auth => 'header:X-Key');
	create_server($node, 'form', 'http', $standin, %echo, body => 'multipart', inputs_body => 'multipart');
	create_server($node, 'raw', 'http', $standin, %echo, inputs_body => 'raw');
	create_server($node, 'signed', 'http', $standin, %echo, auth => 'sigv4', region => 'eu-1', service => 'execute-api');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER signed OPTIONS (ADD access_key_id 'AKIDEXAMPLE', ADD secret_access_key 'wJalrXUtnFEMI')});
	set_writers(0);
	my @without = map { echoed(@$_) } @orders;
	set_writers(2);
	foreach my $i (0 .. $#orders)
	{
		my $with = echoed(@{ $orders[$i] });
		ok($with eq $without[$i], "$orders[$i][0]: the same is sent") or diag(substr($without[$i], 0, 500), "\n", substr($with, 0, 500));
	}
	ok(length $without[0] > 300_000, 'of some size');
	like($without[-1], qr/input/, '... or the same is refused');
};

subtest 'writers 13: small jobs do not wait for large requests' => sub {
	my @large = (
		[ 'values', q{jsonb_build_object('prompt', 'a', 'list', list)} ],
		[ 'bytes', q{'{"prompt": "a", "image": {"$input": 1}}'}, q{ARRAY[bytes]} ]);
	my %took;
	create_server($node, 'inline', 'http', $standin, path => '/v1/images/generations', output => '/data/*/b64_json');
	foreach my $n (0, 2)
	{
		set_writers($n);
		foreach my $large (@large)
		{
			my $before = dispatcher_time();
			my $id = order('inline', @$large[ 1, 2 ]);
			has_ended($id);
			$took{$n}{ $large->[0] } = dispatcher_time() - $before;
		}
	}
	foreach my $what (map { $_->[0] } @large)
	{
		note(sprintf '%s: %.0f ms of the dispatcher, without writers %.0f', $what, 1000 * $took{2}{$what}, 1000 * $took{0}{$what});
		takes_less($took{2}{$what}, $took{0}{$what} * 2 / 3, "a request of many $what takes far less of the dispatcher");
	}
};

subtest 'writers 14: a job goes while a writer builds its request' => sub {
	my $list = q{jsonb_build_object('prompt', 'a', 'list', list)};
	my $pid = start_writer();

	kill 'STOP', $pid;
	my @ids = map { order('painter', $list) } 1 .. 2;
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2 FROM gen_jobs WHERE id IN ($ids[0], $ids[1]) AND state = 'running'"), 'two are claimed');
	others_go_on('a writer that stands still');
	query("SELECT genjob.cancel($ids[0]); DELETE FROM gen_jobs WHERE id = $ids[1]");
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM genjob.activity WHERE job_id IN ($ids[0], $ids[1])"), 'a cancel is obeyed, and a DELETE');
	kill 'CONT', $pid;
	my $id = order('painter', $list);
	ok(wait_state($node, $id, 'succeeded'), 'the writer goes on with the next');
	is(query("SELECT state, remote IS NULL FROM gen_jobs WHERE id = $ids[0]"), 'cancelled|t', 'nothing was sent of the first');
};

subtest 'writers 15: a writer ends, or the dispatcher does, while a request is built' => sub {
	my $list = q{jsonb_build_object('prompt', 'a', 'list', list)};
	my $pid = start_writer();
	my $dispatcher = dispatcher_pid($node);

	kill 'STOP', $pid;
	my $id = order('painter', $list);
	ok($node->poll_query_until('postgres', "SELECT state = 'running' FROM gen_jobs WHERE id = $id"), 'it is claimed');
	query("SELECT pg_terminate_backend($dispatcher)");
	wait_dispatcher($node, 'postgres', $dispatcher);
	kill 'CONT', $pid;
	ok(wait_state($node, $id, 'succeeded'), 'after a stop the next dispatcher begins it');
	is(query("SELECT attempt, losses, failures, unknown_ends FROM gen_jobs WHERE id = $id"), '2|0|0|0', '... and knows that nothing had been sent');
	# one that has a request, and is told to end, ends when it is built; one that crashes takes the server with it
	$pid = start_writer();
	kill 'STOP', $pid;
	$id = order('painter', $list);
	ok($node->poll_query_until('postgres', "SELECT state = 'running' FROM gen_jobs WHERE id = $id"), 'another one is claimed');
	kill 'KILL', $pid;
	ok($node->poll_query_until('postgres', "SELECT state = 'succeeded' FROM gen_jobs WHERE id = $id"), 'it is run after a crash');
};

# ---- where there is none ----

subtest 'writers 11: no background worker is free' => sub {
	query('ALTER SYSTEM SET max_worker_processes = 3');
	$node->restart;
	wait_dispatcher($node);
	my $id = answered('words');
	is(result_of($id), $here{words}, 'the dispatcher does all');
	like(query('SELECT last_error FROM genjob.workers WHERE last_error IS NOT NULL'),
		qr/no background worker is free to read and write large answers.*max_worker_processes/, '... and says so');
	query('ALTER SYSTEM RESET max_worker_processes');
	$node->restart;
	wait_dispatcher($node);
};

is($standin->counts->{max_per_key} // 1, 1, 'no call was made twice');
kill 'TERM', $server_pid;
$node->stop;
done_testing();

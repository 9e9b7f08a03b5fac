# Lambda, SQS and Step Functions when they answer oddly, and genjob.complete() in the hands of a worker that
# means no good.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use Time::HiRes qw(time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;

my $aws = PythonServer->new('services.py');
plan skip_all => 'not installed: ' . $aws->missing if $aws->missing;

my $node = new_node();
my $http = HTTP::Tiny->new(timeout => 30);
my $json = JSON::PP->new->utf8->canonical->allow_nonref;

my $machine = 'arn:aws:states:eu-central-1:123456789012:stateMachine:resize';
my $queue = 'https://sqs.eu-central-1.amazonaws.com/123456789012/orders';
my %keys = (access_key_id => 'AKIDEXAMPLE', secret_access_key => 'wJalrXUtnFEMI');
my $no_token = qr/does not wait for an answer with this token/;

sub ask { return $json->decode($http->get($aws->url($_[0]))->{content}) }
sub inform { return $http->post($aws->url($_[0]), { content => $json->encode($_[1]) }) }
sub faults { return inform('/_faults', { faults => [@_] }) }
sub reply { my ($status, $headers, $body, $times) = @_; return { reply => { status => $status, headers => $headers,
	body => $body, times => $times // 1 } } }
sub refused { my ($status, $type, $body) = @_; return reply($status, { 'x-amzn-ErrorType' => $type },
	$json->encode($body)) }
sub executions { my ($pattern) = @_; return grep { $_->{input} =~ $pattern } @{ ask('/_executions') } }

sub server
{
	my ($name, $api, $model, %more) = @_;
	return create_server($node, $name, $api, $aws, region => 'eu-central-1', model => $model, retry_base => '50 ms',
		retry_max => '100 ms', mapping => \%keys, %more);
}

# A job that a function has now, and its token.
sub hand_over
{
	my ($server) = (@_, 'event');
	my $id = enqueue($node, $server, {});
	$node->poll_query_until('postgres',
		"SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id") or die "job $id stays";
	my ($call) = grep { ($_->{body}{genjob}{job} // 0) == $id } @{ ask('/_calls') };
	return ($id, $call->{body}{genjob}{token});
}

sub state_of { return query("SELECT state FROM gen_jobs WHERE id = $_[0]") }

server('event', 'aws-lambda', 'paint', reply => 'hand-over', max_in_flight => 50);
server('short', 'aws-lambda', 'paint', reply => 'hand-over', timeout => '2 s', max_in_flight => 50);
server('call', 'aws-lambda', 'paint');
server('steps', 'aws-sfn', $machine, poll_interval => '50 ms');
server('queue', 'aws-sqs', $queue);
query('CREATE ROLE worker LOGIN; CREATE ROLE reader LOGIN');

# ---- genjob.complete() ----

subtest 'a token is guessed 10,000 times' => sub {
	my ($id, $token) = hand_over();
	my $guess = sub {
		my ($n) = @_;
		return query(qq{DO \$\$ DECLARE refused int := 0; BEGIN
			FOR i IN 1 .. $n LOOP
				BEGIN PERFORM genjob.complete($id, encode(sha256(i::text::bytea), 'hex'), '{}');
				EXCEPTION WHEN invalid_parameter_value THEN refused := refused + 1; END;
			END LOOP;
			ASSERT refused = $n; ASSERT pg_current_xact_id_if_assigned() IS NULL; END \$\$;
			SELECT 'all refused'}, 'postgres', 'worker');
	};
	is($guess->(10000), 'all refused', 'no guess is taken, and none gets a transaction id');
	my $memory = q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts};
	my $loop = q{DO $$ BEGIN FOR i IN 1 .. %d LOOP BEGIN PERFORM genjob.complete(} . $id . q{, 'no', '{}');
		EXCEPTION WHEN invalid_parameter_value THEN NULL; END; END LOOP; END $$; };
	my (undef, $out) = $node->psql('postgres', sprintf($loop, 300) . "$memory; " . sprintf($loop, 3000) . $memory);
	my ($before, $after) = split /\n/, $out;
	cmp_ok($after - $before, '<', 1e6, 'a session that guesses does not grow') or diag($out);
	is(state_of($id), 'running', 'the job waits on');
	is(query("SELECT genjob.complete($id, '$token', '1')", 'postgres', 'worker'), 't', '... and takes its answer');
};

subtest 'odd tokens, ids and errors' => sub {
	my ($id, $token) = hand_over();
	foreach my $odd (q{''}, "'$token '", "upper('$token')", "left('$token', 63)", "'$token' || E'\\n'",
		"encode(sha256('$token'), 'hex')", "repeat('a', 1000000)", "'%s%n'")
	{
		like(refusal_of("SELECT genjob.complete($id, $odd, '1')", 'postgres', 'worker'), $no_token, "the token $odd");
	}
	foreach my $other (0, -1, '9223372036854775807', '-9223372036854775808')
	{
		like(refusal_of("SELECT genjob.complete($other, '$token')", 'postgres', 'worker'), $no_token, "job $other");
	}
	is(query("SELECT genjob.complete(NULL, '$token') IS NULL AND genjob.complete($id, NULL) IS NULL", 'postgres',
		'worker'),
		't', 'nothing for nothing');
	like(refusal_of(qq{SELECT genjob.complete($id, '$token', NULL, repeat('x', 65537))}), qr/longer than 65536 bytes/,
		'an error that is too long');
	is(state_of($id), 'running', 'none of them ended the job');
	is(query(qq{SELECT genjob.complete($id, '$token', NULL, '')}, 'postgres', 'worker'), 't',
		'an error without a word');
	is(query("SELECT concat(state, '|', error = '') FROM gen_jobs WHERE id = $id"), 'failed|t', '... is an error');
};

subtest 'results that do harm' => sub {
	my ($id, $token) = hand_over();
	like(refusal_of(qq{SELECT genjob.complete($id, '$token', '{"a": "\\u0000"}')}, 'postgres', 'worker'), qr/\\u0000/,
		'a NUL is none of JSON\'s that PostgreSQL keeps');
	my $deep = qq{SELECT genjob.complete($id, '$token', (repeat('[', 200000) || repeat(']', 200000))::jsonb)};
	like(refusal_of($deep, 'postgres', 'worker'), qr/stack depth/, 'depth without end');
	like(refusal_of(qq{SELECT genjob.complete($id, '$token', jsonb_build_object('a', repeat('x', 268435456)))},
		'postgres', 'worker'), qr/too long|too large|exceeds/i, 'a text that no jsonb can have');
	is(state_of($id), 'running', 'the job waits on');
	my $follower = query(qq{INSERT INTO gen_jobs (server, request, after) VALUES
		('queue', '{"MessageBody": {"\$result": [$id, ""]}}', ARRAY[$id]) RETURNING id});
	is(query(qq{SELECT genjob.complete($id, '$token', (SELECT jsonb_agg(jsonb_build_object('\$output', i, '\$url',
		's3://a/b'))
		FROM generate_series(1, 100000) i))}, 'postgres', 'worker'), 't', 'many words that are genjob\'s own');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $id"), 0, '... are words, and no outputs');
	query("SELECT genjob.wait($follower, '60 s')");
	isnt(state_of($follower), 'running', 'a job that takes them ends');
	($id, $token) = hand_over();
	is(query(qq{SELECT genjob.complete($id, '$token', to_jsonb(repeat('x', 50000000)))}, 'postgres', 'worker'), 't',
		'50 MB are an answer');
	is(query("SELECT length(result #>> '{}') FROM gen_jobs WHERE id = $id"), 50000000, '... which is there, whole');
};

subtest 'transactions of all kinds' => sub {
	my ($id, $token) = hand_over();
	my $complete = "SELECT genjob.complete($id, '$token', '1')";
	query("BEGIN; SAVEPOINT a; $complete; ROLLBACK TO a; COMMIT");
	is(state_of($id), 'running', 'rolled back to a savepoint, nothing was brought');
	like(refusal_of("BEGIN READ ONLY; $complete"), qr/read-only transaction/, 'a transaction that only reads');
	like(refusal_of("BEGIN READ ONLY; SELECT genjob.complete($id, 'no')"), $no_token,
		'... tells no more with a wrong token');
	query("BEGIN; $complete; PREPARE TRANSACTION 'answer'");
	is(state_of($id), 'running', 'prepared, it is not brought yet');
	restart_at_once($node);
	is(state_of($id), 'running', '... nor after a crash');
	query("COMMIT PREPARED 'answer'");
	is(query("SELECT state FROM genjob.wait($id, '60 s')"), 'succeeded', '... but once it is committed');
	eventually("SELECT NOT EXISTS (SELECT FROM genjob.activity WHERE job_id = $id)", 'the dispatcher lets go of it');
	($id, $token) = hand_over();
	is(query("SET row_security = off; SET search_path = ''; SET enable_indexscan = off;
		SET default_transaction_isolation = 'serializable';
		SELECT genjob.complete($id, '$token', '1')", 'postgres', 'worker'), 't', 'settings of a session do not matter');
};

subtest 'two bring the answer at once' => sub {
	my ($id, $token) = hand_over();
	my $first = $node->background_psql('postgres');
	my $second = $node->background_psql('postgres');
	$first->query_safe("BEGIN; SELECT genjob.complete($id, '$token', '1')");
	$second->query_until(qr/begun/, "\\echo begun\nSELECT genjob.complete($id, '$token', '2');\n\\echo brought\n");
	eventually(q{SELECT count(*) > 0 FROM pg_locks WHERE NOT granted}, 'the second waits for the first');
	$first->query_safe('ROLLBACK');
	$second->query_safe('SELECT 1');
	is(query("SELECT concat(state, result) FROM gen_jobs WHERE id = $id"), 'succeeded2',
		'the first did not: the second did');
	$_->quit for $first, $second;
};

subtest 'a worker that holds its answer back holds up nobody else' => sub {
	my ($id, $token) = hand_over('short');
	my $worker = $node->background_psql('postgres');
	$worker->query_safe("SET ROLE worker; BEGIN; SELECT genjob.complete($id, '$token', '1')");
	eventually("SELECT now() > started_at + interval '2500 ms' FROM gen_jobs WHERE id = $id", 'its time is over');
	is(run_to_end($node, 'call', { n => $_ })->{state}, 'succeeded', "another job runs: $_") for 1 .. 3;
	my ($other) = hand_over('short');
	ok(wait_state($node, $other, 'failed'), 'another job of the server fails in time');
	$worker->query_safe('COMMIT');
	is(state_of($id), 'succeeded', 'the answer that was there first counts');
	eventually("SELECT NOT EXISTS (SELECT FROM genjob.activity WHERE job_id = $id)", 'the dispatcher lets go of it');
	$worker->quit;
	is(query("SELECT genjob.complete($id, '$token', '2')"), 'f', 'and no other');
};

subtest 'after its time, and by others' => sub {
	my ($id, $token) = hand_over('short');
	ok(wait_state($node, $id, 'failed'), 'nobody answers in time');
	like(refusal_of("SELECT genjob.complete($id, '$token', '1')", 'postgres', 'worker'), $no_token,
		'a late answer is refused');
	is(query("SELECT result IS NULL FROM gen_jobs WHERE id = $id"), 't', '... and leaves nothing');
	($id, $token) = hand_over();
	query('REVOKE EXECUTE ON FUNCTION genjob.complete FROM PUBLIC;
		GRANT EXECUTE ON FUNCTION genjob.complete TO worker');
	like(refusal_of("SELECT genjob.complete($id, '$token')", 'postgres', 'reader'), qr/permission denied/,
		'a role without EXECUTE');
	is(query("SELECT genjob.complete($id, '$token')", 'postgres', 'worker'), 't', '... and one with it');
	query('GRANT EXECUTE ON FUNCTION genjob.complete TO PUBLIC');
	($id, $token) = hand_over();
	query("ALTER SERVER event OPTIONS (SET reply 'body')");
	is(query("SELECT genjob.complete($id, '$token', '7')"), 't',
		'a server that hands over no more: its last answers come');
	query("ALTER SERVER event OPTIONS (SET reply 'hand-over')");
	server('brief', 'aws-lambda', 'paint', reply => 'hand-over');
	($id, $token) = hand_over('brief');
	query('DROP SERVER brief CASCADE');
	$node->psql('postgres', "SELECT genjob.complete($id, '$token', '7')");
	eventually("SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id",
		'a server that is dropped: the job ends');
};

# ---- Lambda ----

subtest 'Lambda throttles, for each of its reasons' => sub {
	foreach my $reason (qw(ReservedFunctionConcurrentInvocationLimitExceeded ConcurrentInvocationLimitExceeded
		ReservedFunctionInvocationRateLimitExceeded FunctionInvocationRateLimitExceeded CallerRateLimitExceeded
		ConcurrentSnapshotCreateLimitExceeded))
	{
		faults(refused(429, 'TooManyRequestsException', { Reason => $reason, Type => 'User',
			message => 'Rate Exceeded.', retryAfterSeconds => '0' }));
		my $job = run_to_end($node, 'call', { reason => $reason });
		is("$job->{state} $job->{failures}", 'succeeded 0', "$reason costs no attempt");
	}
	faults(refused(502, 'EC2ThrottledException', { Type => 'Server',
		Message => 'Lambda was throttled by Amazon EC2' }));
	my $job = run_to_end($node, 'call', {});
	is("$job->{state} $job->{failures} $job->{unknown_ends}", 'succeeded 0 0',
		'EC2 throttles: the function has not run');
};

subtest 'Lambda could not run the function' => sub {
	foreach my $case ([ 502, 'ENILimitReachedException' ], [ 502, 'SubnetIPAddressLimitReachedException' ], [ 502,
		'ResourceNotReadyException' ],
		[ 409, 'SnapStartNotReadyException' ], [ 409, 'ResourceConflictException' ], [ 408,
			'EFSMountTimeoutException' ], [ 410, 'EFSIOException' ],
		[ 500, 'ServiceException' ], [ 408, 'SnapStartTimeoutException' ])
	{
		my ($status, $type) = @$case;
		faults(refused($status, $type, { Type => 'Server', Message => 'not now' }));
		my $job = run_to_end($node, 'call', { type => $type });
		is("$job->{state} $job->{unknown_ends}", 'succeeded 0',
			"$type: called again, and nothing is in doubt") or diag($job->{error});
	}
	foreach my $case ([ 413, 'RequestTooLargeException' ], [ 400, 'InvalidRequestContentException' ], [ 400,
		'RecursiveInvocationException' ],
		[ 415, 'UnsupportedMediaTypeException' ], [ 502, 'KMSDisabledException' ], [ 502, 'InvalidZipFileException' ],
			[ 403, 'EFSMountFailureException' ],
		[ 502, 'KMSAccessDeniedException' ], [ 400, 'SnapStartException' ])
	{
		my ($status, $type) = @$case;
		faults((refused($status, $type, { Type => 'User', Message => 'mend it' })) x 9);
		my $job = run_to_end($node, 'call', { type => $type });
		like("$job->{state} $job->{failures} $job->{error}", qr/^failed 1 .*\b$type\b\)?: mend it/,
			"$type: somebody must mend that");
		faults();
	}
};

subtest 'a function fails, in many ways' => sub {
	my $fails = sub {
		my ($kind, $body, $times) = @_;
		faults(reply(200, { 'X-Amz-Function-Error' => $kind, 'X-Amz-Executed-Version' => '$LATEST',
			'X-Amz-Log-Result' => 'U1RBUlQgUmVxdWVzdElkOiAx' x 200 }, $body, $times));
		return run_to_end($node, 'call', { kind => $kind });
	};
	my $job = $fails->('Unhandled', '{"errorMessage": "2026-11-27T20:00:00Z 1-2-3 Task timed out after 3.00 seconds"}');
	like("$job->{state} $job->{failures} $job->{error}", qr/^failed 1 .*\(Unhandled\): .*Task timed out/,
		'its time is up');
	$job = $fails->('Unhandled',
		'{"errorType": "Runtime.ExitError", "errorMessage": "Error: Runtime exited with error: signal: killed"}');
	like($job->{error}, qr/signal: killed/, 'its memory is up');
	$job = $fails->('Handled', '{"errorMessage": {"a": [1]}, "stackTrace": []}');
	like("$job->{state} $job->{error}", qr/^failed .*\(Handled\)/, 'a message that is no text');
	is_deeply($job->{result}, { errorMessage => { a => [1] }, stackTrace => [] }, '... is kept');
	foreach my $body ('', 'null', '"just words"', '<html>', "\xff\xfe", '[' x 10000)
	{
		like(state_of($fails->('Unhandled', $body)->{id}), qr/failed/, 'a body of ' . (length $body)
			. ' bytes that says nothing');
	}
	$job = $fails->('Unhandled', 'x' x 100, 60000);
	like("$job->{state} " . substr($job->{error}, 0, 90), qr/^failed .*\(Unhandled\)/, '6 MB of no JSON');
	cmp_ok(length $job->{error}, '<', 10000, '... the error has a part of it');
	$job = $fails->("Un\x{1}handled; 'x'", '{"errorMessage": "m"}');
	is($job->{state}, 'failed', 'a kind that nobody knows');
};

subtest 'answers of 6 MB' => sub {
	faults(reply(200, { 'Content-Type' => 'application/json' }, '"' . 'y' x 6291400 . '"'));
	query(q{INSERT INTO gen_jobs (server, request, request_id) VALUES ('call', '{}', 'answer'),
		('call', jsonb_build_object('large', repeat('z', 6000000)), 'payload')});
	ok(wait_all_ended($node), 'both have ended');
	is(query(q{SELECT length(coalesce(max(result #>> '{}') FILTER (WHERE result #>> '{}' LIKE 'yy%'), '')) FROM gen_jobs
		WHERE request_id IN ('answer', 'payload')}), 6291400, 'an answer of 6 MB is the result');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE request_id IN ('answer', 'payload') AND state = 'succeeded'}), 2,
		'a payload of 6 MB is sent');
};

# ---- SQS and Step Functions ----

subtest 'what a type says counts under every status of a refusal' => sub {
	foreach my $case ([ 'queue', 403, 'com.amazonaws.sqs#RequestThrottled' ], [ 'queue', 403,
		'com.amazonaws.sqs#OverLimit' ], [ 'queue', 400, 'KMS.ThrottlingException' ], [ 'steps', 400,
			'com.amazonaws.states#KmsThrottlingException' ], [ 'steps', 409,
			'com.amazonaws.states#ThrottlingException' ])
	{
		my ($server, $status, $type) = @$case;
		faults(reply($status, {}, $json->encode({ __type => $type, message => 'not now' })));
		my $job = run_to_end($node, $server, { ends => { status => 'SUCCEEDED', output => '1' } });
		is("$job->{state} $job->{failures} $job->{unknown_ends}", 'succeeded 0 0',
			"$status $type costs no attempt") or diag($job->{error});
	}
};

# ---- keys that expire ----

subtest 'a session that has expired, and is renewed meanwhile' => sub {
	server('session', 'aws-sfn', $machine, poll_interval => '50 ms', mapping => { %keys, session_token => 'of-today' });
	my $id = enqueue($node, 'session', { renewed => 1 });
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'an execution goes on');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER session OPTIONS (SET session_token 'of-yesterday')});
	ok(poll_until(sub { grep { $_ eq 'ExpiredTokenException' } @{ ask('/_refusals') } }), 'its session expires');
	is(state_of($id), 'running', '... and it waits on');
	my ($running) = executions(qr/renewed/);
	inform('/_finish', { name => $running->{name}, status => 'SUCCEEDED', output => '{"after": "a renewal"}' });
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER session OPTIONS (SET session_token 'of-tomorrow')});
	is(query("SELECT state FROM genjob.wait($id, '60 s')"), 'succeeded', 'renewed, the poll goes through');
	unlike(query("SELECT j::text FROM gen_jobs AS j WHERE id = $id"), qr/of-(?:today|yesterday|tomorrow)/,
		'no token is in the row');
	foreach my $case ([ 'call', 403, 'ExpiredTokenException' ], [ 'queue', 400, 'ExpiredTokenException' ], [ 'queue',
		403, 'ExpiredToken' ])
	{
		my ($server, $status, $type) = @$case;
		faults(refused($status, $type, { message => 'The security token included in the request is expired' }));
		like(run_to_end($node, $server, { e => 1 })->{error},
			qr/Renew session_token, with its keys, in the user mapping/, "$server says $type by $status");
	}
};

# ---- Step Functions ----

subtest 'states of an execution' => sub {
	my $begin = sub {
		my $id = enqueue($node, 'steps', { of => $_[0] });
		eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", "$_[0]: it goes on");
		my ($execution) = executions(qr/"$_[0]"/);
		return ($id, $execution->{name});
	};
	my ($id, $name) = $begin->('redrive');
	inform('/_finish', { name => $name, status => 'PENDING_REDRIVE', redriveCount => 1,
		redriveStatus => 'REDRIVABLE' });
	my $asked = @{ ask('/_calls') };
	poll_until(sub { @{ ask('/_calls') } > $asked + 2 });
	is(state_of($id), 'running', 'PENDING_REDRIVE is no end');
	inform('/_finish', { name => $name, status => 'RUNNING' });
	inform('/_finish', { name => $name, status => 'SUCCEEDED', output => '{"redriven": true}' });
	query("SELECT genjob.wait($id, '60 s')");
	is(query("SELECT concat(state, result) FROM gen_jobs WHERE id = $id"), 'succeeded{"redriven": true}',
		'... it goes on and succeeds');
	($id, $name) = $begin->('missed');
	faults((refused(400, 'ExecutionDoesNotExist', { __type => 'com.amazonaws.states#ExecutionDoesNotExist',
		message => 'Execution Does Not Exist' })) x 2);
	inform('/_finish', { name => $name, status => 'SUCCEEDED', output => '1' });
	query("SELECT genjob.wait($id, '60 s')");
	is(state_of($id), 'succeeded', 'an execution that is not there yet for a while');
	($id, $name) = $begin->('silent');
	inform('/_finish', { name => $name, status => 'SUCCEEDED' });
	query("SELECT genjob.wait($id, '60 s')");
	is(state_of($id), 'succeeded', 'an execution without an output');
	($id, $name) = $begin->('wordy');
	inform('/_finish', { name => $name, status => 'FAILED', error => 'E' x 256, cause => 'c' x 32768 });
	query("SELECT genjob.wait($id, '60 s')");
	cmp_ok(query("SELECT length(error) FROM gen_jobs WHERE id = $id"), '<', 10000, 'a long cause is clipped');
};

subtest 'an execution that exists' => sub {
	my $known = 'arn:aws:states:eu-central-1:123456789012:execution:resize:other';
	my $exists = sub { return refused(400, 'ExecutionAlreadyExists',
		{ __type => 'com.amazonaws.swf.service.v2.model#ExecutionAlreadyExists', message => $_[0] }) };
	foreach my $words ('', 'Execution Already Exists', "Execution Already Exists: 'arn:", 'x' x 70000,
		"Execution Already Exists: 'arn:aws:" . 'y' x 600 . "'")
	{
		faults(($exists->($words)) x 5);
		my $job = run_to_end($node, 'steps', { exists => length $words });
		is($job->{state}, 'failed', 'words of ' . (length $words) . ' bytes do not name it: the job fails');
		faults();
	}
	my $job = run_to_end($node, 'steps', { ends => { status => 'SUCCEEDED', output => '"own"' } });
	is($job->{result}, 'own', 'the next one is its own');
};

$node->stop;
done_testing();

# SQS and Step Functions: what is sent, and what their answers come to. Every call is checked by its signature.

use strict;
use warnings;

use HTTP::Tiny;
use Encode ();
use JSON::PP ();

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

sub ask { return $json->decode($http->get($aws->url($_[0]))->{content}) }
sub inform { return $http->post($aws->url($_[0]), { content => $json->encode($_[1]) }) }
sub faults { return inform('/_faults', { faults => [@_] }) }
sub messages { return map { $_->{body} } @{ ask('/_messages')->{ $_[0] } // [] } }

# The executions whose input matches a pattern.
sub executions { my ($pattern) = @_; return grep { $_->{input} =~ $pattern } @{ ask('/_executions') } }

my $queues = 'https://sqs.eu-central-1.amazonaws.com/123456789012';
my $machine = 'arn:aws:states:eu-central-1:123456789012:stateMachine:resize';
my %mapping = (access_key_id => 'AKIDEXAMPLE', secret_access_key => 'wJalrXUtnFEMI');
my %throttled = (status => 400, type => 'ThrottlingException', message => 'Rate exceeded');

sub server
{
	my ($name, $api, $model) = @_;
	return create_server($node, $name, $api, $aws, region => 'eu-central-1', model => $model,
		retry_base => '50 ms', retry_max => '100 ms', poll_interval => '50 ms', mapping => \%mapping);
}

# A job of the state machine whose execution ends so at once; gives the job.
sub run_execution
{
	my ($status, %end) = @_;
	my %more = %{ delete $end{more} // {} };
	return run_to_end($node, 'steps', { %more, ends => { status => $status, %end } });
}

# Starts an execution that goes on; gives the job's id once the row has its name.
sub begin_execution
{
	my ($request) = @_;
	my $id = enqueue($node, 'steps', $request);
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'an execution goes on');
	return $id;
}

server('queue', 'aws-sqs', "$queues/orders");
server('steps', 'aws-sfn', $machine);

# ---- SQS ----

subtest 'a message is sent to the queue that model names, its text is the request' => sub {
	my $job = run_to_end($node, 'queue', { order => 17, note => "a \x{e4}" });
	is($job->{state}, 'succeeded', 'a message is sent');
	like($job->{result}{MessageId}, qr/^[0-9a-f-]{36}$/, '... its id is the result');
	my $sent = (messages('orders'))[-1];
	is_deeply($json->decode(Encode::encode_utf8($sent->{MessageBody})), { order => 17, note => "a \x{e4}" },
		'its text is the request');
	is($sent->{QueueUrl}, "$queues/orders", '... to the queue that model names');
	ok(!exists $sent->{MessageGroupId}, '... without a group');
	run_to_end($node, 'queue', { MessageBody => 'plain text', DelaySeconds => 5 });
	$sent = (messages('orders'))[-1];
	is("$sent->{MessageBody} $sent->{DelaySeconds}", 'plain text 5',
		'a text is sent as it is, other parameters beside it');
	run_to_end($node, 'queue', { MessageBody => 'elsewhere', QueueUrl => "$queues/private" });
	is((messages('orders'))[-1]{MessageBody}, 'elsewhere', 'a request does not choose another queue');
};

subtest 'a message of a FIFO queue has its tenant as its group' => sub {
	server('fifo', 'aws-sqs', "$queues/orders.fifo");
	run_to_end($node, 'fifo', { order => $_ }, tenant => 'shop 1') for 1 .. 2;
	run_to_end($node, 'fifo', { order => 3 }, tenant => 'shop/1');
	my @fifo = messages('orders.fifo');
	is(scalar(@fifo), 3, 'a FIFO queue has each message');
	is($fifo[0]{MessageGroupId}, $fifo[1]{MessageGroupId}, '... a tenant is a group');
	is($fifo[2]{MessageGroupId}, 'shop/1', '... under its name, where a group can have that');
	like($fifo[0]{MessageDeduplicationId}, qr/^[0-9a-f-]{36}$/, '... each with an id of its own');
};

subtest 'a message of a FIFO queue whose answer is lost is sent again, and is there once' => sub {
	server('cut', 'aws-sqs', "$queues/cut.fifo");
	faults({ cut => JSON::PP::true });
	my $job = run_to_end($node, 'cut', { order => 4 });
	is($job->{state}, 'succeeded', 'the connection was cut off: it is sent again');
	cmp_ok($job->{attempt}, '>', 1, '... by another attempt');
	is(scalar(messages('cut.fifo')), 1, '... and is there once');
};

subtest 'what a server names must be there' => sub {
	server('lost', 'aws-sqs', "$queues/missing");
	like(run_to_end($node, 'lost', {})->{error},
		qr/answered QueueDoesNotExist: The .* does not exist\. Check the server's options model, url and region\./,
		'no such queue');
	server('nobody', 'aws-sfn', "$machine-missing");
	like(run_to_end($node, 'nobody', {})->{error},
		qr/answered StateMachineDoesNotExist: .*options model, url and region/, 'no such machine');
	my (undef, undef, $refusal) = $node->psql('postgres', q{CREATE SERVER x FOREIGN DATA WRAPPER genjob
		OPTIONS (api 'aws-sqs', url 'https://sqs.eu-central-1.amazonaws.com')});
	like($refusal, qr/"model" is required.*the URL of the queue/s, 'a server without a queue');
};

# ---- Step Functions ----

subtest 'an execution is waited for, and its output is the result' => sub {
	my $job = run_execution('SUCCEEDED', output => '{"picture": "s3://pictures/1.png", "error": "none"}',
		more => { a => 1 });
	is($job->{state}, 'succeeded', 'an execution succeeds');
	is_deeply($job->{result}, { picture => 's3://pictures/1.png', error => 'none' }, '... its output is the result');
	like($job->{remote_id}, qr/^arn:aws:states:eu-central-1:123456789012:execution:resize:[0-9a-f-]{36}$/,
		'... its ARN is the remote_id');
	is_deeply(run_execution('SUCCEEDED', output => '[1, 2]')->{result}, [ 1, 2 ], 'an output that is no object');
};

subtest 'an execution that does not succeed says why' => sub {
	my $job = run_execution('FAILED', error => 'States.TaskFailed', cause => 'no such picture');
	is("$job->{state}, $job->{error}",
		'failed, server "steps" ended the prediction as "FAILED": States.TaskFailed: no such picture',
		'one that fails says why');
	like(run_execution('TIMED_OUT')->{error}, qr/as "TIMED_OUT"/, 'one that times out');
	like(run_execution('ABORTED')->{error}, qr/as "ABORTED"/, 'one that is stopped');
};

subtest 'an execution is waited for after a crash' => sub {
	my $id = begin_execution({ b => 2 });
	restart_at_once($node);
	my ($running) = executions(qr/"b"/);
	inform('/_finish', { name => $running->{name}, status => 'SUCCEEDED', output => '{"after": "a crash"}' });
	is(query("SELECT state FROM genjob.wait($id, '60 s')"), 'succeeded', 'a crash: the execution is waited for');
};

subtest 'a cancel stops the execution' => sub {
	my $id = begin_execution({ c => 3 });
	query("SELECT genjob.cancel($id)");
	eventually("SELECT remote IS NULL FROM gen_jobs WHERE id = $id", 'its job is cancelled');
	is((sort map { $_->{status} } executions(qr/"c"/))[0], 'ABORTED', 'a cancel stops the execution');
};

subtest 'a request chooses neither the name of an execution nor another machine' => sub {
	run_execution('SUCCEEDED', output => '"first"', more => { taken => 1 });
	my ($taken) = executions(qr/"taken"/);
	my $job = run_to_end($node, 'steps', { input => { ends => { status => 'SUCCEEDED', output => '"mine"' } },
		name => $taken->{name}, stateMachineArn => "$machine-missing" });
	is($job->{result}, 'mine', 'its execution is its own');
};

subtest 'a start whose answer is lost is repeated, and is the same execution' => sub {
	my $before = @{ ask('/_executions') };
	faults({ cut => JSON::PP::true });
	is(run_execution('SUCCEEDED', output => '{"once": true}', more => { d => 4 })->{result}{once}, 1,
		'the start was cut off, and the execution has ended by the repeat');
	is(scalar(@{ ask('/_executions') }), $before + 1, '... which is the same execution');
};

# ---- refusals that are the same for both ----

subtest 'a call that is throttled, or fails for a moment, is made again' => sub {
	faults({%throttled});
	my $job = run_execution('SUCCEEDED', output => '{}');
	is("$job->{state} $job->{failures}", 'succeeded 0', 'throttled by HTTP 400: tried again, and no attempt lost');
	faults(undef, {%throttled}, { status => 400, type => 'ExpiredTokenException', message => 'x' });
	is(run_execution('SUCCEEDED', output => '{}')->{state}, 'succeeded', 'questions that are refused are asked again');
	faults({ status => 500, type => 'InternalFailure', message => '' });
	is(run_to_end($node, 'queue', {})->{state}, 'succeeded', 'a failure of the moment');
};

subtest 'a refusal says what to change' => sub {
	my @servers = (server('refused_queue', 'aws-sqs', "$queues/refused"), server('refused_steps', 'aws-sfn', $machine));
	foreach my $case (
		[ "SET secret_access_key 'mistaken'",
			qr/answered InvalidSignatureException: .*Check secret_access_key in the user mapping/, 'a wrong key' ],
		[ "SET secret_access_key 'wJalrXUtnFEMI', SET access_key_id 'AKIDNONE'",
			qr/answered UnrecognizedClientException: .*Check access_key_id/, 'an unknown key' ],
		[ "SET access_key_id 'AKIDEXAMPLE', ADD session_token 'of-yesterday'",
			qr/answered ExpiredTokenException: .*Renew session_token/, 'an expired token' ])
	{
		query("ALTER USER MAPPING FOR PUBLIC SERVER $_ OPTIONS ($case->[0])") for @servers;
		like(run_to_end($node, $_, {})->{error}, $case->[1], "$case->[2]: $_") for @servers;
	}
	query("ALTER USER MAPPING FOR PUBLIC SERVER $_ OPTIONS (DROP session_token);
		ALTER SERVER $_ OPTIONS (SET region 'us-east-1')") for @servers;
	like(run_to_end($node, $_, {})->{error}, qr/Check the server's options region and service/, "a wrong region: $_")
	  for @servers;
	faults({ status => 400, type => 'AccessDeniedException',
		message => 'User: arn:aws:iam::1:user/x is not authorized to perform: states:StartExecution' });
	like(run_to_end($node, 'steps', {})->{error}, qr/answered AccessDeniedException: .*permission for the action/,
		'no permission');
	faults({ status => 400, type => 'InvalidSignatureException', message => 'Signature expired: 20261126T100000Z is'
		  . ' now earlier than 20261126T105500Z (20261126T110000Z - 5 min.)' });
	like(run_to_end($node, 'steps', {})->{error}, qr/Set the clock of the machine/, 'a clock that is off by an hour');
};

subtest 'a refusal of a signed server of another api says what to change' => sub {
	create_server($node, 'gateway', 'http', $aws, auth => 'sigv4', region => 'eu-central-1', service => 'lambda',
		path => '/2015-03-31/functions/x/invocations', mapping => { %mapping, secret_access_key => 'mistaken' });
	like(run_to_end($node, 'gateway', {})->{error},
		qr/HTTP 403: .* Check the access key in the user mapping, what it may do/, 'a wrong key');
};

# what an execution or a message is given, whatever JSON it is
foreach my $case ([ '[1, 2]', '[1,2]' ], [ '7', '7' ], [ 'true', 'true' ], [ '"{\"a\": 1}"', '{\"a\": 1}' ], [ '"cat"', '\"cat\"' ], [ '""', '\"\"' ])
{
	my ($given, $sent) = @$case;
	like(query('SELECT genjob.preview(\'steps\', ' . literal(qq({"input": $given, "traceHeader": "t"})) . ')'), qr/\{"input":"\Q$sent\E","traceHeader":"t",/, "an input of $given");
}
query("CREATE SERVER texts FOREIGN DATA WRAPPER genjob OPTIONS (api 'aws-sqs', url 'http://127.0.0.1:1', model 'https://sqs.eu-central-1.amazonaws.com/1/texts', region 'eu-central-1');
	CREATE USER MAPPING FOR PUBLIC SERVER texts OPTIONS (access_key_id 'a', secret_access_key 'b')");
like(query(qq{SELECT genjob.preview('texts', '{"MessageBody": $_->[0]}')}), qr/\{"MessageBody":"\Q$_->[1]\E",/, "a message of $_->[0]") foreach [ '[1]', '[1]' ], [ '7', '7' ], [ '"cat"', 'cat' ];

$node->stop;
done_testing();

# Nobody knows whether a submission arrived: if genjob chose the prediction's id, it asks the provider
# before it sends anything again. It waits for what the provider has, and sends only what the provider lacks.

use strict;
use warnings;

use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'lookup', conf => "restart_after_crash = on\nlog_min_messages = warning");
my %fast = (poll_interval => '100 ms', retry_base => '10 ms', retry_max => '10 ms');

create_server($node, 'comfy', 'comfyui', $standin, %fast, max_in_flight => 50);
create_server($node, 'careful', 'comfyui', $standin, %fast, on_unknown => 'fail');
create_server($node, 'unasked', 'comfyui', $standin, %fast, lookup => '');
create_server($node, 'deaf', 'comfyui', $standin, %fast, lookup => 'GET /nowhere#/x', on_unknown => 'fail', timeout => '2 s');
create_server($node, 'hopeful', 'comfyui', $standin, %fast, lookup => 'GET /nowhere#/x', timeout => '2 s');
create_server($node, 'patient', 'comfyui', $standin, %fast, lookup => 'GET /nowhere#/x');
create_server($node, 'file', 'comfyui', $standin, %fast, lookup => 'GET /view?filename=ComfyUI_{id}_00001_.png');

# Enqueues a picture whose submission meets the faults.
sub start
{
	my ($server, $name, $faults, %script) = @_;
	my $graph = {
		3 => { class_type => 'KSampler', inputs => { seed => 7, text => $name } },
		9 => { class_type => 'SaveImage', inputs => { images => [ '3', 0 ] } }
	};
	return enqueue($node, $server,
		StandIn::request(prompt => $graph, standin => { id => $name, latency_ms => 300, faults => $faults, %script }));
}

sub outcome
{
	my ($id) = @_;
	return query("SELECT concat_ws(' ', state, attempt, failures, jsonb_array_length(attempt_errors)) FROM gen_jobs WHERE id = $id");
}

my $never = { latency_ms => 600_000 };
my $cut = { cut => 'accept' };
my $lost = { status => 502 };    # the stand-in has not made a prediction of it

subtest "the dispatcher is killed between the submission's arrival and its answer, of 20 jobs" => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	my @killed = map { start('comfy', "killed $_", [$never], latency_ms => 300 * $_) } 1 .. 10;
	push @killed, map { start('comfy', "killed $_", [$never], queue_ms => 2000) } 11 .. 20;
	my $careful = start('careful', 'killed careful', [$never]);
	$standin->wait_for(sub { $_[0]{predictions} == 21 });
	my $keys = query('SELECT id, idempotency_key FROM gen_jobs ORDER BY id');
	my $pid = wait_dispatcher($node);
	kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	wait_dispatcher($node, 'postgres', $pid);
	ok(wait_all_ended($node), 'jobs end whose dispatcher was killed before the answer');
	is_deeply([ map { outcome($_) } @killed, $careful ], [ ('succeeded 1 0') x 21 ], '... in the same attempt, without an error');
	is_deeply([ grep { $standin->arrived("killed $_") != 1 } 1 .. 20, 'careful' ], [], '... each was submitted once');
	is(query('SELECT id, remote_id FROM gen_jobs ORDER BY id'), $keys, '... and has its Idempotency-Key as the name of its prediction');
	is(query("SELECT count(*) FROM gen_jobs j WHERE (SELECT count(*) FROM gen_outputs o WHERE o.job_id = j.id) = 1"), '21',
		'... and its output once');
	my $paths = $standin->counts->{paths};
	cmp_ok($paths->{'/queue'} // 0, '>=', 21, 'the provider was asked');
};

subtest 'the connection is cut' => sub {
	my @cut = map { [ $_, start($_, "cut $_", [$cut]) ] } qw(comfy careful file unasked);
	my $headers = start('careful', 'cut headers', [ { cut => 'headers' } ]);
	ok(wait_all_ended($node), 'jobs end whose connection was cut before the answer');
	foreach my $case (@cut[ 0 .. 2 ])
	{
		my ($server, $id) = @$case;
		is(outcome($id) . ', ' . $standin->arrived("cut $server"), 'succeeded 1 0, 1', "... what $server has is not sent again");
	}
	is(outcome($headers) . ', ' . $standin->arrived('cut headers'), 'succeeded 1 0, 1', '... nor what it began to answer');
	is(outcome($cut[3][1]) . ', ' . $standin->arrived('cut unasked'), 'succeeded 2 1 1, 2', '... without lookup it is sent again');
};

subtest 'the provider has not got it' => sub {
	my @lost = map { [ $_, start($_, "lost $_", [$lost]) ] } qw(comfy careful file);
	ok(wait_all_ended($node), 'jobs end whose submission did not arrive');
	foreach my $case (@lost)
	{
		my ($server, $id) = @$case;
		is(outcome($id) . ', ' . $standin->arrived("lost $server"), 'succeeded 2 1 1, 2', "... what $server says not to have is sent again");
		like(query("SELECT attempt_errors -> 0 ->> 'error' FROM gen_jobs WHERE id = $id"),
			qr/HTTP 502.* genjob asked the server: the call had not arrived\.$/, '... and the attempt that failed says so');
	}
};

subtest 'it cannot be asked' => sub {
	my $deaf = start('deaf', 'deaf', [$cut]);
	my $deaf_lost = start('deaf', 'deaf lost', [$lost]);
	my $hopeful = start('hopeful', 'hopeful', [$cut]);
	ok(wait_state($node, $_, 'failed'), 'where it cannot be asked within the option timeout, on_unknown decides') for $deaf, $deaf_lost;
	is(outcome($deaf) . ', ' . $standin->arrived('deaf'), 'failed 1 1 1, 1', '... with fail it is not sent again');
	like(query("SELECT error FROM gen_jobs WHERE id = $deaf"),
		qr/ended before the answer was complete.*genjob could not ask within the option timeout whether the call had arrived\. The call may have been accepted, and money spent/, '... and says so');

	query('ALTER SERVER deaf OPTIONS (DROP lookup)');
	query("SELECT genjob.retry($deaf)");
	query("SELECT genjob.retry($deaf_lost)");
	ok(wait_state($node, $_, 'succeeded'), 'one that is retried by hand is asked for first') for $deaf, $deaf_lost;
	is(outcome($deaf) . ', ' . $standin->arrived('deaf'), 'succeeded 2 0 1, 1', '... and not sent again');

	is(outcome($deaf_lost) . ', ' . $standin->arrived('deaf lost'), 'succeeded 2 0 1, 2', '... but for one that had not arrived');
	ok(wait_state($node, $hopeful, 'succeeded'), 'with on_unknown retry it is sent again in the end');
	is(outcome($hopeful) . ', ' . $standin->arrived('hopeful'), 'succeeded 2 1 1, 2', '... once');

	my $cancelled = start('patient', 'cancelled', [$cut], latency_ms => 600_000);
	$standin->wait_for(sub { $standin->counts->{ids}{cancelled}{submitted} && ($_[0]{paths}{'/nowhere'} // 0) > 0 });
	query("SELECT genjob.cancel($cancelled)");
	ok($node->poll_query_until('postgres', "SELECT error ~ 'confirmed it' FROM gen_jobs WHERE id = $cancelled"),
		'one that is cancelled while the provider is asked is cancelled there');
	is($standin->counts->{ids}{cancelled}{cancelled}, 1, '... by the id that it was given');

	$cancelled = start('comfy', 'cancelled early', [$never], latency_ms => 600_000);
	$standin->wait_for(sub { $standin->counts->{ids}{'cancelled early'}{submitted} });
	query("SELECT genjob.cancel($cancelled)");
	ok($node->poll_query_until('postgres', "SELECT error ~ 'confirmed it' FROM gen_jobs WHERE id = $cancelled"),
		'... and so is one whose submission has not been answered yet');
	is($standin->counts->{ids}{'cancelled early'}{cancelled}, 1, '... by that id');
};

subtest 'the dispatcher is killed while it asks' => sub {
	create_server($node, 'asking', 'comfyui', $standin, %fast, lookup => 'GET /elsewhere#/x');
	my $twice = start('asking', 'twice', [$cut]);
	$standin->wait_for(sub { ($_[0]{paths}{'/elsewhere'} // 0) > 0 });
	query('ALTER SERVER asking OPTIONS (DROP lookup)');
	my $pid = wait_dispatcher($node);
	kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	wait_dispatcher($node, 'postgres', $pid);
	ok(wait_state($node, $twice, 'succeeded'), 'the next dispatcher asks as well');
	is(outcome($twice) . ', ' . $standin->arrived('twice'), 'succeeded 1 0, 1', '... and nothing is sent again');
};

$standin->stop;
$node->stop;
done_testing();

# A second trouble must not make the first worse: no call is paid for again, no answer is lost, no place is given twice.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'troubles', conf => "restart_after_crash = on\nlog_min_messages = warning");
my %fast = (retry_base => '10 ms', retry_max => '10 ms', max_attempts => 1000, poll_interval => '100 ms');
my $nowhere = 'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();

my %slow = (%fast, retry_base => '1 min', retry_max => '1 min');

# How often calls of each Idempotency-Key have arrived since the stand-in's counts were reset.
sub arrivals { return [ sort map { $_->{arrived} } values %{ $standin->counts->{keys} } ]; }

# What calls with that prompt said of some members, and how many keys they had.
sub bodies
{
	my ($prompt) = @_;
	my @calls = grep { ($_->{body} // '') =~ /"$prompt"/ } $standin->requests(200);
	my %keys = map { ($_->{headers}{'idempotency-key'} // $_->{headers}{'Idempotency-Key'}) => 1 } @calls;
	my @members = map { join ',', $_->{body} =~ /("(?:size|model|n)":[^,}]*)/g } @calls;
	return join('|', @members) . ' ' . scalar(keys %keys);
}

sub nothing_is_kept
{
	return is(query('SELECT count(*) FROM genjob.sent'), 0, '... and nothing is kept of it');
}

# A job with an output; its id.
sub make_picture
{
	my ($server) = @_;
	my $id = enqueue($node, $server, StandIn::request(prompt => 'a picture'));
	ok(wait_state($node, $id, 'succeeded'), 'a job has an output');
	return $id;
}

# Cuts a job's call, runs the SQL in CHANGE, and lets the call be made again; the job's id.
sub cut_and_change
{
	my ($prompt, $server, $change, %request) = @_;
	my $id = enqueue($node, $server,
		StandIn::request(id => $prompt, prompt => $prompt, %request,
			faults => [ { latency_ms => 300, cut => 'accept' } ]));
	eventually("SELECT state = 'queued' AND unknown_ends = 1 FROM gen_jobs WHERE id = $id", 'a call is cut');
	query($change);
	query("UPDATE gen_jobs SET run_at = now() WHERE id = $id");
	ok(wait_state($node, $id, 'succeeded'), '... and is made again after that');
	return $id;
}

# The same, where PostgreSQL ends during the call.
sub crash_and_change
{
	my ($prompt, $server, $change) = @_;
	$standin->reset;
	my $id = enqueue($node, $server,
		StandIn::request(id => $prompt, prompt => $prompt, faults => [ { latency_ms => 600_000 } ]));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	query($change) if defined $change;
	kill_dispatcher();
	ok(wait_state($node, $id, 'succeeded'), 'a call is made again after a crash');
	return;
}

# A request of ComfyUI with that text, whose prediction ends when the test says so.
sub comfy_request
{
	my ($text, %script) = @_;
	return StandIn::request(
		prompt => {
			3 => { class_type => 'KSampler', inputs => { seed => 7, text => $text } },
			9 => { class_type => 'SaveImage', inputs => { images => [ '3', 0 ] } }
		},
		standin => { id => $text, latency_ms => 600_000, %script });
}

subtest 'a call that was cut keeps its Idempotency-Key when its server cannot be reached meanwhile' => sub {
	create_server($node, 'unreachable', 'openai-images', $standin, %fast);
	$standin->reset;
	my $id = enqueue($node, 'unreachable',
		StandIn::request(prompt => 'cut', faults => [ { latency_ms => 1500, cut => 'accept' } ]));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	# the call is cut when its server has another address
	kill 'STOP', $standin->pid;
	query("ALTER SERVER unreachable OPTIONS (SET url '$nowhere')");
	kill 'CONT', $standin->pid;
	eventually("SELECT attempt_errors #>> '{-1,error}' LIKE 'could not reach%' FROM gen_jobs WHERE id = $id",
		'a call that was cut finds nobody when it is repeated');
	query("ALTER SERVER unreachable OPTIONS (SET url '@{[$standin->url]}')");
	ok(wait_state($node, $id, 'succeeded'), '... and is sent again later');
	is_deeply(arrivals(), [2], '... once, with the same Idempotency-Key');
};

subtest 'a call that was cut is repeated with its first body, although the options have changed' => sub {
	create_server($node, 'changed', 'openai-images', $standin, %slow, model => 'one', defaults => '{"size": "8x8"}');
	cut_and_change('options', 'changed',
		q{ALTER SERVER changed OPTIONS (SET model 'two', SET defaults '{"size": "16x16", "n": 2}')});
	is(bodies('options'), join('|', ('"size":"8x8","model":"one"') x 2) . ' 1',
		'the same body is sent under the same key');
	nothing_is_kept();
	my $new = enqueue($node, 'changed', StandIn::request(prompt => 'options since'));
	ok(wait_state($node, $new, 'succeeded'), 'a new call');
	like(bodies('options since'), qr/"two"/, '... has the new options');
};

subtest 'a call whose body cannot be had any more is another call, with another key' => sub {
	create_server($node, 'source', 'openai-images', $standin, %fast);
	create_server($node, 'referring', 'http', $standin, %slow, path => '/echo');
	my $picture = make_picture('source');
	my $id = cut_and_change('references', 'referring',
		"UPDATE gen_outputs SET data = 'another', bytes = 7, sha256 = sha256('another') WHERE job_id = $picture",
		image => { '$output' => [ $picture + 0, 1 ] });
	like(bodies('references'), qr/ 2$/, 'an output that the request refers to has changed: another key is sent');
	is(query("SELECT unknown_ends, attempt FROM gen_jobs WHERE id = $id"), '1|3',
		'... and counts as the one repeat that it is');
	nothing_is_kept();
};

subtest 'with on_unknown fail, no call is made whose body has changed, but for genjob.retry()' => sub {
	create_server($node, 'caring', 'openai-images', $standin, %slow, model => 'one', on_unknown => 'fail');
	my $id = enqueue($node, 'caring',
		StandIn::request(id => 'caring', prompt => 'caring', faults => [ { cut => 'accept' } ]));
	ok(wait_state($node, $id, 'failed'), 'a job fails');
	query(q{ALTER SERVER caring OPTIONS (SET api 'http', ADD path '/echo')});
	query("SELECT genjob.retry($id)");
	ok(wait_state($node, $id, 'failed'), '... and again when its body cannot be had any more');
	like(query("SELECT error FROM gen_jobs WHERE id = $id"),
		qr/^this job's request has changed .* genjob\.retry\(\) sends a new one\.$/, '... and says so');
	query("SELECT genjob.retry($id)");
	ok(wait_state($node, $id, 'succeeded'), '... as it then does');
};

subtest 'a call that a crash cut is repeated with the same body under the same key' => sub {
	create_server($node, 'crashed', 'openai-images', $standin, %slow, model => 'one');
	crash_and_change('crash', 'crashed');
	is(bodies('crash'), '"model":"one"|"model":"one" 1', 'the same body');
	nothing_is_kept();
};

subtest 'a call that a crash cut is another call where the options have changed since its claim' => sub {
	create_server($node, 'crashed_and_changed', 'openai-images', $standin, %slow, model => 'two');
	crash_and_change('crash and options', 'crashed_and_changed',
		q{ALTER SERVER crashed_and_changed OPTIONS (SET model 'three')});
	like(bodies('crash and options'), qr/"two".*"three".* 2$/, 'it has another key');
	nothing_is_kept();
};

subtest 'a call that was cut keeps its Idempotency-Key while its server has no time for the repetition' => sub {
	create_server($node, 'busy', 'openai-images', $standin, %fast);
	$standin->reset;
	my @faults = ({ cut => 'accept' }, { status => 429, retry_after => '0' }, { status => 503 });
	my $id = enqueue($node, 'busy', StandIn::request(id => 'busy', prompt => 'busy', faults => \@faults));
	ok(wait_state($node, $id, 'succeeded'),
		'a call that was cut is turned away when it is repeated, and sent again later');
	is_deeply(arrivals(), [4], '... with the same Idempotency-Key');
};

subtest 'a call that was answered gets another Idempotency-Key each time' => sub {
	create_server($node, 'refusing', 'openai-images', $standin, %fast);
	$standin->reset;
	my $id = enqueue($node, 'refusing',
		StandIn::request(id => 'first', prompt => 'busy first', faults => [ { status => 503 }, { status => 500 } ]));
	ok(wait_state($node, $id, 'succeeded'), 'one that is turned away the first time is sent again');
	is_deeply(arrivals(), [ 1, 1, 1 ], '... with another each time');
};

subtest 'genjob.retry() has another prediction made where the first was cancelled' => sub {
	create_server($node, 'cancelled', 'comfyui', $standin, %fast);
	my $id = enqueue($node, 'cancelled', comfy_request('again'));
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'a prediction is known');
	my $first = query("SELECT remote_id FROM gen_jobs WHERE id = $id");
	query("SELECT genjob.cancel($id)");
	eventually("SELECT error ~ 'confirmed it' FROM gen_jobs WHERE id = $id", '... and cancelled');
	query("SELECT genjob.retry($id)");
	eventually("SELECT state = 'running' AND remote_id <> '$first' FROM gen_jobs WHERE id = $id",
		'there is another one');
	$standin->finish;
	ok(wait_state($node, $id, 'succeeded'), '... whose result it gets');
};

subtest 'another request is not sent with the Idempotency-Key of the one before, the same request is' => sub {
	create_server($node, 'paused', 'openai-images', $standin, paused => 'on');
	my $insert = q{INSERT INTO gen_jobs (server, request, state, attempt, idempotency_key)
		VALUES ('paused', '{"prompt": "a"}', 'failed', 1, gen_random_uuid()) RETURNING id};
	my ($same, $other) = map { query($insert) } 1, 2;
	query("UPDATE gen_jobs SET state = 'queued' WHERE id = $same");
	query(qq{UPDATE gen_jobs SET state = 'queued', request = request || '{"prompt": "b"}' WHERE id = $other});
	my $ids = "$same, $other";
	is( query("SELECT request ->> 'prompt', idempotency_key IS NULL FROM gen_jobs WHERE id IN ($ids) ORDER BY id"),
		"a|f\nb|t", 'the key of the other request is gone');
};

subtest 'a job whose answer is saved keeps it when its server is dropped before the outputs are downloaded' => sub {
	create_server($node, 'gone', 'openai-images', $standin, %fast);
	my $id = enqueue($node, 'gone',
		StandIn::request(prompt => 'gone', response_format => 'url', download_faults => [ { stall => 1 } ],
			repeat => 1));
	eventually("SELECT remote ? 'answer' FROM gen_jobs WHERE id = $id", 'an answer is saved');
	query('DROP SERVER gone CASCADE');
	kill_dispatcher();
	ok(wait_state($node, $id, 'failed'), '... when its server is gone after a crash, the job fails');
	like(query("SELECT error || (result #>> '{data,0,url}') FROM gen_jobs WHERE id = $id"),
		qr/^server "gone" does not exist.*The answer that had come is in the column result.*http/,
		'... and keeps the answer');
};

subtest 'a prediction whose submission was warned of succeeds after a crash, and the job tells of the warning' => sub {
	create_server($node, 'warning', 'comfyui', $standin, %fast);
	my $body = '{"number": 1, "node_errors": {"7": {"class_type": "SaveImage",'
	  . ' "errors": [{"message": "Required input is missing", "details": "images"}]}}}';
	my $id = enqueue($node, 'warning',
		comfy_request('warned', faults => [ { status => 200, content_type => 'application/json', body => $body } ]));
	eventually("SELECT remote ->> 'note' ~ 'warns' FROM gen_jobs WHERE id = $id", 'a warning is saved');
	kill_dispatcher();
	$standin->finish;
	ok(wait_state($node, $id, 'succeeded'), 'the job succeeds');
	is(query("SELECT error FROM gen_jobs WHERE id = $id"),
		'server "warning" warns: node 7 (SaveImage), Required input is missing: images', '... and says so');
};

subtest 'a job goes to the other address of its fallback where the first cannot be reached' => sub {
	create_server($node, 'second', 'openai-images', "$nowhere/2, " . $standin->url, %fast);
	create_server($node, 'first', 'openai-images', $nowhere, %slow, fallback => 'second');
	my $id = enqueue($node, 'first', StandIn::request(prompt => 'fallen'));
	ok(wait_state($node, $id, 'succeeded'), 'it succeeds');
	is(query("SELECT server, ran_on, failures FROM gen_jobs WHERE id = $id"), 'first|second|0',
		'... and its row says where it ran');
};

subtest 'a claim that fails when it was half made gives each place back once' => sub {
	create_server($node, 'two', 'openai-images', $standin, %fast, max_in_flight => 2);
	my $source = make_picture('two');
	query(qq{
		BEGIN;
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'not now'; END \$\$;
		CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
			WHEN (NEW.state = 'running') EXECUTE FUNCTION refuse();
		INSERT INTO gen_jobs (server, request) VALUES
			('two', '{"prompt": "a", "image": {"\$output": [$source, 1]}}'), ('two', '{"prompt": "b"}');
		COMMIT});
	eventually("SELECT last_error ~ 'not now' FROM genjob.workers WHERE database = 'postgres'",
		'a claim fails that had begun');
	query('DROP FUNCTION refuse() CASCADE');
	my $other = enqueue($node, 'two', { prompt => 'c' });
	ok(wait_state($node, $other, 'succeeded'), '... and others succeed');
	eventually("SELECT in_flight = 0 FROM genjob.servers WHERE server = 'two'",
		'... and each place was given back once')
	  or diag(query("SELECT in_flight FROM genjob.servers WHERE server = 'two'"));
};

$standin->stop;
$node->stop;
done_testing();

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

# ---- a call is cut, and the server cannot be reached when it is repeated ----

create_server($node, 'cut', 'openai-images', $standin, %fast);
my $cut = enqueue($node, 'cut', StandIn::request(prompt => 'cut', faults => [ { latency_ms => 1500, cut => 'accept' } ]));
$standin->wait_for(sub { $_[0]{in_flight} == 1 });
query("ALTER SERVER cut OPTIONS (SET url '$nowhere')");
eventually("SELECT attempt_errors #>> '{-1,error}' LIKE 'could not reach%' FROM gen_jobs WHERE id = $cut", 'a call that was cut finds nobody when it is repeated');
query("ALTER SERVER cut OPTIONS (SET url '@{[$standin->url]}')");
ok(wait_state($node, $cut, 'succeeded'), '... and is sent again later');
is_deeply([ map { $_->{arrived} } values %{ $standin->counts->{keys} } ], [2], '... once, with the same Idempotency-Key');

# ---- a call is cut, and what goes into its body changes before it is repeated ----

# What calls with that prompt said of some members, and how many keys they had.
sub bodies
{
	my ($prompt) = @_;
	my @calls = grep { ($_->{body} // '') =~ /"$prompt"/ } $standin->requests(200);
	my %keys = map { ($_->{headers}{'idempotency-key'} // $_->{headers}{'Idempotency-Key'}) => 1 } @calls;
	return join('|', map { join ',', $_->{body} =~ /("(?:size|model|n)":[^,}]*)/g } @calls) . ' ' . scalar(keys %keys);
}

sub cut_and_change
{
	my ($prompt, $server, $change, %request) = @_;
	my $id = enqueue($node, $server, StandIn::request(id => $prompt, prompt => $prompt, %request, faults => [ { latency_ms => 300, cut => 'accept' } ]));
	eventually("SELECT state = 'queued' AND unknown_ends = 1 FROM gen_jobs WHERE id = $id", "$prompt: a call is cut");
	query($change);
	query("UPDATE gen_jobs SET run_at = now() WHERE id = $id");
	ok(wait_state($node, $id, 'succeeded'), '... and is made again after that');
	return $id;
}

my %slow = (%fast, retry_base => '1 min', retry_max => '1 min');
create_server($node, 'changed', 'openai-images', $standin, %slow, model => 'one', defaults => '{"size": "8x8"}');
cut_and_change('options', 'changed', q{ALTER SERVER changed OPTIONS (SET model 'two', SET defaults '{"size": "16x16", "n": 2}')});
is(bodies('options'), join('|', ('"size":"8x8","model":"one"') x 2) . ' 1', 'the same body is sent under the same key, although the options changed');
is(query('SELECT count(*) FROM genjob.sent'), 0, '... and nothing is kept of it');
my $new = enqueue($node, 'changed', StandIn::request(prompt => 'options since'));
ok(wait_state($node, $new, 'succeeded'), '... a new call');
like(bodies('options since'), qr/"two"/, '... has the new ones');

my $picture = enqueue($node, 'changed', StandIn::request(prompt => 'a picture'));
ok(wait_state($node, $picture, 'succeeded'), 'a job has an output');
create_server($node, 'referring', 'http', $standin, %slow, path => '/echo');
my $other = cut_and_change('references', 'referring', "UPDATE gen_outputs SET data = 'another', bytes = 7, sha256 = sha256('another') WHERE job_id = $picture",
	image => { '$output' => [ $picture + 0, 1 ] });
like(bodies('references'), qr/ 2$/, 'an output that the request refers to has changed: another call is made, with another key');
is(query("SELECT unknown_ends, attempt FROM gen_jobs WHERE id = $other"), '1|3', '... and counts as the one repeat that it is');
is(query('SELECT count(*) FROM genjob.sent'), 0, '... and nothing is kept of it');

create_server($node, 'caring', 'openai-images', $standin, %slow, model => 'one', on_unknown => 'fail');
my $cared = enqueue($node, 'caring', StandIn::request(id => "caring", prompt => "caring", faults => [ { cut => 'accept' } ]));
ok(wait_state($node, $cared, 'failed'), 'with on_unknown fail it fails');
query(q{ALTER SERVER caring OPTIONS (SET api 'http', ADD path '/echo')});
query("SELECT genjob.retry($cared)");
ok(wait_state($node, $cared, 'failed'), '... and again when its body cannot be had any more');
like(query("SELECT error FROM gen_jobs WHERE id = $cared"), qr/^this job's request has changed .* genjob\.retry\(\) sends a new one\.$/, '... and says so');
query("SELECT genjob.retry($cared)");
ok(wait_state($node, $cared, 'succeeded'), '... as it then does');

# ---- the same, when PostgreSQL ends during the call ----

sub crash_and_change
{
	my ($prompt, $change) = @_;
	my $id = enqueue($node, 'changed', StandIn::request(id => $prompt, prompt => $prompt, faults => [ { latency_ms => 600_000 } ]));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	query($change) if defined $change;
	my $pid = dispatcher_pid($node);
	kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	ok(wait_state($node, $id, 'succeeded'), "$prompt: a call is made again after a crash");
	return $id;
}

crash_and_change('crash');
like(bodies('crash'), qr/ 1$/, 'with the same body under the same key');
my $crashed = crash_and_change('crash and options', q{ALTER SERVER changed OPTIONS (SET model 'three')});
like(bodies('crash and options'), qr/"two".*"three".* 2$/, 'where the options have changed since its claim, another call is made, with another key');
is(query('SELECT count(*) FROM genjob.sent'), 0, '... and nothing is kept of them');

# ---- a call is cut, and the server has no time for its repetition ----

$standin->reset;
my $busy = enqueue($node, 'cut', StandIn::request(id => 'busy', prompt => 'busy', faults => [ { cut => 'accept' }, { status => 429, retry_after => '0' }, { status => 503 } ]));
ok(wait_state($node, $busy, 'succeeded'), 'a call that was cut is turned away when it is repeated, and sent again later');
is_deeply([ map { $_->{arrived} } values %{ $standin->counts->{keys} } ], [4], '... with the same Idempotency-Key');
$busy = enqueue($node, 'cut', StandIn::request(id => 'first', prompt => 'busy first', faults => [ { status => 503 }, { status => 500 } ]));
ok(wait_state($node, $busy, 'succeeded'), 'one that is turned away the first time is sent again');
is_deeply([ sort map { $_->{arrived} } values %{ $standin->counts->{keys} } ], [ 1, 1, 1, 4 ], '... with another each time');

# ---- a prediction is cancelled, and the job is to run again ----

create_server($node, 'comfy', 'comfyui', $standin, %fast);
my $again = enqueue($node, 'comfy',
	StandIn::request(
		prompt => {
			3 => { class_type => 'KSampler', inputs => { seed => 7, text => 'again' } },
			9 => { class_type => 'SaveImage', inputs => { images => [ '3', 0 ] } }
		},
		standin => { id => 'again', latency_ms => 600_000 }));
eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $again", 'a prediction is known');
my $first = query("SELECT remote_id FROM gen_jobs WHERE id = $again");
query("SELECT genjob.cancel($again)");
eventually("SELECT error ~ 'confirmed it' FROM gen_jobs WHERE id = $again", '... and cancelled');
query("SELECT genjob.retry($again)");
eventually("SELECT state = 'running' AND remote_id <> '$first' FROM gen_jobs WHERE id = $again", 'genjob.retry() has another one made');
$standin->finish;
ok(wait_state($node, $again, 'succeeded'), '... whose result it gets');

# ---- the end of a call is not known, and the job is made another order ----

create_server($node, 'paused', 'openai-images', $standin, paused => 'on');
query("INSERT INTO gen_jobs (server, request, state, attempt, idempotency_key) SELECT 'paused', '{\"prompt\": \"a\"}', 'failed', 1, gen_random_uuid() FROM generate_series(1, 2)");
query("UPDATE gen_jobs SET state = 'queued', request = request || '{\"prompt\": \"b\"}' WHERE server = 'paused' AND id % 2 = 0");
query("UPDATE gen_jobs SET state = 'queued' WHERE server = 'paused' AND id % 2 = 1");
is(query("SELECT request ->> 'prompt', idempotency_key IS NULL FROM gen_jobs WHERE server = 'paused' ORDER BY 1"), "a|f\nb|t",
	'another request is not sent with the Idempotency-Key of the one before, the same request is');
query("DELETE FROM gen_jobs WHERE server = 'paused'");

# ---- an answer is in the table, and its server is dropped before its outputs are downloaded ----

create_server($node, 'gone', 'openai-images', $standin, %fast);
my $gone = enqueue($node, 'gone',
	StandIn::request(prompt => 'gone', response_format => 'url', download_faults => [ { stall => 1 } ], repeat => 1));
eventually("SELECT remote ? 'answer' FROM gen_jobs WHERE id = $gone", 'an answer is saved');
my $warning = enqueue($node, 'comfy', StandIn::request(
	prompt => { 9 => { class_type => 'SaveImage', inputs => { text => 'warned' } } },
	standin => { id => 'warned', latency_ms => 600_000, faults => [ { status => 200, content_type => 'application/json',
		body => '{"number": 1, "node_errors": {"7": {"class_type": "SaveImage", "errors": [{"message": "Required input is missing", "details": "images"}]}}}' } ] }));
eventually("SELECT remote ->> 'note' ~ 'warns' FROM gen_jobs WHERE id = $warning", 'a warning is saved');
query('DROP SERVER gone CASCADE');
my $pid = wait_dispatcher($node);
kill 'KILL', $pid or die "could not kill the dispatcher: $!";
wait_dispatcher($node, 'postgres', $pid);
ok(wait_state($node, $gone, 'failed'), '... when its server is gone after a crash, the job fails');
like(query("SELECT error || (result #>> '{data,0,url}') FROM gen_jobs WHERE id = $gone"),
	qr/^server "gone" does not exist.*The answer that had come is in the column result.*http/, '... and keeps the answer');

$standin->finish;
ok(wait_state($node, $warning, 'succeeded'), 'a prediction whose submission was warned of succeeds after the crash');
is(query("SELECT error FROM gen_jobs WHERE id = $warning"), 'server "comfy" warns: node 7 (SaveImage), Required input is missing: images', '... and the job says so');

# ---- a fallback has an address that cannot be reached ----

create_server($node, 'second', 'openai-images', "$nowhere/2, " . $standin->url, %fast);
create_server($node, 'first', 'openai-images', $nowhere, %fast, retry_base => '1 min', retry_max => '1 min', fallback => 'second');
my $fallen = enqueue($node, 'first', StandIn::request(prompt => 'fallen'));
ok(wait_state($node, $fallen, 'succeeded'), 'a job goes to the other address of its fallback');
is(query("SELECT server, ran_on, failures FROM gen_jobs WHERE id = $fallen"), 'first|second|0', '... and its row says where it ran');

# ---- a claim fails when it was half made ----

create_server($node, 'two', 'openai-images', $standin, %fast, max_in_flight => 2);
my $source = enqueue($node, 'two', StandIn::request(prompt => 'source'));
ok(wait_state($node, $source, 'succeeded'), 'a job has an output');
query(qq{
	BEGIN;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'not now'; END \$\$;
	CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		WHEN (NEW.state = 'running') EXECUTE FUNCTION refuse();
	INSERT INTO gen_jobs (server, request) VALUES ('two', '{"prompt": "a", "image": {"\$output": [$source, 1]}}'), ('two', '{"prompt": "b"}');
	COMMIT});
eventually("SELECT last_error ~ 'not now' FROM genjob.workers WHERE database = 'postgres'", 'a claim fails that had begun');
query('DROP FUNCTION refuse() CASCADE');
query("INSERT INTO gen_jobs (server, request) VALUES ('two', '{\"prompt\": \"c\"}')");
eventually("SELECT count(*) = 1 FROM gen_jobs WHERE request ->> 'prompt' = 'c' AND state = 'succeeded'", '... and others succeed');
eventually("SELECT in_flight = 0 FROM genjob.servers WHERE server = 'two'", '... and each place was given back once')
  or diag(query("SELECT in_flight FROM genjob.servers WHERE server = 'two'"));

$standin->stop;
$node->stop;
done_testing();

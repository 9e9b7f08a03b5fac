# Refusals that waiting alone does not fix hold the server back, with a reason, and end; calls that may have
# been accepted are repeated a limited number of times; the option retry_status says which statuses are tried again.

use strict;
use warnings;

use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;

use Test::More;

use GenJobTest qw(!query);
use StandIn;

my $speed = 1200;    # ten minutes pass in half a second
my $fast = new_node(name => 'fast', conf => "genjob.debug_clock_speed = $speed\nlog_min_messages = warning");
my $node = new_node(name => 'real');
my $standin = StandIn->new;
my %quick = (retry_base => '10 ms', retry_max => '20 ms');

sub query
{
	my ($sql, $where) = @_;
	return ($where // $node)->safe_psql('postgres', $sql);
}

sub faulty
{
	my ($where, $server, $name, $faults, %columns) = @_;
	my %script = %{ delete $columns{script} // {} };
	return enqueue($where, $server, StandIn::request(id => $name, prompt => $name, faults => $faults, %script), %columns);
}

sub ended
{
	my ($id) = @_;
	return $node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id");
}

sub json_fault
{
	my ($status, $body, %more) = @_;
	return { status => $status, body => $body, content_type => 'application/json', %more };
}

my $quota = json_fault(429, '{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","code":"insufficient_quota"}}');
my $zero = json_fault(429, '{"error":{"code":429,"message":"You exceeded your current quota. * Quota exceeded for metric: free_tier_requests, limit: 0, model: x","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1s"}]}}');

subtest 'a quota that is used up' => sub {
	create_server($fast, 'poor', 'openai-images', $standin, max_wait => '2 h', max_in_flight => 1);
	my $id = faulty($fast, 'poor', 'poor', [$quota], script => { repeat => 1 }, priority => 1);
	my @behind = map { faulty($fast, 'poor', "behind $_", []) } 1 .. 3;
	ok($fast->poll_query_until('postgres', q{SELECT held_reason ~ 'the provider says that the quota is used up' FROM genjob.servers WHERE server = 'poor'}),
		'holds the server, which says so');
	like(query("SELECT error FROM gen_jobs WHERE id = $id", $fast), qr/HTTP 429: You exceeded.* That is, the provider says that the quota is used up: waiting alone does not fix it\.$/,
		'... as does the job');
	query('CREATE ROLE nobody', $fast);
	like(query(q{SET ROLE nobody; SELECT held_reason FROM genjob.servers WHERE server = 'poor'}, $fast), qr/^the provider says that the quota is used up: fix it at the provider\. genjob tries one call every 10 minutes, and when[^.]*$/,
		'... without the words of its answers to those who may not read them');
	# a job of higher priority goes first, whenever the server is tried
	ok($fast->poll_query_until('postgres', "SELECT state = 'failed' FROM gen_jobs WHERE id = $id"), 'after max_wait the job fails');
	like(query("SELECT error FROM gen_jobs WHERE id = $id", $fast), qr/You exceeded your current quota.*for as long as the option max_wait allows\. Fix the cause at the provider/, '... with these words');
	my $calls = $standin->arrived('poor');
	cmp_ok($calls, '<=', 14, "two hours of it are a call every ten minutes ($calls)");
	cmp_ok($calls, '>=', 3, '... and not none');
	is(query("SELECT failures FROM gen_jobs WHERE id = $id", $fast), 1, '... of which only the last counts');
	is(query("SELECT count(*) FROM gen_jobs WHERE id IN ($behind[0], $behind[1], $behind[2]) AND state = 'succeeded' OR error ~ 'has accepted no job for longer than its option max_wait: the provider says that the quota is used up'", $fast), 3,
		'those behind it fail with the reason, or run when the provider takes them');
	is(query('SELECT count(*) FROM gen_jobs WHERE put_off_since IS NOT NULL AND state = \'queued\'', $fast), 0, 'nothing is left');
};

subtest 'jobs behind a refusal do not wait for ever' => sub {
	my $empty = StandIn->new;
	create_server($fast, 'empty', 'openai-images', $empty, max_wait => '1 h', max_in_flight => 2);
	$empty->refuse_all(402);
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'empty', '{"prompt": "a"}' FROM generate_series(1, 2500)}, $fast);
	ok($fast->poll_query_until('postgres', q{SELECT count(*) = 0 FROM gen_jobs WHERE server = 'empty' AND state = 'queued'}), 'all end');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'empty' AND state = 'failed' AND error ~ 'the account has no money left'}, $fast), 2500, '... with the reason');
	my $calls = $empty->counts(summary => 1)->{total};
	cmp_ok($calls, '<', 30, "... after few calls ($calls)");

	# and what is mended is tried at once
	query(q{ALTER SERVER empty OPTIONS (SET max_wait '100 h')}, $fast);
	my $id = enqueue($fast, 'empty', { prompt => 'b' });
	ok($fast->poll_query_until('postgres', qq{SELECT state = 'queued' AND error ~ 'the account has no money left' FROM gen_jobs WHERE id = $id}), 'another waits');
	$empty->refuse_all(0);
	query(q{ALTER SERVER empty OPTIONS (ADD timeout '10 min')}, $fast);
	ok(wait_state($fast, $id, 'succeeded'), 'it runs once the provider takes it');
	is(query(q{SELECT count(*) FROM genjob.servers WHERE server = 'empty' AND held_reason IS NOT NULL}, $fast), 0, '... and nothing is held any more');
	$empty->stop;
};

subtest 'a limit of 0, with a delay that is none' => sub {
	create_server($node, 'zero', 'gemini', $standin, %quick, model => 'zero', auth => 'none');
	my $id = enqueue($node, 'zero', { contents => [ { parts => [ { text => 'a' } ] } ], standin => { id => 'zero', faults => [$zero], repeat => JSON::PP::true } });
	diag(query("SELECT error FROM gen_jobs WHERE id = $id")) unless ok($node->poll_query_until('postgres', q{SELECT held_reason ~ 'limit for this is 0' FROM genjob.servers WHERE server = 'zero'}), 'holds the server');
	cmp_ok(query(q{SELECT extract(epoch FROM held_until - now()) FROM genjob.servers WHERE server = 'zero'}), '>', 500, '... for ten minutes');
	is($standin->arrived('zero'), 1, '... after one call');
	is(query("SELECT state, failures FROM gen_jobs WHERE id = $id"), 'queued|0', '... and no attempt');
};

subtest 'the model of one job' => sub {
	my $denied = json_fault(403, '{"error":{"message":"Your organization must be verified to use the model `secret`."}}');
	create_server($node, 'models', 'openai-images', $standin, %quick, model => 'open', max_in_flight => 1);
	my $own = enqueue($node, 'models', { prompt => 'x', model => 'secret', standin => { id => 'own model', faults => [$denied], repeat => JSON::PP::true } });
	ok($node->poll_query_until('postgres', "SELECT error ~ 'may not use this model' AND state = 'queued' AND run_at > now() + interval '9 min' FROM gen_jobs WHERE id = $own"),
		'a job that chose a model which is not allowed is put off');
	my $other = faulty($node, 'models', 'other model', []);
	ok(wait_state($node, $other, 'succeeded'), '... and keeps no other waiting');
	faulty($node, 'models', 'model of the server', [$denied], script => { repeat => 1 });
	ok($node->poll_query_until('postgres', q{SELECT held_reason ~ 'may not use this model' FROM genjob.servers WHERE server = 'models'}), 'that of the server holds it');
};

subtest 'statuses by option' => sub {
	create_server($node, 'strict', 'openai-images', $standin, %quick, retry_status => '418, 5xx');
	my %ids = map { $_ => faulty($node, 'strict', "strict $_", [ { status => $_ } ]) } 418, 500, 429, 402, 409;
	my $word = faulty($node, 'strict', 'strict word', [ { status => 404, headers => { 'x-should-retry' => 'true' } } ]);
	ended($_) foreach values %ids, $word;
	is(query("SELECT state, attempt FROM gen_jobs WHERE id = $ids{$_}"), 'succeeded|2', "$_ is tried again") foreach 418, 500;
	is(query("SELECT state, attempt FROM gen_jobs WHERE id = $ids{$_}"), 'failed|1', "$_ is not") foreach 429, 402, 409;
	is(query("SELECT state FROM gen_jobs WHERE id = $word"), 'failed', 'whatever the answer says');
	my ($code, $out, $err) = $node->psql('postgres', q{ALTER SERVER strict OPTIONS (SET retry_status '200')});
	like($err, qr/invalid value for option "retry_status": "200".*Statuses from 400 to 599/s, 'a wrong one is refused');
};

subtest 'calls whose end is not known' => sub {
	my @unknown = ({ cut => 'accept' }) x 5;
	create_server($node, 'unsure', 'openai-images', $standin, %quick);
	create_server($node, 'sure', 'openai-images', $standin, %quick, max_unknown => 0);
	my $twice = faulty($node, 'unsure', 'twice', [ @unknown[ 0, 1 ] ]);
	my $often = faulty($node, 'unsure', 'often', \@unknown);
	my $never = faulty($node, 'sure', 'never', \@unknown);
	ended($_) foreach $twice, $often, $never;
	is(query("SELECT state, attempt, unknown_ends FROM gen_jobs WHERE id = $twice"), 'succeeded|3|2', 'two are repeated, and counted');
	like(query("SELECT attempt_errors #>> '{0,error}' FROM gen_jobs WHERE id = $twice"), qr/may have been accepted\. genjob repeats it, and you may pay twice\.$/, '... which the job says');
	is(query("SELECT state, attempt, unknown_ends FROM gen_jobs WHERE id = $often"), 'failed|3|2', 'a third is not');
	like(query("SELECT error FROM gen_jobs WHERE id = $often"),
		qr/may have been accepted, and money spent: look for it at the provider before you call genjob\.retry\(\)\. genjob sent it 3 times, and you may have paid each time\. Its lists of requests show it by its time or by the Idempotency-Key [0-9a-f-]{36}\. If it is not there, genjob\.retry\(\) sends it again; if it is, take its answer from there\.$/,
		'... the error says how to look, and how to go on');
	is($standin->arrived('often'), 3, '... three calls were made');
	is(query("SELECT state, attempt, unknown_ends FROM gen_jobs WHERE id = $never"), 'failed|1|0', 'none with max_unknown 0');
	is(query(q{SELECT string_agg(unknown_ends::text, ' ' ORDER BY server) FROM genjob.servers WHERE server IN ('sure', 'unsure')}), '0 4', 'genjob.servers counts them');
	query("SELECT genjob.retry($often)");
	ok(wait_state($node, $often, 'succeeded'), 'it can be gone on with by hand');
	is(query("SELECT unknown_ends FROM gen_jobs WHERE id = $often"), 2, '... with two more of them');
	my ($code, $out, $err) = $node->psql('postgres', "UPDATE gen_jobs SET unknown_ends = 0 WHERE id = $often");
	like($err, qr/column "unknown_ends" of gen_jobs is set by genjob/, 'nobody changes the count');
};

subtest 'a call that is still at work' => sub {
	create_server($node, 'working', 'openai-images', $standin, %quick, timeout => '30 s');
	my $id = faulty($node, 'working', 'working', [ { reset => 1 }, ({ status => 409, retry_after => '0.05' }) x 12 ]);
	ok(wait_state($node, $id, 'succeeded'), 'is asked about under its key as long as it takes');
	is(query("SELECT attempt, failures, unknown_ends, put_off_since IS NULL FROM gen_jobs WHERE id = $id"), '14|1|1|t', '... and only the first attempt counts');
	my @keys = map { $_->{headers}{'Idempotency-Key'} } grep { $_->{id} eq 'working' } $standin->requests;
	is(scalar(grep { $_ eq $keys[0] } @keys), 14, '... always with the same key');
	create_server($node, 'endless', 'openai-images', $standin, %quick, timeout => '1 s', max_attempts => 2);
	$id = faulty($node, 'endless', 'endless', [ { reset => 1 }, { status => 409 } ], script => { repeat => 1 });
	ok(wait_state($node, $id, 'failed'), '... but no longer than timeout');
};

$_->stop('immediate') foreach $fast, $node;
$standin->stop;
done_testing();

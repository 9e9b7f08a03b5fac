# What servers, and others who can write the table, may say to do harm: it fails one job at most, with a
# sentence; it leads nowhere private, shows no secret, and fills no memory. And what they say of how long to wait,
# whether to try again, and what they have forgotten, is understood.

use strict;
use warnings;

use JSON::PP ();
use Time::HiRes qw(sleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $json = JSON::PP->new->utf8->canonical;
my $png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
my %quick = (poll_interval => '20 ms', retry_base => '10 ms', retry_max => '20 ms');
my %ids;

sub start
{
	my ($name, $server, $script, $more, %columns) = @_;
	my $text = StandIn::request(prompt => $name, %{ $more // {} }, standin => { id => $name, %$script });
	$ids{$name} = enqueue($node, $server, $text, %columns);
	return $ids{$name};
}

# A server that answers the n-th call of all with the n-th of these, as JSON, and then with the last one.
sub create_scripted
{
	my ($name, $answers, %options) = @_;
	my $script = StandIn::script(id => $name, faults => [ map { { body => $json->encode($_) } } @$answers ], repeat => 1);
	return create_server($node, $name, 'http', $standin, %quick, path => '/echo', reply => 'poll',
		headers => $json->encode({ 'X-Standin' => $script }), %options);
}

sub state_and_error
{
	my ($name) = @_;    # the result may be more than Perl's JSON takes
	return query("SELECT state || ': ' || coalesce(error, '') FROM gen_jobs WHERE id = $ids{$name}");
}

create_server($node, 'patient', 'replicate', $standin, %quick, model => 'm');
create_server($node, 'images', 'openai-images', $standin, %quick, max_in_flight => 100);

# A job that is cut off while it is submitted, by whose row it then seems that this had been answered.
sub forge
{
	my ($name, $server, $remote_id, $remote) = @_;
	my $request = StandIn::request(prompt => $name, standin => { id => $name, faults => [ { latency_ms => 600_000 } ] });
	$ids{$name} = query('INSERT INTO gen_jobs (server, request, remote_id, remote) VALUES ('
		  . join(', ', literal($server), literal($request), literal($remote_id), $remote)
		  . ') RETURNING id');
	return;
}

sub start_graph
{
	my ($name, $script) = @_;
	my $graph = {
		6 => { class_type => 'CLIPTextEncode', inputs => { text => $name } },
		9 => { class_type => 'SaveImage', inputs => { filename_prefix => 'x' } } };
	return start($name, 'comfy', $script, { prompt => $graph });
}

subtest 'rows that somebody else has written' => sub {
	my $deep = q{(repeat('[', 2000) || repeat(']', 2000))::jsonb};
	forge('deep URLs', 'patient', 'p', "jsonb_build_object('urls', $deep)");
	forge('URLs that are none', 'patient', 'p', q{'{"urls": [1]}'});
	forge('a remote that is none', 'patient', 'p', q{'"x"'});
	forge('a deep answer', 'images', undef, "jsonb_build_object('answer', $deep)");
	forge('an answer that is none', 'images', undef, q{'{"answer": 7}'});
	# one that is asked by its id, and cancelled at a URL
	create_server($node, 'bent', 'http', $standin, %quick, path => '/echo', reply => 'poll', remote_id => '/id',
		poll => 'GET /echo/{id}', state => '/status', states => 'ok=done', cancel => 'POST @/urls/stop',
		headers => $json->encode({ 'X-Standin' => StandIn::script(id => 'bent', repeat => 1, faults => [ { latency_ms => 600_000 }, { body => '{}' } ]) }));
	forge('deep URLs to cancel', 'bent', 'p', "jsonb_build_object('urls', $deep)");

	# addresses that are private, or lead on to one that is
	my @private = qw(
	  0.0.0.1 10.0.0.1 100.64.0.1 127.0.0.2 2130706433 169.254.169.254 172.16.0.1 192.168.0.1 198.18.0.1 198.51.100.1
	  224.0.0.1 255.255.255.255 [::] [::1] [fc00::1] [fe80::1] [ff02::1] [2001:db8::1]
	  [::ffff:10.0.0.1] [::10.0.0.1] [64:ff9b::a00:1] [64:ff9b:1::a00:1] [2002:7f00:1::1] [2002:a00:1::]
	  [2001:0:7f00:1::] [2001:0:808:808:0:0:f5ff:fffe]);
	for my $host (@private)
	{
		my $answer = $json->encode({ data => [ { url => "http://$host/x.png" } ] });
		forge($host, 'images', undef, literal(qq({"private": false, "answer": $answer})));
	}
	# some are taken up where the row says that they were; the next dispatcher takes up all
	ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM gen_jobs WHERE state = 'queued'"), 'jobs are under way');
	my $pid = dispatcher_pid($node);
	query("SELECT pg_terminate_backend($pid)");
	$pid = wait_dispatcher($node, 'postgres', $pid);
	$ids{'beside'} = enqueue($node, 'images', { prompt => 'beside' });
	ok(wait_state($node, $ids{beside}, 'succeeded'), 'a job beside such rows succeeds');
	ok($node->poll_query_until('postgres', "SELECT phase IN ('waiting', 'polling') FROM genjob.activity WHERE job_id = $ids{'deep URLs to cancel'}"), 'one is asked about');
	query("SELECT genjob.cancel($ids{'deep URLs to cancel'})");
	ok($node->poll_query_until('postgres', "SELECT error ~ 'did not confirm it' FROM gen_jobs WHERE id = $ids{'deep URLs to cancel'}"), '... and can be cancelled');
	ok(wait_all_ended($node), 'they end');
	is(dispatcher_pid($node), $pid, '... without the dispatcher');
	like(state_and_error('deep URLs'), qr/^failed: genjob could not read the columns remote_id and remote, which name the prediction p .*nested|^failed: .*could not read JSON/, 'URLs that cannot be read');
	like(state_and_error($_), qr/^failed: server "patient" gave no URL at /, $_) for 'URLs that are none', 'a remote that is none';
	like(state_and_error('a deep answer'), qr/^failed: genjob could not read the answer of server "images" in the column remote: .*column result now/, 'an answer that cannot be read');
	is(query("SELECT length(result::text) FROM gen_jobs WHERE id = $ids{'a deep answer'}"), 4000, '... is kept');
	like(state_and_error('an answer that is none'), qr/^failed: .*has no output at/, 'an answer that is none');
	like(state_and_error($_), qr/^failed: .*leads into a private network/, "nothing is fetched from $_") for @private;
};

subtest 'ids' => sub {
	my $id_of_cancel = qq(x"], "all": ["\\ y);
	for my $id ('a/b', 'til~de', '~1', '*')
	{
		create_scripted("id $id",
			[ { id => $id }, { '!' => { status => 'done' }, $id => { status => 'running' } },
				{ '!' => { status => 'running' }, $id => { status => 'done', image => $png } } ],
			remote_id => '/id', poll => 'GET /echo/{id}', state => '/{id}/status', states => 'ok=done', output => '/{id}/image');
		start("id $id", "id $id", {});
	}
	create_scripted('canceller', [ { id => $id_of_cancel, urls => { stop => '/echo/stop', kill => '/echo/kill' } } ],
		remote_id => '/id', poll => 'GET /echo/{id}', state => '/status', states => 'ok=done',
		cancel => 'POST @/urls/stop {"stop": ["{id}"]}; POST @/urls/kill {"kill": "{id}"}');
	start('told twice', 'canceller', {});
	ok($node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $ids{'told twice'}"), 'an odd id is known');
	query("SELECT genjob.cancel($ids{'told twice'})");
	ok($node->poll_query_until('postgres', "SELECT error ~ 'confirmed it' FROM gen_jobs WHERE id = $ids{'told twice'}"), '... and its prediction cancelled');
	my @told = map { $_->{body} } grep { $_->{method} eq 'POST' && $_->{uri} =~ m{^/echo/(stop|kill)$} } $standin->requests(200);
	is_deeply([ map { $json->decode($_) } @told ], [ { stop => [$id_of_cancel] }, { kill => $id_of_cancel } ],
		'... at each address that the answer gave, by a body that says no more than its id');
	ok(wait_all_ended($node), 'they end');
	for my $id ('a/b', 'til~de', '~1', '*')
	{
		is(state_and_error("id $id"), 'succeeded: ', "a prediction with the id $id");
		is(query(qq{SELECT count(*) FROM gen_outputs WHERE job_id = $ids{"id $id"}}), 1, '... brings its output');
	}
};

subtest 'what outputs may be together, and where they may not lead' => sub {
	create_server($node, 'small', 'openai-images', $standin, %quick, max_response => '30kB');
	create_server($node, 'talker', 'openai-chat', $standin, %quick, model => 'm', max_response => '10kB');
	create_server($node, 'muser', 'ollama', $standin, %quick, model => 'm', max_response => '10kB');
	my %urls = (response_format => 'url', size => '64x64');
	start('two', 'small', {}, { %urls, n => 2 });
	start('three', 'small', {}, { %urls, n => 3 });
	start('one is missing', 'small', { download_faults => [ {}, { status => 410 } ], repeat => 1 }, { %urls, n => 2 });
	start('redirected', 'small', { download_faults => [ { redirect => 'same' } ], repeat => 1 }, \%urls);
	start('redirected with a key', 'small', { download_faults => [ { redirect => $standin->url('/nothing?token=geheim') } ], repeat => 1 }, \%urls);
	start('a long stream', 'talker', { text => 'word ' x 10_000 }, { messages => [ { role => 'user', content => 'x' } ] });
	start('many lines', 'muser', { text => 'word ' x 10_000 });
	ok(wait_all_ended($node), 'they end');
	is(state_and_error('two'), 'succeeded: ', 'outputs that are together as large as an answer may be');
	like(state_and_error('three'), qr/^failed: .*outputs of server "small" are together larger than 30 kB\. Raise its option max_response, or set its option store to put outputs into an object store\./, '... and larger');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $ids{three}"), 2, '... of which those are kept that had room');
	like(state_and_error('one is missing'), qr/^failed: .*output could not be downloaded/, 'a download that fails');
	is(query("SELECT (SELECT count(*) FROM gen_outputs WHERE job_id = id) || ' ' || (result IS NOT NULL) FROM gen_jobs WHERE id = $ids{'one is missing'}"), '1 true', '... leaves what had come');
	like(state_and_error('redirected'), qr/^failed: .*more than 3 redirects/, 'redirections without an end');
	like(state_and_error('redirected with a key'), qr{^failed: .*output could not be downloaded from \S+/nothing\?\*\*\*: .*HTTP 404}, 'a query is not shown');
	unlike(query("SELECT string_agg(j::text, ' ') FROM gen_jobs j WHERE id = $ids{'redirected with a key'}") =~ s/standin.*?geheim//r, qr/geheim/, '... anywhere');
	like(state_and_error($_), qr/^failed: .*larger than 10 kB\. Raise its option max_response\./, $_) for 'a long stream', 'many lines';
};

subtest 'names that must be saved, and what is forgotten' => sub {
	start('usage', 'patient', { faults => [ {
		body => '{"id": "p-usage", "status": "starting", "urls": {"get": "' . $standin->url('/v1/predictions/p-usage') . '"}, "metrics": {"t": 1e999999}}' } ] });
	start('forgotten twice', 'patient', { latency_ms => 200, poll_faults => [ ({ status => 404 }) x 2 ] });
	start('forgotten thrice', 'patient', { latency_ms => 60_000, poll_faults => [ ({ status => 404 }) x 3 ] });
	create_server($node, 'comfy', 'comfyui', $standin, %quick, timeout => '100 s');
	start_graph('restarted', { outcome => 'gone', latency_ms => 50 });
	start_graph('queued for long', { queue_ms => 1_500, latency_ms => 500 });
	ok($node->poll_query_until('postgres', "SELECT remote_id = 'p-usage' FROM gen_jobs WHERE id = $ids{usage}"), 'a prediction is saved by name although its usage cannot be');
	query("SELECT genjob.cancel($ids{usage})");
	ok(wait_all_ended($node), 'they end');
	is(state_and_error('forgotten twice'), 'succeeded: ', 'a prediction that is forgotten twice');
	like(state_and_error('forgotten thrice'), qr/^failed: server "patient" does not know the prediction \S+ any longer \(HTTP 404\)/, '... three times');
	is($standin->counts->{ids}{'forgotten thrice'}{polls}, 3, '... and no more');
	like(state_and_error('restarted'), qr/^failed: server "comfy" does not know the prediction \S+ any longer \(it is neither in the queue nor in the history\)/, 'a graph that the server has forgotten');
	is(state_and_error('queued for long'), 'succeeded: ', '... and one that waits in its queue');
};

subtest 'predictions that are cancelled' => sub {
	create_server($node, 'mute', 'bfl', $standin, %quick, model => 'flux-pro');
	start('cannot be told', 'mute', { latency_ms => 60_000 });
	start('locked', 'patient', { latency_ms => 60_000, cancel_faults => [ { latency_ms => 500 } ] });
	ok($node->poll_query_until('postgres', "SELECT count(remote_id) = 2 FROM gen_jobs WHERE id IN ($ids{'cannot be told'}, $ids{locked})"), 'predictions run');
	my $session = Session->new($node);
	# the provider answers when the row is locked
	kill 'STOP', $standin->pid;
	query("SELECT genjob.cancel($ids{'cannot be told'}), genjob.cancel($ids{locked})");
	$session->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $ids{locked} FOR UPDATE");
	kill 'CONT', $standin->pid;
	sleep 0.05 until ($standin->counts->{ids}{locked}{cancelled} // 0) == 1;
	# after the provider's answer the dispatcher has gone about its other business
	ok(wait_state($node, enqueue($node, 'images', { prompt => 'later' . $_ }), 'succeeded'), 'other jobs go on') for 1 .. 2;
	unlike(state_and_error('locked'), qr/confirm/, 'nothing is written over a row that is locked');
	$session->query('COMMIT');
	ok($node->poll_query_until('postgres', "SELECT error ~ 'confirmed it' FROM gen_jobs WHERE id = $ids{locked}"), '... but afterwards');
	ok($node->poll_query_until('postgres', "SELECT error ~ 'has no call to cancel a prediction: its work continues and may cost money' FROM gen_jobs WHERE id = $ids{'cannot be told'}"),
		'a job says that the provider could not be told');
	$session->quit;
};

subtest 'how long to wait' => sub {
	my %waits = (
		'Retry-After' => [ { headers => { 'Retry-After' => '100' } } ],
		'Retry-After, a date' => [ { retry_after => { date_in_s => 100 } } ],
		'retry-after-ms' => [ { headers => { 'retry-after-ms' => '100000', 'Retry-After' => '3' } } ],
		'x-ratelimit-reset' => [ { headers => { 'x-ratelimit-remaining-requests' => '5', 'x-ratelimit-reset-requests' => '900', 'x-ratelimit-remaining-tokens' => '0', 'x-ratelimit-reset-tokens' => '1m40s' } } ],
		'RateLimit-Reset' => [ { headers => { 'RateLimit-Reset' => '100' } } ],
		'a number' => [ { body => '{"error": "loading", "estimated_time": 100}' }, retry_after => '/estimated_time' ],
		'a duration' => [ { body => '{"error": {"message": "quota", "details": [{}, {"retryDelay": "100.0s"}]}}' }, retry_after => '/error/details/*/retryDelay' ],
		'words' => [ { body => '{"error": {"message": "Rate limit reached. Please try again in 1m40s."}}' } ],
		'other words' => [ { body => '{"detail": "Request was throttled. Your rate limit resets in ~100s."}' }, error => '/detail' ],
		'Retry-After, an epoch' => [ { headers => { 'Retry-After' => '' . (time + 101) } } ],
		'RateLimit' => [ { headers => { 'RateLimit' => '"default";r=0;t=100' } } ],
		'a limit that renews at a time' => [ { headers => { 'X-RateLimit-Remaining' => '0', 'X-RateLimit-Reset' => '' . (time + 101) } } ],
		'seconds with a comma' => [ { body => '{"detail": "Please wait 100,000 milliseconds."}' }, error => '/detail' ],
		'minutes in words' => [ { body => '{"error": {"message": "Please retry in 2 minutes."}}' } ]);
	for my $way (sort keys %waits)
	{
		my ($fault, %options) = @{ $waits{$way} };
		create_server($node, $way, 'openai-images', $standin, retry_base => '10 ms', %options);
		start($way, $way, { faults => [ { status => 429, %$fault } ] });
	}
	for my $way (sort keys %waits)
	{
		ok($node->poll_query_until('postgres', "SELECT attempt_errors IS NOT NULL FROM gen_jobs WHERE id = $ids{$way}"), "$way: refused");
		# a time that the answer names was chosen when all of these began
		my $least = $way =~ /minutes/ ? 118 : $way =~ /epoch|at a time/ ? 40 : 98;
		my $most = $way =~ /minutes/ ? 122 : 102;
		is(query("SELECT state || ' ' || failures || ' ' || (run_at - (attempt_errors -> -1 ->> 'at')::timestamptz BETWEEN '$least s' AND '$most s') FROM gen_jobs WHERE id = $ids{$way}"),
			'queued 0 true', '... waits as long as it is told');
	}
	query("DELETE FROM gen_jobs WHERE state = 'queued'");
};

subtest 'whether to try again' => sub {
	create_server($node, 'stubborn', 'openai-images', $standin, %quick, max_attempts => 3);
	start('should not', 'stubborn', { faults => [ { status => 500, headers => { 'x-should-retry' => 'false' } } ] });
	start('should', 'stubborn', { faults => [ { status => 400, headers => { 'x-should-retry' => 'true' } } ] });
	create_server($node, 'queue', 'fal', $standin, %quick, model => 'fal-ai/flux');
	my %fal = (status => 500, headers => { 'X-Fal-Retryable' => 'false', 'X-Fal-Error-Type' => 'runner_crashed' });
	start('fal says no', 'queue', { faults => [ \%fal ] });
	start('fal says yes', 'queue', { latency_ms => 20, faults => [ { status => 422, headers => { 'X-Fal-Retryable' => 'true' } } ] });
	start('fal has failed', 'queue', { latency_ms => 20, result_faults => [ \%fal ], repeat => 1 });
	ok(wait_all_ended($node), 'they end');
	like(state_and_error('should not'), qr/^failed: .*HTTP 500/, 'a server says not to try again');
	is(job($node, $ids{'should not'})->{attempt}, 1, '... which is obeyed');
	is(state_and_error('should'), 'succeeded: ', 'a server says to try again');
	like(state_and_error('fal says no'), qr/^failed: .*HTTP 500 \(runner_crashed\)/, 'fal says not to try again');
	is(job($node, $ids{'fal says no'})->{attempt}, 1, '... which is obeyed');
	is(state_and_error('fal says yes'), 'succeeded: ', 'fal says to try again');
	like(state_and_error('fal has failed'), qr/^failed: .*HTTP 500 \(runner_crashed\)/, 'fal says so of a result');
	is($standin->counts->{ids}{'fal has failed'}{arrived}, 1, '... which is not submitted again');
};

subtest 'text among outputs' => sub {
	create_server($node, 'responder', 'openai-responses', $standin, %quick, model => 'gpt');
	my $items = { status => 'completed', id => 'r', output => [ { result => 'plain words, no picture' }, { result => 'done' }, { result => $png }, { result => undef } ] };
	start('text among outputs', 'responder', { poll_faults => [ { body => $json->encode($items) } ], repeat => 1, latency_ms => 10 }, { input => 'x' });
	ok(wait_all_ended($node), 'they end');
	is(state_and_error('text among outputs'), 'succeeded: ', 'text where an output may be');
	is(query("SELECT result #>> '{output,0,result}' || ' ' || (result #>> '{output,1,result}') || ' ' || (result #> '{output,2,result}') FROM gen_jobs WHERE id = $ids{'text among outputs'}"),
		'plain words, no picture done {"$output": 1}', '... stays where it is');
};

is($standin->counts(summary => 1)->{max_submitted_per_id}, 1, 'no prediction was made twice');

done_testing();

# Streams of all kinds, from server to table: what they come to, what ends them, what is shown while they come; and that
# none which may have been paid for is sent again by itself.

use strict;
use warnings;

use JSON::PP;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $json = JSON::PP->new->utf8->canonical;
my %ids;

# Begins a job that is answered by such a stream: each event is data, or [type, data].
sub start
{
	my ($name, $server, @events) = @_;
	my $body = join '', map { (ref $_ ? "event: $_->[0]\n" : '') . 'data: ' . (ref $_ ? $_->[1] : $_) . "\n\n" } @events;
	return $ids{$name} = enqueue($node, $server,
		StandIn::request(prompt => $name, messages => [ { role => 'user', content => 'x' } ], id => $name,
			faults => [ { status => 200, content_type => 'text/event-stream', body => $body } ]), max_attempts => 3);
}

sub outputs { return query("SELECT coalesce(string_agg(content_type || ' ' || octet_length(data), ', ' ORDER BY ordinal), '') FROM gen_outputs WHERE job_id = $ids{$_[0]}") }

my %quick = (retry_base => '10 ms', retry_max => '20 ms', path => '/echo');
create_server($node, 'chat', 'openai-chat', $standin, model => 'm', %quick);
create_server($node, 'claude', 'anthropic', $standin, model => 'm', %quick);
create_server($node, 'any', 'http', $standin, %quick);
create_server($node, 'own', 'http', $standin, %quick, reply => 'stream', stream_type => '/kind', stream_end => 'event:over',
	stream_error => 'event:sorry', stream_parts => 'word: /word -> /said; over: /why -> /why', stream_places => '/said', error => '/oops');
create_server($node, 'gemini', 'gemini', $standin, model => 'm', %quick);
create_server($node, 'cohere', 'cohere', $standin, model => 'm', %quick);
create_server($node, 'tgi', 'tgi', $standin, %quick);
create_server($node, 'speaker', 'openai-speech', $standin, model => 'm', %quick);

my $picture = 'data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==';
start('picture', 'chat', '{"choices":[{"index":0,"delta":{"role":"assistant","content":"here"}}]}',
	qq({"choices":[{"index":0,"delta":{"images":[{"type":"image_url","image_url":{"url":"$picture"}}]}}]}),
	'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"total_tokens":7}}', '[DONE]');
start('tools', 'claude',
	[ message_start => '{"type":"message_start","message":{"id":"m","role":"assistant","content":[],"usage":{"input_tokens":5,"output_tokens":1}}}' ],
	[ content_block_start => '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}' ],
	[ content_block_delta => '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"x\":"}}' ],
	[ content_block_delta => '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":" 7.0}"}}' ],
	[ message_delta => '{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":9}}' ],
	[ message_stop => '{"type":"message_stop"}' ]);
start('overloaded', 'claude', [ error => '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}' ]);
start('without an end', 'claude', [ message_start => '{"type":"message_start","message":{"content":[]}}' ]);
start('of another', 'any', [ message_start => '{"type":"message_start","message":{"content":[]}}' ],
	[ content_block_start => '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}' ],
	[ content_block_delta => '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}' ],
	[ message_stop => '{"type":"message_stop"}' ]);
start('of its own', 'own', '{"kind":"word","word":"a "}', '{"kind":"word","word":"b"}', '{"kind":"over","why":"end"}');
start('sorry', 'own', '{"kind":"word","word":"a"}', '{"kind":"sorry","oops":"no more"}');
start('nothing', 'chat', '[DONE]');
start('unknown', 'any', '{"a":1}', '{"a":2}');
start('thoughts', 'gemini', '{"candidates":[{"content":{"parts":[{"text":"so","thought":true}]}}]}',
	'{"candidates":[{"content":{"parts":[{"text":"H"}]}}]}', '{"candidates":[{"content":{"parts":[{"text":"i"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}');
start('cohere', 'cohere', [ 'message-start' => '{"type":"message-start","id":"c","delta":{"message":{"role":"assistant","content":[]}}}' ],
	[ 'content-start' => '{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}' ],
	[ 'content-delta' => '{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"Hi"}}}}' ],
	[ 'message-end' => '{"type":"message-end","delta":{"finish_reason":"MAX_TOKENS","usage":{"tokens":{"output_tokens":2}}}}' ]);
start('tgi', 'tgi', '{"index":1,"token":{"id":1,"text":"H"},"generated_text":null,"details":null}',
	'{"index":2,"token":{"id":2,"text":"i"},"generated_text":"Hi","details":{"generated_tokens":2}}');
start('sound', 'speaker', '{"type":"speech.audio.delta","audio":"SUQzBAA="}', '{"type":"speech.audio.delta","audio":"gIE="}', '{"type":"speech.audio.done","usage":{"total_tokens":3}}');
$ids{list} = enqueue($node, 'gemini', StandIn::request(id => 'list', contents => [], faults => [ { status => 200, content_type => 'application/json',
	body => '[{"candidates":[{"content":{"parts":[{"text":"H"}]}}]},{"candidates":[{"content":{"parts":[{"text":"i"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}]' } ]));
wait_all_ended($node);

sub comes_to
{
	my ($name, $state, $result, $error, $outputs) = @_;
	my $job = job($node, $ids{$name});
	is($job->{state}, $state, $name) or diag($job->{error});
	is_deeply($job->{result}, defined $result ? $json->decode($result) : undef, '... what it comes to');
	like($job->{error} // '', $error, '... and why');
	is(outputs($name), $outputs, '... and the outputs');
	is($standin->counts->{ids}{$name}{arrived}, 1, '... and it was sent once');
	return $job;
}

is_deeply(
	comes_to('picture', 'succeeded',
		'{"choices":[{"index":0,"message":{"role":"assistant","content":"here","images":[{"type":"image_url","image_url":{"url":{"$output":1}}}]},"finish_reason":"stop"}],"usage":{"total_tokens":7}}',
		qr/^$/, 'image/png 16')->{usage}, { total_tokens => 7 }, '... and what it used');
is_deeply(
	comes_to('tools', 'succeeded',
		'{"id":"m","role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"x":7.0}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":9}}',
		qr/^$/, '')->{usage}, { input_tokens => 5, output_tokens => 9 }, '... and what it used');
comes_to('overloaded', 'failed', undef, qr/^server "claude" ended its answer with an error: Overloaded/, 'text/event-stream 96');
comes_to('without an end', 'failed', '{"content":[]}',
	qr/^the stream of server "claude" ended without the last event that its option stream_end describes\. .*does not repeat the call\. What came is kept in gen_outputs\. .*set stream_end\.$/, 'text/event-stream 78');
comes_to('of another', 'succeeded', '{"content":[{"type":"text","text":"Hi"}]}', qr/^$/, '');
comes_to('of its own', 'succeeded', '{"said":"a b","why":"end"}', qr/^$/, '');
comes_to('sorry', 'failed', '{"said":"a"}', qr/ended its answer with an error: no more/, '');
comes_to('nothing', 'failed', undef, qr/^the stream of server "chat" has no parts that its option stream_parts names/, 'text/event-stream 14');
comes_to('unknown', 'failed', '{"a":2}', qr/^the stream of server "any" ended without the last event/, 'text/event-stream 30');
comes_to('thoughts', 'succeeded',
	'{"candidates":[{"content":{"parts":[{"text":"so","thought":true},{"text":"Hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}', qr/^$/, '');
is_deeply(
	comes_to('cohere', 'succeeded', '{"id":"c","message":{"role":"assistant","content":[{"type":"text","text":"Hi"}]},"finish_reason":"MAX_TOKENS","usage":{"tokens":{"output_tokens":2}}}',
		qr/^$/, '')->{usage}, { tokens => { output_tokens => 2 } }, '... and what it used');
is_deeply(
	comes_to('tgi', 'succeeded', '{"generated_text":"Hi","details":{"generated_tokens":2,"tokens":[{"id":1,"text":"H"},{"id":2,"text":"i"}]}}', qr/^$/, '')->{usage},
	{ generated_tokens => 2 }, '... and what it used');
is_deeply(comes_to('sound', 'succeeded', '{"audio":{"$output":1},"usage":{"total_tokens":3}}', qr/^$/, 'audio/mpeg 7')->{usage}, { total_tokens => 3 }, '... and what it used');
is_deeply(comes_to('list', 'succeeded', '{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}', qr/^$/, '')->{usage},
	{ totalTokenCount => 3 }, '... and what it used');

subtest 'the same with and without a stream' => sub {
	my $words = { messages => [ { role => 'user', content => 'the same words' } ] };
	my %requests = ('openai-chat' => $words, anthropic => $words, ollama => { prompt => 'the same words' });
	foreach my $api (sort keys %requests)
	{
		create_server($node, $api, $api, $standin, model => 'm');
		my @jobs = map { enqueue($node, $api, { %{ $requests{$api} }, stream => $_ }) } JSON::PP::true, JSON::PP::false;
		wait_all_ended($node);
		my ($streamed, $whole) = map { job($node, $_) } @jobs;
		is("$streamed->{state} $whole->{state}", 'succeeded succeeded', "$api, streamed and not");
		is_deeply($streamed->{result}, $whole->{result}, '... comes to the same');
		is_deeply($streamed->{usage}, $whole->{usage}, '... and so does what it used');
	}
};

subtest 'what is shown while it comes' => sub {
	query(q{
		CREATE ROLE owner; CREATE ROLE other; CREATE ROLE watcher IN ROLE pg_read_all_stats;
		GRANT USAGE ON FOREIGN SERVER slow TO owner; GRANT SELECT, INSERT ON gen_jobs TO owner}) if create_server($node, 'slow', 'openai-chat', $standin, model => 'm');
	my $slow = literal(StandIn::request(messages => [ { role => 'user', content => 'x' } ], id => 'slow',
		text => join(' ', map { "word$_" } 1 .. 1500), chunk_ms => 20));
	my $id = query("SET ROLE owner; INSERT INTO gen_jobs (server, request) VALUES ('slow', $slow) RETURNING id");
	ok($node->poll_query_until('postgres', "SELECT tokens > 60 AND length(tail) = 200 AND tail ~ 'word[0-9]+ word[0-9]+' FROM genjob.activity WHERE job_id = $id"),
		'the end of the text, and how many tokens there are, are shown while it comes');
	my $shown = "SELECT phase, tokens > 60, length(tail) FROM genjob.activity WHERE job_id = $id";
	is(query("SET ROLE owner; $shown"), 'receiving|t|200', '... to its owner');
	is(query("SET ROLE watcher; $shown"), 'receiving|t|', '... of the text nothing to who may read all statistics');
	is(query("SET ROLE other; $shown"), '', '... and nothing to others');
	query("SELECT genjob.cancel($id)");
	wait_all_ended($node);
	is(query("SELECT count(*) FROM genjob.activity WHERE job_id = $id"), 0, '... until it has ended');
};

$node->stop;
done_testing();

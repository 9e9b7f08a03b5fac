# What servers send, byte by byte: nothing in it is read or written beyond its end, nothing gets into a table that cannot
# be printed, and what was said comes out as it was said.

use strict;
use warnings;

use IO::Socket::INET;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Shapes;

my $node = new_node(conf => 'autovacuum = off');
my $pid = dispatcher_pid($node);
my $n = 0;
my ($port, $server_pid) = Shapes::serve();

# The job that such an answer makes; options are the server's.
sub answered
{
	my ($body, %options) = @_;
	my $name = 'bytes' . ++$n;
	my $type = delete $options{type} // 'application/json';
	my $api = delete $options{api} // 'http';

	# the answer goes to the server in its own path, so that it needs to keep nothing
	my $path = '/=' . unpack('H*', "$type\n$body") . '/0';
	create_server($node, $name, $api, "http://127.0.0.1:$port", auth => 'none', max_attempts => 1, path => $path, %options);
	my $id = enqueue($node, $name, '{"prompt": "a"}');
	$node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id")
	  or diag('the job does not end');
	return job($node, $id);
}

sub text_of
{
	my ($body, %options) = @_;
	my $job = answered($body, api => 'openai-chat', type => 'text/event-stream', %options);
	return "$job->{state}: " . ($job->{result}{choices}[0]{message}{content} // '') . ($job->{state} eq 'failed' ? " $job->{error}" : '');
}

sub value
{
	my ($id, $sql) = @_;
	return $node->safe_psql('postgres', "SELECT $sql FROM gen_jobs WHERE id = $id");
}

sub delta { return '{"choices":[{"delta":{"content":"' . $_[0] . '"}}]}' }

my $done = "data: [DONE]\n\n";

# ---- streams ----

subtest 'bytes 101: an event whose data has NUL bytes is read, and written, behind its end' => sub {
	foreach my $tail ('', "\"", '1}', '"a"}')
	{
		like(text_of(qq(data: {"a":) . "\0" x 4000 . "$tail\n\n"), qr/^failed:  .*ended without the last event/, 'it is no event');
	}
	is(text_of(qq(data: {"a":\0\n\ndata: ) . delta('x') . "\n\n$done"), 'succeeded: x', 'those behind it are');
	is(dispatcher_pid($node), $pid, 'the dispatcher is the one that it was');
};

subtest 'bytes 102: an event that the rules of server-sent events take for another is lost' => sub {
	my ($a, $b) = (delta('Hel'), delta('lo'));
	my ($left, $right) = ('{"choices":[{"delta":', '{"content":"Hello"}}]}');
	is(text_of("data: $a\n\ndata: $b\n\n$done"), 'succeeded: Hello', 'line feeds');
	is(text_of("data: $a\r\n\r\ndata: $b\r\n\r\n$done"), 'succeeded: Hello', 'both');
	is(text_of("data: $a\r\rdata: $b\r\r" . "data: [DONE]\r\r"), 'succeeded: Hello', 'carriage returns');
	is(text_of("\xEF\xBB\xBFdata: $a\n\ndata: $b\n\n$done"), 'succeeded: Hello', 'a byte order mark');
	is(text_of("data:$a\n\ndata:$b\n\n$done"), 'succeeded: Hello', 'no space');
	is(text_of(": ping\n\nevent: x\nid: 7\ndata: $a\nretry: 5\n\n:\n\ndata: $b\n\n$done"), 'succeeded: Hello', 'comments and other fields');
	is(text_of("data: $left\ndata: $right\n\n$done"), 'succeeded: Hello', 'two lines');
	is(text_of("data: $left\rdata\rdata: $right\r\r$done"), 'succeeded: Hello', '... and an empty one between');
	is(text_of("data: $a\ndata: $b\n" . "data: [DONE]\n"), 'succeeded: Hello', 'no line between events');
	is(text_of("data: $a\n\ndata: $b\n\ndata: [DONE]"), 'succeeded: Hello', 'no end of the last line');
	like(text_of("data: $a\n\ndata: {\"choices\":[{\"del"), qr/^failed: Hel .*ended without the last event/, 'cut off');
};

subtest 'bytes 103: half a character in each of two events is two broken ones' => sub {
	my $value = sub {
		my $job = answered(join('', map { 'data: ' . delta($_) . "\n\n" } @_) . $done, api => 'openai-chat', type => 'text/event-stream');
		return value($job->{id}, "result #>> '{choices,0,message,content}'");
	};
	is($value->('\\ud83c', '\\udfa8'), "\xF0\x9F\x8E\xA8", 'it is one');
	is($value->('a\\ud83c', 'b\\udfa8'), "a\xEF\xBF\xBDb\xEF\xBF\xBD", 'halves that do not belong together');
	is($value->('\\ud83c'), "\xEF\xBF\xBD", 'a half at the end');
	is($value->('\\u0000'), "\xEF\xBF\xBD", 'a NUL');
	is($value->("\xED\xA0\xBC", "\xED\xBE\xA8"), '?' x 6, 'halves that are no escapes');
};

# ---- numbers ----

subtest 'bytes 104: an answer of numbers with exponents becomes a row that cannot be printed' => sub {
	my %numbers = ('1e131071' => 9000, '1e-16383' => 9000, '9e999' => 12_000, '1e63' => 12_000, '1' x 60_000 => 1);
	foreach my $number (sort keys %numbers)
	{
		my $job = answered('{"x":[' . join(',', ($number) x $numbers{$number}) . '],"usage":{"y":' . $number . '}}', usage => '/usage');
		is($job->{state}, 'succeeded', substr($number, 0, 12) . ': the job succeeds');
		cmp_ok(value($job->{id}, 'length(gen_jobs::text)'), '<', 10_000_000, '... and its row can be printed');
	}
};
subtest 'bytes 105: a number is stored as another one' => sub {
	foreach my $number (qw(7.0 0.10 -0.0 12345678901234567890 1e5 1.5E-3 3.14159265358979323846 9007199254740993 0 -1 100))
	{
		my $job = answered(qq({"seed": $number}));
		my $stored = $node->safe_psql('postgres', "SELECT '{\"seed\": $number}'::jsonb ->> 'seed'");
		is(value($job->{id}, "result ->> 'seed'"), $stored, $number);
	}
	my $job = answered('{"n": 1e131071, "m": [1e400, 2]}');
	is(value($job->{id}, 'result'), '{"m": [' . '1' . '0' x 400 . ', 2], "n": "1e131071"}', 'one that only takes room is text');
	is( $node->safe_psql('postgres', "SELECT convert_from(data, 'UTF8') FROM gen_outputs WHERE job_id = $job->{id}"),
		'{"n":1e131071,"m":[1e400,2]}', '... and as it came in an output');
};

subtest 'bytes 106: a request with a number of 131,072 digits is printed, by whoever may INSERT' => sub {
	create_server($node, 'plain', 'http', "http://127.0.0.1:$port", auth => 'none', path => '/words/100');
	foreach my $number ('1e131071', '-1e131071', '1e1000', '1e-16383', '0e-1001')
	{
		my ($code, $out, $error) = $node->psql('postgres',
			"INSERT INTO gen_jobs (server, request) VALUES ('plain', '{\"x\": [{\"y\": $number}]}')");
		like($error, qr/request has a number of more than 1000 digits.*HINT:  Write long numbers as strings/s, $number);
		($code, $out, $error) = $node->psql('postgres', "SELECT genjob.preview('plain', '{\"x\": $number}')");
		like($error, qr/request has a number of more than 1000 digits/, '... and in genjob.preview()');
	}
	like($node->safe_psql('postgres', q(SELECT genjob.preview('plain', '{"seed": 7.0, "n": 1e999, "d": 0.10}'))),
		qr/\{"d":0\.10,"n":10{999},"seed":7\.0\}/, 'others are sent as they were written');
	# what replication brings is not refused
	my $id = $node->safe_psql('postgres',
		q(SET session_replication_role = replica; INSERT INTO gen_jobs (server, request) VALUES ('plain', '{"x": 1e131071}') RETURNING id));
	ok(wait_state($node, $id, 'failed'), 'one that came by replication fails');
	like(value($id, 'error'), qr/request has a number of more than 1000 digits/, '... and says so');
};

# ---- text ----

subtest 'bytes 107: bytes that are no text get into a table, or keep a row from being written' => sub {
	my %texts = (
		'"\\u0000"' => "\xEF\xBF\xBD", '"\\ud83d"' => "\xEF\xBF\xBD", "\"\xff\"" => '?', "\"\0\"" => '?', "\"\x01\"" => '?',
		'"\\ud83c\\udfa8"' => "\xF0\x9F\x8E\xA8", "\"\xC0\x80\"" => '??', "\"\xED\xA0\x80\"" => '???', "\"\xF0\x9F\x8E\"" => '???',
		'"\\/\\b\\f\\n\\r\\t\\"\\\\"' => "/\b\f\n\r\t\"\\", '"\\u00e4"' => "\xC3\xA4");
	foreach my $text (sort keys %texts)
	{
		my $job = answered("{\"a\": $text, $text: 1}");
		is($job->{state}, 'succeeded', unpack('H*', $text));
		is(value($job->{id}, "encode(convert_to(result ->> 'a', 'UTF8'), 'hex')"), unpack('H*', $texts{$text}), '... is the text that it can be');
	}
	my $job = answered("HTTP\x01\xff\xfe", type => '!raw');
	is($job->{state}, 'failed', 'what is no HTTP');
	unlike($job->{error}, qr/[\x00-\x1f\x7f]/, '... is told of in text');
};

subtest 'bytes 108: what is not JSON is changed before it is kept' => sub {
	foreach my $body ("\x89PNG\r\n\x1a\n\0\xff\"\\u0000", '{"a":"\\u0000"', "[\"\\ud800\xff\",", '{"a": 01}', '{"a":1}x', '[1,]', '{"a":"\\x"}', '["a"')
	{
		my $job = answered($body, type => 'application/json');
		is($node->safe_psql('postgres', "SELECT encode(data, 'hex') FROM gen_outputs WHERE job_id = $job->{id}"), unpack('H*', $body), unpack('H*', $body));
	}
};

# ---- jsonb ----

subtest 'bytes 109: an answer is another one as jsonb than PostgreSQL makes of it' => sub {
	my @texts = (
		'{}', '[]', '[[],{},[[]],{"":{}}]', '1', '"a"', 'null', 'true', '[null,true,false]', '{"b":1,"a":2,"b":3,"aa":4,"":5}',
		'{"a":{"a":{"a":[1,[2,[3]]]}}}', '[' . join(',', 1 .. 100) . ']', '[' . join(',', map { "\"x$_\"" } 1 .. 100) . ']',
		'{' . join(',', map { "\"k$_\":[$_,\"$_\"]" } 1 .. 90) . '}', '[1.5,-2,1e3,0.001,123456789012345678901234567890]',
		'{"x":"y","a":[1,"zz",2,"zzz",3,{"q":null}],"n":-7}');
	foreach my $text (@texts)
	{
		my $job = answered($text);
		my $sql = literal($text);
		is(value($job->{id}, "result::text = $sql\::jsonb::text AND pg_column_size(result || '{}') = pg_column_size($sql\::jsonb || '{}')"
			  . " AND jsonb_send(result) = jsonb_send($sql\::jsonb) AND result = $sql\::jsonb"), 't', substr($text, 0, 40));
		is(value($job->{id}, "result @> $sql\::jsonb AND hash_record(row(result)) = hash_record(row($sql\::jsonb))"), 't', '... also for operators');
	}
	is(value(answered('{"b":1,"a":2,"b":3,"aa":4}')->{id}, "result -> 'b'"), 3, 'a member is found');
};

is(dispatcher_pid($node), $pid, 'all of that was one dispatcher');

kill 'TERM', $server_pid;
$node->stop;
done_testing();

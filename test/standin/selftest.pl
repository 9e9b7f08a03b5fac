#!/usr/bin/perl

# Self test of the stand-in GenAI server: every dialect and every fault once.
# Run it by "make -C test/standin check".

use strict;
use warnings;

use Compress::Zlib qw(crc32 uncompress);
use Errno qw(ECONNRESET);
use File::Temp ();
use FindBin;
use lib "$FindBin::RealBin/../perl";
use HTTP::Tiny;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use MIME::Base64 qw(decode_base64 encode_base64);
use Test::More;
use Time::HiRes qw(sleep time);

use StandIn;

my $json    = JSON::PP->new->utf8;
my $http    = HTTP::Tiny->new(timeout => 20, keep_alive => 0, proxy => undef, http_proxy => undef);
my $standin = StandIn->new;
my $images  = '/v1/images/generations';

# Sends JSON text (or headers and a body) and returns HTTP::Tiny's reply.
sub post
{
	my ($path, $content, %headers) = @_;
	return $http->post($standin->url($path),
		{ content => $content, headers => { 'content-type' => 'application/json', %headers } });
}

# The reply to a request for a picture whose first arrival meets the fault.
sub post_fault
{
	my ($fault, %more) = @_;
	return post($images, StandIn::request(prompt => 'fault', id => unique(), faults => [$fault], %more));
}

my $serial = 0;
sub unique { return 'request ' . ++$serial }

# A connection on which a request was sent byte for byte.
sub raw_connect
{
	my ($method, $path, $content, @headers) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $standin->port)
		or die "could not connect to the stand-in: $!\n";
	print {$socket} join("\r\n", "$method $path HTTP/1.1", 'Host: standin',
		'Content-Length: ' . length($content), @headers, '', $content);
	$socket->flush;
	return $socket;
}

# Reads for so many seconds at most; gives the bytes, and how it ended: eof, reset, open.
sub raw_read
{
	my ($socket, $seconds) = @_;
	my $select = IO::Select->new($socket);
	my $until  = time + ($seconds // 10);
	my $bytes  = '';
	while ((my $left = $until - time) > 0)
	{
		next unless $select->can_read($left);
		my $n = sysread($socket, $bytes, 65536, length($bytes));
		return ($bytes, 'eof') if defined $n && $n == 0;
		return ($bytes, $! == ECONNRESET ? 'reset' : "error: $!") unless defined $n;
	}
	return ($bytes, 'open');
}

sub raw_fault
{
	my ($fault, $seconds) = @_;
	my $content = StandIn::request(prompt => 'fault', id => unique(), faults => [$fault]);
	return raw_read(raw_connect('POST', $images, $content), $seconds);
}

# What stands in a PNG: its width and height, after its checksums were checked.
sub png_size
{
	my ($png) = @_;
	return 'no PNG' unless substr($png, 0, 8) eq "\x89PNG\r\n\x1A\n";
	my ($at, %chunk) = (8);
	while ($at < length $png)
	{
		my ($len, $type) = unpack('N A4', substr($png, $at, 8));
		return "wrong checksum of $type"
			unless crc32(substr($png, $at + 4, $len + 4)) == unpack('N', substr($png, $at + 8 + $len, 4));
		$chunk{$type} = substr($png, $at + 8, $len);
		$at += 12 + $len;
	}
	my ($width, $height) = unpack('N N', $chunk{IHDR});
	return 'wrong length of pixels'
		unless length(uncompress($chunk{IDAT}) // '') == $height * (1 + 3 * $width);
	return "${width}x$height";
}

sub first_picture { return decode_base64($json->decode($_[0]{content})->{data}[0]{b64_json}) }

sub form
{
	my ($path, @parts) = @_;
	my $content = join('', map { "--frontier\r\nContent-Disposition: form-data; $_\r\n" } @parts)
		. "--frontier--\r\n";
	return post($path, $content, 'content-type' => 'multipart/form-data; boundary=frontier');
}

subtest 'OpenAI images: generations' => sub {
	my $reply = post($images, '{"prompt": "a lighthouse", "n": 2, "size": "24x10"}');
	is($reply->{status}, 200, 'success');
	my $answer = $json->decode($reply->{content});
	is(scalar @{ $answer->{data} }, 2, 'n pictures');
	is(png_size(decode_base64($_->{b64_json})), '24x10', 'a PNG of the size asked for') for @{ $answer->{data} };
	isnt($answer->{data}[0]{b64_json}, $answer->{data}[1]{b64_json}, 'each its own');
	is($answer->{usage}{total_tokens}, $answer->{usage}{input_tokens} + $answer->{usage}{output_tokens}, 'usage');
	is(post($images, '{"prompt": "a lighthouse", "n": 2, "size": "24x10"}')->{content}, $reply->{content},
		'the same request gets the same answer');
	my $plain = post($images, '{"prompt": "a lighthouse"}');
	isnt(first_picture(post($images, '{"prompt": "a lighthouse", "seed": 7}')), first_picture($plain), 'the seed matters');
	isnt(first_picture(post($images, '{"prompt": "a tower"}')), first_picture($plain), 'the prompt matters');
	is_deeply($json->decode(post($images, StandIn::request(prompt => 'x', usage => { cost => 3 }))->{content})->{usage},
		{ cost => 3 }, 'usage from the script');
	for my $bad ('{"size": "24x10"}', '{"prompt": "x", "n": 11}', '{"prompt": "x", "size": "big"}', 'no JSON', '')
	{
		my $refused = post($images, $bad);
		is($refused->{status}, 400, "refused: $bad");
		ok($json->decode($refused->{content})->{error}{message}, 'with a message');
	}
};

subtest 'OpenAI images: edits' => sub {
	my @base = ("name=\"prompt\"\r\n\r\nred", "name=\"size\"\r\n\r\n8x8");
	my $image = "name=\"image[]\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\x00\x01\r\n\xFF";
	my $reply = form('/v1/images/edits', @base, $image);
	is($reply->{status}, 200, 'success');
	is(png_size(first_picture($reply)), '8x8', 'fields are read');
	isnt(first_picture(form('/v1/images/edits', @base, "$image.")), first_picture($reply), 'the input matters');
	isnt(first_picture(form('/v1/images/edits', @base, $image, "name=\"mask\"; filename=\"m\"\r\n\r\nM")),
		first_picture($reply), 'the mask matters');
	is(form('/v1/images/edits', @base)->{status}, 400, 'no image: refused');
	is(post('/v1/images/edits', '{"prompt": "red"}')->{status}, 400, 'JSON: refused');
	is(form('/v1/images/edits', @base, $image, "name=\"standin\"\r\n\r\n{\"id\": \"form\", \"faults\": [{\"status\": 418}]}")->{status},
		418, 'a script in a form field');
};

subtest 'AUTOMATIC1111' => sub {
	my $reply = post('/sdapi/v1/txt2img', '{"prompt": "a cat", "width": 9, "height": 7, "batch_size": 2}');
	is($reply->{status}, 200, 'txt2img');
	my $answer = $json->decode($reply->{content});
	is_deeply([map { png_size(decode_base64($_)) } @{ $answer->{images} }], ['9x7', '9x7'], 'pictures');
	is($answer->{parameters}{prompt}, 'a cat', 'parameters');
	is($json->decode($answer->{info})->{width}, 9, 'info is JSON in a string');
	my $input = encode_base64("\x89PNG", '');
	is(post('/sdapi/v1/img2img', "{\"init_images\": [\"$input\"]}")->{status}, 200, 'img2img');
	is(post('/sdapi/v1/img2img', "{\"init_images\": [\"data:image/png;base64,$input\"]}")->{status}, 200, 'a data URL');
	is(post('/sdapi/v1/img2img', $_)->{status}, 422, "refused: $_")
		for '{}', '{"init_images": []}', '{"init_images": ["@@"]}', '{"init_images": [7]}', '[]';
};

subtest 'AUTOMATIC1111: progress and interrupt' => sub {
	is($json->decode($http->get($standin->url('/sdapi/v1/progress'))->{content})->{progress}, 0, 'idle');
	my $socket = raw_connect('POST', '/sdapi/v1/txt2img', '{"prompt": "slow", "standin": {"latency_ms": 30000}}');
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	sleep 0.05;
	my $progress = $json->decode($http->get($standin->url('/sdapi/v1/progress'))->{content});
	cmp_ok($progress->{progress}, '>', 0, 'progress');
	is($progress->{state}{job_count}, 1, 'one job');
	is(post('/sdapi/v1/interrupt', '')->{status}, 200, 'interrupted');
	$standin->wait_for(sub { $_[0]{in_flight} == 0 }, 5);
	my ($bytes) = raw_read($socket, 0.1);
	like($bytes, qr/"images":\[.*interrupted\\":true/s, 'answered at once');
};

subtest 'echo, binary, text, unknown' => sub {
	my $text = '{"a": [12345678901234567890, "\u00e9"]}';
	my $reply = post('/echo/deep/path?x=1', $text, 'X-Custom' => ['one', 'two']);
	my $answer = $json->decode($reply->{content});
	is("$answer->{method} $answer->{uri}", 'POST /echo/deep/path?x=1', 'method and address');
	is($answer->{headers}{'x-custom'}, 'one, two', 'headers');
	is(substr($reply->{content}, -length($text) - 1), "$text}", 'a JSON body as it was sent');
	is($json->decode(post('/echo', "\x00\xFFbytes", 'content-type' => 'image/png')->{content})->{body}{base64},
		encode_base64("\x00\xFFbytes", ''), 'another body as base64');
	my $form = $json->decode(form('/echo', "name=\"f\"; filename=\"n\"\r\n\r\nDATA", "name=\"t\"\r\n\r\nv")->{content});
	is_deeply([map { [@$_{qw(name filename bytes text)}] } @{ $form->{parts} }],
		[['f', 'n', 4, undef], ['t', undef, 1, 'v']], 'parts of a form');
	my $binary = post('/binary', '{"prompt": "x", "size": "5x5"}');
	is($binary->{headers}{'content-type'}, 'image/png', 'binary');
	is(png_size($binary->{content}), '5x5', 'is a PNG');
	is(post('/text', '{"prompt": "hello"}')->{content}, "You said: hello\n", 'text');
	my $unknown = post('/v1/nothing', '{}');
	is($unknown->{status}, 404, 'unknown address');
	is($json->decode($unknown->{content})->{error}{type}, 'invalid_request_error', 'with an error body');
};

subtest 'faults: status, headers, bodies' => sub {
	my $reply = post_fault({ status => 503, message => 'out of memory', retry_after => '1', headers => { 'X-Extra' => 'yes' } });
	is($reply->{status}, 503, 'status');
	is($json->decode($reply->{content})->{error}{message}, 'out of memory', 'message');
	is($reply->{headers}{'retry-after'}, '1', 'Retry-After in seconds');
	is($reply->{headers}{'x-extra'}, 'yes', 'a header more');
	like(post_fault({ status => 429, retry_after => { date_in_s => 3 } })->{headers}{'retry-after'},
		qr/^\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/, 'Retry-After as a date');
	is(post_fault({ body => 'exact', content_type => 'text/x' })->{content}, 'exact', 'the exact body');
	my $binary = post_fault({ status => 200, body => { base64 => encode_base64("\x00\x01", '') }, content_type => 'image/x' });
	is($binary->{content}, "\x00\x01", 'a binary body');
	is($binary->{headers}{'content-type'}, 'image/x', 'and its type');
	is(post_fault({ close => 1 })->{headers}{connection}, 'close', 'Connection: close');
	my $empty = post_fault({ status => 204 });
	is($empty->{status} . ($empty->{content} // ''), '204', 'no content');
	my $chunked = post_fault({ chunked => 1 });
	is($chunked->{headers}{'transfer-encoding'}, 'chunked', 'chunked');
	is(png_size(first_picture($chunked)), '16x16', 'and whole');
	my $start = time;
	is(post_fault({ latency_ms => 120 })->{status}, 200, 'latency of a fault');
	cmp_ok(time - $start, '>=', 0.119, 'was waited for');
};

subtest 'faults: cut, reset, stall' => sub {
	is_deeply([raw_fault({ cut => 'accept' })], ['', 'eof'], 'cut before an answer');
	is_deeply([raw_fault({ reset => 1 })], ['', 'reset'], 'reset before an answer');
	for my $how ('eof', 'reset')
	{
		my ($bytes, $end) = raw_fault({ cut => 'headers', reset => $how eq 'reset' });
		like($bytes, qr/^HTTP\/1.1 200 .*Content-Length: \d+\r\n.*\r\n\r\n\z/s, "cut after the headers: $how");
		is($end, $how, 'end');
		($bytes, $end) = raw_fault({ cut => 'body', reset => $how eq 'reset' });
		my ($length, $body) = $bytes =~ /Content-Length: (\d+).*?\r\n\r\n(.*)/s;
		is(length($body), int($length / 2), "cut after half the body: $how");
		is($end, $how, 'end');
	}
	is_deeply([raw_fault({ stall => 1 }, 0.2)], ['', 'open'], 'stall');
	my ($bytes, $end) = raw_fault({ stall => 'body' }, 0.2);
	my ($length, $body) = $bytes =~ /Content-Length: (\d+).*?\r\n\r\n(.*)/s;
	is(length($body), int($length / 2), 'stall after half the body');
	is($end, 'open', 'and open');
	$standin->wait_for(sub { $_[0]{in_flight} == 0 });
};

subtest 'faults: drip, huge' => sub {
	my $start = time;
	my $reply = post_fault({ drip => { bytes => 400, every_ms => 20 } });
	is(png_size(first_picture($reply)), '16x16', 'dripped, whole');
	my $pieces = int((length($reply->{content}) + 399) / 400);
	cmp_ok(time - $start, '>=', 0.019 * $pieces, "in $pieces pieces");
	for my $chunked (0, 1)
	{
		my $huge = post_fault({ huge => 700_000, chunked => $chunked });
		is(length $huge->{content}, 700_000, 'huge' . ($chunked ? ', chunked' : ''));
		is(length $json->decode($huge->{content})->{padding}, 700_000 - length($reply->{content}) - 13, 'and JSON');
		is(png_size(first_picture($huge)), '16x16', 'with its picture');
	}
	my $binary = post('/binary', StandIn::request(prompt => 'x', id => unique(), faults => [{ huge => 100_000 }]));
	is(length $binary->{content}, 100_000, 'huge and no JSON');
};

subtest 'faults: garbage' => sub {
	my $content = sub { post_fault({ garbage => $_[0] })->{content} };
	is($content->('not-json'), 'this is not JSON', 'not-json');
	is($content->('truncated-json'), substr(post_fault({})->{content}, 0, length(post_fault({})->{content}) / 2), 'truncated-json');
	is($content->('empty'), '', 'empty');
	like($content->('nul'), qr/^\{"note":"[^"]*\x00/, 'nul');
	like($content->('nul-escape'), qr/^\{"note":"[^"]*\\u0000/, 'nul-escape');
	my $invalid = $content->('invalid-utf8');
	ok(!utf8::decode(my $copy = $invalid), 'invalid-utf8');
	$invalid =~ s/"note":"[^"]*",//;
	is($invalid, post_fault({})->{content}, 'and else as ever');
	is($content->('nested'), '[' x 10_000 . ']' x 10_000, 'nested');
	like($json->decode($content->('bad-base64'))->{data}[0]{b64_json}, qr/[^A-Za-z0-9+\/=]/, 'bad-base64');
	my $error = post_fault({ garbage => 'error-200', message => 'sorry' });
	is("$error->{status} " . $json->decode($error->{content})->{error}{message}, '200 sorry', 'error-200');
	like(post_fault({ garbage => 'html', status => 502 })->{headers}{'content-type'}, qr/html/, 'html');
	my ($bytes, $end) = raw_fault({ garbage => 'no-http' });
	unlike($bytes, qr/HTTP/, 'no-http');
	is($end, 'eof', 'and closed');
};

subtest 'scripts' => sub {
	my $id = unique();
	my @statuses = map { post($images, StandIn::request(prompt => 'x', id => $id,
		faults => [{ status => 500 }, undef, { status => 429 }]))->{status} } 1 .. 4;
	is("@statuses", '500 200 429 200', 'the n-th arrival meets the n-th fault');
	$id = unique();
	@statuses = map { post($images, StandIn::request(prompt => 'x', id => $id, repeat => 1,
		faults => [{ status => 500 }, { status => 429 }]))->{status} } 1 .. 3;
	is("@statuses", '500 429 429', 'the last one again');
	is(post('/binary', "\x00", 'X-Standin' => StandIn::script(faults => [{ status => 503 }]))->{status}, 503, 'in a header');
	is(post('/echo', '{"input": {"prompt": "x", "standin": {"faults": [{"status": 503}]}}}')->{status}, 503, 'inside a wrapper');
	for my $bad ('{"fault": []}', '{"faults": [{"stat": 1}]}', '{"faults": [{"cut": "off"}]}', '{"faults": [7]}',
		'{"faults": [{"garbage": ""}]}', '{"latency_ms": "1"}', '{"latency_ms": -1}', '[]',
		'{"faults": [{"status": 99}]}', '{"faults": [{"drip": {}}]}', '{"faults": [{"drip": {"bytes": 1}}]}')
	{
		my $refused = post($images, "{\"prompt\": \"bad script\", \"standin\": $bad}", 'Idempotency-Key' => unique());
		is($refused->{status}, 400, "refused: $bad");
		like($refused->{content}, qr/bad_standin_script/, 'with a reason');
	}
	is(post('/binary', '', 'X-Standin' => '{')->{status}, 400, 'refused: no JSON');
};

subtest 'counts' => sub {
	$standin->reset;
	post($images, '{"prompt": "p"}', 'Idempotency-Key' => 'k1') for 1 .. 2;
	post($images, StandIn::request(prompt => 'p', id => 'i', faults => [{ cut => 'accept' }]), 'Idempotency-Key' => 'k2');
	my $socket = raw_connect('POST', $images, '{"prompt": "q", "standin": {"latency_ms": 60000}}', 'Idempotency-Key: k3');
	my $counts = $standin->wait_for(sub { $_[0]{in_flight} == 1 });
	is($counts->{distinct_keys}, 3, 'distinct keys');
	is($counts->{max_per_key}, 2, 'most arrivals of a key');
	close($socket);
	$standin->wait_for(sub { $_[0]{in_flight} == 0 });
	$counts = $standin->counts;
	is($counts->{total}, 4, 'total');
	is_deeply($counts->{keys}{k1}, { arrived => 2, answered => 2, aborted => 0, cut => 0 }, 'answered twice');
	is_deeply($counts->{keys}{k2}, { arrived => 1, answered => 0, aborted => 0, cut => 1 }, 'cut');
	is_deeply($counts->{keys}{k3}, { arrived => 1, answered => 0, aborted => 1, cut => 0 }, 'aborted by the client');
	is_deeply([sort keys %{ $counts->{ids} }], ['i', 'k1', 'k3'], 'ids: from the script, else the key');
	is_deeply($counts->{paths}, { $images => 4 }, 'paths');
	is($counts->{max_in_flight}, 1, 'most in flight');
	my @requests = $standin->requests(2);
	is(scalar @requests, 2, 'the last requests');
	is($requests[1]{headers}{'idempotency-key'}, 'k3', 'with headers');
	is($json->decode($requests[1]{body})->{prompt}, 'q', 'and body');
	post('/binary', "\xFF\x00" x 4000, 'content-type' => 'image/png');
	is(($standin->requests(1))[0]{bytes}, 8000, 'a binary body is shown as text, cut short');
	$standin->reset;
	is_deeply([@{ $standin->counts }{qw(total connections)}], [0, 0], 'reset');
	is($http->get($standin->url('/_standin/health'))->{status}, 200, 'health');
	is($http->get($standin->url('/_standin/nothing'))->{status}, 404, 'unknown question');
};

subtest 'many names' => sub {
	$standin->reset;
	my $pipelined = join '', map { "POST /text HTTP/1.1\r\nHost: s\r\nIdempotency-Key: key-$_\r\nContent-Length: 0\r\n\r\n" } 1 .. 5000;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $standin->port);
	my $pid = fork // die;
	if ($pid == 0)
	{
		print {$socket} $pipelined;
		$socket->flush;
		POSIX::_exit(0);
	}
	my $read = 0;
	while ($read < 5000 && defined(my $line = <$socket>)) { $read++ if $line =~ /^You said/ }
	waitpid($pid, 0);
	is($read, 5000, 'pipelined requests are answered in turn');
	my $counts = $standin->counts(summary => 1);
	is("$counts->{distinct_keys} $counts->{max_per_key}", '5000 1', 'each key counted once');
	is($counts->{connections}, 1, 'on one connection');
};

subtest 'a big request that waits for 100 Continue' => sub {
	my $body = '{"prompt":"' . 'x' x 20_000_000 . '"}';
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $standin->port);
	print {$socket} "POST $images HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\nContent-Length: " . length($body) . "\r\n\r\n";
	$socket->flush;
	like(scalar <$socket>, qr/^HTTP\/1.1 100 /, 'continue');
	print {$socket} $body;
	$socket->flush;
	<$socket>;
	like(scalar <$socket>, qr/^HTTP\/1.1 200 /, '20 MB taken');
};

subtest 'TLS' => sub {
	my $dir = File::Temp->newdir;
	plan skip_all => 'the program openssl is not installed'
		if system("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout $dir/key -out $dir/cert >$dir/log 2>&1") != 0;
	my $tls = StandIn->new(tls => ["$dir/cert", "$dir/key"], latency_ms => 10);
	like($tls->url, qr/^https:/, 'address');
	for my $script ('{}', '{"id": "cut", "faults": [{"cut": "body", "reset": true}]}')
	{
		open(my $request, '>', "$dir/request") or die;
		print {$request} "POST /text HTTP/1.1\r\nHost: s\r\nConnection: close\r\nX-Standin: $script\r\nContent-Length: 16\r\n\r\n{\"prompt\": \"hi\"}";
		close($request);
		my $reply = `openssl s_client -quiet -connect 127.0.0.1:@{[$tls->port]} <$dir/request 2>/dev/null`;
		like($reply, $script eq '{}' ? qr/You said: hi/ : qr/\r\n\r\nYou s(?!aid: hi)/, "answered: $script");
	}
	my $counts = $tls->wait_for(sub { $_[0]{in_flight} == 0 });
	is_deeply([@$counts{qw(total answered cut connections)}], [2, 1, 1, 2], 'counts over plain HTTP');
};

subtest 'start and stop' => sub {
	like($standin->log, qr/^listening on 127\.0\.0\.1:@{[$standin->port]}$/m, 'it says where it listens');
	ok(!eval { StandIn->new(port => $standin->port); 1 }, 'a port that is taken');
	like($@, qr/could not listen on 127.0.0.1:/, 'says so');
	my $other = StandIn->new;
	my $socket = raw_connect('POST', '/text', '', 'X-Standin: {"latency_ms": 60000}');
	is($other->counts->{in_flight}, 0, 'two do not mix');
	$standin->stop;
	is_deeply([raw_read($socket)], ['', 'eof'], 'a stop ends the calls that wait');
	is(kill(0, $standin->pid), 0, 'and the process');

	my $dir = File::Temp->newdir;    # a process that is killed does not clean up: we do
	pipe(my $reader, my $writer) or die;
	my $parent = fork // die;
	if ($parent == 0)
	{
		$ENV{TMPDIR} = "$dir";
		my $orphan = StandIn->new;
		syswrite($writer, $orphan->port);
		kill 'KILL', $$;
	}
	sysread($reader, my $port, 16);
	waitpid($parent, 0);
	my $until = time + 10;
	sleep 0.01 while time < $until && IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
	ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port), 'it dies with its parent');
};

done_testing;

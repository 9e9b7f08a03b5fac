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

subtest 'faults: interim answers, headers twice' => sub {
	my ($bytes) = raw_fault({ interim => 2, close => 1, headers => { 'Content-Type' => ['text/html', 'application/json'] } });
	is(() = $bytes =~ m{^HTTP/1\.1 103 }mg, 2, 'two');
	like($bytes, qr{^HTTP/1\.1 200 .*^Content-Type: text/html\r\nContent-Type: application/json\r\n}ms, 'two lines');
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
	is(post('/echo', '{"input": {"prompt": "wrapped", "standin": {"faults": [{"status": 503}]}}}')->{status}, 503, 'inside a wrapper');
	for my $bad ('{"fault": []}', '{"faults": [{"stat": 1}]}', '{"faults": [{"cut": "off"}]}', '{"faults": [7]}',
		'{"faults": [{"garbage": ""}]}', '{"latency_ms": "1"}', '{"latency_ms": -1}', '[]',
		'{"outcome": "lost"}', '{"poll_faults": [{"cut": "off"}]}', '{"urls": ""}', '{"faults": [{"status": 99}]}', '{"faults": [{"drip": {}}]}', '{"faults": [{"drip": {"bytes": 1}}]}')
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
	my @ends = qw(arrived answered aborted cut);
	is("@{$counts->{keys}{k1}}{@ends}", '2 2 0 0', 'answered twice');
	is("@{$counts->{keys}{k2}}{@ends}", '1 0 0 1', 'cut');
	is("@{$counts->{keys}{k3}}{@ends}", '1 0 1 0', 'aborted by the client');
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

subtest 'capacity' => sub {
	$standin->reset;
	$standin->capacity(2);
	my @waiting = map { raw_connect('POST', $images, StandIn::request(prompt => 'capacity', faults => [ { stall => 1 } ], repeat => 1)) } 1 .. 2;
	$standin->wait_for(sub { $_[0]{in_flight} == 2 });
	push @waiting, raw_connect('POST', $images, StandIn::request(prompt => 'beyond'));
	$standin->wait_for(sub { $_[0]{in_flight} == 3 });
	is_deeply([raw_read($waiting[2], 0.2)], ['', 'open'], 'what is beyond the capacity waits');
	close(shift @waiting);
	like((raw_read($waiting[1], 1))[0], qr/^HTTP\/1.1 200 /, '... until a place is free');
	$standin->capacity(1, refuse => 1);
	is(post($images, StandIn::request(prompt => 'refused'))->{status}, 429, '... or is refused');
	$standin->capacity(0);
	is(post($images, StandIn::request(prompt => 'without limit'))->{status}, 200, 'and there may be no limit');
	$standin->refuse_all(503, retry_after => 7);
	my $refused = post($images, StandIn::request(prompt => 'refused'));
	is("$refused->{status} $refused->{headers}{'retry-after'}", '503 7', 'all may be refused');
	$standin->refuse_all(0);
	is(post($images, StandIn::request(prompt => 'not refused'))->{status}, 200, '... for a while');
	close($_) foreach @waiting;
	$standin->wait_for(sub { $_[0]{in_flight} == 0 });
};

# ---- Predictions ----

# Sends a request and returns the status, the JSON of the answer, and its headers.
sub ask
{
	my ($method, $url, $content, %headers) = @_;
	$url = $standin->url($url) unless $url =~ /^http/;
	my %options = (headers => { 'content-type' => 'application/json', %headers });
	$options{content} = ref $content ? $json->encode($content) : $content if defined $content;
	my $reply = $http->request($method, $url, \%options);
	my $answer = eval { $json->decode($reply->{content}) };
	return wantarray ? ($reply->{status}, $answer, $reply->{headers}, $reply->{content}) : $answer;
}

# A request whose script is told in Perl.
sub scripted { my ($request, %script) = @_; return { %$request, standin => $json->decode(StandIn::script(%script)) } }

# Asks until the answer is as wanted.
sub ask_until
{
	my ($wanted, @question) = @_;
	my $until = time + 10;
	while (1)
	{
		my ($status, $answer, $headers) = ask(@question);
		return $answer if $wanted->($answer, $status);
		die "the answer does not come: $status " . $json->encode($answer) if time > $until;
		sleep 0.005;
	}
}

sub pointer
{
	my ($json, $path) = @_;
	$json = ref $json eq 'ARRAY' ? $json->[$_] : $json->{$_} for split m{/}, $path;
	return $json;
}

my %graph = (
	1 => { class_type => 'CLIPTextEncode', inputs => { text => 'a cat' } },
	3 => { class_type => 'KSampler', inputs => { seed => 7, positive => ['1', 0] } },
	5 => { class_type => 'EmptyLatentImage', inputs => { width => 9, height => 5, batch_size => 2 } },
	9 => { class_type => 'SaveImage', inputs => { filename_prefix => 'my cats/a_b', images => ['3', 0] } });

# One dialect each: how to submit, where the id, the address to poll and the
# state are, what the states are called (queued, running, done, failed,
# moderated, cancelled, and the status when gone), and where the pictures are.
my @dialects = (
	{
		name => 'sdcpp', submit => '/sdcpp/v1/img_gen', request => { prompt => 'a cat', width => 9, height => 5, batch_count => 2 },
		status => 202, id => 'id', poll => sub { $_[0]{poll_url} }, cancel => sub { [POST => "$_[0]{poll_url}/cancel"] },
		state => 'status', states => [qw(queued generating completed failed failed cancelled 410)],
		error => 'error/message', pictures => sub { map { decode_base64($_->{b64_json}) } @{ $_[0]{result}{images} } }
	},
	{
		name => 'replicate', submit => '/v1/predictions', status => 201, id => 'id',
		request => { version => 'v', input => { prompt => 'a cat', width => 9, height => 5, n => 2 } },
		poll => sub { $_[0]{urls}{get} }, cancel => sub { [POST => $_[0]{urls}{cancel}] },
		state => 'status', states => [qw(starting processing succeeded failed failed canceled 404)],
		error => 'error', pictures => sub { map { $http->get($_)->{content} } @{ $_[0]{output} } }
	},
	{
		name => 'fal', submit => '/fal-ai/flux/dev', status => 200, id => 'request_id',
		request => { prompt => 'a cat', width => 9, height => 5, num_images => 2 },
		poll => sub { $_[0]{status_url} }, cancel => sub { [PUT => $_[0]{cancel_url}] },
		state => 'status', states => [qw(IN_QUEUE IN_PROGRESS COMPLETED COMPLETED COMPLETED COMPLETED 404)],
		pictures => sub { map { $http->get($_->{url})->{content} } @{ ask(GET => $_[0]{response_url})->{images} } }
	},
	{
		name => 'bfl', submit => '/v1/flux-2-pro', status => 200, id => 'id', n => 1,
		request => { prompt => 'a cat', width => 9, height => 5 }, poll => sub { $_[0]{polling_url} },
		state => 'status', states => ['Pending', 'Pending', 'Ready', 'Error', 'Content Moderated', undef, 404],
		pictures => sub { $http->get($_[0]{result}{sample})->{content} }
	},
	{
		name => 'comfyui', submit => '/prompt', status => 200, id => 'prompt_id', request => { prompt => \%graph },
		poll => sub { "/history/$_[0]{prompt_id}" }, path => '/history/{id}',
		cancel => sub { [POST => '/interrupt', { prompt_id => $_[0]{prompt_id} }] },
		state => sub { my ($run) = values %{ $_[0] }; $run ? $run->{status}{status_str} : '' },
		states => ['', '', qw(success error error error), '200'],
		pictures => sub {
			my ($run) = values %{ $_[0] };
			map { $http->get($standin->url('/view?' . $http->www_form_urlencode($_)))->{content} } @{ $run->{outputs}{9}{images} };
		}
	},
	{
		name => 'runpod', submit => '/v2/abc123/run', status => 200, id => 'id',
		request => { input => { prompt => 'a cat', width => 9, height => 5, n => 2 } },
		poll => sub { "/v2/abc123/status/$_[0]{id}" }, cancel => sub { [POST => "/v2/abc123/cancel/$_[0]{id}"] },
		state => 'status', states => [qw(IN_QUEUE IN_PROGRESS COMPLETED FAILED FAILED CANCELLED 404)],
		error => 'error', pictures => sub { map { decode_base64($_->{data}) } @{ $_[0]{output}{images} } }
	},
	{
		name => 'openai-responses', submit => '/v1/responses', status => 200, id => 'id', n => 1,
		request => { input => 'a cat', size => '9x5', background => JSON::PP::true, tools => [{ type => 'image_generation' }] },
		poll => sub { "/v1/responses/$_[0]{id}" }, cancel => sub { [POST => "/v1/responses/$_[0]{id}/cancel"] },
		state => 'status', states => [qw(queued in_progress completed failed incomplete cancelled 404)],
		error => 'error/message', pictures => sub { map { decode_base64($_->{result}) } grep { $_->{result} } @{ $_[0]{output} } }
	});

for my $dialect (@dialects)
{
	my $state = ref $dialect->{state} ? $dialect->{state} : sub { pointer($_[0], $dialect->{state}) };
	my ($queued, $running, $done, $failed, $moderated, $cancelled, $gone) = @{ $dialect->{states} };

	# Submits; gives the answer and what to ask to poll.
	my $submit = sub {
		my (%script) = @_;
		my ($status, $answer) = ask(POST => $dialect->{submit}, scripted($dialect->{request}, id => unique(), %script));
		is($status, $dialect->{status}, 'submitted');
		ok(pointer($answer, $dialect->{id}), 'with an id');
		return ($answer, GET => $dialect->{poll}->($answer));
	};

	subtest "$dialect->{name}: a prediction" => sub {
		$standin->reset;
		my ($answer, @poll) = $submit->(id => 'it', queue_ms => 250, latency_ms => 50, progress => 1, poll_faults => [undef, { status => 503 }]);
		is($state->(scalar ask(@poll)), $queued, 'queued');
		is((ask(@poll))[0], 503, 'a poll that fails');
		my $result = ask_until(sub { $state->($_[0]) eq $done }, @poll);
		my @pictures = $dialect->{pictures}->($result);
		is_deeply([map { png_size($_) } @pictures], [('9x5') x ($dialect->{n} // 2)], 'pictures');
		isnt($pictures[0], $pictures[-1], 'each its own') if @pictures > 1;
		my $counts = $standin->counts;
		is("@{$counts->{ids}{it}}{qw(arrived submitted cancelled leaks)}", '1 1 0 0', 'counted by id');
		cmp_ok($counts->{ids}{it}{polls}, '>=', 3, 'and its polls');
		is("@$counts{qw(predictions leaks)}", '1 0', 'totals');
		$submit->(id => 'it');
		is($standin->counts(summary => 1)->{max_submitted_per_id}, 2, 'most submissions of an id');
	};

	subtest "$dialect->{name}: other ends" => sub {
		my ($answer, @poll) = $submit->(outcome => 'fail', message => 'out of memory');
		my $result = ask(@poll);
		is($state->($result), $failed, 'failed');
		is(pointer($result, $dialect->{error}), 'out of memory', 'and says why') if $dialect->{error};
		($answer, @poll) = $submit->(outcome => 'moderated');
		is($state->(scalar ask(@poll)), $moderated, 'moderated');
		($answer, @poll) = $submit->(outcome => 'gone');
		is((ask(@poll))[0], $gone, 'gone');
		($answer, @poll) = $submit->(kept_ms => 20);
		ask_until(sub { $_[1] == $gone && (!ref $dialect->{state} || !%{ $_[0] }) }, @poll);
		($answer, @poll) = $submit->(outcome => 'never');
		is($state->(scalar ask(@poll)), $running, 'never ends');
		my ($status) = ask(POST => $dialect->{submit}, scripted($dialect->{request}, id => unique(), faults => [{ status => 429 }]));
		is($status, 429, 'refused');
		($status) = ask(POST => $dialect->{submit}, '[]');
		like($status, qr/^4(00|22)$/, 'what is no request is refused');
	};

	next unless $dialect->{cancel};
	subtest "$dialect->{name}: cancel" => sub {
		$standin->reset;
		my $early = $dialect->{name} eq 'sdcpp';    # it cannot stop what is generating
		my ($answer, @poll) = $submit->(id => 'stop', latency_ms => 60_000, cancel_faults => [{ status => 500 }], queue_ms => $early ? 60_000 : 0);
		my @cancel = @{ $dialect->{cancel}->($answer) };
		is((ask(@cancel))[0], 500, 'a cancel that fails');
		is($state->(scalar ask(@poll)), $early ? $queued : $running, 'cancels nothing');
		like((ask(@cancel))[0], qr/^20[02]$/, 'cancelled');
		is($state->(scalar ask(@poll)), $cancelled, 'at once');
		is("@{$standin->counts->{ids}{stop}}{qw(cancels cancelled)}", '2 1', 'counted');
		ask(@cancel);
		is($standin->counts->{ids}{stop}{cancelled}, 1, 'once');
	};
}

subtest 'predictions: where nothing has come back' => sub {
	$standin->reset;
	my $request = $json->encode(scripted({ prompt => 'a cat' }, id => 'cut', faults => [{ cut => 'accept' }, { status => 503 }]));
	is_deeply([raw_read(raw_connect('POST', '/sdcpp/v1/img_gen', $request))], ['', 'eof'], 'cut');
	is(post('/sdcpp/v1/img_gen', $request)->{status}, 503, 'refused');
	is("@{$standin->counts->{ids}{cut}}{qw(arrived submitted)}", '2 1', 'what is cut was submitted, what is refused was not');

	my %slow = (scripted({ prompt => 'b' }, latency_ms => 0, faults => [{ latency_ms => 100 }])->%*);
	my $start = time;
	post('/sdcpp/v1/img_gen', $json->encode(\%slow));
	cmp_ok(time - $start, '>=', 0.099, 'the answer to a submission has a latency of its own');
};

subtest 'predictions: all end at once' => sub {
	$standin->reset;
	my @ids = map { ask(POST => '/sdcpp/v1/img_gen', scripted({ prompt => 'a cat' }, latency_ms => 60_000, %$_))->{id} }
		{}, { queue_ms => 60_000 }, { outcome => 'fail' }, { outcome => 'never' };
	is($standin->finish, 4, 'those under way');
	is_deeply([map { scalar(ask(GET => "/sdcpp/v1/jobs/$_"))->{status} } @ids],
		[qw(completed completed failed generating)], 'end as their scripts say');
};

subtest 'predictions: the same again' => sub {
	my $other = StandIn->new(idempotent => 1);
	for my $server ($standin, $other)
	{
		$server->reset;
		my @ids = map { $json->decode($http->post($server->url('/v1/flux-dev'), { content => '{"prompt": "x"}',
			headers => { 'Idempotency-Key' => 'k' } })->{content})->{id} } 1 .. 2;
		my $same = $server == $other;
		is($ids[0] eq $ids[1], $same, $same ? '--idempotent: one prediction' : 'two predictions');
		is("@{$server->counts->{keys}{k}}{qw(arrived submitted repeated)}", $same ? '2 1 1' : '2 2 0', 'counted');
	}
	$standin->reset;
	is(ask(POST => '/prompt', { prompt => \%graph, prompt_id => 'my-own' })->{prompt_id}, 'my-own', 'ComfyUI: the id of the client') for 1 .. 2;
	is("@{$standin->counts->{ids}{'my-own'}}{qw(arrived submitted repeated)}", '2 1 1', 'is one prediction');
};

subtest 'ComfyUI' => sub {
	my ($status, $answer) = ask(POST => '/prompt', { prompt => { 4 => { inputs => {} } } });
	is($status, 400, 'a node without a class_type');
	ok($answer->{node_errors}{4}, 'is named');
	is((ask(POST => '/prompt', { prompt => { 1 => $graph{1} } }))[1]{error}{type}, 'prompt_no_outputs', 'no output');
	$standin->reset;
	ask(POST => '/prompt', scripted({ prompt => \%graph, prompt_id => "p$_" }, queue_ms => $_ == 2 ? 60_000 : 0, latency_ms => 60_000)) for 1, 2;
	my $queue = ask(GET => '/queue');
	is_deeply([map { $_->[1] } @{ $queue->{queue_running} }], ['p1'], 'what runs');
	is_deeply([map { $_->[1] } @{ $queue->{queue_pending} }], ['p2'], 'what waits');
	ask(POST => '/queue', { delete => ['p1', 'p2', 'p3'] });
	ask(POST => '/interrupt', { prompt_id => 'p2' });
	$queue = ask(GET => '/queue');
	is_deeply([map { scalar @$_ } @$queue{qw(queue_running queue_pending)}], [1, 0], 'only what waits can be deleted');
	is_deeply(scalar ask(GET => '/history/p2'), {}, 'and leaves no history');
	ask(POST => '/interrupt', {});
	is(ask(GET => '/history/p1')->{p1}{status}{messages}[-1][0], 'execution_interrupted', 'interrupted');
	ask(POST => '/prompt', { prompt => \%graph, prompt_id => 'p4' });
	my ($file) = @{ ask(GET => '/history/p4')->{p4}{outputs}{9}{images} };
	is($file->{subfolder}, 'my cats', 'a subfolder');
	is($http->get($standin->url("/view?filename=$file->{filename}&type=output"))->{status}, 404, 'without which there is no file');
};

subtest 'fal: responses' => sub {
	my $submit = sub { ask(POST => '/fal-ai/flux/dev', scripted({ prompt => 'x' }, id => unique(), @_)) };
	my ($status, $answer, $headers) = ask(GET => $submit->(outcome => 'moderated')->{response_url});
	is("$status $headers->{'x-fal-error-type'} $answer->{detail}[0]{type}", '422 content_policy_violation content_policy_violation', 'moderated');
	($status, $answer, $headers) = ask(GET => $submit->(outcome => 'fail', message => 'worn out')->{response_url});
	is("$status $answer->{detail} $headers->{'x-fal-error-type'}", '500 worn out internal_error', 'failed');
	is((ask(GET => $submit->(latency_ms => 9000)->{response_url}))[0], 400, 'too early');
	my $slow = $submit->(queue_ms => 9000);
	unlike($slow->{status_url}, qr{dev}, 'URLs without the path below the app');
	is((ask(GET => $slow->{status_url}))[0], 202, 'a status that is not final');
	is((ask(PUT => $slow->{cancel_url}))[1]{status}, 'OK', 'taken from the queue');
	is((ask(PUT => $slow->{cancel_url}))[1]{status}, 'ALREADY_COMPLETED', 'once');
	my ($early) = ask(GET => $submit->(result_faults => [{ status => 502 }])->{response_url});
	is($early, 502, 'a result that fails');
};

subtest 'Replicate: models, waiting, logs' => sub {
	my ($status, $answer) = ask(POST => '/v1/models/o/n/predictions', scripted({ input => { prompt => 'x' } }, latency_ms => 50), Prefer => 'wait=5');
	is("$status $answer->{status}", '201 succeeded', 'waited for');
	ok($answer->{metrics}{predict_time}, 'metrics');
	$answer = ask(POST => '/v1/predictions', scripted({ version => 'v', input => { prompt => 'y' } }, latency_ms => 60_000, progress => 1));
	like(ask(GET => $answer->{urls}{get})->{logs}, qr/^Using seed: \d+\n +\d+%\|/, 'progress in the logs');
	$answer = ask(POST => '/v1/predictions', scripted({ model => 'm', input => { prompt => 'z' } }, output => ['some', ' text'], usage => { cost => 2 }));
	$answer = ask(GET => $answer->{urls}{get});
	is_deeply([@$answer{qw(output metrics)}], [['some', ' text'], { cost => 2 }], 'output and metrics from the script');
	($status, $answer) = ask(POST => '/v1/predictions', scripted({ version => 'v', input => {} }, faults => [{ status => 429, retry_in_s => 12 }]));
	like($answer->{detail}, qr/resets in ~12s/, 'a limit says when');
};

subtest 'files of a foreign host' => sub {
	$standin->reset;
	my $sample = sub { ask(GET => ask(POST => '/v1/flux-dev', scripted({ prompt => 'x' }, id => 'file', @_))->{polling_url})->{result}{sample} };
	my $url = $sample->();
	my $base = $standin->cdn_url;
	like($url, qr{^\Q$base\E/files/.*\?se=\d+&}, 'signed');
	is(png_size($http->get($url)->{content}), '16x16', 'downloaded');
	is($http->get($url =~ s/sig=./sig=z/r)->{status}, 403, 'a wrong signature');
	is($http->get($url, { headers => { $_ => 'secret' } })->{status}, 400, "refused: $_") for 'x-key', 'Authorization';
	is($http->get($standin->cdn_url('/else'), { headers => { 'Authorization' => 'secret' } })->{status}, 400, 'anywhere');
	my $counts = $standin->counts;
	is("@{$counts->{ids}{file}}{qw(downloads leaks)} $counts->{leaks}", '4 2 3', 'leaks are counted');
	$url = $sample->(url_expires_ms => 30);
	sleep 0.05;
	like($http->get($url)->{content}, qr/Request has expired/, 'expired');
	$url = $sample->(download_faults => [{ status => 404 }, ({ cut => 'body' }) x 2, { redirect => 'same' }, { redirect => 'other', status => 307 }, { redirect => 'private' }, { redirect => 'ftp://x/y' }]);
	my $plain = HTTP::Tiny->new(max_redirect => 0);
	is($plain->get($url)->{status}, 404, 'not there yet');
	is($plain->get($url)->{status}, 599, 'cut, and cut again where the client tries twice');
	my ($path) = $url =~ m{//[^/]+(.*)};
	my @to = map { my $reply = $plain->get($url); "$reply->{status} $reply->{headers}{location}" } 1 .. 4;
	is_deeply(\@to, ["302 $url", '307 ' . $standin->url($path), "302 http://10.255.255.1$path", '302 ftp://x/y'], 'redirects');
	is(png_size($plain->get($standin->url($path))->{content}), '16x16', 'the same on the server itself');
	is($plain->get($url)->{status}, 200, 'past the faults');
	$url = $sample->(urls => 'own');
	like($url, qr{^@{[$standin->url]}/files/}, 'URLs that stay on the server');
	is($plain->get($url, { headers => { Authorization => 'fine' } })->{status}, 200, 'where a key may come');
};

subtest 'OpenAI: URLs, chat, embeddings, speech' => sub {
	$standin->reset;
	my $answer = $json->decode(post($images, '{"prompt": "x", "n": 2, "response_format": "url"}')->{content});
	is_deeply([map { png_size($http->get($_->{url})->{content}) } @{ $answer->{data} }], ['16x16', '16x16'], 'pictures by URL');
	my %chat = (model => 'm', messages => [{ role => 'user', content => [{ type => 'text', text => "tell me\nmore" }] }]);
	$answer = ask(POST => '/v1/chat/completions', \%chat);
	is($answer->{choices}[0]{message}{content}, "You said: tell me\nmore", 'chat');
	is($answer->{usage}{total_tokens}, 8, 'usage');
	my $stream = sub {
		my ($status, undef, $headers, $content) = ask(POST => '/v1/chat/completions', { %chat, stream => JSON::PP::true, @_ });
		is($headers->{'content-type'}, 'text/event-stream; charset=utf-8', 'a stream');
		return map { s/^data: //r } split /\n\n/, $content;
	};
	my @events = $stream->(stream_options => { include_usage => JSON::PP::true });
	is(pop @events, '[DONE]', 'ends');
	my $last = $json->decode(pop @events);
	is_deeply([$last->{choices}, $last->{usage}{completion_tokens}], [[], 5], 'usage before the end');
	is(join('', map { $json->decode($_)->{choices}[0]{delta}{content} // '' } @events), "You said: tell me\nmore", 'the text in pieces');
	@events = $stream->(standin => { id => unique(), faults => [{ stream_error => JSON::PP::true, message => 'gone wrong' }] });
	is($json->decode($events[-1])->{error}{message}, 'gone wrong', 'an error in mid-stream');
	my $start = time;
	is(scalar(@events = $stream->(standin => { text => 'a b c', chunk_ms => 20 })), 6, 'no usage unless asked for');
	cmp_ok(time - $start, '>=', 0.099, 'over time');
	$answer = ask(POST => '/v1/embeddings', { input => ['a', 'b'], dimensions => 3 });
	is_deeply([map { scalar @{ $_->{embedding} } } @{ $answer->{data} }], [3, 3], 'embeddings');
	my @numbers = @{ $answer->{data}[1]{embedding} };
	$answer = ask(POST => '/v1/embeddings', { input => 'b', dimensions => 3, encoding_format => 'base64' });
	my @same = unpack 'f<*', decode_base64($answer->{data}[0]{embedding});
	is(join(' ', map { sprintf '%.5f', $_ } @same), join(' ', map { sprintf '%.5f', $_ } @numbers), 'in base64');
	my $speech = post('/v1/audio/speech', '{"input": "hi", "voice": "alloy", "response_format": "wav"}');
	is("$speech->{headers}{'content-type'} " . unpack('V', substr($speech->{content}, 40, 4)), 'audio/wav ' . (length($speech->{content}) - 44), 'speech');
	is(post('/v1/audio/speech', '{"input": "hi", "voice": "alloy"}')->{headers}{'content-type'}, 'audio/mpeg', 'as MP3');
	($answer) = ask(POST => '/v1/responses', { input => 'hello' });
	is(ask(POST => '/v1/responses', { input => 'hello' })->{output}[0]{content}[0]{text}, 'You said: hello', 'a response at once');
	is(post($images, StandIn::request(prompt => 'x', outcome => 'moderated'))->{status}, 400, 'moderated');
};

subtest 'Ollama, Gemini, Hugging Face, Stability, KServe' => sub {
	my %generate = (model => 'm', prompt => 'why so blue');
	my @lines = map { $json->decode($_) } split /\n/, (ask(POST => '/api/generate', \%generate))[3];
	is(join('', map { $_->{response} } @lines), 'You said: why so blue', 'Ollama');
	ok($lines[-1]{done} && $lines[-1]{eval_count} == 5, 'ends with counts');
	is(ask(POST => '/api/generate', { %generate, stream => JSON::PP::false })->{response}, 'You said: why so blue', 'at once');
	@lines = split /\n/, (ask(POST => '/api/generate', { %generate, standin => { id => unique(), faults => [{ stream_error => JSON::PP::true }] } }))[3];
	ok($json->decode($lines[-1])->{error}, 'an error in mid-stream');

	my $gemini = '/v1beta/models/gemini-3:generateContent';
	my %contents = (contents => [{ parts => [{ text => 'a fox' }] }]);
	is(ask(POST => $gemini, \%contents)->{candidates}[0]{content}{parts}[0]{text}, 'You said: a fox', 'Gemini');
	my $answer = ask(POST => $gemini, { %contents, generationConfig => { responseModalities => ['IMAGE'] } });
	is(png_size(decode_base64($answer->{candidates}[0]{content}{parts}[1]{inlineData}{data})), '16x16', 'with a picture');
	is(ask(POST => $gemini, scripted(\%contents, outcome => 'moderated'))->{promptFeedback}{blockReason}, 'SAFETY', 'blocked');
	my ($status, $error) = ask(POST => $gemini, scripted(\%contents, id => unique(), faults => [{ status => 429, retry_in_s => 34.4 }]));
	is("$status $error->{error}{status} $error->{error}{details}[1]{retryDelay}", '429 RESOURCE_EXHAUSTED 34.4s', 'a limit says when');

	my $picture = post('/models/black-forest-labs/FLUX.1-dev', '{"inputs": "a fox", "parameters": {"width": 9, "height": 5}}');
	is(png_size($picture->{content}), '9x5', 'Hugging Face');
	($status, $error) = ask(POST => '/models/o/m', scripted({ inputs => 'x' }, id => unique(), faults => [{ status => 503, retry_in_s => 2.5 }]));
	is("$status $error->{error} $error->{estimated_time}", '503 Model o/m is currently loading 2.5', 'a model that is being loaded');

	my $core = '/v2beta/stable-image/generate/core';
	my $part = "name=\"prompt\"\r\n\r\na fox";
	my $reply = form($core, $part);
	is(png_size($reply->{content}) . " $reply->{headers}{'finish-reason'}", '16x16 SUCCESS', 'Stability');
	$reply = form($core, $part, "name=\"standin\"\r\n\r\n{\"outcome\": \"moderated\"}");
	is($reply->{headers}{'finish-reason'}, 'CONTENT_FILTERED', 'filtered');
	$reply = post($core, "--b\r\nContent-Disposition: form-data; $part\r\n--b--\r\n", Accept => 'application/json', 'content-type' => 'multipart/form-data; boundary=b');
	is($json->decode($reply->{content})->{finish_reason}, 'SUCCESS', 'as JSON');
	is(post($core, '{"prompt": "x"}')->{status}, 400, 'JSON: refused');

	my %tensor = (name => 'prompt', shape => [1], datatype => 'BYTES', data => ['a fox']);
	$answer = ask(POST => '/v2/models/sd/infer', { id => 'mine', inputs => [\%tensor], parameters => { standin => { outputs => 2 } } });
	is("$answer->{model_name} $answer->{id} $answer->{outputs}[0]{shape}[0]", 'sd mine 2', 'KServe');
	is(png_size(decode_base64($answer->{outputs}[0]{data}[1])), '16x16', 'with pictures');
	is((ask(POST => '/v2/models/sd/infer', {}))[0], 400, 'no inputs: refused');
};

subtest 'keys' => sub {
	my $locked = StandIn->new(api_key => 'user:K1');
	my %right = (
		'/v1/images/generations' => [401, 'Authorization', 'Bearer user:K1'],
		'/sdapi/v1/txt2img'      => [401, 'Authorization', 'Basic ' . encode_base64('user:K1', '')],
		'/v1/predictions'        => [401, 'Authorization', 'Bearer user:K1'],
		'/fal-ai/x'              => [401, 'Authorization', 'Key user:K1'],
		'/v1/flux-dev'           => [403, 'x-key', 'user:K1'],
		'/v1beta/models/g:generateContent' => [400, 'x-goog-api-key', 'user:K1']);
	for my $path (sort keys %right)
	{
		my ($refused, $header, $value) = @{ $right{$path} };
		my $content = '{"prompt": "x", "version": "v", "input": {}, "contents": []}';
		my @statuses = map { $http->post($locked->url($path), { content => $content, headers => $_ })->{status} }
			{}, { $header => "$value." }, { $header => $value };
		like("@statuses", qr/^$refused $refused 20[01]$/, $path);
	}
	is($locked->counts(summary => 1)->{predictions}, 3, 'who has no key submits nothing');
	$http->get($locked->cdn_url('/files/x/0.png'), { headers => { 'X-Any' => 'user:K1' } });
	is($locked->counts->{leaks}, 1, 'the key in any header is a leak');
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

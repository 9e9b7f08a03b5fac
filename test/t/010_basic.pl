# What a job sends and what it brings back: a new user's first statements one by one, and each
# api with and without inputs.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw(decode_base64 encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $json = JSON::PP->new->utf8->canonical;

# The first request with these words in its body, as it arrived at the stand-in.
sub arrived
{
	my ($words) = @_;
	my @found = grep { index($_->{body} // '', $words) >= 0 } $standin->requests;
	die "nothing with \"$words\" has arrived" unless @found;
	return $found[0];
}

# The headers of a request, by their names in lower case.
sub headers_of
{
	my ($request) = @_;
	return { map { lc($_) => $request->{headers}{$_} } keys %{ $request->{headers} } };
}

sub outputs
{
	my ($id) = @_;
	return query(
		"SELECT string_agg(format('%s %s', ordinal, content_type), ', ' ORDER BY ordinal) FROM gen_outputs WHERE job_id = $id"
	);
}

# What the stand-in answers to the same request when it is asked directly.
sub answer_of
{
	my ($path, $request) = @_;
	my $reply = HTTP::Tiny->new(timeout => 30)->post($standin->url($path),
		{ content => $request, headers => { 'Content-Type' => 'application/json' } });
	die "the stand-in refuses: $reply->{content}" unless $reply->{success};
	return $json->decode($reply->{content});
}

create_server($node, 'images', 'openai-images', $standin, model => 'painter-1');
create_server($node, 'webui', 'automatic1111', $standin, model => 'sd_xl', api_key => 'gradio:secret');
create_server($node, 'echo', 'http', $standin, path => '/echo/path?q=1');
create_server($node, 'binary', 'http', $standin, path => '/binary');
create_server($node, 'text', 'http', $standin, path => '/text');
create_server($node, 'tuned', 'http', $standin,
	path => '/echo',
	model => 'm-1',
	auth => 'header:X-Api-Key',
	api_key => 'sk-header-key',
	headers => '{"X-Team": "art", "User-Agent": "orders/1"}',
	defaults => '{"size": "1x1", "options": {"steps": 20, "cfg": 7}, "tags": ["a", "b"]}');

# printable, so that they can be looked for in the stand-in's record of a request
my @inputs = ('GIF89a the first input', 'GIF89a the second input', '%PDF-1.7 the third input');

sub array
{
	return 'ARRAY[' . join(', ', map { literal($_) . '::bytea' } @_) . ']';
}

sub enqueue_with
{
	my ($server, $request, @with) = @_;
	return query(
		'INSERT INTO gen_jobs (server, request, inputs) VALUES ('
		  . join(', ', literal($server), literal($request), array(@with))
		  . ') RETURNING id');
}

# Waits for all jobs, and passes if all have succeeded.
sub all_succeed
{
	ok(wait_all_ended($node), 'all jobs end');
	is( query(
			q{SELECT coalesce(string_agg(format('%s: %s', id, error), '; '), '') FROM gen_jobs WHERE state <> 'succeeded'}
		),
		'',
		'all jobs succeed');
	return;
}

# The parts of a form that arrived: name, file name, content type, text.
sub parts
{
	my ($body) = @_;
	my @parts;
	while ($body =~
		/^--genjob-\S+\r\nContent-Disposition: form-data; name="([^"]*)"(?:; filename="([^"]*)")?\r\n(?:Content-Type: (\S+)\r\n)?\r\n(.*?)\r\n(?=--genjob-)/msg
	  )
	{
		push @parts, join ' ', $1, $2 // '-', $3 // '-', $4;
	}
	return [ sort @parts ];
}

subtest 'five minutes with it, as the README has it' => sub {
	query('CREATE ROLE app LOGIN');
	query(
		sprintf q{
		CREATE SERVER painter FOREIGN DATA WRAPPER genjob
		  OPTIONS (api 'openai-images', url '%s', max_in_flight '4', timeout '10 min');
		CREATE USER MAPPING FOR PUBLIC SERVER painter OPTIONS (api_key 'sk-...');
		GRANT USAGE ON FOREIGN SERVER painter TO app;
		GRANT INSERT, SELECT ON gen_jobs TO app;
		GRANT SELECT ON gen_outputs TO app;}, $standin->url);

	my $id = query(
		q{INSERT INTO gen_jobs (server, request)
		VALUES ('painter', '{"prompt": "a lighthouse at dawn"}') RETURNING id}, undef, 'app');
	like($id, qr/^\d+$/, 'a role with INSERT and USAGE enqueues');
	ok(wait_state($node, $id, 'succeeded'), 'the job is run by itself');
	is( query(
			"SELECT state, attempt, error, result FROM gen_jobs WHERE id = $id", undef, 'app'),
		'succeeded|1||{"data": [{"b64_json": {"$output": 1}}], '
		  . '"usage": {"input_tokens": 5, "total_tokens": 6, "output_tokens": 1}, "created": 1700000000}',
		'its owner reads the answer, the picture in it replaced by a reference');
	my $first = answer_of('/v1/images/generations', '{"prompt": "a lighthouse at dawn"}');
	my $picture = decode_base64($first->{data}[0]{b64_json});
	is( query(
			"SELECT ordinal, content_type, octet_length(data) FROM gen_outputs WHERE job_id = $id",
			undef, 'app'),
		'1|image/png|' . length($picture),
		'its owner reads the picture');
	is( query("SELECT encode(data, 'hex'), encode(sha256, 'hex'), bytes FROM gen_outputs WHERE job_id = $id"),
		join('|', unpack('H*', $picture), sha256_hex($picture), length($picture)),
		'the picture is what the server sent, to the byte, with its hash and length');
	my $row = job($node, $id);
	is_deeply($row->{usage}, $first->{usage}, 'usage is what the server says');
	ok( $row->{created_at} le $row->{started_at} && $row->{started_at} le $row->{finished_at},
		'its times are in order');
	is($row->{attempt_errors}, undef, 'nothing is in errors');
	is($row->{idempotency_key}, undef, 'no key is kept of a call whose end is known');
};

subtest 'openai-images' => sub {
	my %ids;
	my $three = '{"n": 3, "size": "8x4", "prompt": "three views"}';
	$ids{three} = enqueue($node, 'images', $three);
	$ids{edit} = enqueue_with('images', '{"prompt": "edit one"}', $inputs[0]);
	$ids{edits} = enqueue_with('images', '{"prompt": "edit two", "n": 2}', @inputs[ 0, 1 ]);
	$ids{mask} = enqueue_with('images', '{"prompt": "edit with a mask", "mask": {"$input": 2}}',
		@inputs[ 0, 1 ]);
	$ids{usage} = enqueue($node, 'images',
		StandIn::request(prompt => 'priced', usage => { seconds => 1.5, cost => 'USD 0.04' }));
	all_succeed();

	my $answer = answer_of('/v1/images/generations', $three);
	is( query(
			"SELECT string_agg(encode(sha256, 'hex'), ' ' ORDER BY ordinal) FROM gen_outputs WHERE job_id = $ids{three}"
		),
		join(' ', map { sha256_hex(decode_base64($_->{b64_json})) } @{ $answer->{data} }),
		'three pictures are three outputs in the order of the answer');
	is( query("SELECT result -> 'data' FROM gen_jobs WHERE id = $ids{three}"),
		'[{"b64_json": {"$output": 1}}, {"b64_json": {"$output": 2}}, {"b64_json": {"$output": 3}}]',
		'... referred to where they stood');
	my $sent = arrived('three views');
	is($sent->{uri}, '/v1/images/generations', 'a job without inputs goes to generations');
	is_deeply(
		$json->decode($sent->{body}),
		{ n => 3, size => '8x4', prompt => 'three views', model => 'painter-1' },
		'... as JSON, with the model of the server');
	my $headers = headers_of($sent);
	is($headers->{authorization}, 'Bearer sk-test', 'the api_key is a bearer token');
	is($headers->{'content-type'}, 'application/json', 'the content type is JSON');
	like($headers->{'idempotency-key'}, qr/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
		'a call has an Idempotency-Key');
	ok(!exists $headers->{expect}, 'no call waits for a 100 Continue');


	$sent = arrived('edit one');
	is($sent->{uri}, '/v1/images/edits', 'a job with inputs goes to edits');
	is_deeply(
		parts($sent->{body}),
		[
			"image input1.gif image/gif $inputs[0]",
			'model - - painter-1',
			'prompt - - edit one',
		],
		'one input is the file "image", typed by its bytes');
	is_deeply(
		parts(arrived('edit two')->{body}),
		[
			"image[] input1.gif image/gif $inputs[0]",
			"image[] input2.gif image/gif $inputs[1]",
			'model - - painter-1',
			'n - - 2',
			'prompt - - edit two',
		],
		'several are the files "image[]"');
	is_deeply(
		parts(arrived('edit with a mask')->{body}),
		[
			"image input1.gif image/gif $inputs[0]",
			"mask input2.gif image/gif $inputs[1]",
			'model - - painter-1',
			'prompt - - edit with a mask',
		],
		'{"$input": 2} puts the second where the request says, and the first is "image"');
	is(outputs($ids{edit}), '1 image/png', 'an edit brings back a picture');
	is(outputs($ids{edits}), '1 image/png, 2 image/png', '... or two');
	is_deeply(
		job($node, $ids{usage})->{usage},
		{ seconds => 1.5, cost => 'USD 0.04' },
		'usage is kept in the server\'s own terms');
};

subtest 'automatic1111' => sub {
	my %ids;
	$ids{txt2img} = enqueue($node, 'webui', '{"prompt": "two of a kind", "batch_size": 2, "steps": 5}');
	$ids{img2img} = enqueue_with('webui',
		'{"prompt": "paint over", "mask": {"$input": 2}, "denoising_strength": 0.5}',
		@inputs[ 0, 1 ]);
	all_succeed();

	my $sent = arrived('two of a kind');
	is($sent->{uri}, '/sdapi/v1/txt2img', 'without inputs: txt2img');
	is_deeply(
		$json->decode($sent->{body}),
		{
			prompt => 'two of a kind',
			batch_size => 2,
			steps => 5,
			override_settings => { sd_model_checkpoint => 'sd_xl' }
		},
		'... with the model where this api has it');
	is(headers_of($sent)->{authorization}, 'Basic ' . encode_base64('gradio:secret', ''), '... and basic authentication');
	is(outputs($ids{txt2img}), '1 image/png, 2 image/png', 'a batch of two is two outputs');
	is( query("SELECT result -> 'images' FROM gen_jobs WHERE id = $ids{txt2img}"),
		'[{"$output": 1}, {"$output": 2}]',
		'... referred to where they stood');
	$sent = arrived('paint over');
	is($sent->{uri}, '/sdapi/v1/img2img', 'with inputs: img2img');
	is_deeply(
		$json->decode($sent->{body}),
		{
			prompt => 'paint over',
			denoising_strength => 0.5,
			init_images => [ encode_base64($inputs[0], '') ],
			mask => encode_base64($inputs[1], ''),
			override_settings => { sd_model_checkpoint => 'sd_xl' }
		},
		'inputs are base64: the mask where {"$input": 2} stood, the other in init_images');
	is(outputs($ids{img2img}), '1 image/png', 'img2img brings back a picture');
};

subtest 'http' => sub {
	my %ids;
	$ids{echo} = enqueue_with('echo',
		'{"prompt": "inline", "nested": [{"deep": {"$input": 2}}], "first": {"$input": 1}}',
		@inputs[ 0, 2 ]);
	$ids{binary} = enqueue($node, 'binary', '{"prompt": "as a body"}');
	$ids{text} = enqueue($node, 'text', '{"prompt": "words"}');
	$ids{claimed} = enqueue(
		$node, 'binary',
		StandIn::request(
			prompt => 'a lie',
			faults => [ { content_type => 'image/webp' } ]));
	$ids{gif} = enqueue(
		$node, 'text',
		StandIn::request(
			prompt => 'not said',
			faults => [ { body => 'GIF89a...', content_type => 'application/octet-stream' } ]));
	$ids{csv} = enqueue(
		$node, 'text',
		StandIn::request(
			prompt => 'a table',
			faults => [ { body => "a,b\n1,2\n", content_type => 'text/csv; charset=utf-8' } ]));
	$ids{data_url} = enqueue(
		$node, 'echo',
		'{"prompt": "data url", "urls": ["data:image/png;base64,' . encode_base64('GIF89a in a URL', '')
		  . '", "data:,plain"]}');
	all_succeed();

	my $echo = job($node, $ids{echo})->{result};
	is("$echo->{method} $echo->{uri}", 'POST /echo/path?q=1', 'http: POST to the server\'s path');
	is_deeply(
		$echo->{body},
		{
			prompt => 'inline',
			nested => [ { deep => encode_base64($inputs[2], '') } ],
			first => encode_base64($inputs[0], '')
		},
		'inputs stand as base64 wherever the request names them, and a JSON answer is the result');
	is(outputs($ids{echo}), '', 'a JSON answer is no output');
	is(outputs($ids{binary}), '1 image/png', 'a picture as a body is an output');
	is(job($node, $ids{binary})->{result}, undef, '... and no result');
	is(outputs($ids{text}), '1 text/plain', 'text as a body is an output');
	is( query("SELECT convert_from(data, 'UTF8') = E'You said: words\\n' FROM gen_outputs WHERE job_id = $ids{text}"),
		't',
		'... as it came');
	is(outputs($ids{claimed}), '1 image/png', 'the content type is that of the bytes, not the claimed one');
	is(outputs($ids{gif}), '1 image/gif', '... also where the server claims nothing');
	is(outputs($ids{csv}), '1 text/csv', 'where the bytes tell nothing, what the server claims counts');
	is(outputs($ids{data_url}), '1 image/gif', 'a base64 data: URL anywhere in an answer is an output');
	is_deeply(
		job($node, $ids{data_url})->{result}{body}{urls},
		[ { '$output' => 1 }, 'data:,plain' ],
		'... and another data: URL stays');
};

subtest 'exact both ways' => sub {
	my %ids;
	$ids{numbers} = enqueue($node, 'echo',
		'{"prompt": "numbers", "seed": 9223372036854775807, "id": -9007199254740993, "pi": 3.14159265358979323846,'
		  . ' "u64": 18446744073709551615, "not": "9007199254740993", "big": [1e3, 12345678901234567890123]}');
	my $unicode = "na\x{ef}ve \x{65e5}\x{672c}\x{8a9e} \x{1f5bc}\x{fe0f} \\ \" \t \x{7f} \x{2028}";
	$ids{unicode} = enqueue($node, 'echo', { prompt => $unicode });
	all_succeed();

	is( query(
			"SELECT result -> 'body' ->> 'seed', result -> 'body' ->> 'id', result -> 'body' ->> 'pi',"
			  . " result -> 'body' ->> 'u64', result -> 'body' ->> 'not', result -> 'body' -> 'big'"
			  . " FROM gen_jobs WHERE id = $ids{numbers}"),
		'9223372036854775807|-9007199254740993|3.14159265358979323846|18446744073709551615|9007199254740993|'
		  . '[1000, 12345678901234567890123]',
		'numbers beyond a double come back to the digit');
	like( arrived('numbers')->{body},
		qr/"seed":9223372036854775807\b/,
		'... and were sent to the digit');
	is(job($node, $ids{unicode})->{result}{body}{prompt}, $unicode, 'Unicode comes back as it was');
};

subtest 'options of the server' => sub {
	my %ids;
	$ids{tuned} = enqueue($node, 'tuned',
		'{"prompt": "tuned", "options": {"cfg": 9}, "tags": ["c"], "model": "m-2"}');
	all_succeed();

	my $tuned = job($node, $ids{tuned})->{result};
	is_deeply(
		$tuned->{body},
		{
			prompt => 'tuned',
			size => '1x1',
			options => { steps => 20, cfg => 9 },
			tags => ['c'],
			model => 'm-2'
		},
		'the request is merged over the defaults, and its own model wins');
	my $headers = headers_of($tuned);
	is($headers->{'x-team'}, 'art', 'headers of the server are sent');
	is($headers->{'user-agent'}, 'orders/1', '... in place of genjob\'s own');
	ok(!exists $headers->{authorization}, 'auth "header:NAME": no Authorization');
	is(headers_of(arrived('"tuned"'))->{'x-api-key'}, 'sk-header-key', '... but the key in the named header');
};

subtest 'whose secrets' => sub {
	query(
		q{
		CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE carol LOGIN;
		GRANT USAGE ON FOREIGN SERVER images TO PUBLIC;
		GRANT INSERT, SELECT ON gen_jobs TO alice, bob, carol;
		CREATE USER MAPPING FOR alice SERVER images OPTIONS (api_key 'sk-of-alice', headers '{"X-Account": "a-1"}');
		CREATE USER MAPPING FOR bob SERVER images OPTIONS (api_key 'sk-of-bob');});
	foreach my $role (qw(alice bob carol))
	{
		query(qq{INSERT INTO gen_jobs (server, request) VALUES ('images', '{"prompt": "for $role"}')},
			undef, $role);
	}
	ok(wait_all_ended($node), 'jobs of three roles end');
	my %keys = (alice => 'sk-of-alice', bob => 'sk-of-bob', carol => 'sk-test');
	foreach my $role (sort keys %keys)
	{
		my $headers = headers_of(arrived("for $role"));
		is($headers->{authorization}, "Bearer $keys{$role}", "a job of $role goes with the key of $role"
			  . ($role eq 'carol' ? ', which is that of PUBLIC' : ''));
		is($headers->{'x-account'}, $role eq 'alice' ? 'a-1' : undef, '... and the headers of that mapping');
		is( query('SELECT count(*), min(request ->> \'prompt\') FROM gen_jobs', undef, $role),
			"1|for $role",
			'... and is all that this role sees');
	}
};

subtest 'large inputs' => sub {
	my $large = query(
		q{INSERT INTO gen_jobs (server, request, inputs)
		SELECT 'echo', '{"prompt": "large", "a": {"$input": 1}, "b": {"$input": 2}}',
			ARRAY[b, substr(b, 1, 7 * 1000 * 1000 + 1)]
		FROM (SELECT decode(string_agg(md5(i::text), ''), 'hex') FROM generate_series(1, 850000) i) s (b) RETURNING id}
	);
	my $form = query(
		q{INSERT INTO gen_jobs (server, request, inputs)
		SELECT 'images', '{"prompt": "large form"}', inputs FROM gen_jobs WHERE id = } . $large
		  . ' RETURNING id');
	ok(wait_state($node, $large, 'succeeded'), 'a job with 20 MB of inputs succeeds');
	is( query(
			qq{SELECT sum(octet_length(x)) > 20e6,
				bool_and(sha256(x) = sha256(decode(j.result -> 'body' ->> CASE n WHEN 1 THEN 'a' ELSE 'b' END, 'base64')))
			FROM gen_jobs j, unnest(j.inputs) WITH ORDINALITY u (x, n) WHERE j.id = $large}),
		't|t',
		'... which arrive to the byte and come back');
	ok(wait_state($node, $form, 'succeeded'), 'and so does one that is a form');
	my ($upload) = grep { $_->{uri} eq '/v1/images/edits' && $_->{bytes} > 1e6 } $standin->requests;
	my $length = query("SELECT sum(octet_length(x)) FROM gen_jobs, unnest(inputs) x WHERE id = $form");
	ok($upload->{bytes} > $length && $upload->{bytes} < $length + 1000,
		'... whose body has the inputs as they are');
};

$standin->stop;
$node->stop;
done_testing();

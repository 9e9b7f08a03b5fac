# Every provider's protocol against the stand-in's dialect of it: what a job brings back, what it says when
# the provider refuses, fails or moderates, and that no fault on the way to an answer submits it again.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw(decode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $other = StandIn->new;     # another host, and who is asked what a picture looks like
my $json = JSON::PP->new->utf8->canonical;
my %ids;

# Enqueues a job by a name that is unlike all others; SCRIPT is what the stand-in does to it.
sub start
{
	my ($name, $server, $request, $script, %columns) = @_;
	my $text = StandIn::request(%$request, standin => { id => $name, %{ $script // {} } });
	$ids{$name} = enqueue($node, $server, $text, %columns);
	return $ids{$name};
}

# The job of that name, once it has ended.
sub ended
{
	my ($name) = @_;
	$node->poll_query_until('postgres',
		"SELECT state NOT IN ('waiting', 'queued', 'running') FROM gen_jobs WHERE id = $ids{$name}");
	return job($node, $ids{$name});
}

# What the second stand-in answers to a request that it gets directly.
sub answer_of
{
	my ($path, $request) = @_;
	# the members in the order in which jsonb has them, for the picture depends on it
	my $text = query('SELECT ' . literal($json->encode($request)) . '::jsonb');
	my $reply = HTTP::Tiny->new(timeout => 30)->post($other->url($path),
		{ content => $text, headers => { 'Content-Type' => 'application/json' } });
	die "the stand-in refuses: $reply->{content}" unless $reply->{success};
	return $reply->{content};
}

# The pictures of a prompt, which are the same in all dialects.
sub pictures_of
{
	my ($prompt, $n) = @_;
	my $answer = $json->decode(answer_of('/v1/images/generations', { prompt => $prompt, n => $n }));
	return map { decode_base64($_->{b64_json}) } @{ $answer->{data} };
}

# Strings, other than a picture, at which an answer has base64.
sub pictures_in
{
	my ($node) = @_;
	return ref $node eq 'HASH'  ? (map { pictures_in($node->{$_}) } sort keys %$node)
	  : ref $node eq 'ARRAY'    ? (map { pictures_in($_) } @$node)
	  : ($node // '') =~ /^iVBOR/ ? decode_base64($node)
	  :                           ();
}

# The ordinals that a result refers to, in order.
sub references
{
	my ($node) = @_;
	return
	    ref $node eq 'ARRAY' ? (map { references($_) } @$node)
	  : ref $node ne 'HASH'  ? ()
	  : exists $node->{'$output'} ? $node->{'$output'}
	  : map { references($node->{$_}) } sort keys %$node;
}

sub outputs_of
{
	my ($id) = @_;
	return query(
		q{SELECT coalesce(string_agg(format('%s %s %s %s', ordinal, content_type, bytes, encode(sha256, 'hex')),
			E'\n' ORDER BY ordinal), '') FROM gen_outputs WHERE job_id = } . $id);
}

sub described
{
	my ($type, @binaries) = @_;
	my $n = 0;
	return join "\n", map { join ' ', ++$n, $type, length($_), sha256_hex($_) } @binaries;
}

# ---- every api: a success, a refusal, a failure, a moderated request; they run while the first subtests do ----

sub graph
{
	my ($text) = @_;
	return {
		3 => { class_type => 'KSampler',       inputs => { steps => 20 } },
		6 => { class_type => 'CLIPTextEncode', inputs => { text  => $text } },
		9 => { class_type => 'SaveImage', inputs => { filename_prefix => 'a b/Cats & co' } }
	};
}

sub prompt { return { prompt => $_[0] } }
sub chat { return { messages => [ { role => 'user', content => $_[0] } ] } }
sub tensors
{
	return { inputs => [ { name => 'prompt', shape => [1], datatype => 'BYTES', data => [ $_[0] ] } ] };
}
sub contents { return { contents => [ { parts => [ { text => $_[0] } ] } ] } }

# api, or api and variant => options, how a request is made of a prompt, what else it has, what its
# script has, and what comes: pictures (how many, or the answer that has them), the type of outputs,
# text (and where), usage, and whether the provider names a prediction.
my %cases = (
	'sdcpp' => {
		request => \&prompt, more => { batch_count => 2 }, pictures => 2, named => 1
	},
	'replicate' => {
		options => { model => 'stand-in/painter:1' },
		request => \&prompt, script => { outputs => 2 }, pictures => 2, named => 1,
		usage => { predict_time => 0.1, total_time => 0.1 }
	},
	'fal' => {
		options => { model => 'fal-ai/flux/dev' },
		request => \&prompt, more => { num_images => 2 }, pictures => 2, named => 1,
		usage => { inference_time => 0.1 }
	},
	'bfl' => {
		options => { model => 'flux-2-pro' },
		request => \&prompt, script => { usage => { cost => 6.5 } }, pictures => 1, named => 1,
		usage => { cost => 6.5 }
	},
	'comfyui' => {
		request => sub { return { prompt => graph($_[0]) } },
		script => { outputs => 2 }, pictures => 2, named => 1
	},
	'openai-responses' => {
		options => { model => 'gpt' },
		request => sub { return { input => $_[0] } },
		more => { tools => [ { type => 'image_generation' } ] },
		pictures => '/v1/responses', named => 1,
		usage => { input_tokens => 3, output_tokens => 5, total_tokens => 8 },
		script => { usage => { input_tokens => 3, output_tokens => 5, total_tokens => 8 } },
		text => sub { $_[0]{output}[1]{content}[0]{text} },
		moderated => qr/answered incomplete: content_filter/
	},
	'runpod' => {
		options => { model => 'e1', output => '/output/images/*/data' },
		request => \&prompt, script => { outputs => 2, queue_ms => 20 }, pictures => 2, named => 1,
		usage => { executionTime => 100, delayTime => 20 }
	},
	'openai-images' => {
		request => \&prompt, more => { n => 2, response_format => 'url' },
		script => { urls => 'foreign', usage => { total_tokens => 7 } }, pictures => 2,
		usage => { total_tokens => 7 }
	},
	'openai-chat' => {
		request => \&chat, options => { model => 'm' },
		usage => { total_tokens => 7 }, script => { usage => { total_tokens => 7 } },
		text => sub { $_[0]{choices}[0]{message}{content} }
	},
	'openai-chat whole' => {
		request => \&chat, more => { stream => JSON::PP::false, stream_options => undef },
		usage => { total_tokens => 7 }, script => { usage => { total_tokens => 7 } },
		text => sub { $_[0]{choices}[0]{message}{content} }
	},
	'anthropic' => {
		request => \&chat, options => { model => 'm' },
		usage => { input_tokens => 3, output_tokens => 7 }, script => { usage => { input_tokens => 3, output_tokens => 7 } },
		text => sub { $_[0]{content}[0]{text} }
	},
	'anthropic whole' => {
		request => \&chat, options => { model => 'm' }, more => { stream => JSON::PP::false },
		usage => { input_tokens => 3, output_tokens => 7 }, script => { usage => { input_tokens => 3, output_tokens => 7 } },
		text => sub { $_[0]{content}[0]{text} }
	},
	'openai-embeddings' => {
		request => sub { return { input => $_[0] } }, more => { dimensions => 3 },
		usage => { total_tokens => 7 }, script => { usage => { total_tokens => 7 } },
		answer => '/v1/embeddings'
	},
	'openai-speech' => {
		request => sub { return { input => $_[0] } },
		more => { voice => 'alloy', response_format => 'wav' },
		body => '/v1/audio/speech', type => 'audio/wav'
	},
	'huggingface' => {
		options => { model => 'stand-in/painter' },
		request => sub { return { inputs => $_[0] } },
		body => '/models/stand-in/painter', type => 'image/png'
	},
	'ollama' => {
		request => \&prompt, options => { model => 'llama' },
		script => { latency_ms => 100 },
		text => sub { $_[0]{response} }, usage_has => [qw(eval_count load_duration prompt_eval_count total_duration)]
	},
	'ollama whole' => {
		request => \&prompt, more => { model => 'llama', stream => JSON::PP::false },
		script => { latency_ms => 100 },
		text => sub { $_[0]{response} }, usage_has => [qw(eval_count load_duration prompt_eval_count total_duration)]
	},
	'gemini' => {
		options => { model => 'flash-image' },
		request => \&contents, pictures => '/v1beta/models/flash-image:generateContent',
		usage => { totalTokenCount => 7 }, script => { usage => { totalTokenCount => 7 } },
		moderated => qr/SAFETY/
	},
	'gemini text' => {
		options => { model => 'flash' },
		request => \&contents,
		usage => { totalTokenCount => 7 }, script => { usage => { totalTokenCount => 7 } },
		text => sub { $_[0]{candidates}[0]{content}{parts}[0]{text} },
		moderated => qr/SAFETY/
	},
	'stability' => {
		options => { model => 'core' },
		request => \&prompt, pictures => 1, moderated => qr/CONTENT_FILTERED/
	},
	'kserve' => {
		options => { model => 'painter', output => '/outputs/*/data/*' },
		request => \&tensors, pictures => '/v2/models/painter/infer'
	},
);

for my $case (sort keys %cases)
{
	my $it = $cases{$case};
	my ($api) = split / /, $case;

	create_server($node, $case, $api, $standin, poll_interval => '20 ms', %{ $it->{options} // {} });
	start("$case, success", $case,
		{ %{ $it->{request}->("$case, success") }, %{ $it->{more} // {} } },
		{ latency_ms => $it->{named} ? 100 : 0, %{ $it->{script} // {} } });
	start("$case, refused", $case,
		{ %{ $it->{request}->("$case, refused") }, %{ $it->{more} // {} } },
		{ faults => [ { status => 400, message => 'no such sampler' } ] });
	start("$case, failed", $case,
		{ %{ $it->{request}->("$case, failed") }, %{ $it->{more} // {} } },
		{ outcome => 'fail', message => 'the oven is cold', latency_ms => 50 }, max_attempts => 1);
	start("$case, moderated", $case,
		{ %{ $it->{request}->("$case, moderated") }, %{ $it->{more} // {} } },
		{ outcome => 'moderated', message => 'not for children', latency_ms => 50 }, max_attempts => 1);
}

# ---- faults between the submission and the answer; all at once with the jobs above ----

my %quick = (poll_interval => '20 ms');

sub start_prompt
{
	my ($name, $server, %script) = @_;
	return start($name, $server, { prompt => $name }, { latency_ms => 50, %script });
}

create_server($node, 'patient', 'replicate', $standin, %quick, model => 'm', retry_base => '10 ms');
create_server($node, 'hasty', 'sdcpp', $standin, %quick, timeout => '1500 ms', retry_base => '10 ms');
create_server($node, 'lenient', 'replicate', $standin, %quick, model => 'm', allow_hosts => '127.0.0.1');
create_server($node, 'talker', 'openai-chat', $standin, model => 'm', retry_base => '10 ms');
create_server($node, 'muser', 'ollama', $standin, model => 'm', retry_base => '10 ms');
create_server($node, 'queue', 'fal', $standin, %quick, model => 'fal-ai/flux');
create_server($node, 'drawer', 'sdcpp', $standin, %quick);
create_server($node, 'bearer', 'bfl', $standin, %quick, model => 'flux-pro', gone_after => '0 s');
create_server($node, 'loader', 'huggingface', $standin, model => 'a/b', retry_base => '10 ms');
create_server($node, 'quota', 'gemini', $standin, model => 'flash-image', retry_base => '10 ms');

my %brought = map { $_ => 1 } (
	'polls fail', 'polls are throttled', 'downloads fail', 'redirected', 'expires', 'result fails', 'lenient');
start_prompt('polls fail', 'patient',
	poll_faults => [ { status => 500, message => 'out of memory' }, { cut => 'body' } ]);
start_prompt('polls are throttled', 'patient', poll_faults => [ { status => 429, retry_after => '1' } ]);
start_prompt('downloads fail', 'patient', download_faults => [ { cut => 'body' }, { status => 503 } ]);
start_prompt('redirected', 'patient',
	download_faults => [ { redirect => 'same' }, { redirect => 'other' }, { redirect => 'same' } ]);
start_prompt('expires', 'patient',
	url_expires_ms => 400, url_renewed => 1, download_faults => [ { latency_ms => 600 } ]);
start_prompt('result fails', 'queue', result_faults => [ { status => 503 } ]);
start_prompt('redirected for ever', 'patient', download_faults => [ { redirect => 'same' } ], repeat => 1);
start_prompt('gone', 'drawer', outcome => 'gone');
start_prompt('gone by name', 'patient', outcome => 'gone');
start_prompt('gone in words', 'bearer', outcome => 'gone');
start_prompt('never', 'hasty', outcome => 'never');
start_prompt('stalled', 'hasty', poll_faults => [ { stall => 1 } ], repeat => 1);

# an answer that names a URL of another host, on which there is such a prediction
sub submitted_elsewhere
{
	my ($name) = @_;
	return answer_of('/v1/predictions',
		{ version => 'm', input => { prompt => $name, standin => { id => $name, latency_ms => 500 } } });
}
start_prompt('abroad', 'patient', faults => [ { body => submitted_elsewhere('abroad') } ]);
start_prompt('lenient', 'lenient', faults => [ { body => submitted_elsewhere('lenient') } ]);

# streams that do not come to their end
start('stream errs', 'talker', chat('stream errs'),
	{ faults => [ { stream_error => 1, message => 'the beam broke' } ] });
start('lines err', 'muser', prompt('lines err'), { faults => [ { stream_error => 1, message => 'the beam broke' } ] });
start('as a stream', 'talker', chat('the same'));
start('as a whole', 'talker', { %{ chat('the same') }, stream => JSON::PP::false, stream_options => undef });
start('stream is cut', 'talker', chat('stream is cut'), { faults => [ { cut => 'body' } ] }, max_attempts => 1);
start('stream is cut twice', 'talker', chat('stream is cut twice'),
	{ faults => [ { cut => 'body' }, { cut => 'body', reset => 1 } ] });
start('stream has no end', 'talker', chat('stream has no end'),
	{ faults => [ {
		content_type => 'text/event-stream', body => qq{data: {"choices":[{"delta":{"content":"You"}}]}\n\n} } ] },
	max_attempts => 1);
start('lines have no end', 'muser', prompt('lines have no end'),
	{ faults => [ { content_type => 'application/x-ndjson', body => qq{{"response":"You","done":false}\n} } ] },
	max_attempts => 1);

# how long to wait, in the body of a refusal; a second attempt that uses up none
start('loads twice', 'loader', { inputs => 'loads twice' },
	{ faults => [ { status => 503, retry_in_s => 1 } ] }, max_attempts => 1);
start('loads for exactly so long', 'loader', { inputs => 'loads for exactly so long' },
	{ faults => [ { status => 503, content_type => 'application/json',
		body => '{"error": "loading", "estimated_time": 1.0000000000000002}' } ] }, max_attempts => 1);
start('quota twice', 'quota', contents('quota twice'),
	{ faults => [ { status => 429, retry_in_s => 0.7 } ] }, max_attempts => 1);

sub error_like
{
	my ($name, $state, $pattern) = @_;
	my $job = ended($name);
	is($job->{state}, $state, $name);
	like($job->{error}, $pattern, '... says so');
	return;
}

# ---- progress, and cancelling ----

subtest 'activity shows the progress that the provider tells' => sub {
	my @servers = qw(bearer drawer webui);
	create_server($node, 'webui', 'automatic1111', $standin, %quick, max_in_flight => 1);
	start_prompt("$_ tells how far", $_, latency_ms => 20_000, progress => 1) for @servers;
	eventually(qq{SELECT count(*) = 1 FROM genjob.activity
		WHERE job_id = $ids{"$_ tells how far"} AND progress BETWEEN 0.05 AND 0.98}, $_) for @servers;
	query("SELECT genjob.cancel($_)") for map { $ids{"$_ tells how far"} } @servers;
};

subtest 'a cancelled job says whether the provider knows' => sub {
	my @confirmed = ('stopped', 'stopped while queued', 'graph stopped');
	my @unconfirmed = ('cannot be stopped', 'does not hear');
	start_prompt('stopped', 'patient', latency_ms => 60_000);
	start_prompt('stopped while queued', 'drawer', queue_ms => 60_000);
	start('graph stopped', 'comfyui', { prompt => graph('graph stopped') }, { latency_ms => 60_000 });
	start_prompt('cannot be stopped', 'drawer', latency_ms => 60_000);
	start_prompt('does not hear', 'queue', latency_ms => 60_000, cancel_faults => [ { status => 500 } ], repeat => 1);
	my $list = join ', ', @ids{ @confirmed, @unconfirmed };
	eventually("SELECT count(remote_id) = 5 FROM gen_jobs WHERE state = 'running' AND id IN ($list)",
		'predictions are known by name while they run');
	query("SELECT genjob.cancel(id) FROM gen_jobs WHERE id IN ($list)");
	eventually("SELECT count(*) = 5 FROM gen_jobs WHERE state = 'cancelled' AND id IN ($list) AND error ~ 'confirm'",
		'cancelled jobs say whether the provider knows');
	error_like($_, 'cancelled', qr/"[^"]+" confirmed it/) for @confirmed;
	error_like($_, 'cancelled',
		qr/did not confirm it.*its work (?:may continue and|continues and may) cost money/) for @unconfirmed;
	my $ids = $standin->counts->{ids};
	is($ids->{$_}{cancelled}, 1, "the provider has stopped \"$_\"") for @confirmed;
	cmp_ok($ids->{$_}{cancels}, '>=', 1, "the provider was asked to stop \"$_\"") for @unconfirmed;
	is($ids->{$_}{arrived}, 1, "\"$_\" was sent once") for @confirmed, @unconfirmed;
};

# ---- what every api brings ----

for my $case (sort keys %cases)
{
	subtest "api $case: brings what the provider answers, and fails in the provider's words" => sub {
		my $it = $cases{$case};
		my $name = "$case, success";
		my $job = ended($name);
		my $request = { %{ $it->{request}->($name) }, %{ $it->{more} // {} } };
		my @expected =
		    !$it->{pictures}         ? ($it->{body} ? answer_of($it->{body}, $request) : ())
		  : $it->{pictures} =~ /^\d/ ? pictures_of($name, $it->{pictures})
		  :   pictures_in($json->decode(answer_of($it->{pictures}, $request)));

		is("$job->{state} " . ($job->{error} // ''), 'succeeded ', $name);
		is(outputs_of($ids{$name}), described($it->{type} // 'image/png', @expected), '... its outputs, to the byte');
		is_deeply([ references($job->{result}) ], $it->{body} ? [] : [ 1 .. @expected ],
			'... its result refers to them');
		is($it->{text}->($job->{result}), "You said: $name", '... its text') if $it->{text};
		is_deeply([ map { @{ $_->{embedding} } } @{ $job->{result}{data} } ],
			[ map { @{ $_->{embedding} } } @{ $json->decode(answer_of($it->{answer}, $request))->{data} } ],
			'... its numbers') if $it->{answer};
		is_deeply($job->{usage}, $it->{usage}, '... what it used') if $it->{usage};
		is_deeply([ sort keys %{ $job->{usage} } ], $it->{usage_has}, '... what it used') if $it->{usage_has};
		ok(defined $job->{remote_id} == !!$it->{named}, '... whether its prediction has a name');

		my %expected = (refused => qr/no such sampler/, failed => qr/the oven is cold/,
			moderated => $it->{moderated} // qr/not for children/);
		for my $end (sort keys %expected)
		{
			my $ended = ended("$case, $end");
			is("$ended->{state} $ended->{attempt}", 'failed 1', "$case, $end");
			like($ended->{error}, $expected{$end}, "... in the provider's words");
		}
	};
}

# ---- what became of the faults ----

subtest 'a fault on the way to a picture costs neither the picture nor an attempt' => sub {
	for my $name (sort keys %brought)
	{
		my $job = ended($name);
		is($job->{state}, 'succeeded', $name);
		is(outputs_of($ids{$name}), described('image/png', pictures_of($name, 1)), '... brings its picture');
		is($job->{attempt}, 1, '... at the first attempt');
	}
};

subtest 'what never comes to a picture fails its job, and says what it may cost' => sub {
	error_like('redirected for ever', 'failed', qr/could not be downloaded from .*redirect/);
	error_like($_, 'failed', qr/does not know the prediction \S+ any longer.*It may have been paid for/)
	  for 'gone', 'gone by name', 'gone in words';
	error_like('stalled', 'failed', qr/ended within the option timeout.*may still run and cost money/);
	error_like('never', 'failed', qr/did not end within the option timeout.*may still run and cost money/);
};

subtest 'a prediction on another host is asked about only if the option allow_hosts allows it' => sub {
	error_like('abroad', 'failed', qr/gave a URL of another host.*allow_hosts/);
	is($other->counts->{ids}{abroad}{polls}, 0, '... and is not asked there');
	ended('lenient');
	cmp_ok($other->counts->{ids}{lenient}{polls}, '>=', 1, 'which an option allows');
};

subtest 'a stream that does not come to its end is no answer' => sub {
	error_like($_, 'failed', qr/ended its answer with an error: the beam broke/) for 'stream errs', 'lines err';
	error_like('stream is cut', 'failed', qr/ended before.* complete/);
	error_like($_, 'failed', qr/ended without the last event/) for 'stream has no end', 'lines have no end';
	is(ended('stream is cut twice')->{result}{choices}[0]{message}{content}, 'You said: stream is cut twice',
		'a stream that was cut is asked for again');
};

subtest 'a stream comes to what the call gives without one' => sub {
	is_deeply(ended('as a stream')->{result}, ended('as a whole')->{result}, 'the results are the same');
};

subtest 'a job waits as long as a refusal tells it, which costs no attempt' => sub {
	for my $name ('loads twice', 'loads for exactly so long', 'quota twice')
	{
		my $job = ended($name);
		is("$job->{state} $job->{attempt} $job->{failures}", 'succeeded 2 0', "$name: waits, which costs no attempt");
	}
	is(query("SELECT extract(epoch FROM finished_at - created_at) >= 1 FROM gen_jobs WHERE id = $ids{$_}"), 't',
		"$_: ... as long as it is told") for 'loads twice', 'loads for exactly so long';
};

subtest 'nothing is submitted twice, and no secret goes to another host' => sub {
	ok(wait_all_ended($node), 'all jobs end');
	my $counts = $standin->counts;
	is($counts->{leaks}, 0, 'no secret has come to the foreign host');
	cmp_ok($counts->{downloads}, '>=', 2 + 2 + 1 + 2 + 2, '... which was asked for files');
	is_deeply(
		[ grep { $counts->{ids}{$_}{arrived} > 1 && !/twice|exactly/ } sort keys %{ $counts->{ids} } ],
		[], 'no submission with a definite answer was sent twice');
	is($standin->counts(summary => 1)->{max_submitted_per_id}, 1, 'no prediction was made twice');
};

$_->stop foreach $standin, $other;
$node->stop;
done_testing();

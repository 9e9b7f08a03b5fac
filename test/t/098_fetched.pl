# Stored objects that a request wants as bytes: they are fetched before anything is sent, so that a store which refuses,
# is down or lacks them costs no generation, whatever ends meanwhile.

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
use PythonServer;
use StandIn;

my $swift = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $swift->missing if $swift->missing;
my $fake = PythonServer->new('fakestore.py');

my $node = new_node(conf => "genjob.shutdown_grace = 2\ngenjob.max_memory = 64MB\nrestart_after_crash = on\n");
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 30);
my $json = JSON::PP->new->canonical;

my @store = (region => 'us-east-1', key => '{server}/{job}-{ordinal}.{ext}');

create_store($node, 'pictures', $swift, @store);
create_store($node, 'fake', $fake, @store, bucket => 'fake');
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');

sub request_of { my ($text) = @_; return (grep { ($_->{body} // '') =~ /\Q$text\E/ } $standin->requests)[-1] }
sub result_of { my ($id) = @_; wait_state($node, $id, 'succeeded'); return job($node, $id)->{result} }

sub put_object
{
	my ($server, $key, $bytes) = @_;
	my $id = query("INSERT INTO gen_jobs (server, request, inputs) VALUES ('$server', '{\"put\": \"$key\"}',
		ARRAY[decode('" . unpack('H*', $bytes) . "', 'hex')]) RETURNING id");
	wait_state($node, $id, 'succeeded');
	return;
}

# what all parts fetch: an output in a store, an object whose key has odd characters, and one of the other store
my $painting = enqueue($node, 'painter', StandIn::request(prompt => 'a cat'));
wait_state($node, $painting, 'succeeded') or die 'there is no picture in a store';
my $sha256 = query("SELECT encode(sha256, 'hex') FROM gen_outputs WHERE job_id = $painting AND url IS NOT NULL");
my $odd = "in/a cat's \xc3\xa4 %41+&?#.png";
my $cat = "\x89PNG\r\n\x1a\n" . join('', map { chr } 0 .. 255) x 4;
put_object('pictures', $odd =~ s/'/''/gr, $cat);
put_object('fake', 'in.png', $cat);
my $output = { '$output_url' => [ 0 + $painting, 1 ] };
my $object = { '$url' => "s3://pictures/" . do { my $key = $odd; utf8::decode($key); $key } };
my $in = { '$url' => 's3://fake/in.png' };

# Passes if no job of these servers needed another attempt.
sub at_the_first_attempt
{
	my $servers = join ', ', map { literal($_) } @_;
	return is(query("SELECT count(*) FROM gen_jobs WHERE server IN ($servers)
		AND (state <> 'succeeded' OR failures > 0)"),
		0, 'all that at the first attempt');
}

# A job that the stand-in knows by its name and that wants the object of the store fake.
sub start
{
	my ($name, $server, %more) = @_;
	return enqueue($node, $server // 'bytes',
		StandIn::request(prompt => $name, a => $in, %more, standin => { id => $name }));
}

# ---- who gets bytes, and who a link ----

subtest 'an api of JSON gets a link, or the bytes where the request or the server says so' => sub {
	create_server($node, 'plain', 'http', $standin, path => '/echo');
	create_server($node, 'as_bytes', 'http', $standin, path => '/echo', links_as => 'bytes');
	my $got = result_of(enqueue($node, 'plain',
		$json->encode({ a => $output, b => { '$output' => [ 0 + $painting, 1 ] } })));
	like($got->{body}{a}, qr{^http://.*Signature=}, 'an api of JSON gets a link');
	is(sha256_hex(decode_base64($got->{body}{b})), $sha256,
		'... or the bytes, where the request says {"$output": ...}');
	my $web = { '$url' => 'https://example.com/a' };
	$got = result_of(enqueue($node, 'as_bytes', JSON::PP->new->utf8->encode({ a => $output, b => [ $object, $web ] })));
	is(sha256_hex(decode_base64($got->{body}{a})), $sha256, 'with links_as \'bytes\' it gets the bytes of an output');
	is(decode_base64($got->{body}{b}[0]), $cat, '... and of any object');
	is($got->{body}{b}[1], 'https://example.com/a', '... and of the web what there is: a URL');
	like(query("SELECT genjob.preview('as_bytes', '" . $json->encode({ a => $output }) . "')"),
		qr/"a":"KHRoZSBieXRlcyBvZ/, 'a preview fetches nothing');
	at_the_first_attempt('plain', 'as_bytes');
};

subtest 'a form gets a file, and an api of pictures the picture' => sub {
	create_server($node, 'form', 'http', $standin, path => '/echo', body => 'multipart');
	create_server($node, 'editor', 'openai-images', $standin, store => 'pictures');
	create_server($node, 'webui', 'automatic1111', $standin);
	my $got = result_of(enqueue($node, 'form', $json->encode({ picture => $output, prompt => 'p' })));
	like($json->encode($got->{parts}), qr/output$painting-1\.png/, 'a form gets a file');
	my $edit = enqueue($node, 'editor', StandIn::request(prompt => 'an edit', image => $output));
	ok(wait_state($node, $edit, 'succeeded'), 'so does OpenAI');
	is(request_of('an edit')->{uri}, '/v1/images/edits', '... which edits it');
	like(request_of('an edit')->{body},
		qr{name="image"; filename="[^"]+\.png"\r\nContent-Type: image/png\r\n\r\n\x{fffd}?.?PNG}s, '... as a picture');
	my $over = enqueue($node, 'webui', StandIn::request(prompt => 'paint over', init_images => [$output]));
	ok(wait_state($node, $over, 'succeeded'), 'and AUTOMATIC1111');
	is(request_of('paint over')->{uri}, '/sdapi/v1/img2img', '... at img2img');
	is(sha256_hex(decode_base64($json->decode(request_of('paint over')->{body})->{init_images}[0])), $sha256,
		'... with base64');
	at_the_first_attempt('form', 'editor', 'webui');
};

subtest 'Anthropic gets bytes as data, and a link as url' => sub {
	create_server($node, 'claude', 'anthropic', $standin);
	my $data = { type => 'base64', media_type => 'image/png', data => $output };
	my $message = { role => 'user', content => [ { type => 'image', source => $data },
		{ type => 'image', source => { type => 'url', url => $output } } ] };
	my $claude = enqueue($node, 'claude', StandIn::request(model => 'm', messages => [$message]));
	ok(wait_state($node, $claude, 'succeeded'), 'Anthropic takes both');
	my $sources = $json->decode(request_of('"base64"')->{body})->{messages}[0]{content};
	is(sha256_hex(decode_base64($sources->[0]{source}{data})), $sha256, '... bytes as data');
	like($sources->[1]{source}{url}, qr{^http://.*Signature=}, '... and a link as url');
	at_the_first_attempt('claude');
};

subtest 'an object goes from a store into the same one, which has one place' => sub {
	query(q{ALTER SERVER pictures OPTIONS (ADD max_in_flight '1')});
	my $copied = enqueue($node, 'pictures', $json->encode({ put => 'copied.png', body => $output }));
	ok(wait_state($node, $copied, 'succeeded'), 'an object is put that was fetched');
	is(query("SELECT failures FROM gen_jobs WHERE id = $copied"), 0, '... at the first attempt');
	query(q{ALTER SERVER pictures OPTIONS (DROP max_in_flight)});
};

# ---- who may ----

subtest 'who may not use the store, or see the job, gets no bytes, and nothing is sent' => sub {
	query(q{CREATE ROLE app; CREATE ROLE other; GRANT INSERT, SELECT ON gen_jobs TO app, other;
		GRANT USAGE ON FOREIGN SERVER bytes TO app, other; GRANT USAGE ON FOREIGN SERVER pictures TO other});
	my $denied = sub {
		my ($role, $wanted, $what) = @_;
		my $before = () = $standin->requests;
		my $id = query("SET ROLE $role; INSERT INTO gen_jobs (server, request)
			VALUES ('bytes', '" . $json->encode({ a => $wanted }) . "') RETURNING id");
		ok(wait_state($node, $id, 'failed'), $what);
		is(scalar(() = $standin->requests), $before, '... and nothing is sent');
		return job($node, $id)->{error};
	};
	put_object('pictures', 'private.png', $cat);
	like($denied->('app', { '$url' => 's3://pictures/private.png' },
		'who may not use the store gets no bytes of it'),
		qr/^s3:\S+ cannot be fetched: no server that you may use has the bucket/, '... and is told');
	like($denied->('other', $output, 'who does not see the job gets no bytes of it'),
		qr/has no output 1, or it is not yours/, '... and is told');
};

# ---- what is not there, and what is too large ----

subtest 'what is not there, or too large, is refused before anything is sent' => sub {
	my $refused = sub {
		my ($wanted, $what) = @_;
		my $name = "refused: $what";
		my $id = enqueue($node, 'bytes', StandIn::request(prompt => $name, a => $wanted, standin => { id => $name }));
		ok(wait_state($node, $id, 'failed'), $what);
		is($standin->arrived($name), 0, '... and nothing was sent');
		return job($node, $id)->{error};
	};
	like($refused->({ '$url' => 's3://pictures/none.png' }, 'an object that is not there'),
		qr{^s3://pictures/none\.png is not there, so the job was not sent: .*NoSuchKey}, '... is named');
	query(q{ALTER SERVER pictures OPTIONS (ADD max_response '1MB')});
	put_object('pictures', 'large.png', "\x89PNG\r\n\x1a\n" . "\0" x (2 * 1024 * 1024));
	like($refused->({ '$url' => 's3://pictures/large.png' }, 'an object of more than max_response of its store'),
		qr/than the option max_response of its store's server "pictures" allows, 1 MB\. Raise it, or give a link/,
		'... is refused with a hint');
	query(q{ALTER SERVER pictures OPTIONS (SET max_response '256MB')});
	my $link = query(q{SELECT genjob.presign_put('pictures', 'huge.png', 'image/png', '1 hour')});
	my $huge = { headers => { 'Content-Type' => 'image/png' }, content => "\0" x (33 * 1024 * 1024) };
	is($http->put($link, $huge)->{status}, 200, 'an object of 33 MB');
	like($refused->({ '$url' => 's3://pictures/huge.png' }, '... of more than half of the memory'),
		qr/too large to be sent as bytes: a request may have 32 MB .* half of genjob\.max_memory.*links_as/,
		'... is refused with a hint');
	query(q{ALTER SERVER pictures OPTIONS (DROP max_response)});
};

# ---- the store refuses, is slow, is down ----

subtest 'a job waits for a store that refuses, says why, and costs no attempt' => sub {
	$fake->set(refuse => [ 403, 'AccessDenied' ]);
	my $id = start('denied');
	eventually("SELECT state = 'queued' AND error ~ 'AccessDenied.*check it in the user mapping.*nothing was sent'
		FROM gen_jobs WHERE id = $id", 'a store that refuses: the job waits, and says why')
	  or diag(query("SELECT state, error FROM gen_jobs WHERE id = $id"));
	eventually(q{SELECT held_reason ~ 'AccessDenied' FROM genjob.servers WHERE server = 'fake'},
		'... and so does the store in genjob.servers');
	is($standin->arrived('denied'), 0, '... and nothing was sent');
	is(query("SELECT in_flight FROM genjob.servers WHERE server = 'bytes'"), 0, '... and its place is free');
	$fake->set(refuse => undef);
	ok(wait_state($node, $id, 'succeeded'), '... until it does not');
	is(query("SELECT failures || ' ' || coalesce(error, '-') || ' ' || coalesce(attempt_errors::text, '-')
		FROM gen_jobs WHERE id = $id"), '0 - -', '... which cost no attempt');
	is($standin->arrived('denied'), 1, '... and one call');
};

subtest 'a store that is down holds up no other job, and each is sent once when it is back' => sub {
	my $port = $fake->port;
	$fake->stop;
	my @down = map { start("down $_") } 1 .. 15;
	my $ours = 'id IN (' . join(', ', @down) . ')';
	eventually("SELECT count(*) = 15 FROM gen_jobs WHERE $ours AND state = 'queued'
		AND error ~ 'must come from|could not be fetched'", 'a store that is down');
	my $other = enqueue($node, 'bytes', StandIn::request(prompt => 'other'));
	ok(wait_state($node, $other, 'succeeded'), '... holds up no other job of the server');
	is($standin->arrived("down $_"), 0, '... and costs no generation') for 1, 15;
	$fake->start($port);
	eventually("SELECT count(*) = 15 FROM gen_jobs WHERE $ours AND state = 'succeeded'", 'it is back, and they go on')
	  or diag(query("SELECT j.id, state, j.attempt, run_at - now(), error, phase, bytes_received, elapsed
		FROM gen_jobs j LEFT JOIN genjob.activity a ON a.job_id = j.id WHERE j.$ours AND state <> 'succeeded'"));
	is(join(' ', map { $standin->arrived("down $_") } 1 .. 15), join(' ', (1) x 15), '... each is sent once');
};

# ---- many large ones ----

subtest 'many large objects take little more than genjob.max_memory' => sub {
	my $large = { content => "\x89PNG\r\n\x1a\n" . 'x' x (20 * 1024 * 1024) };
	is($http->put($fake->url('/fake/large.png'), $large)->{status}, 200, 'an object of 20 MB');
	create_server($node, 'large', 'openai-images', $standin);
	my $dispatcher = wait_dispatcher($node);
	my $before = private_memory($dispatcher);
	my $most = 0;
	foreach my $name (map { "large $_" } 1 .. 8)
	{
		enqueue($node, 'large', StandIn::request(prompt => $name, image => { '$url' => 's3://fake/large.png' },
			standin => { id => $name, latency_ms => 1000 }));
	}
	my $until = time + 2 * $PostgreSQL::Test::Utils::timeout_default;
	while (time < $until)
	{
		my $now = private_memory($dispatcher);
		$most = $now if $now > $most;
		last if query(q{SELECT count(*) FROM gen_jobs WHERE server = 'large' AND state NOT IN ('succeeded', 'failed')})
			== 0;
	}
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'large' AND state = 'succeeded'}), 8, 'eight jobs want it');
	is(query(q{SELECT sum(failures) FROM gen_jobs WHERE server = 'large'}), 0, '... and none fails of it');
	cmp_ok(query(q{SELECT max(attempt) FROM gen_jobs WHERE server = 'large'}), '<', 4,
		'... each goes on when memory is given back, and is not tried again and again before');
	note(sprintf 'memory: %d MB more', $most - $before);
	takes_less($most - $before, 110, '... with little more than genjob.max_memory');
};

# ---- what ends meanwhile ----

# A server whose jobs fail if nobody knows whether they were run: nothing was sent, so they do not.
create_server($node, 'careful', 'http', $standin, path => '/echo', links_as => 'bytes', on_unknown => 'fail');

subtest 'a job that is cancelled while its object is fetched is never sent' => sub {
	$fake->set(delay => 10);
	foreach my $server ('bytes', 'careful')
	{
		my $cancelled = start("cancelled $server", $server);
		eventually("SELECT phase = 'fetching' FROM genjob.activity WHERE job_id = $cancelled",
			'genjob.activity shows it');
		query("SELECT genjob.cancel($cancelled)");
		eventually("SELECT state = 'cancelled' AND remote IS NULL FROM gen_jobs WHERE id = $cancelled",
			'a job that is cancelled meanwhile');
	}
	$fake->set(delay => 0);
	# a job that comes later has been sent by the time that theirs would have been
	foreach my $server ('bytes', 'careful')
	{
		ok(wait_state($node, start("after $server", $server), 'succeeded'), 'another job is sent');
		is($standin->arrived("cancelled $server"), 0, 'the one that was cancelled was never sent');
	}
};

foreach my $how ('fast', 'immediate', 'kill')
{
	my $what = $how eq 'kill' ? 'a SIGKILL of the dispatcher' : "a stop in the mode $how";
	subtest "an object is fetched again after $what, and the job is sent once" => sub {
		$fake->set(delay => 10);
		my $usual = start($how);
		my $careful = start("$how careful", 'careful');
		eventually("SELECT count(*) = 0 FROM gen_jobs WHERE id IN ($usual, $careful) AND (state <> 'running'
			OR id NOT IN (SELECT job_id FROM genjob.activity WHERE phase = 'fetching'))", 'while an object is fetched');
		if ($how eq 'kill')
		{
			kill_dispatcher();
		}
		else
		{
			$node->stop($how);
			$node->start;
			wait_dispatcher($node);
		}
		$fake->set(delay => 0);
		ok(wait_state($node, $_, 'succeeded'), 'it is fetched again') for $usual, $careful;
		is($standin->arrived($_), 1, '... and sent once') for $how, "$how careful";
		is(query("SELECT sum(failures) FROM gen_jobs WHERE id IN ($usual, $careful)"), 0, '... and costs no attempt');
	};
}

$node->stop;
done_testing();

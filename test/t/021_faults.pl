# Servers that answer badly or not at all. Each job ends with an error that says what, why and what to
# do; what was paid for is kept; jobs beside it are not touched; and no secret comes to light.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $folder = PostgreSQL::Test::Utils::tempdir();
my %quick = (retry_base => '10 ms', retry_max => '20 ms', max_attempts => 2);

# A certificate of its own authority, for that name or address.
sub make_certificate
{
	my ($name, $alternative) = @_;
	my @files = ("$folder/$name.crt", "$folder/$name.key");
	system_or_bail(
		'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
		'-nodes', '-days', '30', '-subj', "/CN=$name", '-addext', "subjectAltName=$alternative",
		'-out', $files[0], '-keyout', $files[1]);
	return @files;
}

my @certificate = make_certificate('server', 'IP:127.0.0.1');
my @other_certificate = make_certificate('other', 'DNS:painter.example');
my $secure = StandIn->new(tls => \@certificate);
my $misnamed = StandIn->new(tls => \@other_certificate);
my $closed_port = PostgreSQL::Test::Cluster::get_free_port();

create_server($node, 'painter', 'openai-images', $standin, %quick, timeout => '30 s', max_response => '100kB');
create_server($node, 'roomy', 'openai-images', $standin, %quick);
create_server($node, 'json', 'http', $standin, %quick, path => '/echo');
create_server($node, 'hasty', 'openai-images', $standin, %quick, timeout => '300 ms');
create_server($node, 'closed', 'openai-images', "http://127.0.0.1:$closed_port", %quick);
create_server($node, 'nameless', 'openai-images', 'http://genai-server.invalid', %quick);
create_server($node, 'untrusted', 'openai-images', $secure, %quick);
create_server($node, 'trusted', 'openai-images', $secure, %quick, ca_file => $certificate[0]);
create_server($node, 'misnamed', 'openai-images', $misnamed, %quick, ca_file => $other_certificate[0]);
create_server($node, 'no_such_file', 'openai-images', $secure, %quick, ca_file => "$folder/none.crt");
create_server($node, 'plain', 'openai-images', 'https://127.0.0.1:' . $standin->port, %quick);
# not the trusted one's port: some versions of libcurl take a TLS connection that is open already
create_server($node, 'encrypted', 'openai-images', 'http://127.0.0.1:' . $misnamed->port, %quick);
create_server($node, 'wrong_path', 'openai-images', $standin, %quick, path => '/v2/pictures');

my $again = qr/All 2 attempts are used up: raise max_attempts, or run the job again with genjob\.retry\(\)\.$/;

# Promise => calls: name, server, fault, attempts, error, outputs
my %failing = (
	'an answer that cannot be read fails its job, and what came is kept' => [
		[ 'not JSON', 'painter', { garbage => 'not-json' }, 1, qr/the answer of server "painter" is not valid JSON at byte 1 of 16; it is kept in gen_outputs\./, '1 text/plain 16' ],
		[ 'JSON that breaks off', 'painter', { garbage => 'truncated-json' }, 1, qr/is not valid JSON at byte \d+ of \d+; it is kept in gen_outputs\./, qr/^1 application\/json \d+$/ ],
		[ 'nothing', 'painter', { garbage => 'empty' }, 1, qr/server "painter" answered HTTP 200 with an empty body\. Check/, '' ],
		[ '10,000 brackets', 'painter', { garbage => 'nested' }, 1, qr/is not valid JSON at byte \d+ of 20000; it is kept in gen_outputs/, '1 application/json 20000' ],
		[ 'an HTML page', 'painter', { garbage => 'html' }, 1, qr/the answer of server "painter" is not JSON; it is kept in gen_outputs\..*Check/, qr/^1 text\/html \d+$/ ],
		[ 'JSON of something else', 'painter', { body => '{"pictures": []}' }, 1, qr/has no output at \/data\/\*\/b64_json \/data\/\*\/url; it is kept in the column result\./, '' ],
		[ 'JSON that is a string', 'painter', { body => '"here you are"' }, 1, qr/has no output at/, '' ],
		[ 'an error inside', 'painter', { garbage => 'error-200' }, 1, qr/server "painter" answered HTTP 200 with an error inside: The model has failed\./, '' ],
		[ 'wrong base64', 'painter', { garbage => 'bad-base64' }, 1, qr/has invalid base64 at \/data\/0\/b64_json; it is kept in the column result\./, '' ],
		[ 'too much', 'painter', { huge => 200_000 }, 1, qr/the answer of server "painter" is larger than 100 kB\. Raise its option max_response\./, '' ],
		[ 'too much in chunks', 'painter', { huge => 50_000_000, chunked => 1 }, 1, qr/is larger than 100 kB\. Raise its option max_response\./, '' ],
		[ 'not HTTP', 'painter', { garbage => 'no-http' }, 1, qr/what server "painter" answered is not HTTP: .*\. Check its option url\./, '' ],
		[ 'a redirection', 'painter', { status => 302, headers => { Location => $standin->url('/echo/redirected') } }, 1, qr/answered HTTP 302, a redirection, which genjob does not follow\. Set the server's option url to the new address\./, '' ],
	],
	'a refusal in words that are no words fails its job' => [
		[ 'refused in HTML', 'painter', { status => 502, garbage => 'html' }, 2, qr/answered HTTP 502: \(an HTML page\) 502 Bad Gateway\. $again/, '' ],
		[ 'refused in bytes', 'painter', { status => 400, body => { base64 => encode_base64("no \0 way \xff\xfe \xc3\x28", '') } }, 1, qr/answered HTTP 400/, '' ],
		[ 'refused in a flood', 'painter', { status => 400, body => 'word ' x 15_000 }, 1, qr/answered HTTP 400: (word ){100}/, '' ],
		[ 'refused in too much', 'painter', { status => 400, huge => 5_000_000 }, 1, qr/is larger than 100 kB/, '' ],
		[ 'no such path', 'wrong_path', {}, 1, qr/answered HTTP 404.*Check the server's options api, url and path\./, '' ],
	],
	'a call without an answer is tried again, then fails its job' => [
		[ 'cut at once', 'painter', { cut => 'accept' }, 2, qr/the connection to server "painter" ended before the answer was complete: .*\. $again/, '' ],
		[ 'cut after the headers', 'painter', { cut => 'headers' }, 2, qr/ended before the answer was complete: .*\. $again/, '' ],
		[ 'cut half-way', 'painter', { cut => 'body' }, 2, qr/ended before the answer was complete: .*\. $again/, '' ],
		[ 'reset half-way', 'painter', { cut => 'body', reset => 1 }, 2, qr/ended before the answer was complete: .*\. $again/, '' ],
		[ 'cut half-way in chunks', 'painter', { cut => 'body', chunked => 1 }, 2, qr/ended before the answer was complete: .*\. $again/, '' ],
		[ 'silence', 'hasty', { stall => 1 }, 2, qr/server "hasty" did not answer within 300 ms\. Raise its option timeout if it needs longer\. $again/, '' ],
		[ 'silence half-way', 'hasty', { stall => 'body' }, 2, qr/did not answer within 300 ms\. Raise its option timeout/, '' ],
		[ 'too slow a drip', 'hasty', { drip => { bytes => 1, every_ms => 50 } }, 2, qr/did not answer within 300 ms\. Raise its option timeout/, '' ],
	],
	'a server that cannot be called fails its job' => [
		[ 'nobody listens', 'closed', {}, 2, qr/could not reach server "closed" at http:\/\/127\.0\.0\.1:$closed_port: .*Check that it runs, and its option url\. $again/, '' ],
		[ 'no such name', 'nameless', {}, 2, qr/could not reach server "nameless" at http:\/\/genai-server\.invalid: .*resolve.*Check that it runs, and its option url\. $again/, '' ],
		[ 'a certificate of nobody', 'untrusted', {}, 1, qr/the TLS certificate of server "untrusted" at https:\S+ does not verify: .*\. Name its authority's certificate in the option ca_file\.$/, '' ],
		[ 'a certificate of another name', 'misnamed', {}, 1, qr/the TLS certificate of server "misnamed" at https:\S+ does not verify: /, '' ],
		[ 'no certificate file', 'no_such_file', {}, 1, qr/ca_file/, '' ],
		[ 'no TLS', 'plain', {}, 2, qr/could not agree on TLS with server "plain" at https:.*Check.*option url.*$again/, '' ],
		[ 'nothing but TLS', 'encrypted', {}, undef, qr/server "encrypted"/, '' ],
	],
);

# What is odd but can be read: the fault, and what the result holds.
my @odd = (
	[ 'a NUL byte', 'roomy', { garbage => 'nul' }, q{result ->> 'note' = 'a NUL ? byte'} ],
	[ 'an escaped NUL', 'roomy', { garbage => 'nul-escape' }, q{result ->> 'note' = U&'a NUL \FFFD escaped'} ],
	[ 'invalid UTF-8', 'roomy', { garbage => 'invalid-utf8' }, q{result ->> 'note' = 'not UTF-8: ?( ??'} ],
	[ 'lone surrogates', 'json', { body => '{"a": "\ud800", "b": "\udc00x", "c": "\ud83d\uddbc"}' }, q{result = jsonb_build_object('a', U&'\FFFD', 'b', U&'\FFFDx', 'c', U&'\+01F5BC')} ],
	[ 'five megabytes', 'roomy', { huge => 5_000_000 }, q{octet_length(result ->> 'padding') > 4900000} ],
	[ 'a drip', 'painter', { drip => { bytes => 400, every_ms => 20 } }, 'true' ],
	[ 'no length', 'painter', { chunked => 1, close => 1 }, 'true' ],
	[ 'keys twice', 'json', { body => '{"a": 1, "a": 2}' }, q{result = '{"a": 2}'} ],
	[ 'JSON that is null', 'json', { body => 'null', content_type => 'application/json' }, q{result = 'null'} ],
	[ '900 brackets', 'json', { body => '[' x 900 . ']' x 900 }, q{length(result::text) = 1800} ],
);

sub request_of
{
	my ($name, $fault) = @_;
	return StandIn::request(id => $name, prompt => $name, faults => [$fault], repeat => 1);
}

# ---- all of it at once, with good jobs in between ----

sub insert_all
{
	my (@rows) = @_;
	query('INSERT INTO gen_jobs (server, request) VALUES '
		  . join(', ', map { '(' . literal($_->[0]) . ', ' . literal($_->[1]) . ')' } @rows));
	return;
}

my $pid = dispatcher_pid($node);
my $number = '1e400000';    # jsonb does not take it
my $png = encode_base64("\x89PNG\r\n\x1a\n and so on", '');
my $both = qq({"data": [{"b64_json": "$png"}], "usage": {"n": $number}});
insert_all(
	(map { ([ $_->[1], request_of(@$_[ 0, 2 ]) ], [ 'painter', StandIn::request(prompt => "good $_->[0]", latency_ms => 100) ]) }
		  (map { @{ $failing{$_} } } sort keys %failing), @odd),
	[ 'trusted', '{"prompt": "over TLS"}' ],
	[ 'json', request_of('a number', { body => qq({"n": $number}) }) ],
	[ 'roomy', request_of('a picture and a number', { body => $both }) ]);
ok(wait_all_ended($node), 'all jobs end');

my %jobs;
foreach my $line (split /\n/, query(q{SELECT request ->> 'prompt', id, state, attempt,
		coalesce(jsonb_array_length(attempt_errors), 0), result IS NOT NULL,
		(SELECT coalesce(string_agg(format('%s %s %s', ordinal, content_type, bytes), ', ' ORDER BY ordinal), '')
			FROM gen_outputs WHERE job_id = id),
		length(error), replace(error, E'\n', ' / ') FROM gen_jobs}))
{
	my ($name, @columns) = split /\|/, $line, 9;
	@{ $jobs{$name} }{qw(id state attempt errors has_result outputs length error)} = @columns;
}

foreach my $promise (sort keys %failing)
{
	subtest $promise => sub {
		foreach my $case (@{ $failing{$promise} })
		{
			my ($name, $server, $fault, $attempt, $error, $outputs) = @$case;
			my $job = $jobs{$name};
			is($job->{state}, 'failed', "$name: the job fails");
			like($job->{error}, $error, '... and says why, and what to do');
			is($job->{attempt}, $attempt, "... after $attempt attempts") if defined $attempt;
			is($job->{errors}, $job->{attempt}, '... and errors has each of them');
			like($job->{outputs}, ref $outputs ? $outputs : qr/^\Q$outputs\E$/,
				$outputs eq '' ? '... with no output' : '... and what came is kept');
			is($jobs{"good $name"}{state}, 'succeeded', '... and the job beside it succeeds');
		}
	};
}

subtest 'what came is kept as it came, and no more words than anybody reads' => sub {
	is($jobs{$_}{has_result}, 't', "$_: what came is kept in result")
	  foreach 'JSON of something else', 'wrong base64', 'an error inside';
	cmp_ok($jobs{'refused in a flood'}{length}, '<', 1500, 'the server\'s words are clipped');
	is(query("SELECT convert_from(data, 'UTF8') FROM gen_outputs WHERE job_id = $jobs{'not JSON'}{id}"),
		'this is not JSON', 'what is kept is what came');
};

subtest 'no redirection is followed' => sub {
	is($standin->counts->{paths}{'/echo/redirected'}, undef, 'nobody came');
};

subtest 'an answer that is odd but can be read is a success' => sub {
	foreach my $case (@odd)
	{
		my ($name, undef, undef, $holds) = @$case;
		is("$jobs{$name}{state} $jobs{$name}{error}", 'succeeded ', "$name: the job succeeds all the same");
		is(query("SELECT $holds FROM gen_jobs WHERE id = $jobs{$name}{id}"), 't', '... with its result');
		is($jobs{"good $name"}{state}, 'succeeded', '... and the job beside it');
	}
};

subtest 'TLS with the right ca_file works' => sub {
	is($jobs{'over TLS'}{state}, 'succeeded', 'the job succeeds') or diag($jobs{'over TLS'}{error});
};

subtest 'an answer with a number that jsonb refuses becomes an output' => sub {
	is($jobs{'a number'}{state}, 'succeeded', 'the job succeeds');
	is(query("SELECT content_type, convert_from(data, 'UTF8') FROM gen_outputs WHERE job_id = $jobs{'a number'}{id}"),
		qq(application/json|{"n":$number}), '... and the answer is an output');
	is($jobs{'a picture and a number'}{state}, 'succeeded', '... also beside a picture');
	like($jobs{'a picture and a number'}{outputs}, qr/^1 image\/png \d+, 2 application\/json \d+$/,
		'... which keeps its place');
};

subtest 'no fault costs the dispatcher its life' => sub {
	is(dispatcher_pid($node), $pid, 'all of that was one dispatcher');
};

# ---- secrets ----

# A server that tells everybody what it was sent: in its answers and in its errors, spelled as JSON
# may spell it.
my %secrets = (
	bearer => ['sk-bearer-0123456789abcdef'],
	basic => [ 'painter:pass/word+0123456789==', 'pass/word+0123456789==', encode_base64('painter:pass/word+0123456789==', '') ],
	'header:X-Api-Key' => [ 'sk-in-a-header-0123456789', 'token/of+the=mapping' ],
	none => [ 'no-api-key', 'sk-"quoted"\\0123456789' ]);

sub quoted
{
	my ($text) = @_;
	$text =~ s/(["\\])/\\$1/g;
	return $text;
}

sub spellings
{
	my ($secret) = @_;
	my $quoted = quoted($secret);
	return ($quoted, $quoted =~ s{/}{\\/}gr, join('', map { sprintf '\u%04X', ord } split //, $secret));
}

# The bodies in which it tells a secret.
sub bodies_with
{
	my ($secret) = @_;
	return (
		{ status => 400, body => "<html><title>$secret</title></html>" },
		{ status => 401, body => "You are $secret!" },
		{ status => 401, body => ('x' x 990) . $secret },
		{ body => "You are $secret!", content_type => 'text/plain' },
		{ body => qq({"you": "@{[quoted($secret)]}"), content_type => 'application/json' },
		map {
			(
				{ status => 401, body => qq({"error": {"message": "You are $_!"}}) },
				{ status => 403, body => qq({"strange": ["$_"]}) },
				{ body => qq({"you": {"are": ["$_"]}, "$_": 1, "usage": {"by": "$_"}}) },
				{ body => qq({"error": "$_"}) })
		} spellings($secret));
}

# Where everybody looks.
my $echoing = q{('bearer', 'basic', 'header:X-Api-Key', 'none')};
my %places = (
	'gen_jobs' => # not the requests, in which the stand-in is told what to say
	q{SELECT string_agg(concat_ws(' ', result, usage, error, attempt_errors), E'\n') FROM gen_jobs},
	'gen_outputs' => q{SELECT string_agg(encode(data, 'escape'), E'\n') FROM gen_outputs},
	'pg_stat_activity' => q{SELECT string_agg(a::text, E'\n') FROM pg_stat_activity a WHERE pid <> pg_backend_pid()},
	'genjob.activity' => q{SELECT string_agg(a::text, E'\n') FROM genjob.activity a},
	'genjob.servers' => q{SELECT string_agg(a::text, E'\n') FROM genjob.servers a},
	'genjob.workers' => q{SELECT string_agg(a::text, E'\n') FROM genjob.workers a},
	'genjob.preview' =>
	  qq{SELECT string_agg(genjob.preview(srvname, '{}'), E'\\n') FROM pg_foreign_server WHERE srvname IN $echoing});

subtest 'a secret that a server tells comes to light nowhere' => sub {
	my @insert;
	foreach my $auth (sort keys %secrets)
	{
		my ($key, @others) = @{ $secrets{$auth} };
		create_server($node, $auth, 'http', $standin, %quick, path => '/echo', api_key => $key, auth => $auth);
		my $mapping = { none => $secrets{none}[1], 'header:X-Api-Key' => $secrets{'header:X-Api-Key'}[1] }->{$auth};
		query(qq{ALTER USER MAPPING FOR PUBLIC SERVER "$auth" OPTIONS (ADD headers }
			  . literal('{"X-Extra": "' . quoted($mapping) . '"}') . ')')
		  if defined $mapping;
		push @insert, [ $auth, '{"prompt": "tell me"}' ];
		push @insert, map { [ $auth, StandIn::request(faults => [$_]) ] } map { bodies_with($_) }
		  ($auth eq 'none' ? () : $key, @others);
		# and calls that are in flight while everybody looks
		push @insert, [ $auth, StandIn::request(prompt => 'in flight', faults => [ { stall => 1 } ], repeat => 1) ];
	}
	insert_all(@insert);
	eventually("SELECT count(*) = 4 FROM gen_jobs WHERE state IN ('queued', 'running') AND server IN $echoing",
		'a server that echoes is answered');
	$standin->wait_for(sub { $_[0]{in_flight} == 4 });

	my %found = map { $_ => query($places{$_}) } keys %places;
	$found{'the server log'} = slurp_file($node->logfile);
	like($found{gen_jobs}, qr/"x-api-key": "\*+"/, 'an echoed secret is masked');
	like($found{'genjob.preview'}, qr/^Authorization: Bearer \*\*\*$/m, '... and so it is in genjob.preview');
	foreach my $place (sort keys %found)
	{
		my @seen = grep { index($found{$place}, $_) >= 0 } map { ($_, spellings($_)) } map { @$_ } values %secrets;
		is("@seen", '', "$place has no secret in it");
	}
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE state = 'running' AND server IN $echoing");
};

# ---- a kept-alive connection that ends under a call ----

my $keeping = StandIn->new;

# libcurl would send such a request again by itself
subtest 'a call whose kept-alive connection ends under it is sent once' => sub {
	create_server($node, 'keeping', 'openai-images', $keeping, max_in_flight => 1, max_attempts => 1);
	foreach my $size (10, 30_000, 100_000)
	{
		my $id = enqueue($node, 'keeping', StandIn::request(prompt => 'x' x $size, id => "good $size"));
		wait_state($node, $id, 'succeeded');
		$id = enqueue($node, 'keeping',
			StandIn::request(prompt => 'x' x $size, id => "cut $size", faults => [ { cut => 'accept' } ]));
		ok(wait_state($node, $id, 'failed'), "a call of $size bytes fails whose kept-alive connection ends");
		is($keeping->arrived("cut $size"), 1, '... and was sent once');
	}
};

subtest 'a call that libcurl refuses, on a handle that has made another, is not sent to the URL of that' => sub {
	create_server($node, 'queried', 'http', $keeping,
		path => '/echo', body => 'raw', max_in_flight => 1, max_attempts => 1, on_unknown => 'fail');
	my $queried = q{
		INSERT INTO gen_jobs (server, request, inputs) VALUES ('queried',
			jsonb_build_object('image', '{"$input": 1}'::jsonb, 'q', repeat('x', %s)), '{"\\x00"}') RETURNING id};
	my $short = query(sprintf $queried, 10);
	ok(wait_state($node, $short, 'succeeded'), 'a call with a short URL');
	my $endless = query(sprintf $queried, 8_500_000);
	ok(wait_state($node, $endless, 'failed'), 'a call fails whose URL is longer than libcurl takes');
	like(job($node, $endless)->{error}, qr/the URL is too long\. The only attempt is used up/,
		'... with an error that says so, and not that it may have been accepted');
	is($keeping->counts->{paths}{'/echo'}, 1, '... and does not go to the URL of the call before');
};

# calls that may be sent again are, however often that was necessary before
subtest 'cancels reach the provider whose kept-alive connections end' => sub {
	create_server($node, 'stopping', 'replicate', $keeping, max_in_flight => 1, poll_interval => '60 s');
	my @confirmed;
	foreach my $i (1 .. 8)
	{
		my $id = enqueue($node, 'stopping', StandIn::request(input => { prompt => 'x' }, version => 'v',
			standin => { id => "stop $i", latency_ms => 600_000, cancel_faults => [ { cut => 'accept' } ] }));
		$node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id");
		query("SELECT genjob.cancel($id)");
		$node->poll_query_until('postgres', "SELECT remote IS NULL FROM gen_jobs WHERE id = $id");
		push @confirmed, $i if job($node, $id)->{error} =~ /confirmed it/;
	}
	is("@confirmed", '1 2 3 4 5 6 7 8', 'all of eight');
};

$_->stop foreach $standin, $secure, $misnamed, $keeping;
$node->stop;
done_testing();

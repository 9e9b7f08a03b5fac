# Secrets of a user mapping: whatever a server sends back of them, and however it is written, none of it gets into a
# table, a view or the log; and no header of a mapping changes where a call goes or where it ends.

use strict;
use warnings;

use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $secret = 'sk-Geheim/9+8~7=x';
my $header = 'Token hush-hush-4711';
my $node = new_node(conf => 'log_min_messages = debug1');
my $standin = StandIn->new;
my @forms;    # what must be found nowhere

sub escape_all
{
	my ($format, $text) = @_;
	return join '', map { sprintf $format, ord } split //, $text;
}

sub base64
{
	return encode_base64($_[0], '');
}

my %written = (
	'as it is' => sub { $_[0] },
	'in a URL' => sub { $_[0] =~ s/([^A-Za-z0-9_.-])/sprintf '%%%02X', ord $1/ger },
	'in a URL, all of it' => sub { lc escape_all('%%%02x', $_[0]) },
	'in JSON, with slashes' => sub { $_[0] =~ s{/}{\\/}gr },
	'in JSON, all of it' => sub { escape_all('\u%04x', $_[0]) },
	'in HTML' => sub { escape_all('&#%d;', $_[0]) },
	'in HTML, in part' => sub { escape_all('&#x%x;', substr $_[0], 0, 5) . substr $_[0], 5 },
	'in base64' => sub { base64($_[0]) },
	'in base64, behind a byte' => sub { base64("x$_[0]") },
	'in base64, behind two' => sub { base64("xy$_[0] and more") },
	'in capitals' => sub { uc $_[0] },
	'in a URL in a URL' => sub { $_[0] =~ s/([^A-Za-z0-9_.-])/sprintf '%%25%02x', ord $1/ger },
	'in digits' => sub { unpack 'H*', $_[0] },
	'in base64, in lines' => sub { base64("xy$_[0]") =~ s/(.{7})/$1\n/gr },
	'in base64 of URLs' => sub { base64("user:$_[0]") =~ tr{+/}{-_}r },
);

foreach my $one ($secret, 'hush-hush-4711')
{
	push @forms, map { $written{$_}->($one) } grep { !/base64/ } keys %written;
	# without what depends on the bytes around
	push @forms, map { substr base64($_), 4, 12 } $one, "x$one", "xy$one";
}

my %server = (max_attempts => 1, retry_base => '10 ms', retry_max => '10 ms', poll_interval => '100 ms', timeout => '10 s');
create_server($node, 'echo', 'http', $standin, %server, api_key => $secret, path => '/v1/images/generations');
create_server($node, 'pictures', 'openai-images', $standin, %server, api_key => $secret);
create_server($node, 'queue', 'fal', $standin, %server, api_key => $secret, model => 'fal-ai/flux');
create_server($node, 'predictions', 'replicate', $standin, %server, api_key => $secret);
create_server($node, 'words', 'openai-chat', $standin, %server, api_key => $secret);
query('ALTER USER MAPPING FOR PUBLIC SERVER ' . $_ . ' OPTIONS (ADD headers ' . literal(qq({"X-Own": "$header"})) . ')')
  foreach qw(echo pictures queue predictions words);

# Everything that people can read
sub everything
{
	return query(q{
		SELECT to_jsonb(j) - 'request' FROM gen_jobs j;
		SELECT content_type, encode(data, 'escape') FROM gen_outputs WHERE content_type !~ '^(image|audio|video)/';
		TABLE genjob.servers; TABLE genjob.backends; TABLE genjob.workers; TABLE genjob.activity});
}

# No secret is in the text, also not in base64 that holds base64
sub has_none
{
	my ($text, $what) = @_;
	my @found = grep { index($text, $_) >= 0 } @forms;
	# jsonb writes a backslash as two
	(my $single = $text) =~ s/\\\\/\\/g;
	push @found, grep { index($single, $_) >= 0 } @forms;
	# nor in what lines are broken into
	(my $joined = $single) =~ s/\\n|\s//g;
	push @found, grep { index($joined, $_) >= 0 } @forms;
	ok(!@found, $what) or diag(join "\n", @found);
	return;
}

subtest 'predictions 16: an answer shows the secrets that came with the call' => sub {
	my $n = 0;
	my @ids;
	foreach my $how (sort keys %written)
	{
		foreach my $one ($secret, 'hush-hush-4711')
		{
			my $text = $written{$how}->($one);
			(my $json = $text) =~ s/(["\\])/$how =~ m{JSON} ? $1 : "\\$1"/ge;
			$json =~ s/\n/\\n/g;
			(my $header_text = $text) =~ s/\n/ /g;
			my @faults = (
				{ body => "you sent $text to us", content_type => 'text/plain' },
				{ body => qq({"note": "you sent $json to us", "$json": 1}), content_type => 'application/json' },
				{ body => qq({"data": [{"b64_json": "@{[base64("echo: $text")]}"}]}), content_type => 'application/json' },
				{ body => qq({"data": "data:text/plain;base64,@{[base64("echo: $text")]}"}), content_type => 'application/json' },
				{ status => 400, body => qq({"error": {"message": "bad key $json"}}), content_type => 'application/json' },
				{ status => 500, body => "<html><title>$text</title></html>", content_type => 'text/html' },
				{ body => "\x01\x02 $text", content_type => "application/x-$header_text" },
				{ status => 403, body => 'no', headers => { 'X-Fal-Error-Type' => $header_text, 'Retry-After' => $header_text, 'Content-Type' => $header_text } });
			foreach my $fault (@faults)
			{
				foreach my $server ($ENV{CI} ? qw(echo pictures predictions) : qw(echo pictures queue predictions words))
				{
					push @ids, enqueue($node, $server,
						StandIn::request(prompt => 'a', version => 'v', input => { prompt => 'a' }, messages => [], standin => { id => 'n ' . $n++, faults => [$fault] }));
				}
			}
		}
	}
	ok(wait_all_ended($node), scalar(@ids) . ' jobs end');
	has_none(everything(), 'no secret is in what they left');
	is(query("SELECT count(*) > 100 FROM gen_outputs"), 't', '... outputs among it');
	cmp_ok(query("SELECT count(*) FROM gen_jobs WHERE to_jsonb(gen_jobs)::text ~ '\\*{6}'"), '>', 100, '... but stars in its place');
};

subtest 'predictions 17: a prediction shows them while it is asked about, or in its files' => sub {
	my $n = 0;
	foreach my $how (sort keys %written)
	{
		my $text = $written{$how}->($secret);
		(my $json = $text) =~ s/(["\\])/$how =~ m{JSON} ? $1 : "\\$1"/ge;
		$json =~ s/\n/\\n/g;
		my @bodies = (
			qq({"id": "x", "status": "failed", "error": "key $json is spent", "logs": "$json"}),
			qq({"id": "x", "status": "succeeded", "output": ["data:text/plain;base64,@{[base64("echo $text")]}", "$json"]}));
		enqueue($node, 'predictions', StandIn::request(version => 'v', input => { prompt => 'a' },
			standin => { id => 'poll ' . $n++, poll_faults => [ { body => $_, content_type => 'application/json' } ] }))
		  foreach @bodies;
		enqueue($node, 'predictions', StandIn::request(version => 'v', input => { prompt => 'a' },
			standin => { id => 'named ' . $n++, outcome => 'never', faults => [ { status => 201, body => qq({"id": "$json", "status": "starting", "urls": {"get": "http://127.0.0.1:9/$json", "cancel": "/x"}}) } ] }));
		enqueue($node, 'predictions', StandIn::request(version => 'v', input => { prompt => 'a' },
			standin => { id => 'file ' . $n++, download_faults => [ { body => "the key was $text.", content_type => 'text/plain' } ] }));
		enqueue($node, 'predictions', StandIn::request(version => 'v', input => { prompt => 'a' },
			standin => { id => 'redirected ' . $n++, download_faults => [ ({ redirect => $standin->url("/nothing/$text") }, { status => 410 }) x 2 ] }))
		  if $text !~ /[^A-Za-z0-9_.%-]/;
		enqueue($node, 'queue', StandIn::request(prompt => 'a',
			standin => { id => 'result ' . $n++, result_faults => [ { status => 422, body => qq({"detail": "$json"}), headers => { 'X-Fal-Error-Type' => $text =~ s/\n/ /gr } } ] }));
	}
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM gen_jobs WHERE state IN ('queued', 'running') AND request -> 'standin' ->> 'outcome' IS NULL}), 'predictions end');
	has_none(everything(), 'no secret is in what they left, also not while they run');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE state IN ('queued', 'running')");
};

subtest 'predictions 18: a stream breaks them up' => sub {
	my ($left, $right) = (substr($secret, 0, 7), substr($secret, 7));
	my $stream = join '', map { qq(data: {"choices": [{"index": 0, "delta": {"content": "$_"}}]}\n\n) } 'your key is ', $left, $right;
	enqueue($node, 'words', StandIn::request(messages => [ { role => 'user', content => 'a' } ],
		standin => { id => 'stream', faults => [ { body => $stream . "data: [DONE]\n\n", content_type => 'text/event-stream' } ] }));
	ok(wait_all_ended($node), 'a stream ends');
	has_none(everything(), 'no secret is put together from its pieces');
};

subtest 'predictions 22: an answer shows them in UTF-16, in a drawing, or where it is cut off' => sub {
	my $n = 0;
	my $wide = join '', map { "$_\0" } split //, "your key is $secret, and $header";
	my $svg = qq(<svg xmlns="http://www.w3.org/2000/svg"><text>$secret and $header</text></svg>);
	my @faults = map { { body => { base64 => base64($_->[0]) }, content_type => $_->[1] } } (
		[ "\xff\xfe$wide", 'text/plain' ],
		[ $wide, 'text/plain; charset=utf-16le' ],
		[ "\0$wide", 'application/octet-stream' ],
		[ join('', map { "$_\0\0\0" } split //, "key $secret"), 'text/plain; charset=utf-32le' ],
		[ join('', map { "$_\0" } split //, base64("xy$secret")), 'text/plain; charset=utf-16' ],
		[ qq({"not JSON: $wide), 'application/json; charset=utf-16le' ],
		[ $svg, 'image/svg+xml' ],
		[ qq({"data": "data:image/svg+xml;base64,@{[base64($svg)]}"}), 'application/json' ]);

	# the first 64 kB of a refusal are kept: what is cut off there is still a part of a secret
	for my $one ($secret, 'hush-hush-4711')
	{
		push @faults, { status => 400, body => ('x' x (65536 - $_)) . "$one and more", content_type => 'text/plain' } foreach 7, length($one) - 1;
	}
	enqueue($node, 'echo', StandIn::request(prompt => 'a', standin => { id => 'wide ' . $n++, faults => [$_] })) foreach @faults;
	ok(wait_all_ended($node), 'all jobs end');
	my $text = query(q{SELECT to_jsonb(j) - 'request' FROM gen_jobs j;
		SELECT convert_from(decode(replace(encode(data, 'hex'), '00', ''), 'hex'), 'LATIN1') FROM gen_outputs});
	has_none($text, 'no secret is in what they left');
	ok($text !~ /x\Q$_\E/, 'nor a part of one') foreach substr($secret, 0, 7), substr('hush-hush-4711', 0, 7);
};

subtest 'predictions 19: the log shows them' => sub {
	my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
	# what this test told the server itself
	$log =~ s/^.*statement:.*$//mg;
	has_none(join("\n", grep { /dispatcher|genjob/ } split /\n/, $log), 'no line of the log has one');
};

subtest 'predictions 20: a header of a mapping, or of a server, takes a call elsewhere or ends it elsewhere' => sub {
	create_server($node, 'own', 'http', $standin, path => '/echo');
	foreach my $name ('Host', 'host', 'Upgrade', 'TE', 'Content-Length', 'Transfer-Encoding', 'Connection', 'Expect', 'Trailer', 'Keep-Alive',
		'Proxy-Authorization', 'Proxy-Connection', 'HTTP2-Settings', 'Idempotency-Key')
	{
		foreach my $object ('USER MAPPING FOR PUBLIC SERVER own', 'SERVER own')
		{
			my ($status, undef, $error) = $node->psql('postgres', "ALTER $object OPTIONS (ADD headers " . literal(qq({"$name": "chunked"})) . ')');
			ok($status != 0 && $error =~ /HINT: .*Connection, Content-Encoding, Content-Length, Expect, Host,.*Transfer-Encoding and Upgrade/s, "$name in $object is refused, and the hint lists those that are")
			  or diag($error);
			unlike($error, qr/chunked/, '... without a word of its value') if $object =~ /MAPPING/;
		}
	}
	my ($status) = $node->psql('postgres', "ALTER SERVER own OPTIONS (ADD auth 'header:Host')");
	isnt($status, 0, '... nor is one that is named by auth');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER own OPTIONS (ADD headers '{"X-Team": "art", "Forwarded": "for=me"}')});
	my $id = enqueue($node, 'own', '{"prompt": "a"}');
	ok(wait_state($node, $id, 'succeeded'), 'others are sent');
};

subtest 'time 401: answers to calls with a hundred secrets keep the dispatcher busy' => sub {
	my $headers = join ', ', map { qq("X-Secret-$_": "@{['a' x 30]}b$_") } 1 .. 98;
	create_server($node, 'many', 'http', $standin, %server, path => '/v1/images/generations');
	query('ALTER USER MAPPING FOR PUBLIC SERVER many OPTIONS (ADD headers ' . literal("{$headers}") . ')');
	my $offset = -s $node->logfile;
	my $long = '{"a": "' . 'a' x 400_000 . '"}';
	my $short = '[' . join(',', map { qq("aaaaaaaa$_") } 1 .. 20_000) . ']';
	my $small = '[' . join(',', map { qq("aaaaaaaa$_") } 1 .. 5_000) . ']';
	enqueue($node, 'many', StandIn::request(prompt => 'a', standin => { faults => [ { %$_, content_type => 'application/json' } ] }))
	  foreach { body => $long }, { body => $short }, { body => $small }, { body => $long, status => 400 };
	ok(wait_all_ended($node), 'all jobs end');
	is(query(q{SELECT string_agg(state::text, ' ' ORDER BY id) FROM gen_jobs WHERE server = 'many'}), 'succeeded succeeded succeeded failed', 'as they should');
	no_turn_is_long($node, $offset, 'a hundred secrets');
};

$standin->stop;
$node->stop;
done_testing();

# Object stores that refuse, redirect, or lose what they say: what waits for hours goes on by itself, a repeat of ours is
# no failure, and the advice can be followed.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $fake = PythonServer->new('fakestore.py');
my $node = new_node();
my $standin = StandIn->new;

create_store($node, 'pictures', $fake, region => 'us-east-1', retry_base => '50 ms', retry_max => '200 ms', key => '{server}/{job}-{ordinal}.{ext}');
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'binary', 'http', $standin, path => '/binary', store => 'pictures', max_response => '300 MB');

sub start
{
	my ($name, %more) = @_;
	return enqueue($node, 'painter', StandIn::request(prompt => $name, %more, standin => { id => $name }));
}

sub start_bytes
{
	my ($name, $bytes) = @_;
	return enqueue($node, 'binary', StandIn::request(prompt => $name, standin => { id => $name, faults => [ { huge => $bytes } ] }));
}

sub calls { my ($pattern) = @_; return scalar(() = $fake->asked($pattern)) }
sub refuse { return $fake->set(rules => [ { match => ' /pictures', @_ } ]) }
sub held { my ($like) = @_; return eventually("SELECT held_reason ~ '$like' FROM genjob.servers WHERE server = 'pictures'", "genjob.servers says: $like") }
sub xml { my ($code, $more) = @_; return '<?xml version="1.0"?><Error><Code>' . $code . '</Code><Message>as ordered</Message>' . ($more // '') . '</Error>' }

subtest 'headers that cannot go with all calls' => sub {
	foreach my $header ('If-None-Match', 'if-match', 'If-Modified-Since', 'If-Unmodified-Since', 'x-amz-if-match-size')
	{
		foreach my $option ('put_headers', 'headers')
		{
			like(refusal_of("ALTER SERVER pictures OPTIONS (ADD $option '{\"X-A\": \"b\", \"$header\": \"*\"}')"),
				qr/option "$option" has the header $header, a condition.*HINT:.*repeats the call/s, "$header in $option");
		}
	}
	foreach my $header ('Content-MD5', 'x-amz-checksum-sha256', 'X-Amz-Checksum-Algorithm', 'x-amz-copy-source-if-match', 'Range')
	{
		like(refusal_of("ALTER SERVER pictures OPTIONS (ADD put_headers '{\"$header\": \"a\"}')"), qr/has the header $header/i, $header);
	}
	query(q{ALTER SERVER pictures OPTIONS (ADD put_headers '{"Cache-Control": "no-store", "x-amz-tagging": "a=b", "Iffy": "c"}')});
	query(q{ALTER SERVER pictures OPTIONS (DROP put_headers)});
};

subtest 'a conflict of the moment' => sub {
	my ($small, $parts);
	$fake->set(rules => [ map { { match => $_, times => 2, status => 409, body => xml('ConditionalRequestConflict') } } '^PUT .*/painter/[^?]*$', '^POST .*uploadId=' ]);
	$small = start('small conflict');
	$parts = start('conflict', size => '1700x1700');
	ok(wait_state($node, $_, 'succeeded'), 'is tried again') foreach $small, $parts;
	$fake->set(rules => []);
};

subtest 'the answer to the completion is lost' => sub {
	foreach my $tag (undef, 'not-an-md5-3')
	{
		my $name = 'lost ' . ($tag // '');
		$fake->set(part_tag => $tag ? "\"$tag\"" : undef, rules => [ { match => '^POST .*uploadId=', times => 1, does => JSON::PP::true, cut => 40 }, { match => '^HEAD ', times => 2, status => 503 } ]);
		my $id = start($name, size => '1700x1700');
		ok(wait_state($node, $id, 'succeeded'), 'the object is there: the job succeeds');
		is(calls("^PUT /pictures/painter/$id-1.*partNumber=1"), 1, '... no part is sent again');
		is(calls("^POST /pictures/painter/$id-1.*uploads="), 1, '... nor another upload begun');
		is(query("SELECT etag ~ '-2\$' FROM gen_outputs WHERE job_id = $id"), 't', '... and the row has its ETag');
		is($standin->arrived($name), 1, '... and was paid for once');
	}
	$fake->set(part_tag => undef, rules => []);
	is(scalar(split /\n/, HTTP::Tiny->new->get($fake->url('/_uploads'))->{content}), 0, 'no upload is open');
};

subtest 'sizes about a part' => sub {
	my $part = 8 * 1024 * 1024;
	foreach my $bytes (1000, $part - 1, $part, $part + 1, 2 * $part, 2 * $part + 1)
	{
		my $id = start_bytes("of $bytes", $bytes);
		ok(wait_state($node, $id, 'succeeded'), "an output of $bytes bytes") or diag(job($node, $id)->{error});
		is(query("SELECT bytes FROM gen_outputs WHERE job_id = $id"), $bytes, '... is stored whole');
		is(calls("^PUT /pictures/binary/$id-1.*partNumber="), $bytes > $part ? int(($bytes + $part - 1) / $part) : 0, '... in as many parts');
	}
	my $put = run_to_end($node, 'pictures', { put => 'empty' }, inputs => '{""}');
	is($put->{state}, 'succeeded', 'an object of no bytes') or diag($put->{error});
	my $get = run_to_end($node, 'pictures', { get => 'empty' });
	is($get->{state}, 'succeeded', '... is read') or diag($get->{error});
	is($get->{result}{bytes}, 0, '... as one of no bytes');
};

# AWS says so with HTTP 400.
subtest 'a token that has expired' => sub {
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (ADD session_token 'old')});
	refuse(status => 400, body => xml('ExpiredToken'));
	$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 500');
	$node->restart;
	wait_dispatcher($node);
	my @ids = (start('expired'), start('expired in parts', size => '1700x1700'));
	held('ExpiredToken.*Renew the keys in the user mapping');
	my $began = query(q{SELECT extract(epoch FROM clock_timestamp())});
	# ten minutes of the fast clock, and more
	ok(poll_until(sub { query(q{SELECT extract(epoch FROM clock_timestamp())}) - $began > 4 }), 'hours pass');
	is(query("SELECT string_agg(DISTINCT state::text, ' ') FROM gen_jobs WHERE id IN (" . join(', ', @ids) . ')'), 'running', 'the jobs wait');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (SET session_token 'new')});
	$fake->set(rules => []);
	ok(wait_state($node, $_, 'succeeded'), 'a new token, and they go on') foreach @ids;
	my $sent = JSON::PP->new->decode(HTTP::Tiny->new->get($fake->url('/_headers'))->{content});
	is($sent->{'x-amz-security-token'}, 'new', '... with it');
	is($standin->arrived('expired') . $standin->arrived('expired in parts'), '11', '... and were paid for once');
};

foreach my $skew (3700, -3700)
{
	subtest "clocks that are $skew s apart, for hours" => sub {
		$fake->set(skew => $skew);
		my @ids = (start("apart $skew"), start("parts apart $skew", size => '1700x1700'));
		held('RequestTimeTooSkewed.*Set this machine\'\'s clock: it is 3[67]\\d\\d s ' . ($skew > 0 ? 'behind' : 'ahead of'));
		my $began = query(q{SELECT extract(epoch FROM clock_timestamp())});
		ok(poll_until(sub { query(q{SELECT extract(epoch FROM clock_timestamp())}) - $began > 4 }), 'hours pass');
		is(query("SELECT string_agg(DISTINCT state::text, ' ') FROM gen_jobs WHERE id IN (" . join(', ', @ids) . ')'), 'running', 'the jobs wait');
		$fake->set(skew => 0);
		ok(wait_state($node, $_, 'succeeded'), 'they go on') foreach @ids;
		is($standin->arrived("apart $skew") . $standin->arrived("parts apart $skew"), '11', '... and were paid for once');
	};
}
$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 1');
$node->restart;
wait_dispatcher($node);

subtest 'redirections' => sub {
	my $there = "http://127.0.0.1:1/pictures";
	refuse(status => 307, body => xml('TemporaryRedirect', '<Endpoint>pictures.s3.eu-west-1.amazonaws.com</Endpoint>'), headers => { Location => $there, 'x-amz-bucket-region' => 'eu-west-1' });
	my $id = start('young');
	held('TemporaryRedirect.*Set the server\'\'s option region to eu-west-1\.');
	my $get = run_to_end($node, 'pictures', { get => 'a' });
	like($get->{error}, qr/HTTP 307: TemporaryRedirect: as ordered\. Set the server's option region to eu-west-1\./, 'a job of the store says so');
	$fake->set(rules => []);
	ok(wait_state($node, $id, 'succeeded'), 'a bucket that has arrived where it is');
	refuse(status => 301, body => xml('PermanentRedirect'), headers => { 'x-amz-bucket-region' => 'eu-central-1' });
	$id = start('elsewhere');
	held('PermanentRedirect.*Set the server\'\'s option region to eu-central-1\.');
	query(q{ALTER SERVER pictures OPTIONS (SET region 'eu-central-1')});
	$fake->set(rules => []);
	ok(wait_state($node, $id, 'succeeded'), 'the region is corrected, and the job goes on');
	refuse(status => 400, body => xml('AuthorizationHeaderMalformed', '<Region>us-east-1</Region>'));
	$id = start('region in the body');
	held('AuthorizationHeaderMalformed.*Set the server\'\'s option region to us-east-1\.');
	query(q{ALTER SERVER pictures OPTIONS (SET region 'us-east-1')});
	$fake->set(rules => []);
	ok(wait_state($node, $id, 'succeeded'), '... by what the body says, too');
};

subtest 'a storm of SlowDown' => sub {
	$fake->set(rules => [ { match => '^(PUT|POST) ', times => 40, status => 503, body => xml('SlowDown') } ]);
	my @ids = map { start("storm $_", $_ % 4 ? () : (size => '1700x1700')) } 1 .. 12;
	ok(wait_state($node, $_, 'succeeded'), 'it passes') foreach @ids;
	is(query("SELECT count(*) FROM gen_jobs WHERE id = ANY ('{" . join(',', @ids) . "}') AND attempt > 1"), 0, '... without another generation');
	$fake->set(rules => []);
};

subtest 'answers 304, and a redirection without a place' => sub {
	$fake->set(rules => [ { match => '^GET /made', status => 304 } ]);
	create_server($node, 'made', 'http', $fake, path => '/made', method => 'GET');
	my $job = run_to_end($node, 'made', {});
	like($job->{error}, qr/answered HTTP 304: nothing has changed, but genjob has no copy\. Take conditions such as If-None-Match out/, 'a call');
	$fake->set(rules => [ { match => '^GET /pictures/a', status => 304 } ]);
	my $get = run_to_end($node, 'pictures', { get => 'a' }, max_attempts => 1);
	like($get->{error}, qr/answered HTTP 304: nothing has changed/, 'a store');
	create_server($node, 'linked', 'replicate', $standin, model => 'stand-in/painter:1', poll_interval => '50 ms');
	$fake->set(rules => [ { match => '^GET /made', status => 304 } ]);
	my $made = run_to_end($node, 'linked', StandIn::request(prompt => 'linked', standin => { id => 'linked', output => $fake->url('/made.png') }));
	like($made->{error}, qr/says that the file has not changed \(HTTP 304\), although genjob has no copy of it/, 'a download');
	$fake->set(rules => [ { match => '^GET /made', status => 302 } ]);
	$made = run_to_end($node, 'linked', StandIn::request(prompt => 'again', standin => { id => 'again', output => $fake->url('/made.png') }));
	like($made->{error}, qr/302/, 'a redirection that leads nowhere');
	$fake->set(rules => []);
};

$node->stop;
done_testing();

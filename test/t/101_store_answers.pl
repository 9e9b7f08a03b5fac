# What object stores answer besides what they should: successes with bodies that nobody needs, errors under HTTP 200,
# lists that end early or are encoded otherwise, and refusals of the store's own.

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
my $json = JSON::PP->new->canonical;
my %quick = (retry_base => '50 ms', retry_max => '200 ms');

create_store($node, 'pictures', $fake, %quick, key => '{server}/{job}-{ordinal}.{ext}');
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');

sub start
{
	my ($name, %more) = @_;
	return enqueue($node, 'painter', StandIn::request(prompt => $name, %more, standin => { id => $name }));
}

# Has the store follow the rules while CODE runs.
sub with_rules
{
	my ($rules, $code) = @_;
	$fake->set(rules => $rules);
	my @result = $code->();
	$fake->set(rules => []);
	return @result;
}

sub calls { my ($pattern) = @_; return scalar(() = $fake->asked($pattern)) }

# ---- successes with bodies that nobody needs ----

my %bodies = (
	'of 300 kB' => { filler => 300_000 },
	'of 3 MB' => { filler => 3_000_000 },
	'that is no gzip' => { body => 'no gzip', headers => { 'Content-Encoding' => 'gzip' } },
	'that is no XML' => { body => '<html><body>Error: <b>OK</b>' },
);

foreach my $kind (sort keys %bodies)
{
	subtest "a success with a body $kind is one" => sub {
		my ($small, $parts, $put, $delete) = with_rules(
			[ { match => '^(PUT|DELETE) ', does => JSON::PP::true, %{ $bodies{$kind} } } ],
			sub {
				my @ids = (start("small $kind"), start("parts $kind", size => '1700x1700'),
					enqueue($node, 'pictures', { put => "in/$kind" }, inputs => '{abc}'),
					enqueue($node, 'pictures', { delete => "in/nothing $kind" }));
				ok(wait_state($node, $_, 'succeeded'), 'it succeeds') foreach @ids;
				return @ids;
			});
		is(calls("^PUT /pictures/painter/$small-"), 1, 'an output was sent once');
		is(calls("^PUT /pictures/painter/$parts-.*partNumber=1&"), 1, '... a part, too');
		is(query("SELECT etag ~ '^[0-9a-f]{32}\$' FROM gen_outputs WHERE job_id = $small"), 't', '... and has its ETag');
		is(job($node, $put)->{attempt} . job($node, $delete)->{attempt}, '11', '... and so were jobs of the store');
		is(query(q{SELECT failed FROM genjob.servers WHERE server = 'pictures'}), 0, 'nothing of that is a failure');
	};
}

subtest 'an error under HTTP 200 is one, also for what has no body to wait for' => sub {
	my $error = '<?xml version="1.0"?>' . "\n  <Error><Code>InternalError</Code><Message>again</Message></Error>";
	my ($small, $parts) = with_rules(
		[ map { { match => $_, times => 2, status => 200, body => $error } } '^PUT .*/painter/[^?]*$', '^PUT .*partNumber=2', '^POST .*uploadId=' ],
		sub {
			my @ids = (start('small error'), start('error in parts', size => '1700x1700'));
			ok(wait_state($node, $_, 'succeeded'), 'it is tried again') foreach @ids;
			return @ids;
		});
	is(calls("^PUT /pictures/painter/$small-"), 3, '... until the store takes it');
	is(calls("^POST /pictures/painter/$parts-.*uploadId="), 3, '... and makes an object of the parts');
	is($standin->arrived($_), 1, '... which was paid for once') foreach 'small error', 'error in parts';
};

# ---- copies ----

subtest 'a copy is there when the store says so' => sub {
	run_to_end($node, 'pictures', { put => 'from' }, inputs => '{abc}');
	my $done = "  \n<CopyObjectResult><ETag>&quot;the-tag&quot;</ETag></CopyObjectResult>";
	my %wrong = (empty => '', blanks => " \n ", cut => '<CopyObjectResult><ETag>&quot;the', page => '<html>Hello</html>',
		error => '<Error><Code>SlowDown</Code></Error>');
	foreach my $name (sort keys %wrong)
	{
		my ($id) = with_rules(
			[ { match => "^PUT .*/copied-$name", times => 2, body => $wrong{$name} }, { match => "^PUT .*/copied-$name", body => $done } ],
			sub {
				my $id = enqueue($node, 'pictures', { copy => 'from', to => "copied-$name" });
				ok(wait_state($node, $id, 'succeeded'), "a copy, after an answer that does not say so: $name");
				return $id;
			});
		is(job($node, $id)->{result}{etag}, 'the-tag', '... with its ETag');
		is(job($node, $id)->{attempt}, 3, '... was tried again');
	}
};

# ---- lists ----

sub list_of
{
	my ($body, %more) = @_;
	my ($job) = with_rules([ { match => '^GET /pictures\?', body => $body } ],
		sub { return run_to_end($node, 'pictures', { list => '', %more }, max_attempts => 2) });
	return $job;
}

sub contents { return join '', map { "<Contents><Key>$_</Key><Size>1</Size></Contents>" } @_ }
sub keys_of { my ($job) = @_; return [ map { $_->{key} } @{ $job->{result}{objects} } ] }

subtest 'keys of a list are decoded if the store says that they are encoded' => sub {
	my $plain = list_of('<ListBucketResult><IsTruncated>false</IsTruncated>' . contents('a+b', 'a%20b', '100%') . '<CommonPrefixes><Prefix>c+d/</Prefix></CommonPrefixes></ListBucketResult>');
	is_deeply(keys_of($plain), [ 'a+b', 'a%20b', '100%' ], 'a store that does not encode keys');
	is_deeply($plain->{result}{prefixes}, ['c+d/'], '... nor prefixes');
	my $first = list_of('<ListBucketResult><EncodingType>url</EncodingType>' . contents('a+b', 'a%20b', '100%25') . '</ListBucketResult>');
	is_deeply(keys_of($first), [ 'a b', 'a b', '100%' ], 'a store that does, and says so first');
	my $last = list_of('<ListBucketResult>' . contents('a+b', '%2B', '%C3%BC') . '<CommonPrefixes><Prefix>c+d/</Prefix></CommonPrefixes><EncodingType>url</EncodingType></ListBucketResult>');
	is_deeply(keys_of($last), [ 'a b', '+', "\x{fc}" ], '... or last');
	is_deeply($last->{result}{prefixes}, ['c d/'], '... with prefixes');
};

subtest 'a list that is not whole is no success' => sub {
	my %wrong = (
		'ends within an object' => '<ListBucketResult><IsTruncated>false</IsTruncated>' . contents('a') . '<Contents><Key>b',
		'ends between objects' => '<ListBucketResult>' . contents('a'),
		'is empty' => '',
		'is a page' => '<html><body>Welcome to this hotel</body></html>',
		'is JSON' => '{"objects": []}',
		'says that there is more, and not where' => '<ListBucketResult><IsTruncated>true</IsTruncated>' . contents('a') . '</ListBucketResult>',
	);
	foreach my $kind (sort keys %wrong)
	{
		my $job = list_of($wrong{$kind});
		is($job->{state}, 'failed', "a list that $kind") or diag($json->encode($job->{result}));
		like($job->{error} // '', qr/list/, '... is refused') and note($job->{error});
	}
	my $more = list_of('<ListBucketResult><NextContinuationToken>a+/=b c&amp;</NextContinuationToken><IsTruncated>true</IsTruncated>' . contents('a') . '</ListBucketResult>');
	is($more->{result}{after}, 'a+/=b c&', 'one that says where there is more');
	my $rest = list_of('<x:ListBucketResult xmlns:x="u"><x:IsTruncated>false</x:IsTruncated></x:ListBucketResult>', after => $more->{result}{after});
	is($rest->{state}, 'succeeded', '... and its rest');
	is(calls('continuation-token=a%2B%2F%3Db%20c%26 200'), 1, '... for which the token goes back as it came');
};

# ---- refusals ----

subtest 'what is not there is deleted' => sub {
	my $gone = '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>';
	my ($job) = with_rules([ { match => '^DELETE ', status => 404, body => $gone } ], sub { return run_to_end($node, 'pictures', { delete => 'nowhere' }) });
	is($job->{state}, 'succeeded', 'a store that says NoSuchKey to a deletion');
	my $id = start('purged');
	ok(wait_state($node, $id, 'succeeded'), 'an output');
	with_rules([ { match => '^DELETE ', status => 404, body => $gone } ], sub {
		ok(poll_until(sub { query(q{SELECT genjob.purge('painter', '0 s')}); return query("SELECT count(*) FROM gen_jobs WHERE id = $id") eq '0' }), '... whose object somebody deleted is purged');
	});
	foreach my $code ('NoSuchBucket', 'NoSuchUpload')
	{
		($job) = with_rules([ { match => '^DELETE ', status => 404, body => $gone =~ s/NoSuchKey/$code/r } ], sub { return run_to_end($node, 'pictures', { delete => 'nowhere' }) });
		is($job->{state}, 'failed', "... $code is a failure");
	}
	($job) = with_rules([ { match => '^DELETE ', status => 404, body => 'not found' } ], sub { return run_to_end($node, 'pictures', { delete => 'nowhere' }) });
	is($job->{state}, 'failed', '... and so is a 404 of somebody else');
};

subtest 'an ETag of a part goes back as it came' => sub {
	$fake->set(part_tag => 'W/"weak"');
	my $id = start('weak tags', size => '1700x1700');
	ok(wait_state($node, $id, 'succeeded'), 'parts with ETags of another form');
	$fake->set(part_tag => undef);
	like(HTTP::Tiny->new->get($fake->url('/_complete'))->{content}, qr{<ETag>W/&quot;weak&quot;</ETag>}, '... which the store gets back');
};

$node->stop;
done_testing();

# Answers of which a part is missing or spoilt: what is there is stored, what is not stays in the column result as it
# came, and the job says what is missing.

use strict;
use warnings;

use IO::Compress::Deflate qw(deflate);
use IO::Compress::Gzip qw(gzip);
use JSON::PP ();
use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node(conf => 'log_min_messages = warning');
my $standin = StandIn->new;
my %quick = (poll_interval => '20 ms', retry_base => '10 ms', max_attempts => 2, timeout => '20 s');

create_server($node, 'painter', 'openai-images', $standin, %quick);
create_server($node, 'replicate', 'replicate', $standin, %quick, model => 'painter');

# A job of the painter that has ended.
sub ended
{
	my ($server, %request) = @_;
	my $id = enqueue($node, $server, StandIn::request(prompt => 'p', %request));
	$node->poll_query_until('postgres', "SELECT finished_at IS NOT NULL FROM gen_jobs WHERE id = $id") or die;
	return job($node, $id);
}

# The outputs of a job: "ORDINAL TYPE, ..."
sub outputs
{
	my ($job) = @_;
	return $node->safe_psql('postgres',
		"SELECT string_agg(ordinal || ' ' || content_type, ', ' ORDER BY ordinal) FROM gen_outputs WHERE job_id = $job->{id}");
}

subtest 'one link of three leads nowhere' => sub {
	my $job = ended('painter', n => 3, response_format => 'url', standin => { id => 'links', download_faults => [ { status => 403 } ] });
	my @data = @{ $job->{result}{data} };

	is($job->{state}, 'failed', 'the job has failed');
	is(outputs($job), '2 image/png, 3 image/png', 'the other two are stored');
	like($data[0]{url}, qr/^http:.*0\.png$/, 'the first has its URL still');
	is_deeply([ map { $_->{url} } @data[ 1, 2 ] ], [ { '$output' => 2 }, { '$output' => 3 } ], 'the others their ordinals');
	like($job->{error}, qr/^1 of 3 outputs could not be fetched; .*0\.png.*HTTP 403/, 'the error names it');
	is($standin->counts->{ids}{links}{arrived}, 1, 'it was submitted once');
};

subtest 'a prediction is asked once more for fresh links, and keeps what it has' => sub {
	$standin->reset if $standin->can('reset');
	my $job = ended('replicate', standin => { outputs => 3, download_faults => [ {}, { status => 403 }, {} ] });

	is($job->{state}, 'succeeded', 'the second time all are there');
	is(outputs($job), '1 image/png, 2 image/png, 3 image/png', 'three outputs');
	is($standin->counts->{downloads}, 4, 'what was there is not downloaded again');
};

subtest 'a success that has ended early says so' => sub {
	create_server($node, 'gemini', 'gemini', $standin, %quick, model => 'm');
	my $body = '{"candidates": [{"content": {"parts": [{"text": "Once"}]}, "finishReason": "SAFETY"}]}';
	my $job = ended('gemini', contents => [ { parts => [ { text => 'early' } ] } ], standin => { faults => [ { body => $body } ] });

	is($job->{state}, 'succeeded', 'there is a text');
	is($job->{error}, 'server "gemini" answered SAFETY.', 'and a word about it');
	is_deeply([ @{$job}{ 'attempt_errors', 'failures' } ], [ undef, 0 ], 'no attempt has failed');
};

subtest 'a state that is not known is shown, and named in the end' => sub {
	create_server($node, 'slow', 'replicate', $standin, %quick, model => 'painter', timeout => '6 s');
	my $id = enqueue($node, 'slow',
		StandIn::request(prompt => 'undead', standin => { outcome => 'never', poll_faults => [ ({ body => '{"status": "undead", "logs": "x"}' }) x 500 ] }));

	ok($node->poll_query_until('postgres', "SELECT remote_state = 'undead' FROM genjob.activity WHERE job_id = $id"), 'genjob.activity shows it');
	wait_state($node, $id, 'failed');
	my $job = job($node, $id);
	like($job->{error}, qr/did not end within the option timeout \(its state was last "undead"\)\. It may still run/, 'the error names it');
	is($job->{result}{logs}, 'x', 'the last answer is kept');
};

subtest 'a stored answer that another prediction may not get' => sub {
	create_server($node, 'fal', 'fal', $standin, %quick, model => 'fal-ai/painter');
	my $down = { status => 500, headers => { 'X-Fal-Retryable' => 'true' } };
	my $job = ended('fal', standin => { id => 'kept', result_faults => [$down] });

	is("$job->{state} $job->{attempt} $job->{failures}", 'failed 2 2', 'it is submitted again, which counts');
	is($standin->counts->{ids}{kept}{submitted}, 2, 'two predictions');
	is($standin->counts->{ids}{kept}{results}, 2, 'each is fetched once');
};

subtest 'compressed answers' => sub {
	my $png = 'iVBORw0KGgo=';
	my $text = qq({"data": [{"b64_json": "$png"}], "note": "caf\xc3\xa9"});
	gzip(\$text, \my $gzip);
	deflate(\$text, \my $deflate);
	my $answer = sub {
		my ($encoding, $body) = @_;
		return ended('painter',
			standin => { id => 'squeezed', faults => [ { headers => { 'Content-Encoding' => $encoding }, body => { base64 => encode_base64($body, '') } } ] });
	};

	for ([ gzip => $gzip ], [ deflate => $deflate ])
	{
		$standin->reset;
		my $job = $answer->(@$_);
		is("$job->{state} $job->{result}{note} " . outputs($job), "succeeded caf\x{e9} 1 image/png", "$_->[0] is decoded");
	}
	my ($call) = grep { $_->{uri} eq '/v1/images/generations' } $standin->requests;
	like($call->{headers}{'accept-encoding'} // $call->{headers}{'Accept-Encoding'}, qr/^gzip, deflate(, br)?(, zstd)?$/, 'both are asked for');

	for ([ gzip => substr($gzip, 0, -9) ], [ br => $gzip ])
	{
		$standin->reset;
		my $job = $answer->(@$_);
		is($job->{state}, 'failed', "$_->[0] that cannot be decoded");
		like($job->{error}, qr/is not JSON but .*it is kept in gen_outputs/, '... is named');
		is($node->safe_psql('postgres', "SELECT encode(data, 'hex') FROM gen_outputs WHERE job_id = $job->{id}"), unpack('H*', $_->[1]),
			'... and kept to the byte');
	}

	# the same of a file that is downloaded
	$standin->reset;
	my $job = ended('painter', n => 2, response_format => 'url', standin => { id => 'file',
		download_faults => [ { headers => { 'Content-Encoding' => 'gzip' }, body => { base64 => encode_base64(substr($gzip, 0, -9), '') } } ] });
	is($job->{state}, 'failed', 'a download that cannot be decoded');
	like($job->{error}, qr/^the output from \S+ is compressed, and cannot be decompressed; it is kept in gen_outputs as it came\.$/, '... is named');
	is($node->safe_psql('postgres', "SELECT string_agg(encode(data, 'hex'), ' ' ORDER BY ordinal) ~ ('^' || '@{[unpack('H*', substr($gzip, 0, -9))]}' || ' 89504e47') FROM gen_outputs WHERE job_id = $job->{id}"),
		't', '... and kept to the byte, and so is the other');
};

subtest 'a picture that is called JSON is kept to the byte' => sub {
	my $picture = "\x89PNG\r\n\x1a\n\xff\xfe\x00\x80" x 3;
	$standin->reset;
	my $job = ended('painter', standin => { id => 'called', faults => [ { content_type => 'application/json', body => { base64 => encode_base64($picture, '') } } ] });

	is($node->safe_psql('postgres', "SELECT content_type, encode(data, 'hex') FROM gen_outputs WHERE job_id = $job->{id}"),
		'image/png|' . unpack('H*', $picture), 'as it came');
};

subtest 'what a refusal said is kept' => sub {
	my $body = '{"error": {"message": "no", "param": "' . 'x' x 100_000 . '"}, "key": "sk-test-secret"}';
	create_server($node, 'refuser', 'openai-images', $standin, %quick, api_key => 'sk-test-secret');
	my $job = ended('refuser', standin => { id => 'refused', faults => [ { status => 500, body => 'down' }, { status => 400, body => $body } ] });
	my @bodies = map { $_->{body} } @{ $job->{attempt_errors} };

	is($bodies[0], 'down', 'text');
	is($bodies[1], substr($body, 0, 65536), '64 kB of what is larger');
	$job = ended('refuser', standin => { id => 'echoed', faults => [ { status => 400, body => '{"key": "sk-test-secret"}' } ] });
	is($job->{attempt_errors}[0]{body}, '{"key": "' . '*' x 14 . '"}', 'no secret');
};

subtest 'who gets the secrets of a download, and who is blamed' => sub {
	for ([ own => qr/server "painter" answered HTTP 403: .*api_key/ ], [ foreign => qr/host "[^"]+" answered HTTP 403: .*The link may have expired/ ])
	{
		my ($urls, $words) = @$_;
		$standin->reset;
		my $job = ended('painter', response_format => 'url', standin => { id => $urls, urls => $urls, download_faults => [ { status => 403 } ] });
		my @gets = grep { $_->{method} eq 'GET' } $standin->requests;
		my %headers = map { lc($_) => 1 } map { keys %{ $_->{headers} } } @gets;
		is($headers{authorization} // 0, $urls eq 'own' ? 1 : 0, "$urls: Authorization");
		like($job->{error}, $words, '... the error names who refused');
	}
};

done_testing();

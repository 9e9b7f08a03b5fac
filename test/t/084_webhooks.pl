# api 'webhook': a delivery is a job like any other, signed as Standard Webhooks has it.

use strict;
use warnings;

use Digest::SHA qw(hmac_sha256_base64);
use JSON::PP ();
use MIME::Base64 qw(decode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'webhooks');
my $json = JSON::PP->new->utf8;
my @keys = ('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'C2FVsBQIhrscChlQIMV+b5sSYspob7oD');

sub header
{
	my ($request, $name) = @_;
	my ($key) = grep { lc($_) eq $name } keys %{ $request->{headers} };
	return defined $key ? $request->{headers}{$key} : undef;
}

# The deliveries of a job by its member "n", oldest first.
sub deliveries
{
	my ($n) = @_;
	return grep { $_->{body} =~ /"n":\s*"\Q$n\E"/ } $standin->requests;
}

sub signature
{
	my ($request, $key) = @_;
	my $hmac = hmac_sha256_base64(
		join('.', header($request, 'webhook-id'), header($request, 'webhook-timestamp'), $request->{body}), decode_base64($key));
	return 'v1,' . $hmac . '=';
}

sub deliver
{
	my ($server, $n, %script) = @_;
	return enqueue($node, $server, $json->encode({ n => $n, %script ? (standin => { id => $n, %script }) : () }));
}

create_server($node, 'hook', 'webhook', $standin->url('/echo'), api_key => "whsec_$keys[0]");
create_server($node, 'quick', 'webhook', $standin->url('/v1/images/generations'), api_key => "whsec_$keys[0]", retry_base => '10 ms', retry_max => '20 ms');

subtest 'a delivery is signed' => sub {
	my $id = deliver('hook', 'signed');
	ok(wait_state($node, $id, 'succeeded'));
	my ($request) = deliveries('signed');
	is($request->{method}, 'POST');
	is(header($request, 'content-type'), 'application/json');
	like(header($request, 'webhook-id'), qr/^msg_${id}_[0-9a-f]{32}$/, 'an id');
	cmp_ok(abs(header($request, 'webhook-timestamp') - time), '<', 60, 'the time in seconds');
	is(header($request, 'webhook-signature'), signature($request, $keys[0]), 'the signature');
	is(header($request, 'authorization'), undef, 'the secret is not sent');
	unlike($request->{body} . join(' ', values %{ $request->{headers} }), qr/\Q$keys[0]\E/, '... in any way');
};

subtest 'two secrets sign both' => sub {
	create_server($node, 'rotating', 'webhook', $standin->url('/echo'), api_key => "whsec_$keys[0] whsec_$keys[1]");
	my $id = deliver('rotating', 'rotated');
	ok(wait_state($node, $id, 'succeeded'));
	my ($request) = deliveries('rotated');
	is(header($request, 'webhook-signature'), join(' ', map { signature($request, $_) } @keys));
};

subtest 'what is no secret' => sub {
	my %bad = (plain => 'sk-plain', short => 'whsec_c2hvcnQ=', broken => 'whsec_%%%');
	foreach my $name (sort keys %bad)
	{
		create_server($node, $name, 'webhook', $standin->url('/echo'), api_key => $bad{$name});
		my $id = deliver($name, $name);
		ok(wait_state($node, $id, 'failed'), "$name: fails");
		like(job($node, $id)->{error}, qr/is not the secret of a webhook.*whsec_/, '... and says what is wrong');
		unlike(job($node, $id)->{error}, qr/\Q$bad{$name}\E/, '... without the secret');
		is(scalar(deliveries($name)), 0, '... and nothing is sent');
	}
	my ($status, $out, $error) = $node->psql('postgres', q{CREATE SERVER unmapped FOREIGN DATA WRAPPER genjob OPTIONS (api 'webhook', url 'http://127.0.0.1:9');
		INSERT INTO gen_jobs (server, request) VALUES ('unmapped', '{}')});
	like($error, qr/user mapping not found/, 'none at all is refused at INSERT');
	like(query(q{SELECT genjob.preview('hook', '{"n": 1}')}), qr/webhook-signature: v1,\*\*\*/, 'a preview shows no signature');
};

subtest 'a delivery that is answered is made, whatever the body' => sub {
	my %answers = (
		'nothing' => { body => '' },
		'201 with nothing' => { status => 201, body => '' },
		'nothing that is JSON' => { body => '', content_type => 'application/json' },
		'a word' => { body => 'OK', content_type => 'text/plain' },
		'a word that is JSON' => { body => 'OK', content_type => 'application/json' },
		'what cannot be decompressed' => { body => 'OK', headers => { 'Content-Encoding' => 'gzip' } });
	foreach my $answer (sort keys %answers)
	{
		my $id = enqueue($node, 'quick', { prompt => 'answered', standin => { id => $answer, faults => [ $answers{$answer} ] } });
		ok($node->poll_query_until('postgres', "SELECT state IN ('succeeded', 'failed') OR failures > 0 FROM gen_jobs WHERE id = $id"));
		is(query("SELECT state, attempt, error FROM gen_jobs WHERE id = $id"), 'succeeded|1|', $answer);
	}
};

subtest 'a delivery that fails is made again, under the same id' => sub {
	my $id = deliver('quick', 'retried', faults => [ { status => 500 }, { status => 404 }, { status => 401 }, { status => 400 } ], );
	ok($node->poll_query_until('postgres', "SELECT attempt >= 5 FROM gen_jobs WHERE id = $id"), 'each answer is one to be tried again after');
	my @deliveries = deliveries('retried');
	cmp_ok(scalar @deliveries, '>=', 5, 'after each refusal');
	my %ids = map { header($_, 'webhook-id') => 1 } @deliveries;
	is(scalar keys %ids, 1, 'the id is the same');
	is(header($_, 'webhook-signature'), signature($_, $keys[0])) foreach @deliveries;
};

subtest 'the schedule goes over a day' => sub {
	create_server($node, 'slow', 'webhook', $standin->url('/v1/images/generations'), api_key => "whsec_$keys[0]");
	my $id = deliver('slow', 'slow', faults => [ { status => 500 } ], repeat => 1);
	my @expected = (5, 300, 1800, 7200, 18000, 36000, 36000);
	foreach my $n (0 .. $#expected)
	{
		ok($node->poll_query_until('postgres', "SELECT state = 'queued' AND failures = $n + 1 FROM gen_jobs WHERE id = $id"), "attempt @{[$n + 1]} fails");
		my $wait = query("SELECT extract(epoch FROM run_at - (attempt_errors->-1->>'at')::timestamptz) FROM gen_jobs WHERE id = $id");
		cmp_ok($wait, '>=', $expected[$n] - 2, "... and is tried again after $expected[$n] s");
		cmp_ok($wait, '<=', $expected[$n] * 1.1 + 2, '... or a tenth more');
		query("UPDATE gen_jobs SET run_at = now() WHERE id = $id");
	}
	ok(wait_state($node, $id, 'failed'), 'the eighth is the last');
};

subtest '410 of a server that another transaction is changing keeps nobody waiting' => sub {
	my @held = map { "held$_" } 1 .. 3;
	foreach (@held)
	{
		create_server($node, $_, 'webhook', $standin->url('/v1/images/generations'), api_key => "whsec_$keys[0]");
		query("BEGIN; ALTER SERVER $_ OPTIONS (ADD max_wait '1 h'); PREPARE TRANSACTION '$_'");
	}
	my @ids = map { deliver($_, $_, faults => [ { status => 410 } ]) } @held;
	ok(wait_state($node, $_, 'failed'), 'the delivery fails') foreach @ids;
	ok(wait_state($node, deliver('hook', 'beside'), 'succeeded'), "another's is made");
	is(query(q{SELECT count(*) FROM genjob.workers WHERE last_error IS NOT NULL}), '0', 'no lock has been waited for');
	query("COMMIT PREPARED '$_'") foreach @held;
	my $id = deliver($held[0], 'again', faults => [ { status => 410 } ]);
	ok(wait_state($node, $id, 'failed'));
	like(job($node, $id)->{error}, qr/410.*paused, because it answered 410/, 'the next one pauses the server');
};

subtest '410 pauses the server' => sub {
	create_server($node, 'left', 'webhook', $standin->url('/v1/images/generations'), api_key => "whsec_$keys[0]", max_in_flight => 1);
	# as a dump may bring it: ALTER SERVER would refuse it now, and pauses the server all the same
	query(q{SET check_function_bodies = off; ALTER SERVER "left" OPTIONS (ADD poll 'GET /jobs')});
	my $id = deliver('left', 'left', faults => [ { status => 410 } ]);
	ok(wait_state($node, $id, 'failed'), 'the delivery fails at once');
	like(job($node, $id)->{error}, qr/410.*paused, because it answered 410.*SELECT genjob\.resume\('left'\)/, '... and says what to do');
	is(query(q{SELECT option_value FROM pg_foreign_server, pg_options_to_table(srvoptions) WHERE srvname = 'left' AND option_name = 'paused'}), 'on', 'the server is paused');
	my $next = deliver('left', 'next');
	ok($node->poll_query_until('postgres', q{SELECT held_reason LIKE '%paused%' FROM genjob.servers WHERE server = 'left'}), 'and says so');
	is(job($node, $next)->{state}, 'queued', 'what comes waits');
	is(query(q{SELECT genjob.resume('left')}), 't');
	ok($node->poll_query_until('postgres', "SELECT attempt > 0 FROM gen_jobs WHERE id = $next"), 'until it is resumed');
};

subtest 'an end is delivered' => sub {
	create_server($node, 'painter', 'openai-images', $standin, on_success => 'hook', on_failure => 'hook');
	my $id = enqueue($node, 'painter', { prompt => 'delivered' }, request_id => 'order 9');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM gen_jobs WHERE server = 'hook' AND state = 'succeeded' AND request->>'id' = '$id')"));
	my ($request) = grep { $_->{body} =~ /order 9/ && $_->{uri} eq '/echo' } $standin->requests;
	my $body = $json->decode($request->{body});
	is_deeply([ @$body{qw(id server state request_id)} ], [ $id, 'painter', 'succeeded', 'order 9' ], 'as JSON');
	is(header($request, 'webhook-signature'), signature($request, $keys[0]), 'and signed');
};

$node->stop;
done_testing();

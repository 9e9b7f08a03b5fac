# Binaries in what is sent: an output of an earlier job goes into a later one's request, if the later one's
# owner may see it and once it is there; a body that is one binary arrives as it is.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'bodies');

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'echo', 'http', $standin, path => '/echo');
create_server($node, 'form', 'http', $standin, path => '/echo', body => 'multipart');
create_server($node, 'raw', 'http', $standin, path => '/echo?v=1', body => 'raw', model => 'm', output => '');
$node->safe_psql('postgres', q{
	CREATE ROLE alice; CREATE ROLE bob; CREATE ROLE team; GRANT team TO alice;
	GRANT SELECT, INSERT ON gen_jobs TO PUBLIC;
	GRANT USAGE ON FOREIGN SERVER painter, echo TO PUBLIC});

sub enqueue_as
{
	my ($role, $server, $request) = @_;
	return query(sprintf 'SET ROLE %s; INSERT INTO gen_jobs (server, request) VALUES (%s, %s) RETURNING id',
		$role, literal($server), literal(JSON::PP->new->canonical->encode($request)));
}

sub outcome
{
	my ($id) = @_;
	return query("SELECT concat_ws('|', state, attempt, failures, error) FROM gen_jobs WHERE id = $id");
}

# A job with two pictures, and the second of them in base64.
sub paint
{
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'a cat', n => 2));
	ok(wait_state($node, $id, 'succeeded'), 'pictures are painted');
	return ($id, query("SELECT translate(encode(data, 'base64'), E'\\n', '') FROM gen_outputs WHERE job_id = $id AND ordinal = 2"));
}

subtest 'a chain in one transaction: the later job waits, and sends what the earlier one brought' => sub {
	query('DELETE FROM gen_jobs');
	my $painting = StandIn::request(prompt => 'a cat', n => 2, latency_ms => 700);
	my ($first, $second, $third, $waits) = split /\n/, query(qq{
		BEGIN;
		INSERT INTO gen_jobs (server, request) VALUES ('painter', '$painting') RETURNING id;
		INSERT INTO gen_jobs (server, request, inputs)
			SELECT 'echo', jsonb_build_object('a', jsonb_build_object('\$output', jsonb_build_array(max(id), 2)), 'b', '{"\$input": 1}'::jsonb),
				ARRAY['hello'::bytea] FROM gen_jobs RETURNING id;
		INSERT INTO gen_jobs (server, request, expires_at)
			SELECT 'echo', jsonb_build_object('a', jsonb_build_object('\$output', jsonb_build_array(max(id) + 1, 1))), now() + interval '60 s'
			FROM gen_jobs RETURNING id;
		SELECT string_agg(concat_ws(' ', id, state, after), ', ' ORDER BY id) FROM gen_jobs;
		COMMIT});
	is($waits, "$first queued, $second waiting {$first}, $third queued", 'a job that refers to one which has not ended waits for it');
	ok(wait_state($node, $second, 'succeeded'), '... and is sent when that has ended');
	my $image = query("SELECT translate(encode(data, 'base64'), E'\\n', '') FROM gen_outputs WHERE job_id = $first AND ordinal = 2");
	isnt($image, '', 'the earlier job has its output');
	is(query("SELECT result #>> '{body,a}' FROM gen_jobs WHERE id = $second"), $image, '... which the later one has sent');
	is(query("SELECT result #>> '{body,b}' FROM gen_jobs WHERE id = $second"), 'aGVsbG8=', '... beside an input of its own');
	is(query("SELECT failures || ' ' || attempt FROM gen_jobs WHERE id = $second"), '0 1', '... at the first attempt');
	is(query("SELECT attempt_errors IS NULL FROM gen_jobs WHERE id = $second"), 't', '... nor an error among those of attempts');
	is(query("SELECT retried FROM genjob.servers WHERE server = 'echo'"), '0', '... nor a retry in the statistics');

	ok(wait_state($node, $third, 'failed'), 'a job that refers to one that does not exist, or to itself, fails');
	like(outcome($third), qr/^failed\|1\|1\|job \d+ has no output 1, or it is not yours\. Look for it in gen_outputs/, '... and says why');
};

subtest 'what there will never be' => sub {
	my ($first) = paint();
	my $none = enqueue($node, 'echo', { a => { '$output' => [ 0 + $first, 3 ] } });
	ok(wait_state($node, $none, 'failed'), 'so does one that refers to an output beyond the last');
	my $refused = enqueue($node, 'painter', StandIn::request(prompt => 'a dog', faults => [ { status => 400, latency_ms => 3000 } ]));
	my $after_refused = enqueue($node, 'echo', { a => { '$output' => [ 0 + $refused, 1 ] } });
	ok(wait_state($node, $after_refused, 'failed'), 'and one that refers to a job that fails');
	like(outcome($after_refused), qr/^failed\|0\|0\|job $refused, which this job waited for, failed: .*HTTP 400/, '... with its words, and without an attempt');
	my $too_late = enqueue($node, 'echo', { a => { '$output' => [ 0 + $refused, 1 ] } });
	ok(wait_state($node, $too_late, 'failed'), 'and one that refers to a job that has failed');
	like(outcome($too_late), qr/^failed\|1\|1\|job $refused has no output 1, or it is not yours/, '... with one failure');
	my $never = enqueue($node, 'painter', StandIn::request(prompt => 'a bird', latency_ms => 600_000));
	my $impatient = query(qq{INSERT INTO gen_jobs (server, request, expires_at)
		VALUES ('echo', '{"a": {"\$output": [$never, 1]}}', now() + interval '500 ms') RETURNING id});
	ok(wait_state($node, $impatient, 'failed'), 'expires_at bounds how long a job waits for another one');
	like(outcome($impatient), qr/not started before expires_at/, '... and says so');
	query("SELECT genjob.cancel($never)");

	# what replication brings is not refused at INSERT
	my $wrong = query(q{SET session_replication_role = replica;
		INSERT INTO gen_jobs (server, request, owner) VALUES ('echo', '{"a": {"$output": 1}}', 10) RETURNING id});
	ok(wait_state($node, $wrong, 'failed'), 'so does one that is not written as it should be');
	like(outcome($wrong), qr/\|1\|the request refers to output 1, which is not a job and an ordinal\. Write/, '... and says how it should');

	my $pid = wait_dispatcher($node);
	my @half_wrong = map {
		query(qq{SET session_replication_role = replica;
			INSERT INTO gen_jobs (server, request, owner) VALUES ('echo', $_, 10) RETURNING id})
	} (qq('{"a": {"\$output": [$first, 1]}, "b": {"\$output": 1}}'),
		q((SELECT jsonb_build_object('a', jsonb_agg(jsonb_build_object('$output', jsonb_build_array(n, 1)))) FROM generate_series(1, 1001) n)));
	ok(wait_state($node, $_, 'failed'), '... also where only the second is not, or there are too many') for @half_wrong;
	is(wait_dispatcher($node), $pid, '... and no job but them notices');
};

subtest 'in what the server lays under each request' => sub {
	my ($first, $image) = paint();
	create_server($node, 'styled', 'http', $standin, path => '/echo', defaults => qq({"style": {"\$output": [$first, 2]}}));
	my $styled = enqueue($node, 'styled', { prompt => 'p' });
	ok(wait_state($node, $styled, 'succeeded'), 'the option defaults may refer to an output');
	is(job($node, $styled)->{result}{body}{style}, $image, '... which is sent with each job');
};

subtest 'whose it is' => sub {
	my $alices = enqueue_as('alice', 'painter', { prompt => 'alice' });
	my $teams = enqueue_as('team', 'painter', { prompt => 'team' });
	ok(wait_all_ended($node), 'jobs of other roles end');
	my @permitted = (enqueue_as('alice', 'echo', { a => { '$output' => [ 0 + $alices, 1 ] } }),
		enqueue_as('alice', 'echo', { a => { '$output' => [ 0 + $teams, 1 ] } }),
		enqueue($node, 'echo', { a => { '$output' => [ 0 + $alices, 1 ] } }));
	my @denied = (enqueue_as('bob', 'echo', { a => { '$output' => [ 0 + $alices, 1 ] } }),
		enqueue_as('team', 'echo', { a => { '$output' => [ 0 + $alices, 1 ] } }));
	my $alices_slow = enqueue_as('alice', 'painter', JSON::PP->new->decode(StandIn::request(prompt => 'slow', latency_ms => 600_000)));
	push @denied, enqueue_as('bob', 'echo', { a => { '$output' => [ 0 + $alices_slow, 1 ] } });
	ok(wait_state($node, $_, 'succeeded'), 'an output of one\'s own role, or of one that it is a member of, is sent') for @permitted;
	foreach my $id (@denied)
	{
		ok(wait_state($node, $id, 'failed'), 'one of another role is not');
		like(outcome($id), qr/^failed\|1\|1\|job \d+ has no output 1, or it is not yours/, '... nor is told whether it is there, or will be');
	}
	query("SELECT genjob.cancel($alices_slow)");
};

subtest 'as a file of a form, and as the body itself' => sub {
	my ($first, $image) = paint();
	my $form = enqueue($node, 'form', { picture => { '$output' => [ 0 + $first, 2 ] }, prompt => 'p' });
	ok(wait_state($node, $form, 'succeeded'), 'an output goes into a form');
	my $parts = JSON::PP->new->encode(job($node, $form)->{result}{parts});
	like($parts, qr/output$first-2\.png/, '... as a file that is named after it');

	my $raw = enqueue($node, 'raw', { audio => { '$output' => [ 0 + $first, 2 ] }, language => 'de & at' });
	ok(wait_state($node, $raw, 'succeeded'), 'an output is the body');
	my $echoed = job($node, $raw)->{result};
	is($echoed->{body}{base64}, $image, '... byte for byte');
	is($echoed->{uri}, '/echo?v=1&language=de%20%26%20at&model=m', '... the other members are parameters of the URL');
	my %headers = map { lc $_ => $echoed->{headers}{$_} } keys %{ $echoed->{headers} };
	is($headers{'content-type'}, 'image/png', '... its content type is the output\'s');

	my $bytes = join '', map { chr } 0 .. 255;
	$raw = query(q{INSERT INTO gen_jobs (server, request, inputs) VALUES ('raw', '{}', ARRAY['\x} . unpack('H*', $bytes x 4000) . q{'::bytea]) RETURNING id});
	ok(wait_state($node, $raw, 'succeeded'), 'an input is the body');
	is(job($node, $raw)->{result}{body}{base64}, encode_base64($bytes x 4000, ''), '... of a megabyte');
	my $empty = query(q{INSERT INTO gen_jobs (server, request, inputs) VALUES ('raw', '{}', ARRAY[''::bytea]) RETURNING id});
	ok(wait_state($node, $empty, 'succeeded'), '... or of nothing');
};

$standin->stop;
$node->stop;
done_testing();

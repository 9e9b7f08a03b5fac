# Whatever is killed with calls in flight - the dispatcher, the server at once, the postmaster - every
# committed job is finished, under its own Idempotency-Key and with one effect.
#
# GENJOB_TEST_LONG=1 kills the dispatcher 30 times under load instead of 6.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;
use JSON::PP ();
use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'crash', conf => 'restart_after_crash = on');
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 10);

# Enqueues jobs whose calls take that long and returns when the stand-in has them all; their ids there
# are the prompts, "NAME 1" and so on.
sub begin_calls
{
	my ($name, $n, $ms, $server) = @_;
	$server //= 'painter';
	$standin->reset;
	my $first = query(
		qq{WITH new AS (
			INSERT INTO gen_jobs (server, request)
			SELECT '$server', jsonb_build_object('prompt', '$name ' || i, 'standin',
				jsonb_build_object('id', '$name ' || i, 'latency_ms', $ms))
			FROM generate_series(1, $n) i RETURNING id)
		SELECT min(id) FROM new});
	$standin->wait_for(sub { $_[0]{in_flight} == $n });
	return $first;
}

# What is true of jobs whose calls were cut short once.
sub check_repeated
{
	my ($what, $first, $n) = @_;
	ok(wait_all_ended($node), "$what: all jobs end");
	my $counts = $standin->counts;
	is( query(
			qq{SELECT count(*), min(state), min(attempt), max(attempt), sum(failures), count(error),
				count(idempotency_key) FROM gen_jobs WHERE id >= $first}),
		"$n|succeeded|2|2|0|0|0",
		'... in their second attempt, and the first does not count as a failure');
	is( query(
			qq{SELECT DISTINCT jsonb_array_length(attempt_errors), (attempt_errors -> 0) - 'at',
				(attempt_errors -> 0 ->> 'at')::timestamptz BETWEEN created_at AND finished_at FROM gen_jobs WHERE id >= $first}),
		'1|{"error": "genjob or the database server stopped while the call was in flight. The call may have been accepted. genjob repeats it, and you may pay twice.", "attempt": 1}|t',
		'... errors tells of the loss');
	is( query(
			qq{SELECT count(*), count(DISTINCT job_id), min(ordinal), max(ordinal) FROM gen_outputs WHERE job_id >= $first}),
		"$n|$n|1|1",
		'... each has its picture once');
	is_deeply(
		[ map { $_->{arrived} } values %{ $counts->{keys} } ],
		[ (2) x $n ],
		'... each was sent twice, under the same Idempotency-Key');
	is( query(
			qq{SELECT bool_and(started_at - (attempt_errors -> 0 ->> 'at')::timestamptz < interval '1 s')
			FROM gen_jobs WHERE id >= $first}),
		't',
		'... as soon as the dispatcher has found the loss');
	return;
}

# Stops the server as CODE does, and returns true once the stand-in has seen N calls cut.
sub crash
{
	my ($n, $code) = @_;
	$code->();
	return $standin->wait_for(sub { $_[0]{in_flight} == 0 && $_[0]{aborted} == $n });
}

subtest 'the dispatcher is killed: its calls are repeated' => sub {
	my $first = begin_calls('killed', 5, 1500);
	kill_dispatcher();
	check_repeated('the dispatcher killed', $first, 5);
};

subtest 'the server stops at once: its calls are repeated, and what was not committed does not exist' => sub {
	my $session = $node->background_psql('postgres');
	$session->query_safe(
		q{BEGIN; INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "never committed"}')});
	my $first = begin_calls('stopped', 5, 1500);
	my $waiting = enqueue($node, 'painter', { prompt => 'waiting' }, run_at => '2100-01-01');
	ok(crash(5, sub { $node->stop('immediate') }), 'an immediate stop of the server cuts the calls');
	eval { $session->quit };
	$node->start;
	wait_dispatcher($node);
	is(job($node, $waiting)->{state}, 'queued', 'a job that waits still does after the start');
	query("DELETE FROM gen_jobs WHERE id = $waiting");
	check_repeated('immediate stop', $first, 5);
	is(query(q{SELECT count(*) FROM gen_jobs WHERE request ->> 'prompt' = 'never committed'}),
		'0', 'a job that was not committed does not exist');
	is(scalar(grep { ($_->{body} // '') =~ /never committed/ } $standin->requests), 0, '... and was not sent');
};

subtest 'the postmaster is killed: its dispatcher goes with it, and the calls are repeated' => sub {
	my $first = begin_calls('orphaned', 5, 1500);
	my $lock_file = $node->data_dir . '/postmaster.pid';
	my ($postmaster) = slurp_file($lock_file) =~ /^(\d+)/;
	ok(crash(5, sub { $node->kill9 }), 'the dispatcher does not outlive the postmaster');
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	until ($node->start(fail_ok => 1))
	{
		die 'the server does not start again' if time > $until;
		sleep 0.1;
		$node->stop('fast', fail_ok => 1);
		# where nobody collects dead processes, as in some containers, it seems to be alive
		unlink $lock_file if -e "/proc/$postmaster/stat" && slurp_file("/proc/$postmaster/stat") =~ /\) Z /;
	}
	wait_dispatcher($node);
	check_repeated('the postmaster killed', $first, 5);
};

subtest 'a call that may have been accepted is not repeated at a server that must not be asked twice' => sub {
	create_server($node, 'careful', 'openai-images', $standin, on_unknown => 'fail');
	my $first = begin_calls('once', 1, 1500, 'careful');
	kill_dispatcher();
	ok(wait_state($node, $first, 'failed'), 'on_unknown "fail": the job fails');
	my $job = job($node, $first);
	like(
		$job->{error},
		qr/^\Qgenjob or the database server stopped while the call was in flight. The call may have been accepted, and money spent:\E
			\Q look for it at the provider before you call genjob.retry(). Its lists of requests show it by its time or by the Idempotency-Key \E
			\Q$job->{idempotency_key}. If it is not there, genjob.retry() sends it again; if it is, take its answer from there.\E$/x,
		'... and says what to do');
	is("$job->{attempt} " . scalar @{ $job->{attempt_errors} }, '1 1', '... of its only attempt');
	is($standin->counts->{total}, 1, '... and is not sent again');
	my $key = $job->{idempotency_key};
	ok($key, 'the key of the call whose end is not known is kept');
	query("SELECT genjob.retry($first)");
	ok(wait_state($node, $first, 'succeeded'), '... until genjob.retry()');
	is_deeply([ keys %{ $standin->counts->{keys} } ], [$key], '... which sends it with that key');
};

subtest 'a database that gives up durability while its dispatcher runs loses no claim' => sub {
	query(q{ALTER DATABASE postgres SET synchronous_commit = off; ALTER SERVER painter OPTIONS (ADD timeout '50 s')});
	my $settled = enqueue($node, 'painter', StandIn::request(prompt => 'settled'));
	ok(wait_state($node, $settled, 'succeeded'), 'the dispatcher has read the settings again');
	# what nobody waits for stays in memory
	kill 'STOP', query(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	$standin->reset;
	my $claimed = query(q{SET synchronous_commit = local; INSERT INTO gen_jobs (server, request)
		VALUES ('painter', '{"prompt": "durable", "standin": {"id": "durable", "latency_ms": 2000}}') RETURNING id});
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	$node->stop('immediate');
	$node->start;
	ok(wait_state($node, $claimed, 'succeeded'), 'a job that was claimed when the server crashed ends');
	is_deeply([ map { $_->{arrived} } values %{ $standin->counts->{keys} } ], [2],
		'... it was sent twice, under one Idempotency-Key');
	query('ALTER DATABASE postgres RESET synchronous_commit; ALTER SERVER painter OPTIONS (DROP timeout)');
};

# ---- killed again and again under load ----

# Enqueues jobs "load FIRST" to "load LAST".
sub enqueue_load
{
	my ($first, $last) = @_;
	query(
		qq{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', 'load ' || i, 'standin',
			jsonb_build_object('id', 'load ' || i, 'latency_ms', i * 7919 % 501))
		FROM generate_series($first, $last) i});
	return $last;
}

# How the attempts of all jobs stand against what the stand-in has counted.
sub compare_attempts
{
	my ($counts) = @_;
	my %seen = map { $_ => 0 } qw(lost unexplained too_often unsent);
	foreach my $row (
		split /\n/,
		query(
			q{SELECT request -> 'standin' ->> 'id', attempt, coalesce(jsonb_array_length(attempt_errors), 0),
				coalesce((SELECT bool_and(e ->> 'error' ~ 'stopped while the call was in flight')
					FROM jsonb_array_elements(attempt_errors) e), true) FROM gen_jobs}))
	{
		my ($id, $attempt, $errors, $all_lost) = split /\|/, $row;
		my ($arrived, $answered) = map { $_ // 0 } @{ $counts->{ids}{$id} }{qw(arrived answered)};
		$seen{lost} += $attempt - 1;
		$seen{unsent}++ if $arrived == 0 || $answered == 0;
		$seen{too_often}++ if $arrived > $attempt || $answered > $attempt;
		$seen{unexplained}++ if $attempt != $errors + 1 || $all_lost ne 't';
	}
	return \%seen;
}

# The SHA-256 of the picture that the stand-in draws from a prompt.
sub picture_of
{
	my ($prompt) = @_;
	my $reply = HTTP::Tiny->new(timeout => 30)->post(
		$standin->url('/v1/images/generations'),
		{ content => qq({"prompt": "$prompt"}), headers => { 'Content-Type' => 'application/json' } });
	return sha256_hex(decode_base64(JSON::PP::decode_json($reply->{content})->{data}[0]{b64_json}));
}

subtest 'the dispatcher is killed again and again under load: every job succeeds, once' => sub {
	my $kills = $ENV{GENJOB_TEST_LONG} ? 30 : 6;
	query('TRUNCATE gen_jobs, gen_outputs');
	$standin->reset;
	my $n = enqueue_load(1, 60);
	my $last_kill = time;
	foreach my $kill (1 .. $kills)
	{
		$standin->wait_for(sub { $_[0]{in_flight} >= 8 });
		my $rest = $last_kill + 1 - time;
		sleep $rest if $rest > 0;
		$last_kill = time;
		kill_dispatcher();
		$n = enqueue_load($n + 1, $n + 45) if $kill < $kills;
	}
	ok(wait_all_ended($node), "the dispatcher killed $kills times under load: all jobs end");
	is(query(q{SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'),
			coalesce(sum(failures) FILTER (WHERE attempt <= 4), 0) FROM gen_jobs}),
		"$n|$n|0", '... every job succeeds, and none of its first three losses in a row counts');
	is(query(q{SELECT count(*) FROM gen_jobs j
			WHERE (SELECT array_agg(ordinal) FROM gen_outputs o WHERE o.job_id = j.id) IS DISTINCT FROM '{1}'
				OR result -> 'data' IS DISTINCT FROM '[{"b64_json": {"$output": 1}}]'}), '0', '... with one result');

	my $counts = $standin->counts;
	my $seen = compare_attempts($counts);
	note("$seen->{lost} attempts were lost, $counts->{total} requests arrived for $n jobs");
	is($seen->{unsent}, 0, 'the stand-in has answered every job');
	is($seen->{unexplained}, 0,
		'every attempt but the last was in flight when the dispatcher was killed, and errors says so');
	is($seen->{too_often}, 0, 'no job arrived more often than it was started');
	cmp_ok($seen->{lost}, '>', 0, 'some calls were in flight at a kill');
	cmp_ok($seen->{lost}, '<=', 10 * $kills, '... and no more than max_in_flight were sent again for each');
	is(scalar(keys %{ $counts->{keys} }), $n, 'each job kept its one Idempotency-Key');

	# pictures are drawn from the prompt: nobody has another's
	is(query(qq{SELECT encode(o.sha256, 'hex') FROM gen_outputs o JOIN gen_jobs j ON j.id = o.job_id
			WHERE j.request ->> 'prompt' = 'load $_'}), picture_of("load $_"), "job $_ has its own picture")
	  foreach 1, int($n / 2), $n;
};

$standin->stop;
$node->stop;
done_testing();

# Servers that take no calls for a day, each in its own way, with thousands of jobs queued: no job fails, each is made
# once. A day passes in some ten seconds (genjob.debug_clock_speed).

use strict;
use warnings;

use Time::HiRes qw(sleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $speed = 8000;
my $n = $ENV{GENJOB_TEST_OUTAGE_JOBS} // 2500;    # of each server
my $node = new_node(conf => "genjob.debug_clock_speed = $speed\nsynchronous_commit = off\nlog_min_messages = warning");

# One story of four servers that are out on the same day.
subtest 'a day without a server costs no job, few calls, and no call twice' => sub {
	my %standins = map { $_ => StandIn->new } qw(429 503 522 refused);
	my $port = $standins{refused}->port;
	create_server($node, "outage_$_", 'openai-images', $standins{$_}, max_in_flight => 20) foreach keys %standins;

	$standins{$_}->refuse_all($_) foreach 429, 503, 522;
	$standins{refused}->stop;
	query("INSERT INTO gen_jobs (server, request)
		SELECT s, jsonb_build_object('prompt', s || n, 'size', '8x8')
		FROM unnest(ARRAY['outage_429', 'outage_503', 'outage_522', 'outage_refused']) s, generate_series(1, $n) n");

	my %reasons = (
		429 => qr/^the server is busy: genjob tries one call at a time\. server "outage_429" answered HTTP 429/,
		503 => qr/^the server is busy: genjob tries one call at a time\. server "outage_503" answered HTTP 503/,
		522 => qr/^server "outage_522" answered HTTP 522/,
		refused => qr/^could not reach server "outage_refused"/,
	);
	$node->poll_query_until('postgres', q{SELECT bool_and(failures > 0 OR state <> 'ok') FROM genjob.backends
		WHERE server LIKE 'outage_%'});
	foreach my $kind (sort keys %reasons)
	{
		# between two calls it may say something else
		my $reason;
		poll_until(sub {
			$reason = query("SELECT held_reason FROM genjob.servers WHERE server = 'outage_$kind'");
			return $reason =~ $reasons{$kind};
		});
		like($reason, $reasons{$kind}, "$kind: held_reason says so");
	}

	# until a day has passed of the dispatcher's time
	sleep(86_400 / $speed);

	# a probe a minute is 1440 a day
	foreach my $kind (429, 503, 522)
	{
		my $calls = $standins{$kind}->counts(summary => 1)->{total};
		cmp_ok($calls, '<', 4000, "$kind: a day of it is few calls ($calls)");
		cmp_ok($calls, '>', 20, '... but some');
	}
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'failed'}), 0, 'no job has failed');

	$standins{$_}->refuse_all(0) foreach 429, 503, 522;
	$standins{refused} = StandIn->new(port => $port);
	ok(wait_all_ended($node), 'it ends, and so do all jobs');
	foreach my $kind (sort keys %standins)
	{
		is(query("SELECT count(*), count(*) FILTER (WHERE state = 'succeeded') FROM gen_jobs
			WHERE server = 'outage_$kind'"), "$n|$n", "$kind: with success");
		my $counts = $standins{$kind}->counts(summary => 1);
		is($counts->{total} - $counts->{refused}, $n, '... each sent once after it ends');
		is(query("SELECT max(failures) <= 1 AND max(unknown_ends) <= 1 FROM gen_jobs WHERE server = 'outage_$kind'"),
			't', '... and at most the first few lost an attempt');
	}
	is(query(q{SELECT sum(failures) FROM gen_jobs WHERE server IN ('outage_429', 'outage_503')}), 0,
		q{to be busy is no job's fault});
	is(query(q{SELECT count(*) FROM gen_outputs}), 4 * $n, 'each has its picture');
	is(query(q{SELECT count(*) FROM genjob.backends WHERE state <> 'ok'}), 0, 'nothing is held any more');
	$_->stop foreach values %standins;
};

$node->stop('immediate');
done_testing();

# When a call fails: what is tried again, how often, when, and with which Idempotency-Key.

use strict;
use warnings;

use List::Util qw(max min);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

# By how many seconds more than asked for a call may come late on a busy machine
my $slack = $ENV{GENJOB_TEST_SLACK_S} // 10;

my $node = new_node();
my $standin = StandIn->new;
my %quick = (retry_base => '10 ms', retry_max => '20 ms');
my %ids;

create_server($node, 'quick', 'openai-images', $standin, %quick);

# A server for one name: failures of several jobs in a row would hold back the others of theirs.
sub own_server
{
	my ($name, %options) = @_;
	create_server($node, $name, 'openai-images', $standin, %quick, %options);
	return $name;
}

# Enqueues a job whose calls meet FAULTS one after the other; NAME is its prompt, and its id for the
# stand-in. COLUMNS of gen_jobs; "script" has more for the stand-in's script.
sub faulty
{
	my ($server, $name, $faults, %columns) = @_;
	my %script = %{ delete $columns{script} // {} };
	$ids{$name} = enqueue($node, $server,
		StandIn::request(id => $name, prompt => $name, faults => $faults, %script), %columns);
	return;
}

sub forever
{
	my ($server, $name, $fault, %columns) = @_;
	faulty($server, $name, [$fault], script => { repeat => 1 }, %columns);
	return;
}

sub outcome
{
	my ($name) = @_;
	my $job = job($node, $ids{$name});
	return "$job->{state}, attempt $job->{attempt}, $job->{failures} failures, "
	  . scalar(@{ $job->{attempt_errors} // [] })
	  . ' errors';
}

# The calls of a job that had arrived at the last look(), oldest first.
my %arrived;

sub look
{
	%arrived = ();
	push @{ $arrived{ $_->{id} } }, $_ foreach $standin->requests;
	return;
}

sub arrivals
{
	my ($name) = @_;
	return @{ $arrived{$name} // [] };
}

sub keys_of
{
	my ($name) = @_;
	return map {
		my %headers = %{ $_->{headers} };
		my ($key) = grep { lc($_) eq 'idempotency-key' } keys %headers;
		$headers{$key};
	} arrivals($name);
}

# Waits for all jobs of the test, and looks at their calls.
sub all_end
{
	ok(wait_all_ended($node), 'all jobs end');
	look();
	return;
}

my %busy = map { $_ => 1 } 429, 503, 529;    # the server's state, and no job's fault

# What may have been accepted: [ the server's time-out, the fault ]
my %ambiguous = (
	'cut before the answer' => [ undef, { cut => 'accept' } ],
	'reset before the answer' => [ undef, { reset => 1 } ],
	'cut after the headers' => [ undef, { cut => 'headers' } ],
	'cut in the body' => [ undef, { cut => 'body' } ],
	'no answer in time' => [ '400 ms', { stall => 1 } ],
	'half an answer in time' => [ '400 ms', { stall => 'body' } ],
	(map { $_ => [ undef, { status => $_ } ] } 502, 504, 520, 522, 524));

subtest 'statuses that are tried again' => sub {
	my @statuses = (408, 409, 425, 429, 500 .. 505, 507, 508, 520 .. 527, 529, 530, 598, 599);
	faulty(own_server("worthwhile $_"), "status $_", [ { status => $_, message => "Not now ($_)" } ]) foreach @statuses;
	all_end();
	foreach my $status (@statuses)
	{
		my $failures = $busy{$status} ? 0 : 1;
		is(outcome("status $status"), "succeeded, attempt 2, $failures failures, 1 errors", "HTTP $status is tried again");
		my $job = job($node, $ids{"status $status"});
		my ($error) = @{ $job->{attempt_errors} };
		is("$error->{attempt} $error->{http_status}", "1 $status", '... and is in errors, with its attempt');
		like($error->{error}, qr/server "worthwhile $status" answered HTTP $status: Not now \($status\)\./, '... and the server\'s words');
		like($error->{at}, qr/^20\d\d-\d\d-\d\dT\d\d:\d\d/, '... and its time');
		is($job->{error}, undef, '... and no error is left of it');
	}
};

subtest 'statuses that fail at once' => sub {
	my @statuses = (400, 401, 403, 404, 405, 410, 413, 422, 451);
	faulty('quick', "status $_", [ { status => $_, message => "I refuse to. ($_)" } ]) foreach @statuses;
	all_end();
	foreach my $status (@statuses)
	{
		is(outcome("status $status"), 'failed, attempt 1, 1 failures, 1 errors', "HTTP $status fails at once");
		my $job = job($node, $ids{"status $status"});
		like($job->{error}, qr/server "quick" answered HTTP $status: I refuse to\. \($status\)/, '... with the server\'s words');
		is($job->{attempt_errors}[0]{error}, $job->{error}, '... also in errors');
		is($job->{attempt_errors}[0]{http_status}, $status, '... with the status');
	}
	like(job($node, $ids{"status $_"})->{error}, qr/Check the api_key/, "HTTP $_: where to look") foreach 401, 403;
	like(job($node, $ids{'status 404'})->{error}, qr/Check .*url and path/, 'HTTP 404: where to look');
};

subtest 'max_attempts of the server' => sub {
	forever(own_server('thrice', max_attempts => 3), 'three of the server', { status => 500, message => 'Out of paint' });
	all_end();
	is(outcome('three of the server'), 'failed, attempt 3, 3 failures, 3 errors', 'three attempts');
	my $job = job($node, $ids{'three of the server'});
	like($job->{error}, qr/HTTP 500: Out of paint\. All 3 attempts are used up: raise max_attempts, or .*genjob\.retry\(\)/,
		'... the error says so, and what to do');
	is(join(' ', map { $_->{attempt} } @{ $job->{attempt_errors} }), '1 2 3', '... errors has each attempt');
	is(scalar(arrivals('three of the server')), 3, '... and that many calls were made');
};

subtest 'max_attempts of the job' => sub {
	forever(own_server('down', max_attempts => 3), 'two of the job', { status => 500 }, max_attempts => 2);
	forever('down', 'one of the job', { status => 500 }, max_attempts => 1);
	faulty(own_server('up', max_attempts => 3), 'seven of the job', [ ({ status => 500 }) x 6 ], max_attempts => 7);
	all_end();
	is(outcome('two of the job'), 'failed, attempt 2, 2 failures, 2 errors', 'max_attempts of the job wins');
	is(outcome('one of the job'), 'failed, attempt 1, 1 failures, 1 errors', '... one attempt is one');
	like(job($node, $ids{'one of the job'})->{error}, qr/The only attempt is used up/, '... and is called so');
	is(outcome('seven of the job'), 'succeeded, attempt 7, 6 failures, 6 errors', '... also upwards');
};

subtest 'many errors' => sub {
	faulty(own_server('many'), 'many errors', [ ({ status => 500 }) x 102 ], max_attempts => 103);
	all_end();
	is(outcome('many errors'), 'succeeded, attempt 103, 102 failures, 100 errors', 'errors keeps the last hundred');
	is(job($node, $ids{'many errors'})->{attempt_errors}[0]{attempt}, 3, '... the first that is kept is the third');
};

subtest 'retry() of a failed job' => sub {
	forever(own_server('again'), 'failed once', { status => 500 }, max_attempts => 1);
	all_end();
	$node->safe_psql('postgres', "SELECT genjob.retry($ids{'failed once'})");
	ok(wait_state($node, $ids{'failed once'}, 'failed'), 'it runs again');
	is(outcome('failed once'), 'failed, attempt 2, 1 failures, 2 errors', '... from no failures on');
};

# The waits are those that genjob decides on: a call may come later on a busy machine.
subtest 'how long between attempts' => sub {
	$node->safe_psql('postgres', q{
		CREATE TABLE waits (attempt int, seconds float);
		GRANT INSERT ON waits TO genjob_dispatcher;
		CREATE FUNCTION note_wait() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.waits VALUES (NEW.attempt,
				extract(epoch FROM NEW.run_at - (NEW.attempt_errors -> -1 ->> 'at')::timestamptz));
			RETURN NULL;
		END $$;
		CREATE TRIGGER note_wait AFTER UPDATE ON gen_jobs FOR EACH ROW
			WHEN (OLD.state = 'running' AND NEW.state = 'queued') EXECUTE FUNCTION note_wait()});
	faulty(own_server("spread $_", retry_base => '50 ms', retry_max => '1 min'), "spread $_", [ ({ status => 500 }) x 4 ])
	  foreach 1 .. 20;
	all_end();
	foreach my $i (1 .. 20)
	{
		is(scalar(arrivals("spread $i")), 5, "all calls of job $i were made");
	}
	my @waits = map { [ split /\n/, $node->safe_psql('postgres', "SELECT seconds FROM waits WHERE attempt = $_") ] }
	  1 .. 4;
	is(join(' ', map { scalar @$_ } @waits), '20 20 20 20', '... after four waits');
	# what is between the two times in a row
	my $more = 0.02;
	cmp_ok(max(@{ $waits[0] }), '<', 0.05 + $more, 'the first wait is at most retry_base');
	cmp_ok(max(@{ $waits[3] }), '>', 0.2, 'later ones are longer: up to eight times as long after four failures');
	cmp_ok(max(@{ $waits[3] }), '<', 0.4 + $more, '... and no longer');
	cmp_ok(min(@{ $waits[3] }), '<', 0.3, '... with full jitter');
	cmp_ok(max(@{ $waits[3] }) - min(@{ $waits[3] }), '>', 0.1,
		'... so that jobs which failed together do not come back together');
	$node->safe_psql('postgres', 'DROP FUNCTION note_wait() CASCADE; DROP TABLE waits');
};

subtest 'the key of a call that may have been accepted' => sub {
	foreach my $name (sort keys %ambiguous)
	{
		my ($timeout, $fault) = @{ $ambiguous{$name} };
		faulty(own_server("ambiguous $name", $timeout ? (timeout => $timeout) : ()), $name, [ $fault, $fault ]);
	}
	all_end();
	foreach my $name (sort keys %ambiguous)
	{
		is(outcome($name), 'succeeded, attempt 3, 2 failures, 2 errors', "$name: tried again");
		my @keys = keys_of($name);
		is(scalar(@keys), 3, '... each attempt is one call');
		is("$keys[1] $keys[2]", "$keys[0] $keys[0]", '... with the same Idempotency-Key');
	}
	is($node->safe_psql('postgres', q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded' AND idempotency_key IS NOT NULL}),
		'0', 'a job that has succeeded has no key');
};

subtest 'on_unknown "fail"' => sub {
	foreach my $name (sort keys %ambiguous)
	{
		my ($timeout, $fault) = @{ $ambiguous{$name} };
		faulty(own_server("careful $name", on_unknown => 'fail', $timeout ? (timeout => $timeout) : ()), "careful: $name", [$fault]);
	}
	all_end();
	foreach my $name (sort keys %ambiguous)
	{
		is(outcome("careful: $name"), 'failed, attempt 1, 1 failures, 1 errors', "$name: it fails");
		like(
			job($node, $ids{"careful: $name"})->{error},
			qr/may have been accepted, and money spent: look for it at the provider before you call genjob\.retry\(\)/,
			'... in words about the money');
		is(scalar(arrivals("careful: $name")), 1, '... after one call');
	}
	my ($name) = 'careful: cut before the answer';
	my @keys = keys_of($name);
	$node->safe_psql('postgres', "SELECT genjob.retry($ids{$name})");
	ok(wait_state($node, $ids{$name}, 'succeeded'), 'retry() of one that may have been accepted');
	look();
	is((keys_of($name))[1], $keys[0], '... goes with the same key');
};

subtest 'the key of a call that was answered' => sub {
	foreach my $status (429, 500, 503)
	{
		faulty(own_server("definite $status"), "definite $status", [ { status => $status } ]);
		faulty(own_server("careful $status", on_unknown => 'fail'), "careful: $status", [ { status => $status } ]);
	}
	all_end();
	foreach my $status (429, 500, 503)
	{
		my @keys = keys_of("definite $status");
		is(scalar(@keys), 2, "HTTP $status: each attempt is one call");
		isnt($keys[0], $keys[1], '... with a new key, for the first was refused');
		is(outcome("careful: $status"), 'succeeded, attempt 2, ' . ($busy{$status} ? 0 : 1) . ' failures, 1 errors',
			'... and with on_unknown "fail" it is tried again all the same');
	}
};

subtest 'how long a key lasts' => sub {
	# under the key of a call whose end is not known, 409 says that this call is still at work
	faulty('quick', 'still at work', [ { reset => 1 }, { status => 409, retry_after => '0.1' }, { status => 409 } ]);
	faulty('quick', 'both', [ { status => 503 }, { cut => 'accept' }, { status => 500 } ]);
	all_end();
	my @keys = keys_of('both');
	ok( @keys == 4 && $keys[0] ne $keys[1] && $keys[1] eq $keys[2] && $keys[2] ne $keys[3],
		'a key lasts from one definite answer to the next') or diag("@keys");
	@keys = keys_of('still at work');
	is(scalar(@keys), 4, 'HTTP 409 after a call whose end is not known: asked again');
	is(scalar(grep { $_ eq $keys[0] } @keys), 4, '... with the same key');
};

# A call on a connection that is being reused, and is cut, is sent again by libcurl itself unless
# genjob prevents it. Here the second call would succeed.
subtest 'a connection that was kept' => sub {
	create_server($node, 'kept', 'openai-images', $standin, %quick, max_in_flight => 1);
	faulty('kept', 'first', []);
	ok(wait_all_ended($node), 'a job opens a connection');
	my $connections = $standin->counts(summary => 1)->{connections};
	faulty('kept', 'second', []);
	ok(wait_all_ended($node), '... and another comes');
	is($standin->counts(summary => 1)->{connections}, $connections, '... on the same connection');
	my @cuts = ({ cut => 'accept' }, { reset => 1 });
	foreach my $i (0 .. 5)
	{
		faulty('kept', "warm $i", []);
		faulty('kept', "kept $i", [ $cuts[ $i % 2 ] ], max_attempts => 1);
	}
	my $big = 'x' x 300_000;
	faulty('kept', 'warm big', []);
	faulty('kept', 'kept big', [ { cut => 'accept' } ], max_attempts => 1, script => { padding => $big });
	faulty('kept', 'warm twice', []);
	faulty('kept', 'kept twice', [ { cut => 'accept' }, { reset => 1 } ]);
	ok(wait_all_ended($node), 'jobs on one kept connection end');
	my $counts = $standin->counts;
	foreach my $name (map({ "kept $_" } 0 .. 5), 'kept big')
	{
		is(outcome($name), 'failed, attempt 1, 1 failures, 1 errors', "$name: a cut ends the attempt");
		is($counts->{ids}{$name}{arrived}, 1, '... which was one call');
	}
	is(outcome('kept twice'), 'succeeded, attempt 3, 2 failures, 2 errors', 'where more are left they are made');
	is($counts->{ids}{'kept twice'}{arrived}, 3, '... and each is one call');
};

# The first call of each server says when to come back; a second job waits for the same server, and a
# third goes to another server.
subtest 'Retry-After' => sub {
	create_server($node, "after_$_", 'openai-images', $standin, %quick, max_in_flight => 1)
	  foreach qw(seconds date fraction);
	create_server($node, 'meanwhile', 'openai-images', $standin, %quick);
	faulty('after_seconds', 'asked for seconds', [ { status => 429, retry_after => '1' } ], priority => 1);
	faulty('after_date', 'asked for a date', [ { status => 503, retry_after => { date_in_s => 2 } } ], priority => 1);
	faulty('after_fraction', 'asked three times', [ ({ status => 429, retry_after => '0.2' }) x 3 ],
		max_attempts => 1, priority => 1);
	ok($node->poll_query_until('postgres',
			"SELECT count(*) = 3 FROM gen_jobs WHERE id IN ($ids{'asked for seconds'}, $ids{'asked for a date'}, $ids{'asked three times'}) AND attempt > 0 AND attempt_errors IS NOT NULL"),
		'three servers ask to wait');
	faulty('after_seconds', 'behind seconds', [], priority => 2);
	faulty('after_date', 'behind a date', [], priority => 2);
	ok($node->poll_query_until('postgres',
			q{SELECT held_reason = 'the server asked to wait' AND held_until > now() FROM genjob.servers WHERE server = 'after_date'}),
		'... and genjob.servers says so');
	faulty('meanwhile', 'meanwhile', []);
	ok(wait_state($node, $ids{meanwhile}, 'succeeded'), 'another server goes on');
	all_end();
	my ($meanwhile) = map { $_->{time} } arrivals('meanwhile');
	my ($asked, $again) = map { $_->{time} } arrivals('asked for seconds');
	my ($behind) = map { $_->{time} } arrivals('behind seconds');
	cmp_ok($behind - $asked, '>=', 1, 'Retry-After in seconds holds back the whole server');
	cmp_ok($behind - $asked, '<', 1 + $slack, '... and not for longer');
	cmp_ok($again, '>=', $behind, '... after which priority counts');
	($asked, $again) = map { $_->{time} } arrivals('asked for a date');
	($behind) = map { $_->{time} } arrivals('behind a date');
	cmp_ok($behind - $asked, '>=', 1, 'so does Retry-After with a date');
	cmp_ok($behind - $asked, '<', 4 + $slack, '... and not for longer');
	cmp_ok($meanwhile, '<', $behind, '... while the other server was called');
	is(outcome('asked for seconds'), 'succeeded, attempt 2, 0 failures, 1 errors', 'what the server defers uses up no attempt');
	is(outcome('asked for a date'), 'succeeded, attempt 2, 0 failures, 1 errors', '... with a date either');
	is(outcome('asked three times'), 'succeeded, attempt 4, 0 failures, 3 errors', '... however often it says so');
};

subtest 'a server that always asks to come back at once' => sub {
	create_server($node, 'circle', 'openai-images', $standin);
	create_server($node, 'beside', 'openai-images', $standin, %quick);
	forever('circle', 'circle', { status => 429, retry_after => '0' });
	faulty('beside', 'two seconds', [], script => { latency_ms => 2000 });
	ok(wait_state($node, $ids{'two seconds'}, 'succeeded'), 'two seconds go by');
	# two seconds may take longer on a busy machine
	my $seconds = $node->safe_psql('postgres',
		"SELECT extract(epoch FROM now() - created_at) FROM gen_jobs WHERE id = $ids{circle}");
	cmp_ok($standin->counts->{ids}{circle}{arrived}, '<', 10 * $seconds,
		'Retry-After: 0 does not make a circle of calls');
	$node->safe_psql('postgres', "SELECT genjob.cancel($ids{circle})");
};

$standin->stop;
$node->stop;
done_testing();

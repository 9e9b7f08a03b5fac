# Who listens is told of what happened, over crashes: each notice is of an end that the table has, none comes twice, and
# none is missing of the transactions that were committed while the listener was there.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $batch = 150;
my $standin = StandIn->new(latency_ms => 20);
my $conf = "restart_after_crash = on\nlog_min_messages = fatal\ngenjob.shutdown_grace = 1";
my $node = new_node(name => 'notify_crash', conf => $conf);
create_server($node, 'loud', 'http', $standin->url('/echo'),
	retry_base => '10 ms', max_in_flight => 8, notify => 'ended');

# A session that listens, and what it was told: elements id, state. It is told of what ends after SINCE.
sub new_listener
{
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $until)
	{
		my $session = eval { Session->new($node) };
		my $text = $session && eval { $session->query('LISTEN ended'); $session->query('SELECT clock_timestamp()') };
		# notices may come with the answer
		return { session => $session, since => $1, told => [ told_in($text) ] }
		  if ($text // '') =~ /^(\d{4}-\S+ \S+)$/m;
		sleep 0.05;
	}
	die 'nobody can listen';
}

# The id and state of each notice in what psql printed.
sub told_in
{
	my ($text) = @_;
	my @told;
	push @told, [ $1, $2 ] while $text =~ /payload "\{"id": (\d+), "state": "(\w+)",[^\n]*\}" received/g;
	return @told;
}

# Reads what has come; false if the session is gone, as after a crash.
sub hear
{
	my ($listener) = @_;
	my $text = eval { $listener->{session}->query('SELECT 1') };
	my $alive = defined $text && $text =~ /^1$/m;
	$text //= $listener->{session}{out};
	push @{ $listener->{told} }, told_in($text);
	return $alive;
}

# A batch of jobs.
sub order
{
	query(qq{INSERT INTO gen_jobs (server, request)
		SELECT 'loud', jsonb_build_object('n', i) FROM generate_series(1, $batch) i});
	return;
}

# Orders a batch, and ends all once half of it has been told; returns when the listener has read what was on its way.
sub end_while_telling
{
	my ($listener, $end) = @_;
	my $until = time + 60;
	order();
	while (@{ $listener->{told} } < $batch / 2 && time < $until)
	{
		hear($listener) or last;
		sleep 0.01;
	}
	cmp_ok(scalar @{ $listener->{told} }, '>=', $batch / 2, 'notices come');
	if ($end eq 'stop')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		my $pid = wait_dispatcher($node);
		kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	}
	$until = time + 60;
	sleep 0.01 while hear($listener) && time < $until;
	return;
}

# Passes if the listener was told of all that it had to be told of. ENDED: the state, the transaction and the time of
# each end by job. IS_LAST: it was there until all had ended.
sub nothing_is_missing
{
	my ($listener, $ended, $is_last) = @_;
	my %heard = map { $_->[0] => 1 } @{ $listener->{told} };
	my $since = query("SELECT extract(epoch FROM '$listener->{since}'::timestamptz)");
	# of the transaction that was told of last, a part may have been cut off
	my $last = $is_last ? '' : $ended->{ $listener->{told}[-1][0] }[1];
	my ($until) = sort { $a <=> $b } map { $_->[2] } grep { $_->[1] eq $last } values %$ended;
	my @missing =
	  grep { !$heard{$_} && $ended->{$_}[2] > $since && ($is_last || $ended->{$_}[2] < $until) } keys %$ended;
	is_deeply(\@missing, [], scalar(keys %heard) . ' notices, and none is missing');
	return;
}

subtest 'over crashes a listener is told of each end once, and of nothing that did not happen' => sub {
	my @listeners = new_listener();
	foreach my $end ('crash', 'stop', 'crash')
	{
		end_while_telling($listeners[-1], $end);
		push @listeners, new_listener();
	}
	order();
	ok(wait_all_ended($node), 'all jobs end');
	eventually('SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE follow_up IS NOT NULL)', 'nothing is left to be told');
	hear($listeners[-1]);

	my %ended = map { my ($id, @row) = split /\|/; ($id => \@row) }
	  split /\n/, query('SELECT id, state, xmin, extract(epoch FROM finished_at) FROM gen_jobs');
	is((grep { $_->[0] eq 'succeeded' } values %ended) + 0, 4 * $batch, 'every job succeeds');
	my @told = map { @{ $_->{told} } } @listeners;
	is_deeply([ grep { $ended{ $_->[0] }[0] ne $_->[1] } @told ], [], 'each notice is of an end that the table has');
	my %times;
	$times{ $_->[0] }++ foreach @told;
	is_deeply([ grep { $times{$_} > 1 } keys %times ], [], '... and none comes twice');
	nothing_is_missing($_, \%ended, $_ == $listeners[-1]) foreach @listeners;
	$listeners[-1]{session}->quit;
};

$node->stop;
$standin->stop;
done_testing();

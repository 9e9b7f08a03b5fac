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
my $jobs = 0;
my $standin = StandIn->new(latency_ms => 20);
my $node = new_node(name => 'notify_crash', conf => "restart_after_crash = on\nlog_min_messages = fatal\ngenjob.shutdown_grace = 1");
create_server($node, 'loud', 'http', $standin->url('/echo'), retry_base => '10 ms', max_in_flight => 8, notify => 'ended');

# A session that listens, and what it was told: elements id, state. since: what ends later is told to it.
sub new_listener
{
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $until)
	{
		my $session = eval { Session->new($node) };
		my $text = $session && eval { $session->query('LISTEN ended'); $session->query('SELECT clock_timestamp()') };
		# notices may come with the answer
		return { session => $session, since => $1, told => [ told_in($text) ] } if ($text // '') =~ /^(\d{4}-\S+ \S+)$/m;
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

sub order
{
	$node->safe_psql('postgres', "INSERT INTO gen_jobs (server, request) SELECT 'loud', jsonb_build_object('n', i) FROM generate_series(1, $batch) i");
	$jobs += $batch;
	return;
}

my @listeners = new_listener();
foreach my $end ('genjob dispatcher', 'stop', 'genjob dispatcher')
{
	my $listener = $listeners[-1];
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
		my $pid = dispatcher_pid($node);
		kill 'KILL', $pid;
	}
	# what was on its way still counts
	$until = time + 60;
	sleep 0.01 while hear($listener) && time < $until;
	push @listeners, new_listener();
}

order();
ok(wait_all_ended($node), 'all jobs end');
ok($node->poll_query_until('postgres', 'SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE follow_up IS NOT NULL)'), 'nothing is left to be told');
hear($listeners[-1]);

# id => state, transaction that ended it, time
my %ended = map { my ($id, @row) = split /\|/; ($id => \@row) } split /\n/,
  $node->safe_psql('postgres', 'SELECT id, state, xmin, extract(epoch FROM finished_at) FROM gen_jobs');
is((grep { $_->[0] eq 'succeeded' } values %ended) + 0, $jobs, 'every job succeeds');
my @told = map { @{ $_->{told} } } @listeners;
is_deeply([ grep { $ended{ $_->[0] }[0] ne $_->[1] } @told ], [], 'each notice is of an end that the table has');
my %times;
$times{ $_->[0] }++ foreach @told;
is_deeply([ grep { $times{$_} > 1 } keys %times ], [], '... and none comes twice');

foreach my $listener (@listeners)
{
	my %heard = map { $_->[0] => 1 } @{ $listener->{told} };
	my $since = $node->safe_psql('postgres', "SELECT extract(epoch FROM '$listener->{since}'::timestamptz)");
	my $is_last = $listener == $listeners[-1];
	# of the transaction that was told of last, a part may have been cut off
	my $last = $is_last ? '' : $ended{ $listener->{told}[-1][0] }[1];
	my ($until) = sort { $a <=> $b } map { $ended{$_}[2] } grep { $ended{$_}[1] eq $last } keys %ended;
	my @missing = grep { !$heard{$_} && $ended{$_}[2] > $since && ($is_last || $ended{$_}[2] < $until) } keys %ended;
	is_deeply(\@missing, [], scalar(keys %heard) . ' notices, and none is missing');
}

$listeners[-1]{session}->quit;
$node->stop;
$standin->stop;
done_testing();

# Nothing is paid for twice: whatever ends the dispatcher, a job whose prediction was named, or whose answer
# had come, goes on from there. Only a submission that was not answered is sent again, under its own
# Idempotency-Key, and not even that with on_unknown 'fail'.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'paid_once', conf => "restart_after_crash = on\nlog_min_messages = warning");

my %model = (replicate => 'painter', fal => 'fal-ai/painter');
my $never = { latency_ms => 600_000 };

# What a job is doing at the moment of the crash: the phase that genjob.activity shows, the stand-in's counts
# of its id then, and the script that brings it there and lets it end the second time.
my %plans = (
	unanswered => { phase => 'calling', counts => { arrived => 1 }, script => { faults => [$never] } },
	waiting => { phase => 'waiting', counts => { submitted => 1 }, script => { latency_ms => 6000 } },
	polling => { phase => 'polling', counts => { polls => 1 }, script => { latency_ms => 100, poll_faults => [$never] } },
	fetching => { phase => 'polling', counts => { results => 1 }, script => { latency_ms => 100, result_faults => [$never] } },
	stalling => {
		phase => 'downloading',
		counts => { downloads => 2 },
		script => { outputs => 2, download_faults => [ undef, $never ] }
	},
	dripping => {
		phase => 'downloading',
		counts => { downloads => 1 },
		script => { outputs => 2, download_faults => [ { drip => { bytes => 1, every_ms => 2000 } } ] }
	},
	endless => { phase => 'waiting', counts => { submitted => 1 }, script => { queue_ms => 600_000 } },
	queued => { phase => '', counts => {}, script => {} });

# How many jobs of each plan there are: what each dialect knows.
my %mix = (
	'sdcpp' => { queued => 3, unanswered => 3, waiting => 4, polling => 4 },
	'replicate' => { queued => 3, unanswered => 3, waiting => 3, polling => 3, stalling => 3, dripping => 2 },
	'fal' => { queued => 2, unanswered => 2, waiting => 3, polling => 2, fetching => 3, stalling => 2 },
	'openai-images' => { queued => 2, unanswered => 3, stalling => 3, dripping => 2 });
my %careful_mix = (
	'replicate' => { unanswered => 2, waiting => 1, polling => 1, dripping => 1 },
	'openai-images' => { unanswered => 1, stalling => 1 });

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# A request of a dialect whose outputs are files to be downloaded, where it has such.
sub request_of
{
	my ($api, $id, $script) = @_;
	return StandIn::request(
		prompt => $id,
		($api eq 'openai-images' ? (response_format => 'url', n => $script->{outputs} // 1) : ()),
		standin => { %$script, id => $id });
}

# Enqueues a mix's jobs at a new server and gives them: id, what it does, and the name the stand-in has for it.
sub enqueue_mix
{
	my ($name, $api, $mix, %options) = @_;
	my (@jobs, $active);
	$active += $mix->{$_} for grep { $_ ne 'queued' } keys %$mix;
	create_server($node, $name, $api, $standin, max_in_flight => $active, poll_interval => '300 ms',
		($model{$api} ? (model => $model{$api}) : ()), %options);
	foreach my $plan (sort keys %$mix)
	{
		foreach my $i (1 .. $mix->{$plan})
		{
			my $what = "$name $plan $i";
			push @jobs,
			  { name => $what, api => $api, server => $name, plan => $plan, careful => exists $options{on_unknown},
				request => request_of($api, $what, $plans{$plan}{script}) };
		}
	}
	return @jobs;
}

sub insert_jobs
{
	my (@jobs) = @_;
	my @rows = map {
		'(' . join(', ', literal($_->{server}), literal($_->{request}), $_->{plan} eq 'queued' ? -1 : 0) . ')'
	} @jobs;
	my @ids = split /\n/,
	  query('INSERT INTO gen_jobs (server, request, priority) VALUES ' . join(', ', @rows) . ' RETURNING id');
	$_->{id} = shift @ids for @jobs;
	return;
}

# The columns of these jobs that say whether it is the same attempt and prediction, by id; and their phases.
sub look
{
	my (@jobs) = @_;
	my $ids = join ', ', map { $_->{id} } @jobs;
	my %rows;
	foreach my $line (
		split /\n/,
		query(
			qq{SELECT j.id, j.state, j.attempt, j.failures, coalesce(j.remote_id, ''), coalesce(j.idempotency_key::text, ''),
				coalesce(a.phase, ''), coalesce(jsonb_array_length(j.errors), 0), j.started_at,
				(SELECT coalesce(string_agg(o.ordinal || ':' || (o.bytes > 0), ',' ORDER BY o.ordinal), '')
					FROM gen_outputs o WHERE o.job_id = j.id)
			FROM gen_jobs j LEFT JOIN genjob.activity a ON a.job_id = j.id AND a.attempt = j.attempt
			WHERE j.id IN ($ids)}))
	{
		my ($id, @values) = split /\|/, $line, -1;
		@{ $rows{$id} }{qw(state attempt failures remote_id key phase errors started outputs)} = @values;
	}
	return \%rows;
}

# Waits until each job does what it is to do, and gives how they are then.
sub wait_in_place
{
	my (@jobs) = @_;
	my $until = time + 5;    # the predictions that are waited for end then
	while (1)
	{
		my $rows = look(@jobs);
		my $ids = $standin->counts->{ids};
		my @astray = grep {
			my $job = $_;
			my $plan = $plans{ $job->{plan} };
			$rows->{ $job->{id} }{phase} ne $plan->{phase}
			  || grep { ($ids->{ $job->{name} }{$_} // 0) != $plan->{counts}{$_} } keys %{ $plan->{counts} };
		} @jobs;
		return $rows unless @astray;
		if (time > $until)
		{
			diag("$_->{name}: " . join ' ', map { $_ // '' } %{ $rows->{ $_->{id} } }) for @astray;
			die 'jobs are not where they should be';
		}
		sleep 0.05;
	}
}

# Whether all of the jobs meet a condition, if there are any; and which of them do not.
sub check_each
{
	my ($what, $jobs, $condition) = @_;
	return unless @$jobs;
	my @bad = grep { !$condition->($_) } @$jobs;
	ok(!@bad, $what . ' (' . @$jobs . ')')
	  or diag(join "\n", map { "not so: $_->{name}" } @bad);
	return;
}

sub is_lost { return $_[0]{plan} eq 'unanswered' }
sub must_fail { return is_lost($_[0]) && $_[0]{careful} }

# How jobs ended that were somewhere on their way when everything stopped.
sub check_ended
{
	my ($what, $before, @jobs) = @_;
	ok(wait_all_ended($node), "$what: all jobs end");
	my $after = look(@jobs);
	my $counts = $standin->counts;
	my $of = sub { my ($job, $name) = @_; return $counts->{ids}{ $job->{name} }{$name} // 0 };
	my @resumed = grep { $_->{plan} ne 'queued' && !is_lost($_) } @jobs;
	my @lost = grep { is_lost($_) && !must_fail($_) } @jobs;
	my @failed = grep { must_fail($_) } @jobs;

	check_each('... those whose answer had come succeed in the same attempt, without an error', \@resumed, sub {
		my $row = $after->{ $_[0]{id} };
		return "@$row{qw(state attempt failures errors)}" eq 'succeeded 1 0 0'
		  && $row->{started} eq $before->{ $_[0]{id} }{started};
	});
	check_each('... and were submitted once', \@resumed, sub {
		return $of->($_[0], 'arrived') == 1 && $of->($_[0], 'submitted') <= 1;
	});
	check_each('... and keep the name of their prediction', [ grep { $_->{api} ne 'openai-images' } @resumed ], sub {
		my $id = $_[0]{id};
		return $before->{$id}{remote_id} ne '' && $after->{$id}{remote_id} eq $before->{$id}{remote_id};
	});
	check_each('... those without an answer are sent once more, no failure counts', \@lost, sub {
		my $row = $after->{ $_[0]{id} };
		return "@$row{qw(state attempt failures errors)}" eq 'succeeded 2 0 1' && $of->($_[0], 'arrived') == 2;
	});
	check_each('... with the same Idempotency-Key', \@lost, sub {
		my $key = $before->{ $_[0]{id} }{key};
		return $key ne '' && ($counts->{keys}{$key}{arrived} // 0) == 2;
	});
	check_each('... those that were not sent yet are sent', [ grep { $_->{plan} eq 'queued' } @jobs ], sub {
		my $row = $after->{ $_[0]{id} };
		return "@$row{qw(state attempt failures)}" eq 'succeeded 1 0' && $of->($_[0], 'arrived') == 1;
	});
	check_each("... with on_unknown 'fail' those without an answer fail, and are not sent again", \@failed, sub {
		my $row = $after->{ $_[0]{id} };
		return "$row->{state} $row->{attempt} $row->{key}" eq "failed 1 $before->{ $_[0]{id} }{key}"
		  && $of->($_[0], 'arrived') == 1;
	});
	check_each('... every output is there once, none of a failed job', \@jobs, sub {
		my $n = $plans{ $_[0]{plan} }{script}{outputs} // 1;
		my $outputs = must_fail($_[0]) ? '' : join ',', map { "$_:true" } 1 .. $n;
		return $after->{ $_[0]{id} }{outputs} eq $outputs;
	});
	is($counts->{leaks}, 0, '... and no key went to the host of the files');
	return;
}

# Enqueues all mixes at servers of their own, lets STOP end the dispatcher when each job is in its place,
# and checks what became of them.
sub survive
{
	my ($what, $stop) = @_;
	my @jobs;
	$standin->reset;
	push @jobs, enqueue_mix("$what $_", $_, $mix{$_}) for sort keys %mix;
	push @jobs, enqueue_mix("$what careful $_", $_, $careful_mix{$_}, on_unknown => 'fail') for sort keys %careful_mix;
	insert_jobs(@jobs);
	my $before = wait_in_place(@jobs);
	$stop->();
	check_ended($what, $before, @jobs);
	return;
}

# ---- the dispatcher is killed, with which PostgreSQL starts anew; the server stops at once ----

survive('killed', sub {
	my $pid = wait_dispatcher($node);
	kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	wait_dispatcher($node, 'postgres', $pid);
});

survive('stopped', sub {
	$node->stop('immediate');
	$node->start;
	wait_dispatcher($node);
});

# ---- predictions that wait: a stop need not wait for them, the dispatcher may be ended, a user gives them up ----

# Cancels the one and deletes the other of two jobs whose predictions wait, and returns when the provider
# has ended both.
sub give_up
{
	my ($what, $cancelled, $deleted) = @_;
	is(query("SELECT genjob.cancel($cancelled->{id})"), 't', "$what: a prediction that waits is cancelled");
	query("DELETE FROM gen_jobs WHERE id = $deleted->{id}");
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	my $ended = 0;
	until ($ended == 2 || time > $until)
	{
		my $ids = $standin->counts->{ids};
		$ended = grep { ($ids->{ $_->{name} }{cancelled} // 0) == 1 } $cancelled, $deleted;
		$_->{polls} = $ids->{ $_->{name} }{polls} // 0 for $cancelled, $deleted;
		sleep 0.02;
	}
	is($ended, 2, '... the provider is told, as it is of one whose row is deleted');
	ok($node->poll_query_until('postgres',
			"SELECT state = 'cancelled' AND error ~ 'confirmed it' FROM gen_jobs WHERE id = $cancelled->{id}"),
		'... the row says that the provider confirmed it');
	return;
}

$standin->reset;
my (@jobs, %endless);
foreach my $api (qw(sdcpp replicate fal))
{
	my @new = enqueue_mix("calm $api", $api, { waiting => 4, endless => 4 });
	push @jobs, grep { $_->{plan} eq 'waiting' } @new;
	$endless{$api} = [ grep { $_->{plan} eq 'endless' } @new ];
}
my @endless = map { @$_ } values %endless;
insert_jobs(@jobs, @endless);
my $before = wait_in_place(@jobs, @endless);

give_up($_, @{ $endless{$_} }[ 0, 1 ]) for sort keys %endless;

my $pid = wait_dispatcher($node);
query("SELECT pg_terminate_backend($pid)");
wait_dispatcher($node, 'postgres', $pid);
wait_in_place(@jobs, map { @{$_}[ 2, 3 ] } values %endless);
pass('the dispatcher ended: its successor waits for the same predictions');
give_up("resumed $_", @{ $endless{$_} }[ 2, 3 ]) for sort keys %endless;

my $begun = time;
$node->stop('fast');
cmp_ok(time - $begun, '<', 5, 'a stop does not wait for predictions: it takes less than genjob.shutdown_grace (10 s)');
is(scalar(grep { $standin->counts->{ids}{ $_->{name} }{cancels} } @jobs), 0, '... nor ends them');
$node->start;
check_ended('stopped in order', $before, @jobs);
my $ids = $standin->counts->{ids};
is_deeply(
	[ map { "$ids->{$_->{name}}{arrived} $ids->{$_->{name}}{cancels} $ids->{$_->{name}}{polls}" } @endless ],
	[ map { "1 1 $_->{polls}" } @endless ],
	'those that were given up were submitted once, and not asked about any more');
is(query("SELECT count(*) FROM gen_outputs o WHERE NOT EXISTS (SELECT FROM gen_jobs j WHERE j.id = o.job_id AND j.state = 'succeeded')"),
	'0', 'no output belongs to anything but a job that succeeded');

$standin->stop;
$node->stop;
done_testing();

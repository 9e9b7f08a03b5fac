# Nothing is paid for twice: whatever ends the dispatcher, and at whichever step of a job, a job whose
# prediction was named, or whose answer was saved, goes on from there. Only a submission of which no answer
# was saved is sent again, under its own Idempotency-Key, and not even that with on_unknown 'fail'.
#
# 200 jobs are at each step when everything ends. A table that a crash empties holds them there: for as long
# as it names a step, a trigger keeps what genjob would write from being written. Predictions end when the
# test says so.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();
use Digest::SHA qw(sha256_hex);
use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest qw(!kill_dispatcher);
use Session;
use StandIn;

# sessions of the test do not wait for a standby that is not there; the dispatcher does
$ENV{PGOPTIONS} = '-c synchronous_commit=local';

my $forgetful = StandIn->new;
my $attentive = StandIn->new(idempotent => 1);    # the same Idempotency-Key is the same prediction
my $standin;                                       # the one of the subtest
my $node = new_node(
	name => 'paid_once',
	conf => <<'CONF');
restart_after_crash = on
log_min_messages = fatal
genjob.max_in_flight = 4000
wal_level = replica
max_wal_senders = 2
CONF

my %model = (replicate => 'painter', fal => 'fal-ai/painter');
my $never = { latency_ms => 600_000 };
my %long = (latency_ms => 600_000);
my %short = (latency_ms => 100);

# What a job is doing at the moment of the crash: the phase that genjob.activity shows, the stand-in's counts
# of its id then (at least), and the script that brings it there and lets it end the second time.
my %plans = (
	plain => { phase => '', script => {%short} },
	queued => { phase => '', script => {} },
	unanswered => { phase => 'calling', counts => { arrived => 1 }, script => { faults => [$never] } },
	unsaved => { phase => 'saving', counts => { answered => 1 }, script => {%short} },
	waiting => { phase => 'waiting|polling', counts => { polls => 1 }, script => {%long} },
	polling => { phase => 'polling', counts => { polls => 1 }, script => { %short, poll_faults => [$never] } },
	fetching => { phase => 'polling', counts => { results => 1 }, script => { %short, result_faults => [$never] } },
	stalling => {
		phase => 'downloading',
		counts => { downloads => 2 },
		script => { %short, outputs => 2, download_faults => [ undef, $never ] }
	},
	dripping => {
		phase => 'downloading',
		counts => { downloads => 1 },
		script => { %short, outputs => 2, download_faults => [ { drip => { bytes => 1, every_ms => 2000 } } ] }
	},
	unreported => { phase => 'saving', counts => { answered => 1 }, script => {%short} },
	told => { phase => 'saving', counts => { answered => 1 }, script => {} },
	endless => { phase => 'waiting', counts => { submitted => 1 }, script => { queue_ms => 600_000 } });

# How many jobs of each plan there are: what each dialect knows. Of calls that only ask, 64 are under way at
# a time, so those that are not answered come last.
my %mix = (
	'sdcpp' => { queued => 50, unanswered => 50, unsaved => 50, waiting => 70, unreported => 50 },
	'replicate' => {
		queued => 50, unanswered => 50, unsaved => 50, waiting => 70, stalling => 50, dripping => 25,
		unreported => 50
	},
	'fal' => { queued => 50, unanswered => 50, unsaved => 50, waiting => 60, stalling => 50, unreported => 50 },
	'openai-images' =>
	  { queued => 50, unanswered => 50, unsaved => 50, stalling => 50, dripping => 25, unreported => 50, told => 10 });
my %careful_mix = (
	'replicate' => { unanswered => 2, unsaved => 2, waiting => 2, dripping => 2, unreported => 2 },
	'openai-images' => { unanswered => 2, unsaved => 2, stalling => 2, unreported => 2 });
my %asking_mix = ('sdcpp' => { polling => 20 }, 'replicate' => { polling => 20 },
	'fal' => { polling => 12, fetching => 12 });

# ---- pictures: what each prompt and place in the answer gives ----

my $prompts = 8;
my @digests;    # by prompt and ordinal

sub prompt_of { return 'picture ' . $_[0] % $prompts }

foreach my $i (0 .. $prompts - 1)
{
	my $reply = HTTP::Tiny->new->post($forgetful->url('/v1/images/generations'),
		{ content => JSON::PP::encode_json({ prompt => prompt_of($i), n => 2 }) });
	$digests[$i] = [ undef,
		map { sha256_hex(decode_base64($_->{b64_json})) } @{ JSON::PP::decode_json($reply->{content})->{data} } ];
}

subtest 'the stand-in gives another picture for each prompt and place' => sub {
	is(scalar(keys %{ { map { $_ => 1 } map { @$_[ 1, 2 ] } @digests } }), 2 * $prompts, 'all pictures differ');
};

# ---- steps that are held ----

query(
	q{
	CREATE UNLOGGED TABLE held (step text, way text);
	GRANT SELECT ON held TO genjob_dispatcher;
	CREATE TABLE probe ();
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
	DECLARE
		way text;
	BEGIN
		LOOP
			SELECT h.way INTO way FROM public.held h WHERE h.step = TG_ARGV[0];
			IF way = 'kept' THEN
				RETURN NULL;
			ELSIF way = 'stuck' THEN
				PERFORM pg_sleep(0.01);
			ELSE
				RETURN NEW;
			END IF;
		END LOOP;
	END $$;
	CREATE TRIGGER hold_claim BEFORE UPDATE ON gen_jobs FOR EACH ROW
		WHEN (OLD.state = 'queued' AND NEW.state = 'running')
		EXECUTE FUNCTION hold('claim');
	CREATE TRIGGER hold_save BEFORE UPDATE ON gen_jobs FOR EACH ROW
		WHEN (NEW.request ->> 'plan' = 'unsaved' AND OLD.remote IS NULL AND NEW.remote IS NOT NULL)
		EXECUTE FUNCTION hold('save');
	CREATE TRIGGER hold_report BEFORE UPDATE ON gen_jobs FOR EACH ROW
		WHEN (NEW.request ->> 'plan' IN ('unreported', 'told') AND NEW.state = 'succeeded')
		EXECUTE FUNCTION hold('report')});

# What genjob writes at these steps is not written ("kept"), or its transaction does not end ("stuck").
sub hold
{
	my ($way, @steps) = @_;
	query(join ' ', 'BEGIN; DELETE FROM held;', (map { "INSERT INTO held VALUES ('$_', '$way');" } @steps), 'COMMIT');
	return;
}

# From now on a commit is on disk, but waits for a standby that is not there; returns when that is so.
sub miss_standby
{
	my $session = Session->new($node);
	$node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
	$node->reload;
	$session->send('SET synchronous_commit = on');
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	until (query("SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = " . $session->pid) eq 't')
	{
		die 'no commit waits for the standby' if time > $until;
		$session->send('INSERT INTO probe DEFAULT VALUES') if $session->has_ended;
	}
	$session->quit;
	return;
}

# ---- jobs ----

# A request of a dialect whose outputs are files to be downloaded, where it has such.
sub request_of
{
	my ($job) = @_;
	my $script = $plans{ $job->{plan} }{script};
	return StandIn::request(
		prompt => prompt_of($job->{number}),
		plan => $job->{plan},
		( $job->{api} eq 'openai-images'
			? (response_format => $job->{plan} eq 'told' ? 'b64_json' : 'url', n => $script->{outputs} // 1)
			: ()),
		standin => { %$script, id => $job->{name} });
}

# Jobs of a mix, for a new server: what each does, and the name the stand-in has for it.
sub new_jobs
{
	my ($name, $api, $mix, %options) = @_;
	my (@jobs, $active);
	$active += $mix->{$_} for grep { $_ ne 'queued' } keys %$mix;
	create_server($node, $name, $api, $standin, max_in_flight => $active, poll_interval => '700 ms',
		($model{$api} ? (model => $model{$api}) : ()), %options);
	foreach my $plan (sort keys %$mix)
	{
		push @jobs,
		  map { { name => "$name $plan $_", number => $_, api => $api, server => $name, plan => $plan,
				careful => exists $options{on_unknown} } } 1 .. $mix->{$plan};
	}
	return @jobs;
}

sub insert_jobs
{
	my (@jobs) = @_;
	my @rows = map {
		'(' . join(', ', literal($_->{server}), literal(request_of($_)), $_->{plan} eq 'queued' ? -1 : 0) . ')'
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
			qq{SELECT j.id, j.state, j.attempt, j.failures, coalesce(j.remote_id, ''),
				coalesce(j.idempotency_key::text, ''),
				coalesce(a.phase, ''), coalesce(jsonb_array_length(j.attempt_errors), 0), j.started_at,
				(SELECT coalesce(string_agg(o.ordinal || ':' || encode(o.sha256, 'hex'), ',' ORDER BY o.ordinal), '')
					FROM gen_outputs o WHERE o.job_id = j.id)
			FROM gen_jobs j LEFT JOIN genjob.activity a ON a.job_id = j.id AND a.attempt = j.attempt
			WHERE j.id IN ($ids)}))
	{
		my ($id, @values) = split /\|/, $line, -1;
		@{ $rows{$id} }{qw(state attempt failures remote_id key phase errors started outputs)} = @values;
	}
	return \%rows;
}

# Those that do not do yet what they are to do.
sub find_astray
{
	my ($rows, @jobs) = @_;
	my @astray = grep { $rows->{ $_->{id} }{phase} !~ /^(?:$plans{$_->{plan}}{phase})$/ } @jobs;
	return @astray if @astray;
	my $ids = $standin->counts->{ids};
	return grep {
		my $job = $_;
		my $least = $plans{ $job->{plan} }{counts} // {};
		grep { ($ids->{ $job->{name} }{$_} // 0) < $least->{$_} } keys %$least;
	} @jobs;
}

# Waits until each job does what it is to do, and gives how they are then.
sub wait_in_place
{
	my (@jobs) = @_;
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	while (1)
	{
		my $rows = look(@jobs);
		my @astray = find_astray($rows, @jobs) or return $rows;
		if (time > $until)
		{
			diag("$_->{name}: " . join ' ', map { $_ // '' } %{ $rows->{ $_->{id} } }) for @astray;
			die 'jobs are not where they should be';
		}
		sleep 0.1;
	}
}

# ---- the ends ----

sub kill_dispatcher
{
	my $pid = wait_dispatcher($node);
	kill 'KILL', $pid or die "could not kill the dispatcher: $!";
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->reload;
	wait_dispatcher($node, 'postgres', $pid);
	return;
}

sub stop_at_once
{
	$node->stop('immediate');
	$node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$node->start;
	wait_dispatcher($node);
	return;
}

# ---- what must be ----

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

sub is_lost { return $_[0]{plan} =~ /^(?:unanswered|unsaved|told)$/ }
sub must_fail { return is_lost($_[0]) && $_[0]{careful} }

# Whether a job has the pictures that it was to bring, each once and to the byte.
sub has_pictures
{
	my ($job, $row) = @_;
	my $n = $plans{ $job->{plan} }{script}{outputs} // 1;
	my $wanted = join ',', map { "$_:$digests[$job->{number} % $prompts][$_]" } 1 .. $n;
	return $row->{outputs} eq $wanted;
}

sub check_outputs
{
	is( query(
			q{SELECT count(*) FROM gen_outputs o LEFT JOIN gen_jobs j ON j.id = o.job_id AND j.state = 'succeeded'
			WHERE j.id IS NULL OR o.bytes <> octet_length(o.data) OR o.sha256 <> sha256(o.data)}),
		'0', '... no output belongs to anything but a job that succeeded, and each is whole');
	is($standin->counts(summary => 1)->{leaks}, 0, '... and no key went to the host of the files');
	return;
}

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

	check_each('... those whose answer was saved succeed in the same attempt, without an error', \@resumed, sub {
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
	check_each('... those of which no answer was saved are sent once more, no failure counts', \@lost, sub {
		my $row = $after->{ $_[0]{id} };
		return "@$row{qw(state attempt failures errors)}" eq 'succeeded 2 0 1' && $of->($_[0], 'arrived') == 2;
	});
	check_each('... with the same Idempotency-Key', \@lost, sub {
		my $key = $before->{ $_[0]{id} }{key};
		return $key ne '' && ($counts->{keys}{$key}{arrived} // 0) == 2;
	});
	check_each('... by which a provider knows it: there is one prediction',
		[ grep { $standin == $attentive && $_->{api} ne 'openai-images' } @lost ], sub {
		return $of->($_[0], 'submitted') == 1 && $of->($_[0], 'repeated') == 1;
	});
	check_each('... those that were not sent yet are sent', [ grep { $_->{plan} eq 'queued' } @jobs ], sub {
		my $row = $after->{ $_[0]{id} };
		return "@$row{qw(state attempt failures)}" eq 'succeeded 1 0' && $of->($_[0], 'arrived') == 1;
	});
	check_each("... with on_unknown 'fail' those of which no answer was saved fail, and are not sent again", \@failed,
		sub {
		my $row = $after->{ $_[0]{id} };
		return "$row->{state} $row->{attempt} $row->{key}" eq "failed 1 $before->{ $_[0]{id} }{key}"
		  && $of->($_[0], 'arrived') == 1;
	});
	check_each('... every output is there once, to the byte', [ grep { !must_fail($_) } @jobs ], sub {
		return has_pictures($_[0], $after->{ $_[0]{id} });
	});
	check_outputs();
	return;
}

# Enqueues all mixes at servers of their own, lets STOP end everything when each job is in its place, and
# checks what became of them.
sub survive
{
	my ($what, $stop) = @_;
	$standin->reset;
	hold('kept', 'save', 'report');
	my @jobs = map { new_jobs("$what $_", $_, $mix{$_}) } sort keys %mix;
	push @jobs, map { new_jobs("$what careful $_", $_, $careful_mix{$_}, on_unknown => 'fail') } sort keys %careful_mix;
	insert_jobs(@jobs);
	wait_in_place(@jobs);
	my @asking = map { new_jobs("$what asking $_", $_, $asking_mix{$_}) } sort keys %asking_mix;
	insert_jobs(@asking);
	my $before = wait_in_place(@jobs, @asking);
	$stop->();
	$standin->finish;
	check_ended($what, $before, @jobs, @asking);
	return;
}

# ---- the dispatcher is killed, and PostgreSQL restarts; the server stops at once ----

subtest 'nothing is paid for twice when the dispatcher is killed' => sub {
	$standin = $forgetful;
	survive('killed', \&kill_dispatcher);
};

subtest 'nothing is paid for twice when the server stops at once and the provider knows Idempotency-Keys' => sub {
	$standin = $attentive;
	survive('stopped', \&stop_at_once);
};

# ---- the same in the middle of a transaction, and in its commit ----

# Whether the dispatcher comes to wait for that, in the middle of a transaction.
sub wait_writing
{
	my ($event) = @_;
	return $node->poll_query_until('postgres',
		"SELECT wait_event = '$event' FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher'");
}

# How 200 jobs end when everything stops while genjob writes them: an open transaction is as if it had not
# been, of one that waits for a standby all is on disk. What comes of it, of those that were in it and of
# the others, is a job's attempts and how often it arrived.
sub survive_in_transaction
{
	my ($step, $plan, $is_durable, $stop, $in_it, $others) = @_;
	my $what = "$step, " . ($is_durable ? 'on disk' : 'not committed');
	$standin = $attentive->reset;
	my @jobs = map { new_jobs("$what, $_", $_, { $plan => 100 }) } qw(sdcpp replicate);
	hold($step eq 'claim' ? 'stuck' : 'kept', $step);
	insert_jobs(@jobs);
	wait_in_place(@jobs) if $step ne 'claim';
	hold('stuck', $step);
	ok(wait_writing('PgSleep'), "$what: genjob is writing");
	if ($is_durable)
	{
		miss_standby();
		hold('none');
		ok(wait_writing('SyncRep'), '... what has to wait for a standby');
	}
	$stop->();
	ok(wait_all_ended($node), '... when everything stops; all jobs end');

	my $after = look(@jobs);
	my $ids = $standin->counts->{ids};
	my %ends;
	$ends{"$after->{$_->{id}}{state} $after->{$_->{id}}{attempt} $ids->{$_->{name}}{arrived}"}++ for @jobs;
	my $n_in_it = delete $ends{"succeeded $in_it"} // 0;
	my $n_others = delete $ends{"succeeded $others"} // 0;    # none, if it is the same
	cmp_ok($n_in_it, '>', 0, '... as they must, those in the transaction');
	is($n_in_it + $n_others, 200, '... and the others')
	  or diag(explain(\%ends),
		query(q{SELECT attempt_errors -> -1 ->> 'error', count(*) FROM gen_jobs WHERE attempt > 1 GROUP BY 1}));
	check_each('... each is one prediction', \@jobs, sub { $ids->{ $_[0]{name} }{submitted} == 1 });
	check_each('... and has its picture once', \@jobs, sub { has_pictures($_[0], $after->{ $_[0]{id} }) });
	check_outputs();
	return;
}

subtest 'a claim that was not committed costs no attempt' => sub {
	survive_in_transaction('claim', 'plain', 0, \&kill_dispatcher, '1 1', '1 1');
};

subtest 'a claim that was on disk is an attempt that sent nothing' => sub {
	survive_in_transaction('claim', 'plain', 1, \&stop_at_once, '2 1', '1 1');
};

subtest 'a prediction whose name was not committed is submitted once more, and the provider knows it' => sub {
	survive_in_transaction('save', 'unsaved', 0, \&stop_at_once, '2 2', '2 2');
};

subtest 'a prediction whose name was on disk goes on from there' => sub {
	survive_in_transaction('save', 'unsaved', 1, \&kill_dispatcher, '1 1', '2 2');
};

subtest 'a result that was not committed is written again, without another call' => sub {
	survive_in_transaction('report', 'unreported', 0, \&kill_dispatcher, '1 1', '1 1');
};

subtest 'a result that was on disk is there, once' => sub {
	survive_in_transaction('report', 'unreported', 1, \&stop_at_once, '1 1', '1 1');
};

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

subtest 'predictions that wait outlast the dispatcher and a stop, and are given up when their jobs are' => sub {
	$standin = $forgetful->reset;
	hold('none');
	my (@jobs, %endless);
	foreach my $api (qw(sdcpp replicate fal))
	{
		my @new = new_jobs("calm $api", $api, { waiting => 4, endless => 4 });
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

	query(q{ALTER SYSTEM SET genjob.shutdown_grace = '60 s'; SELECT pg_reload_conf()});
	eventually(q{SELECT current_setting('genjob.shutdown_grace')::interval = '60 s'}, '... would wait for a minute');
	my $begun = time;
	$node->stop('fast');
	cmp_ok(time - $begun, '<', 50, 'a stop does not wait for predictions: it takes less than genjob.shutdown_grace');
	is(scalar(grep { $standin->counts->{ids}{ $_->{name} }{cancels} } @jobs), 0, '... nor ends them');
	$node->start;
	$standin->finish;
	check_ended('stopped in order', $before, @jobs);
	my $ids = $standin->counts->{ids};
	is_deeply(
		[ map { "$ids->{$_->{name}}{arrived} $ids->{$_->{name}}{cancels} $ids->{$_->{name}}{polls}" } @endless ],
		[ map { "1 1 $_->{polls}" } @endless ],
		'those that were given up were submitted once, and not asked about any more');
};

$_->stop foreach $forgetful, $attentive;
$node->stop;
done_testing();

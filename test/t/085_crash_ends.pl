# A thousand chained jobs with calls that write a ledger, while processes are killed and the server is stopped at every
# step: each call takes effect once, each job has one child, and no notice is given of what did not happen.

use strict;
use warnings;

use Time::HiRes qw(sleep time);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $jobs = 1000;
my $standin = StandIn->new(latency_ms => 20);
my $conf = "restart_after_crash = on\nlog_min_messages = fatal\ngenjob.shutdown_grace = 1";
my $node = new_node(name => 'crash_ends', conf => $conf);
my %server = (retry_base => '10 ms', max_in_flight => 20);

# What a query gives, of a server that may be about to crash; nothing if that is so.
sub ask
{
	my ($sql) = @_;
	# psql may end before it has read the query
	return eval { ($node->psql('postgres', $sql))[1] } // '';
}

# Returns the process id of a process of that kind once there is one; nothing if there is none within 20 s.
sub wait_pid
{
	my ($kind) = @_;
	my $until = time + 20;
	until (time > $until)
	{
		my ($pid) = split /\n/, ask("SELECT pid FROM pg_stat_activity WHERE backend_type = '$kind'");
		return $pid if defined $pid;
		sleep 0.01;
	}
	return;
}

# True once there is a dispatcher other than the process OLD.
sub wait_up
{
	my ($old) = @_;
	my $up = qq{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher' AND pid <> $old};
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	until (time > $until)
	{
		return 1 if ask($up) eq '1';
		sleep 0.05;
	}
	return 0;
}

sub ledger_size
{
	my $out = ask('SELECT count(*) FROM app.ledger');
	return $out =~ /^\d+$/ ? $out : 0;
}

# Ends all by killing a process of a kind, or by a stop and a start; passes once the server is there again.
sub end_all
{
	my ($end) = @_;
	my $old = wait_pid('genjob dispatcher');
	if ($end eq 'stop')
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		my $pid = wait_pid($end) // die "there is no $end to kill";
		kill 'KILL', $pid or die "could not kill the $end: $!";
	}
	ok(wait_up($old), "$end: the server is there again, with " . ledger_size() . ' calls made');
	return;
}

subtest 'over crashes and stops each job has its effect once, and one child' => sub {
	create_server($node, 'last', 'http', $standin->url('/echo'), %server);
	create_server($node, 'first', 'http', $standin->url('/echo'), %server,
		on_success => 'last', on_failure => 'last', notify => 'ended');
	query(
		qq{
		CREATE ROLE app LOGIN; CREATE SCHEMA app AUTHORIZATION app;
		GRANT SELECT, INSERT, UPDATE ON gen_jobs TO app; GRANT USAGE ON FOREIGN SERVER first, last TO app;
		SET ROLE app;
		CREATE TABLE app.ledger (job bigint, state text);
		CREATE FUNCTION app.note(job gen_jobs) RETURNS void LANGUAGE sql AS
			\$\$ INSERT INTO app.ledger VALUES (job.id, job.state) \$\$;
		INSERT INTO gen_jobs (server, request, on_done)
			SELECT 'first', jsonb_build_object('n', i), 'app.note' FROM generate_series(1, $jobs) i});

	# each time after some more calls have been made
	my $step = 0;
	foreach my $end ('genjob caller', 'genjob dispatcher', 'stop', 'genjob caller', 'stop', 'genjob dispatcher')
	{
		my $until = time + 20;
		$step++;
		sleep 0.02 while ledger_size() < $jobs * $step / 10 && time < $until;
		end_all($end);
	}

	ok(wait_all_ended($node), 'all jobs end');
	eventually('SELECT NOT EXISTS (SELECT FROM genjob.callbacks)', 'all calls are made');
	is( query(q{SELECT state, count(*) FROM gen_jobs WHERE depth = 0 GROUP BY 1}),
		"succeeded|$jobs", 'every job succeeded');
	is(query(q{SELECT count(*), count(DISTINCT job) FROM app.ledger}), "$jobs|$jobs", 'every call took effect, once');
	is( query(
			q{SELECT count(*), count(DISTINCT request->>'id'), bool_and(state = 'succeeded') FROM gen_jobs
			WHERE depth = 1}),
		"$jobs|$jobs|t",
		'every job has one child, which ran');
	is( query(
			q{SELECT count(*) FROM gen_jobs c JOIN gen_jobs p ON p.id = (c.request->>'id')::bigint
			WHERE c.depth = 1 AND (p.state::text <> c.request->>'state'
				OR p.finished_at <> (c.request->>'finished_at')::timestamptz)}),
		'0',
		'and tells of an end that is the one in the table');
	eventually('SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE follow_up IS NOT NULL)', 'nothing is left to follow');
};

$node->stop;
done_testing();

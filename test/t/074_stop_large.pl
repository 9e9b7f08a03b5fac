# Answers of megabytes at a stop: a spool that the next dispatcher cannot read in one turn, and answers that have not
# come whole.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $n = 24;
my $standin = StandIn->new;
my $node = new_node(name => 'stop_large', conf => "genjob.shutdown_grace = '2 s'\nlog_min_messages = warning");
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => $n);

# Tells the dispatcher to end as soon as it has made jobs of a part of the spool: it reads 5 ms of it in a turn.
sub end_while_it_reads
{
	my $pid = wait_dispatcher($node);
	query(
		qq{DO \$\$ BEGIN
			-- the dispatcher says there how much memory answers take
			WHILE (SELECT query !~ 'bodies' FROM pg_stat_activity WHERE pid = $pid) LOOP
				PERFORM pg_sleep(0.001);
				PERFORM pg_stat_clear_snapshot();
			END LOOP;
			PERFORM pg_terminate_backend($pid);
		END \$\$});
	return wait_dispatcher($node, 'postgres', $pid);
}

subtest 'stops 22: a dispatcher is stopped while it still reads the answers that the last one left' => sub {
	my $session = Session->new($node);
	$standin->reset;
	query(
		qq{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', jsonb_build_object('prompt', 'job ' || i, 'standin', jsonb_build_object('id', 'job ' || i,
			'faults', '[{"latency_ms": 1000, "huge": 4000000}]'::jsonb)) FROM generate_series(1, $n) i});
	$standin->wait_for(sub { $_[0]{in_flight} == $n });
	kill 'STOP', $standin->pid;
	$session->query("BEGIN; SELECT count(*) FROM (SELECT FROM gen_jobs FOR UPDATE) r; PREPARE TRANSACTION 'locks'");
	kill 'CONT', $standin->pid;
	$standin->wait_for(sub { $_[0]{answered} >= $n });
	$session->quit;
	$node->restart;
	end_while_it_reads() for 1 .. 5;
	query("COMMIT PREPARED 'locks'");
	ok(wait_all_ended($node), 'all jobs end');
	is(query('SELECT state, count(*), max(attempt), max(losses) FROM gen_jobs GROUP BY 1'), "succeeded|$n|1|0",
		'... well, in their first attempt');
	my @arrived = map { $_->{arrived} } values %{ $standin->counts->{ids} };
	is_deeply(\@arrived, [ (1) x $n ], '... none is paid for again');
	query('DELETE FROM gen_jobs');
};

subtest 'a stop says which calls it cuts' => sub {
	$standin->reset;
	my $offset = -s $node->logfile;
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'cut', faults => [ { stall => 'body' } ]));
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	$node->restart;
	like(
		substr(slurp_file($node->logfile), $offset),
		qr/genjob cuts the call of 1 job, because the dispatcher must end: $id\n/,
		'the log names the job');
	ok(wait_state($node, $id, 'succeeded'), 'it is sent again');
};

$standin->stop;
$node->stop;
done_testing();

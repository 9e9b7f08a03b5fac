# The one door for every way that a job's row becomes final: whoever waits for the job is woken then, and not before.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'ends', conf => "log_min_messages = debug1");
create_server($node, 'quick', 'openai-images', $standin, retry_base => '10 ms', retry_max => '20 ms');
create_server($node, 'paused', 'openai-images', $standin, paused => 'on');

# The ends of a job that passed the door, as the log has them.
sub ends
{
	my ($id) = @_;
	return join ', ', slurp_file($node->logfile) =~ /genjob: job $id of server "\w+" ends: (\w+ -> \w+)/g;
}

subtest 'what the dispatcher ends' => sub {
	my $good = enqueue($node, 'quick', { prompt => 'good' });
	my $bad = enqueue_named($node, 'quick', 'bad', { faults => [ { status => 400 } ] });
	my $again = enqueue_named($node, 'quick', 'again', { faults => [ { status => 503 }, { status => 503 } ] });
	my $late = enqueue($node, 'paused', { prompt => 'late' }, expires_at => '2000-01-01');

	ok(wait_state($node, $good, 'succeeded'));
	ok(wait_state($node, $bad, 'failed'));
	ok(wait_state($node, $again, 'succeeded'));
	ok(wait_state($node, $late, 'failed'));
	is(ends($good), 'running -> succeeded', 'a success');
	is(ends($bad), 'running -> failed', 'a failure');
	is(ends($again), 'running -> succeeded', 'one end of a job that was queued again twice');
	is(ends($late), 'queued -> failed', 'a job that expired');
};

subtest 'what can never run' => sub {
	create_server($node, 'doomed', 'openai-images', $standin, paused => 'on');
	my $id = enqueue($node, 'doomed', { prompt => 'doomed' });

	query('DROP SERVER doomed CASCADE');
	ok(wait_state($node, $id, 'failed'));
	is(ends($id), 'queued -> failed');
};

subtest 'what sessions end' => sub {
	my ($cancelled, $stopped, $deleted, $rolled_back) =
	  map { enqueue($node, 'paused', { prompt => $_ }) } qw(cancelled stopped deleted back);
	my $ended = enqueue($node, 'quick', { prompt => 'ended' });

	query("SELECT genjob.cancel($cancelled)");
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE id = $stopped");
	query("DELETE FROM gen_jobs WHERE id = $deleted");
	is(ends($cancelled), 'queued -> cancelled', 'genjob.cancel()');
	is(ends($stopped), 'queued -> cancelled', 'an UPDATE');
	is(ends($deleted), 'queued -> gone', 'a DELETE');

	query("UPDATE gen_jobs SET error = 'of no use' WHERE id = $stopped");
	query("SELECT genjob.retry($cancelled)");
	is(ends($cancelled), 'queued -> cancelled', 'a retry is no end');
	is(ends($stopped), 'queued -> cancelled', 'nor is a change of what has ended');
	ok(wait_state($node, $ended, 'succeeded'));
	query("DELETE FROM gen_jobs WHERE id = $ended");
	is(ends($ended), 'running -> succeeded', 'nor a DELETE of it');
};

subtest 'a running job that is cancelled' => sub {
	my $id = enqueue_named($node, 'quick', 'slow', { latency_ms => 60000 });

	ok(wait_state($node, $id, 'running'));
	query("SELECT genjob.cancel($id)");
	is(ends($id), 'running -> cancelled');
};

subtest 'who waits sleeps on when the job is queued again' => sub {
	my $id = enqueue_named($node, 'quick', 'deferred',
		{ faults => [ { status => 429, retry_after => '1' }, { status => 400 } ] });
	my $session = Session->new($node);

	$session->send("SELECT state FROM genjob.wait($id)");
	ok(wait_state($node, $id, 'queued'));
	is($session->answer, 'failed', 'and is woken by the end');
	is(ends($id), 'running -> failed', 'which is the only one');
	$session->quit;
};

subtest "a trigger of the table's owner that fires later ends the job" => sub {
	my $id = enqueue($node, 'paused', { prompt => 'vetoed' });
	my $session = Session->new($node);

	query(q{
		CREATE FUNCTION give_up() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN NEW.state := 'cancelled'; NEW.finished_at := now(); RETURN NEW; END $$;
		CREATE TRIGGER later BEFORE UPDATE ON gen_jobs FOR EACH ROW WHEN (NEW.priority = 77)
			EXECUTE FUNCTION give_up()});
	$session->send("SELECT state FROM genjob.wait($id)");
	query("UPDATE gen_jobs SET priority = 77 WHERE id = $id");
	is($session->answer, 'cancelled', 'who waits is woken');
	$session->quit;
	query('DROP TRIGGER later ON gen_jobs');
};

$node->stop;
done_testing();

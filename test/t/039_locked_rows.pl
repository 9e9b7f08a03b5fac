# If another session has locked a row, claiming or reporting jobs of the common kind together fails
# (src/queue/direct.c), and the dispatcher does not try it again for a while. No job suffers: claims and reports of
# others go on, round after round, and the job itself is done once the lock is gone, and paid once.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $node = new_node(conf => "autovacuum = off\nsynchronous_commit = off");
my $standin = StandIn->new;
my $session = Session->new($node);

create_server($node, $_, 'http', $standin, path => '/echo', max_in_flight => 50) foreach qw(claimed reported);

sub insert
{
	my ($server, $n, $script) = @_;
	my $request = literal(StandIn::request(prompt => 'a', standin => $script // {}));
	return split /\n/, query("INSERT INTO gen_jobs (server, request) SELECT '$server', $request FROM generate_series(1, $n) RETURNING id");
}

sub all_have_ended
{
	my ($what, @ids) = @_;
	my $list = join ',', @ids;
	eventually('SELECT count(*) = ' . @ids . " FROM gen_jobs WHERE id IN ($list) AND state = 'succeeded' AND attempt = 1", $what)
	  or diag(query("SELECT id, state, attempt, error, attempt_errors FROM gen_jobs WHERE id IN ($list) AND state <> 'succeeded'"));
	return;
}

sub lock_row
{
	my ($id) = @_;
	is($session->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $id FOR UPDATE"), $id, "row $id is locked");
	return;
}


foreach my $round (1 .. 3)
{
	subtest "round $round: a row that is to be claimed" => sub {
		query("SELECT genjob.pause('claimed')");
		my @ids = insert('claimed', 20);
		my $locked = splice @ids, 7, 1;
		lock_row($locked);
		query("SELECT genjob.resume('claimed')");
		all_have_ended('those around it are run', @ids);
		# while none is tried
		all_have_ended('so are those that come then', insert('claimed', 10), insert('reported', 10));
		is(query("SELECT state, attempt FROM gen_jobs WHERE id = $locked"), 'queued|0', 'it waits');
		$session->query('COMMIT');
		all_have_ended('when the lock is gone, it is run', $locked);
	};

	subtest "round $round: a row whose answer has come" => sub {
		kill 'STOP', $standin->pid;
		my @ids = insert('reported', 20);
		eventually("SELECT count(*) = 20 FROM gen_jobs WHERE id IN (" . join(',', @ids) . ") AND state = 'running'", 'all are sent');
		my $locked = splice @ids, 7, 1;
		lock_row($locked);
		kill 'CONT', $standin->pid;
		all_have_ended('the answers around it are written', @ids);
		all_have_ended('so are those that come then', insert('reported', 10), insert('claimed', 10));
		is(query("SELECT state, attempt FROM gen_jobs WHERE id = $locked"), 'running|1', 'it waits');
		$session->query('COMMIT');
		all_have_ended('when the lock is gone, its answer is written', $locked);
	};
}

my $counts = $standin->counts(summary => 1);
is("$counts->{max_per_key} $counts->{total} $counts->{aborted}", '1 240 0', 'each job was sent once, and each answer taken');
is(query("SELECT last_error FROM genjob.workers WHERE last_error IS NOT NULL"), '', 'nobody is told of any trouble');

$session->quit;
$node->stop;
done_testing();

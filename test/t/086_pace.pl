# Predictions are asked about when they are likely to have ended: by what they lately took, also after slower ones.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;

sub order
{
	my ($server, $n, $ms) = @_;
	my $request = literal(StandIn::request(prompt => 'x', latency_ms => $ms));
	query("INSERT INTO gen_jobs (server, request) SELECT '$server', $request FROM generate_series(1, $n)");
	ok(wait_all_ended($node), "$n predictions of $ms ms end");
	return;
}

subtest 'slow predictions, and quick ones after them' => sub {
	query('DELETE FROM gen_jobs');
	$standin->reset;
	create_server($node, 'paced', 'replicate', $standin, model => 'm', poll_interval => '50 ms', max_in_flight => 20);
	order('paced', 40, 3000);
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded'}), 40, 'with success');
	my $polls = $standin->counts(summary => 1)->{polls};
	cmp_ok($polls, '<', 40 * 20, "... after few questions ($polls)");
	query('DELETE FROM gen_jobs');

	# what else the machine has to do must not decide: a server that had no slow ones takes its time, too
	create_server($node, 'fresh', 'replicate', $standin, model => 'm', poll_interval => '50 ms', max_in_flight => 20);
	order($_, 300, 200) foreach qw(paced fresh);
	my ($last, $fresh) = map {
		query(qq{SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY finished_at - started_at))
			FROM (SELECT * FROM gen_jobs WHERE server = '$_' ORDER BY started_at DESC LIMIT 100) j})
	} qw(paced fresh);
	cmp_ok($last, '<', 3 * $fresh > 1.2 ? 3 * $fresh : 1.2,
		"quick ones that follow slow ones are soon asked about in time ($last s, others $fresh s)");
};

subtest 'a server that answers questions badly' => sub {
	# it is asked less of at a time; none of its predictions is lost
	create_server($node, 'shy', 'replicate', $standin, model => 'm', poll_interval => '50 ms', max_in_flight => 50);
	my @faults = ({ status => 500 }, { cut => "accept" });
	my $request = literal(StandIn::request(prompt => 'y', latency_ms => 200, poll_faults => \@faults));
	query("INSERT INTO gen_jobs (server, request) SELECT 'shy', $request FROM generate_series(1, 50)");
	ok(wait_all_ended($node), 'refused questions are asked again');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'shy' AND state = 'succeeded' AND attempt = 1}), 50, '... and nothing else');
};

$standin->stop;
$node->stop;
done_testing();

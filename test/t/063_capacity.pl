# max_in_flight 'auto': how many calls at a time a server can do is found by watching it, and followed.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

# A second of back-off is a tenth of one
my $node = new_node(conf => "genjob.debug_clock_speed = 10\nsynchronous_commit = off\ngenjob.max_in_flight = 200");

# The limit that is found stays within 20 % of CAPACITY, or within one of a small one: seen so in most of 20
# looks, calls apart
sub settles
{
	my ($server, $standin, $capacity, $what) = @_;
	my $off = $capacity < 5 ? 1 : 0.2 * $capacity;
	my @seen;

	for my $look (1 .. 1500)
	{
		my $total = $standin->counts(summary => 1)->{total};
		push @seen, query("SELECT coalesce(allowed, 0) FROM genjob.servers WHERE server = '$server'");
		shift @seen if @seen > 20;
		if (@seen == 20 && 17 <= grep { abs($_ - $capacity) <= $off } @seen)
		{
			pass($what);
			return;
		}
		$standin->wait_for(sub { $_[0]{total} > $total + 8 });
	}
	fail($what);
	diag("last seen: @seen");
	return;
}

foreach my $refuse (0, 1)
{
	my $server = $refuse ? 'refusing' : 'queueing';
	subtest "a $server server" => sub {
		my $standin = StandIn->new(latency_ms => 30);

		$standin->capacity(12, refuse => $refuse);
		create_server($node, $server, 'openai-images', $standin, max_in_flight => 'auto');
		query(qq{INSERT INTO gen_jobs (server, request) SELECT '$server', '{"prompt": "a", "size": "8x8"}' FROM generate_series(1, 50000)});
		settles($server, $standin, 12, "auto finds that a $server server does 12 at a time");
		$standin->capacity(4, refuse => $refuse);
		settles($server, $standin, 4, '... and that it does 4');
		$standin->capacity(12, refuse => $refuse);
		settles($server, $standin, 12, '... and 12 again');
		is(query("SELECT sum(failures) FROM gen_jobs WHERE server = '$server'"), 0, '... and no attempt is used up');
		is(query("SELECT allowed = max_in_flight FROM genjob.servers JOIN genjob.backends USING (server) WHERE server = '$server'"), 't', '... as genjob.backends says, too');
		query("SELECT genjob.pause('$server')");
		$standin->wait_for(sub { $_[0]{in_flight} == 0 });
		$standin->stop;
	};
}

$node->stop('immediate');
done_testing();

# Thousands of servers with the option retention hold nobody up: neither when a dispatcher starts, nor when a server of
# anybody changes and they are read again. Each keeps jobs for as long as its own option says.

use strict;
use warnings;

use Test::More;

use GenJobTest;
use StandIn;

my $n = 4000;
my $standin = StandIn->new;
my $node = new_node(name => 'many', conf => "log_min_messages = debug1\nsynchronous_commit = off");

create_server($node, 'brief', 'openai-images', $standin, max_in_flight => 1);
query(qq{DO \$\$ BEGIN FOR i IN 1 .. $n LOOP
	EXECUTE format(\$f\$CREATE SERVER kept_%s FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images',
		url 'http://127.0.0.1:1', retention '30 days', retention_failed '60 days')\$f\$, i);
	END LOOP; END \$\$});

# Also while they are read for the first time, if this is the first job.
sub run_beside
{
	my ($what) = @_;
	my $id = enqueue($node, 'brief', { prompt => $what });
	return ok(wait_state($node, $id, 'succeeded'), "a job is run: $what");
}

subtest 'jobs are run while all servers are read again, and each server keeps jobs for its own time' => sub {
	create_server($node, 'soon', 'openai-images', $standin, retention => '1 s');
	run_beside('before a server changes');
	my $offset = -s $node->logfile;
	query(q{ALTER SERVER kept_7 OPTIONS (SET retention '1 s')});
	my $id = enqueue($node, 'soon', { prompt => 'deleted soon' });
	my $other = enqueue($node, 'brief', { prompt => 'stays' });
	eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $id)",
		'a job of a server with the option is deleted after its time');
	is(query("SELECT state FROM gen_jobs WHERE id = $other"), 'succeeded', '... and of a server without it no job');
	no_turn_is_long($node, $offset, "$n servers are read again");
};

subtest 'a server that gets the option again deletes what ended meanwhile' => sub {
	create_server($node, 'again', 'openai-images', $standin, retention => '1 s');
	run_beside('beside a server with the option');
	query(q{ALTER SERVER again OPTIONS (DROP retention)});
	my $id = enqueue($node, 'again', { prompt => 'stays, too' });
	ok(wait_state($node, $id, 'succeeded'), 'a server loses the option');
	query(q{ALTER SERVER again OPTIONS (ADD retention '1 s')});
	eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $id)",
		'... and gets it again: what ended meanwhile is deleted');
};

$node->stop;
done_testing();

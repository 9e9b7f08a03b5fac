# Servers that answer what hardly any server does, at each step of a job's life.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;

my $odd = PythonServer->new('odd.py');
plan skip_all => 'not installed: ' . $odd->missing if $odd->missing;
my $node = new_node(conf => "autovacuum = off\nlog_min_messages = debug1");

subtest 'wires 81: an answer about the progress comes while the answer of the job is being saved' => sub {
	my $log_begin = -s $node->logfile;

	create_server($node, 'shown', 'http', $odd->url, path => '/link/1', output => '/data/*', encoding => 'url', auth => 'none',
		progress => 'GET /progress/2#/progress', max_in_flight => 1, poll_interval => '500 ms');
	my $id = enqueue($node, 'shown', '{}');
	eventually("SELECT state = 'running' FROM gen_jobs WHERE id = $id", 'a job is at its server');
	my $session = $node->background_psql('postgres');
	$session->query_safe("BEGIN; SELECT id FROM gen_jobs WHERE id = $id FOR UPDATE");
	ok(poll_until(sub { slurp_file($node->logfile, $log_begin) =~ /job $id attempt 1: calling submit -> saving/ }), 'its answer has come, and cannot be saved yet');
	is($odd->asked('/progress'), 1, '... while the server is asked how far it is');
	# its answer would come within a second
	sleep 2;
	$session->query_safe('COMMIT');
	$session->quit;
	ok(wait_state($node, $id, 'succeeded'), 'then the job goes on');
	is($odd->asked('/link'), 1, '... and was paid for once');
	unlike(slurp_file($node->logfile, $log_begin), qr/terminated by signal/, '... and no process has crashed');
};

$node->stop;
done_testing();

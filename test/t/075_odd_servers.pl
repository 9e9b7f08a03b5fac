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

subtest 'wires 82: a store refuses with more than anybody wants to read' => sub {
	create_server($node, 'plain', 'http', $odd->url, path => '/picture', auth => 'none', links_as => 'bytes', max_attempts => 1);
	foreach my $kind (qw(dense long))
	{
		my $log_begin = -s $node->logfile;

		create_store($node, $kind, $odd, bucket => $kind);
		my $id = enqueue($node, 'plain', { a => { '$url' => "s3://$kind/a" } });
		ok(poll_until(sub { $odd->asked("GET /$kind/a") > 0 }), "a request refers to an object of a store that is $kind");
		eventually("SELECT state = 'queued' AND error LIKE '%could not be fetched%' FROM gen_jobs WHERE id = $id", '... which refuses');
		no_turn_is_long($node, $log_begin, $kind);
		query("SELECT genjob.cancel($id)");
	}
};

subtest 'wires 83: a store forgets each upload that it has begun' => sub {
	create_store($node, 'forgetful', $odd, bucket => 'forgetful');
	create_server($node, 'large', 'http', $odd->url, path => '/large/9000000', auth => 'none', store => 'forgetful');
	my $id = enqueue($node, 'large', '{}');
	ok(poll_until(sub { $odd->asked('POST /forgetful.*uploads=') > 1 }), 'an upload begins again');
	eventually("SELECT remote IS NOT NULL FROM gen_jobs WHERE id = $id", 'the output is kept');
	sleep 3;
	my $n = $odd->asked('POST /forgetful.*uploads=');
	cmp_ok($n, '<', 8, 'it does not begin again all the time');
	is($odd->asked('POST /large'), 1, 'it was paid for once');
	query("SELECT genjob.cancel($id)");

	create_server($node, 'poured', 'http', $odd->url, path => '/link/0/large/150000000', output => '/data/*', encoding => 'url',
		auth => 'none', store => 'forgetful');
	my $poured = enqueue($node, 'poured', '{}');
	ok(poll_until(sub { $odd->asked('POST /forgetful/poured.*uploads=') > 1 }), 'so it is with an output that goes there while it arrives');
	sleep 3;
	cmp_ok($odd->asked('GET /large'), '<', 8, 'it is not downloaded again all the time');
	is($odd->asked('POST /link/0/large'), 1, 'it was paid for once');
	query("SELECT genjob.cancel($poured)");
};

subtest 'wires 84: a server goes over to another protocol' => sub {
	my $words = 'is not HTTP: it switched to another protocol \(HTTP 101\)';

	create_server($node, 'switches', 'http', $odd->url, path => '/switching', auth => 'none');
	like(run_to_end($node, 'switches', '{}')->{error}, qr/^what server "switches" answered $words/, 'instead of an answer');
	create_server($node, 'polled', 'http', $odd->url, path => '/named', auth => 'none', reply => 'poll', remote_id => '/id',
		poll => 'GET /switching', state => '/state', states => 'ok=done', output => '/data/*', timeout => '2 s', poll_interval => '500 ms');
	like(run_to_end($node, 'polled', '{}')->{error}, qr/The last poll failed: what server "polled" answered $words/, '... to a poll');
	create_server($node, 'linked', 'http', $odd->url, path => '/link/0/switching', output => '/data/*', encoding => 'url', auth => 'none');
	like(run_to_end($node, 'linked', '{}')->{error}, qr/$words/, '... to a download');
};

subtest 'wires 85: a large file is cut at the same place each time' => sub {
	my $store = PythonServer->new('fakestore.py');

	create_store($node, 'patient', $store, bucket => 'patient');
	create_server($node, 'cut', 'http', $odd->url, path => '/link/0/cut', output => '/data/*', encoding => 'url', auth => 'none',
		store => 'patient', timeout => '3 s');
	my $id = enqueue($node, 'cut', '{}');
	ok(wait_state($node, $id, 'failed'), 'it is not downloaded for ever');
	like(job($node, $id)->{error}, qr/ended before the answer was complete/, '... and the job says why');
	is($odd->asked('POST /link/0/cut'), 1, '... and was paid for once');
};

$node->stop;
done_testing();

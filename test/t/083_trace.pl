# What the log says at DEBUG1 of a job, from its INSERT to its end: in the order in which it happened, with what was
# decided and why, and without a secret or anything that a request or an answer contains.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node(conf => 'log_min_messages = debug1');
my $key = 'sk-secret-of-the-trace';
my $standin = StandIn->new(api_key => $key);

# Lines about a job, without what differs from run to run
sub trace_of
{
	my ($id) = @_;
	my @lines = slurp_file($node->logfile) =~ /DEBUG: +job $id (.*)/g;
	s/\d+ ms/N ms/, s/\d+ bytes/N bytes/, s/127\.0\.0\.1:\d+/HOST/ for @lines;
	return join("\n", @lines);
}

# Holds the lines of a job against patterns, each of which must match a line behind that of the one before
sub follows
{
	my ($trace, $what, @patterns) = @_;
	my $behind = 0;
	foreach my $pattern (@patterns)
	{
		pos($trace) = $behind;
		if ($trace !~ /\G(?s:.*?)^$pattern$/mg)
		{
			fail("$what: $pattern");
			diag($trace);
			return;
		}
		$behind = pos($trace);
	}
	return pass($what);
}

create_server($node, 'replicate', 'replicate', $standin, api_key => $key, poll_interval => '100 ms');
create_server($node, 'painter', 'openai-images', $standin, api_key => $key, retry_base => '10 ms', retry_max => '20 ms');

subtest 'a prediction' => sub {
	my $id = enqueue($node, 'replicate',
		StandIn::request(version => 'v', input => { prompt => 'a whispered prompt' }, standin => { id => 'followed', latency_ms => 300 }));
	ok(wait_state($node, $id, 'succeeded'), 'it succeeds');
	my $remote = $node->safe_psql('postgres', "SELECT remote_id FROM gen_jobs WHERE id = $id");
	follows(trace_of($id), 'it can be followed from its claim to its end',
		'attempt 1: claimed, server "replicate"',
		'attempt 1: submit calls POST http://HOST/\S+',
		'attempt 1: claimed submit -> calling submit',
		'attempt 1: submit answered, status 201, N bytes',
		'attempt 1: verdict wait',
		qq(attempt 1: calling submit -> saving submit, named "\Q$remote\E"),
		'attempt 1: saving submit -> waiting poll',
		'attempt 1: poll in N ms',
		'attempt 1: poll calls GET http://HOST/\S+',
		'attempt 1: waiting poll -> calling poll',
		'attempt 1: poll answered, status 200, N bytes',
		'attempt 1: verdict fetch',
		'attempt 1: download calls GET http://\S+',
		'attempt 1: calling poll -> calling download',
		'attempt 1: download answered, status 200, N bytes',
		'attempt 1: verdict done',
		'attempt 1: becomes succeeded',
		'attempt 1: calling download -> reporting download',
		'attempt 1: written, succeeded');
};

subtest 'a job that is tried again' => sub {
	my $id = enqueue($node, 'painter',
		StandIn::request(prompt => 'a whispered prompt', standin => { id => 'again', faults => [ { status => 500, body => '{"error": {"message": "a whispered answer"}}' } ] }));
	ok(wait_state($node, $id, 'succeeded'), 'it succeeds');
	follows(trace_of($id), 'the log says why, and when',
		'attempt 1: submit answered, status 500, N bytes',
		'attempt 1: verdict retry: \S.*500.*',
		'attempt 1: tried again in N ms, failures: 1: \S.*500.*',
		'attempt 1: written, queued',
		'attempt 2: claimed, server "painter"',
		'attempt 2: verdict done',
		'attempt 2: written, succeeded');
};

subtest 'a job that is cancelled' => sub {
	my $id = enqueue($node, 'replicate',
		StandIn::request(version => 'v', input => { prompt => 'a whispered prompt' }, standin => { id => 'cancelled', outcome => 'never' }));
	ok($node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id"), 'it is named');
	$node->safe_psql('postgres', "SELECT genjob.cancel($id)");
	ok($node->poll_query_until('postgres', "SELECT remote IS NULL FROM gen_jobs WHERE id = $id"), 'the provider is told');
	follows(trace_of($id), 'the log says so',
		'attempt 1: \w+ poll -> cancelling cancel',
		'attempt 1: cancel calls POST http://HOST/\S+',
		'attempt 1: cancel answered, status 200, N bytes',
		'attempt 1: cancelling cancel -> saving cancel, .*');
};

subtest 'a server that asks to wait' => sub {
	my $id = enqueue($node, 'painter',
		StandIn::request(prompt => 'a whispered prompt', standin => { id => 'held', faults => [ { status => 429, headers => { 'Retry-After' => '1' } } ] }));
	ok(wait_state($node, $id, 'succeeded'), 'its job succeeds');
	my $log = slurp_file($node->logfile);
	like($log, qr/DEBUG: +address http\S+: (held for \d+ ms|breaker opens, next call in \d+ ms)/, 'the log says how long');
	like($log, qr/DEBUG: +looks at the tables: a commit reported jobs/, '... and why the dispatcher looks at the tables');
};

my $log = slurp_file($node->logfile);
unlike($log, qr/\Q$key\E/, 'no secret stands in the log');
unlike($log, qr/DEBUG.*whispered/, '... nor anything of a request or of an answer');

$node->append_conf('postgresql.conf', 'log_min_messages = warning');
$node->reload;
my $logged = -s $node->logfile;
my $silent = enqueue($node, 'painter', StandIn::request(prompt => 'a', standin => { id => 'silent' }));
ok(wait_state($node, $silent, 'succeeded'), 'without DEBUG1 a job succeeds');
unlike(substr(slurp_file($node->logfile), $logged), qr/job $silent /, '... and nothing is said of it');

$standin->stop;
$node->stop;
done_testing();

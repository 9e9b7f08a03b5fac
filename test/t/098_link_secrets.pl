# Links in a request are secrets: a server that repeats them, at once or each time it is asked, reveals neither their
# signatures nor the session token of the store.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node();
my %keys = (access_key_id => 'AKIDOFTHESTORE', secret_access_key => 'secret-of-the-store',
	session_token => 'FwoGZXIvYXdz//tok+en==');

# nothing is asked of the store: links are made without a call
create_store($node, 'pictures', $standin, bucket => 'pictures', mapping => \%keys);
create_server($node, 'echo', 'http', $standin, path => '/echo');
create_server($node, 'predicts', 'replicate', $standin, model => 'o/n', poll_interval => '50 ms');

# What a job's row must not have, and the words that show that the link itself was repeated.
sub is_masked
{
	my ($id, $what) = @_;
	my $row = query("SELECT j::text FROM gen_jobs AS j WHERE id = $id");
	ok($row =~ /X-Amz-Expires=\d+/, "$what repeats the link");
	ok($row !~ /Signature=[0-9a-f]{64}/, '... without its signature');
	ok($row !~ /FwoGZXIvYXdz|tok%2Ben/, '... and without the session token');
	return;
}

sub link_to { return { '$url' => "s3://pictures/$_[0].png" } }

subtest 'an answer that comes at once' => sub {
	my $job = run_to_end($node, 'echo', { image => link_to('at once'), more => [ (link_to('twice')) x 2 ] });
	is($job->{state}, 'succeeded', 'it is sent');
	is_masked($job->{id}, 'an echo');
};

subtest 'a refusal' => sub {
	my $job = run_to_end($node, 'echo', { image => link_to('refused'),
		standin => { faults => [ { status => 400 } ] } });
	is($job->{state}, 'failed', 'it is refused');
	unlike(query("SELECT j::text FROM gen_jobs AS j WHERE id = $job->{id}"), qr/FwoGZX|Signature=[0-9a-f]{64}/,
		'... without a secret');
};

subtest 'a large request, which another process builds' => sub {
	my $job = run_to_end($node, 'echo', { image => link_to('large'), pad => [ (join(' ', 1 .. 1000)) x 800 ] });
	is($job->{state}, 'succeeded', 'it is sent');
	is_masked($job->{id}, 'an echo of 3 MB');
};

subtest 'each answer about a prediction' => sub {
	my $job = run_to_end($node, 'predicts', { prompt => 'polled', image => link_to('polled'),
		standin => { latency_ms => 300 } });
	is($job->{state}, 'succeeded', 'it is polled');
	is_masked($job->{id}, 'the prediction');
};

subtest 'a prediction that fails' => sub {
	my $job = run_to_end($node, 'predicts', { prompt => 'fails', image => link_to('fails'),
		standin => { latency_ms => 300, outcome => 'fail' } });
	is($job->{state}, 'failed', 'it fails');
	is_masked($job->{id}, 'the prediction');
};

unlike(slurp_file($node->logfile), qr/X-Amz-Signature=[0-9a-f]{64}|secret-of-the-store'?\)? *$/m,
	'the log has no link either');

$node->stop;
done_testing();

# Answers that take long to read come to calls that are no submissions: polls, cancels, lookups, questions about
# progress, downloads, deliveries, and calls to an object store. And headers as hardly any server writes them.

use strict;
use warnings;

use Compress::Zlib qw(memGzip);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;

my $odd = PythonServer->new('odd.py');
plan skip_all => 'not installed: ' . $odd->missing if $odd->missing;
my $node = new_node(conf => "autovacuum = off\nlog_min_messages = debug1");
my %keys = (access_key_id => 'id-of-a-key', secret_access_key => 'a-very-secret-key');
my $n = 0;

# A server that names a prediction; the options say what becomes of it.
sub predictions
{
	my (%more) = @_;
	my $name = 'predictions' . ++$n;
	create_server($node, $name, 'http', $odd->url, path => '/named', auth => 'none', reply => 'poll',
		remote_id => '/id', poll => 'GET /named', state => '/state', states => 'ok=done', output => '/data/*',
		timeout => '5 s', poll_interval => '200 ms', %more);
	return $name;
}

# A job of an object store.
sub ask_store
{
	my ($path, $request) = @_;
	my $name = 'store' . ++$n;
	create_server($node, $name, 's3', $odd->url . $path, bucket => "box$n", max_attempts => 1, mapping => \%keys);
	return enqueue($node, $name, $request);
}

# The steps, each with what makes the server give an answer (a path) there.
my %steps = (
	poll => sub { my ($path) = @_; enqueue($node, predictions(poll => "GET $path"), '{}') },
	cancel => sub {
		my ($path) = @_;
		my $id = enqueue($node, predictions(cancel => "POST $path"), '{}');
		eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id", 'a prediction is named');
		query("SELECT genjob.cancel($id)");
		return $id;
	},
	lookup => sub {
		my ($path) = @_;
		enqueue($node, predictions(path => '/raw/48', lookup => "GET $path#/*/id", remote_id => '=/prompt_id'), '{}');
	},
	progress => sub {
		my ($path) = @_;
		my $name = 'progress' . ++$n;
		create_server($node, $name, 'http', $odd->url, path => '/link/2', output => '/data/*', encoding => 'url',
			auth => 'none', progress => "GET $path#/progress", max_in_flight => 1, poll_interval => '200 ms');
		return enqueue($node, $name, '{}');
	},
	download => sub {
		my ($path) = @_;
		my $name = 'linked' . ++$n;
		create_server($node, $name, 'http', $odd->url, path => "/link/0$path", output => '/data/*', encoding => 'url',
			auth => 'bearer', timeout => '5 s', max_attempts => 1);
		return enqueue($node, $name, '{}');
	},
	delivery => sub {
		my ($path) = @_;
		my $name = 'hook' . ++$n;
		create_server($node, $name, 'webhook', $odd->url . $path, max_attempts => 1,
			mapping => { api_key => 'whsec_' . 'QUFB' x 8 });
		return enqueue($node, $name, '{}');
	},
	fetch => sub {
		my ($path) = @_;
		my $name = 'bucket' . ++$n;
		create_server($node, $name, 's3', $odd->url . $path, bucket => "bucket$n", retry_base => '100 ms', mapping => \%keys);
		create_server($node, "fetching$n", 'http', $odd->url, path => '/picture', auth => 'none', links_as => 'bytes',
			max_attempts => 1);
		return enqueue($node, "fetching$n", { a => { '$url' => "s3://bucket$n/a" } });
	},
	list => sub { return ask_store($_[0], { list => '' }) },
	copy => sub { return ask_store($_[0], { copy => 'a', to => 'b' }) },
);


subtest 'wires 86: answers that take long to read come to calls that are no submissions' => sub {
	foreach my $shape (qw(ampersands objects tags))
	{
		foreach my $step (sort keys %steps)
		{
			my $log_begin = -s $node->logfile;
			my $word = '/step' . $n;
			my $id = $steps{$step}->("/full/1900000/$shape$word");
			ok(poll_until(sub { $odd->asked($word) > 0 }), "$shape at $step");
			eventually("SELECT state <> 'running' AND coalesce(error, '') !~ 'takes no call now' FROM gen_jobs WHERE id = $id",
				'... the job goes on');
			no_turn_is_long($node, $log_begin, "$shape at $step");
			unlike(slurp_file($node->logfile, $log_begin), qr/terminated by signal/, '... and no process has crashed');
			query("SELECT genjob.cancel($id)");
		}
	}
};

subtest 'wires 87: headers are repeated, continued, or come behind the body' => sub {
	my $text = '{"text": "as it was"}';
	my $thrice = memGzip(memGzip(memGzip($text)));
	my $gzip = memGzip($text);
	my %answers = (
		'three lines' => "Content-Encoding: gzip\r\n" x 3 . 'Content-Length: ' . length($thrice) . "\r\n\r\n$thrice",
		'a line that is continued' => "Content-Encoding:\r\n identity,\r\n\tgzip\r\nContent-Length: "
			. length($gzip) . "\r\n\r\n$gzip",
		'a trailer' => sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n", length $text, $text)
			. "Content-Encoding: gzip\r\nContent-Type: text/event-stream\r\n\r\n",
	);
	foreach my $what (sort keys %answers)
	{
		my $raw = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n$answers{$what}";
		create_server($node, $what, 'http', $odd->url, path => '/raw/' . unpack('H*', $raw), auth => 'none',
			max_attempts => 1);
		my $job = run_to_end($node, $what, '{}');
		is($job->{result}{text}, 'as it was', "$what: the answer is read") or diag($job->{error});
	}
};

$node->stop;
done_testing();

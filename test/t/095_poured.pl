# Outputs by URL that are too large to be in memory go to the object store (Swift) while they come: whole, whatever is
# cut or ends meanwhile, with the dispatcher's memory flat, and paid for once.
#
# GENJOB_TEST_LONG=1 stops PostgreSQL 20 times instead of twice, and has an output of 5 GB.

use strict;
use warnings;

use Digest::SHA ();
use HTTP::Tiny;
use Time::HiRes qw(sleep);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use OpenUploads;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;
my $files = PythonServer->new('files.py');

my $mb = 1024 * 1024;
my $node = new_node(conf => "genjob.shutdown_grace = 1\nrestart_after_crash = on\ngenjob.max_memory = 256MB\n");
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 120);

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url
	  . "', bucket 'pictures', key '{server}/{job}-{ordinal}.{ext}', retry_base '100 ms')");
query(q{CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')});
create_server($node, 'replicate', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1', poll_interval => '50 ms');
create_server($node, 'table',     'replicate', $standin, model => 'stand-in/painter:1', poll_interval => '50 ms');

# A job whose output is a file of so many bytes.
sub start
{
	my ($name, $bytes, $options, $server) = @_;
	my $url = $files->url("/$name/$bytes.png" . ($options ? "?$options" : ''));
	return enqueue($node, $server // 'replicate', StandIn::request(prompt => $name, standin => { id => $name, output => $url }));
}

sub asked { return grep { /^\Q$_[0]\E / } split /\n/, $http->get($files->url('/log'))->{content} }

# What is wrong with the output of a job, which is a file; empty if nothing.
sub fault
{
	my ($id, $name, $bytes) = @_;
	my $expected = $http->get($files->url("/$name/$bytes.sha256"))->{content};
	my ($url, $sha256, $length) = split /\|/, query("SELECT genjob.presign(o, '10 min'), encode(sha256, 'hex'), bytes FROM gen_outputs AS o WHERE job_id = $id AND data IS NULL AND store = 'pictures'");
	return "job $id has no output in the store" unless $url;
	return "the row says $sha256, $length and not $expected, $bytes" unless $sha256 eq $expected && $length == $bytes;
	my $digest = Digest::SHA->new(256);
	my $reply = $http->get($url, { data_callback => sub { $digest->add($_[0]) } });
	my $found = $digest->hexdigest;
	return $reply->{success} && $found eq $expected ? '' : "the object is $found ($reply->{status}), and not $expected";
}

# ---- memory stays flat ----

my $large = ($ENV{GENJOB_TEST_LONG} ? 5120 : 200) * $mb;
my $pid = dispatcher_pid($node);
my $before = private_memory($pid);
my $most = 0;
my $id = start('large', $large);
ok(poll_until(sub { my $now = private_memory($pid); $most = $now if $now > $most; query("SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id") eq 't' }), 'a large output');
is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'succeeded', '... is there') or diag(query("SELECT error FROM gen_jobs WHERE id = $id"));
takes_less($most - $before, 100, '... with less than 100 MB of memory');
is(fault($id, 'large', $large), '', '... and is whole');
is(scalar(asked('large')), 1, '... downloaded once');
like(query("SELECT url, etag, content_type FROM gen_outputs WHERE job_id = $id"), qr{^s3://pictures/replicate/$id-1\.png\|[0-9a-f]{32}-\d+\|image/png$}, '... in parts, by the template');
is(query("SELECT remote FROM gen_jobs WHERE id = $id"), '', '... and the row has forgotten the upload');

# ---- it is cut, or is not what it was ----

my %cut = (
	'cut'        => [ "cut=@{[30 * $mb]}", 3, 'goes on from where it was' ],
	'weak'       => [ "cut=@{[30 * $mb]}&tag=weak", 5, 'begins again without a strong ETag' ],
	'whole'      => [ "cut=@{[30 * $mb]}&whole=1", 5, 'begins again if there is no range to be had' ],
	'unlength'   => [ "chunked=1", 1, 'of which nobody says how long it is' ],
);
my %job = map { $_ => start($_, 70 * $mb + 12345, $cut{$_}[0]) } sort keys %cut;
foreach my $name (sort keys %cut)
{
	ok(wait_state($node, $job{$name}, 'succeeded'), "a download that $cut{$name}[2]");
	is(fault($job{$name}, $name, 70 * $mb + 12345), '', '... is whole');
	cmp_ok(scalar(asked($name)), '<=', $cut{$name}[1], '... and was asked for no more often');
	is($standin->arrived($name), 1, '... and paid for once');
}
is(scalar(grep { / bytes=/ } asked('cut')), 2, 'the rest was asked for');
$id = start('change', 70 * $mb, "cut=@{[30 * $mb]}&change=2");
ok(wait_state($node, $id, 'succeeded'), 'a file that changes meanwhile');
is(fault($id, 'change%20changed', 70 * $mb), '', '... is that file and not half of each');
$id = start('mute', 70 * $mb, "cut=@{[30 * $mb]}&change=2&mute=1");
ok(wait_state($node, $id, 'succeeded'), 'a file that changes meanwhile, at a server that does not say so');
is(fault($id, 'mute%20changed', 70 * $mb), '', '... is that file and not half of each');
$id = start('exact', 72 * $mb);
ok(wait_state($node, $id, 'succeeded'), 'a file of whole parts');
is(fault($id, 'exact', 72 * $mb), '', '... is whole');
$id = start('part', 1000, 'part=1');
ok(wait_state($node, $id, 'succeeded'), 'a server that sends a part of a file to whom asks for all of it');
is(fault($id, 'part', 1000), '', '... is asked again');
ok(poll_until(sub { !OpenUploads::list($store) }), 'no upload is open');

# ---- what is too large ----

$id = start('too-large', 5120 * $mb, undef, 'table');
ok(wait_state($node, $id, 'failed'), '5 GB into the table');
like(query("SELECT error FROM gen_jobs WHERE id = $id"), qr/option max_response, or set its option store to put outputs into an object store/, '... are refused, with a hint');
query(q{ALTER SERVER replicate OPTIONS (ADD max_output '65MB')});
$id = start('longer', 70 * $mb);
my $unlength = start('longer-unlength', 70 * $mb, 'chunked=1');
foreach my $one ($id, $unlength)
{
	ok(wait_state($node, $one, 'failed'), 'more than max_output');
	like(query("SELECT error FROM gen_jobs WHERE id = $one"), qr/larger than 65 MB\. Raise the option max_output/, '... is refused');
}
query(q{ALTER SERVER replicate OPTIONS (DROP max_output)});
ok(poll_until(sub { !OpenUploads::list($store) }), '... and leaves no upload open');

# ---- the store is down ----

my $port = $store->port;
$store->stop;
my $kept = start('kept', 70 * $mb);
my $poured = start('poured', 130 * $mb);
ok($node->poll_query_until('postgres', "SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $kept"), 'what fits into the table is kept there while the store is down');
ok($node->poll_query_until('postgres', q{SELECT held_reason IS NOT NULL FROM genjob.servers WHERE server = 'pictures'}), '... and genjob.servers says why');
$store->start($port);
$node->restart;
ok(wait_state($node, $kept, 'succeeded'), 'it goes on when the store is back, here after a restart');
is(fault($kept, 'kept', 70 * $mb), '', '... and is whole');
ok(wait_state($node, $poured, 'succeeded'), 'so does what does not fit');
is(fault($poured, 'poured', 130 * $mb), '', '... and is whole');

# ---- it is cancelled ----

$id = start('cancelled', 200 * $mb, "rate=@{[20 * $mb]}");
ok($node->poll_query_until('postgres', "SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id"), 'an upload is in the row before its parts are sent');
query("SELECT genjob.cancel($id)");
ok($node->poll_query_until('postgres', "SELECT state = 'cancelled' AND remote IS NULL FROM gen_jobs WHERE id = $id"), 'it is cancelled');
ok(poll_until(sub { !OpenUploads::list($store) }), '... and no upload is open');

# ---- PostgreSQL ends meanwhile ----

my $stops = $ENV{GENJOB_TEST_LONG} ? 20 : 2;
for my $stop (1 .. $stops)
{
	my $name = "stop-$stop";
	my $bytes = ($ENV{GENJOB_TEST_LONG} ? 200 : 80) * $mb + $stop;
	$id = start($name, $bytes, "rate=@{[int($bytes / 2)]}");
	$node->poll_query_until('postgres', "SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id");
	sleep 0.3 * ($stop % 7);
	if ($stop % 2)
	{
		$node->stop('immediate');
		$node->start;
		wait_dispatcher($node);
	}
	else
	{
		$pid = dispatcher_pid($node);
		kill 'KILL', $pid;
		ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher' AND pid <> $pid"), 'PostgreSQL restarts');
	}
	ok(wait_state($node, $id, 'succeeded'), 'the job goes on after ' . ($stop % 2 ? 'an immediate stop' : 'a SIGKILL of the dispatcher'));
	is(fault($id, $name, $bytes), '', '... its object is whole');
	is($standin->arrived($name), 1, '... and was paid for once');
	is(scalar(grep { m{/$id-1\.png/} } OpenUploads::list($store)), 0, '... no upload is open');
}
is(query(q{SELECT count(*) FROM gen_jobs j WHERE state = 'succeeded' AND server = 'replicate' AND NOT EXISTS (SELECT FROM gen_outputs o WHERE o.job_id = j.id AND o.url IS NOT NULL)}),
	0, 'none succeeded without its object');

$node->stop;
done_testing();

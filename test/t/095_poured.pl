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

create_store($node, 'pictures', $store, key => '{server}/{job}-{ordinal}.{ext}');
create_predictor('replicate', store => 'pictures');

# A server whose outputs are files, which genjob downloads.
sub create_predictor
{
	my ($name, %more) = @_;
	return create_server($node, $name, 'replicate', $standin, model => 'stand-in/painter:1', poll_interval => '50 ms',
		%more);
}

# A job whose output is a file of so many bytes.
sub start
{
	my ($name, $bytes, $options, $server) = @_;
	my $url = $files->url("/$name/$bytes.png" . ($options ? "?$options" : ''));
	return enqueue($node, $server // 'replicate', StandIn::request(prompt => $name,
		standin => { id => $name, output => $url }));
}

# The calls that asked for a file.
sub asked { return grep { /^\Q$_[0]\E / } split /\n/, $http->get($files->url('/log'))->{content} }

# What is wrong with the output of a job, which is a file; empty if nothing.
sub fault
{
	my ($id, $name, $bytes) = @_;
	my $expected = $http->get($files->url("/$name/$bytes.sha256"))->{content};
	my ($url, $sha256, $length) = split /\|/, query("SELECT genjob.presign(o, '10 min'), encode(sha256, 'hex'), bytes
		FROM gen_outputs AS o WHERE job_id = $id AND data IS NULL AND store = 'pictures'");
	return "job $id has no output in the store" unless $url;
	return "the row says $sha256, $length and not $expected, $bytes" unless $sha256 eq $expected && $length == $bytes;
	my $digest = Digest::SHA->new(256);
	my $reply = $http->get($url, { data_callback => sub { $digest->add($_[0]) } });
	my $found = $digest->hexdigest;
	return $reply->{success} && $found eq $expected ? '' : "the object is $found ($reply->{status}), and not $expected";
}

# Passes if the job has succeeded and its object is the file.
sub is_whole
{
	my ($id, $name, $bytes, $what) = @_;
	return ok(wait_state($node, $id, 'succeeded'), $what) && is(fault($id, $name, $bytes), '', '... is whole');
}

subtest 'a large output passes through in parts, and the memory stays flat' => sub {
	my $large = ($ENV{GENJOB_TEST_LONG} ? 5120 : 200) * $mb;
	my $pid = wait_dispatcher($node);
	my $before = private_memory($pid);
	my $most = 0;
	my $id = start('large', $large);
	ok(poll_until(sub {
		my $now = private_memory($pid);
		$most = $now if $now > $most;
		return query("SELECT state IN ('succeeded', 'failed') FROM gen_jobs WHERE id = $id") eq 't';
	}), 'a large output');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'succeeded', '... is there')
	  or diag(query("SELECT error FROM gen_jobs WHERE id = $id"));
	takes_less($most - $before, 100, '... with less than 100 MB of memory');
	is(fault($id, 'large', $large), '', '... and is whole');
	is(scalar(asked('large')), 1, '... downloaded once');
	like(query("SELECT url, etag, content_type FROM gen_outputs WHERE job_id = $id"),
		qr{^s3://pictures/replicate/$id-1\.png\|[0-9a-f]{32}-\d+\|image/png$}, '... in parts, by the template');
	is(query("SELECT remote FROM gen_jobs WHERE id = $id"), '', '... and the row has forgotten the upload');
};

# ---- it is cut, or is not what it was ----

subtest 'a download that is cut goes on, or begins again, and is paid for once' => sub {
	my %cut = (
		'cut'        => [ "cut=@{[30 * $mb]}", 3, 'goes on from where it was' ],
		'weak'       => [ "cut=@{[30 * $mb]}&tag=weak", 5, 'begins again without a strong ETag' ],
		'whole'      => [ "cut=@{[30 * $mb]}&whole=1", 5, 'begins again if there is no range to be had' ],
		'unlength'   => [ "chunked=1", 1, 'of which nobody says how long it is' ],
	);
	my %job = map { $_ => start($_, 70 * $mb + 12345, $cut{$_}[0]) } sort keys %cut;
	foreach my $name (sort keys %cut)
	{
		is_whole($job{$name}, $name, 70 * $mb + 12345, "a download that $cut{$name}[2]");
		cmp_ok(scalar(asked($name)), '<=', $cut{$name}[1], '... and was asked for no more often');
		is($standin->arrived($name), 1, '... and paid for once');
	}
	is(scalar(grep { / bytes=/ } asked('cut')), 2, 'the rest was asked for');
	ok(OpenUploads::wait_none($store), 'no upload is open');
};

subtest 'a file that changes meanwhile is stored as one of the two, whole' => sub {
	my $id = start('change', 70 * $mb, "cut=@{[30 * $mb]}&change=2");
	ok(wait_state($node, $id, 'succeeded'), 'a file that changes meanwhile');
	is(fault($id, 'change%20changed', 70 * $mb), '', '... is that file and not half of each');
	$id = start('mute', 70 * $mb, "cut=@{[30 * $mb]}&change=2&mute=1");
	ok(wait_state($node, $id, 'succeeded'), 'a file that changes meanwhile, at a server that does not say so');
	is(fault($id, 'mute%20changed', 70 * $mb), '', '... is that file and not half of each');
	ok(OpenUploads::wait_none($store), 'no upload is open');
};

subtest 'a file may end with a part' => sub {
	is_whole(start('exact', 72 * $mb), 'exact', 72 * $mb, 'a file of whole parts');
	ok(OpenUploads::wait_none($store), 'no upload is open');
};

subtest 'a server that sends a part of a file to whom asks for all of it is asked again' => sub {
	is_whole(start('part', 1000, 'part=1'), 'part', 1000, 'a file');
	ok(OpenUploads::wait_none($store), 'no upload is open');
};

# ---- what is too large ----

subtest 'what is too large is refused with a hint, and leaves no upload open' => sub {
	create_predictor('into_table');
	my $id = start('too-large', 5120 * $mb, undef, 'into_table');
	ok(wait_state($node, $id, 'failed'), '5 GB into the table');
	like(query("SELECT error FROM gen_jobs WHERE id = $id"),
		qr/option max_response, or set its option store to put outputs into an object store/,
		'... are refused, with a hint');
	create_predictor('limited', store => 'pictures', max_output => '65MB');
	my @longer = (start('longer', 70 * $mb, undef, 'limited'), start('longer-unlength', 70 * $mb, 'chunked=1',
		'limited'));
	foreach my $one (@longer)
	{
		ok(wait_state($node, $one, 'failed'), 'more than max_output');
		like(query("SELECT error FROM gen_jobs WHERE id = $one"), qr/larger than 65 MB\. Raise the option max_output/,
			'... is refused');
	}
	ok(OpenUploads::wait_none($store), '... and leaves no upload open');
};

subtest 'an output that comes while the store is down is stored when it is back' => sub {
	my $port = $store->port;
	$store->stop;
	my $kept = start('kept', 70 * $mb);
	my $poured = start('poured', 130 * $mb);
	eventually("SELECT remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $kept",
		'what fits into the table is kept there while the store is down');
	eventually(q{SELECT held_reason IS NOT NULL FROM genjob.servers WHERE server = 'pictures'},
		'... and genjob.servers says why');
	$store->start($port);
	$node->restart;
	is_whole($kept, 'kept', 70 * $mb, 'it goes on when the store is back, here after a restart');
	is_whole($poured, 'poured', 130 * $mb, 'so does what does not fit');
};

subtest 'a cancel aborts the upload' => sub {
	my $id = start('cancelled', 200 * $mb, "rate=@{[20 * $mb]}");
	eventually("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id",
		'an upload is in the row before its parts are sent');
	query("SELECT genjob.cancel($id)");
	eventually("SELECT state = 'cancelled' AND remote IS NULL FROM gen_jobs WHERE id = $id", 'it is cancelled');
	ok(OpenUploads::wait_none($store), '... and no upload is open');
};

# ---- PostgreSQL ends meanwhile ----

my $stops = $ENV{GENJOB_TEST_LONG} ? 20 : 2;
for my $stop (1 .. $stops)
{
	my $how = $stop % 2 ? 'an immediate stop' : 'a SIGKILL of the dispatcher';
	subtest "an upload goes on after $how (stop $stop)" => sub {
		my $name = "stop-$stop";
		my $bytes = ($ENV{GENJOB_TEST_LONG} ? 200 : 80) * $mb + $stop;
		my $id = start($name, $bytes, "rate=@{[int($bytes / 5)]}");
		eventually("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id", 'an upload has begun');
		# at another place of it each time
		sleep 0.3 * ($stop % 7);
		$stop % 2 ? restart_at_once($node) : ok(kill_dispatcher(), 'PostgreSQL restarts');
		is_whole($id, $name, $bytes, "the job goes on after $how");
		is($standin->arrived($name), 1, '... and was paid for once');
		is(scalar(grep { m{/$id-1\.png/} } OpenUploads::list($store)), 0, '... no upload is open');
		is(query(q{SELECT count(*) FROM gen_jobs j WHERE state = 'succeeded' AND server = 'replicate'
			AND NOT EXISTS (SELECT FROM gen_outputs o WHERE o.job_id = j.id AND o.url IS NOT NULL)}),
			0, 'none succeeded without its object');
	};
}

$node->stop;
done_testing();

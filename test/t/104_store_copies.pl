# A dump is restored while the original goes on, with the same object store (Swift), keys and secrets: the copy neither
# continues nor aborts the original's uploads, and deletes none of its objects until somebody says that it owns them.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use OpenUploads;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;
my $between = PythonServer->new('between.py');
$between->set(target => 0 + $store->port);

my $node = new_node(conf => "restart_after_crash = on\n");
my $standin = StandIn->new(idempotent => 1);
my $http = HTTP::Tiny->new(timeout => 60);
my $true = \1;

create_store($node, 'pictures', $between, key => '{tenant}/{job}-{ordinal}.{ext}', max_in_flight => 16,
	max_attempts => 2);
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'named', 'replicate', $standin, store => 'pictures', model => 'stand-in/painter:1',
	poll_interval => '50 ms');

sub copied { return query($_[0], 'copy') }

sub calls
{
	my ($pattern) = @_;
	return grep { /$pattern/ } split /\n/, $http->get($between->url('/_log'))->{content};
}

# Whether the object of a job is there, and has the bytes that its row says.
sub is_whole
{
	my ($id, $what) = @_;
	my ($link, $sha256) = split /\|/, query("SELECT genjob.presign(o), encode(sha256, 'hex') FROM gen_outputs o
		WHERE job_id = $id AND data IS NULL");
	return is($link ? sha256_hex($http->get($link)->{content}) : 'no object', $sha256, $what);
}

my @stored = map { enqueue($node, 'painter', { prompt => "a boat, $_" }, tenant => 'stored') } 1 .. 3;
ok(wait_all_ended($node), 'three pictures are stored');

# one upload is open at its last step, which is held back; its job goes on in the copy, is cancelled there, or deleted
my @fates = qw(goes cancelled deleted);
$between->set(rules => [ map { { match => "^complete .*/$_/", times => 1, hold => 3600, close => $true } } @fates ]);
my %open = map {
	$_ => enqueue($node, 'named', StandIn::request(prompt => $_, size => '1700x1700', standin => { id => $_ }),
		tenant => $_)
} @fates;
ok(poll_until(sub { my $held = $http->get($between->url('/_waiting'))->{content}; !grep { $held !~ m{/$_/} } @fates }),
	'uploads are open, with all of their parts');
my @uploads = sort(OpenUploads::list($store));
is(scalar(@uploads), 3, '... three of them');

my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump');
query('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xq1', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump,
	'-c', q{SELECT genjob.pause('named')} ], '... is restored in the same cluster');
ok(wait_dispatcher($node, 'copy'), '... into a database with a dispatcher');

subtest 'open uploads' => sub {
	copied("SELECT genjob.cancel($open{cancelled}); DELETE FROM gen_jobs WHERE id = $open{deleted}");
	is(copied("SELECT state, remote IS NOT NULL FROM gen_jobs WHERE id = $open{goes}"), 'queued|t',
		'a job with an upload waits in the copy');
	is(copied("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $open{goes}"), 'f', '... and does not know the upload');
	copied(q{SELECT genjob.resume('named')});
	ok(wait_state($node, $open{goes}, 'succeeded', 'copy'), '... and ends there with an upload of its own');
	is($standin->counts->{ids}{goes}{submitted}, 1, '... of the picture that is paid for');
	is(scalar(calls("^abort ")), 0, 'none of the uploads is aborted');
	is_deeply([ sort(OpenUploads::list($store)) ], \@uploads, '... all are open');
	kill_dispatcher();
	foreach my $fate (@fates)
	{
		ok(wait_state($node, $open{$fate}, 'succeeded'), 'the job goes on at home');
		is_whole($open{$fate}, '... and its object is whole');
	}
	ok(OpenUploads::wait_none($store), 'no upload is open');
};

subtest 'retention' => sub {
	ok(wait_dispatcher($node, 'copy'), 'a dispatcher of the copy');
	is(copied("SELECT genjob.purge('painter', '0')"), 0,
		'the copy cannot purge jobs whose objects are of the original');
	copied(q{ALTER SERVER painter OPTIONS (ADD retention '1 s')});
	ok($node->poll_query_until('copy',
		q{SELECT held_reason ~ 'claimed_elsewhere' FROM genjob.servers WHERE server = 'painter'}),
		'... nor its retention, which says so');
	is(copied(q{SELECT count(*) FROM gen_jobs WHERE server = 'painter'}), 3, '... the rows stay');
	is(copied(q{SELECT count(*) FROM gen_jobs WHERE request ? 'delete'}), 0, '... and nothing is ordered to be deleted');
	is_whole($_, 'an object of the original is there') foreach @stored;
	my $own = enqueue($node, 'painter', { prompt => 'of the copy' }, tenant => 'copy', database => 'copy');
	ok(wait_state($node, $own, 'succeeded', 'copy'), 'a job of the copy stores its picture');
	ok($node->poll_query_until('copy', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $own)"),
		'... and goes with it');
	is(scalar(calls('^delete .*copy/')), 1, '... which is deleted');
	copied(q{UPDATE gen_jobs SET claimed_elsewhere = false WHERE claimed_elsewhere AND state = 'succeeded'});
	ok($node->poll_query_until('copy', q{SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'painter')}),
		'the jobs go once somebody has said that their objects are of the copy');
	is(scalar(calls('^delete .*stored/')), 3, '... after their objects');
};

$node->stop;
done_testing();

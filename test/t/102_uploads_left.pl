# Uploads in parts whose jobs end, are stopped, or lose an answer at any step, at a real object store (Swift): each job
# that goes on has its whole object and was paid for once, and no upload stays open.

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
my $files = PythonServer->new('files.py');

my $node = new_node(conf => "genjob.shutdown_grace = 3\nrestart_after_crash = on\n");
my $standin = StandIn->new(idempotent => 1);
my $http = HTTP::Tiny->new(timeout => 60);

create_store($node, 'pictures', $between, key => '{tenant}/{job}-{ordinal}.{ext}', max_in_flight => 32);
my %quick = (store => 'pictures', retry_base => '100 ms', retry_max => '1 s');
create_server($node, 'plain', 'openai-images', $standin, %quick);
create_server($node, 'named', 'replicate', $standin, %quick, model => 'stand-in/painter:1', poll_interval => '50 ms');

# Inserts a job of that kind, with an output of more than one part; its tenant is in the keys of its outputs.
sub start
{
	my ($kind, $name) = @_;
	my $size = '1700x1700';    # 8.7 MB
	my %script = (id => $name, $kind eq 'poured' ? (output => $files->url("/$name/20000000.png?chunked=1")) : ());
	return enqueue($node, $kind eq 'plain' ? 'plain' : 'named',
		StandIn::request(prompt => $name, size => $size, standin => \%script), tenant => $name, max_attempts => 20);
}

my @kinds = qw(plain named poured);

# What is wrong with the object of a job; empty if nothing.
sub fault
{
	my ($id) = @_;
	my ($state, $link, $sha256) = split /\|/, query("SELECT state, genjob.presign(o), encode(sha256, 'hex')
		FROM gen_jobs j LEFT JOIN gen_outputs o ON o.job_id = j.id AND o.data IS NULL WHERE j.id = $id");
	return "it is $state, without an object" unless $state eq 'succeeded' && $link;
	return sha256_hex($http->get($link)->{content}) eq $sha256 ? '' : 'its object has other bytes';
}

# Starts a job of each kind for each step, with a rule for its call of that step; gives their ids by name.
sub start_at
{
	my ($prefix, $steps, %rule) = @_;
	my @names = map { my $kind = $_; map { "$prefix-$kind-$_" } @$steps } @kinds;
	$between->set(rules => [ map { { match => '^' . (split /-/)[-1] . ".*/$_/", times => 1, %rule } } @names ]);
	return map { $_ => start((split /-/)[-2], $_) } @names;
}

# Passes once a call of each job is held back.
sub are_held
{
	my (@names) = @_;
	return ok(poll_until(sub {
		my $held = $http->get($between->url('/_waiting'))->{content};
		return !grep { index($held, "/$_/") < 0 } @names;
	}), 'a call of each job is under way');
}

sub are_whole
{
	my (%job) = @_;
	ok(wait_all_ended($node), 'all jobs end');
	is(fault($job{$_}), '', "$_: the object is whole") foreach sort keys %job;
	return;
}

sub none_is_open { return ok(OpenUploads::wait_none($store), 'no upload is open') || diag(OpenUploads::list($store)) }

my $true = \1;
my %lost = (
	'the connection ends' => { does => $true, close => $true },
	'the answer is cut' => { does => $true, cut => $true },
	'the answer is 503' => { does => $true, status => 503 },
);
foreach my $how (sort keys %lost)
{
	subtest "$how after the store has done what it was asked" => sub {
		my %job = start_at($how =~ s/\W/_/gr, [qw(begin part complete)], %{ $lost{$how} });
		are_whole(%job);
		is($standin->arrived($_), 1, "$_ was paid for once") foreach sort keys %job;
		none_is_open();
	};
}

my %ends = (
	cancelled => sub { query("SELECT genjob.cancel($_[0])") },
	deleted => sub { query("DELETE FROM gen_jobs WHERE id = $_[0]") },
);
foreach my $end (sort keys %ends)
{
	subtest "jobs that are $end while a call is under way" => sub {
		my %job = start_at($end, [qw(begin part complete)], does => $true, hold => 5, close => $true);
		are_held(keys %job);
		$ends{$end}->($_) foreach values %job;
		none_is_open();
	};
}

my %stops = (
	'SIGKILL of the dispatcher' => sub { kill_dispatcher() },
	'an immediate stop' => sub { restart_at_once($node) },
	'a fast stop' => sub { $node->restart; wait_dispatcher($node) },
	'genjob.enabled off and on' => sub { set_enabled(0); set_enabled(1) },
);
foreach my $stop (sort keys %stops)
{
	subtest "$stop while a call is under way" => sub {
		my %job = start_at($stop =~ s/\W/_/gr, [qw(begin part complete)], does => $true, hold => 60, close => $true);
		are_held(keys %job);
		$stops{$stop}->();
		are_whole(%job);
		my $counts = $standin->counts;
		is($counts->{ids}{$_}{submitted}, 1, "$_ was paid for once") foreach grep { !/-plain-/ } sort keys %job;
		is(scalar(keys %{ $counts->{keys} }), scalar(keys %{ $counts->{ids} }), 'each job has one key');
		none_is_open();
	};
}

subtest 'an upload under a key that the store has no longer' => sub {
	my %job = start_at('template', [qw(part complete)], hold => 60, close => $true);
	delete @job{ grep { /-plain-/ } keys %job };    # their next attempt knows of no upload
	are_held(keys %job);
	query("ALTER SERVER pictures OPTIONS (SET key 'new/{tenant}/{job}-{ordinal}.{ext}')");
	kill_dispatcher();
	are_whole(%job);
	query("ALTER SERVER pictures OPTIONS (SET key '{tenant}/{job}-{ordinal}.{ext}')");
	ok(poll_until(sub { !grep { !/-plain-/ } OpenUploads::list($store) }), 'no upload is open');
};

subtest 'jobs that are cancelled while no dispatcher runs' => sub {
	my %job = start_at('down', [qw(part complete)], hold => 60, close => $true);
	are_held(keys %job);
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->stop('immediate');
	$node->start;
	query("SELECT genjob.cancel($_)") foreach values %job;
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	wait_dispatcher($node);
	ok(poll_until(sub { !grep { /^down-/ } OpenUploads::list($store) }), 'no upload is open');
};

$node->stop;
done_testing();

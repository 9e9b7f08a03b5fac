# What finds and aborts uploads that are open at a store, and that no running job has: in lists of any length, without
# jobs that use the store, and with keys that have changed.

use strict;
use warnings;

use HTTP::Tiny;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $fake = PythonServer->new('fakestore.py');
my $node = new_node(conf => "restart_after_crash = on\n");
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 30);
my $size = '1700x1700';    # two parts

# A store's server, and one whose outputs go there; both have the name of the bucket.
sub create_pair
{
	my ($bucket, %more) = @_;
	create_store($node, "store_$bucket", $fake, bucket => $bucket, key => '{server}/{job}-{ordinal}.{ext}', %more);
	create_server($node, $bucket, 'openai-images', $standin, store => "store_$bucket");
	return;
}

sub start
{
	my ($server, $name) = @_;
	return enqueue($node, $server, StandIn::request(prompt => $name, size => $size, standin => { id => $name }));
}

sub uploads { my ($bucket) = @_; return grep { m{^/$bucket/} } split /\n/, $http->get($fake->url('/_uploads'))->{content} }
sub has_none { my ($bucket) = @_; return poll_until(sub { uploads($bucket) == 0 }) }
sub is_open { my ($id) = @_; return eventually("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id", 'an upload is open') }
sub begin_upload { my ($name) = @_; return $http->post($fake->url("/$name?uploads=")) }

# The second part of each upload is not taken until the rules are lifted, and the answer to the beginning of the next
# upload is lost.
sub hold_parts
{
	my (@more) = @_;
	return $fake->set(rules => [ { match => '^PUT .*partNumber=2', status => 503 }, { match => '^POST .*uploads=', does => \1, cut => 9, times => 1 }, @more ]);
}
sub release { return $fake->set(rules => []) }

# Starts the server again with a clock of that speed.
sub set_speed
{
	my ($speed) = @_;
	$node->append_conf('postgresql.conf', "genjob.debug_clock_speed = $speed");
	$node->restart;
	return wait_dispatcher($node);
}

subtest 'the uploads of a job are behind many others' => sub {
	create_pair('crowd');
	$fake->set(page => 3);
	hold_parts();
	my $id = start('crowd', 'crowd');
	is_open($id);
	begin_upload("crowd/crowd/$id-$_.png") foreach 2 .. 9;
	begin_upload("crowd/crowd/$id-1.other/$_") foreach 1 .. 4;
	# the key of the page's last upload, more than once
	begin_upload("crowd/crowd/$id-1.png") foreach 1 .. 7;
	query("SELECT genjob.cancel($id)");
	ok(poll_until(sub { uploads('crowd') == 4 }), 'all of its own are aborted');
	is(scalar(grep { /other/ } uploads('crowd')), 4, '... and nobody else\'s');
	release();
};

subtest 'a store whose list never ends' => sub {
	create_pair('endless');
	my $page = '<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>z</NextKeyMarker></ListMultipartUploadsResult>';
	hold_parts({ match => '^GET /endless/?.*uploads=', body => $page, status => 200 });
	my $id = start('endless', 'endless');
	is_open($id);
	query("SELECT genjob.cancel($id)");
	ok(poll_until(sub { $fake->asked('^GET /endless/?.*uploads=') >= 2 }), '... and the list is asked for');
	my $node_id = run_to_end($node, 'endless', StandIn::request(prompt => 'x', size => '16x16', standin => { id => 'after endless' }));
	is($node_id->{state}, 'succeeded', 'other jobs go on');
	cmp_ok(scalar($fake->asked('^GET /endless/?.*uploads=')), '<', 10, '... and a page that comes again is the last one');
	release();
};

$node->stop;
done_testing();

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

my %drops = (
	'the option store is dropped' => sub { my ($server) = @_; return "ALTER SERVER $server OPTIONS (DROP store)" },
	'the server is dropped' => sub { my ($server) = @_; return "DROP SERVER $server CASCADE" },
	'the option store names another' => sub { my ($server) = @_; return "ALTER SERVER $server OPTIONS (SET store 'elsewhere')" },
);
create_store($node, 'elsewhere', $fake, bucket => 'elsewhere', mapping => { secret_access_key => 'another' });
my $n = 0;
foreach my $drop (sort keys %drops)
{
	foreach my $cancels (0, 1)
	{
		subtest "$drop while no dispatcher runs" . ($cancels ? ', and the job is cancelled' : '') => sub {
			my $bucket = 'drop-' . ++$n;
			my $server = "drop_$n";
			create_store($node, "store_$server", $fake, bucket => $bucket, key => '{server}/{job}-{ordinal}.{ext}');
			create_server($node, $server, 'openai-images', $standin, store => "store_$server");
			hold_parts();
			my $id = start($server, $server);
			is_open($id);
			eventually("SELECT remote -> 'answer' ? '\$verdict' FROM gen_jobs WHERE id = $id", '... of an answer that is saved');
			$node->stop('immediate');
			$node->append_conf('postgresql.conf', 'genjob.enabled = off');
			$node->start;
			my $log_begin = -s $node->logfile;
			query($drops{$drop}->($server));
			query("SELECT genjob.cancel($id)") if $cancels;
			$node->append_conf('postgresql.conf', 'genjob.enabled = on');
			$node->reload;
			release();
			my $name = qr{s3://$bucket/$server/$id-1\.png \(upload upload-\d+\)};
			my $said = sub { return slurp_file($node->logfile, $log_begin) =~ /job $id.*\n.*Abort it in the store: $name/ };
			ok(poll_until($said), 'the log says what is left behind');
			my $state = $cancels ? 'cancelled' : $drop =~ /server is/ ? 'failed' : 'succeeded';
			ok(wait_state($node, $id, $state), "... of the job, which is $state") or diag(job($node, $id)->{error});
			like(job($node, $id)->{error}, qr/abort there $name/, '... and its error') if $state eq 'failed';
			is($standin->arrived($server), 1, 'it was paid for once');
		};
	}
}

subtest 'the keys change after a job has given up its upload' => sub {
	create_pair('rotated');
	hold_parts();
	my $id = start('rotated', 'rotated');
	is_open($id);
	$fake->set(key => 'fresh');
	query("SELECT genjob.cancel($id)");
	ok(poll_until(sub { $fake->asked('^DELETE /rotated/.* 403') >= 1 }), 'the abort is refused');
	query("ALTER USER MAPPING FOR PUBLIC SERVER store_rotated OPTIONS (SET access_key_id 'fresh')");
	ok(has_none('rotated'), 'it is aborted with the new keys');
	$fake->set(key => undef);
	release();
};

subtest 'a store that no job uses' => sub {
	create_pair('idle', max_in_flight => 2);
	my $before = query('SELECT count(*) FROM gen_jobs');
	begin_upload("idle/idle/$_-1.png") foreach 999_990 .. 999_995;
	begin_upload('idle/somebody/else.png');
	$fake->set(begun => 50_000);
	set_speed(2000);
	ok(poll_until(sub { uploads('idle') == 1 }), 'what nobody knows any more is aborted');
	is_deeply([ uploads('idle') ], ['/idle/somebody/else.png'], '... and nobody else\'s is');
	begin_upload('idle/idle/999999-1.png');
	ok(poll_until(sub { uploads('idle') == 1 }), '... also later');
	query('CREATE ROLE guest LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO guest');
	create_store($node, 'private', $fake, bucket => 'private', key => '{server}/{job}-{ordinal}.{ext}');
	query(q{CREATE SERVER thief FOREIGN DATA WRAPPER genjob OPTIONS (api 'openai-images', url 'http://127.0.0.1:9', store 'private')}, undef, 'guest');
	begin_upload('private/thief/1-1.png');
	begin_upload('idle/idle/999999-2.png');
	ok(poll_until(sub { uploads('idle') == 1 }), 'the next sweep');
	is(scalar(uploads('private')), 1, '... uses no store that the server\'s owner may not use');
	is(query('SELECT count(*) FROM gen_jobs'), $before, '... and no job');
	$fake->set(begun => 0);
	set_speed(1);
};

$node->stop;
done_testing();

# The administrator changes where a store is while uploads are open, answers wait, or objects are there: nothing stays
# behind that costs money, and nothing goes to a place that only a row names.

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
my $other = PythonServer->new('fakestore.py');
my $node = new_node();
my $standin = StandIn->new;
my $size = '1700x1700';    # two parts
my $key = '{server}/{job}-{ordinal}.{ext}';
my $n = 0;

# A store's server, and one whose outputs go there.
sub create_pair
{
	my ($bucket, %more) = @_;
	$n++;
	create_store($node, "store$n", $fake, bucket => $bucket, key => $key, region => 'us-east-1', %more);
	create_server($node, "painter$n", 'openai-images', $standin, store => "store$n");
	return ("store$n", "painter$n");
}

sub start
{
	my ($server, $name, %more) = @_;
	return enqueue($node, $server, StandIn::request(prompt => $name, size => $size, %more, standin => { id => $name }));
}

sub lines { my ($store, $path) = @_; return split /\n/, HTTP::Tiny->new(timeout => 30)->get($store->url($path))->{content} }
sub uploads { my ($bucket, $store) = @_; return grep { m{^/$bucket/} } lines($store // $fake, '/_uploads') }
sub objects { my ($bucket, $store) = @_; return grep { m{^/$bucket/} } lines($store // $fake, '/_objects') }
sub has_upload { my ($bucket) = @_; return poll_until(sub { uploads($bucket) > 0 }) }
sub has_none { my ($bucket, $store) = @_; return poll_until(sub { uploads($bucket, $store) == 0 }) }
sub is_open { my ($id) = @_; return eventually("SELECT remote ? 'uploads' FROM gen_jobs WHERE id = $id", 'an upload is open') }
sub url_of { my ($id) = @_; return query("SELECT url FROM gen_outputs WHERE job_id = $id") }

# The second part of each upload is not taken until the rules are lifted.
sub hold_parts { return $fake->set(rules => [ { match => '^PUT .*partNumber=2', status => 503 } ]) }
sub release { return $fake->set(rules => []) }

my %changes = (
	'the bucket' => sub { my ($store) = @_; return "ALTER SERVER $store OPTIONS (SET bucket 'new-$n')" },
	'the key' => sub { my ($store) = @_; return "ALTER SERVER $store OPTIONS (SET key 'other/{job}/{ordinal}')" },
	'the region' => sub { my ($store) = @_; return "ALTER SERVER $store OPTIONS (SET region 'eu-west-9')" },
	'the url' => sub { my ($store) = @_; return "ALTER SERVER $store OPTIONS (SET url '" . $other->url . "')" },
);

foreach my $change (sort keys %changes)
{
	foreach my $stops (0, 1)
	{
		subtest "$change changes while an upload is open" . ($stops ? ', and PostgreSQL stops' : '') => sub {
			my ($store, $painter) = create_pair('old-' . ($n + 1));
			my $bucket = "old-$n";
			hold_parts();
			my $id = start($painter, "$change $stops");
			is_open($id);
			if ($stops)
			{
				eventually("SELECT remote -> 'answer' ? '\$verdict' FROM gen_jobs WHERE id = $id", '... of an answer that is saved');
				$node->stop('immediate');
				$node->append_conf('postgresql.conf', 'genjob.enabled = off');
				$node->start;
			}
			query($changes{$change}->($store));
			if ($stops)
			{
				$node->append_conf('postgresql.conf', 'genjob.enabled = on');
				$node->reload;
				wait_dispatcher($node);
			}
			release();
			ok(wait_state($node, $id, 'succeeded'), 'the job succeeds');
			is(url_of($id), "s3://$bucket/$painter/$id-1.png", 'the object is where its upload was begun');
			is_deeply([ objects($bucket) ], [ "/$bucket/$painter/$id-1.png" ], '... whole');
			ok(has_none($bucket), 'no upload is open');
			is(scalar($fake->asked("^PUT .*$painter/$id-1.*partNumber=1&.* 200")), 1, 'the part that was there is not sent again');
			is($standin->arrived("$change $stops"), 1, '... and was paid for once');
			my $next = start($painter, "next $change $stops", size => '16x16');
			ok(wait_state($node, $next, 'succeeded'), 'the next one');
			isnt(url_of($next), "s3://$bucket/$painter/$next-1.png", '... goes where the options lead') if $change =~ /bucket|key/;
			is(scalar(objects($bucket, $other)), 1, '... to the new host') if $change =~ /url/;
		};
	}
}

subtest 'the old place does not work any more' => sub {
	my ($store, $painter) = create_pair('gone');
	hold_parts();
	my $id = start($painter, 'refused');
	is_open($id);
	$fake->set(rules => [ { match => ' /gone/', status => 403 } ]);
	query("ALTER SERVER $store OPTIONS (SET bucket 'found')");
	ok(wait_state($node, $id, 'succeeded'), 'a bucket that refuses since: the output begins again in the new one');
	is(url_of($id), "s3://found/$painter/$id-1.png", '... where it is');
	is($standin->arrived('refused'), 1, '... and was paid for once');
	is(query("SELECT count(*) FROM genjob.servers WHERE server = '$store' AND held_reason IS NOT NULL"), 0, '... and the new place is not held for it');
	release();
	ok(has_none('gone'), 'the old upload is aborted as soon as that works');
};

subtest 'a cancel aborts where the upload was begun' => sub {
	my ($store, $painter) = create_pair('cancelled');
	hold_parts();
	my $id = start($painter, 'cancelled');
	is_open($id);
	query("ALTER SERVER $store OPTIONS (SET bucket 'elsewhere')");
	query("SELECT genjob.cancel($id)");
	ok(has_none('cancelled'), 'nothing is open');
	my $deleted = start($painter, 'deleted');
	is_open($deleted);
	query("DELETE FROM gen_jobs WHERE id = $deleted");
	ok(has_none('elsewhere'), '... nor after a row is deleted');
	release();
};

subtest 'a row that somebody else wrote' => sub {
	my ($store, $painter) = create_pair('honest');
	hold_parts();
	my $id = start($painter, 'forged');
	is_open($id);
	eventually("SELECT remote -> 'answer' ? '\$verdict' FROM gen_jobs WHERE id = $id", '... of an answer that is saved');
	$node->stop('immediate');
	$node->append_conf('postgresql.conf', 'genjob.enabled = off');
	$node->start;
	my $before = lines($other, '/_log');
	query("SET session_replication_role = replica; UPDATE gen_jobs SET remote = jsonb_set(remote, '{uploads,0,at,url}', to_jsonb('" . $other->url . "'::text)) WHERE id = $id");
	my $log_begin = -s $node->logfile;
	$node->append_conf('postgresql.conf', 'genjob.enabled = on');
	$node->reload;
	release();
	ok(wait_state($node, $id, 'succeeded'), 'a url that nobody has proven');
	is(scalar(lines($other, '/_log')), $before, '... gets no call');
	is(url_of($id), "s3://honest/$painter/$id-1.png", '... and the object is in its store');
	like(slurp_file($node->logfile, $log_begin), qr{does not continue an upload of job $id.*\n.*Abort it in the store: s3://honest/$painter/$id-1\.png \(upload upload-\d+\)}, '... and the log says what is left behind');
};

subtest 'the server is dropped while an upload is open' => sub {
	my ($store, $painter) = create_pair('dropped');
	$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 100');
	$node->restart;
	wait_dispatcher($node);
	hold_parts();
	my $id = start($painter, 'dropped');
	is_open($id);
	query("DROP SERVER $store CASCADE");
	ok(wait_state($node, $id, 'failed'), 'its job fails at last');
	like(job($node, $id)->{error}, qr{Parts of outputs stay in the store, which may cost money: abort there s3://dropped/$painter/$id-1\.png \(upload upload-\d+\)\.}, '... and says what is left behind');
	is(query("SELECT octet_length(data) > 8388608 FROM gen_outputs WHERE job_id = $id"), 't', '... with its output in the table');
	$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 1');
	$node->restart;
	wait_dispatcher($node);
	release();
};

subtest 'what is in the bucket of before' => sub {
	my ($store, $painter) = create_pair('before');
	release();
	create_server($node, "bytes$n", 'http', $standin, path => '/echo', links_as => 'bytes');
	my @ids = map { start($painter, "before $_", size => '16x16') } 1 .. 3;
	ok(wait_state($node, $_, 'succeeded'), 'an output') foreach @ids;
	is(scalar(objects('before')), 3, 'three objects');
	query("ALTER SERVER $store OPTIONS (SET bucket 'after')");
	my $http = HTTP::Tiny->new(timeout => 30);
	my $link = query("SELECT genjob.presign(o) FROM gen_outputs o WHERE job_id = $ids[0]");
	like($link, qr{/before/$painter/$ids[0]-1\.png\?}, 'a link leads to the old bucket');
	is($http->get($link)->{status}, 200, '... where the object is');
	my $sent = run_to_end($node, "bytes$n", { a => { '$output' => [ 0 + $ids[0], 1 ] } });
	is($sent->{state}, 'succeeded', 'its bytes go with a request') or diag($sent->{error});
	query("DELETE FROM gen_jobs WHERE id = $sent->{id}");
	query('CREATE ROLE thief LOGIN; GRANT INSERT, SELECT ON gen_jobs TO thief; GRANT SELECT ON gen_outputs TO thief') if $n;
	query("GRANT USAGE ON FOREIGN SERVER $store TO thief");
	my $oid = query("SELECT oid FROM pg_foreign_server WHERE srvname = '$store'");
	like(refusal_of("SELECT genjob.presign_output('s3://before/$painter/$ids[0]-1.png', '1 h', '$store', $oid, 'thief'::regrole)", undef, 'thief'),
		qr/does not have the bucket "before"/, 'another role has no link to it');
	my $theft = query("INSERT INTO gen_jobs (server, request) VALUES ('$store', '{\"delete\": \"$painter/$ids[0]-1.png\", \"bucket\": \"before\"}') RETURNING id", undef, 'thief');
	ok(wait_state($node, $theft, 'failed'), '... and does not delete it');
	like(job($node, $theft)->{error}, qr/"bucket" of the request is not the bucket of the server, "after"/, '... which is said');
	is(scalar(objects('before')), 3, '... they are there');
	my $never = run_to_end($node, $store, { delete => 'anything', bucket => 'before' });
	is($never->{state}, 'failed', 'what is no output is not deleted there, by nobody');
	ok(poll_until(sub { query("SELECT genjob.purge('$painter', '0 s')"); return query("SELECT count(*) FROM gen_jobs WHERE server = '$painter'") eq '0' }), 'genjob.purge() deletes all');
	is(scalar(objects('before')), 0, '... with their objects');
	my $kept = start($painter, 'kept', size => '16x16');
	ok(wait_state($node, $kept, 'succeeded'), 'one in the new bucket');
	query("ALTER SERVER $store OPTIONS (SET bucket 'third'); ALTER SERVER $painter OPTIONS (ADD retention '1 s')");
	ok(poll_until(sub { query("SELECT count(*) FROM gen_jobs WHERE server = '$painter'") eq '0' }), 'retention deletes it');
	is(scalar(objects('after')), 0, '... with its object');
};

subtest 'an output that comes while the store moves' => sub {
	my $files = PythonServer->new('files.py');
	my ($store, $painter) = create_pair('poured');
	create_server($node, "poured$n", 'replicate', $standin, model => 'stand-in/painter:1', poll_interval => '50 ms', store => $store);
	foreach my $stops (0, 1)
	{
		my $bytes = 70_000_000 + $stops;
		hold_parts();
		my $id = enqueue($node, "poured$n", StandIn::request(prompt => "poured $stops", standin => { id => "poured $n $stops", output => $files->url("/poured$stops/$bytes.png") }));
		is_open($id);
		query("ALTER SERVER $store OPTIONS (SET bucket 'moved-$stops')");
		restart_at_once($node) if $stops;
		release();
		ok(wait_state($node, $id, 'succeeded'), 'the job succeeds') or diag(job($node, $id)->{error});
		my $bucket = $stops ? 'moved-0' : 'poured';
		is(url_of($id), "s3://$bucket/poured$n/$id-1.png", 'the object is where its upload was begun')
		  or diag(join("\n", $fake->asked("$id-1")));
		ok(has_none($_), "no upload is open in $_") foreach 'poured', 'moved-0', 'moved-1';
		is(query("SELECT bytes FROM gen_outputs WHERE job_id = $id"), $bytes, '... whole');
	}
};

subtest 'what nobody knows any more in the old place' => sub {
	my ($store, $painter) = create_pair('swept');
	my $http = HTTP::Tiny->new(timeout => 30);
	$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 2000');
	$node->restart;
	wait_dispatcher($node);
	my $first = start($painter, 'sweeps 0', size => '16x16');
	ok(wait_state($node, $first, 'succeeded'), 'a job uses the store');
	$http->post($fake->url("/swept/$painter/999999-1.png?uploads="));
	$http->post($fake->url("/swept/somebody/else.png?uploads="));
	query("ALTER SERVER $store OPTIONS (SET bucket 'sweeps', SET key '{job}/{ordinal}')");
	$fake->set(begun => 50_000);
	my $i = 0;
	ok(poll_until(sub {
		my $next = start($painter, 'sweeps ' . ++$i, size => '16x16');
		wait_state($node, $next, 'succeeded');
		return uploads('swept') <= 1;
	}), 'it is aborted');
	is_deeply([ uploads('swept') ], ['/swept/somebody/else.png'], '... and nobody else\'s is');
	$fake->set(begun => 0);
	$node->append_conf('postgresql.conf', 'genjob.debug_clock_speed = 1');
	$node->restart;
	wait_dispatcher($node);
};

subtest 'the first use of a store by a dispatcher' => sub {
	create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');
	$fake->set(rules => []);
	my ($store) = create_pair('first');
	HTTP::Tiny->new->put($fake->url('/first/a'), { content => 'abc' });
	my $id = enqueue($node, 'bytes', { a => { '$url' => 's3://first/a' } });
	ok(wait_state($node, $id, 'succeeded'), 'an object is fetched');
	is(query("SELECT attempt FROM gen_jobs WHERE id = $id"), 1, '... at once');
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $id AND error IS NOT NULL"), 0, '... and nobody says that the store takes no calls');
	cmp_ok(query("SELECT extract(epoch FROM finished_at - created_at) FROM gen_jobs WHERE id = $id"), '<', 0.9, '... and it is not postponed');
};

$node->stop;
done_testing();

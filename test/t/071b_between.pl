# Users of one database, jobs that wait for jobs, and stores: what one user leaves behind costs no other user anything.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest qw(!query);
use Session;
use Shapes;
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'between', conf => "log_lock_waits = on\ndeadlock_timeout = '200 ms'");

create_server($node, 'painter', 'openai-images', $standin, max_attempts => 1);
create_server($node, 'still', 'openai-images', $standin, paused => 'on');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mallory LOGIN;
	GRANT INSERT, SELECT, UPDATE, DELETE ON gen_jobs TO alice, mallory;
	GRANT SELECT ON gen_outputs TO alice, mallory;
	GRANT USAGE ON FOREIGN SERVER painter, still TO alice, mallory;
	GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO mallory});

sub query { return $node->safe_psql('postgres', $_[0]) }

sub as
{
	my ($role, $sql) = @_;
	return query("SET ROLE $role; $sql");
}

my $fails = q{{"prompt": "no", "standin": {"faults": [{"status": 400}, {"status": 400}]}}};

subtest 'users 101: a role has the jobs of others change thousands of its own' => sub {
	my $next = query(q{SELECT nextval(pg_get_serial_sequence('gen_jobs', 'id')) + 1});
	# they wait for jobs to come, which are another's
	as('mallory', "INSERT INTO gen_jobs (server, request, after) SELECT 'still', '{}', ARRAY(SELECT generate_series($next + 2000, $next + 2020)) FROM generate_series(1, 2000)");
	my $theirs = "FROM gen_jobs WHERE owner = 'mallory'::regrole AND id >= $next";
	ok($node->poll_query_until('postgres', "SELECT count(*) = 2000 $theirs AND state = 'failed'"), 'none of them is run');
	is(query("SELECT count(*) $theirs AND blocked_by <> 0"), '0', 'they name no job that others may have');
	my $rows = "SELECT md5(string_agg(ctid::text || xmin::text, ' ' ORDER BY id)) $theirs";
	my $before = query($rows);
	my $first = as('alice', qq{INSERT INTO gen_jobs (server, request) VALUES ('painter', '$fails') RETURNING id});
	my $second = as('alice', qq{INSERT INTO gen_jobs (server, request, after) VALUES ('painter', '{"prompt": "a"}', ARRAY[$first]) RETURNING id});
	cmp_ok($first, '>=', $next + 2000, 'it is one of those');
	ok(wait_state($node, $second, 'failed'));
	as('alice', "SELECT genjob.retry($first)");
	ok(wait_state($node, $first, 'failed'));
	ok(wait_state($node, $second, 'failed'));
	is(query($rows), $before, 'no row of the other role has changed');
	my $own = as('mallory', "INSERT INTO gen_jobs (server, request, after) VALUES ('still', '{}', ARRAY[$first]) RETURNING id");
	ok(wait_state($node, $own, 'failed'));
	as('mallory', "SELECT genjob.retry($own)");
	ok(wait_state($node, $own, 'failed'), 'one that is retried waits again, and fails of it again');
};

subtest 'users 102: an open transaction with a unique_key keeps the dispatcher waiting' => sub {
	my $parent = as('mallory', qq{INSERT INTO gen_jobs (server, request) VALUES ('painter', '$fails') RETURNING id});
	my @children = map { as('mallory', qq{INSERT INTO gen_jobs (server, request, after, unique_key) VALUES ('still', '{"prompt": "c"}', ARRAY[$parent], '$_') RETURNING id}) } 'k', 'l';
	ok(wait_state($node, $_, 'failed')) foreach $parent, @children;
	as('mallory', q{BEGIN; INSERT INTO gen_jobs (server, request, unique_key) VALUES ('still', '{}', 'k'); PREPARE TRANSACTION 'k'});
	# without it, the session would wait, too
	as('mallory', "SET lock_timeout = '50 ms'; SELECT genjob.retry($parent)");
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "beside"}') RETURNING id});
	ok(wait_state($node, $id, 'succeeded'), "another's job is run");
	ok(wait_state($node, $parent, 'failed'));
	as('mallory', "SELECT genjob.retry($parent)");
	my $pid = dispatcher_pid($node);
	ok($node->poll_query_until('postgres', "SELECT attempt = 3 AND state = 'failed' FROM gen_jobs WHERE id = $parent"));
	unlike(slurp_file($node->logfile), qr/still waiting for ShareLock on transaction/, 'nobody has waited');
	query(q{ROLLBACK PREPARED 'k'});
	ok(wait_state($node, $_, 'failed'), 'what has the key comes to its end') foreach @children;
};

subtest 'users 103: two jobs with one unique_key that wait again fail each other' => sub {
	my $parent = as('mallory', qq{INSERT INTO gen_jobs (server, request) VALUES ('painter', '$fails') RETURNING id});
	my $insert = qq{INSERT INTO gen_jobs (server, request, after, unique_key) VALUES ('still', '{"prompt": "c"}', ARRAY[$parent], 'same') RETURNING id};
	my $one = as('mallory', $insert);
	ok(wait_state($node, $one, 'failed'));
	my $two = as('mallory', $insert);
	ok(wait_state($node, $two, 'failed'));
	as('mallory', "SELECT genjob.retry($parent)");
	ok(wait_state($node, $_, 'failed')) foreach $parent, $one, $two;
	is(query(q{SELECT count(*) FROM genjob.workers WHERE last_error ~ 'duplicate key'}), '0', 'the dispatcher has met no error');
};

subtest 'users 104: a role takes the name of a bucket by a server of its own that all may use' => sub {
	query(q{
		CREATE SERVER pictures FOREIGN DATA WRAPPER genjob
			OPTIONS (api 's3', url 'http://store.example', bucket 'pictures');
		CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'ADMINS', secret_access_key 'x');
		GRANT USAGE ON FOREIGN SERVER pictures TO alice});
	foreach my $url ('http://mallory.example', 'http://store.example')
	{
		as('mallory', qq{CREATE SERVER aaa FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '$url', bucket 'pictures');
			CREATE USER MAPPING FOR PUBLIC SERVER aaa OPTIONS (access_key_id 'MALLORYS', secret_access_key 'x');
			GRANT USAGE ON FOREIGN SERVER aaa TO PUBLIC});
		like(as('alice', q{SELECT genjob.presign('s3://pictures/a')}), qr{^http://store\.example/pictures/a\?.*Credential=ADMINS}, "a link is still the administrator's, beside $url");
		my (undef, undef, $error) = $node->psql('postgres', q{SET ROLE mallory; SELECT genjob.presign('s3://pictures/a')});
		query('DROP SERVER aaa CASCADE');
	}
	query('CREATE ROLE owner LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO owner');
	query(q{DROP SERVER pictures CASCADE});
	foreach my $owner (qw(owner mallory))
	{
		as($owner, qq{CREATE SERVER ${owner}s FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://store.example', bucket 'pictures');
			CREATE USER MAPPING FOR PUBLIC SERVER ${owner}s OPTIONS (access_key_id '$owner', secret_access_key 'x');
			GRANT USAGE ON FOREIGN SERVER ${owner}s TO PUBLIC});
		my (undef, $link, $error) = $node->psql('postgres', q{SET ROLE alice; SELECT genjob.presign('s3://pictures/a')});
		like("$link$error", $owner eq 'owner' ? qr{Credential=owner} : qr/servers "mallorys" and "owners" each have a bucket "pictures"/, 'of two strangers none is taken for the other');
	}
};

subtest "users 105: a session is shown others' jobs in messages for developers" => sub {
	query('CREATE ROLE boss LOGIN IN ROLE alice; GRANT INSERT, SELECT ON gen_jobs TO boss; GRANT USAGE ON FOREIGN SERVER still TO boss');
	my $parent = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});
	my $child = as('boss', "INSERT INTO gen_jobs (server, request, after) VALUES ('still', '{}', ARRAY[$parent]) RETURNING id");
	my (undef, $out, $error) = $node->psql('postgres', "SET ROLE alice; SET client_min_messages = debug1; SELECT genjob.cancel($parent)");
	is($out, 't', 'alice cancels a job, and with that ends one that she may not see');
	is(query("SELECT state FROM gen_jobs WHERE id = $child"), 'failed');
	unlike($error, qr/job $child\b/, 'nothing tells her so');
	unlike($error, qr/time to inline/, '... and nothing is compiled for it');
};

subtest 'users 106: a key with ".." in it leads out of a bucket that takes no signatures' => sub {
	my ($port, $pid) = Shapes::serve();
	my ($home, $away) = map { '=' . unpack('H*', "text/plain\n$_") } 'home', 'elsewhere';
	create_server($node, 'open', 's3', "http://127.0.0.1:$port/$home", auth => 'none', bucket => '000', max_attempts => 1);
	my $id = query(qq{INSERT INTO gen_jobs (server, request) VALUES ('open', '{"get": "../../$away/0"}') RETURNING id});
	ok(wait_state($node, $id, 'succeeded'));
	is(query("SELECT convert_from(data, 'UTF8') FROM gen_outputs WHERE job_id = $id"), 'home', 'the store is asked for that key');
	kill 'TERM', $pid;
};

subtest 'users 107: a role keeps the jobs of others from being deleted when their time is over' => sub {
	create_server($node, 'short', 'openai-images', $standin, retention => '1 s');
	query('GRANT USAGE ON FOREIGN SERVER short TO alice');
	my $own = as('mallory', q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('short', '{"prompt": "a"}', now() + '1 s') RETURNING id});
	as('mallory', qq{INSERT INTO gen_jobs (server, request, after) VALUES ('still', '{"prompt": {"\$result": [$id, "/x"]}}', ARRAY[$own, $id])});
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $id)"), 'by a job that waits for them, or names them');
};

subtest 'users 108: a role reads of a job of another, by waiting for it, after it may not see it any more' => sub {
	query('CREATE ROLE friend LOGIN IN ROLE alice; GRANT INSERT, SELECT ON gen_jobs TO friend; GRANT USAGE ON FOREIGN SERVER still TO friend');
	my $parent = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});
	my $child = as('friend', "INSERT INTO gen_jobs (server, request, after) VALUES ('still', '{}', ARRAY[$parent]) RETURNING id");
	query('REVOKE alice FROM friend');
	as('alice', "UPDATE gen_jobs SET state = 'cancelled', error = 'hush' WHERE id = $parent");
	ok(wait_state($node, $child, 'failed'));
	is(query("SELECT error FROM gen_jobs WHERE id = $child"), "job $parent, which this job waited for, has not succeeded.", 'its words are not told');
};

# A server that alice used is dropped; mallory creates one of its name. What mallory's own job meets there, hers does
# not.
my $own = q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('reborn', '{"prompt": "a"}', '2100-01-01') RETURNING id};
my $cancel = q{WITH i AS MATERIALIZED (SELECT id FROM gen_jobs WHERE server = 'reborn' AND state = 'queued') SELECT count(genjob.cancel(id)) FROM i};

subtest 'users 109: a role has the ended jobs of a dropped server deleted by one of its name' => sub {
	create_server($node, 'reborn', 'openai-images', $standin);
	query('GRANT USAGE ON FOREIGN SERVER reborn TO alice');
	my $job = as('alice', $own);
	as('alice', $cancel);
	query('DROP SERVER reborn CASCADE');
	as('mallory', "CREATE SERVER reborn FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url '" . $standin->url . "', auth 'none', retention '1 s', retention_failed '1 s')");
	my $other = as('mallory', $own);
	as('mallory', $cancel);
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE id = $other)"), 'its own are deleted')
	  || diag(query("SELECT j, genjob.needed_jobs(ARRAY[$other]), (SELECT last_error FROM genjob.workers WHERE database = 'postgres') FROM gen_jobs j WHERE id >= $other"));
	is(query("SELECT state FROM gen_jobs WHERE id = $job"), 'cancelled', '... and the others are not, which ended before');
	query('DROP SERVER reborn CASCADE');
};

subtest 'users 110: a role is told of the jobs of a dropped server, or given them, by one of its name' => sub {
	create_server($node, 'reborn', 'openai-images', $standin);
	query('GRANT USAGE ON FOREIGN SERVER reborn TO alice');
	my $job = as('alice', $own);
	query('DROP SERVER reborn CASCADE');
	my $session = Session->new($node);
	$session->query('LISTEN loot');
	as('mallory', qq{
		CREATE SERVER hook FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url '@{[$standin->url]}', auth 'none', paused 'on');
		GRANT USAGE ON FOREIGN SERVER hook TO PUBLIC;
		CREATE SERVER reborn FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url '@{[$standin->url]}', auth 'none', notify 'loot', on_failure 'hook');});
	as('alice', $cancel);
	my $other = as('mallory', $own);
	as('mallory', $cancel);
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM gen_jobs WHERE server = 'hook' AND request ->> 'id' = '$other')"), 'of its own job');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'hook' AND owner = 'alice'::regrole}), '0', 'no other is handed over');
	my $told = $session->query('SELECT 1');
	like($told, qr/"id": $other,/, 'its own end is told');
	unlike($told, qr/"id": $job,/, '... and no other');
	$session->quit;
	query('DROP SERVER reborn CASCADE');
};

subtest 'users 111: a role finds out which jobs wait for an answer, by giving a wrong one' => sub {
	my $id = query(q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});
	query(qq{SET session_replication_role = replica; UPDATE gen_jobs SET remote = jsonb_build_object('complete', repeat('0', 64)) WHERE id = $id});
	my $try = q{BEGIN; DO $$BEGIN PERFORM genjob.complete(%s, 'x'); EXCEPTION WHEN OTHERS THEN NULL; END$$; SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT};
	is(as('mallory', sprintf $try, $id), 't', 'no row is locked before the token is known');
	is(as('mallory', sprintf $try, 987654321), 't', '... as where there is no such job');
};

subtest 'ends 21: a request_id that replication brings, too long for a notice, keeps the result from being written' => sub {
	create_server($node, 'told', 'openai-images', $standin, notify => 'ends');
	my $id = query(q{SET session_replication_role = replica;
		INSERT INTO gen_jobs (server, request, request_id) VALUES ('told', '{"prompt": "x"}', repeat('"', 9000)) RETURNING id});
	ok(wait_state($node, $id, 'succeeded'), 'it is written');
};

$node->stop;
$standin->stop;
done_testing();

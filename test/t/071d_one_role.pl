# What one role can have of that which all roles share: places for calls, and the time of the dispatcher. Each try is one
# that does not succeed.

use strict;
use warnings;

use GenJobTest qw(!query);
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Session;
use StandIn;
use Test::More;
use Time::HiRes qw(time);

my $places = 40;
my $standin = StandIn->new;
my $node = new_node(name => 'one_role', conf => "genjob.max_in_flight = $places\ngenjob.max_memory = '64 MB'");
my $url = $standin->url;

create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'still', 'openai-images', $standin, paused => 'on');
$node->safe_psql(
	'postgres', q{
	CREATE ROLE alice LOGIN;
	CREATE ROLE mallory LOGIN;
	GRANT INSERT, SELECT, UPDATE, DELETE ON gen_jobs TO alice, mallory;
	GRANT USAGE ON FOREIGN SERVER painter, still TO alice, mallory;
	GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO mallory;
});

sub query { return $node->safe_psql('postgres', $_[0]) }
sub as { return $node->safe_psql('postgres', $_[1], extra_params => [ '-U', $_[0] ]) }

sub goes_on
{
	my ($what) = @_;
	my $id = as('alice', q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "beside"}') RETURNING id});
	return ok(wait_state($node, $id, 'succeeded'), $what);
}

# ---- places ----

my $endless = q['{"prompt": "endless", "standin": {"latency_ms": 600000}}'];
my $running = q{SELECT count(*) FROM gen_jobs WHERE state = 'running'};
my $part = int($places * 3 / 4);

sub create_endless
{
	my ($server) = @_;
	as('mallory', qq{CREATE SERVER $server FOREIGN DATA WRAPPER genjob
		OPTIONS (api 'openai-images', url '$url', auth 'none', max_in_flight '100000', timeout '480 h')});
	return;
}

subtest 'users 301: a server of a role takes all places for calls, which never end' => sub {
	create_endless('endless');
	as('mallory', "INSERT INTO gen_jobs (server, request) SELECT 'endless', $endless FROM generate_series(1, 200)");
	ok($node->poll_query_until('postgres', "$running AND state = 'running'", $part), "it gets $part of $places");
	goes_on("another's job is run");
	ok( $node->poll_query_until('postgres', q{SELECT held_reason = 'the servers of its owner have their part of genjob.max_in_flight'
		FROM genjob.servers WHERE server = 'endless'}), 'genjob.servers says why it gets no more');
	is(query($running), $part, '... and it has no more');
};

subtest 'users 302: many servers of a role do so together' => sub {
	foreach my $n (1 .. 30)
	{
		create_endless("endless$n");
		as('mallory', "INSERT INTO gen_jobs (server, request) SELECT 'endless$n', $endless FROM generate_series(1, 10)");
	}
	goes_on("another's job is run");
	is(query($running), $part, "they have $part places together");
	as('mallory', q{UPDATE gen_jobs SET state = 'cancelled' WHERE id IN
		(SELECT id FROM gen_jobs WHERE state = 'running' ORDER BY id LIMIT 10)});
	ok($node->poll_query_until('postgres', "$running AND server <> 'endless'", 10), 'what one leaves the others get');
	as('mallory', 'DELETE FROM gen_jobs');
};

subtest 'a server of a superuser has all places' => sub {
	create_server($node, 'wide', 'openai-images', $standin, max_in_flight => 1000);
	query("INSERT INTO gen_jobs (server, request) SELECT 'wide', $endless FROM generate_series(1, 100)");
	ok($node->poll_query_until('postgres', $running, $places));
	query(q{DELETE FROM gen_jobs WHERE server = 'wide'});
};

# ---- memory ----

# A server that takes connections and reads nothing.
my $mute = IO::Socket::INET->new(Listen => 100, LocalAddr => '127.0.0.1') or die "cannot listen: $!\n";

# Bytes that no compression makes smaller, as a member of a request, at most 1 GB of them.
sub noise
{
	my ($bytes) = @_;
	return "jsonb_build_object('prompt', (SELECT string_agg(encode(sha512(i::text::bytea), 'base64'), '') FROM generate_series(1, $bytes / 90) i))";
}

# Others' jobs with requests of each of these sizes end, and not only when something gives memory back after minutes.
sub large_go_on
{
	my ($what) = @_;
	my $began = time;
	foreach my $bytes (300_000, 2_000_000)
	{
		my $id = as('alice', "INSERT INTO gen_jobs (server, request) VALUES ('painter', @{[noise($bytes)]}) RETURNING id");
		ok(wait_state($node, $id, 'succeeded'), "$what: $bytes bytes");
	}
	cmp_ok(time - $began, '<', 60, '... at once');
	return;
}

# Inserts jobs whose requests stay in memory until their time is over, in 20 days.
sub hold_memory
{
	my ($server, $role, @sizes) = @_;
	as($role, "INSERT INTO gen_jobs (server, request) VALUES ('$server', @{[noise($_)]})") foreach @sizes;
	return;
}

sub forget_jobs
{
	query('DELETE FROM gen_jobs');
	ok($node->poll_query_until('postgres', 'SELECT count(*) FROM genjob.activity', 0), 'the calls end');
	return;
}

subtest 'users 304: requests that their server does not read keep the large ones of others out' => sub {
	my $mute_url = 'http://127.0.0.1:' . $mute->sockport;
	create_server($node, 'mute', 'http', $mute_url, timeout => '480 h', max_in_flight => 100);
	query('GRANT USAGE ON FOREIGN SERVER mute TO mallory');
	hold_memory('mute', 'mallory', 70_000_000);
	ok($node->poll_query_until('postgres', $running, 1), 'one that takes more than all');
	hold_memory('mute', 'mallory', 300_000, 5_000_000);
	large_go_on('beside it');
	# a request that is being built by another process is not counted for a moment
	cmp_ok(query($running), '<', 3, '... but not those of its own server');
	forget_jobs();
	hold_memory('mute', 'mallory', (2_000_000) x 20);
	ok($node->poll_query_until('postgres', q{SELECT held_reason = 'genjob.max_memory is reached' FROM genjob.servers WHERE server = 'mute'}),
		'many that have the share of a server');
	large_go_on('beside them');
	forget_jobs();
};

subtest 'users 305: many servers of a role do so together' => sub {
	my @servers = map { "mute$_" } 1 .. 12;
	as('mallory', qq{CREATE SERVER $_ FOREIGN DATA WRAPPER genjob
		OPTIONS (api 'http', url 'http://127.0.0.1:@{[$mute->sockport]}', auth 'none', timeout '480 h', max_in_flight '100')}) foreach @servers;
	hold_memory($_, 'mallory', 10_000_000, 1_000_000, 100_000) foreach @servers;
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM gen_jobs WHERE state = 'running'}), 'some run');
	large_go_on('beside them');
	my $held = query(q{SELECT sum(pg_column_size(request)) FROM gen_jobs WHERE state = 'running'});
	cmp_ok($held, '<', 32_000_000 * 3 / 4 + 11_000_000, "they hold $held bytes");
	forget_jobs();
};

# ---- what others repeat for each of thousands of rows ----

# Returns the seconds that the dispatcher takes to fail jobs that waited for one with that error.
sub time_children
{
	my ($error) = @_;
	my $children = 300;
	my $holder = Session->new($node, user => 'mallory');
	my $parent = as('mallory', q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});

	as('mallory', "INSERT INTO gen_jobs (server, request, after)
		SELECT 'still', '{}', ARRAY[$parent] FROM generate_series(1, $children)");
	# so the dispatcher has to do it
	$holder->query("BEGIN; SELECT count(*) FROM (SELECT FROM gen_jobs WHERE state = 'waiting' FOR UPDATE) w");
	# as replication does, or 0.1.0 did
	query("SET session_replication_role = replica; ALTER TABLE gen_jobs DISABLE TRIGGER genjob_before_update;
		UPDATE gen_jobs SET state = 'cancelled', finished_at = now(), error = $error WHERE id = $parent;
		ALTER TABLE gen_jobs ENABLE ALWAYS TRIGGER genjob_before_update");
	my $began = time;
	$holder->query('ROLLBACK');
	$holder->quit;
	query("UPDATE gen_jobs SET tenant = tenant WHERE id = $parent");
	ok($node->poll_query_until('postgres', qq{SELECT count(*) FROM gen_jobs WHERE blocked_by = $parent}, $children));
	my $took = time - $began;
	query('DELETE FROM gen_jobs');
	return $took;
}

subtest 'users 303: jobs that quote the huge error of another keep the dispatcher busy' => sub {
	my $parent = as('mallory', q{INSERT INTO gen_jobs (server, request) VALUES ('still', '{}') RETURNING id});
	like(refusal_of("UPDATE gen_jobs SET state = 'cancelled', error = repeat('x', 100001) WHERE id = $parent", 'postgres', 'mallory'),
		qr/error of a job is longer than 100000 bytes/, 'a role cannot make one');
	is(as('mallory', "UPDATE gen_jobs SET state = 'cancelled', error = repeat('x', 100000) WHERE id = $parent RETURNING state"),
		'cancelled', '... but a long one');
	my $short = time_children(q{'short'});
	my $long = time_children(q{repeat('x', 30000000)});
	cmp_ok($long, '<', 5 * $short + 5, sprintf 'one that is there takes %.1f s, a short one %.1f s', $long, $short);
	goes_on("another's job is run");
};

$node->stop;
$standin->stop;
done_testing();

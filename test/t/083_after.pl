# Jobs that wait for others, run by a dispatcher: rules, retries, deletes, time, other sessions' locks, thousands at
# once, and a restart.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use GenJobTest qw(!query);
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'after');
create_server($node, 'painter', 'openai-images', $standin, max_attempts => 1);

# One connection for all: a psql for each statement would take most of the time.
my $session;

sub query
{
	$session //= $node->background_psql('postgres');
	return $session->query_safe($_[0]);
}

query('CREATE ROLE app; GRANT USAGE ON FOREIGN SERVER painter TO app; GRANT SELECT ON gen_jobs TO app');

# Inserts a job and gives its id; %columns as SQL.
sub insert
{
	my ($prompt, $script, %columns) = @_;
	my $request = StandIn::request(prompt => $prompt, standin => { id => $prompt, %$script });
	my $server = literal(delete $columns{server} // 'painter');
	my $names = join ', ', 'server', 'request', sort keys %columns;
	my $values = join ', ', $server, literal($request), map { $columns{$_} } sort keys %columns;
	return query("INSERT INTO gen_jobs ($names) VALUES ($values) RETURNING id");
}

sub state_is
{
	my ($id, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(query("SELECT state FROM genjob.wait($id, '60 s')"), $state, $what)
	  || diag(query("SELECT to_jsonb(j) FROM gen_jobs j WHERE id = $id"));
}

# A server that runs nothing: its jobs stay queued.
sub create_paused { my ($name) = @_; return create_server($node, $name, 'openai-images', $standin, paused => 'on') }

# A job that has succeeded.
sub succeeded
{
	my ($prompt) = @_;
	my $id = insert($prompt, {});
	state_is($id, 'succeeded', "$prompt: a job has succeeded");
	return $id;
}

sub nothing_is_left { return is(query('SELECT count(*) FROM genjob.dependencies'), '0', 'nothing is left of that') }

sub error_of { return query("SELECT error FROM gen_jobs WHERE id = $_[0]") }

# Every answer fails.
my %fails = (faults => [ ({ status => 400 }) x 5 ]);

subtest 'a job runs, fails or is cancelled by its rule, when all jobs before it have ended' => sub {
	query('BEGIN');
	my $good = insert('good', {});
	my $bad = insert('bad', { %fails });
	my %job;
	foreach my $rule (qw(succeeded ended failed))
	{
		$job{"$rule good"} = insert("$rule good", {}, after => "ARRAY[$good]", after_rule => "'$rule'");
		$job{"$rule bad"} = insert("$rule bad", {}, after => "ARRAY[$bad]", after_rule => "'$rule'");
		$job{"$rule both"} = insert("$rule both", {}, after => "ARRAY[$good, $bad]", after_rule => "'$rule'");
	}
	my $far = insert('far', {}, after => "ARRAY[$job{'succeeded bad'}]");
	my $all = join ', ', $far, values %job;
	is(query("SELECT DISTINCT state FROM gen_jobs WHERE id IN ($all)"), 'waiting', 'jobs with others before them wait');
	query('COMMIT');
	state_is($job{'succeeded good'}, 'succeeded', 'succeeded: runs after one that has');
	state_is($job{'ended good'}, 'succeeded', 'ended: likewise');
	state_is($job{'failed good'}, 'cancelled', 'failed: is not needed then');
	is(error_of($job{'failed good'}), 'was not needed: no job that it waited for has failed.', '... and says so');
	foreach my $others (qw(bad both))
	{
		state_is($job{"succeeded $others"}, 'failed', "succeeded: fails where one has ($others)");
		like(error_of($job{"succeeded $others"}), qr/^job $bad, which this job waited for, failed: .*400/,
			'... with its id and words');
		state_is($job{"ended $others"}, 'succeeded', "ended: runs ($others)");
		state_is($job{"failed $others"}, 'succeeded', "failed: runs ($others)");
	}
	state_is($far, 'failed', 'one that waits for one that waited fails, too');
	nothing_is_left();
	is($standin->arrived('succeeded bad'), 0, 'nothing was called for those that failed');
};

subtest 'a retry of the first job has the rest wait again, and run' => sub {
	my $good = succeeded('before a chain');
	my $mends = insert('mends', { faults => [ { status => 400 } ] });
	my $second = insert('second', {}, after => "ARRAY[$mends]");
	my $third = insert('third', {}, after => "ARRAY[$second, $good]");
	state_is($third, 'failed', 'a chain fails with its first');
	query("BEGIN; SELECT genjob.retry($mends)");
	is(query("SELECT string_agg(DISTINCT state::text, ' ') FROM gen_jobs WHERE id IN ($second, $third)"), 'waiting',
		'a retry of the first has the rest wait again, at once')
	  or diag(query("SELECT id, state FROM gen_jobs WHERE id IN ($second, $third)"));
	query('COMMIT');
	state_is($third, 'succeeded', '... and run');
	is(query("SELECT count(*) FROM gen_jobs WHERE blocked_by IS NOT NULL AND id IN ($second, $third)"), '0',
		'... with nothing that says that they were not');
};

subtest q{a superuser's job for another role waits, too} => sub {
	my $before = insert('before', { latency_ms => 3000 }, owner => q{'app'});
	my $behind = insert('behind', {}, owner => q{'app'}, after => "ARRAY[$before]");
	my $refers = query(qq{INSERT INTO gen_jobs (server, request, owner) VALUES ('painter',
		'{"prompt": {"\$result": [$before, "/data/0/b64_json/\$output"]}}', 'app') RETURNING id});
	is(query("SELECT string_agg(state::text, ' ') FROM gen_jobs WHERE id IN ($behind, $refers)"), 'waiting waiting',
		'it waits, by after and by what it refers to');
	state_is($behind, 'succeeded', '... and runs');
	is(query("SELECT b.started_at >= a.finished_at FROM gen_jobs a, gen_jobs b WHERE a.id = $before
		AND b.id = $behind"),
		't', '... after the one before');
	my (undef, undef, $refused) = $node->psql('postgres', q{INSERT INTO gen_jobs (server, request, owner, on_done)
		VALUES ('painter', '{"prompt": "x"}', 'app', 'nowhere')});
	like($refused, qr/function nowhere\(gen_jobs\) does not exist/, '... and is checked');
	# a dump has such rows: the one before may come later
	is(query(qq{INSERT INTO gen_jobs (server, request, owner, after, created_at, run_at)
		VALUES ('painter', '{"prompt": "x"}', 'app', ARRAY[$before], '2020-01-01', 'infinity') RETURNING state}),
		'queued', 'a restored one is as it was');
};

# ---- cancelled, deleted, expired ----

subtest 'a job goes on when the one before is cancelled, deleted or expires' => sub {
	create_paused('stays');
	my $slow = insert('slow', { latency_ms => 20000 });
	ok(wait_state($node, $slow, 'running'), 'a job runs');
	my $after_slow = insert('after slow', {}, after => "ARRAY[$slow]", after_rule => q{'ended'});
	query("SELECT genjob.cancel($slow)");
	state_is($after_slow, 'succeeded', 'ended: runs after a cancel');
	my $kept = insert('deleted', {}, server => 'stays');
	my $gone = insert('after what is deleted', {}, after => "ARRAY[$kept]");
	query("DELETE FROM gen_jobs WHERE id = $kept");
	state_is($gone, 'failed', 'fails where the job before it is deleted');
	like(error_of($gone), qr/^job $kept, which this job should wait for, does not exist/, '... with words for that');
	$kept = insert('for ever', {}, server => 'stays');
	my $late = insert('late', {}, after => "ARRAY[$kept]", expires_at => q{now() + interval '300 ms'});
	my $later = insert('after late', {}, after => "ARRAY[$late]", after_rule => q{'ended'});
	state_is($late, 'failed', 'expires_at holds for a job that waits');
	like(error_of($late), qr/expires_at/, '... and is named');
	state_is($later, 'succeeded', '... and another goes on');
	query(q{DELETE FROM gen_jobs WHERE server = 'stays'});
};

subtest 'a job that waited does not start before its run_at' => sub {
	my $good = succeeded('before run_at');
	my $later = insert('at its time', {}, after => "ARRAY[$good]", run_at => q{now() + interval '400 ms'});
	state_is($later, 'succeeded', 'it runs');
	is(query("SELECT started_at >= run_at FROM gen_jobs WHERE id = $later"), 't', '... at its time');
};

subtest 'a job that has succeeded may be deleted while another is waited for' => sub {
	create_paused('other');
	my $kept = insert('other', {}, server => 'other', run_at => q{'infinity'});
	my $done = insert('done', { latency_ms => 200 });
	my $both = insert('both', {}, after => "ARRAY[$done, $kept]");
	state_is($done, 'succeeded', 'one of two has succeeded');
	query("DELETE FROM gen_jobs WHERE id = $done");
	query("UPDATE gen_jobs SET server = 'painter', run_at = now() WHERE id = $kept");
	state_is($both, 'succeeded', '... and is deleted while the other is waited for');
};

# ---- rows that others have locked ----

# Another session that has a row locked.
sub lock_row
{
	my ($id) = @_;
	my $holder = Session->new($node);
	$holder->query("BEGIN; SELECT FROM gen_jobs WHERE id = $id FOR UPDATE");
	return $holder;
}

subtest 'a job that is locked when the one before ends holds up no other' => sub {
	my $parent = insert('locked parent', { latency_ms => 2000 });
	my $locked = insert('locked', {}, after => "ARRAY[$parent]");
	my $holder = lock_row($locked);
	state_is($parent, 'succeeded', 'a job ends while the next is locked');
	my $free = insert('free', {}, after => "ARRAY[$parent]");
	state_is($free, 'succeeded', '... which holds up no other');
	$holder->query('COMMIT');
	$holder->quit;
	state_is($locked, 'succeeded', '... and goes on when it is not');
};

subtest 'a job that waits again while it is locked goes on when it is free' => sub {
	my $mends = insert('mends later', { faults => [ { status => 400 } ] });
	my @blocked = map { insert("blocked $_", {}, after => "ARRAY[$mends]") } 1 .. 3;
	state_is($_, 'failed', 'a job fails with the one before') foreach @blocked;
	my $holder = lock_row($blocked[0]);
	query("SELECT genjob.retry($mends)");
	state_is($mends, 'succeeded', 'that one succeeds while one after it is locked');
	state_is($_, 'succeeded', '... the others run') foreach @blocked[ 1, 2 ];
	is(query("SELECT state FROM gen_jobs WHERE id = $blocked[0]"), 'failed', '... but not that one');
	$holder->query('COMMIT');
	$holder->quit;
	ok(wait_state($node, $blocked[0], 'succeeded'), '... before it is free');
};

subtest 'a trigger that raises an error for one job holds up no other' => sub {
	my $good = succeeded('before a trigger');
	query(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
		IF NEW.request ->> 'prompt' = 'refused' AND NEW.state = 'queued' THEN RAISE EXCEPTION 'not this one'; END IF;
		RETURN NEW; END$$});
	foreach my $trigger ('TRIGGER refuse BEFORE UPDATE ON gen_jobs',
		'CONSTRAINT TRIGGER refuse AFTER UPDATE ON gen_jobs DEFERRABLE INITIALLY DEFERRED')
	{
		query("CREATE $trigger FOR EACH ROW EXECUTE FUNCTION refuse()");
		my $parent = insert('parent', { latency_ms => 2000 });
		my $refused = insert('refused', {}, after => "ARRAY[$parent]");
		my @others = map { insert("other $_", {}, after => "ARRAY[$parent]") } 1 .. 3;
		state_is($parent, 'succeeded', "$trigger: a job that one of those after it cannot follow is reported");
		state_is($_, 'succeeded', '... and the others run') foreach @others;
		is(query("SELECT state FROM gen_jobs WHERE id = $refused"), 'waiting', '... but for that one');
		query('DROP TRIGGER refuse ON gen_jobs');
		query("UPDATE gen_jobs SET after = after || ARRAY[$good] WHERE id = $refused");
		state_is($refused, 'succeeded', '... which runs when nothing refuses it');
	}
	query('DROP FUNCTION refuse');
};

# While the dispatcher looks at the 1,000 jobs, they change, each in a commit of its own.
subtest 'jobs that are to wait for another one while the first ends do that' => sub {
	create_paused('moved');
	my $kept = insert('the other', {}, server => 'moved', run_at => q{'infinity'});
	foreach my $round (1 .. 3)
	{
		query('BEGIN');
		my $parent = insert("parent $round", { latency_ms => 100 });
		query(qq{INSERT INTO gen_jobs (server, request, after) SELECT 'moved', '{"prompt": "moved"}', ARRAY[$parent]
			FROM generate_series(1, 1000)});
		query('COMMIT');
		query(qq{DO \$\$ DECLARE job bigint; BEGIN
			FOR job IN SELECT id FROM gen_jobs WHERE after = ARRAY[$parent]::bigint[] ORDER BY id DESC LOOP
				UPDATE gen_jobs SET after = ARRAY[$kept] WHERE id = job AND state = 'waiting';
				COMMIT;
			END LOOP; END\$\$});
		ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs
			WHERE after = ARRAY[$parent]::bigint[] AND state = 'waiting')"),
			'a job ends while those after it are to wait for another');
		note(query("SELECT state, count(*) FROM gen_jobs WHERE after = ARRAY[$kept]::bigint[] GROUP BY state"));
		is(query("SELECT count(*) FROM gen_jobs WHERE after = ARRAY[$kept]::bigint[] AND state <> 'waiting'"), '0',
			'... and they do');
	}
	query(q{DELETE FROM gen_jobs WHERE server = 'moved'});
};

# ---- many ----

subtest 'ten thousand jobs wait for one' => sub {
	create_paused('children');
	query('BEGIN');
	my $one = insert('one', {});
	query(qq{INSERT INTO gen_jobs (server, request, after) SELECT 'children', '{"prompt": "child"}', ARRAY[$one]
		FROM generate_series(1, 10000)});
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'children' AND state = 'waiting'}), '10000',
		'10,000 jobs wait for one');
	query('COMMIT');
	state_is($one, 'succeeded', '... which ends');
	ok($node->poll_query_until('postgres',
		q{SELECT count(*) = 10000 FROM gen_jobs WHERE server = 'children' AND state = 'queued'}),
		'... and all of them go on');
	query(q{DELETE FROM gen_jobs WHERE server = 'children'});
};

subtest 'one job waits for thousands' => sub {
	create_paused('parents');
	query(q{INSERT INTO gen_jobs (server, request, run_at) SELECT 'parents', '{"prompt": "parent"}', 'infinity'
		FROM generate_series(1, 10000)});
	my $last = query(q{INSERT INTO gen_jobs (server, request, after, after_rule)
		SELECT 'painter', '{"prompt": "last"}', array_agg(id), 'ended'
		FROM gen_jobs WHERE server = 'parents' RETURNING id});
	my $began = time;
	query(q{UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'parents'});
	my $took = time - $began;
	state_is($last, 'succeeded', 'one job waits for 10,000');
	note("10,000 cancels in one statement took $took s");
	query(q{DELETE FROM gen_jobs WHERE server = 'parents'});
	my @many = split /\n/, query(q{INSERT INTO gen_jobs (server, request)
		SELECT 'painter', '{"prompt": "x", "standin": {"latency_ms": 1}}' FROM generate_series(1, 2000) RETURNING id});
	$last = query(q{INSERT INTO gen_jobs (server, request, after)
		VALUES ('painter', '{"prompt": "last"}', ARRAY[} . join(',', @many) . q{]) RETURNING id});
	state_is($last, 'succeeded', 'one job waits for 2,000 that are run');
};

# ---- genjob.tree() of jobs that wait for each other in many ways ----

sub tree_of
{
	my ($id, $what, $expected) = @_;
	my $since = time;
	is(query("SELECT count(*), min(depth), max(depth), sum(abs(depth)) FROM genjob.tree($id)"), $expected, $what);
	return takes_less(time - $since, 60, '... soon');
}

subtest 'genjob.tree() is soon there where each of 50 layers waits for all of the layer before' => sub {
	create_paused('layers');
	my $jobs = q{INSERT INTO gen_jobs (server, request, %s) SELECT 'layers', '{"prompt": "x"}', %s
		FROM generate_series(1, 50) RETURNING id};
	my @layer = split /\n/, query(sprintf $jobs, 'run_at', q{'infinity'});
	my $first = $layer[0];
	@layer = split /\n/, query(sprintf $jobs, 'after', 'ARRAY[' . join(',', @layer) . ']') foreach 2 .. 50;
	tree_of($layer[-1], 'seen from the last', '2451|-49|0|' . 50 * (49 * 50 / 2));
	tree_of($first, '... seen from the first', '2451|0|49|' . 50 * (49 * 50 / 2));
	query(q{DELETE FROM gen_jobs WHERE server = 'layers'});
};

subtest 'genjob.tree() is soon there where each of 300 jobs waits for all before it' => sub {
	create_paused('chain');
	my $first = query(q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('chain', '{"prompt": "x"}', 'infinity') RETURNING id});
	my $last;
	$last = query(q{INSERT INTO gen_jobs (server, request, after) SELECT 'chain', '{"prompt": "x"}', array_agg(id)
		FROM gen_jobs WHERE server = 'chain' RETURNING id}) foreach 1 .. 300;
	tree_of($last, 'seen from the last', '301|-300|0|' . 300 * 301 / 2);
	tree_of($first, '... seen from the first', '301|0|300|' . 300 * 301 / 2);
	query(q{DELETE FROM gen_jobs WHERE server = 'chain'});
};

subtest 'a chain goes on after a crash' => sub {
	create_paused('crashed');
	my $kept = insert('crashed', {}, server => 'crashed');
	my @chain = (insert('chain 0', {}, after => "ARRAY[$kept]", after_rule => q{'ended'}));
	push @chain, insert("chain $_", {}, after => "ARRAY[$chain[-1]]") foreach 1 .. 5;
	$session->quit;
	undef $session;
	$node->stop('immediate');
	$node->start;
	query("SELECT genjob.cancel($kept)");
	state_is($chain[-1], 'succeeded', 'it goes on');
	nothing_is_left();
};

$session->quit if $session;
$node->stop;
$standin->stop;
done_testing();

# Jobs that wait for others which are deleted: by hand, by genjob.purge(), before and after they were needed; and those
# that did not run, when what they waited for is retried while they are locked.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'after_gone');
create_server($node, 'painter', 'openai-images', $standin, max_attempts => 1);
create_server($node, 'other', 'openai-images', $standin, max_attempts => 1);
create_server($node, 'paused', 'openai-images', $standin, paused => 'on');

sub insert
{
	my ($server, $prompt, %columns) = @_;
	my $n = delete $columns{failures} // 0;
	my $request = StandIn::request(prompt => $prompt, standin => { id => $prompt, faults => [ ({ status => 400 }) x $n ] });
	my $names = join ', ', 'server', 'request', sort keys %columns;
	my $values = join ', ', literal($server), literal($request), map { $columns{$_} } sort keys %columns;
	return query("INSERT INTO gen_jobs ($names) VALUES ($values) RETURNING id");
}

# Passes once the job has ended so.
sub ends
{
	my ($id, $state, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(query("SELECT state FROM genjob.wait($id, '20 s')"), $state, $what)
	  || diag(query("SELECT to_jsonb(j) FROM gen_jobs j WHERE id = $id"));
}

sub error_of { return query("SELECT error FROM gen_jobs WHERE id = $_[0]") }

foreach my $by ('DELETE', 'genjob.purge()')
{
	subtest "one that had succeeded is gone by $by when the other is retried" => sub {
		my $good = insert('other', "good $by");
		ends($good, 'succeeded', 'one succeeds');
		my $bad = insert('painter', "bad $by", failures => 1);
		my $child = insert('painter', "child $by", after => "ARRAY[$good, $bad]");
		my $keyed = insert('painter', "keyed $by", after => "ARRAY[$good, $bad]", unique_key => "'key $by'");
		my $next = insert('painter', "next $by", after => "ARRAY[$good, $child]");
		ends($_, 'failed', 'nothing after the one that failed is run') foreach $child, $keyed, $next;
		query($by eq 'DELETE' ? "DELETE FROM gen_jobs WHERE id = $good" : q{SELECT genjob.purge('other', '0')});
		is(query("SELECT count(*) FROM gen_jobs WHERE id = $good"), '0', 'the good one is deleted');
		query("SELECT genjob.retry($bad)");
		ends($bad, 'succeeded', 'the other succeeds now');
		ends($_, 'succeeded', 'and what waited for both runs') foreach $child, $keyed, $next;
		is(query("SELECT after FROM gen_jobs WHERE id = $child"), "{$bad}", 'after has those that are there');
	};
}

subtest 'a job that has run waits on its retry for those that are there' => sub {
	my $gone = insert('painter', 'gone');
	my $bad = insert('painter', 'bad parent', failures => 1);
	my $child = insert('painter', 'runs twice', after => "ARRAY[$gone, $bad]", after_rule => q{'ended'}, failures => 1);
	ends($child, 'failed', 'it ran, and failed');
	is(query("SELECT attempt FROM gen_jobs WHERE id = $child"), '1', '... by itself');
	query("DELETE FROM gen_jobs WHERE id = $gone");
	query("UPDATE gen_jobs SET server = 'paused', state = 'queued' WHERE id = $bad");
	query("SELECT genjob.retry($child)");
	is(query("SELECT state, after FROM gen_jobs WHERE id = $child"), "waiting|{$bad}", 'it waits for the one that is there');
	query("SELECT genjob.cancel($bad)");
	ends($child, 'succeeded', 'and runs');
};

subtest 'a job that was cancelled while it waited' => sub {
	my $good = insert('painter', 'good before a cancel');
	ends($good, 'succeeded', 'one succeeds');
	my $kept = insert('paused', 'kept');
	my $child = insert('painter', 'cancelled', after => "ARRAY[$good, $kept]");
	query("SELECT genjob.cancel($child)");
	query("DELETE FROM gen_jobs WHERE id = $good");
	query("SELECT genjob.retry($child)");
	is(query("SELECT state, after FROM gen_jobs WHERE id = $child"), "waiting|{$kept}", 'waits again for the one that is there');
	query("UPDATE gen_jobs SET server = 'painter' WHERE id = $kept");
	ends($child, 'succeeded', 'and runs');
};

subtest 'what never was there, or has failed, is missed' => sub {
	my $bad = insert('painter', 'bad for good', failures => 1);
	my $child = insert('painter', 'after the bad one', after => "ARRAY[$bad]");
	ends($child, 'failed', 'fails with the one before');
	query("DELETE FROM gen_jobs WHERE id = $bad");
	query("SELECT genjob.retry($child)");
	ends($child, 'failed', 'fails again when that one is gone');
	like(error_of($child), qr/^job $bad, which this job should wait for, does not exist/, '... and says so');
	query("SELECT genjob.retry($child)");
	ends($child, 'failed', '... each time');
	my $never = insert('painter', 'after nothing', after => 'ARRAY[-5::bigint]');
	ends($never, 'failed', 'one that never was there');
	query("SELECT genjob.retry($never)");
	ends($never, 'failed', '... is missed again');
};

subtest 'a purge keeps what still counts' => sub {
	my $one = insert('other', 'first of two', failures => 9);
	my $two = insert('painter', 'second of two', failures => 1);
	my $child = insert('painter', 'after two', after => "ARRAY[$one, $two]");
	ends($child, 'failed', 'two have failed');
	query(q{SELECT genjob.purge('other', '0')});
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $one"), '1', 'neither of them is purged while a job is there that did not run because of them');
	query("SELECT genjob.retry($two)");
	ends($two, 'succeeded', 'one of them succeeds');
	ends($child, 'failed', 'the job after both does not run');
	like(error_of($child), qr/^job $one, /, '... and names the other');
	my $good = insert('other', 'good and waited for');
	ends($good, 'succeeded', 'one that has succeeded');
	my $kept = insert('paused', 'not yet');
	my $waits = insert('painter', 'waits', after => "ARRAY[$good, $kept]");
	query(q{SELECT genjob.purge('other', '0')});
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $good"), '1', '... is kept while a job waits');
	query("DELETE FROM gen_jobs WHERE id = $good");
	query("UPDATE gen_jobs SET server = 'painter' WHERE id = $kept");
	ends($waits, 'succeeded', 'and counts as it ended when it is deleted');
	query("DELETE FROM gen_jobs WHERE id = $child");
	query(q{SELECT genjob.purge('other', '0')});
	is(query("SELECT count(*) FROM gen_jobs WHERE id = $one"), '0', 'all go when nothing needs them');
};

subtest 'after of a job that has ended is changed' => sub {
	my $bad = insert('painter', 'bad, and not waited for', failures => 1);
	my @children = map { insert('painter', "let go $_", after => "ARRAY[$bad]") } 1 .. 2;
	ends($_, 'failed', 'fails') foreach @children;
	query("UPDATE gen_jobs SET after = NULL WHERE id IN ($children[0], $children[1])");
	query("SELECT genjob.retry($children[0])");
	ends($children[0], 'succeeded', 'one that is to wait for nothing runs when it is retried');
	query("SELECT genjob.retry($bad)");
	ends($bad, 'succeeded', 'a retry of the one that it waited for');
	is(query("SELECT state FROM gen_jobs WHERE id = $children[1]"), 'failed', '... is none of the other');
	query("SELECT genjob.retry($children[1])");
	ends($children[1], 'succeeded', '... which runs when it is retried itself');
};

subtest 'a retry does not tell whether a job of others exists' => sub {
	query(q{CREATE ROLE app; GRANT SELECT, INSERT, UPDATE ON gen_jobs TO app; GRANT USAGE ON FOREIGN SERVER painter TO app});
	my $theirs = insert('paused', 'theirs');
	my $request = StandIn::request(prompt => 'curious', standin => { id => 'curious', faults => [ { status => 400 } ] });
	my $id = query('SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES (' . literal('painter') . ', ' . literal($request) . ') RETURNING id');
	ends($id, 'failed', 'a job has run');
	query("SET ROLE app; UPDATE gen_jobs SET after = ARRAY[$theirs, -5] WHERE id = $id; SELECT genjob.retry($id)");
	is(query("SELECT after FROM gen_jobs WHERE id = $id"), '', 'neither that job nor one that does not exist is left');
	ends($id, 'succeeded', '... and the job runs');
	query("SELECT genjob.cancel($theirs)");
};

# ---- a job that ran, was made to wait for another, and did not run because of that ----

subtest 'what kept a job from running is gone' => sub {
	my $kept = insert('paused', 'kept, then gone');
	my $child = insert('painter', 'ran before', failures => 1);
	ends($child, 'failed', 'a job has run');
	query("UPDATE gen_jobs SET after = ARRAY[$kept] WHERE id = $child; SELECT genjob.retry($child)");
	query("SELECT genjob.cancel($kept)");
	ends($child, 'failed', 'it fails with the one before');
	query("DELETE FROM gen_jobs WHERE id = $kept; SELECT genjob.retry($child)");
	ends($child, 'failed', 'that one is missed');
	like(error_of($child), qr/^job $kept, which this job should wait for, does not exist/, '... by its id');
	query("UPDATE gen_jobs SET after = NULL WHERE id = $child; SELECT genjob.retry($child)");
	ends($child, 'succeeded', 'without it the job runs');
};

subtest 'a retry of both, and a deletion of the first, in one transaction' => sub {
	my $bad = insert('painter', 'retried and deleted', failures => 1);
	ends($bad, 'failed', 'one fails');
	my $child = insert('painter', 'however that ended', failures => 1, after => "ARRAY[$bad]", after_rule => "'ended'");
	ends($child, 'failed', 'so does one after it');
	query("BEGIN; SELECT genjob.retry($bad); SELECT genjob.retry($child); DELETE FROM gen_jobs WHERE id = $bad; COMMIT");
	ends($child, 'failed', 'it does not wait for ever');
	query("SELECT genjob.retry($child)");
	ends($child, 'failed', '... nor when it is retried');
};

# ---- a job that expires while it waits ----

sub expired
{
	my ($prompt, %columns) = @_;
	my $id = insert('painter', $prompt, expires_at => "now() + '300 ms'", %columns);
	ends($id, 'failed', 'a job expires while it waits');
	like(error_of($id), qr/expires_at/, '... and says so');
	return $id;
}

subtest 'what a job waited for has failed since, and is run again' => sub {
	my $first = insert('paused', 'fails first', failures => 1);
	my $child = expired('not needed', after => "ARRAY[$first]", after_rule => "'failed'");
	query("UPDATE gen_jobs SET server = 'painter' WHERE id = $first");
	ends($first, 'failed', 'the one before fails');
	query("UPDATE gen_jobs SET server = 'paused', state = 'queued' WHERE id = $first; SELECT genjob.retry($child)");
	is(query("SELECT state FROM gen_jobs WHERE id = $child"), 'waiting', 'the child waits for its end');
	query("UPDATE gen_jobs SET server = 'painter' WHERE id = $first");
	ends($first, 'succeeded', 'that succeeds');
	ends($child, 'cancelled', 'and the child was not needed');
};

subtest 'what a job waited for is gone since' => sub {
	my ($gone, $there) = (insert('paused', 'is deleted'), insert('paused', 'is cancelled'));
	my $child = expired('after both', after => "ARRAY[$gone, $there]", after_rule => "'ended'");
	query("SELECT genjob.cancel($gone); DELETE FROM gen_jobs WHERE id = $gone; SELECT genjob.retry($child)");
	is(query("SELECT state, after FROM gen_jobs WHERE id = $child"), "waiting|{$there}", 'it waits for the one that is there');
	query("SELECT genjob.cancel($there)");
	ends($child, 'succeeded', 'and runs after that');
};

subtest 'what a job waited for was cancelled, and both are run again' => sub {
	my $first = insert('paused', 'is cancelled and retried');
	my $child = expired('after its success', after => "ARRAY[$first]");
	query("SELECT genjob.cancel($first)");
	query("SELECT genjob.retry($first)");
	query("SELECT genjob.retry($child)");
	is(query("SELECT state, error FROM gen_jobs WHERE id = $child"), 'waiting|', 'it waits, and does not fail first');
	query("UPDATE gen_jobs SET server = 'painter' WHERE id = $first");
	ends($child, 'succeeded', 'and runs');
};

# ---- rows that no trigger has seen, or that wait for nothing ----

subtest 'a row that is inserted as waiting, but waits for nothing' => sub {
	foreach my $after ('NULL', "'{}'")
	{
		my $id = insert('painter', "inserted after $after", state => "'waiting'", after => $after);
		ends($id, 'succeeded', "after $after: it runs");
	}
};

subtest 'a job that waits, restored without triggers' => sub {
	my $first = insert('paused', 'restored first');
	query("ALTER SYSTEM SET genjob.rescan_interval = '1 s'; SELECT pg_reload_conf()");
	my $child = query("ALTER TABLE gen_jobs DISABLE TRIGGER USER;
		INSERT INTO gen_jobs (server, request, state, after, owner, server_oid)
			SELECT 'painter', '{\"prompt\": \"x\"}', 'waiting', ARRAY[$first], 'postgres'::regrole, oid FROM pg_foreign_server WHERE srvname = 'painter' RETURNING id;
		ALTER TABLE gen_jobs ENABLE TRIGGER USER");
	query("UPDATE gen_jobs SET server = 'painter' WHERE id = $first");
	ends($first, 'succeeded', 'the one before ends');
	ends($child, 'succeeded', 'the rescan finds the other');
	query("ALTER SYSTEM RESET genjob.rescan_interval; SELECT pg_reload_conf()");
};

subtest 'the first of some jobs that has ended, where another is gone' => sub {
	my $ended = insert('painter', 'has ended');
	ends($ended, 'succeeded', 'one succeeds');
	is(query("SELECT id FROM genjob.wait_any(ARRAY[999999999, $ended])"), $ended, 'wait_any() gives it');
	my $kept = insert('paused', 'has not');
	my (undef, undef, $words) = $node->psql('postgres', "SELECT genjob.wait_any(ARRAY[999999999, $kept], '1 s')");
	like($words, qr/job 999999999 does not exist/, '... and names one that is gone where none has');
	query("SELECT genjob.cancel($kept)");
};

# ---- what a session leaves to a dispatcher that has just started ----

sub restart
{
	my ($mode) = @_;
	$node->stop($mode // 'fast');
	$node->start;
	wait_dispatcher($node);
	return;
}

# A job that is kept, one after it that did not run because it was cancelled, and a session that has that one locked.
sub blocked_and_locked
{
	my ($name) = @_;
	my $kept = insert('paused', "kept $name");
	my $child = insert('painter', "after $name", after => "ARRAY[$kept]");
	restart() if $name eq 'restarted';
	query("SELECT genjob.cancel($kept)");
	ends($child, 'failed', 'a job fails with the one before');
	restart() if $name eq 'unused';
	my $holder = Session->new($node);
	$holder->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $child FOR UPDATE");
	query("SELECT genjob.retry($kept)");
	is(query("SELECT state FROM gen_jobs WHERE id = $child"), 'failed', 'it is locked when that one is retried');
	return ($kept, $child, $holder);
}

query('DELETE FROM gen_jobs');
foreach my $name ('restarted', 'unused', 'crashed')
{
	subtest "a job that is locked while the one before is retried, $name" => sub {
		my ($kept, $child, $holder) = blocked_and_locked($name);
		if ($name eq 'crashed')
		{
			restart('immediate');
		}
		else
		{
			$holder->query('COMMIT');
		}
		ok($node->poll_query_until('postgres', "SELECT state = 'waiting' FROM gen_jobs WHERE id = $child"), 'it waits again when it is free');
		query("UPDATE gen_jobs SET server = 'painter' WHERE id = $kept");
		ends($child, 'succeeded', 'and runs');
		$holder->quit;
		query('DELETE FROM gen_jobs');
	};
}

is(query('SELECT count(*) FROM genjob.dependencies'), '0', 'nothing is left');
$node->stop;
$standin->stop;
done_testing();

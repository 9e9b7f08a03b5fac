# genjob.max_memory: however large jobs and answers are, and however many come at once, the dispatcher takes little more
# than that. Jobs wait in the table and answers at their servers, and nobody waits for ever.
#
# Memory is what only the dispatcher has (RssAnon of /proc/PID/status), at its highest.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use GenJobTest qw(!query !eventually);
use Session;
use StandIn;

my $bound = 64;    # MB: the least that can be set
my $reason = 'genjob.max_memory is reached';
my $node = new_node(conf => <<"CONF");
genjob.max_memory = '$bound MB'
genjob.debug_clock_speed = 10
synchronous_commit = off
autovacuum = off
max_wal_size = '4GB'
CONF
my $standin = StandIn->new(latency_ms => 100, backlog => 1024);
my $pid = dispatcher_pid($node);
plan skip_all => 'needs /proc/PID/status' unless -r "/proc/$pid/status";

my $session = Session->new($node);

sub query
{
	my ($sql) = @_;
	my $answer = $session->query($sql);
	die($session->messages) if $session->messages =~ /ERROR/;
	return $answer;
}

# MB that this process alone has.
sub memory
{
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB/m;
	return int($kb / 1024);
}

# Polls until $sql is true, and gives the most memory that was seen meanwhile, and whether $noted ever was true; nothing
# after a while.
sub most_until
{
	my ($sql, $noted) = @_;
	my ($most, $until, $asked, $seen) = (0, time + $PostgreSQL::Test::Utils::timeout_default, 0, 0);
	while (time < $until)
	{
		my $now = memory();
		$most = $now if $now > $most;
		if (time - $asked > 0.05)
		{
			$seen ||= query($noted) eq 't' if defined $noted;
			return wantarray ? ($most, $seen) : $most if query($sql) eq 't';
			$asked = time;
		}
		sleep 0.003;
	}
	diag(query('SELECT server, state, count(*), max(error) FROM gen_jobs GROUP BY 1, 2'));
	return;
}

sub eventually
{
	my ($sql, $name) = @_;
	return ok(defined scalar(most_until($sql)), $name);
}

sub all_ended
{
	my ($server) = @_;
	return "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = '$server' AND state IN ('queued', 'running'))";
}

sub held_back
{
	my ($server) = @_;
	return "SELECT bool_or(held_reason = '$reason') FROM genjob.servers WHERE server = '$server'";
}

sub outcomes
{
	my ($server) = @_;
	return query("SELECT state, count(*), max(attempt) FROM gen_jobs WHERE server = '$server' GROUP BY 1 ORDER BY 1");
}

sub nothing_is_held
{
	return eventually("SELECT query = '0 calls in flight' FROM pg_stat_activity WHERE pid = $pid",
		'then nothing is counted any more');
}

sub cancel_running
{
	my ($server) = @_;
	query("SELECT genjob.cancel(id) FROM gen_jobs WHERE state = 'running' AND server = '$server'");
	return;
}

# Servers that take a request with its inputs, for one subtest.
sub create_takers
{
	create_server($node, $_, 'http', $standin, path => '/binary', max_in_flight => 300) foreach @_;
	return;
}

# A request for a picture of some 4 MB.
my $picture = StandIn::request(prompt => 'a large picture', size => '1150x1150', standin => { latency_ms => 300 });

# A server of pictures, for one subtest, which has painted that one.
sub create_painter
{
	my ($name) = @_;
	create_server($node, $name, 'openai-images', $standin, max_in_flight => 300);
	query("INSERT INTO gen_jobs (server, request) VALUES ('$name', '$picture')");
	return eventually(all_ended($name), 'a picture of 4 MB is painted');
}

# N jobs for a server with an input of MB each (of which base64 makes a third more), and a script for the stand-in.
sub insert
{
	my ($server, $n, $mb, $script) = @_;
	my $request = literal(
		StandIn::request(prompt => 'large', image => { '$input' => 1 }, $script ? (standin => $script) : ()));
	query(qq{WITH input AS MATERIALIZED (SELECT decode(repeat(md5('x'), 65536 * $mb), 'hex') AS bytes)
		INSERT INTO gen_jobs (server, request, inputs)
		SELECT '$server', $request, ARRAY[bytes] FROM input, generate_series(1, $n)});
	return;
}

# Catalogs, plans and libraries are not what is measured.
create_takers('first');
insert('first', 2, 1);
eventually(all_ended('first'), 'two jobs with inputs end');

subtest 'many large jobs take no more memory than the setting allows' => sub {
	create_takers('large');
	$standin->reset;
	my $before = memory();
	insert('large', 100, 1);
	my ($most, $is_shown) = most_until(all_ended('large'), held_back('large'));
	is(outcomes('large'), 'succeeded|100|1', '100 jobs of 1 MB each succeed, each at once');
	takes_less($most - $before, $bound + 32, "... in less than $bound MB and some");
	my $counts = $standin->counts(summary => 1);
	is("$counts->{distinct_keys} $counts->{max_per_key}", '100 1', '... and each is sent once');
	ok($is_shown, '... while genjob.servers says what holds them back');
	nothing_is_held();
};

subtest 'many large answers take no more memory than the setting allows, and none is lost' => sub {
	create_painter('painter');
	$standin->reset;
	my $before = memory();
	query("INSERT INTO gen_jobs (server, request) SELECT 'painter', '$picture' FROM generate_series(1, 30)");
	my $most = most_until(all_ended('painter'));
	is(outcomes('painter'), 'succeeded|31|1', '30 such answers at once all arrive')
	  or diag(query("SELECT error, attempt_errors FROM gen_jobs WHERE state = 'failed' AND server = 'painter'"));
	takes_less($most - $before, $bound + 48, "... in less than $bound MB and some");
	is(query(q{SELECT count(*), count(DISTINCT o.sha256), min(bytes) > 3900000
		FROM gen_outputs o JOIN gen_jobs j ON j.id = job_id WHERE server = 'painter'}), '31|1|t', '... unbroken');
	my $counts = $standin->counts(summary => 1);
	is("$counts->{distinct_keys} $counts->{max_answered_per_key}", '30 1', '... and each is paid once');
	nothing_is_held();
};

subtest 'a job that is larger than the bound runs, among others' => sub {
	create_takers('crowd', 'giant');
	query('BEGIN');
	insert('crowd', 20, 1);
	insert('giant', 1, $bound - 4);
	query('COMMIT');
	eventually(all_ended('giant'), 'a job that is larger than the bound ends');
	eventually(all_ended('crowd'), '... and so do others');
	is(outcomes('giant'), 'succeeded|1|1', '... it succeeds');
	nothing_is_held();
};

subtest 'jobs of others run while large ones wait for each other' => sub {
	create_takers('hung', 'small', 'larger');
	insert('hung', 2, 14, { latency_ms => 3600000 });
	eventually(held_back('hung'), 'of two that are too large together one waits');
	query("INSERT INTO gen_jobs (server, request) SELECT 'small', '{}' FROM generate_series(1, 20)");
	insert('larger', 5, 1);
	eventually(all_ended('small'), 'small jobs of another server do not');
	eventually(all_ended('larger'), '... nor do larger ones for which there is room');
	is(outcomes('hung'), "queued|1|0\nrunning|1|1", '... it still does');
	cancel_running('hung');
	eventually("SELECT count(*) = 1 FROM gen_jobs WHERE server = 'hung' AND state = 'running'",
		'until the other one is over');
	cancel_running('hung');
	nothing_is_held();
};

subtest 'an answer waits for memory longer than its timeout, and is not lost' => sub {
	create_painter('source');
	create_takers('full', 'referring');
	create_server($node, 'dripping', 'openai-images', $standin);
	create_server($node, 'hasty', 'openai-images', $standin, timeout => '1500 ms');
	insert('full', 1, $bound - 4, { latency_ms => 3600000 });
	eventually("SELECT state = 'running' FROM gen_jobs WHERE server = 'full'", 'one job takes all memory');
	query(q{INSERT INTO gen_jobs (server, request)
		SELECT 'referring', jsonb_build_object('image', jsonb_build_object('$output', jsonb_build_array(id, 1)))
		FROM gen_jobs WHERE server = 'source'});
	eventually(q{SELECT bool_or(state = 'queued' AND error LIKE 'genjob.max_memory is reached: other jobs%')
		FROM gen_jobs WHERE server = 'referring'}, '... so that outputs to which another one refers are not read');
	my $dripping = StandIn::request(prompt => 'a slow one', size => '500x500',
		standin => { faults => [ { drip => { bytes => 20000, every_ms => 100 } } ] });
	query("INSERT INTO gen_jobs (server, request) VALUES ('dripping', '$dripping')");
	eventually("SELECT bool_or(bytes_received > 200000) FROM genjob.activity WHERE server = 'dripping'",
		'then one answer still comes, slowly');
	my $fast = StandIn::request(prompt => 'a fast one', size => '500x500');
	query("INSERT INTO gen_jobs (server, request) VALUES ('hasty', '$fast')");
	my $begun = time;
	eventually(all_ended('hasty'), '... and then another one');
	cmp_ok(time - $begun, '>', 1.5, '... which has waited longer than its timeout');
	eventually(all_ended('dripping'), 'both end');
	is(outcomes('hasty') . ' ' . outcomes('dripping'), 'succeeded|1|1 succeeded|1|1', '... and is not lost')
	  or diag(query("SELECT attempt_errors FROM gen_jobs WHERE server IN ('hasty', 'dripping')"));
	cancel_running('full');
	eventually(all_ended('referring'), 'what referred to an output is sent, too');
	is(query("SELECT state FROM gen_jobs WHERE server = 'referring'"), 'succeeded', '... it succeeds');
	nothing_is_held();
};

subtest 'inputs that are larger than the table says take no more memory than twice the setting' => sub {
	create_takers('compressed');
	query(q{CREATE TABLE others (inputs bytea[]);
		INSERT INTO others SELECT ARRAY[decode(repeat('00', 20000000), 'hex')]});
	my $before = memory();
	query(q{INSERT INTO gen_jobs (server, request, inputs)
		SELECT 'compressed', '{"image": {"$input": 1}}', inputs FROM others, generate_series(1, 6)});
	is(query(q{SELECT max(pg_column_size(inputs)) < 1000000 FROM gen_jobs
		WHERE server = 'compressed' AND state IN ('queued', 'running')}), 't', 'where inputs are compressed');
	my $most = most_until(all_ended('compressed'));
	is(query(q{SELECT count(*) FROM gen_jobs
		WHERE server = 'compressed' AND state = 'succeeded' AND inputs IS NOT NULL}), '6', '... all jobs succeed');
	takes_less($most - $before, 2 * $bound + 48, '... one after another');
	nothing_is_held();
};

$standin->stop;
$session->quit;
$node->stop;
done_testing();

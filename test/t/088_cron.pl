# docs/workflows.md, "By time": a real pg_cron, as a plain role schedules it, while a library that is preloaded into the
# server moves the calendar on (test/standin/shim.c).

use strict;
use warnings;

use File::Basename qw(dirname);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use Document;
use GenJobTest;
use StandIn;

chomp(my $library = `pg_config --pkglibdir`);
plan skip_all => 'pg_cron is not installed (tools/install-packages workflows)' unless -e "$library/pg_cron.so";

my %blocks = Document::blocks('workflows.md', 'sql');
my ($create, $schedule, $ask) = @{ $blocks{'By time'} };
my $folder = PostgreSQL::Test::Utils::tempdir();
my $standin = StandIn->new;
my $offset = 0;

# Sets how many seconds the server's calendar is ahead.
sub set_clock
{
	($offset) = @_;
	open(my $file, '>', "$folder/clock.new") or die "could not write $folder/clock.new: $!";
	print $file $offset;
	close $file or die "could not write $folder/clock.new: $!";
	rename("$folder/clock.new", "$folder/clock") or die "could not rename $folder/clock.new: $!";
	return;
}

# Moves the server's calendar on to the next time that it is so many minutes past midnight. pg_cron's hours are those
# of GMT. It makes up for less than three hours, and skips what was due in more.
sub move_clock
{
	my ($minutes) = @_;
	set_clock($offset + (60 * $minutes + 10 - int(time + $offset)) % 86_400);
	return;
}

# Moves the calendar on minute by minute until something has been done: pg_cron may not be there yet.
sub pass_minutes
{
	my ($sql) = @_;
	for (my $minutes = 0; $minutes < 90; $minutes++)
	{
		my $until = time + 3;
		do { return 1 if query($sql) eq 't'; sleep 0.2 } while time < $until;
		set_clock($offset + 60);
	}
	diag(query('SELECT command, status, return_message FROM cron.job_run_details ORDER BY runid'));
	return 0;
}

sub no_run_has_failed
{
	return is(query(q{SELECT string_agg(DISTINCT status, ', ') FROM cron.job_run_details
		WHERE status NOT IN ('succeeded', 'starting', 'running')}), '', 'no run has failed');
}

move_clock(10);
chmod 0755, $folder;
my $node = new_node(start => 0, name => 'cron', conf => join("\n", q{shared_preload_libraries = 'genjob, pg_cron'},
	q{cron.database_name = 'postgres'}, 'cron.use_background_workers = on', q{timezone = 'GMT'}));
{
	local $ENV{LD_PRELOAD} = dirname(StandIn::binary()) . '/shim.so';
	local $ENV{SHIM_CLOCK} = "$folder/clock";
	$node->start;
}

plan skip_all => 'the clock of the server cannot be moved here'
  unless query(q{SELECT to_char(now(), 'HH24:MI')}) =~ /^00:1/;
query('CREATE EXTENSION genjob');
wait_dispatcher($node);
create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'writer', 'openai-chat', $standin);
query(q{CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON gen_jobs TO app;
	GRANT SELECT ON gen_outputs TO app; GRANT USAGE ON FOREIGN SERVER painter, writer TO app;
	GRANT CREATE ON SCHEMA public TO app});
query($create);
query('CREATE TABLE product (id bigint PRIMARY KEY, name text, picture bytea)', undef, 'app');
query($schedule, undef, 'app');

subtest 'a heartbeat is sent each minute, as the role that scheduled it' => sub {
	my $last = query('SELECT coalesce(max(id), 0) FROM gen_jobs');
	my $new = "FROM gen_jobs WHERE id > $last AND unique_key = 'heartbeat'";
	ok(pass_minutes("SELECT count(*) > 0 $new AND state = 'succeeded'"), 'the heart beats');
	isnt(query($ask, undef, 'app'), '', '... as a monitor sees');
	is(query("SELECT DISTINCT owner $new"), 'app', '... and its jobs are of the role that scheduled it');
	no_run_has_failed();
};

subtest 'a nightly batch orders what has no picture yet' => sub {
	query(q{INSERT INTO product VALUES (1, 'a kettle', NULL), (2, 'a lamp', NULL), (3, 'a chair', '\x01')});
	move_clock(119);
	ok(pass_minutes(q{SELECT count(*) = 2 FROM gen_jobs WHERE request_id LIKE 'product %' AND state = 'succeeded'}),
		'at two the nightly batch is ordered');
	is(query(q{SELECT string_agg(request->>'prompt', ', ' ORDER BY id) FROM gen_jobs
		WHERE request_id LIKE 'product %'}), 'a kettle, a lamp', '... of what has no picture yet');
	no_run_has_failed();
};

subtest 'retention purges what is older than 30 days, and nothing else' => sub {
	query(q{INSERT INTO gen_jobs (server, request, state, finished_at, owner)
		SELECT 'painter', jsonb_build_object('prompt', prompt), 'succeeded', now() - days * interval '1 day', 'app'
		FROM (VALUES ('old', 31), ('old', 40), ('not so old', 29)) v (prompt, days)});
	move_clock(136);
	ok(pass_minutes(q{SELECT count(*) = 0 FROM gen_jobs WHERE request->>'prompt' = 'old'}), 'what is old is purged');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE request->>'prompt' = 'not so old'}), 1, '... and nothing else');
	no_run_has_failed();
};

$node->stop('immediate');
$standin->stop;
done_testing();

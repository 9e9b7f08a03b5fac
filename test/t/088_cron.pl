# docs/workflows.md, "By time": a real pg_cron, as a plain role schedules it, while the calendar is moved on by a library
# that is preloaded into the server (test/standin/shim.c).

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
my $offset;

# Sets the server's calendar.
sub set_clock
{
	($offset) = @_;
	open(my $file, '>', "$folder/clock.new") or die "could not write $folder/clock.new: $!";
	print $file $offset;
	close $file or die "could not write $folder/clock.new: $!";
	rename("$folder/clock.new", "$folder/clock") or die "could not rename $folder/clock.new: $!";
	return;
}

# pg_cron's hours are those of GMT: to begin with, it is ten past midnight.
my $midnight = 86_400 - time % 86_400;
set_clock(int($midnight + 610));
chmod 0755, $folder;
my $node = new_node(start => 0, name => 'cron',
	conf => "shared_preload_libraries = 'genjob, pg_cron'\ncron.database_name = 'postgres'\ncron.use_background_workers = on\ntimezone = 'GMT'");
{
	local $ENV{LD_PRELOAD} = dirname(StandIn::binary()) . '/shim.so';
	local $ENV{SHIM_CLOCK} = "$folder/clock";
	$node->start;
}

plan skip_all => 'the clock of the server cannot be moved here' unless query(q{SELECT to_char(now(), 'HH24:MI')}) =~ /^00:1/;
query('CREATE EXTENSION genjob');
wait_dispatcher($node);
create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'writer', 'openai-chat', $standin);
query(q{CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app;
	GRANT USAGE ON FOREIGN SERVER painter, writer TO app; GRANT CREATE ON SCHEMA public TO app});
query($create);
query(q{CREATE TABLE product (id bigint PRIMARY KEY, name text, picture bytea);
	INSERT INTO product VALUES (1, 'a kettle', NULL), (2, 'a lamp', NULL), (3, 'a chair', '\x01')}, undef, 'app');
query(q{INSERT INTO gen_jobs (server, request, state, finished_at, owner)
	SELECT 'painter', jsonb_build_object('prompt', prompt), 'succeeded', now() - days * interval '1 day', 'app'
	FROM (VALUES ('old', 31), ('old', 40), ('not so old', 29)) v (prompt, days)});
query($schedule, undef, 'app');

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

ok(pass_minutes(q{SELECT count(*) > 0 FROM gen_jobs WHERE unique_key = 'heartbeat' AND state = 'succeeded'}), 'the heart beats');
isnt(query($ask, undef, 'app'), '', '... as a monitor sees');
is(query(q{SELECT DISTINCT owner FROM gen_jobs WHERE unique_key = 'heartbeat'}), 'app', '... and its jobs are of the role that scheduled it');
# less than three hours on pg_cron makes up for
set_clock(int($midnight + 7150));
ok(pass_minutes(q{SELECT count(*) = 2 FROM gen_jobs WHERE request_id LIKE 'product %' AND state = 'succeeded'}), 'at two the nightly batch is ordered');
is(query(q{SELECT string_agg(request->>'prompt', ', ' ORDER BY id) FROM gen_jobs WHERE request_id LIKE 'product %'}), 'a kettle, a lamp', '... of what has no picture yet');
set_clock(int($midnight + 8170));
ok(pass_minutes(q{SELECT count(*) = 0 FROM gen_jobs WHERE request->>'prompt' = 'old'}), 'what is old is purged');
is(query(q{SELECT count(*) FROM gen_jobs WHERE request->>'prompt' = 'not so old'}), 1, '... and nothing else');
is(query(q{SELECT string_agg(DISTINCT status, ', ') FROM cron.job_run_details WHERE status NOT IN ('succeeded', 'starting', 'running')}), '', 'no run has failed');

$node->stop('immediate');
$standin->stop;
done_testing();

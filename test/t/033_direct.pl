# Jobs of the common kind are claimed and reported without a statement (queue/direct.c), but only where nothing hangs on
# gen_jobs that a statement would fire or ask. Whatever hangs there, the jobs are run, and no index misses a row.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
create_server($node, 'painter', 'openai-images', $standin);

# What is reported without a statement, at a server without the option retention, is not retained: that tells the two apart.
sub run_job
{
	my ($what, $is_direct) = @_;
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'a boat'));
	ok(wait_state($node, $id, 'succeeded'), "$what: the job is run") || diag(query("SELECT state, error FROM gen_jobs WHERE id = $id"));
	is(query("SELECT NOT retained FROM gen_jobs WHERE id = $id"), $is_direct ? 't' : 'f', $is_direct ? '... without statements' : '... by statements');
	return $id;
}

# Every row, in every index in which it belongs.
sub indexes_are_whole
{
	my ($what) = @_;
	SKIP:
	{
		skip 'amcheck is not installed', 1 unless query("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'");
		query('CREATE EXTENSION IF NOT EXISTS amcheck');
		my ($code, undef, $stderr) = $node->psql('postgres',
			"SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam AND a.amname = 'btree' WHERE i.indrelid = 'gen_jobs'::regclass");
		is("$code $stderr", '0 ', "$what: no index misses a row");
	}
	return;
}

subtest 'what hangs on the table' => sub {
	run_job('nothing hangs on the table', 1);
	indexes_are_whole('without statements');

	my %hangs = (
		'a trigger' => [q{CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (NEW.state::text); RETURN NULL; END $$;
			CREATE TABLE told (state text); GRANT INSERT ON told TO genjob_dispatcher;
			CREATE TRIGGER tell AFTER UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION tell()}, 'DROP TRIGGER tell ON gen_jobs'],
		'a check of what changes' => ['ALTER TABLE gen_jobs ADD CONSTRAINT few CHECK (attempt < 1000)', 'ALTER TABLE gen_jobs DROP CONSTRAINT few'],
		'a check of the row' => ['ALTER TABLE gen_jobs ADD CONSTRAINT any_row CHECK (gen_jobs IS NOT NULL OR true)', 'ALTER TABLE gen_jobs DROP CONSTRAINT any_row'],
		'a computed column' => ['ALTER TABLE gen_jobs ADD tries integer GENERATED ALWAYS AS (attempt * 2) STORED', 'ALTER TABLE gen_jobs DROP tries'],
		'a column that must not be null' => ["ALTER TABLE gen_jobs ADD CONSTRAINT told CHECK (error IS NOT NULL OR state <> 'failed')", 'ALTER TABLE gen_jobs DROP CONSTRAINT told'],
		'a rule' => ['CREATE RULE nothing_more AS ON UPDATE TO gen_jobs DO ALSO NOTHING', 'DROP RULE nothing_more ON gen_jobs'],
		'a table that inherits' => ['CREATE TABLE more_jobs () INHERITS (gen_jobs)', undef],
	);
	for my $what (sort { ($a =~ /inherits/) <=> ($b =~ /inherits/) || $a cmp $b } keys %hangs)
	{
		my ($make, $drop) = @{ $hangs{$what} };
		query($make);
		run_job($what, 0);
		next unless defined $drop;
		query($drop);
		run_job("without $what", 1);
	}
	is(query("SELECT string_agg(state, ' ') FROM told"), 'running succeeded', 'a trigger sees the claim and the end');
	indexes_are_whole('by statements');
	query('DROP TABLE more_jobs');
};

subtest 'what hangs there and changes nothing' => sub {
	query(q{CREATE TABLE orders (job bigint REFERENCES gen_jobs);
		CREATE INDEX ON gen_jobs (lower(tenant)) WHERE state = 'succeeded';
		ALTER TABLE gen_jobs ADD label text DEFAULT 'none', ADD CHECK (priority < 1000), ADD CHECK (label <> '')});
	# the pages of a table that was inherited from say so until somebody looks
	query('VACUUM ANALYZE gen_jobs');
	my $id = run_job('a foreign key, an index and checks of other columns', 1);
	query("INSERT INTO orders VALUES ($id)");
	indexes_are_whole('with them');
};

subtest 'rows that others hold' => sub {
	my $held = enqueue($node, 'painter', StandIn::request(prompt => 'held', latency_ms => 1500));
	ok(wait_state($node, $held, 'running'), 'a job runs');
	my $holder = $node->background_psql('postgres');
	$holder->query_safe("BEGIN; SELECT FROM gen_jobs WHERE id = $held FOR UPDATE");
	run_job('while another session holds its row', 1);
	my $queued = query(q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('painter', '{"prompt": "later"}', now() + interval '1 s') RETURNING id});
	$holder->query_safe("SELECT FROM gen_jobs WHERE id = $queued FOR SHARE");
	my $began = time;
	run_job('while it holds two', 1) for 1 .. 5;
	cmp_ok(time - $began, '<', 30, '... nobody waits for it');
	$holder->query_safe('COMMIT');
	$holder->quit;
	ok(wait_state($node, $_, 'succeeded'), 'then they go on') for ($held, $queued);
	is(query("SELECT sum(attempt) FROM gen_jobs WHERE id IN ($held, $queued)"), 2, '... each was run once');
	indexes_are_whole('in the end');
};

$node->stop;
$standin->stop;
done_testing();

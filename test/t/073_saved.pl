# Answers that an earlier dispatcher has saved are read when the next one starts. Many large ones hold up nobody: others'
# jobs go on between them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

use IO::Socket::INET;

use GenJobTest qw(!query);
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

my $n = 24;
my $standin = StandIn->new;
my $node = new_node(name => 'saved', conf => "genjob.max_writers = 0\nautovacuum = off\nsynchronous_commit = off");

sub query { return $node->safe_psql('postgres', $_[0]); }

create_server($node, 'left', 'http', $standin, output => '/data/*', max_in_flight => 100);
create_server($node, 'brief', 'openai-images', $standin, max_in_flight => 1);

subtest 'ends 22: large answers that were saved keep the jobs of others waiting after a restart' => sub {
	query(q{ALTER SYSTEM SET genjob.enabled = off; SELECT pg_reload_conf()});
	ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')}), 'there is no dispatcher');
	query(
		qq{SET session_replication_role = replica;
		INSERT INTO gen_jobs (server, request, state, attempt, started_at, idempotency_key, remote)
		SELECT 'left', '{}', 'running', 1, now(), gen_random_uuid(), jsonb_build_object('urls', '{}'::jsonb, 'answer',
			jsonb_build_object('data', '[]'::jsonb, 'number', i, 'a', (SELECT jsonb_agg(v) FROM generate_series(1, 100000) v)))
		FROM generate_series(1, $n) i;
		UPDATE gen_jobs SET claimed_elsewhere = false;
		RESET session_replication_role;
		INSERT INTO gen_jobs (server, request) SELECT 'brief', jsonb_build_object('prompt', 'number ' || i) FROM generate_series(1, 200) i;
		ALTER SYSTEM RESET genjob.enabled; SELECT pg_reload_conf()});
	ok(wait_all_ended($node), 'all jobs end');
	is(query(q{SELECT count(DISTINCT result ->> 'number') FROM gen_jobs WHERE server = 'left' AND state = 'succeeded'}), $n, 'those with answers with theirs');
	my ($all, $gap) = split /\|/, query(
		q{SELECT extract(epoch FROM max(finished_at) FILTER (WHERE server = 'left') - (SELECT min(started_at) FROM gen_jobs WHERE server = 'brief')),
			(SELECT extract(epoch FROM max(gap)) FROM (SELECT finished_at - lag(finished_at, 1, started_at) OVER (ORDER BY finished_at) AS gap FROM gen_jobs WHERE server = 'brief') g)
		FROM gen_jobs});
	note("in $all s one waits $gap s at most");
	takes_less($gap, $all / 2, 'no job of another server waits for long');
};

# jsonb needs some stack for each level of an answer.
subtest 'an answer that the table refuses to save is no prediction after a crash' => sub {
	plan skip_all => 'with a sanitizer the dispatcher itself needs more stack' if figures_mean_nothing();
	my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "no socket: $!";
	my $url = 'http://127.0.0.1:' . $silent->sockport . '/picture.png';
	create_server($node, 'linked', 'http', $standin, path => '/text', output => '/data/*');
	query('DELETE FROM gen_jobs; ALTER SYSTEM SET max_stack_depth = 100; SELECT pg_reload_conf()');
	my $body = qq({"data": ["$url"], "x": ) . '[' x 990 . ']' x 990 . '}';
	my $script = { id => 'deep', faults => [ { body => $body, content_type => 'application/json' } ] };
	my $id = enqueue($node, 'linked', StandIn::request(prompt => 'deep', standin => $script));
	ok($node->poll_query_until('postgres', "SELECT remote IS NOT NULL FROM gen_jobs WHERE id = $id"),
		'its row is saved');
	if (query("SELECT remote ? 'answer' FROM gen_jobs WHERE id = $id") eq 't')
	{
		note('jsonb of this PostgreSQL needs less stack, and the table takes the answer');
		query("ALTER SYSTEM RESET max_stack_depth; SELECT pg_reload_conf(); SELECT genjob.cancel($id)");
		close $silent;
		return;
	}
	is(query("SELECT remote ? 'answer', remote ? 'urls' FROM gen_jobs WHERE id = $id"),
		'f|f', '... without the answer and the name of a prediction');
	$node->stop('immediate');
	close $silent;
	$node->append_conf('postgresql.auto.conf', 'max_stack_depth = 2048');
	$node->start;
	ok(wait_state($node, $id, 'succeeded'), 'after a crash the job succeeds');
	is(query("SELECT attempt FROM gen_jobs WHERE id = $id"), 2, '... at a second attempt');
	is($standin->counts(summary => 1)->{max_per_key}, 2, '... under the same key');
	query('ALTER SYSTEM RESET max_stack_depth; SELECT pg_reload_conf()');
};

# Rows of another server that have saved, one each: an answer of two million numbers; and a verdict with an output of 30
# MB, as for a store that failed.
my @large = (q{'answer', jsonb_build_object('data', '[]'::jsonb, 'number', i, 'a', (SELECT jsonb_agg(v) FROM generate_series(1, 2000000) v))},
	q{'answer', jsonb_build_object('$verdict', 1, 'status', 200, 'result', jsonb_build_object('number', i),
		'outputs', jsonb_build_array(jsonb_build_object('type', 'image/png', 'data', translate(encode(convert_to(repeat(md5(i::text), 30 * 32768), 'UTF8'), 'base64'), E'\n', ''))))});

sub save_large
{
	my ($insert) = @_;
	query('ALTER SYSTEM SET genjob.enabled = off; SELECT pg_reload_conf()');
	$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'genjob dispatcher')});
	query('DELETE FROM gen_jobs; SET session_replication_role = replica; '
		  . join('; ', map { "INSERT INTO gen_jobs (server, request, state, attempt, started_at, idempotency_key, remote, claimed_elsewhere)
				SELECT 'left', '{}', 'running', 1, now(), gen_random_uuid(), jsonb_build_object('urls', '{}'::jsonb, $_), false FROM generate_series(1, 2) i" } @large));
	return;
}

my $offset;

sub go_on
{
	$offset = -s $node->logfile;
	query('ALTER SYSTEM RESET genjob.enabled; SELECT pg_reload_conf()');
	return;
}

query('ALTER SYSTEM RESET genjob.max_writers; ALTER SYSTEM SET genjob.max_writers = 2; ALTER SYSTEM SET log_min_messages = debug1; SELECT pg_reload_conf()');

subtest 'ends 23: one very large answer that was saved holds the dispatcher up after a restart' => sub {
	save_large();
	go_on();
	ok(wait_all_ended($node), 'all jobs end');
	is(query(q{SELECT string_agg(result ->> 'number', ' ' ORDER BY id) FROM gen_jobs WHERE state = 'succeeded'}), '1 2 1 2', '... with their answers');
	is(query(q{SELECT count(*) FROM gen_outputs WHERE bytes = 30 * 1024 * 1024 AND sha256 = sha256(data) AND content_type = 'image/png'}), 2, '... and outputs');
	no_turn_is_long($node, $offset, 'answers that were saved');
};

subtest 'a job that is cancelled while what it has saved is being read' => sub {
	save_large();
	go_on();
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'genjob writer' AND query ~ 'what was saved'}), 'it is being read');
	query('SELECT genjob.cancel(id) FROM gen_jobs');
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 4 FROM gen_jobs WHERE state IN ('cancelled', 'succeeded') AND remote IS NULL}), 'it ends');
};

subtest 'a writer that ends while it reads what was saved' => sub {
	save_large();
	go_on();
	ok($node->poll_query_until('postgres', q{SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE backend_type = 'genjob writer' AND query ~ 'what was saved'}), 'it is ended');
	ok(wait_all_ended($node), 'all jobs end');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded'}), 4, '... with their answers');
	is(query(q{SELECT count(*) FROM gen_outputs WHERE bytes = 30 * 1024 * 1024}), 2, '... and outputs');
};

subtest 'a dispatcher that ends while a writer reads what was saved' => sub {
	save_large();
	go_on();
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'genjob writer' AND query ~ 'what was saved'}), 'it is being read');
	$node->restart;
	ok(wait_all_ended($node), 'all jobs end');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'succeeded'}), 4, '... with their answers');
};

$node->stop;
done_testing();

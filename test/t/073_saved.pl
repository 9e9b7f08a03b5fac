# Answers that an earlier dispatcher has saved are read when the next one starts. Many large ones hold up nobody: others'
# jobs go on between them.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

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

$node->stop;
done_testing();

# Lambda's Event: the job is handed over, and its answer comes by genjob.complete(), from whoever has the token.

use strict;
use warnings;

use HTTP::Tiny;
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;

my $aws = PythonServer->new('services.py');
plan skip_all => 'not installed: ' . $aws->missing if $aws->missing;

my $node = new_node();
my $http = HTTP::Tiny->new(timeout => 30);
my $json = JSON::PP->new->utf8->canonical;

sub calls { return $json->decode($http->get($aws->url('/_calls'))->{content}) }
sub faults { return $http->post($aws->url('/_faults'), { content => $json->encode({ faults => [@_] }) }) }

# What was handed over for a job, the last time.
sub payload
{
	my ($id) = @_;
	my @found = grep { ($_->{body}{genjob}{job} // 0) == $id } @{ calls() };
	return @found ? $found[-1] : undef;
}

# The token of a job that is with the function now.
sub token
{
	my ($id, $attempt) = (@_, 1);
	$node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL AND attempt = $attempt FROM gen_jobs WHERE id = $id") or return '';
	return payload($id)->{body}{genjob}{token};
}

# What genjob.complete() says to a role that may do nothing else: true, false or the error.
sub complete
{
	my ($id, $token, @more) = @_;
	my ($status, $out, $error) = $node->psql('postgres', "SET ROLE worker; SELECT genjob.complete($id, '$token'" . join('', map { ", $_" } @more) . ')');
	return $status == 0 ? $out : $error =~ s/^psql:\S+ //r;
}

query("CREATE SERVER event FOREIGN DATA WRAPPER genjob OPTIONS (api 'aws-lambda', url '" . $aws->url
	  . "', region 'eu-central-1', model 'paint', reply 'hand-over', retry_base '100 ms', retry_max '200 ms', max_in_flight '20')");
query(q{CREATE USER MAPPING FOR PUBLIC SERVER event OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'wJalrXUtnFEMI')});
query('CREATE ROLE worker');

sub of_copy { return $node->safe_psql('copy', $_[0]) }

subtest 'an answer' => sub {
	my $id = enqueue($node, 'event', { prompt => 'a boat' });
	my $token = token($id);
	my $call = payload($id);
	is($call->{headers}{'x-amz-invocation-type'}, 'Event', 'Lambda is told that nobody waits');
	is($call->{body}{prompt}, 'a boat', '... and gets the request');
	like($token, qr/^[0-9a-f]{64}$/, '... with a token');
	is(job($node, $id)->{state}, 'running', 'the job is still running');
	is(query("SELECT count(*) FROM gen_jobs AS j WHERE j::text LIKE '%$token%'"), 0, 'the table does not have the token');
	is(query("SELECT phase FROM genjob.activity WHERE job_id = $id"), 'waiting', 'genjob.activity says that it waits');
	my $refusal = "ERROR:  job %d does not wait for an answer with this token";
	like(complete($id, 'f' x 64), qr/\Q@{[sprintf $refusal, $id]}\E/, 'another token is refused');
	is(complete(987654, $token) =~ s/987654/$id/r, complete($id, 'f' x 64), '... in the same words as for a job that there is not');
	is(complete($id, $token, q{'{"picture": "s3://pictures/1.png"}'}), 't', 'a role that may do nothing else brings the answer');
	is(query("SELECT state, result, error IS NULL, finished_at >= started_at FROM gen_jobs WHERE id = $id"), 'succeeded|{"picture": "s3://pictures/1.png"}|t|t', 'the job has it');
	is(complete($id, $token, q{'{"picture": "another"}'}), 'f', 'a second answer changes nothing');
	is(query("SELECT result ->> 'picture' FROM gen_jobs WHERE id = $id"), 's3://pictures/1.png', '... the first one stays');
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM genjob.activity WHERE job_id = $id)"), 'its place is free');
	my $plans = q{SELECT count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'CachedPlan%'};
	my ($few, undef, $many) = split /\n/, query("SELECT genjob.complete($id, '$token') \\gset\n$plans;\nSELECT count(genjob.complete($id, '$token')) FROM generate_series(1, 100);\n$plans");
	cmp_ok($many, '<=', $few + 5, 'a session that brings many answers keeps no more for it');
};

subtest "in the caller's transaction; who waits, what follows" => sub {
	query(q{CREATE ROLE app; GRANT INSERT, SELECT ON gen_jobs TO app; GRANT USAGE ON FOREIGN SERVER event TO app; CREATE TABLE done (id bigint)});
	my $id = query(q{SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('event', '{}') RETURNING id});
	my $next = query("SET ROLE app; INSERT INTO gen_jobs (server, request, after) VALUES ('event', '{}', ARRAY[$id]) RETURNING id");
	my $token = token($id);
	query("BEGIN; SELECT genjob.complete($id, '$token', '1'); INSERT INTO done VALUES ($id); ROLLBACK");
	is(job($node, $id)->{state}, 'running', 'rolled back, it was not brought');
	is(query("BEGIN; SELECT genjob.complete($id, '$token', '1'); INSERT INTO done VALUES ($id); COMMIT; SELECT state FROM genjob.wait($id, '30 s')") =~ s/\n/ /r, 't succeeded', 'committed, it was');
	like(token($next), qr/^[0-9a-f]{64}$/, 'a job that waited for it goes on');
	is(complete($next, $token), complete($next, 'f' x 64), 'the token of one job does not fit another');
	is(complete($next, token($next)), 't', 'an answer may be nothing');
	is(query("SELECT state, result IS NULL FROM gen_jobs WHERE id = $next"), 'succeeded|t', '... and is a success');
};

subtest 'a failure' => sub {
	my $id = enqueue($node, 'event', {});
	is(complete($id, token($id), q{'{"trace": 1}'}, q{'no such picture'}), 't', 'a failure is brought');
	is(complete($id, token($id), 'NULL', q{'no such picture'}), 'f', '... and may be brought twice');
	is(complete($id, token($id), q{'{"late": 1}'}), 'f', '... after which an answer is too late');
	is(query("SELECT state, error, result, attempt_errors #>> '{0,error}' FROM gen_jobs WHERE id = $id"), 'failed|no such picture|{"trace": 1}|no such picture', '... the job has its words');
	my $token = token($id);
	query("SELECT genjob.retry($id)");
	isnt(my $second = token($id, 2), $token, 'run again, it has another token');
	like(complete($id, $token), qr/does not wait for an answer with this token/, '... the earlier attempt is not listened to');
	query("SELECT genjob.cancel($id)");
	like(complete($id, $second), qr/does not wait for an answer.*\n.*has ended/, 'nor anybody after a cancel');
	is(query("SELECT state FROM gen_jobs WHERE id = $id"), 'cancelled', '... which stays');
};

subtest 'restarts, and nobody answers' => sub {
	my @two = map { enqueue($node, 'event', {}) } 1 .. 2;
	my @tokens = map { token($_) } @two;
	$node->restart;
	wait_dispatcher($node);
	is(complete($two[0], $tokens[0], q{'{"after": "a restart"}'}), 't', 'an answer after a restart');
	$node->stop('immediate');
	$node->start;
	is(complete($two[1], $tokens[1], q{'{"after": "a crash"}'}), 't', '... and after a crash, before there is a dispatcher');
	wait_dispatcher($node);
	is(query("SELECT string_agg(state::text || attempt, ' ') FROM gen_jobs WHERE id IN ($two[0], $two[1])"), 'succeeded1 succeeded1', 'each has its answer, and was handed over once');
	is(scalar(grep { ($_->{body}{genjob}{job} // 0) == $two[1] } @{ calls() }), 1, '... as Lambda says');
	query(q{ALTER SERVER event OPTIONS (ADD timeout '1 s')});
	my $id = enqueue($node, 'event', {});
	ok(wait_state($node, $id, 'failed'), 'nobody answers');
	like(job($node, $id)->{error}, qr/handed over to server "event" .*genjob\.complete\(\) did not bring its answer within the option timeout/, '... and the job says so');
	query(q{ALTER SERVER event OPTIONS (DROP timeout)});
};

subtest 'a dump that is restored while the function works' => sub {
	my @two = map { enqueue($node, 'event', {}) } 1 .. 2;
	my @tokens = map { token($_) } @two;
	query(q{ALTER SERVER event OPTIONS (ADD paused 'on')});
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
	query('CREATE DATABASE copy');
	$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'a dump');
	$node->command_ok([ 'psql', '-Xq', '-d', $node->connstr('copy'), '-f', $dump ], '... is restored');
	is(of_copy("SELECT string_agg(state::text, ' ') FROM gen_jobs WHERE id IN ($two[0], $two[1])"), 'queued queued', 'jobs that were handed over');
	is(of_copy("SELECT genjob.complete($two[0], '$tokens[0]', '1')"), 't', '... take their answers before a dispatcher has taken them up');
	like(($node->psql('copy', "SELECT genjob.complete($two[1], '$tokens[0]', '1')"))[2], qr/does not wait for an answer/, '... with their own tokens');
	of_copy('ALTER SERVER event OPTIONS (DROP paused)');
	ok($node->poll_query_until('copy', "SELECT state = 'running' FROM gen_jobs WHERE id = $two[1]"), '... and are waited for then');
	is(of_copy("SELECT genjob.complete($two[1], '$tokens[1]', '1')"), 't', '... with the same token');
	is(of_copy("SELECT string_agg(concat(state, claimed_elsewhere, error), ' ') FROM gen_jobs WHERE id IN ($two[0], $two[1])"), 'succeededf succeededf', '... and have succeeded');
	is(scalar(grep { ($_->{body}{genjob}{job} // 0) == $two[1] } @{ calls() }), 1, '... handed over once');
	query("SELECT genjob.cancel($_)") for @two;
	query('ALTER SERVER event OPTIONS (DROP paused)');
};

subtest 'Lambda refuses' => sub {
	faults({ status => 429, type => 'TooManyRequestsException', message => 'Rate Exceeded.' });
	my $id = enqueue($node, 'event', {});
	is(complete($id, token($id, 2)), 't', 'throttled, it is handed over later');
	is(job($node, $id)->{failures}, 0, '... which costs no attempt');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER event OPTIONS (SET secret_access_key 'mistaken')});
	$id = enqueue($node, 'event', {});
	ok(wait_state($node, $id, 'failed'), 'a wrong key');
	like(job($node, $id)->{error}, qr/InvalidSignatureException.*user mapping/s, '... is said');
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER event OPTIONS (SET secret_access_key 'wJalrXUtnFEMI')});
	like(query(q{SELECT genjob.preview('event', '{"prompt": "x"}')}), qr/X-Amz-Invocation-Type: Event.*"token":"\*\*\*"/s, 'a preview shows the place of the token');
	like(($node->psql('postgres', q{ALTER SERVER event OPTIONS (ADD body 'raw')}))[2], qr/takes its requests as JSON/, 'a token needs JSON to be in');
	like(($node->psql('postgres', q{ALTER SERVER event OPTIONS (ADD token_at '')}))[2], qr/token_at '\/genjob'/, '... and a place');
};

$node->stop;
done_testing();

# What the database refuses for a while - a lock, a disk that is full, a trigger that raises - costs no
# result and no second call; and what changes under the dispatcher's feet (a schema's name, the files of
# the table, the encoding) does not matter to it.

use strict;
use warnings;
use utf8;

use Encode qw(encode_utf8 decode_utf8);
use JSON::PP ();
use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest qw(!query);
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'errors', conf => 'log_min_messages = warning');
create_server($node, 'painter', 'openai-images', $standin, max_in_flight => 20, retry_base => '10 ms');

# Output is decoded: texts of this file are characters.
sub query
{
	my ($sql, $database) = @_;
	return decode_utf8($node->safe_psql($database // 'postgres', encode_utf8($sql)));
}

# Jobs whose calls take so many ms and have arrived; their ids.
sub begin_calls
{
	my ($n, $ms) = @_;
	$standin->reset;
	my $ids = query(
		qq{WITH new AS (
			INSERT INTO gen_jobs (server, request)
			SELECT 'painter', jsonb_build_object('prompt', 'call ' || i, 'standin',
				jsonb_build_object('id', i::text, 'latency_ms', $ms)) FROM generate_series(1, $n) i RETURNING id)
		SELECT string_agg(id::text, ' ' ORDER BY id) FROM new});
	$standin->wait_for(sub { $_[0]{total} >= $n });
	return split / /, $ids;
}

# Runs CODE before the stand-in goes on and answers.
sub before_answers
{
	my ($code) = @_;
	kill 'STOP', $standin->pid;
	$code->();
	kill 'CONT', $standin->pid;
	return;
}

sub now { return query('SELECT clock_timestamp()'); }

# Passes once genjob.workers has an error that matches, of a time after SINCE.
sub last_error_is
{
	my ($pattern, $since, $what) = @_;
	return eventually(
		qq{SELECT last_error ~ '$pattern' AND last_error_at > '$since' FROM genjob.workers
		WHERE database = 'postgres'}, $what);
}

# Passes if all these jobs succeed with one call each.
sub sent_once
{
	my ($what, @ids) = @_;
	my $list = join ', ', @ids;
	eventually("SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE id IN ($list)", "$what: all succeed")
	  or diag(query("SELECT id, state, attempt, attempt_errors FROM gen_jobs WHERE id IN ($list)"));
	is( query(
			qq{SELECT max(attempt), sum(failures), count(attempt_errors),
				(SELECT count(*) FROM gen_outputs WHERE job_id IN ($list))
			FROM gen_jobs WHERE id IN ($list)}),
		'1|0|0|' . @ids,
		'... in the first attempt, with their results');
	is($standin->counts->{total}, scalar @ids, '... and were sent once');
	return;
}

# ---- locks ----

subtest 'a lock on gen_jobs holds the dispatcher up, which says so, and loses nothing' => sub {
	my $session = Session->new($node);
	my $begun = now();
	my @ids = begin_calls(3, 1500);
	push @ids, query(
		q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('painter', '{"prompt": "due"}', now() + interval '500 ms') RETURNING id});
	before_answers(sub { $session->query('BEGIN; LOCK TABLE gen_jobs IN ACCESS EXCLUSIVE MODE') });
	$standin->wait_for(sub { $_[0]{answered} >= 3 });
	last_error_is('lock timeout', $begun, 'the dispatcher says why it does not get on');
	eventually(q{SELECT state = 'troubled' FROM genjob.workers WHERE database = 'postgres'},
		'... and that it is troubled');
	$session->query('COMMIT');
	sent_once('when the lock is gone', @ids);
	eventually(q{SELECT state = 'idle' FROM genjob.workers WHERE database = 'postgres'}, '... and it is so no more');
	$session->quit;
};

subtest 'a lock for a second that lets the dispatcher read loses nothing' => sub {
	my $session = Session->new($node);
	my @ids = begin_calls(3, 300);
	$session->query('BEGIN; LOCK TABLE gen_jobs IN SHARE MODE');
	$standin->wait_for(sub { $_[0]{answered} == 3 });
	$session->query('SELECT pg_sleep(1); COMMIT');
	sent_once('when the lock is gone', @ids);
	$session->quit;
};

subtest 'a row that another session has locked is not waited for' => sub {
	my $session = Session->new($node);
	my $held = query(
		q{INSERT INTO gen_jobs (server, request, run_at)
		VALUES ('painter', '{"prompt": "held"}', now() + interval '1 s') RETURNING id});
	is($session->query("BEGIN; SELECT state FROM gen_jobs WHERE id = $held FOR UPDATE"), 'queued', 'a row is locked');
	eventually("SELECT run_at < now() FROM gen_jobs WHERE id = $held", '... whose job is due');
	my @ids = begin_calls(3, 10);
	sent_once('others', @ids);
	is(job($node, $held)->{state}, 'queued', '... while it waits');
	$session->query('COMMIT');
	ok(wait_state($node, $held, 'succeeded'), 'it is run when the lock is gone');
	is(job($node, $held)->{attempt}, 1, '... once');
	$session->quit;
};

# ---- results that cannot be written ----

query(
	q{
	CREATE TABLE refused (what text);
	GRANT SELECT ON refused TO genjob_dispatcher;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF EXISTS (SELECT FROM public.refused WHERE what = TG_ARGV[0]) THEN
			RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full';
		END IF;
		RETURN NEW;
	END $$});

# Creates triggers that raise an error while the table refused names what they are for.
sub create_triggers
{
	query(
		q{
		CREATE TRIGGER refuse_reports BEFORE UPDATE ON gen_jobs
			FOR EACH STATEMENT EXECUTE FUNCTION refuse('update');
		CREATE TRIGGER refuse_one BEFORE UPDATE ON gen_jobs
			FOR EACH ROW WHEN (NEW.state = 'succeeded' AND NEW.request ->> 'prompt' = 'call 2')
			EXECUTE FUNCTION refuse('one');
		CREATE TRIGGER refuse_outputs BEFORE INSERT ON gen_outputs
			FOR EACH ROW EXECUTE FUNCTION refuse('outputs')});
	return;
}

sub drop_triggers
{
	query(
		q{
		DROP TRIGGER refuse_reports ON gen_jobs;
		DROP TRIGGER refuse_one ON gen_jobs;
		DROP TRIGGER refuse_outputs ON gen_outputs});
	return;
}

subtest 'results are kept while every UPDATE raises an error, and written when none does' => sub {
	create_triggers();
	my $begun = now();
	my @ids = begin_calls(4, 1500);
	before_answers(sub { query(q{INSERT INTO refused VALUES ('update')}) });
	$standin->wait_for(sub { $_[0]{answered} == 4 });
	last_error_is('disk is full', $begun, 'the dispatcher says so');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'running'}), '4', '... keeps the results');
	push @ids, enqueue($node, 'painter', { prompt => 'meanwhile' });
	query('TRUNCATE refused');
	sent_once('when it has ended', @ids);
	drop_triggers();
};

subtest 'results are kept while their outputs cannot be stored, and stored later' => sub {
	create_triggers();
	my $begun = now();
	my @ids = begin_calls(4, 1500);
	before_answers(sub { query(q{INSERT INTO refused VALUES ('outputs')}) });
	$standin->wait_for(sub { $_[0]{answered} == 4 });
	last_error_is('disk is full', $begun, 'the dispatcher says so');
	query('TRUNCATE refused');
	sent_once('when they can be stored', @ids);
	drop_triggers();
};

subtest 'one result that cannot be written does not keep others from being' => sub {
	create_triggers();
	query(q{INSERT INTO refused VALUES ('one')});
	my @ids = begin_calls(4, 300);
	my $list = join ', ', @ids;
	eventually("SELECT count(*) = 3 FROM gen_jobs WHERE state = 'succeeded' AND id IN ($list)",
		'the others are written');
	is(job($node, $ids[1])->{state}, 'running', '... and it is kept');
	query('TRUNCATE refused');
	sent_once('when it can be written', @ids);
	drop_triggers();
};

# ---- the table is rewritten ----

subtest 'gen_jobs and gen_outputs may be rewritten while calls are in flight' => sub {
	my @ids = begin_calls(4, 500);
	query($_) foreach 'VACUUM FULL gen_jobs', 'VACUUM FULL gen_outputs', 'CLUSTER gen_jobs USING gen_jobs_pkey',
	  'REINDEX TABLE gen_jobs', 'ANALYZE gen_jobs', 'ALTER TABLE gen_jobs ADD COLUMN note text DEFAULT random()::text';
	sent_once('VACUUM FULL, CLUSTER, REINDEX and a new column', @ids);
	@ids = begin_calls(4, 10);
	sent_once('after them', @ids);
	query('ALTER TABLE gen_jobs DROP COLUMN note');
};

# ---- the schema gets another name ----

subtest 'the schema of gen_jobs may be renamed while calls are in flight, and between them' => sub {
	query('CREATE DATABASE other');
	query('CREATE SCHEMA before; CREATE EXTENSION genjob SCHEMA before', 'other');
	query('ALTER DATABASE other SET search_path = before, after');
	create_server($node, 'painter', 'openai-images', $standin, database => 'other');
	wait_dispatcher($node, 'other');
	$standin->reset;
	my $job = enqueue($node, 'painter', StandIn::request(prompt => 'renamed', latency_ms => 2000), database => 'other');
	$standin->wait_for(sub { $_[0]{in_flight} == 1 });
	query('ALTER SCHEMA before RENAME TO after', 'other');
	ok(wait_state($node, $job, 'succeeded', 'other'), 'renamed while a call is in flight: its result is written');
	is(job($node, $job, 'other')->{attempt}, 1, '... and it is not made again');
	$job = enqueue($node, 'painter', { prompt => 'after' }, database => 'other');
	ok(wait_state($node, $job, 'succeeded', 'other'), '... and jobs run on');
	query('ALTER SCHEMA after RENAME TO before', 'other');
	$job = enqueue($node, 'painter', { prompt => 'before' }, database => 'other');
	ok(wait_state($node, $job, 'succeeded', 'other'), '... also when it is renamed between jobs');
};

# ---- other encodings ----

# What a database of that encoding has in its request, what of an answer it can hold, and what becomes of it.
my $answer = { text => "é ß – 日本 😀", list => [ "é", 1.5 ] };
my %expected = (
	LATIN1 => "é ß ? ?? ?",
	EUC_JP => "é ß ? 日本 ?",
	SQL_ASCII => $answer->{text});
my %sent = (LATIN1 => "Café à ß", EUC_JP => "灯台 夜明け", SQL_ASCII => "Café 日本 😀");
local $ENV{PGCLIENTENCODING} = 'UTF8';

# Creates a database of that encoding with a server "echo".
sub create_encoded
{
	my ($database, $encoding) = @_;
	query("CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	query('CREATE EXTENSION genjob', $database);
	create_server($node, 'echo', 'http', $standin, path => '/echo', database => $database);
	return;
}

# A fault that answers with these characters as UTF-8.
sub answer_with
{
	my ($text, %fault) = @_;
	return { body => { base64 => encode_base64(encode_utf8($text), '') }, %fault };
}

foreach my $encoding (qw(LATIN1 EUC_JP SQL_ASCII))
{
	subtest "a database of encoding $encoding sends UTF-8, and has a question mark for what it cannot hold" => sub {
		my $database = lc "in_$encoding";
		create_encoded($database, $encoding);
		my $echoed = query(
			"INSERT INTO gen_jobs (server, request) VALUES ('echo', '{\"prompt\": \"$sent{$encoding}\"}') RETURNING id",
			$database);
		my $said = answer_with(decode_utf8(JSON::PP->new->utf8->encode($answer)), content_type => 'application/json');
		my $foreign = enqueue($node, 'echo', StandIn::request(prompt => 'answer me', faults => [$said]),
			database => $database);
		my $refusal = answer_with('{"error": {"message": "schlecht: é 日本"}}', status => 400);
		my $refused = enqueue($node, 'echo', StandIn::request(prompt => 'refuse me', faults => [$refusal]),
			database => $database);
		ok(wait_all_ended($node, $database), 'jobs end');
		my ($request) = grep { index($_->{body} // '', $sent{$encoding}) >= 0 } $standin->requests;
		ok($request, 'they are sent as UTF-8');
		is( query("SELECT state, result -> 'body' ->> 'prompt' FROM gen_jobs WHERE id = $echoed", $database),
			"succeeded|$sent{$encoding}",
			'... which comes back as it was');
		my $text = query("SELECT state, result ->> 'text', result -> 'list' FROM gen_jobs WHERE id = $foreign",
			$database);
		my $list = query(q{SELECT '["é", 1.5]'::jsonb}, $database);
		is($text, "succeeded|$expected{$encoding}|$list", 'what the encoding lacks in an answer is a question mark');
		like(
			query("SELECT error FROM gen_jobs WHERE id = $refused", $database),
			$encoding eq 'LATIN1' ? qr/schlecht: é \?\?/ : qr/schlecht: é 日本/,
			'... also in an error');
	};
}

subtest 'a request that is no UTF-8, which the encoding SQL_ASCII takes, is run and does not stop others' => sub {
	create_encoded('strange', 'SQL_ASCII');
	my $strange = query(
		q{SET client_encoding = 'SQL_ASCII';
		INSERT INTO gen_jobs (server, request) VALUES ('echo', E'{"prompt": "caf\xe9"}') RETURNING id}, 'strange');
	my $job = enqueue($node, 'echo', { prompt => 'beside' }, database => 'strange');
	ok(wait_state($node, $job, 'succeeded', 'strange'), 'another job succeeds');
	ok(wait_state($node, $strange, 'succeeded', 'strange'), '... and so does it');
	is( query("SELECT result -> 'body' ->> 'prompt' FROM gen_jobs WHERE id = $strange", 'strange'),
		'caf?',
		'... with a question mark for what is no UTF-8');
};

$standin->stop;
$node->stop;
done_testing();

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

sub last_error_is
{
	my ($pattern, $what) = @_;
	return ok(
		$node->poll_query_until(
			'postgres',
			qq{SELECT last_error ~ '$pattern' AND last_error_at > now() - interval '1 min' FROM genjob.workers
			WHERE database = 'postgres'}),
		$what);
}

# Whether all these jobs succeeded with one call each.
sub sent_once
{
	my ($what, @ids) = @_;
	my $list = join ', ', @ids;
	ok( $node->poll_query_until(
			'postgres', qq{SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE id IN ($list)}),
		"$what: all succeed")
	  or diag(query("SELECT id, state, attempt, attempt_errors FROM gen_jobs WHERE id IN ($list)"));
	is( query(
			qq{SELECT max(attempt), sum(failures), count(attempt_errors), (SELECT count(*) FROM gen_outputs WHERE job_id IN ($list))
			FROM gen_jobs WHERE id IN ($list)}),
		'1|0|0|' . @ids,
		'... in the first attempt, with their results');
	is($standin->counts->{total}, scalar @ids, '... and were sent once');
	return;
}

# ---- a lock on the table ----

my @ids = begin_calls(3, 700);
my $session = $node->background_psql('postgres');
push @ids, query(
	q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('painter', '{"prompt": "due"}', now() + interval '500 ms')
	RETURNING id});
$session->query_safe('BEGIN; LOCK TABLE gen_jobs IN ACCESS EXCLUSIVE MODE');
$standin->wait_for(sub { $_[0]{answered} == 3 });
last_error_is('lock timeout', 'a lock on gen_jobs: the dispatcher says why it does not get on');
ok($node->poll_query_until('postgres', q{SELECT state = 'troubled' FROM genjob.workers}), '... and that it is troubled');
$session->query_safe('COMMIT');
sent_once('... when the lock is gone', @ids);
ok($node->poll_query_until('postgres', q{SELECT state = 'idle' FROM genjob.workers}), '... and it is so no more');

# a lock that lets it read, but not write
@ids = begin_calls(3, 300);
$session->query_safe('BEGIN; LOCK TABLE gen_jobs IN SHARE MODE');
$standin->wait_for(sub { $_[0]{answered} == 3 });
$session->query_safe('SELECT pg_sleep(1); COMMIT');
sent_once('a lock for a second that lets it read', @ids);

# a row that another session has locked is not waited for
my $held = query(q{INSERT INTO gen_jobs (server, request, run_at) VALUES ('painter', '{"prompt": "held"}', now() + interval '300 ms') RETURNING id});
$session->query_safe("BEGIN; SELECT FROM gen_jobs WHERE id = $held FOR UPDATE");
ok($node->poll_query_until('postgres', "SELECT run_at < now() FROM gen_jobs WHERE id = $held"), 'a job is due');
@ids = begin_calls(3, 10);
sent_once('... whose row is locked: others', @ids);
is(job($node, $held)->{state}, 'queued', '... while it waits');
$session->query_safe('COMMIT');
ok(wait_state($node, $held, 'succeeded'), '... and is run when the lock is gone');
is(job($node, $held)->{attempt}, 1, '... once');

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
	END $$;
	CREATE TRIGGER refuse_reports BEFORE UPDATE ON gen_jobs
		FOR EACH STATEMENT EXECUTE FUNCTION refuse('update');
	CREATE TRIGGER refuse_one BEFORE UPDATE ON gen_jobs
		FOR EACH ROW WHEN (NEW.state = 'succeeded' AND NEW.request ->> 'prompt' = 'call 2')
		EXECUTE FUNCTION refuse('one');
	CREATE TRIGGER refuse_outputs BEFORE INSERT ON gen_outputs
		FOR EACH ROW EXECUTE FUNCTION refuse('outputs')});

@ids = begin_calls(4, 700);
query(q{INSERT INTO refused VALUES ('update')});
$standin->wait_for(sub { $_[0]{answered} == 4 });
last_error_is('disk is full', 'a trigger that raises at every UPDATE: the dispatcher says so');
is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'running'}), '4', '... keeps the results');
push @ids, enqueue($node, 'painter', { prompt => 'meanwhile' });
query('TRUNCATE refused');
sent_once('... when it has ended', @ids);

@ids = begin_calls(4, 300);
query(q{INSERT INTO refused VALUES ('outputs')});
$standin->wait_for(sub { $_[0]{answered} == 4 });
last_error_is('disk is full', 'outputs that cannot be stored');
query('TRUNCATE refused');
sent_once('... are stored later', @ids);

query(q{INSERT INTO refused VALUES ('one')});
@ids = begin_calls(4, 300);
ok( $node->poll_query_until(
		'postgres',
		"SELECT count(*) = 3 FROM gen_jobs WHERE state = 'succeeded' AND id IN (" . join(', ', @ids) . ')'),
	'one result that cannot be written does not keep others');
is(job($node, $ids[1])->{state}, 'running', '... and is kept');
query('TRUNCATE refused');
sent_once('... when it can', @ids);
query('DROP FUNCTION refuse() CASCADE');
$session->quit;

# ---- the table is rewritten ----

@ids = begin_calls(4, 500);
query($_) foreach 'VACUUM FULL gen_jobs', 'VACUUM FULL gen_outputs', 'CLUSTER gen_jobs USING gen_jobs_pkey',
  'REINDEX TABLE gen_jobs', 'ANALYZE gen_jobs', 'ALTER TABLE gen_jobs ADD COLUMN note text DEFAULT random()::text';
sent_once('VACUUM FULL, CLUSTER, REINDEX and a new column while calls are in flight', @ids);
@ids = begin_calls(4, 10);
sent_once('... and after them', @ids);

# ---- the schema gets another name ----

query('CREATE DATABASE other');
query('CREATE SCHEMA before; CREATE EXTENSION genjob SCHEMA before', 'other');
query('ALTER DATABASE other SET search_path = before, after');
create_server($node, 'painter', 'openai-images', $standin, database => 'other');
wait_dispatcher($node, 'other');
$standin->reset;
my $job = enqueue($node, 'painter', StandIn::request(prompt => 'renamed', latency_ms => 2000), database => 'other');
$standin->wait_for(sub { $_[0]{in_flight} == 1 });
query('ALTER SCHEMA before RENAME TO after', 'other');
ok(wait_state($node, $job, 'succeeded', 'other'), 'the schema renamed while a call is in flight: its result is written');
is(job($node, $job, 'other')->{attempt}, 1, '... and it is not made again');
$job = enqueue($node, 'painter', { prompt => 'after' }, database => 'other');
ok(wait_state($node, $job, 'succeeded', 'other'), '... and jobs run on');
query('ALTER SCHEMA after RENAME TO before', 'other');
$job = enqueue($node, 'painter', { prompt => 'before' }, database => 'other');
ok(wait_state($node, $job, 'succeeded', 'other'), '... also when it is renamed between jobs');

# ---- other encodings ----

# What a database of that encoding has in its request, what of an answer it can hold, and what becomes of it.
my $answer = { text => "é ß – 日本 😀", list => [ "é", 1.5 ] };
my %expected = (
	LATIN1 => "é ß ? ?? ?",
	EUC_JP => "é ß ? 日本 ?",
	SQL_ASCII => $answer->{text});
my %sent = (LATIN1 => "Café à ß", EUC_JP => "灯台 夜明け", SQL_ASCII => "Café 日本 😀");
local $ENV{PGCLIENTENCODING} = 'UTF8';
foreach my $encoding (qw(LATIN1 EUC_JP SQL_ASCII))
{
	my $database = lc "in_$encoding";
	query("CREATE DATABASE $database TEMPLATE template0 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	query('CREATE EXTENSION genjob', $database);
	create_server($node, 'echo', 'http', $standin, path => '/echo', database => $database);
	my $echoed = query(
		"INSERT INTO gen_jobs (server, request) VALUES ('echo', '{\"prompt\": \"$sent{$encoding}\"}') RETURNING id",
		$database);
	my $foreign = enqueue(
		$node, 'echo',
		StandIn::request(
			prompt => 'answer me',
			faults => [
				{
					body => { base64 => encode_base64(JSON::PP->new->utf8->encode($answer), '') },
					content_type => 'application/json'
				}
			]),
		database => $database);
	my $refused = enqueue(
		$node, 'echo',
		StandIn::request(
			prompt => 'refuse me',
			faults => [
				{
					status => 400,
					body => { base64 => encode_base64(encode_utf8('{"error": {"message": "schlecht: é 日本"}}'), '') }
				}
			]),
		database => $database);
	ok(wait_all_ended($node, $database), "jobs in a database of encoding $encoding");
	my ($request) = grep { index($_->{body} // '', $sent{$encoding}) >= 0 } $standin->requests;
	ok($request, '... are sent as UTF-8');
	is( query("SELECT state, result -> 'body' ->> 'prompt' FROM gen_jobs WHERE id = $echoed", $database),
		"succeeded|$sent{$encoding}",
		'... which comes back as it was');
	my $text = query("SELECT state, result ->> 'text', result -> 'list' FROM gen_jobs WHERE id = $foreign", $database);
	my $list = query(q{SELECT '["é", 1.5]'::jsonb}, $database);
	is($text, "succeeded|$expected{$encoding}|$list", '... what the encoding lacks in an answer is a question mark');
	like(
		query("SELECT error FROM gen_jobs WHERE id = $refused", $database),
		$encoding eq 'LATIN1' ? qr/schlecht: é \?\?/ : qr/schlecht: é 日本/,
		'... also in an error');
}

# Bytes that are no UTF-8 at all, which a database of the encoding SQL_ASCII takes.
my $strange = query(
	q{SET client_encoding = 'SQL_ASCII';
	INSERT INTO gen_jobs (server, request) VALUES ('echo', E'{"prompt": "caf\xe9"}') RETURNING id}, 'in_sql_ascii');
$job = enqueue($node, 'echo', { prompt => 'beside' }, database => 'in_sql_ascii');
ok(wait_state($node, $job, 'succeeded', 'in_sql_ascii'), 'a request that is no UTF-8 does not stop others');
ok(wait_state($node, $strange, 'succeeded', 'in_sql_ascii'), '... and is run');
is( query("SELECT result -> 'body' ->> 'prompt' FROM gen_jobs WHERE id = $strange", 'in_sql_ascii'),
	'caf?',
	'... with a question mark for what is none');

$standin->stop;
$node->stop;
done_testing();

# What follows an end in the transaction that writes it: NOTIFY, and hand-over to another server. Nothing of it costs a
# result, and nothing of it is lost.

use strict;
use warnings;

use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'follow_ups', conf => 'log_min_messages = log');
my %quick = (retry_base => '10 ms', retry_max => '20 ms');
my $json = JSON::PP->new->utf8;

# The jobs that were made of others, as id, server, state of the job that each was made of.
sub handed_over
{
	my ($id) = @_;
	return query("SELECT string_agg(concat_ws(' ', server, request->>'state', depth), ', ' ORDER BY id)"
		  . " FROM gen_jobs WHERE depth > 0 AND request->>'id' = '$id'");
}

query(q{CREATE ROLE app; GRANT SELECT, INSERT, UPDATE ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app;
	CREATE ROLE stranger; GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO stranger});

# The ends of a painter's jobs become jobs of servers that are paused.
create_server($node, $_, 'http', $standin->url('/echo'), %quick, paused => 'on') foreach qw(archive lost);
create_server($node, 'painter', 'openai-images', $standin, %quick, on_success => 'archive', on_failure => 'lost');

# ---- NOTIFY ----

# What a session that listens got, payloads as data, by the job's id.
sub notices
{
	my ($session) = @_;
	my %notices;
	my $text = $session->query('SELECT 1');
	while ($text =~ /Asynchronous notification "([^"]+)" with payload "(.*)" received/g)
	{
		my ($channel, $payload) = ($1, $json->decode($2));
		push @{ $notices{ $payload->{id} } }, { %$payload, channel => $channel };
	}
	return \%notices;
}

subtest 'a channel is told of every end, once' => sub {
	my $session = Session->new($node);
	$session->query('LISTEN ended');
	create_server($node, 'loud', 'openai-images', $standin, %quick, notify => 'ended');
	my $good = enqueue($node, 'loud', { prompt => 'good' }, request_id => 'order 7', tenant => 'berta');
	my $bad = enqueue_named($node, 'loud', 'bad', { faults => [ { status => 400 } ] });
	my $again = enqueue_named($node, 'loud', 'again', { faults => [ { status => 503 }, { status => 503 } ] });
	my $cancelled = enqueue($node, 'loud', { prompt => 'later' }, run_at => '2100-01-01');
	my $deleted = enqueue($node, 'loud', { prompt => 'deleted' }, run_at => '2100-01-01');
	ok(wait_state($node, $_->[0], $_->[1])) foreach [ $good, 'succeeded' ], [ $bad, 'failed' ], [ $again, 'succeeded' ];
	query("SELECT genjob.cancel($cancelled); DELETE FROM gen_jobs WHERE id = $deleted");
	ok($node->poll_query_until('postgres', "SELECT follow_up IS NULL FROM gen_jobs WHERE id = $cancelled"));

	my $notices = notices($session);
	is_deeply($notices->{$good},
		[ { id => $good, state => 'succeeded', server => 'loud', tenant => 'berta', request_id => 'order 7', channel => 'ended' } ],
		'a success, with all members');
	is_deeply([ map { $_->{state} } @{ $notices->{$bad} } ], ['failed'], 'a failure');
	is_deeply([ map { $_->{state} } @{ $notices->{$again} } ], ['succeeded'], 'one notice after two retries');
	is_deeply([ map { $_->{state} } @{ $notices->{$cancelled} } ], ['cancelled'], 'a cancel in a session');
	is($notices->{$deleted}, undef, 'none for a job that is deleted');
	$session->quit;
};

subtest 'a payload is always under 8,000 bytes' => sub {
	my $session = Session->new($node);
	$session->query('LISTEN ended');
	my $name = "\x01" x 63;
	create_server($node, $name, 'openai-images', $standin, notify => 'ended');
	my $id = query(q{INSERT INTO gen_jobs (server, request, tenant, request_id)
		VALUES (repeat(chr(1), 63), '{"prompt": "long"}', repeat(chr(1), 256), repeat(chr(2), 1024)) RETURNING id});
	ok(wait_state($node, $id, 'succeeded'), 'the result is there');
	my $notice = notices($session)->{$id}[0];
	is(length $notice->{request_id}, 1024, 'with the request_id');
	is($notice->{tenant}, undef, 'without the tenant, for which there was no room');
	$session->quit;
};

# ---- hand-over ----

subtest 'an ended job becomes one of the server that the option names' => sub {
	my $good = enqueue($node, 'painter', { prompt => 'good' }, tenant => 'berta', request_id => 'order 8', priority => 3);
	my $bad = enqueue_named($node, 'painter', 'bad 2', { faults => [ { status => 400 } ] });
	my $again = enqueue_named($node, 'painter', 'again 2', { faults => [ { status => 503 } ] });
	my $late = enqueue($node, 'painter', { prompt => 'late' }, expires_at => '2000-01-01');
	my $cancelled = enqueue($node, 'painter', { prompt => 'later' }, run_at => '2100-01-01');
	ok(wait_state($node, $_->[0], $_->[1]))
	  foreach [ $good, 'succeeded' ], [ $bad, 'failed' ], [ $again, 'succeeded' ], [ $late, 'failed' ];
	query("SELECT genjob.cancel($cancelled)");
	ok($node->poll_query_until('postgres', "SELECT follow_up IS NULL FROM gen_jobs WHERE id = $cancelled"));
	is(handed_over($good), 'archive succeeded 1', 'a success');
	is(handed_over($bad), 'lost failed 1', 'a failure');
	is(handed_over($again), 'archive succeeded 1', 'once after a retry');
	is(handed_over($late), 'lost failed 1', 'one that expired');
	is(handed_over($cancelled), 'lost cancelled 1', 'one that was cancelled');

	my $child = $json->decode(query("SELECT to_jsonb(j) FROM gen_jobs j WHERE depth > 0 AND request->>'id' = '$good'"));
	my $parent = job($node, $good);
	my $output = $json->decode(query("SELECT to_jsonb(o) FROM gen_outputs o WHERE job_id = $good"));
	is_deeply(
		[ @$child{qw(owner tenant priority state request_id)} ],
		[ $parent->{owner}, 'berta', 3, 'queued', undef ],
		'of the same owner and tenant');
	my $request = $child->{request};
	is_deeply([ sort keys %$request ],
		[qw(error finished_at id outputs request_id result server state tenant usage)], 'the request is the job');
	is_deeply(
		[ @$request{qw(id server tenant request_id state error)} ],
		[ $good, 'painter', 'berta', 'order 8', 'succeeded', undef ],
		'... with what it was');
	is_deeply($request->{result}, $parent->{result}, '... its result');
	(my $sha256 = $output->{sha256}) =~ s/^\\x//;
	is_deeply(
		$request->{outputs},
		[ { ordinal => 1, content_type => 'image/png', bytes => $output->{bytes}, sha256 => $sha256, url => undef,
			place => { '$output' => [ $good, 1 ] } } ],
		'... and its outputs');
};

subtest 'what an answer says is data' => sub {
	my $secret = enqueue($node, 'painter', { prompt => 'a secret picture' });
	ok(wait_state($node, $secret, 'succeeded'));
	query('ALTER SERVER archive OPTIONS (SET paused \'off\')');
	create_server($node, 'liar', 'http', $standin->url('/echo'), on_success => 'archive');
	my $id = enqueue($node, 'liar', { a => 1 });
	ok(wait_state($node, $id, 'succeeded'));
	# a server's answer may have anything in it
	query(qq{UPDATE gen_jobs SET result = '{"a": {"\$output": [$secret, 1]}, "b": {"\$input": 1}, "c": {"\$output": 1}}' WHERE id = $id});
	my $child = query(qq{INSERT INTO gen_jobs (server, owner, depth, request)
		SELECT 'archive', owner, 1, jsonb_build_object('id', id, 'result', result) FROM gen_jobs WHERE id = $id RETURNING id});
	ok(wait_state($node, $child, 'succeeded'), 'the job that is made of it runs');
	my $echo = job($node, $child)->{result}{body}{result};
	is_deeply($echo, { a => { '$output' => [ $secret, 1 ] }, b => { '$input' => 1 }, c => { '$output' => 1 } },
		'and sends what looks like a reference as it is');
	query('ALTER SERVER archive OPTIONS (SET paused \'on\')');
};

subtest 'a circle is cut' => sub {
	create_server($node, 'ping', 'http', $standin->url('/echo'), on_success => 'pong');
	create_server($node, 'pong', 'http', $standin->url('/echo'), on_success => 'ping');
	my $id = enqueue($node, 'ping', { a => 1 });
	ok($node->poll_query_until('postgres', q{SELECT EXISTS (SELECT FROM gen_jobs WHERE depth = 16 AND state = 'succeeded')}));
	ok(wait_all_but_paused(), 'all ends');
	is(query('SELECT max(depth) FROM gen_jobs'), 16, 'at depth 16');
	like(query('SELECT error FROM gen_jobs WHERE depth = 16'), qr/^on_success: 16 hand-overs led to this job.*cycle/, 'and says so');
};

sub wait_all_but_paused
{
	return $node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM gen_jobs
		WHERE state IN ('queued', 'running') AND server NOT IN ('archive', 'lost'))});
}

subtest 'a target that cannot be used costs nothing but the hand-over' => sub {
	query(q{
		CREATE FOREIGN DATA WRAPPER other;
		CREATE SERVER strange FOREIGN DATA WRAPPER other;
		SET ROLE stranger;
		CREATE SERVER theirs FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9');
		GRANT USAGE ON FOREIGN SERVER theirs TO PUBLIC});
	create_server($node, 'raw', 'http', $standin->url('/echo'), body => 'raw');
	my %words = (
		none => qr/^on_success: server "nowhere" does not exist\. Create it/,
		other => qr/^on_success: server "strange" is not a GenAI server\. It belongs/,
		itself => qr/^on_success: server "itself" names itself\. ALTER SERVER itself/,
		denied => qr/^on_success: permission denied for foreign server archive\. GRANT USAGE/,
		stranger => qr/^on_success: server "theirs" belongs to another role than server "stranger"\./,
		unfit => qr/^on_success: .*/);
	my %target = (none => 'nowhere', other => 'strange', itself => 'itself', denied => 'archive', stranger => 'theirs', unfit => 'raw');
	foreach my $name (sort keys %target)
	{
		create_server($node, $name, 'openai-images', $standin, %quick, on_success => $target{$name});
		query("GRANT USAGE ON FOREIGN SERVER $name TO app");
		my $id = query(qq{SET ROLE app; INSERT INTO gen_jobs (server, request) VALUES ('$name', '{"prompt": "$name"}') RETURNING id});
		ok(wait_state($node, $id, 'succeeded'), "$name: the job succeeds");
		like(job($node, $id)->{error}, $words{$name}, '... and says why it was not handed over');
		is(query("SELECT count(*) FROM gen_outputs WHERE job_id = $id"), 1, '... with its result');
		is(handed_over($id), '', '... and no job is made of it');
	}
};

subtest 'an INSERT that fails costs no result' => sub {
	query(q{
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF NEW.depth > 0 AND NEW.request->>'tenant' = 'refused' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '22012'; END IF;
				IF NEW.depth > 0 AND NEW.request->>'tenant' = 'full' THEN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END IF;
				RETURN NEW;
			END $$;
		CREATE TRIGGER refuse BEFORE INSERT ON gen_jobs FOR EACH ROW EXECUTE FUNCTION refuse()});
	my @ids = split /\n/, query(q{INSERT INTO gen_jobs (server, request, tenant)
		SELECT 'painter', jsonb_build_object('prompt', 'number ' || n), CASE n WHEN 3 THEN 'refused' WHEN 5 THEN 'full' ELSE 'fine' END
		FROM generate_series(1, 6) n RETURNING id});
	ok(wait_state($node, $_, 'succeeded'), "job $_ succeeds") foreach @ids;
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id >= $ids[0]"), 6, 'every result is there');
	is(handed_over($_), 'archive succeeded 1', "job $_ is handed over") foreach @ids[ 0, 1, 3, 5 ];
	like(job($node, $ids[2])->{error}, qr/^on_success: not this one\.$/, 'the refused one says why it was not');
	is(query("SELECT follow_up FROM gen_jobs WHERE id = $ids[4]"), '{hand_over}', 'what passes is tried again');
	like(query('SELECT last_error FROM genjob.workers WHERE database = current_database()'), qr/no space left on device/, '... and shown');
	query('DROP TRIGGER refuse ON gen_jobs');
	ok($node->poll_query_until('postgres', "SELECT follow_up IS NULL FROM gen_jobs WHERE id = $ids[4]"));
	is(handed_over($ids[4]), 'archive succeeded 1', '... until it is done, once');
};

subtest "code of others that an INSERT would run is not run in the dispatcher" => sub {
	query(q{
		CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
		ALTER FUNCTION theirs() OWNER TO stranger;
		CREATE TRIGGER theirs BEFORE INSERT ON gen_jobs FOR EACH ROW EXECUTE FUNCTION theirs()});
	my $id = enqueue($node, 'painter', { prompt => 'beside a trigger' });
	ok(wait_state($node, $id, 'succeeded'), 'jobs run on');
	like(job($node, $id)->{error}, qr/^on_success: trigger "theirs" of table gen_jobs, of role "stranger", would run in the dispatcher/, 'but are not handed over');
	query('DROP TRIGGER theirs ON gen_jobs');
	my $next = enqueue($node, 'painter', { prompt => 'without it' });
	ok(wait_state($node, $next, 'succeeded'));
	is(handed_over($next), 'archive succeeded 1', 'without the trigger they are');
};

subtest 'a job that is queued again before anything followed has no end' => sub {
	set_enabled(0);
	my $id = enqueue($node, 'painter', { prompt => 'undecided' }, run_at => '2100-01-01');
	my $other = enqueue($node, 'painter', { prompt => 'decided' }, run_at => '2100-01-01');
	query("SELECT genjob.cancel($id), genjob.cancel($other)");
	is(query("SELECT follow_up FROM gen_jobs WHERE id = $id"), '{hand_over}', 'what is to follow is in the row');
	query("SELECT genjob.retry($id)");
	is(query("SELECT follow_up IS NULL FROM gen_jobs WHERE id = $id"), 't', 'nothing, once it is queued again');
	set_enabled(1);
	ok($node->poll_query_until('postgres', "SELECT follow_up IS NULL FROM gen_jobs WHERE id = $other"), 'a new dispatcher does it');
	is(handed_over($other), 'lost cancelled 1', 'what followed the other');
	ok(wait_state($node, $id, 'succeeded')) or diag(query("SELECT run_at FROM gen_jobs WHERE id = $id"));
	is(handed_over($id), 'archive succeeded 1', 'and the one that ran');
};

subtest 'a row that is locked when it is its turn' => sub {
	my $id = enqueue($node, 'painter', { prompt => 'locked' }, run_at => '2100-01-01');
	set_enabled(0);
	query("SELECT genjob.cancel($id)");
	my $holder = Session->new($node);
	is($holder->query("BEGIN; SELECT id FROM gen_jobs WHERE id = $id FOR UPDATE"), $id, 'somebody has it');
	my $other = enqueue($node, 'painter', { prompt => 'not locked' }, run_at => '2100-01-01');
	query("SELECT genjob.cancel($other)");
	set_enabled(1);
	ok($node->poll_query_until('postgres', "SELECT follow_up IS NULL FROM gen_jobs WHERE id = $other"), 'what follows others is done');
	is(query("SELECT follow_up FROM gen_jobs WHERE id = $id"), '{hand_over}', '... but not of that one');
	$holder->query('COMMIT');
	ok($node->poll_query_until('postgres', "SELECT follow_up IS NULL FROM gen_jobs WHERE id = $id"), '... until it is free');
	is(handed_over($id), 'lost cancelled 1', '... once');
	$holder->quit;
};

subtest 'who may set what' => sub {
	query('GRANT USAGE ON FOREIGN SERVER painter TO app');
	foreach my $column ([ depth => 1 ], [ follow_up => q{'{notify}'} ])
	{
		my ($status, $out, $error) = $node->psql('postgres',
			qq{SET ROLE app; INSERT INTO gen_jobs (server, request, $column->[0]) VALUES ('painter', '{"prompt": "x"}', $column->[1])});
		like($error, qr/column "$column->[0]" of gen_jobs is set by genjob/, "$column->[0] is not an application's");
	}
	foreach my $bad ([ notify => 'x' x 64 ], [ notify => '' ], [ on_success => '' ], [ on_failure => 'y' x 64 ])
	{
		my ($status, $out, $error) = $node->psql('postgres',
			qq{CREATE SERVER bad FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9', $bad->[0] '$bad->[1]')});
		like($error, qr/invalid value for option "$bad->[0]".*HINT/s, "$bad->[0] of " . length($bad->[1]) . ' bytes is refused');
	}
};

$node->stop;
done_testing();

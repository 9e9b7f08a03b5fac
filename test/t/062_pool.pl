# Servers with several addresses, and servers with a fallback that takes their jobs.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $node = new_node(conf => 'genjob.debug_clock_speed = 15');

sub insert
{
	my ($server, $n, $request, %columns) = @_;
	my @names = sort keys %columns;
	query("INSERT INTO gen_jobs (" . join(', ', 'server', 'request', @names) . ") SELECT "
		  . join(', ', "'$server'", literal($request // '{"prompt": "a"}'), @columns{@names}) . " FROM generate_series(1, $n)");
	return;
}

# What genjob.servers would say, whose queued jobs are due by the system's clock
sub held_as
{
	my ($condition, $server, $what) = @_;
	return eventually("SELECT $condition FROM genjob.read_servers() r JOIN pg_foreign_server s ON s.oid = r.server WHERE s.srvname = '$server'", $what);
}

sub free_url
{
	return 'http://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port();
}

sub start_at
{
	my ($url, %opts) = @_;
	return StandIn->new(port => $url =~ s/.*://r, %opts);
}

sub pool
{
	my ($name, $api, $members, %opts) = @_;
	return create_server($node, $name, $api, join(', ', map { ref $_ ? $_->url : $_ } @$members), %opts);
}

my $stall = StandIn::request(prompt => 'stall', faults => [ { stall => 1 } ], repeat => 1);
my @members = map { StandIn->new } 1 .. 3;

subtest 'least in flight, also while members come and go' => sub {
	$_->reset foreach @members;
	pool('even', 'openai-images', \@members, max_in_flight => 4);
	insert('even', 6, $stall);
	$_->wait_for(sub { $_[0]{in_flight} == 2 }) foreach @members;
	pass('each member of a pool has as many calls in flight as the others');
	insert('even', 9, $stall);
	$_->wait_for(sub { $_[0]{in_flight} == 4 }) foreach @members;
	eventually("SELECT s.in_flight = 12 AND s.allowed = 12 AND s.queued = 3 AND (SELECT string_agg(in_flight || ' of ' || max_in_flight, ', ') FROM genjob.backends WHERE server = 'even') = '4 of 4, 4 of 4, 4 of 4' FROM genjob.servers s WHERE server = 'even'",
		'... and max_in_flight applies to each');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'even' AND backend = " . literal($members[1]->url) . " AND state = 'running'");
	$members[1]->wait_for(sub { $_[0]{total} == 7 });
	pass('one that has places free gets what is queued');

	# members that come and go
	query("ALTER SERVER even OPTIONS (SET url " . literal(join ',', map { $_->url } @members[ 0, 1 ]) . ', SET max_in_flight \'6\')');
	insert('even', 10, $stall);
	$_->wait_for(sub { $_[0]{in_flight} == 6 }) foreach @members[ 0, 1 ];
	is($members[2]->counts(summary => 1)->{in_flight}, 4, 'ALTER SERVER takes an address out; its calls go on');
	eventually("SELECT in_flight = 16 AND allowed = 12 FROM genjob.servers WHERE server = 'even'", '... and are counted');
	query("ALTER SERVER even OPTIONS (SET url " . literal(join ',', map { $_->url } @members) . ')');
	$members[2]->wait_for(sub { $_[0]{in_flight} == 6 });
	pass('... and in again: it gets no more than max_in_flight with those that were there');
	query("ALTER SERVER even OPTIONS (SET url " . literal(join ',', map { $_->url } @members[ 0, 1 ]) . ')');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'even' AND state IN ('queued', 'running')");
	$_->wait_for(sub { $_[0]{in_flight} == 0 }) foreach @members;
	insert('even', 30);
	eventually("SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE server = 'even' AND state IN ('queued', 'running'))", '... and out, until nothing is in flight there');
	is(query("SELECT count(*) FROM gen_jobs WHERE server = 'even' AND state = 'succeeded' AND backend = " . literal($members[2]->url)), 0, '... and nothing is sent there');
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'a member that is dead' => sub {
	my $dead = free_url();
	pool('limping', 'openai-images', [ $members[0], $dead, $members[1] ], max_in_flight => 4);
	insert('limping', 100);
	eventually_succeed('limping', 'a pool with a dead member loses no job');
	is(query("SELECT sum(failures), bool_and(state = 'succeeded'), count(*) FILTER (WHERE backend = '$dead') FROM gen_jobs WHERE server = 'limping'"), '0|t|0', '... and no attempt');
	eventually("SELECT bool_and((state = 'broken') = (url = '$dead')) FROM genjob.backends WHERE server = 'limping'", '... and genjob.backends shows which one it is');
	is(query("SELECT allowed, held_reason IS NULL FROM genjob.servers WHERE server = 'limping'"), '8|t', '... and genjob.servers what the others may have');
};

subtest 'a member that stands for one that is dead' => sub {
	pool('proxied', 'openai-images', [ @members[ 0, 1 ] ], max_in_flight => 4, max_attempts => 10, retry_base => '10 s', retry_max => '1 h', paused => 'on');
	$members[0]->reset;
	$members[0]->refuse_all(502);
	insert('proxied', 60);
	query("SELECT genjob.resume('proxied')");
	eventually("SELECT state = 'broken' AND error LIKE '%HTTP 502%' FROM genjob.backends WHERE server = 'proxied' AND url = " . literal($members[0]->url), 'a member that answers 502 is left out');
	eventually("SELECT count(*) FILTER (WHERE state = 'succeeded') >= 50 FROM gen_jobs WHERE server = 'proxied'", '... and the other works');
	cmp_ok($members[0]->counts(summary => 1)->{total}, '<=', 12, '... after a few calls');
	$members[0]->refuse_all(0);
	eventually_succeed('proxied', '... until it answers again');
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'a member that asks to wait' => sub {
	pool('resting', 'openai-images', [ @members[ 0, 1 ] ], max_in_flight => 1, paused => 'on');
	$_->reset foreach @members;
	$members[0]->refuse_all(503, retry_after => '3000');
	insert('resting', 20);
	query("SELECT genjob.resume('resting')");
	eventually_succeed('resting', 'while a member asks to wait the other works, also on what was refused');
	eventually("SELECT string_agg(state, ' ') = 'held ok' AND min(until) > now() + interval '1500 s' FROM genjob.backends WHERE server = 'resting'", '... and genjob.backends says until when');
	is($members[0]->counts(summary => 1)->{total}, 1, '... and it is let alone');
	is(query("SELECT sum(failures) FROM gen_jobs WHERE server = 'resting'"), 0, '... and no attempt is used up');
	$members[0]->refuse_all(0);
};

subtest 'a prediction stays where it is' => sub {
	pool('diffusion', 'sdcpp', [ @members[ 0, 1 ] ], max_in_flight => 10, poll_interval => '2 s');
	$_->reset foreach @members;
	insert('diffusion', 8, StandIn::request(prompt => 'a', outcome => 'never'));
	eventually("SELECT count(*) = 8 FROM gen_jobs WHERE server = 'diffusion' AND remote_id IS NOT NULL", 'predictions of a pool');
	is(join(' ', map { $_->counts(summary => 1)->{predictions} } @members[ 0, 1 ]), '4 4', '... are spread over its members');
	my $before = query("SELECT string_agg(backend, ' ' ORDER BY id) FROM gen_jobs WHERE server = 'diffusion'");
	$node->stop('immediate');
	$node->start;
	wait_dispatcher($node);
	$_->wait_for(sub { $_[0]{polls} > 8 }) foreach @members[ 0, 1 ];
	eventually("SELECT bool_and(in_flight = 4) FROM genjob.backends WHERE server = 'diffusion'", 'after a crash each is asked about where it was submitted');
	$_->finish foreach @members[ 0, 1 ];
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'diffusion' AND state = 'running'");
	is(query("SELECT string_agg(backend, ' ' ORDER BY id) = '$before', max(attempt), sum(failures) FROM gen_jobs WHERE server = 'diffusion'"), 't|1|0', '... and none is submitted again');
	is(join(' ', map { $_->counts(summary => 1)->{predictions} } @members[ 0, 1 ]), '4 4', '... as the members say');

	# one address becomes several, and another comes first: a prediction is asked about where it was submitted
	pool('grows', 'sdcpp', [ $members[0] ], max_in_flight => 4);
	insert('grows', 1, StandIn::request(prompt => 'grown', outcome => 'never'));
	eventually("SELECT remote_id IS NOT NULL FROM gen_jobs WHERE server = 'grows'", 'a prediction of a server with one address');
	$node->stop('immediate');
	$node->start;
	wait_dispatcher($node);
	query("ALTER SERVER grows OPTIONS (SET url " . literal(join(',', map { $_->url } @members[ 1, 0 ])) . ')');
	$node->stop('immediate');
	$node->start;
	wait_dispatcher($node);
	my ($here, $there) = map { $_->counts(summary => 1)->{total} } @members[ 0, 1 ];
	$members[0]->wait_for(sub { $_[0]{total} > $here + 2 });
	is($members[1]->counts(summary => 1)->{total}, $there, '... is asked about there, also when it has become a pool');
	query("UPDATE gen_jobs SET state = 'cancelled' WHERE server = 'grows'");
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'another server for when all are dead' => sub {
	my @broken = (free_url(), free_url());
	pool('spare', 'openai-images', [ $members[2] ]);
	pool('home', 'openai-images', \@broken, fallback => 'spare');
	insert('home', 40);
	eventually_succeed('home', 'when no address of a server can be reached its fallback runs its jobs');
	is(query("SELECT count(*), sum(failures) FROM gen_jobs WHERE server = 'home' AND ran_on = 'spare' AND backend IS NULL"), '40|0', '... as the jobs say');
	my $up = start_at($broken[0]);
	eventually("WITH more AS (INSERT INTO gen_jobs (server, request) VALUES ('home', '{\"prompt\": \"b\"}')) SELECT bool_or(ran_on IS NULL AND state = 'succeeded') FROM gen_jobs WHERE server = 'home'",
		'when it can be reached again it has them itself');
	eventually_succeed('home', '... all of them');
	query('TRUNCATE gen_jobs CASCADE');

	# a job that its fallback did not reach either is the first server's again
	$up->stop;
	query("ALTER SERVER spare OPTIONS (SET url '@{[free_url()]}')");
	insert('home', 3);
	eventually("SELECT bool_and(state = 'broken') FROM genjob.backends WHERE server IN ('home', 'spare')", 'when its fallback cannot be reached either');
	$up = start_at($broken[1]);
	eventually_succeed('home', '... its jobs wait for either');
	is(query("SELECT bool_and(ran_on IS NULL) FROM gen_jobs WHERE server = 'home'"), 't', '... and run where they belong');
	$up->stop;

	# the fallback of a fallback, of which nothing was known while it had no jobs of its own
	pool('third', 'openai-images', [ $members[2] ]);
	pool('second', 'openai-images', [ free_url() ], fallback => 'third');
	pool('first', 'openai-images', [ free_url() ], fallback => 'second');
	insert('first', 1);
	eventually("SELECT bool_and(state = 'broken') FROM genjob.backends WHERE server IN ('first', 'second')", 'a server and its fallback are dead');
	insert('second', 3);
	eventually_succeed('second', '... which has a fallback itself, for its own jobs');
	is(query("SELECT bool_and(ran_on = 'third') FROM gen_jobs WHERE server = 'second'"), 't', '... as these say');
	is(query("SELECT state FROM gen_jobs WHERE server = 'first'"), 'queued', '... and for no others');
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'fallbacks that are none' => sub {
	pool('wrong', 'openai-images', [ free_url() ], fallback => 'nowhere');
	pool('sketcher', 'sdcpp', [ $members[2] ]);
	pool('other_api', 'openai-images', [ free_url() ], fallback => 'sketcher');
	insert($_, 6) foreach qw(wrong other_api);
	eventually(q{SELECT bool_and(state = 'broken') FROM genjob.backends WHERE server IN ('wrong', 'other_api')}, 'servers that cannot be reached, with fallbacks that are none');
	held_as(q{held_reason LIKE '% Its fallback "nowhere" cannot be used: server "nowhere" does not exist.%'}, 'wrong',
		'... say so: it does not exist');
	held_as(q{held_reason LIKE '% Its fallback "sketcher" cannot be used: it speaks sdcpp, not openai-images.%'}, 'other_api',
		'... it speaks otherwise');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state IN ('queued', 'running') AND server IN ('wrong', 'other_api')}), 12, '... and lose nothing');
	pool('nowhere', 'openai-images', [ $members[2] ]);
	eventually_succeed('wrong', 'one that is made later is used');
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'a fallback that not all may use' => sub {
	my $home = free_url();
	pool('refuge', 'openai-images', [ $members[2] ]);
	pool('mixed', 'openai-images', [$home], fallback => 'refuge', max_in_flight => 20);
	query('CREATE ROLE guest LOGIN; GRANT INSERT, SELECT ON gen_jobs TO guest; GRANT USAGE ON FOREIGN SERVER mixed TO guest');
	query(q{SET ROLE guest; INSERT INTO gen_jobs (server, request, tenant) SELECT 'mixed', '{"prompt": "guest"}', 'all' FROM generate_series(1, 30)});
	insert('mixed', 30, undef, tenant => q('all'));
	eventually(q{SELECT count(*) = 30 FROM gen_jobs WHERE server = 'mixed' AND state = 'succeeded' AND ran_on = 'refuge'}, 'jobs of who may use the fallback run there');
	is(query(q{SELECT bool_and(state IN ('queued', 'running')), max(failures) <= 1, count(*) FROM gen_jobs WHERE server = 'mixed' AND owner = 'guest'::regrole}), 't|t|30', '... and others wait, but for one at a time that tries');
	held_as(q{held_reason LIKE '% Its fallback "refuge" takes no jobs of some owners: permission denied for foreign server refuge. GRANT USAGE ON FOREIGN SERVER refuge TO guest.'}, 'mixed',
		'... as genjob.servers says');
	my $up = start_at($home);
	eventually_succeed('mixed', '... for their own server');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'mixed' AND owner = 'guest'::regrole AND ran_on IS NULL}), 30, '... which runs them');
	$up->stop;
	query(q{SET ROLE guest; INSERT INTO gen_jobs (server, request) SELECT 'mixed', '{"prompt": "guest"}' FROM generate_series(1, 10)});
	held_as(q{held_reason LIKE '%takes no jobs of some owners%'}, 'mixed', 'when it is away again they wait again');
	query('GRANT USAGE ON FOREIGN SERVER refuge TO guest');
	eventually_succeed('mixed', '... until they may use the fallback');
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'a server that goes away while jobs wait for it alone' => sub {
	pool('beside', 'openai-images', [ $members[2] ]);
	pool('leaving', 'openai-images', [ free_url() ], fallback => 'beside', max_in_flight => 20);
	query('CREATE ROLE visitor LOGIN; GRANT INSERT, SELECT ON gen_jobs TO visitor; GRANT USAGE ON FOREIGN SERVER leaving TO visitor');
	query(q{SET ROLE visitor; INSERT INTO gen_jobs (server, request) SELECT 'leaving', '{"prompt": "visitor"}' FROM generate_series(1, 700)});
	held_as(q{held_reason LIKE '%takes no jobs of some owners%'}, 'leaving', 'hundreds of jobs that a fallback does not take');
	insert('leaving', 1);
	eventually(q{SELECT state = 'succeeded' FROM gen_jobs WHERE server = 'leaving' AND owner <> 'visitor'::regrole}, '... all of which were looked at');
	my $session = Session->new($node);
	$session->query(q{BEGIN; SELECT count(*) FROM (SELECT FROM gen_jobs WHERE server = 'leaving' AND state = 'queued' ORDER BY id DESC LIMIT 10 FOR UPDATE) l});
	query('DROP SERVER leaving CASCADE');
	eventually(q{SELECT count(*) = 690 FROM gen_jobs WHERE state = 'failed'}, 'they fail when their server is dropped, but those that someone has locked');
	insert('beside', 1);
	eventually_succeed('beside', '... which hold up no other server');
	$session->query('COMMIT');
	$session->quit;
	query('TRUNCATE gen_jobs CASCADE');
};

subtest 'a fallback for what would come too late' => sub {
	pool('quick', 'openai-images', [ $members[2] ]);
	pool('busy', 'openai-images', [ $members[0] ], fallback => 'quick', max_in_flight => 1);
	insert('busy', 1, $stall);
	insert('busy', 5);
	insert('busy', 1, '{"prompt": "urgent"}', priority => -1, expires_at => q(clock_timestamp() + interval '1 h'));
	my $expiry = q{(SELECT max(started_at) + interval '120 s' FROM gen_jobs WHERE server = 'busy')};
	eventually(q{SELECT bool_or(state = 'running') FROM gen_jobs WHERE server = 'busy'}, 'a server is full');
	query("UPDATE gen_jobs SET expires_at = $expiry WHERE request ->> 'prompt' = 'urgent'");
	eventually(q{SELECT state = 'succeeded' AND ran_on = 'quick' FROM gen_jobs WHERE request ->> 'prompt' = 'urgent'}, 'a job that would expire goes to the fallback');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server = 'busy' AND state = 'queued'}), 5, '... and no other');	query('TRUNCATE gen_jobs CASCADE');
	$members[0]->wait_for(sub { $_[0]{in_flight} == 0 });
};

$_->stop foreach @members;
$node->stop('immediate');
done_testing();

# A few hundred bytes that decode to hundreds of megabytes, three times compressed: the dispatcher decodes them some at a
# time, and others' answers come in between.

use strict;
use warnings;

use Compress::Zlib qw(memGzip);
use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest qw(!query);
use PostgreSQL::Test::Utils;
use Shapes;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'bombs', conf => "autovacuum = off\nsynchronous_commit = off");
my ($port, $pid) = Shapes::serve();

sub query { return $node->safe_psql('postgres', $_[0]); }

# an answer of the server on $port: raw, as its path has it
sub address
{
	my ($headers, $body) = @_;
	my $answer = "!raw\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${headers}Content-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
	return "http://127.0.0.1:$port/=" . unpack('H*', $answer);
}

# zeros: no JSON, so that nothing but decoding takes long
my $bomb = memGzip("\0" x 100_000_000);
$bomb = memGzip($bomb) for 1 .. 2;
cmp_ok(length $bomb, '<', 2000, 'it is small');
create_server($node, 'bomb', 'http', address("Content-Encoding: gzip, gzip, gzip\r\n", $bomb), path => '/0', auth => 'none', max_attempts => 1, max_in_flight => 4);
create_server($node, 'brief', 'openai-images', $standin, max_in_flight => 1);

# Seconds that two bombs take, and how long at most no job of another server ended meanwhile.
sub run_bombs
{
	query('TRUNCATE gen_jobs CASCADE');
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'brief', jsonb_build_object('prompt', 'number ' || i) FROM generate_series(1, 3000) i});
	ok($node->poll_query_until('postgres', q{SELECT count(*) > 20 FROM gen_jobs WHERE server = 'brief' AND state = 'succeeded'}), 'others are at work');
	query(q{INSERT INTO gen_jobs (server, request) SELECT 'bomb', '{}' FROM generate_series(1, 2)});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM gen_jobs WHERE server = 'bomb' AND state IN ('succeeded', 'failed')}), 'they end');
	note(query(q{SELECT state, left(error, 200), length(result::text) FROM gen_jobs WHERE server = 'bomb'}));
	my ($all, $gap) = split /\|/, query(
		q{WITH b AS (SELECT min(started_at) AS first, max(finished_at) AS last FROM gen_jobs WHERE server = 'bomb')
		SELECT extract(epoch FROM last - first),
			(SELECT extract(epoch FROM max(gap)) FROM (SELECT finished_at - lag(finished_at) OVER (ORDER BY finished_at) AS gap
				FROM gen_jobs WHERE server = 'brief' AND finished_at BETWEEN first - interval '1 s' AND last) g)
		FROM b});
	note("in $all s one waits $gap s at most");
	return ($all, $gap);
}

subtest 'wires 43: small answers that decode to hundreds of megabytes keep no other server\'s jobs waiting' => sub {
	my ($all, $gap) = (0, 1e9);
	# what else the machine has to do must not decide
	foreach (1 .. 3)
	{
		($all, $gap) = run_bombs();
		last if $gap < $all / 10;
	}
	takes_less($gap, $all / 10, 'no job of another server waits for long');
};

kill 'TERM', $pid;
$node->stop;
$standin->stop;
done_testing();

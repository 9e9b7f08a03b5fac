# What proxies and broken servers put between a submission and its outputs: pages of their own, nothing at
# all, half of an answer, one without end, bytes in drops, interim answers, headers twice, compression that
# nobody asked for. What was submitted is not submitted again for any of it, and one server that does not
# answer keeps nobody else from being asked.

use strict;
use warnings;

use IO::Compress::Gzip qw(gzip);
use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node(conf => 'log_min_messages = warning');
my $standin = StandIn->new;
my %quick = (
	poll_interval => '20 ms', retry_base => '10 ms', max_attempts => 2, timeout => '4 s', max_response => '200kB');
my %ids;

# those that meet with time-outs, and those that must not on a busy machine
create_server($node, 'hasty', 'sdcpp', $standin, %quick, max_in_flight => 50);
create_server($node, 'hasty fal', 'fal', $standin, %quick, timeout => '8 s', max_in_flight => 50,
	model => 'fal-ai/painter');
create_server($node, 'sdcpp', 'sdcpp', $standin, %quick, timeout => '60 s', max_in_flight => 50);
create_server($node, 'fal', 'fal', $standin, %quick, timeout => '60 s', max_in_flight => 50, model => 'fal-ai/painter');
create_server($node, 'replicate', 'replicate', $standin, %quick, timeout => '8 s', max_in_flight => 50,
	model => 'painter');

gzip(\('{"id": "' . '0' x 50_000_000 . '"}'), \my $bomb);

my %strange = (
	'a page with 502' => { status => 502, garbage => 'html' },
	'a page' => { garbage => 'html' },
	'nothing' => { garbage => 'empty' },
	'half of it' => { garbage => 'truncated-json' },
	'no end' => { huge => 1e12, chunked => 1 },
	'drops' => { drip => { bytes => 1, every_ms => 50 } },
	'compressed' =>
	  { headers => { 'Content-Encoding' => 'gzip' }, body => { base64 => encode_base64($bomb, '') } },
	'interim answers' => { interim => 500 },
	'headers twice' =>
	  { headers => { 'Content-Type' => [ 'text/html', 'application/json' ], 'Retry-After' => [ '0', '9999' ] } });

# Enqueues a job that meets the fault at that step, once or for ever.
sub start
{
	my ($server, $step, $strange, $for_ever) = @_;
	my $name = join ' ', $server, $step, $strange, $for_ever ? 'for ever' : ();
	my %script = ("$step\_faults" => [ $strange{$strange} ], latency_ms => 50, $for_ever ? (repeat => 1) : ());
	$script{faults} = delete $script{submit_faults} if $step eq 'submit';
	$ids{$name} = enqueue($node, $server, StandIn::request(prompt => $name, standin => { id => $name, %script }));
	return $name;
}

sub ends_like
{
	my ($name, $state, $attempt, $error) = @_;
	my $job = job($node, $ids{$name});
	is("$job->{state} $job->{attempt}", "$state $attempt", $name);
	like($job->{error} // '', $error, '... says so') if $error;
	is($standin->counts->{ids}{$name}{arrived}, $attempt, '... is submitted no more often');
	is(query("SELECT count(*), min(content_type) FROM gen_outputs WHERE job_id = $ids{$name}"),
		'1|image/png', '... has its picture') if $state eq 'succeeded';
	return;
}

# ---- all jobs at once, for the subtests that follow ----
#
# once, at each step behind the submission: it is asked again, and the picture comes
my @brought;
push @brought, start('sdcpp', 'poll', $_) for grep { $_ ne 'drops' } sort keys %strange;
push @brought, start('fal', 'result', $_) for grep { $_ ne 'drops' } sort keys %strange;
# half of a picture, or a page instead of it, is as good as another file
push @brought, start('replicate', 'download', $_)
  for 'a page with 502', 'nothing', 'no end', 'drops', 'interim answers';

# once, at the submission
my @again = (start('sdcpp', 'submit', 'a page with 502'), start('hasty', 'submit', 'drops'));
my @harmless = map { start('sdcpp', 'submit', $_) } 'interim answers', 'headers twice';
my %refused = (
	'a page' => qr/the answer of server "sdcpp" is not JSON; it is kept in gen_outputs/,
	'nothing' => qr/answered HTTP 202 with an empty body/,
	'half of it' => qr/is not valid JSON at byte \d+ of \d+; it is kept in gen_outputs/,
	'no end' => qr/larger than 200 kB\. Raise its option max_response/,
	'compressed' => qr/is not JSON but compressed, and larger than the option max_response.*kept in gen_outputs/);
start('sdcpp', 'submit', $_) for sort keys %refused;

# for ever: it ends, and says what came last
my %last = (
	'a page with 502' => qr/ended within the option timeout.*answered HTTP 502: \(an HTML page\) 502 Bad Gateway/,
	'a page' => qr/ended within the option timeout.*is not JSON/,
	'nothing' => qr/ended within the option timeout.*empty/,
	'half of it' => qr/ended within the option timeout.*is not valid JSON/,
	'no end' => qr/ended within the option timeout.*larger than 200 kB/,
	'drops' => qr/ended within the option timeout.*did not answer within 4 s/);
start('hasty', 'poll', $_, 1) for sort keys %last;
my %unreadable = (
	'a page with 502' => qr/ended within the option timeout.*answered HTTP 502/,
	'a page' => qr/is not JSON; it is kept in gen_outputs/,
	'nothing' => qr/empty body/,
	'half of it' => qr/is not valid JSON at byte \d+ of \d+; it is kept in gen_outputs/);
start('hasty fal', 'result', $_, 1) for sort keys %unreadable;
start('replicate', 'download', 'a page with 502', 1);
start('replicate', 'download', 'no end', 1);

wait_all_ended($node);

subtest 'what is strange once behind a submission is asked for again, and the picture comes' => sub {
	ends_like($_, 'succeeded', 1) for @brought;
};

subtest 'a submission is repeated if it was not answered, and only then' => sub {
	ends_like($_, 'succeeded', 1) for @harmless;
	ends_like($_, 'succeeded', 2) for @again;
	is($standin->counts(summary => 1)->{max_submitted_per_id}, 2,
		'the two that were not answered were submitted twice');
};

subtest 'an answer to a submission that cannot be read fails the job, and is kept' => sub {
	ends_like("sdcpp submit $_", 'failed', 1, $refused{$_}) for sort keys %refused;
	is(query("SELECT bytes FROM gen_outputs WHERE job_id = $ids{'sdcpp submit compressed'}"),
		length $bomb, 'what is too large when it is decompressed is kept as it came');
};

subtest 'what is strange for ever fails the job, which says what came last' => sub {
	ends_like("hasty poll $_ for ever", 'failed', 1, $last{$_}) for sort keys %last;
	ends_like("hasty fal result $_ for ever", 'failed', 1, $unreadable{$_}) for sort keys %unreadable;
	ends_like('replicate download a page with 502 for ever', 'failed', 1,
		qr/could not be downloaded from .*answered HTTP 502/);
	ends_like('replicate download no end for ever', 'failed', 1,
		qr/could not be downloaded from .*larger than 200 kB/);
};

subtest 'a provider that answers no question keeps nobody else from being asked' => sub {
	create_server($node, 'hung', 'sdcpp', $standin, %quick, timeout => '1 h', max_in_flight => 100);
	query('INSERT INTO gen_jobs (server, request) SELECT \'hung\', '
		  . literal(StandIn::request(prompt => 'hung', poll_faults => [ { stall => 1 } ], repeat => 1))
		  . ' FROM generate_series(1, 100)');
	eventually(q{SELECT count(*) >= 64 FROM genjob.activity WHERE server = 'hung' AND phase = 'polling'},
		'questions to a server hang');
	my $beside = enqueue($node, 'sdcpp', StandIn::request(prompt => 'beside', latency_ms => 50));
	ok(wait_state($node, $beside, 'succeeded'), '... and others are asked');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state = 'running' AND server = 'hung'}), 100, '... meanwhile');
	query(q{UPDATE gen_jobs SET state = 'cancelled' WHERE state = 'running' AND server = 'hung'});
};

$standin->stop;
$node->stop;
done_testing();

# A real object store (Swift) whose clock is an hour away from this machine's: it refuses every call, genjob says
# everywhere what is wrong, and jobs go on by themselves when the clocks agree.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $store = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $store->missing if $store->missing;

my $node = new_node();
my $standin = StandIn->new;

query("CREATE SERVER pictures FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url '" . $store->url . "', bucket 'pictures', region 'us-east-1', key '{server}/{job}-{ordinal}.{ext}', retry_base '100 ms');
	CREATE USER MAPPING FOR PUBLIC SERVER pictures OPTIONS (access_key_id 'test:tester', secret_access_key 'testing')");
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');
create_server($node, 'bytes', 'http', $standin, path => '/echo', links_as => 'bytes');

sub start { my ($server, $name, %more) = @_; return enqueue($node, $server, StandIn::request(prompt => $name, %more, standin => { id => $name })) }

foreach my $case ([ 3600, 'behind' ], [ -3600, 'ahead of' ])
{
	my ($skew, $word) = @$case;
	subtest "this machine's clock is $word that of the store" => sub {
		my $first = start('painter', "first $word");
		ok(wait_state($node, $first, 'succeeded'), 'with the right time');
		my $advice = "RequestTimeTooSkewed.*Set this machine''s clock: it is (359\\d|36[01]\\d) s $word that of the store";
		$store->skew($skew);
		my $painted = start('painter', "painted $word");
		my $sent = start('bytes', "sent $word", image => { '$output_url' => [ 0 + $first, 1 ] });
		eventually("SELECT state = 'running' AND remote::text LIKE '%\$verdict%' FROM gen_jobs WHERE id = $painted", "this machine's clock is $word: what was paid for is saved");
		eventually("SELECT held_reason ~ '$advice' FROM genjob.servers WHERE server = 'pictures'", '... genjob.servers says what to do')
			or diag(query("SELECT held_reason FROM genjob.servers WHERE server = 'pictures'"));
		eventually("SELECT state = 'queued' AND error ~ '$advice.*nothing was sent' FROM gen_jobs WHERE id = $sent", '... and so does a job that would be sent with an object')
			or diag(query("SELECT state, error FROM gen_jobs WHERE id = $sent"));
		my $head = enqueue($node, 'pictures', { head => "painter/$first-1.png" });
		ok(wait_state($node, $head, 'failed'), '... and a job of the store');
		# to HEAD a store answers with nothing but its status
		my $get = enqueue($node, 'pictures', { get => "painter/$first-1.png" });
		ok(wait_state($node, $get, 'failed'), '... which fails');
		like(job($node, $get)->{error}, qr/RequestTimeTooSkewed.*Set this machine's clock: it is \d+ s $word/, '... with the words');
		is($standin->arrived("sent $word"), 0, '... and nothing is sent');
		$store->skew(0);
		ok(wait_state($node, $painted, 'succeeded'), 'the clocks agree: the picture is stored');
		ok(wait_state($node, $sent, 'succeeded'), '... and the other job is sent');
		is($standin->arrived("painted $word") . $standin->arrived("sent $word"), '11', '... each was paid for once');
		query("SELECT genjob.retry($get)");
		ok(wait_state($node, $get, 'succeeded'), '... and what had failed can be had');
	};
}

$node->stop;
done_testing();

# What is sent is what was meant: nobody who may set a header, in a server's options or in an own user mapping, begins
# another header, another message, or names another receiver.

use strict;
use warnings;

use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $json = JSON::PP->new->canonical->ascii;

$node->safe_psql('postgres', 'CREATE ROLE climbing_user LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO climbing_user');
create_server($node, 'echo', 'http', $standin, path => '/echo');
$node->safe_psql('postgres', 'GRANT USAGE ON FOREIGN SERVER echo TO climbing_user; GRANT INSERT, SELECT ON gen_jobs TO climbing_user');

sub refused
{
	my ($headers, $pattern) = @_;
	my $literal = literal($json->encode($headers));
	for my $sql ("ALTER SERVER echo OPTIONS (ADD headers $literal)",
		"SET SESSION AUTHORIZATION climbing_user; CREATE USER MAPPING FOR CURRENT_USER SERVER echo OPTIONS (headers $literal)")
	{
		my ($code, $out, $err) = $node->psql('postgres', $sql);
		isnt($code, 0, 'refused: ' . substr($sql, 0, 30) . '... ' . $json->encode($headers));
		like($err, $pattern, '... with the reason');
	}
	return;
}

subtest 'wires 71: headers that frame a message, name its receiver or are for the next hop cannot be set' => sub {
	refused({ $_ => 'x' }, qr/is set by genjob itself/)
	  for qw(Host hOST Content-Length Transfer-Encoding TE Trailer Upgrade Connection Keep-Alive Expect Content-Encoding HTTP2-Settings Idempotency-Key);
	refused({ $_ => 'x' }, qr/is set by genjob itself\. .*Proxy-\*/) for qw(Proxy-Authorization proxy-connection Proxy-X);
};

subtest 'wires 72: a header has one line, and a name that is one' => sub {
	refused({ 'X-A' => "1$_" }, qr/line breaks|NUL character|JSON/) for ("\r\nX-Evil: 1", "\nX-Evil: 1", "\rX", "\0X", "\x7f", "\x1b[0m");
	refused({ $_ => '1' }, qr/header names/) for ('X A', 'X:', "X\r\nY", '', 'X-A:1', "X\t");
};

subtest 'wires 73: a key with a line break is none' => sub {
	my ($code, $out, $err) = $node->psql('postgres', "SET SESSION AUTHORIZATION climbing_user; CREATE USER MAPPING FOR CURRENT_USER SERVER echo OPTIONS (api_key E'sk\\r\\nX-Evil: 1')");
	isnt($code, 0, 'refused');
	like($err, qr/line breaks/, '... with the reason');
	unlike($err, qr/Evil/, '... and without the key');
};

subtest 'wires 74: what got into the catalogs all the same is not sent' => sub {
	# as a superuser may who writes the catalogs himself
	create_server($node, 'forged', 'http', $standin, path => '/echo', headers => '{"X-A": "1"}');
	$node->safe_psql('postgres', q{SET allow_system_table_mods = on; UPDATE pg_foreign_server SET srvoptions = array_replace(srvoptions, 'headers={"X-A": "1"}', E'headers={"X-A": "1\\\\r\\\\nX-Evil: 1"}') WHERE srvname = 'forged'});
	my $pid = dispatcher_pid($node);
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_dispatcher($node, 'postgres', $pid);
	$node->psql('postgres', q{INSERT INTO gen_jobs (server, request, max_attempts) VALUES ('forged', '{"a": 1}', 1)});
	ok($node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE state IN ('queued', 'running'))}), 'nothing runs');
	is($standin->counts->{total}, 0, '... and nothing was sent');
};

$standin->stop;
$node->stop;
done_testing();

# docs/workflows.md, from SQS, from S3 through Lambda, and by PostgREST: the document's Python and SQL as it stands. SQS
# is test/aws/sqs.py here, the test plays Lambda and PostgREST: it calls the functions as they do.

use strict;
use warnings;

use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use Document;
use GenJobTest qw(!query);
use PythonServer;
use StandIn;

my $python = '/usr/bin/python3';    # the one that Debian's packages are for
my $folder = PostgreSQL::Test::Utils::tempdir();
my $standin = StandIn->new;
my $node = new_node(name => 'sources');
create_server($node, 'painter', 'openai-images', $standin, links_as => 'url');
$node->safe_psql('postgres', q{
	CREATE SERVER uploads FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:9', bucket 'uploads');
	CREATE USER MAPPING FOR PUBLIC SERVER uploads OPTIONS (access_key_id 'AKIA', secret_access_key 'secret');
	CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app;
	GRANT USAGE ON FOREIGN SERVER painter, uploads TO app; GRANT CREATE ON DATABASE postgres TO app});
my %python = Document::blocks('workflows.md', 'python');
my %sql = Document::blocks('workflows.md', 'sql');
local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE DATABASE_URL)} = ($node->host, $node->port, 'app', 'postgres', '');

sub query { return $node->safe_psql('postgres', $_[0], extra_params => [ '-U', $_[1] // 'postgres' ]) }

sub write_file
{
	my ($name, $text) = @_;
	open my $file, '>', "$folder/$name" or die "could not write $folder/$name: $!";
	print $file $text;
	close $file or die "could not write $folder/$name: $!";
	return "$folder/$name";
}

# Whether Debian's Python has these modules.
sub has
{
	my ($out, $err) = ('', '');
	return -x $python && IPC::Run::run([ $python, '-c', "import $_[0]" ], '>', \$out, '2>', \$err);
}

SKIP:
{
	skip 'python3-boto3 or python3-psycopg is not installed (tools/install-packages workflows)', 1 unless has('boto3, psycopg');
	my $queue = PythonServer->new('sqs.py');
	my $http = HTTP::Tiny->new(timeout => 30);
	$http->put($queue->url('/'), { content => $_ }) foreach '{"prompt": "one"}', '{"prompt": "two & three"}', 'no request';
	local @ENV{qw(QUEUE_URL SQS_ENDPOINT AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_DEFAULT_REGION AWS_EC2_METADATA_DISABLED)} =
	  ($queue->url('/1/orders'), $queue->url, 'AKIA', 'secret', 'eu-central-1', 'true');
	my $left = sub { return JSON::PP->new->utf8->decode($http->get($queue->url('/'))->{content}) };

	# its deletion of the first message is lost: SQS gives it again
	query(q{INSERT INTO gen_jobs (server, request, request_id, owner) SELECT 'painter', '{"prompt": "one"}', encode(sha256('{"prompt": "one"}'), 'hex'), 'app'});
	my $out = '';
	my $consumer = IPC::Run::start([ $python, write_file('consumer.py', $python{'From SQS'}[0]) ], '>&', \$out);
	my $until = time + $PostgreSQL::Test::Utils::timeout_default;
	my $given;
	do { IPC::Run::pump_nb($consumer); sleep 0.1; $given = $left->() } until (keys %$given == 1 || time > $until);
	is(join(', ', map { $_->{body} } values %$given), 'no request', 'SQS: what is no request is left in the queue') or diag($out);
	ok(wait_all_ended($node), '... the rest is run');
	is(query(q{SELECT string_agg(format('%s %s', request->>'prompt', state), ', ' ORDER BY request->>'prompt') FROM gen_jobs}),
		'one succeeded, two & three succeeded', '... once');
	IPC::Run::kill_kill($consumer);
	$queue->stop;
}

SKIP:
{
	skip 'python3-psycopg is not installed (tools/install-packages workflows)', 1 unless has('psycopg');
	my $event = JSON::PP->new->utf8->encode({ Records => [ map { { eventName => 'ObjectCreated:Put',
		s3 => { bucket => { name => 'uploads' }, object => { key => "in/my+cat+$_.png", size => 1024, sequencer => "00$_" } } } } 1, 2 ] });
	write_file('event.json', $event);
	write_file('lambda.py', $python{'From S3, through Lambda'}[0]
		  . "\n\nimport json\nfor again in range(2):\n    handler(json.load(open('$folder/event.json')), None)\n");
	my $out = '';
	ok(IPC::Run::run([ $python, "$folder/lambda.py" ], '>&', \$out), 'S3 through Lambda: the function runs twice') or diag($out);
	ok(wait_all_ended($node), '... its jobs end');
	is(query(q{SELECT string_agg(format('%s %s', request->'image_url'->>'$url', coalesce(error, state::text)), ', ' ORDER BY id) FROM gen_jobs WHERE request ? 'image_url'}),
		's3://uploads/in/my cat 1.png succeeded, s3://uploads/in/my cat 2.png succeeded', '... one for each object');
	like(join(' ', map { $_->{body} } $standin->requests), qr{http://127\.0\.0\.1:9/uploads/in/my%20cat%201\.png\?X-Amz-}, '... with a link to it');
}

my ($functions) = @{ $sql{'Over HTTP, by PostgREST'} };
query($functions, 'app');
query('CREATE ROLE visitor; GRANT USAGE ON SCHEMA api TO visitor; GRANT SELECT, INSERT ON gen_jobs TO visitor; GRANT SELECT ON gen_outputs TO visitor;
	GRANT USAGE ON FOREIGN SERVER painter TO visitor; CREATE ROLE authenticator LOGIN NOINHERIT; GRANT visitor TO authenticator');

# What PostgREST makes of a call.
sub rpc
{
	my ($function, %arguments) = @_;
	my $json = literal(JSON::PP->new->utf8->canonical->encode(\%arguments));
	my %type = (job => 'bigint');
	my $names = join ', ', map { "\"$_\" := a.\"$_\"" } sort keys %arguments;
	my $columns = join ', ', map { "\"$_\" " . ($type{$_} // 'text') } sort keys %arguments;
	return query("BEGIN; SET LOCAL ROLE visitor; SELECT r.* FROM json_to_record($json) AS a ($columns), LATERAL api.$function($names) AS r; COMMIT", 'authenticator');
}

my $png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
my $id = rpc('order_picture', prompt => 'a boat', request_id => 'order 17');
is(rpc('order_picture', prompt => 'a boat', request_id => 'order 17'), $id, 'PostgREST: an order that is sent twice is one');
my $other = rpc('order_picture', prompt => 'a hat', request_id => 'order 18', picture => $png);
ok(wait_all_ended($node), '... and is run');
like(rpc('picture', job => $_), qr/^succeeded\|\|iVBOR/, '... and its picture read') foreach $id, $other;
is(query("SELECT owner FROM gen_jobs WHERE id = $other AND inputs[1] = decode('$png', 'base64')"), 'visitor', '... as the role of the token, with the input');

$node->stop;
$standin->stop;
done_testing();

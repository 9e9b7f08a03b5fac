# docs/workflows.md, from SQS, from S3 through Lambda, and by PostgREST: the document's Python and SQL as it stands. SQS
# is test/aws/sqs.py here; the test plays Lambda and PostgREST: it calls the functions as they do.

use strict;
use warnings;

use HTTP::Tiny;
use IPC::Run ();
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Document;
use GenJobTest;
use PythonServer;
use StandIn;

my $python = '/usr/bin/python3';    # the one that Debian's packages are for
my $folder = PostgreSQL::Test::Utils::tempdir();
my $standin = StandIn->new;
my $node = new_node(name => 'sources');
create_server($node, 'painter', 'openai-images', $standin, links_as => 'url');
query(q{CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app;
	GRANT USAGE ON FOREIGN SERVER painter TO app; GRANT CREATE ON DATABASE postgres TO app});
my %python = Document::blocks('workflows.md', 'python');
my %sql = Document::blocks('workflows.md', 'sql');

# What becomes of CODE, which starts a program of the document, where that finds the database, and what else it needs.
sub with_environment
{
	my ($code, %more) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'app', PGDATABASE => 'postgres',
		DATABASE_URL => '', %more);
	return $code->();
}

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

subtest 'From SQS: each message is run once, also one that SQS gives again, and what is no request stays' => sub {
	plan skip_all => 'python3-boto3 or python3-psycopg is not installed (tools/install-packages workflows)'
	  unless has('boto3, psycopg');
	my $queue = PythonServer->new('sqs.py');
	my $http = HTTP::Tiny->new(timeout => 30);
	$http->put($queue->url('/'), { content => $_ })
	  foreach '{"prompt": "one"}', '{"prompt": "two & three"}', 'no request';
	my $left = sub { return values %{ JSON::PP->new->utf8->decode($http->get($queue->url('/'))->{content}) } };
	my $ours = q{FROM gen_jobs WHERE request->>'prompt' IN ('one', 'two & three')};

	# its deletion of the first message is lost: SQS gives it again
	query(q{INSERT INTO gen_jobs (server, request, request_id, owner)
		SELECT 'painter', '{"prompt": "one"}', encode(sha256('{"prompt": "one"}'), 'hex'), 'app'});
	my $out = '';
	my $program = write_file('consumer.py', $python{'From SQS'}[0]);
	my $consumer = with_environment(sub { IPC::Run::start([ $python, $program ], '>&', \$out) },
		QUEUE_URL => $queue->url('/1/orders'), SQS_ENDPOINT => $queue->url, AWS_ACCESS_KEY_ID => 'AKIA',
		AWS_SECRET_ACCESS_KEY => 'secret', AWS_DEFAULT_REGION => 'eu-central-1', AWS_EC2_METADATA_DISABLED => 'true');
	poll_until(sub { IPC::Run::pump_nb($consumer); return $left->() == 1 });
	is(join(', ', map { $_->{body} } $left->()), 'no request', 'what is no request is left in the queue') or diag($out);
	ok(wait_all_ended($node), '... the rest is run');
	is(query(qq{SELECT string_agg(format('%s %s', request->>'prompt', state), ', ' ORDER BY request->>'prompt') $ours}),
		'one succeeded, two & three succeeded', '... once');
	IPC::Run::kill_kill($consumer);
	$queue->stop;
};

subtest 'From S3, through Lambda: each object is run once, also if its event comes twice' => sub {
	plan skip_all => 'python3-psycopg is not installed (tools/install-packages workflows)' unless has('psycopg');
	query(q{
		CREATE SERVER uploads FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url 'http://127.0.0.1:9',
			bucket 'uploads');
		CREATE USER MAPPING FOR PUBLIC SERVER uploads OPTIONS (access_key_id 'AKIA', secret_access_key 'secret');
		GRANT USAGE ON FOREIGN SERVER uploads TO app});
	my @records = map { { eventName => 'ObjectCreated:Put', s3 => { bucket => { name => 'uploads' },
		object => { key => "in/my+cat+$_.png", size => 1024, sequencer => "00$_" } } } } 1, 2;
	write_file('event.json', JSON::PP->new->utf8->encode({ Records => \@records }));
	write_file('lambda.py', $python{'From S3, through Lambda'}[0]
		  . "\n\nimport json\nfor again in range(2):\n    handler(json.load(open('$folder/event.json')), None)\n");
	my $out = '';
	my $has_run = with_environment(sub { IPC::Run::run([ $python, "$folder/lambda.py" ], '>&', \$out) });
	ok($has_run, 'the function runs twice') or diag($out);
	ok(wait_all_ended($node), '... its jobs end');
	is(query(q{SELECT string_agg(format('%s %s', request->'image_url'->>'$url', coalesce(error, state::text)), ', '
		ORDER BY id) FROM gen_jobs WHERE request ? 'image_url'}),
		's3://uploads/in/my cat 1.png succeeded, s3://uploads/in/my cat 2.png succeeded', '... one for each object');
	like(join(' ', map { $_->{body} // '' } $standin->requests),
		qr{http://127\.0\.0\.1:9/uploads/in/my%20cat%201\.png\?X-Amz-}, '... with a link to it');
};

# What PostgREST makes of a call.
sub rpc
{
	my ($function, %arguments) = @_;
	my $json = literal(JSON::PP->new->utf8->canonical->encode(\%arguments));
	my %type = (job => 'bigint');
	my $names = join ', ', map { "\"$_\" := a.\"$_\"" } sort keys %arguments;
	my $columns = join ', ', map { "\"$_\" " . ($type{$_} // 'text') } sort keys %arguments;
	return query("BEGIN; SET LOCAL ROLE visitor; SELECT r.* FROM json_to_record($json) AS a ($columns),
		LATERAL api.$function($names) AS r; COMMIT", 'postgres', 'authenticator');
}

subtest 'Over HTTP, by PostgREST: a visitor orders a picture once, and reads it' => sub {
	my ($functions) = @{ $sql{'Over HTTP, by PostgREST'} };
	query($functions, 'postgres', 'app');
	query(q{CREATE ROLE visitor; GRANT USAGE ON SCHEMA api TO visitor; GRANT SELECT, INSERT ON gen_jobs TO visitor;
		GRANT SELECT ON gen_outputs TO visitor; GRANT USAGE ON FOREIGN SERVER painter TO visitor;
		CREATE ROLE authenticator LOGIN NOINHERIT; GRANT visitor TO authenticator});
	my $png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
	my $id = rpc('order_picture', prompt => 'a boat', request_id => 'order 17');
	is(rpc('order_picture', prompt => 'a boat', request_id => 'order 17'), $id, 'an order that is sent twice is one');
	my $other = rpc('order_picture', prompt => 'a hat', request_id => 'order 18', picture => $png);
	ok(wait_all_ended($node), '... and is run');
	like(rpc('picture', job => $_), qr/^succeeded\|\|iVBOR/, '... and its picture read') foreach $id, $other;
	is(query("SELECT owner FROM gen_jobs WHERE id = $other AND inputs[1] = decode('$png', 'base64')"), 'visitor',
		'... as the role of the token, with the input');
};

$node->stop;
$standin->stop;
done_testing();

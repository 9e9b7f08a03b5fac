# Requests that are signed, 1,000 of them as they arrive: AWS's own code (python3-botocore) signs each again, and
# compares.

use strict;
use warnings;
use utf8;

use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest qw(!query);
use PythonServer;

my $verifier = PythonServer->new('verify.py');
plan skip_all => 'not installed: ' . $verifier->missing if $verifier->missing;

my $node = new_node();
my $json = JSON::PP->new->canonical;
my $url = $verifier->url;
my $seed = $ENV{SEED} // int(rand(1e9));
srand($seed);
note("SEED=$seed");

sub query
{
	my ($sql) = @_;
	utf8::encode($sql);
	return $node->safe_psql('postgres', $sql);
}

sub server
{
	my ($name, $options, $session) = @_;
	query("CREATE SERVER $name FOREIGN DATA WRAPPER genjob
			OPTIONS (url '$url', max_in_flight '8', max_attempts '1', $options);
		CREATE USER MAPPING FOR PUBLIC SERVER $name
			OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret+key/='"
		  . ($session ? ", session_token 'FwoG//token+=='" : '') . ')');
	return;
}

server('s3_path', q{api 's3', bucket 'pictures',
	put_headers '{"x-amz-storage-class": "STANDARD", "x-amz-storage-class-more": "a  b"}'});
server('s3_session', q{api 's3', bucket 'pictures', region 'eu-central-1'}, 1);
server('lambda', q{api 'http', auth 'sigv4', region 'us-west-2', service 'lambda',
	path '/2015-03-31/functions/{name}/invocations?Qualifier=b&Qualifier=a&x'}, 1);
server(qq{"lambda_$_"}, qq{api 'http', auth 'sigv4', region 'us-west-2', service 'execute-api',
	method '$_', path '/prod//a/./b/../{name}'})
  foreach qw(GET PUT PATCH DELETE HEAD);

my @letters = ((map { chr } 0x20 .. 0x7e), qw(ü € 日 😀));

sub word
{
	my ($most) = @_;
	return join '', map { $letters[ rand @letters ] } 1 .. 1 + int(rand($most));
}

# A job of every kind, of random letters.
sub job_of
{
	my ($kind) = @_;
	my $key = word(30);
	my $store = rand() < 0.5 ? 's3_path' : 's3_session';
	my %request =
	    $kind eq 'put'    ? (put => $key, metadata => { 'a' => 'x  y ', 'a-b' => 'z' })
	  : $kind eq 'get'    ? (get => $key, range => 'bytes=0-9', version_id => word(9))
	  : $kind eq 'head'   ? (head => $key)
	  : $kind eq 'delete' ? (delete => $key)
	  : $kind eq 'copy'   ? (copy => $key, to => word(30))
	  : $kind eq 'list'   ? (list => word(9), delimiter => '/', after => word(20))
	  : (name => $key =~ s/^\.+$/x/r, word(5) => word(9), 'b c' => [ 1, word(3) ], e => '');
	my $server = $kind eq 'post' ? 'lambda' : $kind =~ /^[A-Z]+$/ ? "lambda_$kind" : $store;
	my $inputs = $kind eq 'put' ? 'ARRAY[decode(md5(random()::text), \'hex\')]' : 'NULL';
	return '(' . literal($server) . ', ' . literal($json->encode(\%request)) . "::jsonb, $inputs)";
}

subtest 'AWS takes the signature of each of 1,000 requests' => sub {
	my @kinds = qw(put get head delete copy list post GET PUT PATCH DELETE HEAD);
	my @rows = map { job_of($kinds[ $_ % @kinds ]) } 1 .. 1000;
	my $last = query('SELECT coalesce(max(id), 0) FROM gen_jobs');
	query('INSERT INTO gen_jobs (server, request, inputs) VALUES ' . join(', ', @rows));
	ok(wait_all_ended($node), 'all 1,000 have ended');
	is(query("SELECT count(*) FROM gen_jobs WHERE id > $last AND state = 'succeeded'"), 1000, '... with success');
	my $wrong = query("SELECT string_agg(format('%s %s: %s', server, request, error), E'\\n') FROM
		(SELECT * FROM gen_jobs WHERE id > $last AND state <> 'succeeded' LIMIT 5) AS j");
	diag($wrong) if $wrong ne '';
};

subtest 'a wrong secret is refused, and nothing tells secrets' => sub {
	server('s3_mistaken', q{api 's3', bucket 'pictures'});
	query(q{ALTER USER MAPPING FOR PUBLIC SERVER s3_mistaken OPTIONS (SET secret_access_key 'another-secret')});
	my $id = enqueue($node, 's3_mistaken', { get => 'a' });
	wait_state($node, $id, 'failed');
	my $row = query("SELECT j::text FROM gen_jobs AS j WHERE id = $id");
	like($row, qr/HTTP 403/, 'a wrong secret is refused');
	unlike($row, qr/another-secret|AKIDEXAMPLE/, '... and is not shown, nor is the access key');
	unlike(slurp_file($node->logfile), qr/another-secret'?\)? *$|Signature=[0-9a-f]{64}/m,
		'... nor a signature logged');
};

# paths of servers, as people write them: what is sent is what is signed, also where it is not encoded as AWS has it
subtest 'queries that are not encoded as they are signed are signed as they are sent' => sub {
	my @odd = ('b+c', 'x/y', '~*', '%7E%2a', 'x%2fy', 'x:y@z,w;v', "(x)!'y'", 'b=c', '%', '%zz', '[x]', 'b?c', '{name}',
		'&&b', '&a=&a');
	foreach my $service (qw(lambda s3))
	{
		server("odd_${service}_$_",
			"api 'http', auth 'sigv4', region 'a', service '$service', path " . literal("/p+q/%7e?a=$odd[$_]"))
		  foreach 0 .. $#odd;
	}
	query(q{INSERT INTO gen_jobs (server, request)
		SELECT srvname, '{"name": "+ /"}' FROM pg_foreign_server WHERE srvname ~ '^odd_'});
	ok(wait_all_ended($node), 'all have ended');
	is(query(q{SELECT string_agg(server || ': ' || error, E'\n') FROM gen_jobs
		WHERE server ~ '^odd_' AND state <> 'succeeded'}), '', '... with success');
	like(query(q{SELECT genjob.preview('odd_lambda_0', '{}')}), qr{^POST \S+/p\+q/%7E\?a=b%20c\n},
		'a preview shows what is sent');
};

# what a server's options may say of a path, a query and headers, put together at random
sub any_of { return $_[ rand @_ ] }

sub odd_path
{
	my @segments = ('', '.', '..', '...', '.a', 'a', 'a+b', '%41', '%2F', '%2f', '%2e%2e', '~x', '%7e', '%C3%BC',
		'%fc', 'x;y=z',
		"it's", '(1)', '*', '@:$', ',!', '%25', '%', '%zz', '%%41', 'a%20b', '{name}', '%f0%9f%98%80', '&', '=', '|',
			'^`', '"');
	return join('/', '', map { any_of(@segments) } 1 .. 1 + int(rand 5)) . any_of('', '/');
}

sub odd_query
{
	my @names = ('a', 'A', 'a-', 'a.', 'ab', 'a%20', '%61', 'a[]', '%C3', '%FF', 'z', '', 'X-Amz-Date', 'x-id', '+',
		'~', '%');
	my @values = ('', '=', '=0', '=1', '=a=b', '=%2B', '=+', '=a/b?c', '=%', '=%e2%82%ac', "='", '=%7E~', '=%00',
		'=:,;@$!*()');
	my $n = int(rand 7);
	return $n == 0 ? '' : '?' . join('&', map { any_of(@names) . any_of(@values) } 1 .. $n);
}

sub odd_headers
{
	my @values = ('', ' ', 'x', '  x   y  ', "a\tb", 'a, b,c', '"q  r"', ':', '%41', 'A=' x 50);
	my @names = qw(X-Amz-Meta-A x-amz-meta-a X-AMZ-META-B X-Amz X-Custom x-custom-1 Cache-Control
		If-None-Match Range From);
	return $json->encode({ map { any_of(@names) => any_of(@values) } 1 .. int(rand 6) });
}

subtest 'AWS takes 500 requests whose servers say odd things' => sub {
	my $made = 0;
	while ($made < 100)
	{
		my $service = any_of(qw(s3 s3 lambda execute-api states s3-outposts));
		my $options = GenJobTest::options_of(api => 'http', auth => 'sigv4', region => any_of('a', 'us-east-1'),
			service => $service,
			url => $url, path => odd_path() . odd_query(), method => any_of(qw(GET PUT POST DELETE HEAD PATCH)),
			headers => odd_headers(), max_attempts => 5, max_in_flight => 1);
		my $is_made = eval { query("CREATE SERVER strange_$made FOREIGN DATA WRAPPER genjob OPTIONS ($options)"); 1 };
		note($@) if !$is_made;
		next if !$is_made;
		my $token = rand() < 0.5 ? ", session_token 'FwoG//token+=='" : '';
		query("CREATE USER MAPPING FOR PUBLIC SERVER strange_$made
			OPTIONS (access_key_id 'AKIDEXAMPLE', secret_access_key 'secret+key/='$token)");
		$made++;
	}
	query(q{INSERT INTO gen_jobs (server, request)
		SELECT srvname, jsonb_build_object('name', word, 'n', n) FROM pg_foreign_server,
			unnest(ARRAY['a', 'b c', 'a..b', 'ü/%', '+&=?#']) WITH ORDINALITY AS words (word,
				n) WHERE srvname ~ '^strange_'});
	ok(wait_all_ended($node), 'all 500 have ended');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE server ~ '^strange_' AND state = 'succeeded'}), 500,
		'... with success')
	  or diag(query(q{SELECT string_agg(format('%s %s: %s', srvoptions, request, error),
		E'\n') FROM (SELECT * FROM gen_jobs AS j
		JOIN pg_foreign_server ON srvname = server WHERE server ~ '^strange_' AND state <> 'succeeded'
		LIMIT 10) AS j}));
};

$node->stop;
done_testing();

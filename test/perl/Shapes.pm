# Answers and requests of any size. Each has a shape for which some loop could take too long, or some buffer too much
# memory. A server gives such answers: http://127.0.0.1:PORT/SHAPE/BYTES, or /=HEX/0 for an answer that is in the URL.

package Shapes;

use strict;
use warnings;

use IO::Socket::INET;
use MIME::Base64 qw(encode_base64);

my $png = encode_base64("\x89PNG\r\n\x1a\n" . 'p' x 40, '');
my %server = (api => 'http', output => '/data/*', usage => '/usage', error => '/error /errors', max_attempts => 1);
my %stream = (api => 'openai-chat', max_attempts => 1);

# Returns HEAD, as many PIECEs as make BYTES, and TAIL; a reference to code gives the n-th piece.
sub fill
{
	my ($bytes, $head, $piece, $tail, $glue) = @_;
	$glue //= ',';
	return $head . join($glue, ($piece) x ($bytes / length($piece . $glue))) . $tail unless ref $piece;
	my $step = length($piece->(100_000) . $glue);
	return $head . join($glue, map { $piece->($_) } 1 .. $bytes / $step) . $tail;
}

# shape => [ what makes an answer of so many bytes, options of the server besides the usual ones ]
our %answers = (
	'one string' => [ sub { fill($_[0], '{"text":"', 'x' x 1000, '"}', '') } ],
	'short strings' => [ sub { fill($_[0], '{"a":[', '"a"', ']}') } ],
	'words' => [ sub { fill($_[0], '{"a":[', '"a word or two of text"', ']}') } ],
	'digits' => [ sub { fill($_[0], '{"a":[', '1', ']}') } ],
	'long digits' => [ sub { fill($_[0], '{"a":[', '12345678901234567890', ']}') } ],
	'fractions' => [ sub { fill($_[0], '{"a":[', '-0.00692928349599242', ']}') } ],
	'small exponents' => [ sub { fill($_[0], '{"a":[', '1e5', ']}') } ],
	'exponents' => [ sub { fill($_[0], '{"a":[', '1e900', ']}') } ],
	'huge exponents' => [ sub { fill($_[0], '{"a":[', '1e131071', ']}') } ],
	'empty objects' => [ sub { fill($_[0], '{"a":[', '{}', ']}') } ],
	'empty arrays' => [ sub { fill($_[0], '{"a":[', '[]', ']}') } ],
	'small objects' => [ sub { fill($_[0], '{"a":[', '{"id":1,"name":"x"}', ']}') } ],
	'depth' => [ sub { fill($_[0], '{"a":[', '[' x 900 . ']' x 900, ']}') } ],
	'depth of objects' => [ sub { fill($_[0], '{"a":[', '{"a":' x 900 . '1' . '}' x 900, ']}') } ],
	'one long key' => [ sub { fill($_[0], '{"', 'k' x 1000, '":["a","b","c","d"]}', '') }, output => '/*/*' ],
	'many keys' => [ sub { fill($_[0], '{', sub { qq("k$_[0]":1) }, '}') } ],
	'the same key' => [ sub { fill($_[0], '{', '"a":1', '}') } ],
	'escapes' => [ sub { fill($_[0], '{"a":"', '\\n\\"', '"}', '') } ],
	'unicode escapes' => [ sub { fill($_[0], '{"a":"', '\\u00e9', '"}', '') } ],
	'half surrogates' => [ sub { fill($_[0], '{"a":"', '\\ud83d', '"}', '') } ],
	'bad UTF-8' => [ sub { fill($_[0], '{"a":"', "\xff\xe4", '"}', '') } ],
	'control characters' => [ sub { fill($_[0], '{"a":"', "\x01\x00", '"}', '') } ],
	'white space' => [ sub { fill($_[0], '{"a":1', " \n", '}', '') } ],
	'one picture' => [ sub { fill($_[0], qq({"data":["$png), 'A' x 1000, '"]}', '') } ],
	'pictures' => [ sub { fill($_[0], '{"data":[', qq("$png"), ']}') } ],
	'data URLs' => [ sub { fill($_[0], '{"a":[', qq("data:image/png;base64,$png"), ']}') } ],
	'a picture and fractions' => [ sub { fill($_[0], qq({"data":["data:image/png;base64,$png"],"a":[), '-0.00692928349599242', ']}') } ],
	'usage' => [ sub { fill($_[0], '{"usage":{', sub { qq("k$_[0]":1) }, '}}') } ],
	'an error' => [ sub { fill($_[0], '{"error":[', '1', ']}') } ],
	'errors' => [ sub { fill($_[0], '{"errors":[', '{"message":"no"}', ']}') } ],
	'brackets' => [ sub { '[' x $_[0] } ],
	'quotes' => [ sub { '"' x $_[0] } ],
	'a page' => [ sub { fill($_[0], '<html>', '<title>x', '', '') } ],
	'a refusal' => [ sub { fill($_[0], '{"error":"', 'no ' x 300, '"}', '') }, status => 400 ],
	'a refusal of values' => [ sub { fill($_[0], '{"error":[', '1', ']}') }, status => 400 ],
	'events' => [ sub { fill($_[0], '', "data: {}\n\n", '', '') }, %stream ],
	'words in events' => [ sub { fill($_[0], '', qq(data: {"choices":[{"delta":{"content":"word "}}]}\n\n), "data: [DONE]\n\n", '') }, %stream ],
	'one event' => [ sub { fill($_[0], 'data: {"choices":[{"delta":{"content":"', 'word ' x 100, qq("}}]}\n\ndata: [DONE]\n\n), '') }, %stream ],
	'one event of many lines' => [ sub { fill($_[0], 'data: [', "1,\ndata: 1", "]\n\n", ",\ndata:") }, %stream ],
	'one event of wrong lines' => [ sub { fill($_[0], '', "data: x\n", '', '') }, %stream ],
	'comments' => [ sub { fill($_[0], '', ":\n\n", '', '') }, %stream ],
	'carriage returns' => [ sub { fill($_[0], '', "data: {}\r\r", '', '') }, %stream ],
	'an event of NULs' => [ sub { fill($_[0], 'data: {"a":', "\0" x 1000, "\n\n", '') }, %stream ],
	'lines' => [ sub { fill($_[0], '', "{}\n", '', '') }, %stream, type => 'application/x-ndjson' ],
	'lines of new members' => [ sub { fill($_[0], '', sub { qq({"k$_[0]":1}\n) }, '', '') }, %stream, type => 'application/x-ndjson' ],
	'zeros as a PNG' => [ sub { fill($_[0], "\x89PNG\r\n\x1a\n", "\0" x 1000, '', '') }, type => 'image/png' ],
	'tool calls in events' => [ sub { fill($_[0], '', sub { qq(data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":$_[0],"id":"a","function":{"arguments":"{}"}}]}}]}\n\n) }, "data: [DONE]\n\n", '') }, %stream ],
	'tool calls backwards' => [ sub { fill($_[0], '', sub { my $i = 10_000_000 - $_[0]; qq(data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":$i}]}}]}\n\n) }, "data: [DONE]\n\n", '') }, %stream ],
	'pieces of one tool call' => [ sub { fill($_[0], '', qq(data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}\n\n), "data: [DONE]\n\n", '') }, %stream ],
	'choices in events' => [ sub { fill($_[0], '', sub { qq(data: {"choices":[{"index":$_[0],"delta":{"content":"a"}}]}\n\n) }, "data: [DONE]\n\n", '') }, %stream ],
	'choices in one event' => [ sub { fill($_[0], 'data: {"choices":[', sub { qq({"index":$_[0],"delta":{"content":"a"}}) }, qq(]}\n\ndata: [DONE]\n\n)) }, %stream ],
	'elements in events' => [ sub { fill($_[0], '', qq(data: {"choices":[{"index":0,"delta":{"images":[{"u":1}],"content":[{"type":"text","text":"a"}]}}]}\n\n), "data: [DONE]\n\n", '') }, %stream ],
	'elements that do not go on' => [ sub { fill($_[0], '', sub { qq(data: {"choices":[{"index":0,"delta":{"content":[{"type":"text$_[0]","text":"a"}]}}]}\n\n) }, "data: [DONE]\n\n", '') }, %stream ],
	'types of events' => [ sub { fill($_[0], '', "event: ping\ndata: {}\n\n", '', '') }, %stream, api => 'http' ],
	'pieces of JSON' => [ sub { fill($_[0], '', qq(event: content_block_delta\ndata: {"index":0,"delta":{"partial_json":"[[[[[[["}}\n\n), qq(event: message_stop\ndata: {"type":"message_stop"}\n\n), '') }, %stream, api => 'anthropic' ],
	'half surrogates in events' => [ sub { fill($_[0], '', qq(data: {"choices":[{"delta":{"content":"\\ud83c"}}]}\n\n), "data: [DONE]\n\n", '') }, %stream ],
);

# The same, of answers whose outputs are to be fetched, and cannot be: such a job takes some seconds.
our %unfetched = (
	'URLs' => [ sub { fill($_[0], '{"data":[', '"http://127.0.0.1:1/a/picture.png"', ']}') }, timeout => '2 s' ],
	'files' => [ sub { fill($_[0], '{"data":[', '{"filename":"a.png","type":"output"}', ']}') },
		encoding => 'file:/view?filename={filename}&type={type}', timeout => '2 s' ],
	'large files' => [ sub { fill($_[0], '{"data":[{"filename":"', '{type}', '"}]}', '') },
		encoding => 'file:/view?filename={filename}&type={type}' ],
);
%answers = (%answers, %unfetched);

# Answers of an object store: the server's url ends with "/store-SHAPE", its bucket is the number of bytes.
our %stores = (
	'tags' => [ sub { fill($_[0], '<Error>', '<a>x', '', '') } ],
	'entities' => [ sub { fill($_[0], '<ETag>', '&;', '</ETag>', '') } ],
	'short texts' => [ sub { fill($_[0], '<ETag>', 'x<b/>', '</ETag>', '') } ],
	'tags of objects' => [ sub { fill($_[0], '<ListBucketResult><Contents>', '<x/>', '</Contents></ListBucketResult>', '') } ],
	'sizes' => [ sub { fill($_[0], '<ListBucketResult><Contents>', '<Size>x</Size>', '</Contents></ListBucketResult>', '') } ],
	'keys' => [ sub { fill($_[0], '<ListBucketResult>', '<Contents><Key>%41%</Key></Contents>', '</ListBucketResult>', '') } ],
	'tokens' => [ sub { fill($_[0], '<ListBucketResult>', '<NextContinuationToken>x</NextContinuationToken>', '</ListBucketResult>', '') } ],
	'depth' => [ sub { fill($_[0], '<ListBucketResult><Contents>', '<Key>', '', '') } ],
	'comments' => [ sub { fill($_[0], '<ListBucketResult>', '<!---->', '</ListBucketResult>', '') } ],
);
# shape => [ what makes a request of so many bytes, options of the server, SQL of its inputs ]
our %requests = (
	'one string' => [ $answers{'one string'}[0] ],
	'short strings' => [ $answers{'short strings'}[0] ],
	'digits' => [ $answers{'digits'}[0] ],
	'long digits' => [ $answers{'long digits'}[0] ],
	'fractions' => [ $answers{'fractions'}[0] ],
	'empty objects' => [ $answers{'empty objects'}[0] ],
	'empty arrays' => [ $answers{'empty arrays'}[0] ],
	'small objects' => [ $answers{'small objects'}[0] ],
	'depth' => [ $answers{'depth'}[0] ],
	'one long key' => [ $answers{'one long key'}[0] ],
	'many keys' => [ $answers{'many keys'}[0] ],
	'escapes' => [ $answers{'escapes'}[0] ],
	'inputs' => [ sub { fill($_[0], '{"a":[', '{"$input":1}', ']}') } ],
	'a form of many fields' => [ $answers{'many keys'}[0], body => 'multipart', inputs_body => 'multipart' ],
	'a form of one array' => [ $answers{'digits'}[0], body => 'multipart', inputs_body => 'multipart' ],
	'a query' => [ sub { fill($_[0], '{"in":{"$input":1},', sub { qq("k$_[0]":1) }, '}') }, body => 'raw', inputs_body => 'raw' ],
);

# Starts the server, which ends with this process; gives its port.
sub serve
{
	my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1)
	  or die "could not listen: $!\n";
	my $port = $socket->sockport;
	my $parent = $$;
	my $pid = fork() // die "could not fork: $!\n";

	if ($pid != 0)
	{
		close $socket;
		return ($port, $pid);
	}
	$SIG{CHLD} = 'IGNORE';
	# since PostgreSQL 17, a handler of PostgreSQL::Test::Cluster would stop the servers of the test
	$SIG{TERM} = $SIG{INT} = 'DEFAULT';
	while (getppid() == $parent)
	{
		my $ready = '';
		vec($ready, fileno($socket), 1) = 1;
		next unless select($ready, undef, undef, 1);
		my $client = $socket->accept or next;
		my $child = fork();
		if (defined $child && $child == 0)
		{
			close $socket;
			eval { answer($client) };
			require POSIX;
			POSIX::_exit(0);
		}
		close $client;
	}
	require POSIX;
	POSIX::_exit(0);
}

# Status, type and body for a path /SHAPE/BYTES, or /=HEX/0 (of "TYPE\nBODY"; the type !raw: no HTTP around it).
sub answer_of
{
	my ($shape, $bytes) = @_;

	return unless defined $shape;
	return (200, split /\n/, pack('H*', $1), 2) if $shape =~ /^=(.*)/;
	$shape =~ s/%20/ /g;
	return (200, 'application/xml', $stores{$1}[0]->($bytes)) if $shape =~ /^store-(.*)/;
	my ($make, %options) = @{ $answers{$shape} };
	my $type = $options{type} // (($options{api} // '') eq 'openai-chat' ? 'text/event-stream' : 'application/json');
	return ($options{status} // 200, $type, $make->($bytes));
}

# Reads one request and answers it.
sub answer
{
	my ($client) = @_;
	my ($text, $length) = ('', 0);

	binmode $client;
	sysread($client, $text, 65536, length $text) or return until $text =~ /\r\n\r\n/;
	($length) = $text =~ /^content-length: (\d+)/im;
	my $got = length($text) - index($text, "\r\n\r\n") - 4;
	while ($got < ($length // 0))
	{
		my $n = sysread($client, my $more, 65536) or return;
		$got += $n;
	}
	my ($status, $type, $body) = answer_of($text =~ m{^\S+ /([^/ ]+)/(\d+)}) or return;
	my $head = $type eq '!raw' ? '' : "HTTP/1.1 $status OK\r\nContent-Type: $type\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n";
	foreach my $piece ($head, $body)
	{
		my $done = 0;
		while ($done < length $piece)
		{
			my $n = syswrite($client, $piece, 1048576, $done) or return;
			$done += $n;
		}
	}
	shutdown($client, 1);
	sysread($client, $text, 1);
	return;
}

# The options of a server on PORT that answers with BYTES of that shape.
sub options
{
	my ($port, $shape, $bytes) = @_;
	my (undef, %options) = @{ $answers{$shape} };
	my $path = "/$shape/$bytes" =~ s/ /%20/gr;

	%options = (%server, %options) unless ($options{api} // '') eq 'openai-chat';
	delete @options{qw(status type)};
	return (%options, path => $path, auth => 'none', url => "http://127.0.0.1:$port");
}

1;

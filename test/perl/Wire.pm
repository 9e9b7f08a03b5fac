# Prints what psql -XAtq would print for statements, without a psql: to start one takes more processor time than most
# statements do, and a run of the tests has thousands of them. Speaks PostgreSQL's protocol over a Unix socket, each
# time in a session of its own, which has ended when the answer is returned.
#
#   my $answer = Wire::run($node, 'postgres', 'SELECT 1', user => 'app') // ...;    # undef: only psql can run this
#   print $answer->{out}, $answer->{err}; exit $answer->{status};                   # as psql's would be

package Wire;

use strict;
use warnings;

use Errno;
use IO::Socket::UNIX;

my $protocol = 196608;    # 3.0
my $longest = 100_000;    # bytes of SQL that are looked through here
my %fields = (S => 'severity', M => 'message', D => 'DETAIL', H => 'HINT', W => 'CONTEXT');

# What psql and the server read differently: psql's own commands, COPY data, notifications, and SQL bodies of functions.
my $only_psql = qr/\\|\b(?:COPY|LISTEN|RULE)\b|\bBEGIN\s+ATOMIC\b/i;

# Tokens within which a semicolon ends no statement.
my $token = qr{
	[eE]'(?:[^'\\]|\\.|'')*+' | '[^']*+' | "[^"]*+"
	| (\$(?:[A-Za-z_]\w*)?\$).*?\g{-1}
	| --[^\n]* | /\*.*?\*/ | \w++ | [^;]
}xs;

sub run
{
	my ($node, $database, $sql, %opts) = @_;
	return if length $sql > $longest || $sql =~ /\0/ || !utf8::downgrade($sql, 1);
	return if $sql =~ s/$token/$& =~ m{^(?:\w+|.)$}s ? $& : ''/gser =~ $only_psql;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or return;
	my %answer = (out => '', err => '', status => 0);

	start($socket, $opts{user} // $ENV{PGUSER}, $database) or return;
	foreach my $statement (statements($sql))
	{
		write_message($socket, 'Q', "$statement\0");
		$answer{status} = take($socket, \%answer);
		last if $answer{status};
	}
	write_message($socket, 'X', '');
	1 while sysread($socket, my $rest, 65536);
	chomp @answer{qw(out err)};
	return \%answer;
}

# Splits a text into statements, which psql sends one at a time.
sub statements
{
	my ($sql) = @_;
	my @statements = ('');
	while ($sql =~ /\G(?:($token)|;)/gs)
	{
		if (defined $1) { $statements[-1] .= $1 }
		else { push @statements, '' }
	}
	return grep { /\S/ } @statements;
}

# True if a session begins, without a password.
sub start
{
	my ($socket, $user, $database) = @_;
	my %parameters = (user => $user, database => $database, application_name => $ENV{PGAPPNAME},
		client_encoding => $ENV{PGCLIENTENCODING}, options => $ENV{PGOPTIONS});
	my $body = pack('N', $protocol) . join('', map { defined $parameters{$_} ? "$_\0$parameters{$_}\0" : '' } sort keys %parameters) . "\0";

	syswrite($socket, pack('N', 4 + length $body) . $body);
	while (my ($type, $message) = read_message($socket))
	{
		return 1 if $type eq 'Z';
		return 0 if $type eq 'E' || ($type eq 'R' && unpack('N', $message) != 0);
	}
	return 0;
}

# Adds the answer to a statement; gives the exit status that psql would end with.
sub take
{
	my ($socket, $answer) = @_;
	my $status = 0;
	while (my ($type, $message) = read_message($socket))
	{
		return $status if $type eq 'Z';
		# a row without columns is no line
		$answer->{out} .= row($message) . "\n" if $type eq 'D' && unpack('n', $message) > 0;
		$answer->{err} .= 'psql:<stdin>: ' . message($message) . "\n" if $type eq 'E' || $type eq 'N';
		$status = 3 if $type eq 'E';
	}
	$answer->{err} .= "server closed the connection unexpectedly\n";
	return 2;
}

sub row
{
	my ($message) = @_;
	my ($columns, @values) = unpack('n', $message);
	my $at = 2;
	foreach (1 .. $columns)
	{
		my $length = unpack('l>', substr($message, $at, 4));
		push @values, $length < 0 ? '' : substr($message, $at + 4, $length);
		$at += 4 + ($length < 0 ? 0 : $length);
	}
	return join('|', @values);
}

sub message
{
	my ($message) = @_;
	my %said = map { $fields{ substr $_, 0, 1 } // '' => substr $_, 1 } grep { length } split /\0/, $message;
	my @more = ('DETAIL', 'HINT', $said{severity} =~ /^(?:ERROR|FATAL|PANIC)$/ ? 'CONTEXT' : ());
	return join("\n", "$said{severity}:  $said{message}", map { defined $said{$_} ? "$_:  $said{$_}" : () } @more);
}

sub write_message
{
	my ($socket, $type, $body) = @_;
	my $message = $type . pack('N', 4 + length $body) . $body;
	my $done = 0;
	local $SIG{PIPE} = 'IGNORE';
	while ($done < length $message)
	{
		$done += syswrite($socket, $message, 65536, $done) // ($!{EINTR} ? 0 : return);
	}
	return;
}

# Type and body, or nothing once the server has closed.
sub read_message
{
	my ($socket) = @_;
	my $head = read_bytes($socket, 5) // return;
	my ($type, $length) = unpack('a N', $head);
	return ($type, read_bytes($socket, $length - 4) // return);
}

sub read_bytes
{
	my ($socket, $n) = @_;
	my $bytes = '';
	while (length $bytes < $n)
	{
		sysread($socket, $bytes, $n - length $bytes, length $bytes) or $!{EINTR} or return;
	}
	return $bytes;
}

1;

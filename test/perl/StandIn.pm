package StandIn;

# A stand-in GenAI server for tests: starts test/standin/standin on a free port
# of 127.0.0.1, asks it what arrived, and stops it.
#
#   my $standin = StandIn->new(latency_ms => 200);
#   my $request = StandIn::request(prompt => 'a cat', faults => [{status => 503}]);
#   ... send $request to $standin->url ...
#   is($standin->counts->{ids}{'a cat'}{arrived}, 2);
#
# test/standin/README.md says what a fault can contain.

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use File::Temp ();
use HTTP::Tiny;
use JSON::PP;
use POSIX      ();
use Scalar::Util qw(weaken);
use Time::HiRes  qw(sleep time);

my %running;    # those to stop at the end, by process id
my $json = JSON::PP->new->utf8->canonical;
my $patience = $ENV{PG_TEST_TIMEOUT_DEFAULT} || 180;    # seconds, as in PostgreSQL's test modules

# The program: what the environment names, or the one built beside this module.
sub binary
{
	my $path = $ENV{STANDIN} // File::Spec->catfile(dirname(File::Spec->rel2abs(__FILE__)),
		File::Spec->updir, 'standin', 'standin');
	-x $path or die "there is no stand-in server at $path: build it by \"make -C test/standin\"\n";
	return $path;
}

# Starts a stand-in and returns when it listens.  Options, none of which is
# needed: latency_ms, port, cdn_port, cdn_host, backlog, api_key, idempotent => 1,
# tls => [certificate, key], log => a file for its output.
sub new
{
	my ($class, %option) = @_;
	my $dir  = File::Temp->newdir('standin-XXXXXX', TMPDIR => 1);
	my $self = bless {
		dir   => $dir,
		log   => delete $option{log} // "$dir/log",
		tls   => $option{tls},
		owner => $$
	}, $class;
	my @command = (binary(), '--die-with-parent', '--port-file', "$dir/port");
	push @command, '--tls', @{ delete $option{tls} } if $option{tls};
	push @command, '--idempotent' if delete $option{idempotent};
	my %flag = (
		latency_ms => '--latency',
		map { my $flag = $_; $flag =~ tr/_/-/; $_ => "--$flag" } qw(port cdn_port cdn_host backlog api_key));
	for my $name (sort keys %option)
	{
		my $flag = $flag{$name} or die "StandIn->new does not know the option \"$name\"\n";
		push @command, $flag, $option{$name} if defined $option{$name};
	}
	$self->{pid} = $self->_spawn(@command);
	weaken($running{ $self->{pid} } = $self);
	$self->_await_port;
	return $self;
}

sub _spawn
{
	my ($self, @command) = @_;
	my $pid = fork() // die "could not fork: $!\n";
	return $pid if $pid;
	open(STDIN,  '<',  File::Spec->devnull) or POSIX::_exit(126);
	open(STDOUT, '>>', $self->{log})        or POSIX::_exit(126);
	open(STDERR, '>&', \*STDOUT)            or POSIX::_exit(126);
	{ no warnings 'exec'; exec { $command[0] } @command; }
	POSIX::_exit(127);
}

sub _await_port
{
	my ($self) = @_;
	my $until = time + $patience;
	until (-e "$self->{dir}/port")
	{
		my $gone = waitpid($self->{pid}, POSIX::WNOHANG()) != 0;
		if ($gone || time > $until)
		{
			my $log = $self->log;
			delete $running{ $self->{pid} } if $gone;
			$self->{stopped} = 1 if $gone;
			die "the stand-in server does not listen; it says: $log\n";
		}
		sleep 0.005;
	}
	open(my $file, '<', "$self->{dir}/port") or die "could not read the stand-in's port: $!\n";
	chomp(my @ports = <$file>);
	$self->{port}       = $ports[0];
	$self->{admin_port} = $ports[-2];
	$self->{cdn_port}   = $ports[-1];
	return;
}

sub pid  { return $_[0]{pid} }
sub port { return $_[0]{port} }

# Its address: what a foreign server's option "url" takes; with a path if one is given.
sub url
{
	my ($self, $path) = @_;
	return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{port}" . ($path // '');
}

# The same over plain HTTP, also when the stand-in speaks TLS.
sub plain_url
{
	my ($self, $path) = @_;
	return "http://127.0.0.1:$self->{admin_port}" . ($path // '');
}

# The foreign host that it plays for downloads.
sub cdn_port { return $_[0]{cdn_port} }

sub cdn_url
{
	my ($self, $path) = @_;
	return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{cdn_port}" . ($path // '');
}

# What it has written to its output so far.
sub log
{
	my ($self) = @_;
	open(my $file, '<', $self->{log}) or return '';
	local $/ = undef;
	return scalar(<$file>) // '';
}

sub _admin
{
	my ($self, $method, $path) = @_;
	my $http = HTTP::Tiny->new(timeout => 60, keep_alive => 0, proxy => undef, http_proxy => undef);
	my $reply = $http->request($method, $self->plain_url("/_standin/$path"));
	$reply->{success} or die "the stand-in server refuses $path: $reply->{status} $reply->{content}\n";
	return $json->decode($reply->{content});
}

# Counts of all that arrived; summary => 1 leaves out the single keys and ids.
sub counts
{
	my ($self, %option) = @_;
	return $self->_admin('GET', $option{summary} ? 'counts?summary=1' : 'counts');
}

# How often a call with that id has arrived.
sub arrived
{
	my ($self, $id) = @_;
	return $self->counts->{ids}{$id}{arrived} // 0;
}

# The last requests, oldest first: time, method, uri, headers, id, bytes, body (its first 4 kB).
sub requests
{
	my ($self, $limit) = @_;
	return @{ $self->_admin('GET', 'requests?limit=' . ($limit // 1000)) };
}

# Counts start from zero, and every id meets its first fault again.
sub reset
{
	my ($self) = @_;
	$self->_admin('POST', 'reset');
	return $self;
}

# The predictions that are queued or running end now, as their scripts say; gives how many.
sub finish
{
	my ($self) = @_;
	return $self->_admin('POST', 'finish')->{finished};
}

# From now on it works on this many calls at a time (0: all); further calls wait their turn, or with
# refuse => 1 get 429 at once.
sub capacity
{
	my ($self, $calls, %option) = @_;
	$self->_admin('POST', "capacity?calls=$calls" . ($option{refuse} ? '&beyond=refuse' : ''));
	return $self;
}

# From now on it works on this many cancels at a time (0: all) and refuses further ones.
sub cancel_capacity
{
	my ($self, $calls) = @_;
	$self->_admin('POST', "capacity?cancels=$calls");
	return $self;
}

# From now on every call that brings work gets this STATUS (0: no longer), with a header Retry-After
# if retry_after => ... is given.
sub refuse_all
{
	my ($self, $status, %option) = @_;
	$self->_admin('POST', "refuse?status=$status"
		  . (defined $option{retry_after} ? "&retry_after=$option{retry_after}" : ''));
	return $self;
}

# Polls the counts until the condition holds of them, and returns them; dies
# with the counts when it does not within the seconds (those of poll_query_until).
#   $standin->wait_for(sub { $_[0]{in_flight} == 10 });
sub wait_for
{
	my ($self, $condition, $seconds) = @_;
	my $until = time + ($seconds // $patience);
	while (1)
	{
		my $counts = $self->counts(summary => 1);
		return $counts if $condition->($counts);
		die 'the stand-in server did not get there; it counts: ' . $json->encode($counts) . "\n"
			if time > $until;
		sleep 0.01;
	}
}

# Stops it; safe to call twice.
sub stop
{
	my ($self) = @_;
	return if $self->{stopped} || !$self->{pid} || $self->{owner} != $$;
	local ($?, $!);
	$self->{stopped} = 1;
	delete $running{ $self->{pid} };
	kill 'TERM', $self->{pid};
	my $until = time + 10;
	while (waitpid($self->{pid}, POSIX::WNOHANG()) == 0)
	{
		kill 'KILL', $self->{pid} if time > $until;
		sleep 0.002;
	}
	return;
}

sub DESTROY { my ($self) = @_; $self->stop; return }

END
{
	local $?;
	$_->stop for grep { defined } values %running;
}

# Perl does not tell 1 from true nor "503" from 503; a script does.
sub _typed
{
	my ($value, %type) = @_;
	my %typed = %$value;
	for my $name (grep { defined $typed{$_} && !ref $typed{$_} } keys %typed)
	{
		my $type = $type{$name} // 'text';
		$typed{$name} = $typed{$name} ? JSON::PP::true : JSON::PP::false
			if $type eq 'bool' && $typed{$name} =~ /^[01]?$/;
		$typed{$name} += 0  if $type eq 'number';
		$typed{$name} .= '' if $type eq 'text';
	}
	return \%typed;
}

sub _typed_fault
{
	my ($fault) = @_;
	return undef unless defined $fault;
	my $typed = _typed(
		$fault,
		(map { $_ => 'number' } qw(latency_ms status huge interim retry_in_s)),
		(map { $_ => 'bool' } qw(reset stall chunked close stream_error)));
	$typed->{drip} = _typed($typed->{drip}, bytes => 'number', every_ms => 'number') if ref $typed->{drip};
	$typed->{retry_after} = _typed($typed->{retry_after}, date_in_s => 'number')
		if ref $typed->{retry_after};
	return $typed;
}

# The JSON text of a script: for the header X-Standin, where a body has no room for it.
sub script
{
	my (%script) = @_;
	my $output = delete $script{output};
	my $typed  = _typed(
		\%script,
		(map { $_ => 'number' } qw(latency_ms queue_ms chunk_ms outputs kept_ms url_expires_ms)),
		(map { $_ => 'bool' } qw(repeat progress url_renewed)));
	$typed->{$_} = [map { _typed_fault($_) } @{ $script{$_} }] for grep { /faults$/ } keys %script;
	$typed->{output} = $output if defined $output;
	return $json->encode($typed);
}

# The members of a script; see the README.
my @script_members = qw(id latency_ms queue_ms chunk_ms usage outcome message outputs output text
  progress kept_ms urls url_expires_ms url_renewed faults poll_faults result_faults download_faults
  cancel_faults repeat);

# The JSON text of a request, for gen_jobs.request.  The members of a script go
# to its script; all else is the request's own.  Where a name is a dialect's
# own, too ("text", "input"), give the script as standin => {...} instead.
sub request
{
	my (%request) = @_;
	my %script = %{ delete $request{standin} // {} };
	for my $name (%script ? () : @script_members)
	{
		$script{$name} = delete $request{$name} if exists $request{$name};
	}
	$request{standin} = $json->decode(script(%script)) if %script;
	return $json->encode(\%request);
}

1;

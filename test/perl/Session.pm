# A psql session that goes on beside the test: for what must be seen while it waits, or holds a lock.
#
#   my $session = Session->new($node);
#   $session->send("SELECT state FROM genjob.wait(7)");    # does not wait
#   ...
#   is($session->answer, 'succeeded');                     # does
#   is($session->query('SELECT 1'), '1');                  # both

package Session;

use strict;
use warnings;

use IPC::Run ();

use PostgreSQL::Test::Utils;

my $marker = 'that was all';

# A session with NODE. Options: database (postgres), user.
sub new
{
	my ($class, $node, %opts) = @_;
	my $self = bless { in => '', out => '', err => '' }, $class;
	my @command = ('psql', '-XAtq', '-f', '-', '-d', $node->connstr($opts{database} // 'postgres'));
	push @command, '-U', $opts{user} if defined $opts{user};
	$self->{timer} = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	$self->{run} =
	  IPC::Run::start(\@command, '<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err},
		$self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

# Returns the process id of its backend.
sub pid { return $_[0]{pid} }

# Sends statements without waiting for what they give.
sub send
{
	my ($self, $sql) = @_;
	$self->{out} = $self->{err} = '';
	$self->{in} .= "$sql;\n\\echo $marker\n";
	$self->{timer}->start($PostgreSQL::Test::Utils::timeout_default);
	IPC::Run::pump_nb($self->{run}) while length $self->{in};
	return $self;
}

# True if the statements have ended by now.
sub has_ended
{
	my ($self) = @_;
	IPC::Run::pump_nb($self->{run});
	return $self->{out} =~ /^\Q$marker\E$/m ? 1 : 0;
}

# What the statements gave, once they have ended.
sub answer
{
	my ($self) = @_;
	until ($self->has_ended)
	{
		die("psql has not answered; so far: $self->{out} $self->{err}") if $self->{timer}->is_expired;
		IPC::Run::pump($self->{run});
	}
	my $answer = $self->{out};
	$answer =~ s/^\Q$marker\E\n//m;
	chomp $answer;
	return $answer;
}

# The messages that came with the last answer.
sub messages { return $_[0]{err} }

sub query
{
	my ($self, $sql) = @_;
	return $self->send($sql)->answer;
}

# Ends it; a statement that still runs is left to the server, which notices.
sub quit
{
	my ($self) = @_;
	my $run = delete $self->{run} or return;
	IPC::Run::kill_kill($run);
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($@, $?, $!);
	eval { $self->quit };
	return;
}

1;

# Starts test/standin/hostile: servers that mean harm, each kind on a port of its own.
#
#   my $hostile = Hostile->new(tls => [certificate, key]);
#   create_server($node, 'x', 'http', $hostile->url('endless_headers'));

package Hostile;

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use File::Temp  ();
use POSIX       ();
use Time::HiRes qw(sleep time);

# Starts them. test/standin/harm.c says what each is called and does.
sub new
{
	my ($class, %option) = @_;
	my $dir = File::Temp->newdir('hostile-XXXXXX', TMPDIR => 1);
	my $binary = File::Spec->catfile(dirname($ENV{STANDIN} // File::Spec->catfile(dirname(File::Spec->rel2abs(__FILE__)), File::Spec->updir, 'standin', 'standin')), 'hostile');
	my @command = ($binary, '--die-with-parent', '--port-file', "$dir/port", $option{tls} ? ('--tls', @{ $option{tls} }) : ());
	my $self = bless { dir => $dir, owner => $$ }, $class;
	my $until = time + 180;

	$self->{pid} = fork() // die "could not fork: $!\n";
	if ($self->{pid} == 0)
	{
		open(STDIN, '<', File::Spec->devnull) or POSIX::_exit(126);
		{ no warnings 'exec'; exec { $command[0] } @command; }
		POSIX::_exit(127);
	}
	until (-e "$dir/port")
	{
		die "the hostile servers do not listen\n" if time > $until || waitpid($self->{pid}, POSIX::WNOHANG()) != 0;
		sleep 0.005;
	}
	open(my $file, '<', "$dir/port") or die "could not read the ports of the hostile servers: $!\n";
	$self->{ports} = { map { split } <$file> };
	return $self;
}

sub pid { return $_[0]{pid} }

# The address of a kind.
sub url
{
	my ($self, $kind) = @_;
	my $port = $self->{ports}{$kind} or die "there is no hostile server $kind\n";
	return ($kind =~ /^tls_/ ? 'https' : 'http') . "://127.0.0.1:$port";
}

# Stops them; safe to call twice.
sub stop
{
	my ($self) = @_;
	return if $self->{stopped} || $self->{owner} != $$;
	local ($?, $!);
	$self->{stopped} = 1;
	kill 'KILL', $self->{pid};
	waitpid($self->{pid}, 0);
	return;
}

sub DESTROY { my ($self) = @_; $self->stop; return }

1;

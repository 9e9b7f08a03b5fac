package PythonServer;

# A server of test/aws in a folder of its own, which ends with the test.
#
#   my $store = PythonServer->new('objectstore.py');
#   plan skip_all => $store->missing if $store->missing;
#   ... $store->url ...

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use File::Temp ();
use HTTP::Tiny;
use JSON::PP   ();
use POSIX      ();
use Time::HiRes qw(sleep time);

my $python = '/usr/bin/python3';    # the one that Debian's packages are for

# Starts a script and returns when it answers, or when it says that something is not installed.
sub new
{
	my ($class, $script) = @_;
	my $path = File::Spec->catfile(dirname(File::Spec->rel2abs(__FILE__)), File::Spec->updir, 'aws', $script);
	my $dir  = File::Temp->newdir('aws-XXXXXX', TMPDIR => 1);
	my $self = bless { dir => $dir, path => $path, owner => $$ }, $class;
	$self->start;
	return $self;
}

# PORT: where to listen, if the script lets us choose.
sub start
{
	my ($self, $port) = @_;
	my $dir = $self->{dir};
	if (!-x $python)
	{
		$self->{missing} = "there is no $python";
		return;
	}
	unlink "$dir/port";
	$self->{pid} = fork() // die "could not fork: $!\n";
	if ($self->{pid} == 0)
	{
		open(STDIN,  '<',  File::Spec->devnull) or POSIX::_exit(126);
		open(STDOUT, '>>', "$dir/log")          or POSIX::_exit(126);
		open(STDERR, '>&', \*STDOUT)            or POSIX::_exit(126);
		POSIX::setsid();
		{ no warnings 'exec'; exec $python, $self->{path}, "$dir", $port // (); }
		POSIX::_exit(127);
	}
	my $until = time + 180;
	until (-e "$dir/port")
	{
		if (waitpid($self->{pid}, POSIX::WNOHANG()) != 0)
		{
			delete $self->{pid};
			die "$self->{path} does not start: " . $self->log unless $? >> 8 == 77;
			$self->{missing} = $self->log =~ s/^skipped: |\n//gr;
			return;
		}
		die "$self->{path} does not answer: " . $self->log if time > $until;
		sleep 0.02;
	}
	open(my $file, '<', "$dir/port") or die "could not read $dir/port: $!\n";
	chomp($self->{port} = <$file>);
	return;
}

# Returns what is not installed; nothing if it runs.
sub missing { return $_[0]{missing} }
sub port    { return $_[0]{port} }
sub url     { return "http://127.0.0.1:$_[0]{port}" . ($_[1] // '') }

sub log
{
	my ($self) = @_;
	open(my $file, '<', "$self->{dir}/log") or return '';
	local $/ = undef;
	return scalar(<$file>) // '';
}

# Sets by how many seconds its clock is ahead from now on, if the script supports it.
sub skew
{
	my ($self, $seconds) = @_;
	open(my $file, '>', "$self->{dir}/skew.new") or die "could not write $self->{dir}/skew.new: $!\n";
	print {$file} $seconds;
	close($file) or die "could not write $self->{dir}/skew.new: $!\n";
	rename("$self->{dir}/skew.new", "$self->{dir}/skew") or die "could not rename: $!\n";
	return;
}

# Sets what fakestore.py is to do from now on.
sub set
{
	my ($self, %settings) = @_;
	return HTTP::Tiny->new(timeout => 30)->put($self->url('/_set'), { content => JSON::PP->new->utf8->encode(\%settings) });
}

# The lines of fakestore.py's log that match a pattern.
sub asked
{
	my ($self, $pattern) = @_;
	return grep { /$pattern/ } split /\n/, HTTP::Tiny->new(timeout => 30)->get($self->url('/_log'))->{content};
}

# Ends it, with all that it started; its data stays for start($port).
sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} or return;
	kill 'KILL', -$pid;
	waitpid($pid, 0);
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);
	$self->stop if $self->{owner} == $$;
	return;
}

1;

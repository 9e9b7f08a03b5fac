# The libraries of test/faults, which make PostgreSQL itself fail on request. The test that loads one builds it.
#
#   my $library = Faults::build('notify_full') or plan skip_all => 'there is no C compiler';

package Faults;

use strict;
use warnings;

use File::Basename qw(dirname);
use File::Spec;
use File::Temp ();

my @folders;    # which go when the test ends

# Returns the path of the library that test/faults/NAME.c makes, for LOAD and shared_preload_libraries; nothing if it
# cannot be built.
sub build
{
	my ($name) = @_;
	my $source = File::Spec->catfile(dirname(File::Spec->rel2abs(__FILE__)), File::Spec->updir, 'faults', "$name.c");
	my $folder = File::Temp->newdir('faults-XXXXXX', TMPDIR => 1);
	chomp(my $include = `pg_config --includedir-server`);
	# the staged PostgreSQL has no headers of its own
	$include =~ s{^.*/root/}{/} unless -d $include;
	return if system('cc', '-shared', '-fPIC', '-O1', "-I$include", '-o', "$folder/$name.so", $source) != 0;
	chmod 0755, "$folder";
	push @folders, $folder;
	return "$folder/$name.so";
}

1;

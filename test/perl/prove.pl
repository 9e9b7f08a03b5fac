# Runs TAP tests as prove does, some at a time, and writes "<passed> <failed>" (assertions) to
# FOLDER.counts, which prove only tells in prose.
#
#   perl prove.pl FOLDER TEST...
#
# Each try of an intrusion (a subtest named "power 3: ...", see docs/security.md) goes to FOLDER.tries, with its file and
# what came of it. With TRIES in the environment, ends with a line for each.
#
# FOLDER is where the tests keep their servers and logs (TESTDIR of PostgreSQL's test modules).
# A test file that broke off without a failed assertion counts as one that failed. Ends with the
# tails of what the failed files logged.

use strict;
use warnings;

use File::Basename qw(basename);
use File::Path qw(make_path);
use TAP::Harness;
use TAP::Parser::Aggregator;

my ($folder, @tests) = @ARGV;
my $logs = "$folder/tmp_check/log";
make_path($logs);

# Those that hold times to bounds disturb each other; the others wait more than they work. The longest of each begin first,
# so that all end at about the same time.
my @longest = qw(072_time 075_hostile_servers 058_paid_once 074_stop 073_crash_loop 035_memory_bound 075_bombs 072c_filled 072_bytes
  020_retry 021_faults);
my %turn = map { ("$longest[$_].pl" => $_ - @longest) } 0 .. $#longest;
my (@measuring, @others);
push @{ is_measuring($_) ? \@measuring : \@others }, [ "t/$_", "t/$_" ]
  foreach sort { ($turn{$a} // 0) <=> ($turn{$b} // 0) || $a cmp $b } @tests;

my @tries;
my $results = TAP::Parser::Aggregator->new;
$results->start;
run_some(2, @measuring);
run_some($ENV{JOBS} || 4, @others);
$results->stop;
TAP::Harness->new({ failures => 1, color => -t STDOUT })->summary($results);

my ($passed, $failed) = (scalar $results->passed, scalar $results->failed);
my @broken;
foreach my $test (@tests)
{
	my ($parser) = $results->parsers("t/$test");
	next unless $parser->has_problems;
	push @broken, basename($test, '.pl');
	$failed++ unless $parser->failed;
}

open my $counts, '>', "$folder.counts" or die "could not write $folder.counts: $!";
print $counts "$passed $failed\n";
close $counts or die "could not write $folder.counts: $!";

@tries = sort { $a->{kind} cmp $b->{kind} || $a->{number} <=> $b->{number} } @tries;
open my $list, '>', "$folder.tries" or die "could not write $folder.tries: $!";
print $list "$_->{kind} $_->{number}\t$_->{text}\t$_->{file}\n" foreach @tries;
close $list or die "could not write $folder.tries: $!";
print_tries() if $ENV{TRIES};
foreach my $name (@broken)
{
	print_tail($_) foreach glob("$logs/regress_log_$name $logs/${name}_*.log");
}
exit(@broken ? 1 : 0);

sub is_measuring
{
	my ($test) = @_;
	open my $file, '<', "t/$test" or return 0;
	return scalar grep { /p99|schedstat|no_turn_is_long/ } <$file>;
}

sub run_some
{
	my ($jobs, @some) = @_;
	return unless @some;
	my $harness = TAP::Harness->new({ jobs => $jobs, timer => 1, failures => 1, color => -t STDOUT });
	$harness->callback(made_parser => \&note_tries);
	$harness->aggregate_tests($results, @some);
	return;
}

sub note_tries
{
	my ($parser, $test) = @_;
	$parser->callback(
		test => sub {
			my ($result) = @_;
			return unless $test->[0] =~ m{^t/07};
			push @tries, { kind => $1, number => $2, text => $3, ok => $result->is_ok, file => $test->[0] }
			  if $result->description =~ /^- ([a-z]+(?: [a-z]+)*) ([0-9]+): (.*)/;
		});
	return;
}

sub print_tries
{
	printf "%-8s %-18s %s\n", $_->{ok} ? 'stopped' : 'GOT IN', "$_->{kind} $_->{number}", $_->{text} foreach @tries;
	printf "%d tries, %d got in\n", scalar @tries, scalar grep { !$_->{ok} } @tries;
	return;
}

sub print_tail
{
	my ($file) = @_;
	open my $log, '<', $file or return;
	my @lines = <$log>;
	splice @lines, 0, @lines - 40 if @lines > 40;
	print "---- the end of $file\n", @lines;
}

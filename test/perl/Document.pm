# The blocks of code in a document, which tests run as they stand.

package Document;

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Utils;

# Returns the blocks of docs/NAME, by title of section: title => a reference to its blocks, only of LANGUAGE if given.
sub blocks
{
	my ($name, $language) = @_;
	my $text = slurp_file("$FindBin::Bin/../../docs/$name");
	$language //= '[a-z]+';
	my %blocks;
	while ($text =~ /^## (.*?)\n(.*?)(?=^## |\z)/gms)
	{
		my ($title, $body) = ($1, $2);
		push @{ $blocks{$title} }, $1 while $body =~ /^```$language\n(.*?)^```$/gms;
	}
	return %blocks;
}

1;

# Base64 and JSON of any length and layout come back as the bytes and the text that they stand for: what is read
# eight or four bytes at a time must not depend on where it begins and ends.

use strict;
use warnings;

use JSON::PP ();
use MIME::Base64 qw(encode_base64);

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $node = new_node();
my $standin = StandIn->new;
my $json = JSON::PP->new->utf8->canonical;

# An echo of the request, whose pictures are outputs
create_server($node, 'echo', 'http', $standin, path => '/echo', output => '/body/pictures/*', encoding => 'auto',
	max_attempts => 1);

subtest 'base64' => sub {
	my (@pictures, @bytes);
	foreach my $len (1 .. 40, 1000, 4099)
	{
		my $data = join '', map { chr(($_ * 37 + $len * 11) % 256) } 1 .. $len;
		my $text = encode_base64($data, '');
		my $safe = $text =~ tr{+/=}{-_}dr;
		foreach my $spelling ($text, $safe, "\n $text\t",
			map { my $width = $_; $text =~ s/(.{$width})/$1\r\n/gr } 1, 3, 4, 5, 76)
		{
			push @pictures, $spelling;
			push @bytes, unpack('H*', $data);
		}
	}
	my $id = enqueue($node, 'echo', { pictures => \@pictures });
	ok(wait_state($node, $id, 'succeeded'), scalar(@pictures) . ' texts in base64 are outputs');
	is( $node->safe_psql('postgres', "SELECT encode(data, 'hex') FROM gen_outputs WHERE job_id = $id ORDER BY ordinal"),
		join("\n", @bytes), '... of the bytes that they stand for');

	foreach my $wrong ('QUJD*EFG', 'QUJDRA==QUJD', 'QUJDR', 'QUJD=RA=', "QUJD\x{e9}UJD", 'QUJDRA===')
	{
		$id = enqueue($node, 'echo', { pictures => [$wrong] });
		ok(wait_state($node, $id, 'failed'), "\"$wrong\" is not base64");
		like(job($node, $id)->{error}, qr/invalid base64/, '... as the job says');
	}
};

subtest 'text' => sub {
	# each odd piece at each place of a text that is longer than what is read at once
	my @texts;
	foreach my $odd ('"', '\\', "\n", "\t", '\\"', '\\\\', "\x{e4}", "\x{20ac}", "\x{1f3a8}", "\x{7f}", ',', '[')
	{
		push @texts, map { ('x' x $_) . $odd . ('y' x (19 - $_)) } 0 .. 19;
	}
	my %request = (pictures => [encode_base64('GIF89a', '')], texts => \@texts, after => 12345678901234567890);
	my $id = enqueue($node, 'echo', $json->encode(\%request) =~ s/"(12345678901234567890)"/$1/r);
	ok(wait_state($node, $id, 'succeeded'), scalar(@texts) . ' texts with something odd in them are echoed');
	is( $node->safe_psql('postgres', "SELECT result -> 'body' -> 'texts' = request -> 'texts' FROM gen_jobs WHERE id = $id"),
		't', '... unchanged');
	is($node->safe_psql('postgres', "SELECT result -> 'body' ->> 'after' FROM gen_jobs WHERE id = $id"),
		'12345678901234567890', '... and the number behind them keeps its digits');
};

$standin->stop;
$node->stop;
done_testing();

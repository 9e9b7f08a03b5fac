# A real object store (Swift): long lists in pages, keys of any characters in lists, copies and links, copies of objects
# of many parts, and links of several roles.

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use HTTP::Tiny;
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use PythonServer;
use StandIn;

my $swift = PythonServer->new('objectstore.py');
plan skip_all => 'not installed: ' . $swift->missing if $swift->missing;
my $node = new_node();
my $standin = StandIn->new;
my $http = HTTP::Tiny->new(timeout => 60);

create_store($node, 'pictures', $swift, key => '{server}/{job}-{ordinal}.{ext}', max_in_flight => '8');
create_server($node, 'painter', 'openai-images', $standin, store => 'pictures');

# The objects, and prefixes, of a list, page by page; and the number of pages.
sub list_all
{
	my ($prefix, %more) = @_;
	my (@objects, @prefixes, $after);
	my $pages = 0;
	do
	{
		my $job = run_to_end($node, 'pictures', { list => $prefix, %more, defined $after ? (after => $after) : () });
		is($job->{state}, 'succeeded', 'a page') or die diag($job->{error});
		push @objects, map { $_->{key} } @{ $job->{result}{objects} };
		push @prefixes, @{ $job->{result}{prefixes} // [] };
		$after = $job->{result}{after};
	} while (defined $after && ++$pages < 50);
	return (\@objects, \@prefixes, $pages + 1);
}

sub octets { my ($text) = @_; utf8::encode($text); return $text }

# Characters of all kinds, one or more in each key, in an order that bytes do not have by chance.
my @odd = ('blank key', 'plus+key', 'percent%41key', 'percent%', '%2F', "\x{e4}\x{f6}\x{fc}\x{df}", "tab\tkey", "line\nkey", "return\rkey",
	"control\x01\x1fkey", "delete\x7f", '../up', 'a/../b', 'a/./b', '..', '...', 'a//b', '/first', 'last/', '<&>"\'', '&amp;', ']]>',
	"\x{1f600}", "e\x{301}", "\x{200b}", '=?UTF-8?Q?x?=', '?versionId=1', '#', ';a=b', '\\', ' ', '  two', 'end ', '~*!()');

subtest 'keys of any characters, in lists, copies and links' => sub {
	foreach my $key (@odd)
	{
		enqueue($node, 'pictures', { put => "odd/$key" }, inputs => '{"\\\\x' . unpack('H*', octets($key)) . '"}');
	}
	ok(wait_all_ended($node), 'all are put');
	is(query(q{SELECT string_agg(request::text || error, E'\n') FROM gen_jobs WHERE state <> 'succeeded'}), '', '... with success');
	my ($keys) = list_all('odd/');
	is_deeply([ sort @$keys ], [ sort map { "odd/$_" } @odd ], 'a list has them as they are');
	my ($paged, undef, $pages) = list_all('odd/', max => 3);
	is_deeply($paged, $keys, '... and so have pages of three');
	cmp_ok($pages, '>=', @odd / 3, '... which are many');
	my @copies = map { enqueue($node, 'pictures', { copy => "odd/$_", to => "copy/$_" }) } @odd;
	ok(wait_all_ended($node), 'all are copied');
	is(query('SELECT string_agg(request::text || error, E\'\n\') FROM gen_jobs WHERE state <> \'succeeded\''), '', '... with success');
	my @gets = map { enqueue($node, 'pictures', { get => "copy/$_" }) } @odd;
	ok(wait_all_ended($node), '... and read');
	is(query("SELECT string_agg(j.request::text, ' ') FROM gen_jobs j LEFT JOIN gen_outputs o ON o.job_id = j.id WHERE j.request ? 'get' AND 'copy/' || convert_from(o.data, 'UTF8') IS DISTINCT FROM j.request->>'get'"),
		'', '... each is the one that was put');
	my @linked = grep { !m{(^|/)\.\.?(/|$)} } @odd;
	my @wrong = grep { $http->get(query('SELECT genjob.presign(' . literal(octets("s3://pictures/odd/$_")) . ')'))->{content} ne octets($_) } @linked;
	is_deeply(\@wrong, [], '... and links lead to them');
	my @written = grep {
		my $link = query(q{SELECT genjob.presign_put('pictures', } . literal(octets("link/$_")) . ')');
		$http->put($link, { content => octets($_) })->{status} == 200
	} @linked;
	is_deeply(\@written, \@linked, '... and links write such keys');
	my ($through_links) = list_all('link/');
	is_deeply([ sort @$through_links ], [ sort map { "link/$_" } @linked ], '... under their own names');
	my (undef, $folders) = list_all('odd/', delimiter => '/');
	is_deeply([ sort @$folders ], [ sort map { "odd/$_" } '../', 'a/', '/', 'last/' ], 'folders are prefixes');
	(undef, my $blanks) = list_all('odd/', delimiter => ' ');
	is_deeply([ sort @$blanks ], [ sort map { "odd/$_" } 'blank ', ' ', 'end ' ], '... and anything may divide');
	my ($percent) = list_all('odd/percent%');
	is_deeply([ sort @$percent ], [ 'odd/percent%', 'odd/percent%41key' ], '... a prefix has any characters, too');
	enqueue($node, 'pictures', { delete => "odd/$_" }) foreach @odd;
	ok(wait_all_ended($node), 'all are deleted');
	is_deeply((list_all('odd/'))[0], [], '... and gone');
	query('DELETE FROM gen_jobs');
};

subtest 'more than 1,000 keys' => sub {
	query(q{INSERT INTO gen_jobs (server, request, inputs) SELECT 'pictures', jsonb_build_object('put', format('many/%s +%%ü/%s', i % 3, i)), ARRAY['x'::bytea] FROM generate_series(1, 1203) i});
	ok(wait_all_ended($node), 'they are put');
	is(query(q{SELECT count(*) FROM gen_jobs WHERE state <> 'succeeded'}), 0, '... with success');
	my ($keys, undef, $pages) = list_all('many/');
	is($pages, 2, 'two pages');
	my %seen = map { $_ => 1 } @$keys;
	is(@$keys . ' ' . keys %seen, '1203 1203', '... have all of them, once each');
	is_deeply($keys, [ sort { octets($a) cmp octets($b) } @$keys ], '... in their order');
	is(scalar(grep { !m{^many/[012] \+%\x{fc}/\d+$} } @$keys), 0, '... by their names');
	(my $none, my $prefixes, $pages) = list_all('many/', delimiter => '/', max => 1);
	is_deeply([ $none, $prefixes, $pages >= 3 ], [ [], [ map { "many/$_ +%\x{fc}/" } 0 .. 2 ], 1 ], 'folders come in pages, too');
	my ($some) = list_all("many/1 +%\x{fc}/1", max => 7);
	is(scalar(@$some), scalar(grep { m{^many/1 \+%\x{fc}/1} } @$keys), 'so does what a long prefix has');
	query('DELETE FROM gen_jobs');
};

subtest 'a copy of an object of many parts' => sub {
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'large', size => '3400x3400', standin => { id => 'large' }));
	ok(wait_state($node, $id, 'succeeded'), 'an output of 35 MB');
	my ($key, $sha256, $bytes) = split /\|/, query("SELECT replace(url, 's3://pictures/', ''), encode(sha256, 'hex'), bytes FROM gen_outputs WHERE job_id = $id");
	my $copy = run_to_end($node, 'pictures', { copy => $key, to => 'copies/a large +%.png', content_type => 'image/x-copy; a="b c"' });
	is($copy->{state}, 'succeeded', 'is copied') or diag($copy->{error});
	my $head = run_to_end($node, 'pictures', { head => 'copies/a large +%.png' });
	is($head->{result}{bytes}, $bytes, '... whole');
	is($head->{result}{content_type}, 'image/x-copy; a="b c"', '... as another type');
	my $got = $http->get(query(q{SELECT genjob.presign('s3://pictures/copies/a large +%.png')}));
	is(sha256_hex($got->{content}), $sha256, '... and the same bytes');
	is(run_to_end($node, 'pictures', { delete => $key })->{state}, 'succeeded', 'the first one is deleted');
	is(sha256_hex($http->get(query(q{SELECT genjob.presign('s3://pictures/copies/a large +%.png')}))->{content}), $sha256, '... the copy stays');
};

subtest 'links to upload, with types that have parameters' => sub {
	foreach my $type ('text/plain; charset=utf-8', 'multipart/form-data; boundary="a b"', 'text/plain;charset="x  y"', 'image/svg+xml', ' image/png ', "text/plain;  a=b", 'video/mp4; codecs="avc1.42E01E, mp4a.40.2"')
	{
		my $link = query(q{SELECT genjob.presign_put('pictures', 'typed/a', } . literal($type) . ')');
		my $put = $http->put($link, { content => 'x', headers => { 'Content-Type' => $type =~ s/^ +| +$//gr } });
		is($put->{status}, 200, "a link for $type") or diag($put->{content});
		is($http->put($link, { content => 'x', headers => { 'Content-Type' => 'text/html' } })->{status}, 403, '... and for no other');
	}
	foreach my $type ("a/b\r\nX: y", 'none', '', "a/\x01", 'x' x 100 . '/' . 'y' x 100_000)
	{
		my $refusal = refusal_of(q{SELECT genjob.presign_put('pictures', 'typed/a', } . literal($type) . ')');
		like($refusal, qr/invalid content type/, 'what is no type is refused');
		cmp_ok(length($refusal), '<', 1000, '... in few words');
	}
};

subtest 'links of several roles' => sub {
	query(q{CREATE ROLE anna LOGIN; CREATE ROLE berta LOGIN; CREATE ROLE chef LOGIN; GRANT anna, berta TO chef;
		GRANT INSERT, SELECT ON gen_jobs TO anna, berta; GRANT SELECT ON gen_outputs TO anna, berta;
		GRANT USAGE ON FOREIGN SERVER painter, pictures TO anna, berta});
	my $id = query(q{INSERT INTO gen_jobs (server, request) VALUES ('painter', '{"prompt": "hers"}') RETURNING id}, undef, 'anna');
	ok(wait_state($node, $id, 'succeeded'), 'a job of one role');
	my $row = query("SELECT o FROM gen_outputs o WHERE job_id = $id");
	my $sha256 = query("SELECT encode(sha256, 'hex') FROM gen_outputs WHERE job_id = $id");
	my $forged = 'SELECT genjob.presign(' . literal($row) . '::gen_outputs)';
	is(sha256_hex($http->get(query($forged, undef, $_))->{content}), $sha256, "$_ has a link to its output") foreach 'anna', 'chef';
	is(query($forged, undef, 'berta'), '', 'another role has none, also with the row');
	is(query("SELECT count(genjob.presign(o)) FROM gen_outputs o", undef, 'berta'), 0, '... nor by the table');
	query('REVOKE USAGE ON FOREIGN SERVER pictures FROM anna');
	like(refusal_of($forged, undef, 'anna'), qr/permission denied for foreign server pictures/, 'who may not use the store any more has none');
	query('GRANT USAGE ON FOREIGN SERVER pictures TO anna');
	query("DELETE FROM gen_jobs WHERE id = $id");
	is(query($forged, undef, $_), '', "of a job that is gone there is none for $_") foreach 'anna', 'chef', 'postgres';
};

$node->stop;
done_testing();

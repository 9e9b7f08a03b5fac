# Every block of SQL in docs/workflows.md, run as it stands, by a plain role.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Document;
use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'workflows');
create_server($node, 'painter', 'openai-images', $standin);
create_server($node, 'writer', 'openai-chat', $standin);
# refuses everything, and refuses once
create_server($node, 'broken', 'openai-images', $standin, max_attempts => 1,
	defaults => '{"standin": {"faults": [{"status": 400}, {"status": 400}, {"status": 400}, {"status": 400}]}}');
create_server($node, 'mended', 'openai-images', $standin, max_attempts => 1, defaults => '{"standin": {"id": "mended", "faults": [{"status": 400}]}}');
$node->safe_psql('postgres', q{CREATE ROLE app LOGIN; GRANT INSERT, SELECT, UPDATE ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app;
	GRANT CREATE ON SCHEMA public TO app} . join '', map { "; GRANT USAGE ON FOREIGN SERVER $_ TO app" } qw(painter writer broken mended));

my %blocks = Document::blocks('workflows.md', 'sql');
# by t/088_cron.pl and t/088_sources.pl
delete @blocks{ 'By time', 'Over HTTP, by PostgREST' };

# What each prints, without spaces at the ends.
my %expected = (
	'Chain' => 'succeeded|',
	'Parallel and join' => "-1|3\n0|1\nsucceeded",
	'Map' => 'succeeded|3',
	'Catch' => "failed\nsucceeded",
	'Approval by a human' => "succeeded\nsucceeded",
	'Retry a branch' => "failed|t\nt\nsucceeded",
	'Debounce' => 'succeeded|version 2',
	'Saga with compensation' => "succeeded\nfailed\nsucceeded",
	# nothing runs under that name: a forged call, which costs nothing (t/087_poke.pl has real ones)
	'From a provider\'s webhook' => 'f',
	'COPY' => "succeeded\nsucceeded");

is(join(', ', sort keys %blocks), join(', ', sort keys %expected), 'every recipe has a block of SQL, and is known here');
foreach my $title (sort keys %expected)
{
	my (undef, $out, $err) = $node->psql('postgres', join('', @{ $blocks{$title} }), extra_params => [ '-U', 'app' ]);
	is($out, $expected{$title}, $title) or diag($err);
	is($err, '', '... without a word');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM product WHERE picture IS NOT NULL}), '3', 'map: the pictures are in the table');
like($node->safe_psql('postgres', q{SELECT string_agg(to_jsonb(j)::text, ' ') FROM gen_jobs j WHERE request ? 'prompt' AND request -> 'prompt' ? '$concat'}),
	qr/"succeeded"/, 'chain: the prompt was put together');

$node->stop;
$standin->stop;
done_testing();

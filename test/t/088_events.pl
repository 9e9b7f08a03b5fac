# docs/workflows.md, "Events out": the changes of jobs as JSON, by wal2json and pg_recvlogical.

use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

use Document;
use GenJobTest;
use StandIn;

chomp(my $library = `pg_config --pkglibdir`);
plan skip_all => 'wal2json is not installed (tools/install-packages workflows)' unless -e "$library/wal2json.so";

my %blocks = Document::blocks('workflows.md', 'sh');
my ($commands) = @{ $blocks{'Events out'} };
my $folder = PostgreSQL::Test::Utils::tempdir();
my $standin = StandIn->new;
my $node = new_node(name => 'events', conf => "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4");
# minor versions of late 2026 ask which libraries may be used so; those before do not know the setting
$node->safe_psql('postgres', q{ALTER SYSTEM SET output_plugin_libraries = 'wal2json'; SELECT pg_reload_conf()})
  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'});
create_server($node, 'painter', 'openai-images', $standin);

my $stream = do {
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
	IPC::Run::start([ 'sh', '-e', '-c', "cd \"\$0\" && $commands", $folder ], '<', \undef, '>', "$folder/out", '2>', "$folder/err");
};
ok($node->poll_query_until('postgres', q{SELECT active FROM pg_replication_slots WHERE slot_name = 'events'}, 't'), 'the slot is read')
  or diag(slurp_file("$folder/err"));
my $id = enqueue($node, 'painter', { prompt => 'a boat' }, request_id => 'order 7');
my $failed = enqueue($node, 'painter', StandIn::request(prompt => 'b', faults => [ { status => 400 } ]));
ok(wait_all_ended($node), 'two jobs end');

# The changes of a job so far, as they stand in the file: a line may be half written.
sub changes
{
	my ($job) = @_;
	my @lines = grep { /\}\n\z/ } slurp_file("$folder/events.json") =~ /^(.*\n)/mg;
	my @changes = map { JSON::PP->new->utf8->decode($_) } @lines;
	return grep { my %column = map { $_->{name} => $_->{value} } @{ $_->{columns} // [] }; ($column{id} // 0) == $job } @changes;
}

sub story
{
	my ($job) = @_;
	return join ' ', map { my %column = map { $_->{name} => $_->{value} } @{ $_->{columns} }; "$_->{action} $column{state}" } changes($job);
}

my $until = time + $PostgreSQL::Test::Utils::timeout_default;
sleep 0.1 until (story($id) =~ /succeeded$/ && story($failed) =~ /failed$/) || time > $until;
is(story($id), 'I queued U running U succeeded', 'what happened to a job, in its order');
is(story($failed), 'I queued U running U failed', '... to another');
my %columns = map { $_->{name} => $_->{value} } @{ (changes($id))[-1]{columns} };
is($columns{request_id}, 'order 7', '... with its columns');
ok((grep { defined $_->{lsn} } changes($id)) == 3, '... and its place in the log');
my %tables = map { $_ => 1 } slurp_file("$folder/events.json") =~ /"table":"(\w+)"/g;
is_deeply([ keys %tables ], ['gen_jobs'], '... and of no other table');

IPC::Run::kill_kill($stream);
$node->stop('immediate');
$standin->stop;
done_testing();

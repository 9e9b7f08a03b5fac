# docs/workflows.md, "Events out": the changes of jobs as JSON, by wal2json and pg_recvlogical.

use strict;
use warnings;

use IPC::Run ();
use JSON::PP ();

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

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
query(q{ALTER SYSTEM SET output_plugin_libraries = 'wal2json'; SELECT pg_reload_conf()})
  if query(q{SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'});
create_server($node, 'painter', 'openai-images', $standin);

my $stream = do {
	local @ENV{qw(PGHOST PGPORT PGDATABASE)} = ($node->host, $node->port, 'postgres');
	# a group of its own: the shell does not take along what it has started
	IPC::Run::start([ 'sh', '-e', '-c', "cd \"\$0\" && echo \$\$ > group && $commands", $folder ], '<', \undef,
		'>', "$folder/out", '2>', "$folder/err", init => sub { setpgrp });
};

# Passes once pg_recvlogical reads the slot: what was done before that is not in it.
sub the_slot_is_read
{
	return ok($node->poll_query_until('postgres',
		q{SELECT active FROM pg_replication_slots WHERE slot_name = 'events'}, 't'), 'the slot is read')
	  || diag(slurp_file("$folder/err"));
}

# What is in the file so far, which pg_recvlogical may not have opened yet.
sub events { return -e "$folder/events.json" ? slurp_file("$folder/events.json") : '' }

sub columns_of { return map { $_->{name} => $_->{value} } @{ $_[0]{columns} // [] } }

# The changes of a job so far: the last line of the file may be half written.
sub changes
{
	my ($job) = @_;
	my @changes = map { JSON::PP->new->utf8->decode($_) } grep { /\}\n\z/ } events() =~ /^(.*\n)/mg;
	return grep { my %column = columns_of($_); ($column{id} // 0) == $job } @changes;
}

sub story
{
	my ($job) = @_;
	return join ' ', map { my %column = columns_of($_); "$_->{action} $column{state}" } changes($job);
}

# Passes once this is what happened to a job.
sub story_is
{
	my ($job, $story, $what) = @_;
	poll_until(sub { story($job) eq $story });
	return is(story($job), $story, $what);
}

subtest 'what happens to a job comes in its order, with its columns and its place in the log' => sub {
	the_slot_is_read();
	my $id = enqueue($node, 'painter', { prompt => 'a boat' }, request_id => 'order 7');
	ok(wait_state($node, $id, 'succeeded'), 'a job ends');
	story_is($id, 'I queued U running U succeeded', 'what happened to it, in its order');
	my %columns = columns_of((changes($id))[-1]);
	is($columns{request_id}, 'order 7', '... with its columns');
	ok((grep { defined $_->{lsn} } changes($id)) == 3, '... and its place in the log');
};

subtest 'a failure comes, and nothing of any table but gen_jobs' => sub {
	the_slot_is_read();
	my $id = enqueue($node, 'painter', StandIn::request(prompt => 'b', faults => [ { status => 400 } ]));
	ok(wait_state($node, $id, 'failed'), 'a job fails');
	story_is($id, 'I queued U running U failed', 'what happened to it');
	my %tables = map { $_ => 1 } events() =~ /"table":"(\w+)"/g;
	is_deeply([ keys %tables ], ['gen_jobs'], '... and of no other table');
};

kill 'KILL', -slurp_file("$folder/group");
IPC::Run::kill_kill($stream);
$node->stop('immediate');
$standin->stop;
done_testing();

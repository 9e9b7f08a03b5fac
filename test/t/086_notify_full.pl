# A full queue of notifications, which PostgreSQL says at the commit: it costs no result, and no notice is lost.

use strict;
use warnings;

use File::Temp ();
use FindBin;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use Session;
use StandIn;

my $folder = File::Temp->newdir('notify-XXXXXX', TMPDIR => 1);
chomp(my $include = `pg_config --includedir-server`);
# the staged PostgreSQL has no headers of its own
$include =~ s{^.*/root/}{/} unless -d $include;
my $made = system('cc', '-shared', '-fPIC', '-O1', "-I$include", '-o', "$folder/notify_full.so", "$FindBin::Bin/../faults/notify_full.c") == 0;
plan skip_all => 'there is no C compiler' unless $made;
chmod 0755, "$folder";

my $standin = StandIn->new;
my $node = new_node(name => 'notify_full', conf => "shared_preload_libraries = 'genjob, $folder/notify_full.so'");
create_server($node, 'loud', 'openai-images', $standin, notify => 'ended');
my $flag = $node->data_dir . '/notify_is_full';
my $session = Session->new($node);
$session->query('LISTEN ended');

append_to_file($flag, '');
my $ids = query(q{WITH j AS (INSERT INTO gen_jobs (server, request) SELECT 'loud', jsonb_build_object('prompt', 'number ' || i) FROM generate_series(1, 20) i RETURNING id)
	SELECT string_agg(id::text, ',') FROM j});
ok($node->poll_query_until('postgres', "SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE id IN ($ids)"), 'every job succeeds');
is(query("SELECT count(*) FROM gen_outputs WHERE job_id IN ($ids)"), 20, '... with its result');
is(query("SELECT DISTINCT follow_up FROM gen_jobs WHERE id IN ($ids)"), '{notify}', 'what is to follow is in the row');
my $cancelled = enqueue($node, 'loud', { prompt => 'later' }, run_at => '2100-01-01');
query("SELECT genjob.cancel($cancelled)");
is(job($node, $cancelled)->{state}, 'cancelled', 'a cancel is not refused either');
like(query('SELECT last_error FROM genjob.workers WHERE database = current_database()'), qr/too many notifications/, 'genjob.workers says why');

unlink $flag;
ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE follow_up IS NOT NULL)"), 'once there is room, the notices are given');
my $text = $session->query('SELECT 1');
my %told;
$told{$1}++ while $text =~ /payload "\{"id": (\d+),/g;
is(scalar keys %told, 21, 'all of them');
is((grep { $_ != 1 } values %told) + 0, 0, '... once');

$session->quit;
$node->stop;
done_testing();

# A full queue of notifications, which PostgreSQL says at the commit: it costs no result, and no notice is lost.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Faults;
use GenJobTest;
use Session;
use StandIn;

my $library = Faults::build('notify_full') or plan skip_all => 'there is no C compiler';
my $standin = StandIn->new;
my $node = new_node(name => 'notify_full', conf => "shared_preload_libraries = 'genjob, $library'");
my $flag = $node->data_dir . '/notify_is_full';

subtest 'a full queue of notifications costs no result, refuses no cancel and loses no notice' => sub {
	create_server($node, 'loud', 'openai-images', $standin, notify => 'ended');
	my $session = Session->new($node);
	$session->query('LISTEN ended');

	append_to_file($flag, '');
	my $ids = query(q{WITH j AS (INSERT INTO gen_jobs (server, request)
			SELECT 'loud', jsonb_build_object('prompt', 'job ' || i) FROM generate_series(1, 20) i RETURNING id)
		SELECT string_agg(id::text, ',') FROM j});
	eventually("SELECT bool_and(state = 'succeeded') FROM gen_jobs WHERE id IN ($ids)", 'every job succeeds');
	is(query("SELECT count(*) FROM gen_outputs WHERE job_id IN ($ids)"), 20, '... with its result');
	is(query("SELECT DISTINCT follow_up FROM gen_jobs WHERE id IN ($ids)"), '{notify}', 'its row says what is left');
	my $cancelled = enqueue($node, 'loud', { prompt => 'later' }, run_at => '2100-01-01');
	query("SELECT genjob.cancel($cancelled)");
	is(job($node, $cancelled)->{state}, 'cancelled', 'a cancel is not refused either');
	eventually("SELECT last_error ~ 'too many notifications' FROM genjob.workers WHERE database = current_database()",
		'genjob.workers says why');

	unlink $flag or die "could not remove $flag: $!";
	eventually('SELECT NOT EXISTS (SELECT FROM gen_jobs WHERE follow_up IS NOT NULL)',
		'once there is room, the notices are given');
	my $text = $session->query('SELECT 1');
	my %told;
	$told{$1}++ while $text =~ /payload "\{"id": (\d+),/g;
	is_deeply([ sort keys %told ], [ sort (split(/,/, $ids), $cancelled) ], 'all of them');
	is((grep { $_ != 1 } values %told) + 0, 0, '... once');
	$session->quit;
};

$node->stop;
done_testing();

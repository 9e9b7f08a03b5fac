# pg_upgrade takes the queue, its owner and what was granted along.

use strict;
use warnings;

use GenJobTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

# One story, which upgrades one cluster.
subtest 'pg_upgrade takes the queue, its owner and what was granted along' => sub {
	my $standin = StandIn->new;
	my $old = new_node(name => 'old');
	my $new = new_node(name => 'new', start => 0);

	create_server($old, 'painter', 'openai-images', $standin);
	$old->safe_psql('postgres', q{CREATE ROLE app LOGIN; GRANT USAGE ON FOREIGN SERVER painter TO app;
		GRANT INSERT, SELECT ON gen_jobs TO app; GRANT SELECT ON gen_outputs TO app});
	my $ended = enqueue($old, 'painter', { prompt => 'ended' });
	ok(wait_state($old, $ended, 'succeeded'), 'a job has ended');
	my $queued = enqueue($old, 'painter', { prompt => 'queued' }, run_at => '2100-01-01');
	my $owners = q{SELECT c.oid::regclass, relowner::regrole, relacl FROM pg_class c
		JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid WHERE extname = 'genjob' ORDER BY c.oid::regclass::text;
		SELECT nspacl FROM pg_namespace WHERE nspname = 'public'};
	my $before = $old->safe_psql('postgres', $owners);
	like($before, qr/^gen_jobs\|genjob_dispatcher\|/m, 'the tables belong to genjob_dispatcher');

	$old->stop;
	chomp(my $bindir = `pg_config --bindir`);
	my $scratch = PostgreSQL::Test::Utils::tempdir();
	chdir $scratch or die "could not enter $scratch: $!";
	command_ok(
		[
			'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
			'-s', $new->host, '-p', $old->port, '-P', $new->port
		],
		'pg_upgrade');
	chdir '/';
	$new->start;
	wait_dispatcher($new);
	is($new->safe_psql('postgres', $owners), $before, 'owners and privileges are the same');
	$new->safe_psql('postgres', "UPDATE gen_jobs SET run_at = now() WHERE id = $queued");
	ok(wait_state($new, $queued, 'succeeded'), 'what was queued is run');
	is($new->safe_psql('postgres', "SELECT count(*) FROM gen_outputs WHERE job_id IN ($ended, $queued)"), '2',
		'outputs are there');
	is($new->safe_psql('postgres', "SELECT genjob.retry($ended)"), 'f', 'genjob.retry() works');

	$new->stop;
	$standin->stop;
};

done_testing();

# genjob.poke(): what a provider's webhook has an application call. The provider is asked at once instead of in an hour,
# once a second at most, and only for a role that may see the job.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'poke');
create_server($node, 'asked', 'replicate', $standin, model => 'm', poll_interval => '1 h', timeout => '1 d', max_in_flight => 20);
$node->safe_psql('postgres', q{CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN;
	GRANT SELECT, INSERT ON gen_jobs TO app, stranger; GRANT USAGE ON FOREIGN SERVER asked TO app, stranger});

# A prediction of the role app that the provider has, as its job's id and the provider's.
sub predict
{
	my ($name, %script) = @_;
	my $request = literal(StandIn::request(input => { prompt => 'a' }, standin => { id => $name, latency_ms => 100, %script }));
	my $id = query("INSERT INTO gen_jobs (server, request) VALUES ('asked', $request) RETURNING id", undef, 'app');
	$node->poll_query_until('postgres', "SELECT remote_id IS NOT NULL FROM gen_jobs WHERE id = $id") or die 'the prediction is not known';
	return ($id, job($node, $id)->{remote_id});
}

sub polls { return $standin->counts->{ids}{ $_[0] }{polls} // 0 }

subtest 'who has a provider asked, and about what' => sub {
	my ($first, $remote) = predict('first');
	my ($other, $other_remote) = predict('other');
	is(query("BEGIN; SELECT genjob.poke('asked', '$remote'); ROLLBACK", undef, 'app'), 't', 'a job of the role');
	is(query("SELECT genjob.poke('asked', '$remote')", undef, 'stranger'), 'f', 'not one of a stranger');
	is(query("SELECT genjob.poke('elsewhere', '$remote')", undef, 'app'), 'f', '... nor of another server');
	is(query("SELECT genjob.poke('asked', 'forged')", undef, 'app'), 'f', '... nor one that nobody knows');
	$standin->finish;
	is(query("SELECT genjob.poke('asked', '$other_remote')", undef, 'app'), 't', 'the webhook of another');
	ok(wait_state($node, $other, 'succeeded'), '... which is asked about at once');
	is(polls('other'), 1, '... by one question');
	is(polls('first'), 0, 'nobody asked about the first: its transaction was rolled back');
	is(query("SELECT genjob.poke('asked', '$remote')", undef, 'app'), 't', 'its own webhook');
	ok(wait_state($node, $first, 'succeeded'), '... brings it');
	is(query("SELECT genjob.poke('asked', '$remote')", undef, 'app'), 'f', 'what has ended is asked about no more');
	is(polls('first') + polls('other'), 2, '... and nothing else was asked about');
};

subtest 'a storm of forged calls' => sub {
	# each costs a question at most, and nothing in it is believed
	my ($quiet) = predict('quiet');
	my ($running, $running_remote) = predict('running', outcome => 'never');
	my $begun = time;
	query("DO \$\$ BEGIN FOR i IN 1..200 LOOP PERFORM genjob.poke('asked', '$running_remote'); COMMIT; END LOOP; END \$\$", undef, 'app');
	ok(eval { $standin->wait_for(sub { polls('running') >= 1 }) }, 'a storm of calls has the provider asked');
	cmp_ok(polls('running'), '<=', 2 + (time - $begun), '... once a second at most');
	is(job($node, $running)->{state}, 'running', '... and the job goes on');
	is(polls('quiet'), 0, '... and nothing else is asked about');
	query("SELECT genjob.cancel($_)", undef, 'app') for $running, $quiet;
};

$node->stop;
$standin->stop;
done_testing();

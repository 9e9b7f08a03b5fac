# What a job needs may be made in the same transaction as the job: its server, the server's options, the right to use
# it, the user mapping. The dispatcher can see the row a moment before it learns of the rest, and fails no job for that.
#
# Here that moment lasts half a second, and a due job makes the dispatcher look within it.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use Faults;
use GenJobTest;
use StandIn;

my $library = Faults::build('slow_commit') or plan skip_all => 'there is no C compiler';
my $standin = StandIn->new;
my $node = new_node(name => 'together', conf => 'autovacuum = off');
my $options = "api 'openai-images', url '" . $standin->url . "'";
my $server = "CREATE SERVER brief FOREIGN DATA WRAPPER genjob OPTIONS ($options);";
my $create = "$server CREATE USER MAPPING FOR PUBLIC SERVER brief OPTIONS (api_key 'sk-test');";
my $grant = 'GRANT USAGE ON FOREIGN SERVER brief TO late;';

query(
	q{
	CREATE ROLE late;
	CREATE ROLE users;
	GRANT INSERT, SELECT ON gen_jobs TO late;
	CREATE FOREIGN DATA WRAPPER elsewhere;
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;
	CREATE TRIGGER refuse BEFORE UPDATE OF state ON gen_jobs FOR EACH ROW
		WHEN (NEW.state = 'failed' AND NEW.request ->> 'prompt' = 'poison') EXECUTE FUNCTION refuse();
});

# INSERT of N jobs that are due in so many ms.
sub insert
{
	my ($prompt, $ms, $n) = @_;
	return qq{INSERT INTO gen_jobs (server, request, run_at) SELECT 'brief', '{"prompt": "$prompt"}',
		clock_timestamp() + interval '$ms ms' FROM generate_series(1, $n);};
}

# The same of jobs that are not checked when they are inserted.
sub insert_unchecked { return "SET session_replication_role = replica; @_ RESET session_replication_role;"; }

# No job, no server, no membership.
sub clear
{
	query(q{SET client_min_messages = error;
		DELETE FROM gen_jobs; DROP SERVER IF EXISTS brief CASCADE; REVOKE users FROM late});
	return;
}

# Runs SQL in BEFORE; then a transaction that runs SQL in TOGETHER and inserts three jobs, which succeed. The dispatcher
# knows what there was before, for it has failed a job of the same role. Options: role, which inserts the jobs; poison:
# one row keeps others from being failed together.
sub come_together
{
	my ($before, $together, %option) = @_;
	my $role = $option{role} // 'postgres';
	my $poison = $option{poison} ? insert_unchecked(insert('poison', 150, 1)) : '';
	my $first = insert_unchecked("SET ROLE $role;", insert('first', 0, 1), 'RESET ROLE;');

	clear();
	query("SET client_min_messages = error; $before $first");
	eventually(q{SELECT state = 'failed' FROM gen_jobs WHERE request ->> 'prompt' = 'first'}, 'a job fails before');
	query(
		qq{
		LOAD '$library';
		$poison
		@{[insert_unchecked(insert('meanwhile', 150, 1))]}
		BEGIN;
		SET LOCAL application_name = 'slow commit';
		SET LOCAL client_min_messages = error;
		$together
		SET LOCAL ROLE $role;
		@{[insert('with', 50, 3)]}
		COMMIT;});
	eventually(
		q{SELECT count(*) = 3 FROM gen_jobs
			WHERE state IN ('succeeded', 'failed') AND request ->> 'prompt' = 'with'},
		'those that came together end');
	is( query(q{SELECT DISTINCT state, error FROM gen_jobs WHERE request ->> 'prompt' = 'with'}),
		'succeeded|', '... well');
	return;
}

subtest 'a server may be created together with its jobs' => sub {
	come_together('', $create);
};

subtest 'it may, while one row keeps others from being failed together' => sub {
	come_together('', $create, poison => 1);
};

subtest 'a server of another wrapper may give way together with the jobs' => sub {
	come_together('CREATE SERVER brief FOREIGN DATA WRAPPER elsewhere;', "DROP SERVER brief; $create");
};

subtest 'options that cannot be read may be mended together with the jobs' => sub {
	come_together(
		"ALTER FOREIGN DATA WRAPPER genjob NO VALIDATOR;
		 $create
		 ALTER SERVER brief OPTIONS (ADD max_in_flight 'many');
		 ALTER FOREIGN DATA WRAPPER genjob VALIDATOR genjob.validator;",
		"ALTER SERVER brief OPTIONS (SET max_in_flight '3');");
};

subtest 'the right to use a server may be granted together with the jobs' => sub {
	come_together($create, $grant, role => 'late');
};

subtest 'a membership that gives this right may be granted together with the jobs' => sub {
	come_together("$create GRANT USAGE ON FOREIGN SERVER brief TO users;", 'GRANT users TO late;', role => 'late');
};

subtest 'a user mapping may be created together with the jobs' => sub {
	come_together(
		"$server $grant CREATE USER MAPPING FOR postgres SERVER brief OPTIONS (api_key 'sk-test');",
		"CREATE USER MAPPING FOR late SERVER brief OPTIONS (api_key 'sk-test');",
		role => 'late');
};

$node->stop;
done_testing();

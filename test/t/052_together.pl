# What a job needs may be made in the same transaction as the job: its server, the server's options, the right to use
# it, the user mapping. The dispatcher can see the row a moment before it learns of the rest, and fails no job for that.
#
# Here that moment lasts half a second, and a due job makes the dispatcher look within it.

use strict;
use warnings;

use File::Temp ();
use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest;
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

my $folder = File::Temp->newdir('together-XXXXXX', TMPDIR => 1);
chomp(my $include = `pg_config --includedir-server`);
# the staged PostgreSQL has no headers of its own
$include =~ s{^.*/root/}{/} unless -d $include;
my $made = system('cc', '-shared', '-fPIC', '-O1', "-I$include", '-o', "$folder/slow_commit.so", "$FindBin::Bin/../faults/slow_commit.c") == 0;
plan skip_all => 'there is no C compiler' unless $made;
chmod 0755, "$folder";

my $standin = StandIn->new;
my $node = new_node(name => 'together', conf => 'autovacuum = off');
my $options = "api 'openai-images', url '" . $standin->url . "'";
my $mapping = q{CREATE USER MAPPING FOR PUBLIC SERVER brief OPTIONS (api_key 'sk-test');};

# Jobs that are due in so many ms.
sub insert
{
	my ($prompt, $ms, $n) = @_;
	return qq{INSERT INTO gen_jobs (server, request, run_at) SELECT 'brief', '{"prompt": "$prompt"}',
		clock_timestamp() + interval '$ms ms' FROM generate_series(1, $n);};
}

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

# Jobs that are not checked when they are inserted.
sub insert_unchecked { return "SET session_replication_role = replica; @_ RESET session_replication_role;"; }

# What there is before; then a transaction that makes what jobs need, and three jobs. These succeed. The dispatcher
# knows what there was before, for it has failed a job of the same role.
sub come_together
{
	my ($what, $before, $together, %option) = @_;
	my $role = $option{role} // 'postgres';
	my $poison = $option{poison} ? insert_unchecked(insert('poison', 150, 1)) : '';

	query(q{SET client_min_messages = error; DELETE FROM gen_jobs; DROP SERVER IF EXISTS brief CASCADE});
	query("SET client_min_messages = error; $before @{[insert_unchecked(qq{SET ROLE $role;}, insert('first', 0, 1), 'RESET ROLE;')]}");
	ok($node->poll_query_until('postgres', q{SELECT state = 'failed' FROM gen_jobs WHERE request ->> 'prompt' = 'first'}), "$what: a job fails before");
	query(
		qq{
		LOAD '$folder/slow_commit.so';
		$poison
		@{[insert_unchecked(insert('meanwhile', 150, 1))]}
		BEGIN;
		SET LOCAL application_name = 'slow commit';
		SET LOCAL client_min_messages = error;
		$together
		SET LOCAL ROLE $role;
		@{[insert('with', 50, 3)]}
		COMMIT;});
	ok($node->poll_query_until('postgres', q{SELECT count(*) = 3 FROM gen_jobs WHERE state IN ('succeeded', 'failed') AND request ->> 'prompt' = 'with'}), '... others end');
	is(query(q{SELECT DISTINCT state, error FROM gen_jobs WHERE request ->> 'prompt' = 'with'}), 'succeeded|', '... well');
	return;
}

my $create = "CREATE SERVER brief FOREIGN DATA WRAPPER genjob OPTIONS ($options); $mapping";
my $grant = 'GRANT USAGE ON FOREIGN SERVER brief TO late;';

come_together('a server is created', '', $create);
come_together('the same, while one row keeps others from being failed together', '', $create, poison => 1);
come_together('a server of another wrapper gives way', 'CREATE SERVER brief FOREIGN DATA WRAPPER elsewhere;', "DROP SERVER brief; $create");
come_together('options that cannot be read are mended',
	"ALTER FOREIGN DATA WRAPPER genjob NO VALIDATOR;
	 CREATE SERVER brief FOREIGN DATA WRAPPER genjob OPTIONS ($options, max_in_flight 'many'); $mapping
	 ALTER FOREIGN DATA WRAPPER genjob VALIDATOR genjob.validator;",
	"ALTER SERVER brief OPTIONS (SET max_in_flight '3');");
come_together('the right to use the server is granted', $create, $grant, role => 'late');
come_together('a membership gives it', "$create GRANT USAGE ON FOREIGN SERVER brief TO users;", 'GRANT users TO late;', role => 'late');
query('REVOKE users FROM late');
come_together('a user mapping is created',
	"CREATE SERVER brief FOREIGN DATA WRAPPER genjob OPTIONS ($options); $grant
	 CREATE USER MAPPING FOR postgres SERVER brief OPTIONS (api_key 'sk-test');",
	"CREATE USER MAPPING FOR late SERVER brief OPTIONS (api_key 'sk-test');", role => 'late');

$node->stop;
done_testing();

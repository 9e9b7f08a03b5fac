# A role gains nothing by a trigger on gen_jobs: it may create none, and the dispatcher runs no function of such a role.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use GenJobTest;
use StandIn;

my $standin = StandIn->new;
my $node = new_node(name => 'privileges');
my $trigger = 'CREATE TRIGGER climb BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION climb()';

create_server($node, 'painter', 'openai-images', $standin);
query(
	q{
	CREATE ROLE climber LOGIN;
	GRANT ALL ON gen_jobs TO climber;
	GRANT CREATE ON SCHEMA public TO climber;
	SET ROLE climber;
	CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN IF current_user <> 'climber' THEN ALTER ROLE climber SUPERUSER; END IF; RETURN NEW; END$$;
});

subtest 'the privilege TRIGGER is not enough to create a trigger' => sub {
	like(refusal_of("SET ROLE climber; $trigger"),
		qr/must be owner of table gen_jobs to create a trigger on it/, 'it is refused');
};

# A superuser may create one, and so may a role whose version of genjob had no such check.
subtest 'the dispatcher runs no function of a role, and jobs wait until the trigger is gone' => sub {
	query($trigger);
	my $job = enqueue($node, 'painter', { prompt => 'a ladder' });
	eventually(q{SELECT last_error ~ 'trigger "climb" of table "gen_jobs" runs a function of role "climber"'
		FROM genjob.workers WHERE database = 'postgres'}, 'genjob.workers names the trigger, its table and the role');
	is(query(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'climber'}),
		'f', 'the function was not run with the privileges of the dispatcher');
	is(job($node, $job)->{state}, 'queued', 'and the job waits');
	query('DROP TRIGGER climb ON gen_jobs');
	enqueue($node, 'painter', { prompt => 'another, so that the dispatcher looks at once' });
	ok(wait_state($node, $job, 'succeeded'), 'until the trigger is gone');
};

$node->stop;
$standin->stop;
done_testing();

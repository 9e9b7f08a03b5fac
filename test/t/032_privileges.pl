# A role gains nothing by a trigger on gen_jobs: it may create none, and the dispatcher runs no function of such a role.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/../perl";

use GenJobTest;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'privileges');

create_server($node, 'painter', 'openai-images', $standin);
$node->safe_psql(
	'postgres', q{
	CREATE ROLE climber LOGIN;
	GRANT ALL ON gen_jobs TO climber;
	GRANT CREATE ON SCHEMA public TO climber;
	SET ROLE climber;
	CREATE FUNCTION climb() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN IF current_user <> 'climber' THEN ALTER ROLE climber SUPERUSER; END IF; RETURN NEW; END$$;
});
my $trigger = 'CREATE TRIGGER climb BEFORE UPDATE ON gen_jobs FOR EACH ROW EXECUTE FUNCTION climb()';
my (undef, undef, $refusal) = $node->psql('postgres', "SET ROLE climber; $trigger");
like($refusal, qr/must be owner of table gen_jobs to create a trigger on it/, 'the privilege TRIGGER is not enough');

# A superuser may, and so may one whose version of genjob had no such check.
$node->safe_psql('postgres', $trigger);
my $job = enqueue($node, 'painter', { prompt => 'a ladder' });

ok( $node->poll_query_until(
		'postgres', q{SELECT last_error ~ 'trigger "climb" of table "gen_jobs" runs a function of role "climber"'
			FROM genjob.workers WHERE database = 'postgres'}),
	'genjob.workers names the trigger, its table and the role');
is($node->safe_psql('postgres', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'climber'}),
	'f', 'the function was not run with the privileges of the dispatcher');
is(job($node, $job)->{state}, 'queued', 'and the job waits');

$node->safe_psql('postgres', 'DROP TRIGGER climb ON gen_jobs');
enqueue($node, 'painter', { prompt => 'another, so that the dispatcher looks at once' });
ok(wait_state($node, $job, 'succeeded'), 'until the trigger is gone');

$node->stop;
$standin->stop;
done_testing();

# Tries to get at a superuser's power while CREATE EXTENSION runs, and by the role that it makes: the owner of a
# database plants operators, functions, casts, types and tables first, in the schema that the extension goes to.

use strict;
use warnings;

use FindBin;
use IPC::Run ();

use GenJobTest;
use PostgreSQL::Test::Utils;
use StandIn;
use Test::More;

my $standin = StandIn->new;
my $node = new_node(name => 'install', extension => 0);
my $number = 0;

sub error_of
{
	my ($sql, $database) = @_;
	my (undef, undef, $stderr) = $node->psql($database // 'postgres', $sql);
	return $stderr;
}

sub try_it
{
	my ($sentence, $code) = @_;
	$number++;
	subtest "power install $number: $sentence" => sub {
		$code->();
		is( query(q{SELECT count(*) FROM pg_roles WHERE rolname IN ('mallory', 'genjob_dispatcher') AND (rolsuper OR rolcreaterole)}),
			'0', 'nobody has become more than he was');
	};
	return;
}

sub jobs_run
{
	my ($database) = @_;
	create_server($node, 'painter', 'openai-images', $standin, database => $database);
	my $job = enqueue($node, 'painter', { prompt => "in $database" }, database => $database, expires_at => '2100-01-01');
	# what is planted there would be found by a comparison
	ok($node->poll_query_until($database, "SELECT state FROM public.gen_jobs WHERE id OPERATOR(pg_catalog.=) $job", 'succeeded'),
		"jobs are run in $database");
	return;
}

query('CREATE ROLE mallory LOGIN; CREATE DATABASE shop OWNER mallory');

# ---- what is planted ----

my $climb = q{CREATE FUNCTION public.climb() RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
	BEGIN
		RAISE LOG 'planted code runs as [%]', current_user;
		IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
			EXECUTE 'ALTER ROLE mallory SUPERUSER';
		END IF;
		RETURN true;
	END $$};

# Operators better matching than PostgreSQL's own for what the scripts and statements compare: name, types.
my @operators = (
	[ '=', 'anyenum', 'text' ], [ '=', 'anyenum', 'anyenum' ], [ '=', 'name', 'name' ], [ '=', 'name', 'text' ],
	[ '=', 'text', 'text' ], [ '=', 'text', 'name' ], [ '=', 'bigint', 'bigint' ], [ '=', 'oid', 'oid' ], [ '=', 'boolean', 'boolean' ],
	[ '<>', 'text', 'text' ], [ '<>', 'anyenum', 'text' ],
	[ '>', 'integer', 'integer' ], [ '>', 'bigint', 'integer' ], [ '>=', 'float8', 'numeric' ], [ '<=', 'float8', 'numeric' ],
	[ '>=', 'float8', 'float8' ], [ '<=', 'timestamptz', 'timestamptz' ], [ '>', 'timestamptz', 'timestamptz' ]);
my $n = 0;
my @planted = (
	$climb,
	(
		map {
			my ($operator, $left, $right) = @$_;
			$n++;
			qq{CREATE FUNCTION public.op_$n($left, $right) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT public.climb()';
			CREATE OPERATOR public.$operator (FUNCTION = public.op_$n, LEFTARG = $left, RIGHTARG = $right)}
		} @operators),
	q{CREATE FUNCTION public.plus(timestamptz, interval) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS 'SELECT $1 WHERE public.climb()';
	CREATE OPERATOR public.- (FUNCTION = public.plus, LEFTARG = timestamptz, RIGHTARG = interval)},
	q{CREATE FUNCTION public.times(float8, interval) RETURNS interval LANGUAGE sql IMMUTABLE AS 'SELECT $2 WHERE public.climb()';
	CREATE OPERATOR public.* (FUNCTION = public.times, LEFTARG = float8, RIGHTARG = interval)},
	q{CREATE FUNCTION public.cat(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 WHERE public.climb()';
	CREATE OPERATOR public.|| (FUNCTION = public.cat, LEFTARG = text, RIGHTARG = text)},
	map({ "CREATE FUNCTION public.$_ LANGUAGE plpgsql IMMUTABLE AS \$\$BEGIN RETURN public.climb()::text; END\$\$" }
		'quote_ident(name) RETURNS text', 'quote_ident(text) RETURNS text', 'now() RETURNS timestamptz', 'clock_timestamp() RETURNS timestamptz',
		'pg_has_role(oid, text) RETURNS boolean', 'pg_has_role(regrole, text) RETURNS boolean',
		'set_config(text, text, boolean) RETURNS text', 'pg_extension_config_dump(regclass, text) RETURNS void', 'format(text, text) RETURNS text',
		'coalesce_int(bigint) RETURNS bigint', 'octet_length(bytea) RETURNS integer', 'sha256(bytea) RETURNS bytea', 		'to_regrole(text) RETURNS regrole', 'concat_ws(text, text) RETURNS text', 'pg_options_to_table(text[]) RETURNS text',
		'greatest_time(timestamptz) RETURNS timestamptz', 'rtrim(text, text) RETURNS text', 'btrim(text, text) RETURNS text', 'version() RETURNS text'),
	'CREATE DOMAIN public.regrole AS oid CHECK (public.climb())',
	'CREATE DOMAIN public.timestamptz AS pg_catalog.timestamptz CHECK (public.climb())',
	'CREATE DOMAIN public.jsonb AS pg_catalog.jsonb CHECK (public.climb())',
	'CREATE DOMAIN public.name AS pg_catalog.name CHECK (public.climb())',
	'CREATE DOMAIN public.interval AS pg_catalog.interval CHECK (public.climb())',
	q{CREATE TYPE public.state AS ENUM ('queued')},
	q{CREATE FUNCTION public.to_state(text) RETURNS public.state LANGUAGE sql IMMUTABLE AS $$SELECT 'queued'::public.state WHERE public.climb()$$;
	CREATE CAST (text AS public.state) WITH FUNCTION public.to_state(text) AS IMPLICIT},
	'CREATE TABLE public.pg_extension (oid oid, extname text, extversion text, extnamespace oid)',
	'CREATE TABLE public.pg_depend (classid oid, objid oid, refclassid oid, refobjid oid, deptype "char")',
	'CREATE TABLE public.pg_foreign_server (oid oid, srvname text, srvoptions text[], srvfdw oid)',
	'CREATE VIEW public.pg_authid AS SELECT 0::oid AS oid WHERE public.climb()',
	'CREATE VIEW public.pg_roles AS SELECT 0::oid AS oid WHERE public.climb()');

try_it(
	'operators, functions, casts, types and tables that wait in the schema are not what the install script means',
	sub {
		my $planted = 0;
		foreach my $sql (@planted)
		{
			# some are refused for what they are; what counts is what is there
			$node->psql('shop', $sql, extra_params => [ '-U', 'mallory' ], on_error_stop => 1) == 0 and $planted++;
		}
		cmp_ok($planted, '>=', 40, 'planted are ' . $planted);
		my $from = -s $node->logfile;
		query('CREATE EXTENSION genjob SCHEMA public', 'shop');
		jobs_run('shop');
		my $log = slurp_file($node->logfile, $from);
		unlike($log, qr/planted code runs as/, 'nothing planted has run, neither in the script nor in the dispatcher');
		is( query(
				q{SELECT count(*) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_depend e ON e.classid OPERATOR(pg_catalog.=) d.classid AND e.objid OPERATOR(pg_catalog.=) d.objid
					AND e.deptype OPERATOR(pg_catalog.=) 'e'
				JOIN pg_catalog.pg_proc p ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid OPERATOR(pg_catalog.=) d.refobjid
				WHERE p.proowner OPERATOR(pg_catalog.=) 'mallory'::pg_catalog.regrole}, 'shop'),
			'0', 'and no object of the extension depends on it');
	});

try_it(
	'the same before an upgrade from 0.1.0 is not what the upgrade script means',
	sub {
		chomp(my $folder = `pg_config --sharedir`);
		my $script = slurp_file("$FindBin::Bin/../upgrade/genjob--0.1.0.sql");
		$script =~ s/^SELECT genjob\.version\(\);$//m;
		open my $out, '>', "$folder/extension/genjob--0.1.0.sql" or plan skip_all => 'no old script can be put into the folder of extensions';
		print $out $script;
		close $out;
		query('CREATE DATABASE old OWNER mallory');
		query('CREATE EXTENSION genjob VERSION \'0.1.0\'', 'old');
		$node->psql('old', $_, extra_params => [ '-U', 'mallory' ], on_error_stop => 1) foreach @planted;
		my $from = -s $node->logfile;
		query('ALTER EXTENSION genjob UPDATE', 'old');
		jobs_run('old');
		unlike(slurp_file($node->logfile, $from), qr/planted code runs as/, 'nothing planted has run');
	});

# ---- the role ----

try_it(
	'a role genjob_dispatcher with too many rights is refused',
	sub {
		query('DROP EXTENSION genjob CASCADE', $_) foreach 'shop', 'old';
		query('DROP OWNED BY genjob_dispatcher', $_) foreach 'shop', 'old';
		query('DROP ROLE genjob_dispatcher');
		foreach (
			[ 'CREATE ROLE genjob_dispatcher LOGIN', 'LOGIN' ], [ 'CREATE ROLE genjob_dispatcher SUPERUSER', 'SUPERUSER' ],
			[ 'CREATE ROLE genjob_dispatcher CREATEROLE', 'CREATEROLE' ], [ 'CREATE ROLE genjob_dispatcher BYPASSRLS', 'BYPASSRLS' ],
			[ 'CREATE ROLE genjob_dispatcher ROLE mallory', 'with the members mallory' ],
			[ 'CREATE ROLE genjob_dispatcher IN ROLE pg_write_all_data', 'a member of pg_write_all_data' ])
		{
			my ($make, $what) = @$_;
			query($make);
			like(error_of('CREATE EXTENSION genjob', 'shop'), qr/role "genjob_dispatcher" has too many rights: \Q$what\E.*HINT:  ALTER ROLE/s, $make);
			query('ALTER ROLE genjob_dispatcher NOSUPERUSER; DROP ROLE genjob_dispatcher');
		}
		query('CREATE ROLE genjob_dispatcher');
		# one who was a member, and no more
		query(q{CREATE FUNCTION public.read_all() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
			$$BEGIN RETURN QUERY EXECUTE 'SELECT request::text FROM public.gen_jobs'; END$$;
			ALTER FUNCTION public.read_all() OWNER TO genjob_dispatcher}, 'shop');
		like(error_of('CREATE EXTENSION genjob', 'shop'), qr/role "genjob_dispatcher" has too many rights: with the functions public\.read_all\(\)/, 'a function with its rights');
		query('DROP FUNCTION public.read_all()', 'shop');
		query('CREATE EXTENSION genjob', 'shop');
		is(query('SELECT count(*) FROM pg_extension WHERE extname = \'genjob\'', 'shop'), '1', 'a plain one is as good as one that the script makes');
	});

try_it(
	'two databases create the extension at the same time',
	sub {
		query('DROP EXTENSION genjob', 'shop');
		query('DROP OWNED BY genjob_dispatcher', 'shop');
		query('DROP ROLE genjob_dispatcher');
		query("CREATE DATABASE d$_") foreach 1 .. 4;
		my @psql = map { IPC::Run::start([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr("d$_"), '-c', 'CREATE EXTENSION genjob' ], '<', \undef, '2>', \my $error) } 1 .. 4;
		is(scalar(grep { $_->finish } @psql), 4, 'and all of them have it');
		jobs_run("d$_") foreach 1 .. 4;
	});

try_it(
	'the role cannot be dropped while it owns a queue, and can be taken out when it does not',
	sub {
		like(error_of('DROP ROLE genjob_dispatcher'), qr/cannot be dropped because some objects depend on it/, 'not before');
		query('DROP EXTENSION genjob CASCADE; DROP OWNED BY genjob_dispatcher', "d$_") foreach 1 .. 4;
		query('DROP ROLE genjob_dispatcher');
		is(query(q{SELECT count(*) FROM pg_roles WHERE rolname = 'genjob_dispatcher'}), '0', 'by DROP OWNED in each database, and DROP ROLE');
	});

try_it(
	'what the script grants on the schema does not hide what was granted there before from pg_dump',
	sub {
		query('CREATE SCHEMA queue; GRANT USAGE ON SCHEMA queue TO mallory; REVOKE USAGE ON SCHEMA public FROM PUBLIC; CREATE EXTENSION genjob SCHEMA queue', 'd1');
		my ($dump, $error);
		IPC::Run::run([ 'pg_dump', '--schema-only', '-d', $node->connstr('d1') ], '<', \undef, '>', \$dump, '2>', \$error) or diag($error);
		like($dump, qr/GRANT USAGE ON SCHEMA queue TO mallory;/, 'the GRANT of before is dumped');
		like($dump, qr/GRANT USAGE ON SCHEMA queue TO genjob_dispatcher;/, 'and so is that of the script');
		create_server($node, 'painter', 'openai-images', $standin, database => 'd1');
		my $job = query(q{INSERT INTO queue.gen_jobs (server, request) VALUES ('painter', '{"prompt": "x"}') RETURNING id}, 'd1');
		ok($node->poll_query_until('d1', "SELECT state = 'succeeded' FROM queue.gen_jobs WHERE id = $job"), 'in a schema that PUBLIC may not use jobs are run');
	});

# ---- what others built on 0.1.0 ----

try_it(
	'constants of views and triggers, which the upgrade script makes again, are not read as superuser',
	sub {
		query('CREATE DATABASE older OWNER mallory');
		plan skip_all => 'no old script can be put into the folder of extensions' if error_of('CREATE EXTENSION genjob VERSION \'0.1.0\'', 'older') ne '';
		foreach ($climb, 'CREATE DOMAIN public.checked AS text CHECK (public.climb())', 'CREATE TYPE public.holder AS (part public.checked)',
			q{CREATE TYPE public.mood AS ENUM ('good')}, 'CREATE TYPE public.many AS RANGE (subtype = public.checked)')
		{
			is($node->psql('older', $_, extra_params => [ '-U', 'mallory' ]), 0, $_);
		}
		# an enum may be another type when the view is made again
		my @constants = (q{'(x)'::public.holder}, q{'{x}'::public.checked[]}, q{'{"(x)"}'::public.holder[]}, q{'[a,b]'::public.many}, q{'good'::public.mood});
		my $from = -s $node->logfile;
		foreach my $constant (@constants)
		{
			is($node->psql('older', "CREATE VIEW public.planted AS SELECT server, $constant AS c FROM genjob.servers", extra_params => [ '-U', 'mallory' ]), 0, "a view with $constant");
			like(error_of('ALTER EXTENSION genjob UPDATE', 'older'), qr/ERROR:  genjob cannot be updated while view public.planted uses types that a superuser does not control: .*HINT:  DROP the view/s, '... is not made again');
			query('DROP VIEW public.planted', 'older');
		}
		query(q{CREATE TRIGGER planted BEFORE UPDATE ON public.gen_jobs FOR EACH ROW WHEN (NEW.server = 'x' AND 'good'::public.mood IS NOT NULL)
			EXECUTE FUNCTION suppress_redundant_updates_trigger()}, 'older');
		like(error_of('ALTER EXTENSION genjob UPDATE', 'older'), qr/ERROR:  genjob cannot be updated while trigger planted uses types .*HINT:  DROP TRIGGER planted ON public.gen_jobs/s, 'nor a trigger');
		query(q{DROP TRIGGER planted ON public.gen_jobs;
			CREATE TRIGGER plain BEFORE UPDATE ON public.gen_jobs FOR EACH ROW WHEN (NEW.server = 'x' AND NEW.state = 'failed') EXECUTE FUNCTION suppress_redundant_updates_trigger();
			CREATE SCHEMA admins; GRANT USAGE ON SCHEMA admins TO mallory; CREATE TYPE admins.mood AS ENUM ('good')}, 'older');
		is($node->psql('older', q{CREATE VIEW public.plain AS SELECT server, 'good'::admins.mood AS mood FROM genjob.servers}, extra_params => [ '-U', 'mallory' ]), 0, 'a view with a type of a superuser');
		query('ALTER EXTENSION genjob UPDATE', 'older');
		is(query(q{SELECT count(*) FROM pg_class, pg_trigger WHERE relname = 'plain' AND tgname = 'plain' AND relowner = 'mallory'::regrole}, 'older'), '1', '... is made again, as is a trigger that names types of genjob');
		jobs_run('older');
		is_deeply([ grep { $_ ne 'mallory' } slurp_file($node->logfile, $from) =~ /planted code runs as \[(\w+)\]/g ], [], 'nothing planted has run as somebody else');
	});

try_it(
	'the upgrade rewrites tables that mallory owns, and runs nothing of hers as superuser',
	sub {
		query('CREATE DATABASE given OWNER mallory; ALTER DATABASE given SET quote_all_identifiers = on; ALTER DATABASE given SET standard_conforming_strings = off');
		plan skip_all => 'no old script can be put into the folder of extensions' if error_of('CREATE EXTENSION genjob VERSION \'0.1.0\'', 'given') ne '';
		query('ALTER TABLE public.gen_jobs OWNER TO mallory; ALTER TABLE public.gen_outputs OWNER TO mallory; ALTER TABLE genjob.tenant_weights OWNER TO mallory;
			ALTER TYPE public.gen_job_state OWNER TO mallory; GRANT USAGE ON SCHEMA genjob TO mallory', 'given');
		my @hung = (
			[ 'constraint planted', 'ALTER TABLE public.gen_jobs ADD CONSTRAINT planted CHECK (server IS NOT NULL AND public.climb())', 'ALTER TABLE public.gen_jobs DROP CONSTRAINT planted' ],
			# a function of PostgreSQL that runs a text
			[ 'constraint planted', q{ALTER TABLE genjob.tenant_weights ADD CONSTRAINT planted CHECK (query_to_xml('SELECT public.climb()', true, true, '') IS NOT NULL)}, 'ALTER TABLE genjob.tenant_weights DROP CONSTRAINT planted' ],
			[ 'index public.planted', 'CREATE INDEX planted ON public.gen_jobs ((priority + public.climb()::integer))', 'DROP INDEX public.planted' ],
			[ 'index public.planted', 'CREATE INDEX planted ON public.gen_outputs (ordinal) WHERE public.climb()', 'DROP INDEX public.planted' ],
			[ 'default value for column planted', 'ALTER TABLE public.gen_jobs ADD planted boolean GENERATED ALWAYS AS (public.climb()) STORED', 'ALTER TABLE public.gen_jobs DROP planted' ],
			[ 'column planted', 'CREATE DOMAIN public.checked AS text CHECK (public.climb()); ALTER TABLE public.gen_jobs ADD planted public.checked', 'ALTER TABLE public.gen_jobs DROP planted' ],
			[ 'trigger planted', q{CREATE TRIGGER planted BEFORE UPDATE ON public.gen_jobs FOR EACH ROW WHEN (public.climb()) EXECUTE FUNCTION suppress_redundant_updates_trigger();
				ALTER TABLE public.gen_jobs ENABLE REPLICA TRIGGER planted}, 'DROP TRIGGER planted ON public.gen_jobs' ],
			[ 'rule planted', 'CREATE RULE planted AS ON UPDATE TO public.gen_jobs DO ALSO SELECT public.climb(); ALTER TABLE public.gen_jobs ENABLE ALWAYS RULE planted', 'DROP RULE planted ON public.gen_jobs' ],
			[ 'table public.planted', 'CREATE TABLE public.planted (CHECK (public.climb())) INHERITS (public.gen_jobs)', 'DROP TABLE public.planted' ]);
		is($node->psql('given', $climb, extra_params => [ '-U', 'mallory' ]), 0, 'mallory has a function');
		my $from = -s $node->logfile;
		foreach my $case (@hung)
		{
			my ($name, $hang, $take) = @$case;
			is($node->psql('given', $hang, extra_params => [ '-U', 'mallory' ]), 0, $hang);
			like(error_of('ALTER EXTENSION genjob UPDATE', 'given'), qr/ERROR:  genjob cannot be updated while its tables have what may run code .*: .*\b$name\b.*HINT:  DROP/s, '... stops the update, and is named');
			is($node->psql('given', $take, extra_params => [ '-U', 'mallory' ]), 0, $take);
		}
		query('ALTER TABLE public.gen_jobs OWNER TO postgres; ALTER TABLE public.gen_jobs ADD CONSTRAINT planted CHECK (public.climb()) NOT VALID', 'given');
		like(error_of('ALTER EXTENSION genjob UPDATE', 'given'), qr/superuser: constraint planted on table public\.gen_jobs/, 'nor is a function of hers run that an administrator hung there');
		query(q{ALTER TABLE public.gen_jobs DROP CONSTRAINT planted, OWNER TO mallory; CREATE INDEX plain ON public.gen_jobs ((request ->> 'prompt')) WHERE priority > 0;
			ALTER TABLE public.gen_jobs ADD note text DEFAULT upper('x'); ALTER EXTENSION genjob UPDATE}, 'given');
		is(query(q{SELECT extversion FROM pg_extension WHERE extname = 'genjob'}, 'given'), '0.2.0', 'what only PostgreSQL runs stays');
		is_deeply([ grep { $_ ne 'mallory' } slurp_file($node->logfile, $from) =~ /planted code runs as \[(\w+)\]/g ], [], 'nobody but mallory has run it');
	});

try_it(
	'views that use each other keep the update at work without an end',
	sub {
		query('CREATE DATABASE circle OWNER mallory');
		plan skip_all => 'no old script can be put into the folder of extensions' if error_of('CREATE EXTENSION genjob VERSION \'0.1.0\'', 'circle') ne '';
		my $make = q{CREATE VIEW public.one AS SELECT server FROM genjob.servers; CREATE VIEW public.two AS SELECT server FROM public.one};
		foreach my $close ('CREATE RULE r AS ON INSERT TO public.one DO INSTEAD SELECT * FROM public.two',
			'CREATE OR REPLACE VIEW public.one AS SELECT server FROM genjob.servers UNION SELECT server FROM public.two')
		{
			is($node->psql('circle', "$make; $close", extra_params => [ '-U', 'mallory' ]), 0, $close);
			like(error_of(q{SET statement_timeout = '60s'; ALTER EXTENSION genjob UPDATE}, 'circle'), qr/ERROR:  genjob cannot be updated while view public\.(?:one|two) uses views in a circle/, '... is named');
			query('DROP VIEW public.one CASCADE', 'circle');
		}
		is($node->psql('circle', join('; ', $make, 'CREATE VIEW public.v3 AS SELECT server FROM public.two', map { "CREATE VIEW public.v$_ AS SELECT a.server FROM public.v" . ($_ - 1) . ' a, public.v' . ($_ - 1) . ' b' } 4 .. 60),
			extra_params => [ '-U', 'mallory' ]), 0, 'views on views, 60 deep');
		query('ALTER EXTENSION genjob UPDATE', 'circle');
		is(query(q{SELECT count(*) FROM pg_views WHERE schemaname = 'public' AND viewowner = 'mallory'}, 'circle'), '60', '... are made again');
	});

$node->stop;
$standin->stop;
done_testing();

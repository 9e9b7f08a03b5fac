-- This role owns the tables of the extension, and its dispatchers work as this role.
-- It is no superuser: code that somebody attaches to the tables gains nothing.
DO $$
DECLARE
	wrong text;
	item record;
BEGIN
	IF to_regrole('genjob_dispatcher') IS NULL THEN
		BEGIN
			CREATE ROLE genjob_dispatcher NOLOGIN NOINHERIT;
			COMMENT ON ROLE genjob_dispatcher IS 'owns the tables of the extension genjob, whose dispatchers work as this role';
		EXCEPTION WHEN duplicate_object OR unique_violation THEN
			NULL; -- another database creates the extension at this moment
		END;
	END IF;
	-- Also a membership without INHERIT and SET, as PostgreSQL 16 and later lets the creator of a role keep: its ADMIN
	-- OPTION gives what it lacks.
	SELECT concat_ws(', ', CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolcanlogin THEN 'LOGIN' END,
			CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,
			CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
			(SELECT 'a member of ' || string_agg(m.roleid::regrole::text, ', ') FROM pg_auth_members m WHERE m.member = r.oid),
			(SELECT 'with the members ' || string_agg(m.member::regrole::text, ', ')
				FROM pg_auth_members m JOIN pg_authid a ON a.oid = m.member
				WHERE m.roleid = r.oid AND NOT a.rolsuper),
			-- who was a member once may have left them
			(SELECT 'with the functions ' || string_agg(p.oid::regprocedure::text, ', ')
				FROM pg_proc p WHERE p.proowner = r.oid AND p.prosecdef))
		INTO STRICT wrong FROM pg_authid r WHERE r.rolname = 'genjob_dispatcher';
	IF wrong <> '' THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('role "genjob_dispatcher" has too many rights: %s', wrong),
			DETAIL = 'It owns the tables of genjob, so whoever has its rights reads and changes the jobs of all.',
			HINT = 'ALTER ROLE genjob_dispatcher, REVOKE its memberships, or give its functions to another role, so that it is a plain role without LOGIN; or drop it.';
	END IF;
	FOR item IN
		SELECT format('TABLE %s', d.objid::regclass) AS name FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'v')
			WHERE e.extname = 'genjob' AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_class'::regclass
		UNION ALL
		SELECT format('FUNCTION %s', d.objid::regprocedure) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
			JOIN pg_proc p ON p.oid = d.objid AND p.prosecdef
			WHERE e.extname = 'genjob' AND d.refclassid = 'pg_extension'::regclass AND d.classid = 'pg_proc'::regclass
	LOOP
		EXECUTE format('ALTER %s OWNER TO genjob_dispatcher', item.name);
	END LOOP;
END;
$$;

-- PostgreSQL checks a foreign key as the owner of the tables, who needs USAGE on their schema.
CREATE FUNCTION genjob.grant_unrecorded(text) RETURNS void
	AS 'MODULE_PATHNAME', 'genjob_grant_unrecorded' LANGUAGE C STRICT;
SELECT genjob.grant_unrecorded('GRANT USAGE ON SCHEMA @extschema@ TO genjob_dispatcher');
DROP FUNCTION genjob.grant_unrecorded(text);


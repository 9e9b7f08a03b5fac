--
-- pause: genjob.pause() and genjob.resume(), for one server each
--
\set SHOW_CONTEXT never
\pset null '(null)'

CREATE ROLE regress_genjob_app;
CREATE ROLE regress_genjob_keeper;
CREATE SERVER regress_s FOREIGN DATA WRAPPER genjob
	OPTIONS (api 'http', url 'http://127.0.0.1:9', max_attempts '1', connect_timeout '1 s');
CREATE SERVER "Regress's ""other""" FOREIGN DATA WRAPPER genjob OPTIONS (api 'http', url 'http://127.0.0.1:9');
CREATE FOREIGN DATA WRAPPER regress_dummy;
CREATE SERVER regress_database FOREIGN DATA WRAPPER regress_dummy;

-- an option of the server, so it survives a restart and is in every dump
CREATE VIEW pg_temp.paused AS
	SELECT srvname, (SELECT option_value FROM pg_options_to_table(srvoptions) WHERE option_name = 'paused') AS paused
	FROM pg_foreign_server JOIN pg_foreign_data_wrapper w ON w.oid = srvfdw WHERE fdwname = 'genjob';
TABLE pg_temp.paused ORDER BY srvname;
-- true: changed; false: it was so
SELECT genjob.pause('regress_s'), genjob.pause('regress_s');
SELECT genjob.pause('Regress''s "other"');
TABLE pg_temp.paused ORDER BY srvname;
SELECT genjob.resume('Regress''s "other"'), genjob.resume('Regress''s "other"');
TABLE pg_temp.paused ORDER BY srvname;
-- the same by hand
ALTER SERVER "Regress's ""other""" OPTIONS (SET paused 'yes');
SELECT genjob.pause('Regress''s "other"');
ALTER SERVER "Regress's ""other""" OPTIONS (DROP paused);
SELECT genjob.resume('Regress''s "other"');

-- unknown, of another wrapper, none
SELECT genjob.pause('regress_nowhere');
SELECT genjob.resume('regress_nowhere');
SELECT genjob.pause('regress_database');
SELECT genjob.pause(NULL);

-- only who owns the server
GRANT USAGE ON FOREIGN SERVER regress_s TO regress_genjob_app;
SET ROLE regress_genjob_app;
SELECT genjob.resume('regress_s');
RESET ROLE;
GRANT USAGE ON FOREIGN DATA WRAPPER genjob TO regress_genjob_keeper;
ALTER SERVER regress_s OWNER TO regress_genjob_keeper;
SET ROLE regress_genjob_keeper;
SELECT genjob.resume('regress_s');
SELECT genjob.pause('regress_s');
-- whatever stands in its search_path
CREATE TEMP TABLE pg_foreign_server (srvname name);
SET search_path = pg_temp, public;
SELECT genjob.pause('regress_s');
RESET search_path;
RESET ROLE;

-- a paused server takes jobs, and shows them
INSERT INTO gen_jobs (server, request, run_at) SELECT 'regress_s', '{}', CASE n WHEN 3 THEN timestamptz 'infinity' ELSE now() END
	FROM generate_series(1, 3) n;
SELECT server, api, url, queued, later, in_flight FROM genjob.servers ORDER BY server;
-- and why they do not run, as soon as the dispatcher has looked
DO $$
BEGIN
	FOR i IN 1..600 LOOP
		EXIT WHEN EXISTS (SELECT FROM genjob.servers WHERE server = 'regress_s' AND held_reason IS NOT NULL);
		PERFORM pg_sleep(0.1);
	END LOOP;
END;
$$;
SELECT held_reason, held_until FROM genjob.servers WHERE server = 'regress_s';
-- a wait for one is over when its time is
SELECT state, attempt FROM genjob.wait((SELECT min(id) FROM gen_jobs), '1 ms');

-- resumed, they are run at once: no one listens at that address, so each fails in its one attempt
SELECT genjob.resume('regress_s');
SELECT w.state, w.attempt, w.failures, jsonb_array_length(w.attempt_errors) AS errors, w.finished_at >= w.started_at AS in_order
	FROM gen_jobs j, genjob.wait(j.id, '60 s') w WHERE j.run_at < 'infinity' ORDER BY j.id;
-- its calls are counted off a moment after the jobs have ended
DO $$
BEGIN
	FOR i IN 1..600 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM genjob.servers WHERE in_flight > 0);
		PERFORM pg_sleep(0.1);
	END LOOP;
END;
$$;
SELECT server, queued, later, in_flight FROM genjob.servers ORDER BY server;

-- ---- a server and its first job may come in one transaction: whoever sees the job sees the server ----

DO $$
BEGIN
	FOR i IN 1..50 LOOP
		EXECUTE format('CREATE SERVER regress_many_%s FOREIGN DATA WRAPPER genjob'
			' OPTIONS (api ''http'', url ''http://127.0.0.1:9'', paused ''on'')', i);
		INSERT INTO gen_jobs (server, request) VALUES ('regress_many_' || i, '{}');
		COMMIT;
	END LOOP;
	FOR i IN 1..600 LOOP
		EXIT WHEN NOT EXISTS (SELECT FROM gen_jobs j JOIN genjob.servers s USING (server)
			WHERE server LIKE 'regress\_many\_%' AND j.state = 'queued' AND s.held_reason IS NULL);
		PERFORM pg_sleep(0.1);
	END LOOP;
END;
$$;
SELECT state, error, count(*) FROM gen_jobs WHERE server LIKE 'regress\_many\_%' GROUP BY 1, 2;

DELETE FROM gen_jobs;
DO $$
BEGIN
	FOR i IN 1..50 LOOP
		EXECUTE format('DROP SERVER regress_many_%s', i);
	END LOOP;
END;
$$;
DROP SERVER regress_s, "Regress's ""other""", regress_database;
DROP FOREIGN DATA WRAPPER regress_dummy;
DROP OWNED BY regress_genjob_keeper;
DROP ROLE regress_genjob_app, regress_genjob_keeper;

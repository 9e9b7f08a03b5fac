--
-- columns: the library reads gen_jobs by column number
--
-- These numbers and enum JobColumn of src/life/job.h are the same list: a column that is added goes to the
-- end of both, none is dropped and none moves.
--

SELECT attnum, attname, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null
	FROM pg_attribute WHERE attrelid = 'gen_jobs'::regclass AND attnum > 0 ORDER BY attnum;

-- gen_outputs is read and written by name
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null
	FROM pg_attribute WHERE attrelid = 'gen_outputs'::regclass AND attnum > 0 ORDER BY attnum;

-- the states are looked up by name
SELECT enum_range(NULL::gen_job_state);

-- what is binary, or pictures in base64, is kept as it is, out of line: pictures do not compress
SELECT attrelid::regclass, attname, attstorage FROM pg_attribute
	WHERE attrelid IN ('gen_jobs'::regclass, 'gen_outputs'::regclass) AND attname IN ('inputs', 'remote', 'data')
	ORDER BY 1, 2;

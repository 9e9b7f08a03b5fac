
-- The foreign-data wrapper: a GenAI server is a foreign server, its secrets are user mappings.

CREATE FUNCTION genjob.validator(text[], oid) RETURNS void
	AS 'MODULE_PATHNAME', 'genjob_validator' LANGUAGE C STRICT;
COMMENT ON FUNCTION genjob.validator(text[], oid) IS 'validates options of servers and user mappings';

CREATE FOREIGN DATA WRAPPER genjob VALIDATOR genjob.validator;
COMMENT ON FOREIGN DATA WRAPPER genjob IS 'GenAI servers for gen_jobs';

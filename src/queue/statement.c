/*
 * statement.c
 *		The text of most statements that genjob runs on its tables, and how it
 *		runs any of them.
 *
 * Times, ids and keys are parameters.  Statements on many jobs skip a row that
 * another session has locked; the dispatcher finds it again when that session
 * has committed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"

/* attempts of a row of genjob.callbacks: its owner may have set any number */
#define ATTEMPTS "least(greatest(attempts, 0), 1000000)"
#define CALL_AGAIN "least(interval '1 s' * 2 ^ least(" ATTEMPTS ", 20), interval '1 h')"

/* clang-format off */

/*
 * Locks the jobs of the given rows g that meet the condition; skips jobs that
 * others have locked.  The result has all that the UPDATE needs: the time of
 * another join with the given rows would grow with the square of their number.
 */
#define LOCKED_ROWS(columns, given, condition) \
	"SELECT " columns " FROM " given " JOIN @.gen_jobs j ON j.id = g.id WHERE " condition \
	"  FOR NO KEY UPDATE OF j SKIP LOCKED"
#define HELD_ROWS(given, condition) \
	"held AS MATERIALIZED (" LOCKED_ROWS("g.*", given, condition) ")"

#define HAS_EXPIRED "the job was not started before expires_at. Look at genjob.servers for what delayed it."

static const Statement statements[STATEMENTS] = {
	[FIND_CHANGED] = {1, {INT8ARRAYOID},
		"SELECT id, state = 'queued', state = 'running', attempt, server, owner::oid, tenant, priority, run_at, expires_at,"
		" state IN ('failed', 'cancelled'), follow_up IS NOT NULL, state = 'waiting', state = 'cancelled', blocked_by IS NOT NULL"
		" FROM @.gen_jobs WHERE id = ANY ($1)"},
	/* the index compares run_at: dead rows before $6 cost no table access */
	[FIND_LANES] = {7, {TEXTOID, OIDOID, TEXTOID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID},
		"WITH RECURSIVE lane AS ("
		" (SELECT server, owner, tenant, priority, run_at, id FROM @.gen_jobs"
		"   WHERE state = 'queued' AND (server, owner, tenant, priority) > ($1, $2, $3, $4)"
		"   AND run_at >= $6 AND run_at <= $7"
		"   ORDER BY server, owner, tenant, priority, run_at, id LIMIT 1)"
		" UNION ALL"
		"  SELECT n.* FROM lane l, LATERAL (SELECT j.server, j.owner, j.tenant, j.priority, j.run_at, j.id FROM @.gen_jobs j"
		"   WHERE j.state = 'queued' AND (j.server, j.owner, j.tenant, j.priority) > (l.server, l.owner, l.tenant, l.priority)"
		"   AND j.run_at >= $6 AND j.run_at <= $7"
		"   ORDER BY j.server, j.owner, j.tenant, j.priority, j.run_at, j.id LIMIT 1) n)"
		" SELECT server, owner::oid, tenant, priority, run_at, id FROM lane LIMIT $5"},
	[FIND_READY] = {8, {TEXTARRAYOID, OIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID,
			INT4ARRAYOID, TIMESTAMPTZOID},
		"SELECT l.ordinality, j.id, j.run_at, j.expires_at"
		" FROM unnest($1, $2, $3, $4, $5, $6, $7) WITH ORDINALITY"
		"  l (server, owner, tenant, priority, run_at, id, size, ordinality)"
		" CROSS JOIN LATERAL (SELECT g.id, g.run_at, g.expires_at FROM @.gen_jobs g"
		"  WHERE g.state = 'queued' AND g.server = l.server AND g.owner = l.owner AND g.tenant = l.tenant"
		"  AND g.priority = l.priority AND (g.run_at, g.id) > (l.run_at, l.id) AND g.run_at <= $8"
		"  ORDER BY g.run_at, g.id LIMIT l.size) j"},
	[FIND_WEIGHTS] = {0, {0},
		"SELECT server, tenant, weight::float8 FROM genjob.tenant_weights"},
	[FIND_OWNER_WEIGHTS] = {0, {0},
		"SELECT server, owner::oid, weight::float8 FROM genjob.owner_weights"},
	[FIND_DUE] = {3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID},
		"SELECT id, server, owner::oid, tenant, priority, run_at, expires_at FROM @.gen_jobs"
		" WHERE state = 'queued' AND run_at > $1 AND run_at <= $2 ORDER BY run_at LIMIT $3"},
	[FIND_WAITING] = {3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID},
		"SELECT id, server, owner::oid, tenant, priority, run_at, expires_at FROM @.gen_jobs"
		" WHERE state = 'queued' AND run_at >= $1 AND run_at < $2 ORDER BY run_at DESC LIMIT $3"},
	[FIND_NEXT_DUE] = {1, {TIMESTAMPTZOID},
		"SELECT run_at FROM @.gen_jobs WHERE state = 'queued' AND run_at > $1 ORDER BY run_at LIMIT 1"},
	/*
	 * $1: now, by a calendar that was set back; $2: how far it had come; $3:
	 * since when rows may be from after that, by the new calendar; $4, $5:
	 * most rows to look at, and to change.  Of the jobs that are later now: those that were due,
	 * and those whose time genjob has set, with the rest of their wait.  started_at is set back,
	 * too, so that no later call moves the row again.  IS NOT DISTINCT FROM: with =, the plan might
	 * read all jobs of one run_at for each of them.
	 */
	[KEEP_DUE] = {5, {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, INT4OID},
		"WITH later AS MATERIALIZED (SELECT id, run_at, attempt, created_at, started_at FROM @.gen_jobs"
		"  WHERE state = 'queued' AND run_at > $1 ORDER BY run_at LIMIT $4),"
		" held AS MATERIALIZED (SELECT j.id FROM later l JOIN @.gen_jobs j ON j.id = l.id"
		"  WHERE ((l.run_at <= $2 AND l.created_at NOT BETWEEN $3 AND $1) OR CASE WHEN l.attempt = 0 THEN l.run_at <= l.created_at ELSE l.started_at > $1 AND l.run_at >= l.started_at END)"
		"  AND j.state = 'queued' AND j.run_at IS NOT DISTINCT FROM l.run_at LIMIT $5 FOR NO KEY UPDATE OF j SKIP LOCKED)"
		" UPDATE @.gen_jobs j SET run_at ="
		"  CASE WHEN j.run_at <= $2 OR j.attempt = 0 THEN $1 ELSE $1 + (j.run_at - j.started_at) END,"
		"  started_at = CASE WHEN j.started_at > $1 THEN $1 ELSE j.started_at END"
		" FROM held h WHERE j.id = h.id"},
	[FIND_NEXT_EXPIRY] = {1, {TIMESTAMPTZOID},
		"SELECT expires_at FROM @.gen_jobs WHERE state IN ('waiting', 'queued') AND expires_at >= $1"
		" ORDER BY expires_at LIMIT 1"},
	[FIND_OWNERS] = {1, {INT8ARRAYOID},
		"SELECT id, owner::oid FROM @.gen_jobs WHERE id = ANY ($1)"},
	/* reads no large or unreadable column: a large remote stays a pointer */
	[FIND_ORPHANS] = {2, {INT8OID, INT4OID},
		"SELECT id, server, NULL::jsonb, NULL::bytea[], priority, owner::oid, attempt, failures, max_attempts,"
		" idempotency_key::text, started_at, remote_id, remote, NULL, NULL, NULL, tenant, expires_at, ran_on, backend,"
		" NULL::int4, server_oid, losses, depth, unknown_ends, put_off_since FROM @.gen_jobs WHERE state = 'running' AND NOT claimed_elsewhere"
		" AND id >= $1 ORDER BY id LIMIT $2"},
	[FIND_ATTEMPT] = {1, {INT8OID},
		"SELECT attempt, idempotency_key::text FROM @.gen_jobs WHERE id = $1 AND state = 'running'"},
	[FIND_REMOTE] = {2, {INT8OID, INT4OID},
		"SELECT remote FROM @.gen_jobs WHERE id = $1 AND attempt = $2 AND state = 'running'"},
	[FIND_SPOOLED] = {1, {INT8OID},
		"SELECT attempt, idempotency_key::text, state = 'running', state IN ('failed', 'cancelled'),"
		" state IN ('waiting', 'queued') FROM @.gen_jobs WHERE id = $1"},
	/* the key's prediction is cancelled: the provider would return it again */
	[FORGET_KEY] = {2, {INT8OID, INT4OID},
		"UPDATE @.gen_jobs SET idempotency_key = NULL WHERE id IN (SELECT id FROM @.gen_jobs WHERE id = $1 AND attempt = $2"
		"  AND state IN ('waiting', 'queued') FOR NO KEY UPDATE SKIP LOCKED)"},
	/*
	 * A final row with something in remote means that the provider must still
	 * be told to cancel.  So remote's content goes into result, unless it
	 * cannot be read.
	 */
	[PUT_ASIDE] = {5, {INT8OID, INT4OID, TEXTOID, TIMESTAMPTZOID, BOOLOID},
		"UPDATE @.gen_jobs j SET state = CASE WHEN o.state = 'cancelled' THEN o.state ELSE 'failed' END,"
		" finished_at = CASE WHEN o.state IN ('failed', 'cancelled') THEN j.finished_at ELSE $4 END,"
		" error = CASE WHEN o.state IN ('failed', 'cancelled') THEN concat_ws(' ', j.error, $3) ELSE $3 END,"
		" result = CASE WHEN $5 THEN coalesce(j.remote->'answer', CASE WHEN j.remote_id IS NULL THEN j.remote END, j.result)"
		"  ELSE j.result END,"
		" remote = CASE WHEN NOT $5 THEN j.remote END"
		" FROM (SELECT id, state FROM @.gen_jobs"
		"  WHERE id = $1 AND (state = 'running' AND attempt = $2 OR state = 'queued' AND attempt = $2 - 1"
		"   OR state IN ('failed', 'cancelled') AND attempt = $2 AND remote IS NOT NULL) FOR NO KEY UPDATE) o"
		" WHERE j.id = o.id RETURNING j.id, j.server, j.on_done IS NOT NULL, o.state::text"},
	/* the next server with predictions to cancel */
	[FIND_CANCELLING] = {1, {TEXTOID},
		"SELECT server FROM @.gen_jobs WHERE remote IS NOT NULL AND state IN ('failed', 'cancelled') AND server > $1"
		" AND NOT claimed_elsewhere"
		" ORDER BY server LIMIT 1"},
	/* the columns of FIND_ORPHANS */
	[FIND_CANCELS] = {3, {TEXTOID, INT8OID, INT4OID},
		"SELECT id, server, NULL::jsonb, NULL::bytea[], priority, owner::oid, attempt, failures, max_attempts,"
		" idempotency_key::text, started_at, remote_id, remote, NULL, NULL, NULL, tenant, expires_at, ran_on, backend,"
		" NULL::int4, server_oid, losses, depth, unknown_ends, put_off_since"
		" FROM @.gen_jobs WHERE remote IS NOT NULL AND state IN ('failed', 'cancelled') AND server = $1 AND id > $2"
		" AND NOT claimed_elsewhere"
		" ORDER BY id LIMIT $3"},
	[FIND_EXPIRED] = {2, {TIMESTAMPTZOID, INT4OID},
		"SELECT id, server FROM @.gen_jobs WHERE state IN ('waiting', 'queued') AND expires_at <= $1 ORDER BY expires_at LIMIT $2"},
	[EXPIRE_ONE] = {2, {INT8OID, TIMESTAMPTZOID},
		"UPDATE @.gen_jobs SET state = 'failed', finished_at = $2, error = '" HAS_EXPIRED "'"
		" WHERE id IN (SELECT id FROM @.gen_jobs WHERE state IN ('waiting', 'queued') AND id = $1 AND expires_at <= $2"
		"  FOR NO KEY UPDATE SKIP LOCKED) RETURNING id, server, on_done IS NOT NULL"},
	[FAIL_EXPIRED] = {3, {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID},
		"UPDATE @.gen_jobs SET state = 'failed', finished_at = $1,"
		" error = '" HAS_EXPIRED "'"
		" WHERE id IN (SELECT id FROM @.gen_jobs WHERE state IN ('waiting', 'queued') AND expires_at <= $1 AND expires_at >= $2"
		"  ORDER BY expires_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id, server, on_done IS NOT NULL"},
	/* $3: only this job; null: all due jobs */
	[LOCK_SERVERLESS] = {3, {TEXTOID, TIMESTAMPTZOID, INT8OID},
		"SELECT id FROM @.gen_jobs WHERE state = 'queued' AND server = $1 AND run_at <= $2 AND ($3 IS NULL OR id = $3)"
		" LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED"},
	[FAIL_LOCKED] = {3, {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID},
		"UPDATE @.gen_jobs SET state = 'failed', finished_at = $3, error = $2"
		" WHERE id = ANY ($1) AND state = 'queued' RETURNING id, server, on_done IS NOT NULL"},
	/* jobs that were refused themselves, and jobs that waited behind them */
	[FAIL_OVERDUE] = {4, {TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
		"UPDATE @.gen_jobs SET state = 'failed', finished_at = $3, error = $2"
		" WHERE id IN (SELECT id FROM @.gen_jobs WHERE state = 'queued' AND server = $1"
		"  AND coalesce(put_off_since, run_at) <= $4 LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id, server, on_done IS NOT NULL"},
	[FIND_SERVERLESS] = {2, {TEXTOID, TIMESTAMPTZOID},
		"SELECT id, server FROM @.gen_jobs WHERE state = 'queued' AND server = $1 AND run_at <= $2 LIMIT 1000"},
	/*
	 * A queued row with something in remote was running in a dump or another
	 * cluster: it becomes an orphan, for FIND_ORPHANS, and returns no request.
	 *
	 * Of the rows larger than $8 bytes, claims those that fit into $9 bytes
	 * together, and one that has less than $10 bytes of such rows before it
	 * ($10 = 1: the first, of any size).  After the claimed rows come the
	 * others, with id and wanted bytes.  size counts like memory_body_size(),
	 * but knows only the compressed sizes.
	 */
	[CLAIM] = {10, {INT8ARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
			TEXTARRAYOID, INT4OID, INT8OID, INT8OID},
		"WITH held AS MATERIALIZED (SELECT h.*, sum(size) FILTER (WHERE size > $8) OVER (ROWS UNBOUNDED PRECEDING) AS total"
		" FROM (" LOCKED_ROWS("g.*, CASE WHEN j.remote IS NULL"
			" THEN pg_column_size(j.request) + coalesce(pg_column_size(j.inputs) / 3 * 4, 0) ELSE 0 END AS size",
			"unnest($1, $2, $4, $5, $7) g (id, key, ran_on, backend, server)",
			"j.state = 'queued' AND j.server = g.server AND j.run_at <= $3 AND (j.expires_at IS NULL OR j.expires_at > $3)") ") h),"
		" claimed AS (UPDATE @.gen_jobs j SET state = 'running', attempt = j.attempt + 1, claimed_elsewhere = false,"
		"  started_at = CASE WHEN j.remote IS NULL THEN $3 ELSE coalesce(j.started_at, $3) END,"
		"  idempotency_key = coalesce(j.idempotency_key, g.key),"
		"  ran_on = CASE WHEN j.remote IS NULL THEN g.ran_on ELSE j.ran_on END,"
		"  backend = CASE WHEN j.remote IS NOT NULL OR j.idempotency_key IS NOT NULL AND j.backend = ANY ($6)"
		"   AND j.ran_on IS NOT DISTINCT FROM g.ran_on THEN j.backend ELSE g.backend END"
		" FROM held g WHERE j.id = g.id AND j.state = 'queued'"
		"  AND (g.size <= $8 OR g.total <= $9 OR g.total - g.size < $10)"
		" RETURNING j.id, j.server, j.request, j.inputs, j.priority, j.owner::oid AS owner, j.attempt,"
		"  j.failures, j.max_attempts, j.idempotency_key::text AS key, j.started_at, j.tenant, j.expires_at,"
		"  j.ran_on, j.backend, j.server_oid, j.losses, j.depth, j.unknown_ends, j.put_off_since,"
		"  j.remote IS NULL AS is_new)"
		" SELECT id, server, CASE WHEN is_new THEN request END, inputs, priority, owner, attempt, failures, max_attempts, key, started_at,"
		"  NULL::text, NULL::jsonb, NULL, NULL, NULL, tenant, expires_at, ran_on, backend,"
		"  NULL::int4, server_oid, losses, depth, unknown_ends, put_off_since FROM claimed"
		" UNION ALL"
		" SELECT id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,"
		"  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, size, NULL, NULL, NULL, NULL, NULL FROM held"
		" WHERE size > $8 AND total > $9 AND total - size >= $10"},
	[READ_OUTPUT] = {2, {INT8OID, INT4OID},
		"SELECT j.owner::oid, j.state IN ('succeeded', 'failed', 'cancelled'), o.content_type, o.data,"
		"  o.url, o.store, o.store_oid FROM @.gen_jobs j LEFT JOIN @.gen_outputs o ON o.job_id = j.id AND o.ordinal = $2"
		" WHERE j.id = $1"},
	[READ_RESULT] = {1, {INT8OID},
		"SELECT owner::oid, state IN ('succeeded', 'failed', 'cancelled'), 'application/json'::text, result,"
		"  NULL::text, NULL::text, NULL::oid"
		" FROM @.gen_jobs WHERE id = $1"},
	[FIND_SENT] = {2, {TEXTOID, OIDOID},
		"SELECT DISTINCT j.owner::oid FROM @.gen_outputs o JOIN @.gen_jobs j ON j.id = o.job_id WHERE o.url = $1 AND o.store_oid = $2"},
	/* a large result is $19, of job $18: array elements are copied often */
	[REPORT] = {19, {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
			INT4ARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID, BOOLARRAYOID, INT4ARRAYOID, BOOLARRAYOID, BOOLARRAYOID,
			INT4ARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TIMESTAMPTZOID, INT8OID, JSONBOID},
		"WITH " HELD_ROWS("unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
			"  g (id, attempt, state, result, usage, error, http_status, run_at, counts, keeps_key, losses, begins_errors,"
			"   must_cancel, unknown_ends, put_off_since, body)",
			"j.state = 'running' AND j.attempt = g.attempt")
		" UPDATE @.gen_jobs j SET state = g.state::@.gen_job_state, result = CASE WHEN g.id = $18 THEN $19 ELSE g.result END,"
		"  usage = g.usage::jsonb, error = g.error, failures = j.failures + coalesce(g.counts, 0),"
		"  run_at = coalesce(g.run_at, j.run_at), remote = CASE WHEN g.must_cancel THEN j.remote END,"
		"  remote_id = CASE WHEN g.state <> 'queued' THEN j.remote_id END,"
		"  finished_at = CASE WHEN g.state <> 'queued' THEN $17 END, losses = g.losses,"
		"  unknown_ends = g.unknown_ends, put_off_since = g.put_off_since,"
		"  idempotency_key = CASE WHEN g.keeps_key THEN j.idempotency_key END,"
		"  attempt_errors = CASE WHEN g.error IS NULL OR g.counts IS NULL OR g.state = 'succeeded' THEN j.attempt_errors ELSE"
		"   CASE WHEN g.begins_errors OR jsonb_typeof(j.attempt_errors) IS DISTINCT FROM 'array' THEN '[]'"
		"    WHEN jsonb_array_length(j.attempt_errors) >= 100 THEN j.attempt_errors - 0 ELSE j.attempt_errors END"
		"   || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object('attempt', j.attempt, 'at', $17,"
		"    'http_status', g.http_status, 'error', g.error, 'body', g.body))) END"
		" FROM held g"
		" WHERE j.id = g.id AND j.state = 'running' AND j.attempt = g.attempt RETURNING j.id, j.on_done IS NOT NULL"},
	/* raise an error if a column refuses what REPORT or SAVE would write */
	[TEST_JSON] = {1, {TEXTOID}, "SELECT $1::jsonb"},
	[TEST_ERRORS] = {1, {INT8OID},
		"SELECT CASE WHEN jsonb_array_length(attempt_errors) >= 100 THEN attempt_errors - 0 ELSE attempt_errors END"
		" || jsonb_build_array(repeat(' ', 65536))"
		" FROM @.gen_jobs WHERE id = $1"},
	/* a note replaces old_note, if the error has that already */
	[SAVE] = {10, {INT8ARRAYOID, INT4ARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID,
			TEXTARRAYOID, INT8OID, JSONBOID},
		"WITH " HELD_ROWS("unnest($1, $2, $3, $4, $5, $6, $7, $8)"
			"  g (id, attempt, remote_id, remote, note, old_note, is_final, backend)",
			"j.attempt = g.attempt AND CASE WHEN g.is_final THEN j.state IN ('failed', 'cancelled')"
			" ELSE j.state = 'running' END")
		" UPDATE @.gen_jobs j SET remote_id = CASE WHEN g.is_final THEN coalesce(j.remote_id, g.remote_id) ELSE g.remote_id END,"
		"  remote = CASE WHEN g.id = $9 THEN $10 ELSE g.remote END,"
		"  backend = CASE WHEN g.remote IS NOT NULL OR g.id = $9 THEN g.backend ELSE j.backend END,"
		"  error = CASE WHEN g.note IS NULL THEN j.error"
		"   WHEN strpos(j.error, g.old_note) > 0 THEN replace(j.error, g.old_note, g.note)"
		"   ELSE concat_ws(CASE WHEN right(j.error, 1) = '.' THEN ' ' ELSE '. ' END, j.error, g.note) END"
		" FROM held g WHERE j.id = g.id AND j.attempt = g.attempt RETURNING j.id, j.attempt"},
	/*
	 * Deletes a job's outputs after the first n ($2), and single ones ($4).
	 * Outputs that others have locked stay.
	 */
	[FORGET_OUTPUTS] = {4, {INT8ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT4ARRAYOID},
		"WITH surplus AS MATERIALIZED (SELECT o.job_id, o.ordinal FROM unnest($1, $2) g (id, n)"
		"  JOIN @.gen_outputs o ON o.job_id = g.id AND o.ordinal > g.n FOR UPDATE OF o SKIP LOCKED),"
		" gap AS MATERIALIZED (SELECT o.job_id, o.ordinal FROM unnest($3, $4) g (id, ordinal)"
		"  JOIN @.gen_outputs o ON o.job_id = g.id AND o.ordinal = g.ordinal FOR UPDATE OF o SKIP LOCKED)"
		" DELETE FROM @.gen_outputs o USING (SELECT * FROM surplus UNION ALL SELECT * FROM gap) s"
		" WHERE o.job_id = s.job_id AND o.ordinal = s.ordinal"},
	[STORE_OBJECT] = {9, {INT8OID, INT4OID, TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, OIDOID},
		"INSERT INTO @.gen_outputs (job_id, ordinal, content_type, bytes, sha256, url, etag, store, store_oid)"
		" VALUES ($1, $2, $3, $4, decode($5, 'hex'), $6, $7, $8, $9)"
		" ON CONFLICT (job_id, ordinal) DO UPDATE SET content_type = excluded.content_type, bytes = excluded.bytes,"
		"  sha256 = excluded.sha256, data = NULL, url = excluded.url, etag = excluded.etag, store = excluded.store,"
		"  store_oid = excluded.store_oid"},
	/* updates an earlier attempt's row: tables of others may refer to it */
	[STORE_OUTPUT] = {4, {INT8OID, INT4OID, TEXTOID, BYTEAOID},
		"INSERT INTO @.gen_outputs (job_id, ordinal, content_type, bytes, sha256, data)"
		" VALUES ($1, $2, $3, octet_length($4), sha256($4), $4)"
		" ON CONFLICT (job_id, ordinal) DO UPDATE SET content_type = excluded.content_type, bytes = excluded.bytes,"
		"  sha256 = excluded.sha256, data = excluded.data, url = NULL, etag = NULL, store = NULL, store_oid = NULL"},
	/* ---- what follows an end ---- */
	[FIND_ENDED] = {1, {INT8ARRAYOID},
		"SELECT id, state::text, server, owner::oid, depth, on_done IS NOT NULL, server_oid FROM @.gen_jobs"
		" WHERE id = ANY ($1) AND state IN ('succeeded', 'failed', 'cancelled')"},
	[TAKE_FOLLOW_UPS] = {2, {INT4OID, BOOLOID},
		"UPDATE @.gen_jobs j SET follow_up = NULL FROM (SELECT id, follow_up FROM @.gen_jobs WHERE follow_up IS NOT NULL"
		"  AND ($2 OR follow_up <> '{notify}') ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED) o"
		" WHERE j.id = o.id RETURNING j.id, o.follow_up"},
	[FIND_FOLLOW_UPS] = {1, {BOOLOID},
		"SELECT FROM @.gen_jobs WHERE follow_up IS NOT NULL AND ($1 OR follow_up <> '{notify}') LIMIT 1"},
	/*
	 * A tenant of 256 control characters and a request_id of 1,024 make a
	 * payload longer than PostgreSQL accepts; from replication they may be
	 * even longer.
	 */
	[NOTIFY_ENDS] = {2, {INT8ARRAYOID, TEXTARRAYOID},
		"SELECT pg_notify(g.channel, (CASE WHEN octet_length(p.payload::text) < 8000 THEN p.payload"
		"  WHEN octet_length((p.payload || '{\"tenant\": null}')::text) < 8000 THEN p.payload || '{\"tenant\": null}'"
		"  ELSE p.payload || '{\"tenant\": null, \"request_id\": null}' END)::text)"
		" FROM unnest($1, $2) g (id, channel) JOIN @.gen_jobs j ON j.id = g.id"
		" CROSS JOIN LATERAL (SELECT jsonb_build_object('id', j.id, 'state', j.state, 'server', j.server, 'tenant', j.tenant,"
		"  'request_id', j.request_id) AS payload) p"},
	[HAND_OVER] = {3, {INT8ARRAYOID, TIMESTAMPTZOID, TEXTARRAYOID},
		"INSERT INTO @.gen_jobs (server, owner, tenant, priority, run_at, created_at, depth, request)"
		" SELECT g.target, j.owner, j.tenant, j.priority, $2, $2, j.depth + 1, jsonb_build_object('id', j.id, 'server', j.server,"
		"  'tenant', j.tenant, 'request_id', j.request_id, 'state', j.state, 'result', j.result, 'error', j.error,"
		"  'usage', j.usage, 'finished_at', j.finished_at, 'outputs', coalesce((SELECT jsonb_agg(jsonb_build_object("
		"    'ordinal', o.ordinal, 'content_type', o.content_type, 'bytes', o.bytes, 'sha256', encode(o.sha256, 'hex'),"
		"    'url', o.url,"
		"    'place', jsonb_build_object(CASE WHEN o.url IS NULL THEN '$output' ELSE '$output_url' END, jsonb_build_array(o.job_id, o.ordinal))) ORDER BY o.ordinal)"
		"   FROM @.gen_outputs o WHERE o.job_id = j.id), '[]'))"
		" FROM unnest($1, $3) g (id, target) JOIN @.gen_jobs j ON j.id = g.id"},
	[ADD_CALLBACKS] = {2, {INT8ARRAYOID, TIMESTAMPTZOID},
		"INSERT INTO genjob.callbacks (job_id, attempt, owner, run_at, created_at)"
		" SELECT id, attempt, owner, $2, $2 FROM @.gen_jobs WHERE id = ANY ($1) ORDER BY id"},
	[NOTE_ENDS] = {3, {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
		"UPDATE @.gen_jobs j SET follow_up = g.follow_up::text[], error = CASE WHEN g.note IS NULL THEN j.error"
		"  ELSE concat_ws(CASE WHEN right(j.error, 1) = '.' THEN ' ' ELSE '. ' END, j.error, g.note) END"
		" FROM unnest($1, $2, $3) g (id, note, follow_up) WHERE j.id = g.id"},
	[NOTE_END] = {2, {INT8OID, TEXTOID},
		"UPDATE @.gen_jobs SET error = concat_ws(CASE WHEN right(error, 1) = '.' THEN ' ' ELSE '. ' END, error, $2) WHERE id = $1"},
	/* for each role, when its first call is due */
	[FIND_CALLBACKS] = {1, {INT4OID},
		"WITH RECURSIVE first AS ("
		" (SELECT owner, run_at FROM genjob.callbacks WHERE run_at < 'infinity' ORDER BY owner, run_at LIMIT 1)"
		" UNION ALL"
		"  SELECT n.* FROM first f, LATERAL (SELECT c.owner, c.run_at FROM genjob.callbacks c WHERE c.owner > f.owner"
		"   AND c.run_at < 'infinity' ORDER BY c.owner, c.run_at LIMIT 1) n)"
		" SELECT owner::oid, run_at FROM (SELECT * FROM first LIMIT $1) f ORDER BY run_at"},
	/* $4: failures after which to give up; $5: failures to count, 0 or 1 */
	[BLOCK_CALLBACKS] = {6, {OIDOID, TEXTOID, TIMESTAMPTZOID, INT4OID, INT4OID, TIMESTAMPTZOID},
		"UPDATE genjob.callbacks SET error = $2, attempts = " ATTEMPTS " + $5, run_at = CASE WHEN $5 = 0 THEN $6"
		"  WHEN " ATTEMPTS " + $5 >= $4 THEN 'infinity' ELSE $3 + " CALL_AGAIN " END"
		" WHERE id IN (SELECT id FROM genjob.callbacks WHERE owner = $1 AND run_at <= $3 AND run_at < 'infinity' ORDER BY owner, run_at, id"
		"  LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED)"},
	/* true if the row exists and is locked */
	[FAIL_CALLBACK] = {4, {INT8OID, TEXTOID, TIMESTAMPTZOID, INT4OID},
		"WITH failed AS (UPDATE genjob.callbacks SET error = $2, attempts = " ATTEMPTS " + 1,"
		"  run_at = CASE WHEN " ATTEMPTS " + 1 >= $4 THEN 'infinity' ELSE $3 + " CALL_AGAIN " END"
		"  WHERE id IN (SELECT id FROM genjob.callbacks WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED) RETURNING id)"
		" SELECT EXISTS (SELECT FROM genjob.callbacks WHERE id = $1) AND NOT EXISTS (SELECT FROM failed)"},
};

/* clang-format on */

static SPIPlanPtr plans[STATEMENTS];

#define MAX_COLUMNS 64 /* of a result that statement_read_row() takes */

/* The row that statement_read_row() took apart; tuple NULL: none */
static struct
{
	HeapTuple tuple;
	Datum values[MAX_COLUMNS];
	bool nulls[MAX_COLUMNS];
} row_read;
static char schema[NAMEDATALEN];     /* of the tables; empty until queue_look() */
uint64 statement_schema_changes = 0; /* how often schema has changed */

static SPIPlanPtr
prepare_statement(const Statement *statement)
{
	StringInfoData text;
	const char *p;
	SPIPlanPtr plan;

	initStringInfo(&text);
	for (p = statement->text; *p != '\0'; p++)
	{
		if (*p == '@')
			appendStringInfoString(&text, quote_identifier(schema));
		else
			appendStringInfoChar(&text, *p);
	}
	plan = SPI_prepare(text.data, statement->nargs, (Oid *) statement->args);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare: %s", text.data);
	return plan;
}

/*
 * Runs a statement.  Its plan is kept in *plan; the caller sets that to NULL when statement_schema_changes changes.
 * args and nulls as for SPI_execute_plan().
 */
uint64
statement_execute(const Statement *statement, SPIPlanPtr *plan, Datum *args, const char *nulls)
{
	int code;

	/* a table of that name may be anyone's */
	if (!tables_are_known())
		ereport(ERROR, (errcode(QUEUE_GONE), errmsg("the tables of genjob are gone")));
	statement_forget_row();
	if (*plan == NULL)
		*plan = prepare_statement(statement);
	code = SPI_execute_plan(*plan, args, nulls, false, 0);
	if (code < 0)
		elog(ERROR, "could not execute a statement: %s: %s", SPI_result_code_string(code),
			 statement->text);
	return SPI_processed;
}

uint64
statement_run(StatementId id, Datum *args, const char *nulls)
{
	return statement_execute(&statements[id], &plans[id], args, nulls);
}

/*
 * Sets the schema of the tables.  Forgets plans for another schema.
 */
void
statement_set_schema(const char *name)
{
	if (strcmp(name, schema) == 0)
		return;
	strlcpy(schema, name, sizeof(schema));
	memset(plans, 0, sizeof(plans));
	statement_schema_changes++;
}

/* The schema of the tables; empty while there are none. */
const char *
statement_schema(void)
{
	return schema;
}

/*
 * Makes result the last result.
 */
void
statement_set_result(SPITupleTable *result)
{
	statement_forget_row();
	SPI_tuptable = result;
}

void
statement_forget_row(void)
{
	row_read.tuple = NULL;
}

/*
 * Deforms a row of the last result once, so that statement_value() need not
 * walk it from its beginning for each column.  Lasts until
 * statement_forget_row(), which error paths call, too.
 */
void
statement_read_row(uint64 row)
{
	if (row_read.tuple == SPI_tuptable->vals[row])
		return;
	Assert(SPI_tuptable->tupdesc->natts <= MAX_COLUMNS);
	heap_deform_tuple(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, row_read.values,
					  row_read.nulls);
	row_read.tuple = SPI_tuptable->vals[row];
}

/* A column of a row of the last result. */
Datum
statement_value(uint64 row, int column, bool *isnull)
{
	HeapTuple tuple = SPI_tuptable->vals[row];

	if (row_read.tuple != tuple)
		return SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, isnull);
	*isnull = row_read.nulls[column - 1];
	return row_read.values[column - 1];
}

Datum
statement_not_null(uint64 row, int column)
{
	bool isnull;
	Datum datum = statement_value(row, column, &isnull);

	if (isnull)
		elog(ERROR, "unexpected null in column %d", column);
	return datum;
}

/* The name of a server, palloc'd. */
char *
statement_name(uint64 row, int column)
{
	return TextDatumGetCString(statement_not_null(row, column));
}

/* A time; 0 for null.  The time 0 itself becomes 1. */
TimestampTz
statement_time_or_none(uint64 row, int column)
{
	bool isnull;
	Datum datum = statement_value(row, column, &isnull);

	if (isnull)
		return 0;
	return DatumGetTimestampTz(datum) == 0 ? 1 : DatumGetTimestampTz(datum);
}

ArrayType *
statement_int8_array(const int64 *values, int n)
{
	Datum *datums = palloc(Max(n, 1) * sizeof(Datum));
	int i;

	for (i = 0; i < n; i++)
		datums[i] = Int64GetDatum(values[i]);
	return construct_array(datums, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

ArrayType *
statement_int4_array(const int32 *values, int n)
{
	Datum *datums = palloc(Max(n, 1) * sizeof(Datum));
	int i;

	for (i = 0; i < n; i++)
		datums[i] = Int32GetDatum(values[i]);
	return construct_array(datums, n, INT4OID, sizeof(int32), true, TYPALIGN_INT);
}

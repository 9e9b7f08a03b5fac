/*
 * claim.c
 *		Starting attempts: from a queued row to a Job in memory.
 *
 * The claim is committed before anything is sent: it is the intent to spend, with the key under which
 * the spending can be recognized.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "clock.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "schedule.h"

#define MAX_USABLE 256       /* backends that a job may go back to */
#define LOCKED_RETRY_MS 1000 /* when to look again at rows that were locked */

/*
 * Text of the database as UTF-8, palloc'd.  A database of the encoding SQL_ASCII is taken by its word.
 */
static char *
utf8_from_text(Datum datum)
{
	char *string = TextDatumGetCString(datum);

	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		return string;
	return pg_server_to_any(string, strlen(string), PG_UTF8);
}

/*
 * Reads the column inputs.  INSERT refuses nulls in it, but replication brings them.
 */
static void
read_inputs(Job *job, Datum datum)
{
	ArrayType *array = DatumGetArrayTypePCopy(datum);
	Datum *elements;
	bool *nulls;
	int i;

	deconstruct_array(array, BYTEAOID, -1, false, TYPALIGN_INT, &elements, &nulls, &job->n_inputs);
	job->inputs = palloc0(Max(job->n_inputs, 1) * sizeof(Input));
	for (i = 0; i < job->n_inputs; i++)
	{
		if (nulls[i])
		{
			job->complaint = pstrdup(
				"inputs has a null in it. Insert the job again with one bytea for each input.");
			continue;
		}
		job->inputs[i].data = VARDATA_ANY(DatumGetPointer(elements[i]));
		job->inputs[i].len = VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i]));
	}
	pfree(elements);
	pfree(nulls);
}

/*
 * Finds out whether and with what the job may be sent.
 */
static void
authorize(Job *job)
{
	ServerComplaint complaint;

	job->server = job->queue->server ? server_hold(job->queue->server) : NULL;
	if (job->server == NULL)
		job->complaint = pstrdup(job->queue->complaint ? job->queue->complaint : "");
	else if (!server_check_role(job->server, job->owner, &complaint) ||
			 !server_read_secrets(job->server, job->owner, &job->secrets, &complaint))
		job->complaint = psprintf("%s. %s", complaint.message, complaint.hint);
	if (job->server != NULL)
		job->options = job->place.limits ? server_backend(job->server, job->place.backend->url)
										 : &job->server->options;
}

static char *
text_or_null(uint64 row, int column)
{
	bool isnull;
	Datum datum = statement_value(row, column, &isnull);

	return isnull ? NULL : utf8_from_text(datum);
}

/*
 * Makes a Job of a row of CLAIM or FIND_ORPHANS.
 */
static Job *
job_from_row(uint64 row)
{
	Job *job = job_create(DatumGetInt64(statement_not_null(row, 1)));
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	Datum datum;
	bool isnull;

	job->server_name = pstrdup(statement_name(row, 2));
	MemoryContextSwitchTo(job->input_context);
	datum = statement_value(row, 3, &isnull);
	job->request = isnull ? NULL : utf8_from_text(datum);
	datum = statement_value(row, 4, &isnull);
	if (!isnull)
		read_inputs(job, datum);
	MemoryContextSwitchTo(job->context);
	job->priority = DatumGetInt32(statement_not_null(row, 5));
	job->owner = DatumGetObjectId(statement_not_null(row, 6));
	job->attempt = DatumGetInt32(statement_not_null(row, 7));
	job->failures = DatumGetInt32(statement_not_null(row, 8));
	datum = statement_value(row, 9, &isnull);
	job->max_attempts = isnull ? 0 : DatumGetInt32(datum);
	job->idempotency_key = text_or_null(row, 10);
	datum = statement_value(row, 11, &isnull);
	job->started_at = isnull ? clock_now() : DatumGetTimestampTz(datum);
	job->remote.id = text_or_null(row, 12);
	job->remote.urls = text_or_null(row, 13);
	job->remote.answer = text_or_null(row, 14);
	datum = statement_value(row, 15, &isnull);
	job->remote.is_private = !isnull && DatumGetBool(datum);
	job->remote.usage = text_or_null(row, 16);
	job->tenant = TextDatumGetCString(statement_not_null(row, 17));
	datum = statement_value(row, 18, &isnull);
	job->expires_at = isnull ? 0 : DatumGetTimestampTz(datum);
	MemoryContextSwitchTo(caller);
	return job;
}

/*
 * Gives a job the server that runs it and the place there, and finds out whether it may be sent.
 */
static void
assign(Job *job, ServerQueue *queue, Place place)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);

	job->queue = queue;
	job->place = place;
	authorize(job);
	MemoryContextSwitchTo(caller);
}

static ArrayType *
random_keys(int n)
{
	Datum *keys = palloc(n * sizeof(Datum));
	pg_uuid_t *uuids = palloc(n * sizeof(pg_uuid_t));
	int i;

	if (!pg_strong_random(uuids, n * sizeof(pg_uuid_t)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	for (i = 0; i < n; i++)
	{
		pg_uuid_t *uuid = &uuids[i];

		/* version 4, of RFC 9562 */
		uuid->data[6] = (uuid->data[6] & 0x0f) | 0x40;
		uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
		keys[i] = UUIDPGetDatum(uuid);
	}
	return construct_array(keys, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR);
}

/*
 * Whether a claimed job goes on with the key of an earlier attempt; new_key is what it was offered.
 */
static bool
has_kept_key(const Job *job, const ArrayType *keys, int i)
{
	pg_uuid_t *new_key = (pg_uuid_t *) ARR_DATA_PTR(keys) + i;

	/* its first attempt has none to go on with */
	return job->attempt > 1 && job->idempotency_key != NULL &&
		   strcmp(job->idempotency_key,
				  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(new_key)))) != 0;
}

/*
 * Runs CLAIM for these turns, which are offered the keys; returns the number of rows.
 */
static uint64
run_claim(const Turn *turns, int n, ArrayType *keys, TimestampTz now)
{
	int64 *ids = palloc(n * sizeof(int64));
	Datum *homes = palloc(n * sizeof(Datum));
	Datum *servers = palloc(n * sizeof(Datum));
	bool *at_home = palloc(n * sizeof(bool));
	bool *is_only = palloc(n * sizeof(bool));
	Datum *backends = palloc(n * sizeof(Datum));
	const char *usable[MAX_USABLE];
	Datum usable_texts[MAX_USABLE];
	int n_usable = schedule_list_usable(usable, MAX_USABLE);
	Datum args[7];
	int dims[1] = {n};
	int lbs[1] = {1};
	int i;

	for (i = 0; i < n; i++)
	{
		ids[i] = turns[i].id;
		homes[i] = NameGetDatum(&turns[i].home->name);
		servers[i] = NameGetDatum(&turns[i].queue->name);
		at_home[i] = turns[i].queue == turns[i].home;
		is_only[i] = turns[i].queue->server->n_backends == 1;
		backends[i] = CStringGetTextDatum(turns[i].place.backend->url);
	}
	for (i = 0; i < n_usable; i++)
		usable_texts[i] = CStringGetTextDatum(usable[i]);
	args[0] = PointerGetDatum(statement_int8_array(ids, n));
	args[1] = PointerGetDatum(keys);
	args[2] = TimestampTzGetDatum(now);
	args[3] = PointerGetDatum(construct_md_array(servers, at_home, 1, dims, lbs, NAMEOID,
												 NAMEDATALEN, false, TYPALIGN_CHAR));
	args[4] = PointerGetDatum(
		construct_md_array(backends, is_only, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[5] =
		PointerGetDatum(construct_array(usable_texts, n_usable, TEXTOID, -1, false, TYPALIGN_INT));
	args[6] =
		PointerGetDatum(construct_array(homes, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
	return statement_run(CLAIM, args, NULL);
}

/*
 * The place of a job that may have been sent to another backend before, and should go there again:
 * that one may know its Idempotency-Key.
 */
static void
keep_backend(uint64 row, Turn *turn)
{
	bool isnull;
	Datum backend = statement_value(row, 20, &isnull);

	if (!isnull)
		limits_move(&turn->place, TextDatumGetCString(backend));
}

static int
compare_turns(const void *a, const void *b)
{
	int64 left = (*(Turn *const *) a)->id;
	int64 right = (*(Turn *const *) b)->id;

	return (left > right) - (left < right);
}

/*
 * Looks again at jobs that could not be claimed: they are not queued any more, or for another server, or
 * someone has them locked.  These are left alone for a moment.
 */
static void
settle_missing(Turn *const *missing, int n, TimestampTz now)
{
	int64 *ids = palloc(n * sizeof(int64));
	int i;

	for (i = 0; i < n; i++)
		ids[i] = missing[i]->id;
	queue_read_changed(ids, n, now);
	for (i = 0; i < n; i++)
	{
		const char *server_name = lanes_server(ids[i]);

		if (server_name == NULL || strcmp(server_name, NameStr(missing[i]->home->name)) != 0)
			continue;
		schedule_put_off(ids[i], now + LOCKED_RETRY_MS * INT64CONST(1000), false);
	}
}

/*
 * Keeps the jobs of an owner who may not use the fallback that was to run them for their own server.
 */
static void
check_fallback(Turn *turn, Oid owner)
{
	const Server *fallback = turn->queue->server;
	MappingOptions secrets;
	ServerComplaint complaint;

	if (server_check_role(fallback, owner, &complaint) &&
		server_read_secrets(fallback, owner, &secrets, &complaint))
		return;
	limits_give_back(&turn->place);
	schedule_bind(turn->id, turn->home, psprintf("%s. %s", complaint.message, complaint.hint));
}

/*
 * Takes those out of n turns whose owners may not use the server that is to run them, and that is not
 * the job's own; returns how many are left.
 */
int
queue_keep_home(Turn *turns, int n)
{
	int64 *ids = palloc(Max(n, 1) * sizeof(int64));
	int n_away = 0;
	int kept = 0;
	uint64 rows = 0;
	uint64 row;
	int i;

	for (i = 0; i < n; i++)
	{
		if (turns[i].queue != turns[i].home)
			ids[n_away++] = turns[i].id;
	}
	if (n_away > 0)
	{
		Datum args[1] = {PointerGetDatum(statement_int8_array(ids, n_away))};

		rows = statement_run(FIND_OWNERS, args, NULL);
	}
	for (row = 0; row < rows; row++)
	{
		int64 id = DatumGetInt64(statement_not_null(row, 1));

		for (i = 0; i < n; i++)
		{
			if (turns[i].id == id)
				check_fallback(&turns[i], DatumGetObjectId(statement_not_null(row, 2)));
		}
	}
	for (i = 0; i < n; i++)
	{
		if (turns[i].place.limits != NULL)
			turns[kept++] = turns[i];
	}
	return kept;
}

/*
 * Starts an attempt of these jobs: each one that is still queued becomes a Job in the state JOB_CLAIMED,
 * in the order of turns, and has the turn's place; the others' places are given back.  Those that
 * someone has locked are looked at again later.
 */
void
queue_claim(Turn *turns, int n, TimestampTz now)
{
	ArrayType *keys = random_keys(n);
	uint64 rows = run_claim(turns, n, keys, now);
	Turn **by_id = palloc(n * sizeof(Turn *));
	Turn **missing = palloc(n * sizeof(Turn *));
	int n_missing = 0;
	uint64 row;
	int i;

	for (i = 0; i < n; i++)
		by_id[i] = &turns[i];
	qsort(by_id, n, sizeof(Turn *), compare_turns);
	for (row = 0; row < rows; row++)
	{
		Job *job = job_from_row(row);
		Turn key = {.id = job->id};
		Turn *key_pointer = &key;
		Turn *turn = *(Turn **) bsearch(&key_pointer, by_id, n, sizeof(Turn *), compare_turns);
		Place place;

		keep_backend(row, turn);
		/* whoever has the place leaves it, also when an error ends this: one of both */
		place = turn->place;
		turn->place.limits = NULL;
		assign(job, turn->queue, place);
	}
	for (i = 0; i < n; i++)
	{
		Job *job = job_find(turns[i].id);

		if (job != NULL && job->state == JOB_CLAIMED)
		{
			job_enter(job, JOB_CLAIMED);
			job->key_is_kept = has_kept_key(job, keys, i);
			queue_read_references(job);
			continue;
		}
		limits_give_back(&turns[i].place);
		if (job == NULL)
			missing[n_missing++] = &turns[i];
	}
	if (n_missing > 0)
		settle_missing(missing, n_missing, now);
}

/*
 * Makes a Job of every running row that this dispatcher does not know: the calls were under way when
 * genjob last stopped.
 */
void
queue_read_orphans(void)
{
	uint64 rows = statement_run(FIND_ORPHANS, NULL, NULL);
	uint64 row;

	for (row = 0; row < rows; row++)
	{
		ServerQueue *queue;
		Job *job;
		bool isnull;

		if (job_find(DatumGetInt64(statement_not_null(row, 1))) != NULL)
			continue;
		job = job_from_row(row);
		(void) statement_value(row, 19, &isnull);
		queue = schedule_queue(isnull ? job->server_name : statement_name(row, 19));
		schedule_refresh();
		assign(job, queue, limits_resume(&queue->limits, text_or_null(row, 20), clock_now()));
	}
}

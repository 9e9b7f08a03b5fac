/*
 * claim.c
 *		Starts attempts: turns a queued row into a Job in memory.
 *
 * The dispatcher commits the claim before it sends anything.  The claim
 * records the intent to spend, and the Idempotency-Key of the call.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "base/clock.h"
#include "base/jsonb.h"
#include "base/marker.h"
#include "base/memory.h"
#include "queue/direct.h"
#include "queue/jobrow.h"
#include "queue/queue.h"
#include "queue/sent.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "base/digest.h"
#include "schedule/memoryline.h"
#include "schedule/schedule.h"
#include "server/shape.h"

#define MAX_USABLE 256 /* backends that a job may go back to */
#define BACKEND_IS_FULL \
	"an earlier attempt may have gone to an address that has no room now. The job waits for that address: another one might charge again."

/* Turns that are used together. */
typedef struct Claiming
{
	Turn *turns;
	int n;
	pg_uuid_t *keys; /* the key offered to each turn's job */
	Turn **refused;  /* turns whose jobs found no room in memory */
	int n_refused;
	int n_orphans; /* claimed rows that are taken up as orphans, without a place */
} Claiming;

/*
 * Makes a random Idempotency-Key for each turn.  Its last 4 bytes are a digest
 * of the server options that go into the call's body.  After a crash they show
 * whether these options have changed.
 */
static void
make_keys(Claiming *claiming)
{
	const ServerQueue *queue = NULL;
	uint32 digest = 0;
	int i;

	claiming->keys = palloc(claiming->n * sizeof(pg_uuid_t));
	if (!pg_strong_random(claiming->keys, claiming->n * sizeof(pg_uuid_t)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	for (i = 0; i < claiming->n; i++)
	{
		const Turn *turn = &claiming->turns[i];
		pg_uuid_t *uuid = &claiming->keys[i];

		if (turn->queue != queue)
			digest = shape_digest(NameStr(turn->queue->name), &turn->queue->server->options);
		queue = turn->queue;
		/* version 8 of RFC 9562: we define what the bits mean */
		memcpy(&uuid->data[UUID_LEN - sizeof(digest)], &digest, sizeof(digest));
		uuid->data[6] = (uuid->data[6] & 0x0f) | 0x80;
		uuid->data[8] = (uuid->data[8] & 0x3f) | 0x80;
	}
}

/*
 * Returns an array of these turns' keys.
 */
static Datum
list_keys(const Claiming *claiming, Turn *const *turns, int n)
{
	Datum *keys = palloc(n * sizeof(Datum));
	int i;

	for (i = 0; i < n; i++)
		keys[i] = UUIDPGetDatum(&claiming->keys[turns[i] - claiming->turns]);
	return PointerGetDatum(construct_array(keys, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/*
 * Returns pointers to the turns' keys, in the turns' order, palloc'd.
 */
static pg_uuid_t **
point_at_keys(const Claiming *claiming)
{
	pg_uuid_t **keys = palloc(claiming->n * sizeof(pg_uuid_t *));
	int i;

	for (i = 0; i < claiming->n; i++)
		keys[i] = &claiming->keys[i];
	return keys;
}

/*
 * True if a claimed job keeps the key of an earlier attempt, instead of the
 * offered one.
 */
static bool
has_kept_key(const Job *job, pg_uuid_t *offered)
{
	/* a first attempt has no earlier key */
	return job->attempt > 1 && job->idempotency_key != NULL &&
		   strcmp(job->idempotency_key,
				  DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(offered)))) != 0;
}

/*
 * Runs CLAIM for these turns; returns the number of rows.  room and any_size are memoryline_sort()'s.
 */
static uint64
run_claim(const Claiming *claiming, Turn **turns, int n, TimestampTz now, size_t room,
		  bool any_size)
{
	int64 *ids = palloc(n * sizeof(int64));
	Datum *homes = palloc(n * sizeof(Datum));
	Datum *servers = palloc(n * sizeof(Datum));
	bool *at_home = palloc(n * sizeof(bool));
	bool *is_only = palloc(n * sizeof(bool));
	Datum *backends = palloc(n * sizeof(Datum));
	const char *usable[MAX_USABLE];
	Datum usable_texts[MAX_USABLE];
	int n_usable = schedule_list_usable(turns, n, usable, MAX_USABLE);
	Datum args[10];
	int dims[1] = {n};
	int lbs[1] = {1};
	int i;

	for (i = 0; i < n; i++)
	{
		const Turn *turn = turns[i];

		ids[i] = turn->id;
		homes[i] = CStringGetTextDatum(NameStr(turn->home->name));
		servers[i] = CStringGetTextDatum(NameStr(turn->queue->name));
		at_home[i] = turn->queue == turn->home;
		is_only[i] = turn->queue->server->n_backends == 1;
		backends[i] = CStringGetTextDatum(turn->place.backend->url);
	}
	for (i = 0; i < n_usable; i++)
		usable_texts[i] = CStringGetTextDatum(usable[i]);
	args[0] = PointerGetDatum(statement_int8_array(ids, n));
	args[1] = list_keys(claiming, turns, n);
	args[2] = TimestampTzGetDatum(now);
	args[3] = PointerGetDatum(
		construct_md_array(servers, at_home, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[4] = PointerGetDatum(
		construct_md_array(backends, is_only, 1, dims, lbs, TEXTOID, -1, false, TYPALIGN_INT));
	args[5] =
		PointerGetDatum(construct_array(usable_texts, n_usable, TEXTOID, -1, false, TYPALIGN_INT));
	args[6] = PointerGetDatum(construct_array(homes, n, TEXTOID, -1, false, TYPALIGN_INT));
	args[7] = Int32GetDatum(MEMORY_SMALL);
	args[8] = Int64GetDatum((int64) room);
	args[9] = Int64GetDatum(any_size ? 1 : 0);
	return statement_run(CLAIM, args, NULL);
}

/*
 * Moves a job to the backend that an earlier attempt may have called: that
 * backend may know the Idempotency-Key.  If it has no room, the job waits:
 * another backend would charge again.
 */
static void
keep_backend(uint64 row, Turn *turn, Job *job)
{
	bool isnull;
	Datum backend = statement_value(row, 20, &isnull);

	if (isnull || limits_move(&turn->place, TextDatumGetCString(backend), clock_mono()))
		limits_started(&turn->place);
	else
		job->waits_for = MemoryContextStrdup(job->context, BACKEND_IS_FULL);
}

static int
compare_turns(const void *a, const void *b)
{
	int64 left = (*(Turn *const *) a)->id;
	int64 right = (*(Turn *const *) b)->id;

	return (left > right) - (left < right);
}

/*
 * Reads again the jobs that could not be claimed: they are no longer queued,
 * or for another server, or locked.  Postpones locked ones by LOCKED_RETRY_MS.
 */
static void
drop_missing(Turn *const *missing, int n, TimestampTz now)
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
		schedule_put_off(ids[i], clock_mono() + LOCKED_RETRY_MS * INT64CONST(1000), false);
	}
}

/*
 * Keeps a job for its own server if its owner may not use the fallback chosen
 * for it.
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
 * Removes turns whose owners may not use the fallback chosen for them; returns
 * how many are left.
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
 * Puts jobs that found no room in memory back on the schedule, and gives back their turns.
 */
static void
put_back_refused(Turn *const *refused, int n, TimestampTz now)
{
	int64 *ids = palloc(n * sizeof(int64));
	int i;

	for (i = 0; i < n; i++)
		ids[i] = refused[i]->id;
	queue_read_changed(ids, n, now);
	for (i = 0; i < n; i++)
	{
		if (refused[i]->is_paid)
			turns_give_back(ids[i]);
	}
}

/*
 * Fails a job that was claimed alone, and whose row cannot be read.
 */
static void
fail_unreadable(uint64 row, Turn *turn, const ErrorData *error)
{
	char *words =
		psprintf("the column %s of this job cannot be read: %s. Insert the job again with one that can.",
				 jobrow_column(), error->message);
	ErrorData *refusal;

	limits_give_back(&turn->place);
	if (!queue_put_aside(turn->id, DatumGetInt32(statement_not_null(row, 7)), words, &refusal))
		ReThrowError(refusal);
}

/*
 * Makes a Job of a claimed row, and gives it the turn's place.  If the row
 * cannot be read: fails a job that was claimed alone, else raises an error, so
 * that the jobs are claimed one by one.
 */
static void
start_attempt(uint64 row, Turn *turn, bool is_alone)
{
	Job *job;
	ErrorData *error;
	Place place;

	if (!is_alone)
		job = jobrow_take(row);
	else if (!jobrow_try(row, false, &job, &error))
	{
		fail_unreadable(row, turn, error);
		return;
	}
	keep_backend(row, turn, job);
	/* only one of turn and job may give the place back, also after an error */
	place = turn->place;
	turn->place.limits = NULL;
	memoryline_note_given(turn->home, job->submission.share ? job->submission.share->bytes : 0);
	if (turn->home->stats != NULL)
		stats_end_trouble(turn->home->stats, job->id);
	jobrow_assign(job, turn->queue, place);
}

/*
 * Handles the rows that a claim returned for these turns.  Sorts turns.
 */
static void
take_claimed(Claiming *claiming, Turn **turns, int n, uint64 rows)
{
	uint64 row;

	qsort(turns, n, sizeof(Turn *), compare_turns);
	for (row = 0; row < rows; row++)
	{
		Turn key = {.id = DatumGetInt64(statement_not_null(row, 1))};
		Turn *key_pointer = &key;
		Turn *turn = *(Turn **) bsearch(&key_pointer, turns, n, sizeof(Turn *), compare_turns);
		bool is_claimed;
		bool is_orphan;
		Datum wanted;

		statement_read_row(row);
		wanted = statement_value(row, 21, &is_claimed);
		(void) statement_value(row, 3, &is_orphan);
		if (is_claimed && is_orphan)
		{
			limits_give_back(&turn->place);
			claiming->n_orphans++;
		}
		else if (is_claimed)
			start_attempt(row, turn, claiming->n == 1);
		else
		{
			limits_give_back(&turn->place);
			memoryline_note_refused(turn->home, DatumGetInt32(wanted));
			claiming->refused[claiming->n_refused++] = turn;
		}
	}
	statement_forget_row();
}

/*
 * Claims the jobs of the turns: those of the common kind by direct_claim(),
 * the rest by CLAIM.
 */
static void
claim_all(Claiming *claiming, TimestampTz now)
{
	bool any_size;
	size_t room = memoryline_sort(claiming->turns, claiming->n, &any_size);
	Turn **turns = palloc(claiming->n * sizeof(Turn *));
	Turn **sated = palloc(claiming->n * sizeof(Turn *));
	int n_left = 0;
	int n_sated = 0;
	int i;

	make_keys(claiming);
	for (i = 0; i < claiming->n; i++)
		turns[i] = &claiming->turns[i];
	if (direct_may_claim(claiming->turns, claiming->n))
		take_claimed(claiming, turns, claiming->n,
					 direct_claim(turns, claiming->n, point_at_keys(claiming), now));
	for (i = 0; i < claiming->n; i++)
	{
		Turn *turn = &claiming->turns[i];

		memoryline_note_given(turn->home, 0);
		if (turn->place.limits == NULL)
			continue;
		if (memory_has_its_share(&turn->queue->requests))
			sated[n_sated++] = turn;
		else
			turns[n_left++] = turn;
	}
	if (n_left > 0)
		take_claimed(claiming, turns, n_left,
					 run_claim(claiming, turns, n_left, now, room, any_size));
	if (n_sated > 0)
		take_claimed(claiming, sated, n_sated, run_claim(claiming, sated, n_sated, now, 0, false));
}

/* clang-format off */
static const Statement note_tokens = {2, {INT8ARRAYOID, TEXTARRAYOID},
	"UPDATE @.gen_jobs j SET remote = jsonb_build_object('urls', '{}'::jsonb, 'complete', g.digest)"
	" FROM unnest($1, $2) g (id, digest) WHERE j.id = g.id"};
/* clang-format on */

/*
 * Makes the token that the answer of a handed-over job must bring.  Returns
 * the token's digest.
 */
static Datum
make_token(Job *job)
{
	MemoryContext caller = MemoryContextSwitchTo(job->context);
	uint8 random[DIGEST_BYTES];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	job->submission.token = digest_hex(random);
	job->remote.token_digest =
		digest_sha256_hex(job->submission.token, strlen(job->submission.token));
	MemoryContextSwitchTo(caller);
	return CStringGetTextDatum(job->remote.token_digest);
}

/* The plan of a statement that notes something in claimed rows. */
typedef struct NotePlan
{
	SPIPlanPtr plan;
	uint64 schema_changes; /* statement_schema_changes when it was made */
} NotePlan;

static void
run_note(const Statement *statement, NotePlan *kept, Datum *args)
{
	if (kept->schema_changes != statement_schema_changes)
		kept->plan = NULL;
	kept->schema_changes = statement_schema_changes;
	statement_execute(statement, &kept->plan, args, NULL);
}

/*
 * Makes tokens for the claimed jobs that will be handed over.  Writes their
 * digests before a call begins: the answer may come before the call ends.
 */
static void
hand_out_tokens(const Turn *turns, int n)
{
	static NotePlan plan = {NULL};
	int64 *ids = palloc(n * sizeof(int64));
	Datum *digests = palloc(n * sizeof(Datum));
	Datum args[2];
	int made = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		Job *job = job_find(turns[i].id);

		if (job == NULL || job->state != JOB_CLAIMED || job->request == NULL ||
			job->options == NULL || !options_hands_over(job->options))
			continue;
		ids[made] = job->id;
		digests[made++] = make_token(job);
	}
	if (made == 0)
		return;
	args[0] = PointerGetDatum(statement_int8_array(ids, made));
	args[1] = PointerGetDatum(construct_array(digests, made, TEXTOID, -1, false, TYPALIGN_INT));
	run_note(&note_tokens, &plan, args);
}

/* clang-format off */
static const Statement note_fetching = {1, {INT8ARRAYOID},
	"UPDATE @.gen_jobs SET remote = coalesce(remote, '{}') || '{\"fetching\": true}' WHERE id = ANY ($1)"};
/* clang-format on */

/*
 * Notes in claimed rows that nothing was sent yet, because these jobs first
 * fetch objects from a store.  Only where it matters after a crash whether the
 * call was sent.  fetch.c removes the note.
 */
static void
note_unsent(const Turn *turns, int n)
{
	static NotePlan plan = {NULL};
	int64 *ids = palloc(n * sizeof(int64));
	Datum args[1];
	int n_noted = 0;
	int i;

	for (i = 0; i < n; i++)
	{
		Job *job = job_find(turns[i].id);

		if (job == NULL || job->state != JOB_CLAIMED || job->fetch == NULL || job->key_is_kept ||
			(job->options->on_unknown != ON_UNKNOWN_FAIL && job->remote.token_digest == NULL))
			continue;
		job->remote.is_unsent = true;
		ids[n_noted++] = job->id;
	}
	if (n_noted == 0)
		return;
	args[0] = PointerGetDatum(statement_int8_array(ids, n_noted));
	run_note(&note_fetching, &plan, args);
}

/*
 * Starts an attempt for the job of each turn; may reorder turns.  Each job
 * that is still queued and fits in memory becomes a Job in the state
 * JOB_CLAIMED, in the order of turns, with the turn's place.  Gives the other
 * places back.  Reads locked jobs again later.  Returns how many jobs found no
 * room in memory.
 */
int
queue_claim(Turn *turns, int n, TimestampTz now)
{
	Turn **missing = palloc(n * sizeof(Turn *));
	Job **repeated = palloc(n * sizeof(Job *));
	Claiming claiming = {.turns = turns, .n = n, .refused = palloc(n * sizeof(Turn *))};
	int n_repeated = 0;
	int n_missing = 0;
	int i;

	jobrow_begin();
	claim_all(&claiming, now);
	for (i = 0; i < n; i++)
	{
		Job *job = job_find(turns[i].id);

		if (job != NULL && job->state == JOB_CLAIMED)
		{
			job_requeue(job);
			job->key_is_kept = has_kept_key(job, &claiming.keys[i]);
			if (job->key_is_kept)
				repeated[n_repeated++] = job;
			queue_read_references(job);
			continue;
		}
		/* a refused job's turn has no place any more */
		if (job == NULL && turns[i].place.limits != NULL)
			missing[n_missing++] = &turns[i];
		limits_give_back(&turns[i].place);
	}
	hand_out_tokens(turns, n);
	note_unsent(turns, n);
	queue_read_sent(repeated, n_repeated);
	if (claiming.n_refused > 0)
		put_back_refused(claiming.refused, claiming.n_refused, now);
	if (n_missing > 0)
		drop_missing(missing, n_missing, now);
	if (claiming.n_orphans > 0)
		queue_note_orphans();
	return claiming.n_refused;
}

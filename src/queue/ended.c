/*
 * ended.c
 *		The one door for every way that a row of gen_jobs becomes final, and
 *		the time when its follow-ups are done.
 *
 * Whoever ends a row calls job_ended() in the same transaction.  The
 * dispatcher does so for jobs that it reports, that expire, that can never
 * run, or that it puts aside.  Sessions do so, in the table's triggers, for
 * jobs that they cancel or delete.  A job that is queued again does not pass
 * here, nor does a row that is inserted as final (a restore).
 *
 * When the dispatcher ends a job, the same transaction writes all follow-ups
 * (followup.c).  A session must not write them: it has the caller's rights.
 * It notes them in the row's follow_up; its commit tells the dispatcher, which
 * catches up.  The dispatcher, too, notes in follow_up what it cannot do at
 * once, such as a notification while the notification queue is full.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "base/trace.h"
#include "queue/ended.h"
#include "queue/dependency.h"
#include "queue/followup.h"
#include "queue/gone.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "queue/trouble.h"
#include "shared/commit.h"

#define CATCH_UP_BATCH 100
#define LOCKED_RETRY_US \
	USECS_PER_SEC /* after which rows that somebody had locked are looked at again */
#define HTTP_GONE 410
#define NOTICES_FULL 0.9 /* of the queue of notifications: the rest is for others */
#define NOTICES_PAUSE_US (5 * USECS_PER_SEC)

bool ended_is_handing_over = false;

/* Of the present transaction */
static int64 *ended = NULL; /* jobs with follow-ups */
static int n_ended = 0;
static int max_ended = 0;

/* About rows with follow_up */
static MonoTime catch_up_at = DT_NOBEGIN; /* when to look for them; DT_NOEND: there are none */
static int catch_up_failures = 0;         /* in a row */
static MonoTime notices_from = 0;         /* no notification before this time */

/* ---------- the door ---------- */

/*
 * Returns what may follow the end of a job in the state to, as bits of FollowUp.  Looks up the server; call it in a
 * transaction.
 */
int
ended_follow_ups(const char *server_name, RowState to, bool has_on_done)
{
	ServerComplaint complaint;
	const Server *server = server_get(server_name, &complaint);
	int follow_ups = has_on_done ? FOLLOW_ON_DONE : 0;

	if (server == NULL)
		return follow_ups;
	if (server->options.notify != NULL)
		follow_ups |= FOLLOW_NOTIFY;
	if ((to == ROW_SUCCEEDED ? server->options.on_success : server->options.on_failure) != NULL)
		follow_ups |= FOLLOW_HAND_OVER;
	return follow_ups;
}

static void
remember_ended(int64 id)
{
	if (ended == NULL)
	{
		max_ended = 256;
		ended = MemoryContextAlloc(TopMemoryContext, max_ended * sizeof(int64));
	}
	else if (n_ended == max_ended)
	{
		max_ended *= 2;
		ended = repalloc(ended, max_ended * sizeof(int64));
	}
	ended[n_ended++] = id;
}

static bool
pauses_when_gone(const char *server_name)
{
	ServerComplaint complaint;
	const Server *server = server_get(server_name, &complaint);

	return server != NULL && server->options.preset->gone_pauses;
}

/*
 * Notes that a row becomes final, or is deleted.  The commit wakes the
 * sessions that wait for the job.
 */
void
job_ended(const JobEnd *end)
{
	Assert(!rowstate_is_final(end->from) && end->from != ROW_GONE);
	Assert(rowstate_is_final(end->to) || end->to == ROW_GONE);
	trace_quietly("job " INT64_FORMAT " of server \"%s\" ends: %s -> %s", end->id, end->server,
				  rowstate_name(end->from), rowstate_name(end->to));
	commit_note_ended(end->id);
	if (end->http_status == HTTP_GONE && pauses_when_gone(end->server))
		gone_note(end->id, end->server);
	dependency_note_end(end->id);
	if (!end->is_of_session && ended_follow_ups(end->server, end->to, end->has_on_done) != 0)
		remember_ended(end->id);
}

/* ---------- in the transaction that ends jobs ---------- */

/*
 * Forgets the ends of the last transaction.
 */
void
ended_begin(void)
{
	n_ended = 0;
	followup_begin();
	gone_begin();
}

/*
 * Does the follow-ups of the jobs that this transaction ended, before it
 * commits.
 */
void
ended_follow(void)
{
	int n = n_ended;

	n_ended = 0;
	gone_pause();
	if (n > 0 && followup_write(ended, NULL, n))
		commit_note_follow_ups(); /* a writer must tell the dispatcher, too */
}

/*
 * True if notifications can be sent now: the notification queue is not full, and was not a moment ago.
 */
bool
ended_may_notify(void)
{
	if (notices_from > clock_mono())
		return false;
	if (DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0)) < NOTICES_FULL)
		return true;
	notices_from = clock_mono() + NOTICES_PAUSE_US;
	return false;
}

/*
 * Notes a failed transaction.  If it was to send notifications, they may be the cause, because PostgreSQL writes them
 * at the commit: the next tries leave them out, so that they block nothing.
 */
void
ended_transaction_failed(const ErrorData *error)
{
	if (followup_has_notified() && error->sqlerrcode == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
	{
		notices_from = clock_mono() + NOTICES_PAUSE_US;
		trouble_show(TROUBLE_FOLLOW, error);
	}
	followup_begin();
}

/* ---------- later follow-ups ---------- */

static const struct
{
	FollowUp follow_up;
	const char *word;
} follow_up_words[] = {{FOLLOW_NOTIFY, "notify"},
					   {FOLLOW_HAND_OVER, "hand_over"},
					   {FOLLOW_ON_DONE, "on_done"}};

/*
 * Returns the value of the column follow_up for these bits.
 */
Datum
ended_words(int follow_ups)
{
	Datum words[lengthof(follow_up_words)];
	int n = 0;
	int i;

	for (i = 0; i < lengthof(follow_up_words); i++)
	{
		if ((follow_ups & follow_up_words[i].follow_up) != 0)
			words[n++] = CStringGetTextDatum(follow_up_words[i].word);
	}
	return PointerGetDatum(construct_array(words, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static int
read_words(Datum array)
{
	Datum *words;
	bool *nulls;
	int follow_ups = 0;
	int n;
	int i;
	int k;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &words, &nulls,
					  &n);
	for (i = 0; i < n; i++)
	{
		for (k = 0; k < lengthof(follow_up_words) && !nulls[i]; k++)
		{
			if (strcmp(TextDatumGetCString(words[i]), follow_up_words[k].word) == 0)
				follow_ups |= follow_up_words[k].follow_up;
		}
	}
	return follow_ups;
}

/*
 * Plans to look for rows with follow_up at this time, or earlier.
 */
void
ended_expect(MonoTime at)
{
	catch_up_at = Min(catch_up_at, at);
}

/*
 * Returns when to call ended_catch_up(); 0: never.
 */
MonoTime
ended_next(void)
{
	return catch_up_at == DT_NOEND ? 0 : Max(catch_up_at, 1);
}

/* What became of catching up. */
typedef struct CatchUp
{
	int n; /* rows */
	bool any_left;
	bool any_locked;
} CatchUp;

/*
 * Takes some rows with follow_up, and does what it says.  Leaves locked rows.
 * While no notification can be sent, leaves rows with only a notification.
 */
static void
catch_up_work(void *arg)
{
	CatchUp *result = arg;
	bool may_notify = ended_may_notify();
	Datum args[2] = {Int32GetDatum(CATCH_UP_BATCH), BoolGetDatum(may_notify)};
	int64 *ids = palloc(CATCH_UP_BATCH * sizeof(int64));
	int *follow_ups = palloc(CATCH_UP_BATCH * sizeof(int));
	uint64 row;

	if (!tables_are_known())
		return;
	result->n = (int) statement_run(TAKE_FOLLOW_UPS, args, NULL);
	for (row = 0; row < result->n; row++)
	{
		ids[row] = DatumGetInt64(statement_not_null(row, 1));
		follow_ups[row] = read_words(statement_not_null(row, 2));
	}
	result->any_locked =
		result->n < CATCH_UP_BATCH && statement_run(FIND_FOLLOW_UPS, &args[1], NULL) > 0;
	if (result->n > 0)
		result->any_left = followup_write(ids, follow_ups, result->n);
	if (!may_notify)
		ended_expect(notices_from);
}

/*
 * Does the follow-ups that are left from earlier, some rows at a time.
 */
void
ended_catch_up(void)
{
	ErrorData *error;
	CatchUp result = {0};
	bool done;

	catch_up_at = DT_NOEND;
	done = queue_transact("doing follow-ups of ended jobs", catch_up_work, &result, &error);
	if (!done)
		trouble_show(TROUBLE_FOLLOW, error);
	if (!done || result.any_left)
		ended_expect(clock_mono() + trouble_backoff_us(catch_up_failures++));
	else
		catch_up_failures = 0;
	if (done && !result.any_left && result.n == CATCH_UP_BATCH)
		ended_expect(clock_mono());
	if (done && result.any_locked)
		ended_expect(clock_mono() + LOCKED_RETRY_US);
}

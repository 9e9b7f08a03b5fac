/*
 * trouble.c
 *		What a dispatcher does when the database refuses: it says so, keeps what it has, and tries
 *		again, less and less often.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "clock.h"
#include "queue/queue.h"
#include "shmem.h"
#include "trouble.h"

#define LOG_INTERVAL_US USECS_PER_MINUTE /* between two lines in the log of one kind of failure */
#define MAX_KINDS 32

/* A failure that comes again and again: of how many jobs does not matter. */
typedef struct Kind
{
	const char *what; /* a constant; NULL: unused */
	int sqlerrcode;
	TimestampTz logged_at;
	int64 unlogged; /* since then */
} Kind;

static Kind kinds[MAX_KINDS];

/*
 * How long to wait after that many failures in a row.
 */
int64
trouble_backoff_us(int failures)
{
	return Min(TROUBLE_MIN_MS * INT64CONST(1000) << Min(failures, 12),
			   TROUBLE_MAX_MS * INT64CONST(1000));
}

/*
 * Whether a row may be the cause of an error: not of what befalls the whole table or server, such as a
 * lock that is not had in time.
 */
bool
trouble_blames_row(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return false;
		default:
			return true;
	}
}

/*
 * Returns the kind of a failure; where all are used, the one that was logged first becomes it.
 */
static Kind *
find_kind(const char *what, int sqlerrcode)
{
	Kind *oldest = &kinds[0];
	int i;

	for (i = 0; i < MAX_KINDS; i++)
	{
		Kind *kind = &kinds[i];

		if (kind->what != NULL && kind->sqlerrcode == sqlerrcode && strcmp(kind->what, what) == 0)
			return kind;
		if (kind->what == NULL || (oldest->what != NULL && kind->logged_at < oldest->logged_at))
			oldest = kind;
	}
	*oldest = (Kind){.what = what, .sqlerrcode = sqlerrcode};
	return oldest;
}

/*
 * Returns how often a failure has come without a line in the log, and begins to count anew, if it is to be logged
 * now; else counts it and returns -1.
 */
static int64
take_unlogged(const char *what, int sqlerrcode)
{
	Kind *kind = find_kind(what, sqlerrcode);
	TimestampTz now = clock_now();
	int64 unlogged = kind->unlogged;

	if (kind->logged_at != 0 && now >= kind->logged_at && now - kind->logged_at < LOG_INTERVAL_US)
	{
		kind->unlogged++;
		return -1;
	}
	kind->logged_at = now;
	kind->unlogged = 0;
	return unlogged;
}

static void
show(const char *what, const char *which, const ErrorData *error)
{
	int64 unlogged;

	if (error->sqlerrcode == QUEUE_GONE)
		return;
	shmem_set_my_error(error->message);
	unlogged = take_unlogged(what, error->sqlerrcode);
	if (unlogged < 0)
		return;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("genjob could not %s%s: %s", what, which, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 unlogged > 0 ? errhint("It failed " INT64_FORMAT
									" more times since it was last logged. It will be tried again.",
									unlogged)
						  : errhint("It will be tried again.")));
}

/*
 * Shows an error of the database in genjob.workers, and in the log once a minute for each kind: not that the extension
 * was dropped, which is no fault.  what is a constant.
 */
void
trouble_show(const char *what, const ErrorData *error)
{
	show(what, "", error);
}

/*
 * The same of something that was to be done for a job.
 */
void
trouble_show_job(const char *what, int64 job, const ErrorData *error)
{
	char which[40];

	snprintf(which, sizeof(which), " of job " INT64_FORMAT, job);
	show(what, which, error);
}

/*
 * trouble.c
 *		What a dispatcher does when the database refuses: it says so, keeps what it has, and tries
 *		again, less and less often.
 *
 * A trigger of others may raise an error for each of a million jobs.  The
 * views show the last error.  The log gets one line a minute for each kind and
 * error code, at most SELDOM_REASONS for a kind, with a count of the errors that
 * it leaves out.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/seldom.h"
#include "queue/queue.h"
#include "shared/shmem.h"
#include "queue/trouble.h"

static Seldom logged[TROUBLE_KINDS];

/*
 * Returns how long to wait after that many failures in a row.
 */
int64
trouble_backoff_us(int failures)
{
	static const Backoff backoff = {TROUBLE_MIN_MS, TROUBLE_MAX_MS};

	return backoff_delay(&backoff, failures) * 1000;
}

/*
 * True if a row may be the cause of an error.  False for errors of the whole
 * table or server, such as a lock that is not granted in time.
 */
bool
trouble_is_of_row(const ErrorData *error)
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

static void
show_error(TroubleKind kind, const char *words, const ErrorData *error)
{
	int64 unsaid;

	shmem_set_my_error(error->hint ? psprintf("%s. %s", error->message, error->hint)
								   : error->message);
	if (!seldom_must_say(&logged[kind], error->sqlerrcode, clock_mono(), &unsaid))
		return;
	ereport(LOG, (errcode(error->sqlerrcode), errmsg("%s", words),
				  error->detail ? errdetail_internal("%s", error->detail) : 0,
				  error->context ? errcontext_msg("%s", error->context) : 0,
				  errhint("%s%sIt will be tried again.%s", error->hint ? error->hint : "",
						  error->hint ? " " : "", seldom_describe(unsaid))));
}

/*
 * Shows an error of the database in genjob.workers and in the log, unless the extension was dropped, which is no fault.
 */
void
trouble_show(TroubleKind kind, const ErrorData *error)
{
	static const char *const tried[TROUBLE_KINDS] = {
		[TROUBLE_CLAIM] = "claim jobs",
		[TROUBLE_SAVE] = "write the ids of predictions",
		[TROUBLE_REPORT] = "write results",
		[TROUBLE_FAIL] = "fail jobs that cannot be run",
		[TROUBLE_SWEEP] = "look for jobs that no commit reported",
		[TROUBLE_SECRETS] = "read the secrets of a server",
		[TROUBLE_FOLLOW] = "do the follow-ups of ended jobs",
		[TROUBLE_PURGE] = "delete jobs that were kept long enough",
	};

	if (error->sqlerrcode != QUEUE_GONE)
		show_error(kind, psprintf("genjob could not %s: %s", tried[kind], error->message), error);
}

/*
 * As trouble_show(), for one job, and also in genjob.servers at its server (stats, or NULL).
 */
void
trouble_show_job(TroubleKind kind, int64 job, ServerStats *stats, const ErrorData *error)
{
	static const char *const tried[TROUBLE_KINDS] = {
		[TROUBLE_CLAIM] = "claim job",
		[TROUBLE_SAVE] = "write the id of the prediction of job",
		[TROUBLE_REPORT] = "write the result of job",
		[TROUBLE_FAIL] = "fail job",
		[TROUBLE_SWEEP] = "look for job",
		[TROUBLE_SECRETS] = "read the secrets of job",
		[TROUBLE_FOLLOW] = "do the follow-ups of job",
		[TROUBLE_PURGE] = "delete job",
	};
	char *words;

	if (error->sqlerrcode == QUEUE_GONE)
		return;
	words = psprintf("genjob could not %s " INT64_FORMAT ": %s", tried[kind], job, error->message);
	if (stats != NULL)
		stats_note_trouble(stats, job, words, clock_now());
	show_error(kind, words, error);
}

/*
 * Shows why outputs of earlier attempts stay, if the reason is a new one.  A
 * trigger may give another reason for each job.
 */
void
trouble_show_kept_outputs(const char *reason)
{
	static char shown[256] = "";
	static Seldom kept;
	int64 unsaid;

	if (strncmp(shown, reason, sizeof(shown) - 1) == 0)
		return;
	strlcpy(shown, reason, sizeof(shown));
	shmem_set_my_error(psprintf("outputs of earlier attempts stay in gen_outputs: %s", reason));
	if (seldom_must_say(&kept, 0, clock_mono(), &unsaid))
		ereport(LOG,
				(errmsg("genjob leaves outputs of earlier attempts in gen_outputs: %s", reason),
				 errhint("They go with their job.%s", seldom_describe(unsaid))));
}

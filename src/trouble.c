/*
 * trouble.c
 *		What a dispatcher does when the database refuses: it says so, keeps what it has, and tries
 *		again, less and less often.
 */
#include "postgres.h"

#include "queue/queue.h"
#include "shmem.h"
#include "trouble.h"

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
 * Shows an error of the database in genjob.workers and in the log: not that the extension was dropped, which is no
 * fault.
 */
void
trouble_show(const char *what, const ErrorData *error)
{
	if (error->sqlerrcode == QUEUE_GONE)
		return;
	shmem_set_my_error(error->hint ? psprintf("%s. %s", error->message, error->hint)
								   : error->message);
	ereport(LOG,
			(errcode(error->sqlerrcode), errmsg("genjob could not %s: %s", what, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 errhint("%s%sIt will be tried again.", error->hint ? error->hint : "",
					 error->hint ? " " : "")));
}

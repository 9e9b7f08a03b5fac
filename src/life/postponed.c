/*
 * postponed.c
 *		How often each job was postponed, because something that it needs is
 *		not there yet.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "base/backoff.h"
#include "life/postponed.h"

#define MAX_POSTPONED 100000 /* jobs that are counted; at more, all counts are forgotten */

/* ms before a postponed job is claimed again */
static const Backoff look_again = {1000, 60000};

/*
 * How often in a row a job was postponed.  It decides only when to look again,
 * so it need not survive this process.
 */
typedef struct Postponed
{
	int64 id; /* key */
	int times;
	size_t bytes; /* of memory that it waited for last; or 0 */
} Postponed;

static HTAB *postponed = NULL;

/*
 * Counts a postponement of the job, which waits for that many bytes of memory,
 * or for something else (0).  Returns how many came before.
 */
static int
count_postponement(int64 id, size_t bytes)
{
	HASHCTL control = {.keysize = sizeof(int64),
					   .entrysize = sizeof(Postponed),
					   .hcxt = TopMemoryContext};
	Postponed *entry;
	bool found;

	if (postponed != NULL && hash_get_num_entries(postponed) >= MAX_POSTPONED)
	{
		hash_destroy(postponed);
		postponed = NULL;
	}
	if (postponed == NULL)
		postponed = hash_create("genjob postponed jobs", 64, &control,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	entry = hash_search(postponed, &id, HASH_ENTER, &found);
	if (!found)
		entry->times = 0;
	entry->bytes = bytes;
	return entry->times++;
}

/*
 * Returns, in the current memory context, the verdict that postpones the job.
 * It counts as no failure.  The job is looked at again after 1, 2, 4 ... 60 s.
 * If it waits for memory: as soon as there is enough, at most 60 s later.
 */
Verdict *
postponed_verdict(const Job *job)
{
	Verdict *verdict = palloc0(sizeof(Verdict));
	int64 usual = backoff_delay(&look_again, count_postponement(job->id, job->wants_memory));

	verdict->kind = VERDICT_POSTPONE;
	verdict->after = job->wants_memory > 0 ? look_again.most : usual;
	verdict->error = job->waits_for;
	return verdict;
}

/*
 * Returns how often the job was postponed, as far as this process knows.
 */
int
postponed_times(int64 id)
{
	Postponed *entry = postponed ? hash_search(postponed, &id, HASH_FIND, NULL) : NULL;

	return entry ? entry->times : 0;
}

/*
 * Returns how much memory the job waited for when it was postponed last, as far as this process knows; 0: for none.
 */
size_t
postponed_bytes(int64 id)
{
	Postponed *entry = postponed ? hash_search(postponed, &id, HASH_FIND, NULL) : NULL;

	return entry ? entry->bytes : 0;
}

/*
 * Forgets how often the job was postponed.
 */
void
postponed_forget(int64 id)
{
	if (postponed != NULL)
		(void) hash_search(postponed, &id, HASH_REMOVE, NULL);
}

/*
 * postponed.c
 *		How often jobs were put off because another one has not ended yet.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "life/postponed.h"

#define MAX_POSTPONED 100000 /* jobs of which it is known how often */

/* How often in a row a job was put off.  Only speeds are decided by that, so it need not survive this process. */
typedef struct Postponed
{
	int64 id; /* key */
	int times;
} Postponed;

static HTAB *postponed = NULL;

/*
 * Counts that a job is put off; returns how often it was before.
 */
int
postponed_count(int64 id)
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
	return entry->times++;
}

/*
 * A job is not put off any more.
 */
void
postponed_forget(int64 id)
{
	if (postponed != NULL)
		(void) hash_search(postponed, &id, HASH_REMOVE, NULL);
}

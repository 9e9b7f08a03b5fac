/*
 * idlist.c
 *		A list of ids that grows.
 *
 * It outlives transactions, and is malloc'd, so that an error leaves it as it was.
 */
#include "postgres.h"

#include "queue/idlist.h"

/*
 * Appends an id.  Raises an error if memory is short; the list is as before then.
 */
void
idlist_add(IdList *list, int64 id)
{
	if (list->n == list->max)
	{
		int max = Max(64, list->max * 2);
		int64 *ids = realloc(list->ids, max * sizeof(int64));

		if (ids == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		list->ids = ids;
		list->max = max;
	}
	list->ids[list->n++] = id;
}

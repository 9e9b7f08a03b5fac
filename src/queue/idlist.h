/*
 * idlist.h
 *		A list of ids that grows; for the files of this folder only.
 */
#ifndef GENJOB_IDLIST_H
#define GENJOB_IDLIST_H

/* Ids of jobs, malloc'd */
typedef struct IdList
{
	int64 *ids;
	int n;
	int max;
} IdList;

extern void idlist_add(IdList *list, int64 id);

#endif /* GENJOB_IDLIST_H */

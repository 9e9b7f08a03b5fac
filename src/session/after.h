/*
 * after.h
 *		The jobs that a new or changed job waits for.
 */
#ifndef GENJOB_AFTER_H
#define GENJOB_AFTER_H

#include "utils/rel.h"

#include "protocol/request.h"
#include "session/row.h"

/* Ids of jobs, palloc'd */
typedef struct JobIds
{
	int64 *ids;
	int n;
} JobIds;

extern JobIds after_list_referred(const RequestSource *source, List **urls);
extern void after_check(const Row *row, bool is_new);
extern void after_note_referred(Row *row, const JobIds *referred, List *urls, Relation table);
extern void after_add(Row *row, const JobIds *referred, Relation table);
extern void after_forget_gone(const Row *before, Row *row, Relation table);
extern bool after_is_ahead(const Row *row, Relation table);
extern bool after_is_empty(const Row *row);

#endif /* GENJOB_AFTER_H */

/*
 * attached.h
 *		The code that is attached to the tables; for tables.c only.
 */
#ifndef GENJOB_ATTACHED_H
#define GENJOB_ATTACHED_H

#include "postgres.h"

/* What to look for. */
typedef struct AttachedSearch
{
	Datum tables;         /* an oid[] */
	bool with_referring;  /* also the tables that refer to them, and so on */
	Oid jobs;             /* gen_jobs, to whose rows only events happen; or invalid */
	int events;           /* bits of tgtype */
	const Oid *read_only; /* the tables that are only read */
	int n_read_only;
} AttachedSearch;

extern void attached_init(void);
extern uint64 attached_changes(void);
extern void attached_note_change(void);

/* What is found between attached_begin() and attached_end() is watched */
extern void attached_begin(void);
extern void attached_watch(int cache, uint32 id);
extern void attached_end(void);

extern Datum attached_oids(const Oid *oids, int n);
extern int64 attached_find_stranger(const AttachedSearch *search, Oid owner);

/* For the row of attached_find_stranger(), until the next statement */
extern char *attached_describe(uint64 row);
extern const char *attached_owner_name(uint64 row);
_Noreturn extern void attached_refuse(uint64 row, Oid owner);

#endif /* GENJOB_ATTACHED_H */

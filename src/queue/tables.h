/*
 * tables.h
 *		The role that the dispatcher works as, and the code attached to the
 *		tables.
 */
#ifndef GENJOB_TABLES_H
#define GENJOB_TABLES_H

#include "postgres.h"

extern void tables_init(void);
extern void tables_leave(void);
extern void tables_set(Oid jobs, Oid outputs, Oid tenant_weights, Oid owner_weights, Oid callbacks,
					   Oid dependencies, Oid sent);
extern bool tables_are(Oid jobs);
extern bool tables_are_known(void);
extern Oid tables_jobs(void);
extern Oid tables_owner(void);
extern const char *tables_owner_name(void);

/* In a transaction of the dispatcher */
extern void tables_become_owner(void);
extern void tables_fire_deferred(void);
extern const char *tables_keep_outputs(void);
extern void tables_check_outputs_keys(void);
extern const char *tables_find_insert_stranger(void);

#endif /* GENJOB_TABLES_H */

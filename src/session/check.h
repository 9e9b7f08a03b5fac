/*
 * check.h
 *		Checks if a job can run, and if a new row is valid; raises errors for
 *		the user.
 */
#ifndef GENJOB_CHECK_H
#define GENJOB_CHECK_H

#include "utils/jsonb.h"
#include "utils/rel.h"

#include "session/row.h"

_Noreturn extern void check_refuse_column(const Row *row, JobColumn column, bool is_new);
extern void check_is_object(const Jsonb *request);
extern void check_values(const Row *row);
extern void check_owner(const Row *row);
extern void check_new_state(Row *row, bool privileged);
extern void check_new_row(Row *row, Relation table);
extern bool check_may_run(const Row *row);
extern void check_restored(Row *row);
extern void check_runnable(Row *row, Relation table, bool is_new);

#endif /* GENJOB_CHECK_H */

/*
 * change.h
 *		What people may change of a job, and what follows for the row.
 */
#ifndef GENJOB_CHANGE_H
#define GENJOB_CHANGE_H

#include "nodes/bitmapset.h"
#include "utils/rel.h"

#include "session/row.h"

extern void change_check_columns(const Row *before, const Row *after, bool privileged);
extern void change_check_error(const Row *before, const Row *after);
extern void change_bind_server(const Row *before, Row *after, const Bitmapset *named);
extern void change_state(const Row *before, Row *row);
extern bool change_is_of_order(const Row *before, const Row *after);
extern void change_note_origin(Row *after);
extern void change_forget_order(Row *after);
extern void change_prepare(const Row *before, Row *after, Relation table);

#endif /* GENJOB_CHANGE_H */

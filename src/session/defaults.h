/*
 * defaults.h
 *		Fills in a row of gen_jobs.
 */
#ifndef GENJOB_DEFAULTS_H
#define GENJOB_DEFAULTS_H

#include "session/row.h"

extern void defaults_fill_settable(Row *row, Oid role);
extern void defaults_retain(Row *row);
extern void defaults_fill_new(Row *row);
extern void defaults_bind_server(Row *row);

#endif /* GENJOB_DEFAULTS_H */

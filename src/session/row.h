/*
 * row.h
 *		A row of gen_jobs in a trigger.
 */
#ifndef GENJOB_ROW_H
#define GENJOB_ROW_H

#include "access/htup.h"
#include "access/tupdesc.h"

#include "life/job.h"
#include "life/rowstate.h"

/* The columns that came after 0.1.0 */
#define ROW_FIRST_ADDED JOB_REQUEST_ID
#define ROW_ADDED (JOB_LAST_COLUMN - ROW_FIRST_ADDED + 1)

/* A row, taken apart. */
typedef struct Row
{
	HeapTuple tuple;
	TupleDesc desc;
	AttrNumber added[ROW_ADDED];       /* numbers of the added columns in this table */
	Datum values[JOB_LAST_COLUMN + 1]; /* by JobColumn */
	bool nulls[JOB_LAST_COLUMN + 1];
} Row;

extern const char *row_added_name(JobColumn column);
extern const char *row_column_name(const Row *row, JobColumn column);
extern char *row_server(const Row *row);
extern void row_read(Row *row, HeapTuple tuple, TupleDesc desc);
extern void row_set(Row *row, JobColumn column, Datum value);
extern void row_set_null(Row *row, JobColumn column);
extern RowState row_state(const Row *row);
extern void row_set_state(Row *row, RowState state);
extern bool row_has_ended(const Row *row);
extern bool row_is_replicated(void);
extern bool row_has_origin(void);
extern bool row_column_changed(const Row *before, const Row *after, JobColumn column);

#endif /* GENJOB_ROW_H */

/*
 * report.h
 *		What is written about jobs, as arrays with one element for each job;
 *		for the files of this folder only.
 */
#ifndef GENJOB_REPORT_H
#define GENJOB_REPORT_H

#include "life/job.h"

/* The columns of the statement REPORT that are arrays. */
typedef enum ReportColumn
{
	REPORT_ID,
	REPORT_ATTEMPT,
	REPORT_STATE,
	REPORT_RESULT,
	REPORT_USAGE,
	REPORT_ERROR,
	REPORT_HTTP_STATUS,
	REPORT_RUN_AT,
	REPORT_COUNTS,
	REPORT_KEEPS_KEY,
	REPORT_LOSSES,
	REPORT_BEGINS_ERRORS,
	REPORT_MUST_CANCEL,
	REPORT_UNKNOWN_ENDS,
	REPORT_PUT_OFF_SINCE,
	REPORT_BODY,
	REPORT_COLUMNS
} ReportColumn;

typedef struct ColumnType
{
	Oid type;
	int len;
	bool by_value;
	char align;
} ColumnType;

/* Returns a job's element of the array for a column. */
typedef Datum (*ColumnReader)(const Job *job, int column, bool *isnull);

extern Datum report_array(Job **jobs, int n, ColumnReader read, int column, const ColumnType *type);
extern bool report_is_large(const Job *job);
extern Datum report_text(char *utf8, bool *isnull);
extern struct varlena *report_json(char **utf8);
extern void report_find_fenced(Job **jobs, int n);

#endif /* GENJOB_REPORT_H */

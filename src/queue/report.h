/*
 * report.h
 *		What is written of jobs, as columns of arrays; for the files of this folder only.
 */
#ifndef GENJOB_REPORT_H
#define GENJOB_REPORT_H

#include "life/job.h"

typedef struct ColumnType
{
	Oid type;
	int len;
	bool by_value;
	char align;
} ColumnType;

/* What a column of a statement's arrays holds for a job. */
typedef Datum (*ColumnReader)(const Job *job, int column, bool *isnull);

extern Datum report_array(Job **jobs, int n, ColumnReader read, int column, const ColumnType *type);
extern Datum report_text(char *utf8, bool *isnull);
extern struct varlena *report_json(char **utf8);
extern void report_find_fenced(Job **jobs, int n);

#endif /* GENJOB_REPORT_H */

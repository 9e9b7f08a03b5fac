/*
 * after.c
 *		The jobs that a new or changed job waits for: its columns after and after_rule.
 *
 * A job waits only for jobs with lower ids, which were inserted before it, so
 * jobs never wait in a circle.  This file does not ask whether those jobs
 * exist, or whether the owner may see them: the job fails later, with the same
 * words in both cases.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "queue/dependency.h"
#include "session/after.h"

#define MAX_PARENTS 10000

static void
refuse_many(int n)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("a job cannot wait for %d jobs", n),
			 errdetail("The limit is %d jobs.", MAX_PARENTS),
			 errhint(
				 "Insert jobs that each wait for some of them, and let this job wait for those.")));
}

/*
 * Returns the ids of the column after, palloc'd.
 */
static JobIds
read_after(const Row *row)
{
	JobIds after = {NULL, 0};
	Datum *datums;
	int i;

	if (row->nulls[JOB_AFTER])
		return after;
	deconstruct_array(DatumGetArrayTypeP(row->values[JOB_AFTER]), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &datums, NULL, &after.n);
	after.ids = palloc(Max(after.n, 1) * sizeof(int64));
	for (i = 0; i < after.n; i++)
		after.ids[i] = DatumGetInt64(datums[i]);
	pfree(datums);
	return after;
}

static void
check_shape(const Row *row)
{
	ArrayType *array = DatumGetArrayTypeP(row->values[JOB_AFTER]);

	if (ARR_NDIM(array) > 1 || array_contains_nulls(array))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("after must be an array of one dimension without nulls"),
						errhint("Write ARRAY[7, 8] with the ids of the jobs to wait for.")));
	if (ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) > MAX_PARENTS)
		refuse_many(ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)));
}

/*
 * Refuses the job's own id, and in a changed job a later id.  A new job cannot
 * know a later id: that job does not exist yet.
 */
static void
check_parent(int64 id, int64 parent, bool is_new)
{
	if (parent == id)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("job " INT64_FORMAT " cannot wait for itself", id),
						errhint("Leave its own id out of after.")));
	if (parent > id && !is_new)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("job " INT64_FORMAT " cannot wait for job " INT64_FORMAT, id, parent),
				 errdetail(
					 "A job waits only for jobs with lower ids, which were inserted before it, so jobs never wait in a circle."),
				 errhint("Insert a new job, which can wait for it, and cancel this one.")));
}

static void
check_rule(const Row *row)
{
	static const char *const rules[] = {"succeeded", "ended", "failed"};
	char *rule;
	int i;

	if (row->nulls[JOB_AFTER_RULE])
		return; /* NOT NULL raises the error */
	rule = TextDatumGetCString(row->values[JOB_AFTER_RULE]);
	for (i = 0; i < lengthof(rules); i++)
	{
		if (strcmp(rule, rules[i]) == 0)
			return;
	}
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("after_rule \"%s\" is not known", rule),
					errhint("Write succeeded, ended or failed.")));
}

/*
 * Raises an error for the user if a job cannot wait as its columns say.
 */
void
after_check(const Row *row, bool is_new)
{
	JobIds after;
	int i;

	check_rule(row);
	if (row->nulls[JOB_AFTER] || row->nulls[JOB_ID])
		return;
	check_shape(row);
	after = read_after(row);
	for (i = 0; i < after.n; i++)
		check_parent(DatumGetInt64(row->values[JOB_ID]), after.ids[i], is_new);
	if (after.ids != NULL)
		pfree(after.ids);
}

/*
 * Returns the jobs whose outputs or results a request refers to.  Adds the
 * URLs of objects to *urls (of char *).  All in the current memory context.
 */
JobIds
after_list_referred(const RequestSource *source, List **urls)
{
	JobIds referred = {NULL, 0};
	Reference *references;
	int n;
	int i;

	if (!request_may_refer(source))
		return referred;
	references = request_list_references(source, &n);
	referred.ids = palloc(Max(n, 1) * sizeof(int64));
	for (i = 0; i < n; i++)
	{
		/* references are sorted by job; an object has no job */
		if (references[i].job == 0)
			*urls = lappend(*urls, (char *) references[i].url);
		else if (referred.n == 0 || referred.ids[referred.n - 1] != references[i].job)
			referred.ids[referred.n++] = references[i].job;
	}
	return referred;
}

static bool
is_among(int64 id, const JobIds *ids)
{
	int i;

	for (i = 0; i < ids->n; i++)
	{
		if (ids->ids[i] == id)
			return true;
	}
	return false;
}

static Datum
make_array(const JobIds *ids)
{
	Datum *datums = palloc(Max(ids->n, 1) * sizeof(Datum));
	int i;

	for (i = 0; i < ids->n; i++)
		datums[i] = Int64GetDatum(ids->ids[i]);
	return PointerGetDatum(
		construct_array(datums, ids->n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/*
 * Stores in the column refers the jobs that the request refers to, ended or
 * not, and the jobs that made the objects at urls: retention keeps these.
 * Leaves out jobs that the owner may not see: strangers must not stop
 * retention.
 */
void
after_note_referred(Row *row, const JobIds *referred, List *urls, Relation table)
{
	int64 *makers = NULL;
	int n_makers = urls == NIL ? 0 : dependency_find_makers(RelationGetRelid(table), urls, &makers);
	JobIds seen = {palloc((referred->n + n_makers + 1) * sizeof(int64)), referred->n + n_makers};

	if (referred->n > 0)
		memcpy(seen.ids, referred->ids, referred->n * sizeof(int64));
	if (n_makers > 0)
		memcpy(seen.ids + referred->n, makers, n_makers * sizeof(int64));
	seen.n = dependency_keep_seen(RelationGetRelid(table), DatumGetObjectId(row->values[JOB_OWNER]),
								  seen.ids, seen.n, KEEP_ALL);
	if (seen.n > 0)
		row_set(row, JOB_REFERS, make_array(&seen));
	else if (!row->nulls[JOB_REFERS])
		row_set_null(row, JOB_REFERS);
}

/*
 * Adds to the column after the jobs that the request refers to, if they have not ended and the owner may see them.
 */
void
after_add(Row *row, const JobIds *referred, Relation table)
{
	JobIds after = read_after(row);
	int64 id = row->nulls[JOB_ID] ? PG_INT64_MIN : DatumGetInt64(row->values[JOB_ID]);
	JobIds added = {palloc(Max(referred->n, 1) * sizeof(int64)), 0};
	int i;

	for (i = 0; i < referred->n; i++)
	{
		/*
		 * a later job cannot be in after; instead, reading the reference
		 * delays this job
		 */
		if (referred->ids[i] < id && !is_among(referred->ids[i], &after))
			added.ids[added.n++] = referred->ids[i];
	}
	added.n =
		dependency_keep_seen(RelationGetRelid(table), DatumGetObjectId(row->values[JOB_OWNER]),
							 added.ids, added.n, KEEP_UNFINISHED);
	if (added.n == 0)
		return;
	if (after.n + added.n > MAX_PARENTS)
		refuse_many(after.n + added.n);
	after.ids = after.ids ? repalloc(after.ids, (after.n + added.n) * sizeof(int64))
						  : palloc(added.n * sizeof(int64));
	memcpy(after.ids + after.n, added.ids, added.n * sizeof(int64));
	after.n += added.n;
	row_set(row, JOB_AFTER, make_array(&after));
}

/*
 * True if a job that runs again must wait: for a job in after that has not
 * ended, or, if it never ran and its rule is "succeeded", for a job that did
 * not succeed.
 */
bool
after_is_ahead(const Row *row, Relation table)
{
	bool never_ran = DatumGetInt32(row->values[JOB_ATTEMPT]) == 0 &&
					 strcmp(TextDatumGetCString(row->values[JOB_AFTER_RULE]), "succeeded") == 0;
	JobIds after = read_after(row);

	return dependency_keep_seen(RelationGetRelid(table), DatumGetObjectId(row->values[JOB_OWNER]),
								after.ids, after.n,
								never_ran ? KEEP_UNSUCCESSFUL : KEEP_UNFINISHED) > 0;
}

/*
 * Removes from after, when a job runs again, the jobs that were deleted since
 * the INSERT: they had ended, or this job would have failed.  Keeps the job in
 * blocked_by, even if it was deleted.  Also removes jobs that the owner may
 * not see: otherwise a retry would tell whether they exist.
 */
void
after_forget_gone(const Row *before, Row *row, Relation table)
{
	JobIds after = read_after(row);
	JobIds there = {palloc(Max(after.n, 1) * sizeof(int64)), after.n};
	int64 blocker = before->nulls[JOB_BLOCKED_BY] ? PG_INT64_MIN
												  : DatumGetInt64(before->values[JOB_BLOCKED_BY]);
	int n = 0;
	int i;

	if (after.n == 0 || blocker == 0)
		return; /* its blocker does not exist, or is hidden from the owner */
	memcpy(there.ids, after.ids, after.n * sizeof(int64));
	there.n =
		dependency_keep_seen(RelationGetRelid(table), DatumGetObjectId(row->values[JOB_OWNER]),
							 there.ids, there.n, KEEP_ALL);
	if (there.n == after.n)
		return;
	qsort(there.ids, there.n, sizeof(int64), compat_compare_int64);
	for (i = 0; i < after.n; i++)
	{
		if (after.ids[i] == blocker ||
			bsearch(&after.ids[i], there.ids, there.n, sizeof(int64), compat_compare_int64) != NULL)
			after.ids[n++] = after.ids[i];
	}
	after.n = n;
	if (n > 0)
		row_set(row, JOB_AFTER, make_array(&after));
	else
		row_set_null(row, JOB_AFTER);
}

bool
after_is_empty(const Row *row)
{
	return row->nulls[JOB_AFTER] || ARR_NDIM(DatumGetArrayTypeP(row->values[JOB_AFTER])) == 0;
}

/*
 * printable.c
 *		Checks whether the value of a column can be shown at all.
 *
 * A number of 131,072 digits is stored in ten bytes, so a few kilobytes of
 * jsonb may be more text than a value can be.  The output function of jsonb
 * would then raise an error that names neither the column nor the job.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "queue/printable.h"

static uint64
string_length(const char *string, int len)
{
	uint64 length = 2;
	int i;

	for (i = 0; i < len; i++)
		length += (unsigned char) string[i] < ' '         ? 6
				  : string[i] == '"' || string[i] == '\\' ? 2
														  : 1;
	return length;
}

static uint64
number_length(Numeric number)
{
	char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	uint64 length = strlen(text);

	pfree(text);
	return length;
}

static uint64
value_length(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return string_length(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return number_length(value->val.numeric);
		default:
			return 5;
	}
}

/*
 * True if the text of a jsonb is no longer than a value can be.
 */
static bool
is_printable(Jsonb *jsonb)
{
	JsonbIterator *it = JsonbIteratorInit(&jsonb->root);
	JsonbValue value;
	JsonbIteratorToken token;
	uint64 length = 0;

	while ((token = JsonbIteratorNext(&it, &value, false)) != WJB_DONE && length < MaxAllocSize / 2)
	{
		CHECK_FOR_INTERRUPTS();
		length += 2;
		if (token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM)
			length += value_length(&value);
	}
	return length < MaxAllocSize / 2; /* a text buffer doubles its size */
}

/*
 * Raises an error that names the job and the column if the value cannot be
 * shown.
 */
void
printable_check(int64 job, const char *column, Datum datum)
{
	Jsonb *jsonb = DatumGetJsonbP(datum);

	if (!is_printable(jsonb))
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("column \"%s\" of job " INT64_FORMAT " is too large to be shown",
							   column, job),
						errdetail("Its text would be longer than a value can be."),
						errhint("Read the other columns of the row, or parts of this one.")));
	if ((Pointer) jsonb != DatumGetPointer(datum))
		pfree(jsonb);
}

/*
 * jsonb.c
 *		The requests that users write, as text.
 *
 * jsonb keeps a number as PostgreSQL's numeric: 1e131071 takes a dozen bytes
 * in it, and 131,072 digits in print.  So a request is checked before it is
 * printed.  No GenAI server reads such numbers.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/jsonb.h"

#define MAX_DIGITS 1000    /* before the decimal point, and behind it */
#define MAX_VALUES 5000000 /* as in json.c */

static Datum
numeric_limit(void)
{
	return DirectFunctionCall3(numeric_in, CStringGetDatum("1e1000"), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/*
 * True if a number has numeric's short format, as almost all have: at most 256
 * digits before the decimal point, and 63 behind it.  The format is on disks
 * since PostgreSQL 9.1.
 */
static bool
is_short(Numeric number)
{
	uint16 header;

	memcpy(&header, VARDATA_ANY(number), sizeof(header));
	return (header & 0xC000) == 0x8000;
}

/*
 * True if a number has more than MAX_DIGITS digits.  *limit keeps the limit
 * between calls; 0 at first.
 */
static bool
is_too_long(Numeric number, Datum *limit)
{
	Datum value = NumericGetDatum(number);

	if (is_short(number))
		return false;
	if (*limit == (Datum) 0)
		*limit = numeric_limit();
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, value)) > MAX_DIGITS)
		return true;
	return DatumGetBool(
		DirectFunctionCall2(numeric_ge, DirectFunctionCall1(numeric_abs, value), *limit));
}

/*
 * Returns NULL if jsonb can be sent as a request; else what prevents that, for
 * the user.  Long numbers take no more time or memory than short ones.
 */
const char *
jsonb_find_fault(Jsonb *jsonb)
{
	JsonbIterator *iterator = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbValue value;
	Datum limit = (Datum) 0;
	int n_values = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		if (token != WJB_VALUE && token != WJB_ELEM && token != WJB_BEGIN_OBJECT &&
			token != WJB_BEGIN_ARRAY)
			continue;
		if (++n_values > MAX_VALUES)
			return psprintf("more than %d values", MAX_VALUES);
		if ((n_values & 0xFFFF) == 0)
			CHECK_FOR_INTERRUPTS();
		if ((token == WJB_VALUE || token == WJB_ELEM) && value.type == jbvNumeric &&
			is_too_long(value.val.numeric, &limit))
			return psprintf("a number of more than %d digits", MAX_DIGITS);
	}
	return NULL;
}

/*
 * Returns the text of a request in the database's encoding, palloc'd.  Raises
 * an error, for the user, if the request cannot be sent.
 */
char *
jsonb_print(Jsonb *jsonb)
{
	const char *fault = jsonb_find_fault(jsonb);

	if (fault != NULL)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("request has %s", fault),
						errhint("Write long numbers as strings, and send large data as inputs.")));
	return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
}

/*
 * Returns the text of a jsonb that jsonb_from_text() made, palloc'd.
 */
char *
jsonb_print_utf8(struct varlena *stored)
{
	Jsonb *jsonb = (Jsonb *) stored;
	char *text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));

	return GetDatabaseEncoding() == PG_SQL_ASCII ? text
												 : pg_server_to_any(text, strlen(text), PG_UTF8);
}

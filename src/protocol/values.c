/*
 * values.c
 *		Values in a request that stand for others: {"$result": [job, "/place"]} and {"$concat": [...]}.
 *
 * The first stands for what is at a place of an earlier job's result, the second for the text of its elements, one after
 * another.  What comes out of a result was written by a server: it is taken word for word, and one in which something
 * looks like a reference is refused, so that no server has another sent what it may not see.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "protocol/binary.h"
#include "protocol/values.h"
#include "server/pointer.h"

#define MAX_BYTES (16 * 1024 * 1024) /* of all values that are filled in */

/* What is done with the places. */
typedef struct Filling
{
	const RequestSource *source; /* NULL: they are only checked */
	size_t bytes;                /* filled in so far */
} Filling;

/*
 * Whether there may be something to do about a JSON text.
 */
bool
values_may_be_in(const char *text)
{
	return text != NULL &&
		   (strstr(text, "\"$result\"") != NULL || strstr(text, "\"$concat\"") != NULL);
}

/*
 * Makes a node another value, at its place.
 */
static void
become(cJSON *node, const cJSON *value)
{
	node->type = value->type;
	node->child = value->child;
	node->valuestring = value->valuestring;
	node->valueint = value->valueint;
	node->valuedouble = value->valuedouble;
}

/* ---------- $result ---------- */

static void
check_inert(const cJSON *node, int64 job)
{
	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL && node->string[0] == '$')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the request takes a value of the result of job " INT64_FORMAT
							" that has \"%s\" in it",
							job, strlen(node->string) <= 20 ? node->string : "$..."),
					 errhint("Take a smaller part of the result; refer to its outputs as {\"$output\": [" INT64_FORMAT
							 ", 1]}.",
							 job)));
		check_inert(node->child, job);
	}
}

static cJSON *
read_result(const RequestSource *source, const Reference *wanted)
{
	Reference *found = binary_find_result(source, wanted);

	if (found == NULL || found->data == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("job " INT64_FORMAT " has no result, or it is not yours", wanted->job),
				 errhint("Look for it in gen_jobs: that job must have ended, and the role that owns "
						 "this one be a member of the role that owns that one.")));
	if (found->tree == NULL)
		found->tree = json_parse_trusted(found->data);
	return found->tree;
}

static void
fill_result(Filling *filling, cJSON *node, const Reference *wanted, const char *place)
{
	cJSON *value = pointer_first(read_result(filling->source, wanted), place);

	if (value == NULL)
		ereport(ERROR, (errcode(ERRCODE_NO_DATA_FOUND),
						errmsg("the result of job " INT64_FORMAT " has nothing at \"%.100s\"",
							   wanted->job, place),
						errhint("Look at it in gen_jobs.result.")));
	if (value->string != NULL && value->string[0] == '$')
		check_inert(value, wanted->job);
	check_inert(value->child, wanted->job);
	filling->bytes += json_length(value);
	if (filling->bytes > MAX_BYTES)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the request takes more than %d MB out of results of other jobs",
							   MAX_BYTES / (1024 * 1024)),
						errhint("Take smaller parts of them.")));
	become(node, json_copy(value));
}

/* ---------- $concat ---------- */

static void
append_text(StringInfo text, const cJSON *part)
{
	if (cJSON_IsString(part) || json_is_number(part))
		appendStringInfoString(text, part->valuestring);
	else if (cJSON_IsBool(part))
		appendStringInfoString(text, cJSON_IsTrue(part) ? "true" : "false");
	else if (!cJSON_IsNull(part))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the request joins what is no text by \"$concat\""),
						errhint("Join strings, numbers and booleans.")));
}

static void fill(Filling *filling, cJSON *node);

static void
fill_concat(Filling *filling, cJSON *node, cJSON *parts)
{
	StringInfoData text;
	cJSON *part;

	if (!cJSON_IsArray(parts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"$concat\" in the request is not an array"),
				 errhint(
					 "Write {\"$concat\": [\"A poster of \", {\"$result\": [7, \"/text\"]}]}.")));
	initStringInfo(&text);
	for (part = parts->child; part != NULL; part = part->next)
	{
		CHECK_FOR_INTERRUPTS();
		fill(filling, part);
		append_text(&text, part);
	}
	become(node, json_create_string(text.data));
}

/* ---------- both ---------- */

static void
fill(Filling *filling, cJSON *node)
{
	cJSON *parts = cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, "$concat") : NULL;
	Reference wanted;
	const char *place;
	cJSON *child;

	check_stack_depth();
	if (parts != NULL)
		fill_concat(filling, node, parts);
	else if (!binary_is_result(node, &wanted, &place))
	{
		for (child = node->child; child != NULL; child = child->next)
			fill(filling, child);
	}
	else if (filling->source != NULL)
		fill_result(filling, node, &wanted, place);
	else
		become(node, json_create_string(pstrdup("")));
}

/*
 * Errors for the user where one is not written as it should be; a text stands for what nobody knows yet.
 */
void
values_check(cJSON *params)
{
	Filling filling = {NULL, 0};

	fill(&filling, params);
}

/*
 * Fills in what they stand for.  Errors for the user where that is not there.
 */
void
values_fill(const RequestSource *source, cJSON *params)
{
	Filling filling = {source, 0};

	fill(&filling, params);
}

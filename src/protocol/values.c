/*
 * values.c
 *		Values in a request that stand for others: {"$result": [job, "/place"]}
 *		and {"$concat": [...]}.
 *
 * $result stands for the value at a place of an earlier job's result, $concat
 * for the text of its elements, one after another.  A server wrote the result:
 * its values are taken word for word.  A value in which something looks like a
 * reference is refused.  Otherwise a server could make us send another server
 * what that must not see.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "base/clip.h"
#include "protocol/binary.h"
#include "protocol/values.h"
#include "server/pointer.h"

#define MAX_BYTES (16 * 1024 * 1024) /* of all values filled in, plus NODE_BYTES for each node */
#define NODE_BYTES 8
#define MAX_PASSED (20 * 1000 * 1000) /* nodes of results visited on the way to the values */

/* A node of the request that a value of a result replaces. */
typedef struct Place
{
	cJSON *node;
	Reference wanted;
	const char *pointer;
} Place;

/* The places of a request while they are filled. */
typedef struct Filling
{
	const RequestSource *source; /* NULL: the places are only checked */
	size_t bytes;                /* filled in so far */
	int64 left;                  /* of MAX_PASSED */
	Place *places;               /* in the order of their jobs, once they are sorted */
	int n;
	int max;
} Filling;

/*
 * True if a JSON text may have a $result or a $concat.
 */
bool
values_may_be_in(const char *text)
{
	return text != NULL &&
		   (strstr(text, "\"$result\"") != NULL || strstr(text, "\"$concat\"") != NULL);
}

/*
 * Turns a node into another value, at its place.
 */
static void
replace_node(cJSON *node, const cJSON *value)
{
	node->type = value->type;
	node->child = value->child;
	node->valuestring = value->valuestring;
	node->valueint = value->valueint;
	node->valuedouble = value->valuedouble;
}

static cJSON *
parts_of(const cJSON *node)
{
	return cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, "$concat") : NULL;
}

/* ---------- $result ---------- */

static void
add_place(Filling *filling, const Place *place)
{
	if (filling->n == filling->max)
	{
		filling->max = Max(64, 2 * filling->max);
		filling->places =
			filling->places
				? repalloc_huge(filling->places, filling->max * sizeof(Place))
				: MemoryContextAllocHuge(CurrentMemoryContext, filling->max * sizeof(Place));
	}
	filling->places[filling->n++] = *place;
}

/*
 * Lists the places of a node and of all below it.
 */
static void
list_places(Filling *filling, cJSON *node)
{
	cJSON *parts = parts_of(node);
	Place place = {node};
	cJSON *child;

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (parts == NULL && binary_is_result(node, &place.wanted, &place.pointer))
	{
		add_place(filling, &place);
		return;
	}
	for (child = parts ? parts->child : node->child; child != NULL; child = child->next)
		list_places(filling, child);
}

static int
compare_places(const void *a, const void *b)
{
	int64 left = ((const Place *) a)->wanted.job;
	int64 right = ((const Place *) b)->wanted.job;

	return left < right ? -1 : left > right;
}

/*
 * Raises an error for the user if a node looks like a reference; returns the
 * number of nodes.
 */
static size_t
check_inert(const cJSON *node, int64 job)
{
	size_t n = 0;

	check_stack_depth();
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL && node->string[0] == '$')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the request takes a value from the result of job " INT64_FORMAT
							", and the value has a member \"%s\"",
							job, strlen(node->string) <= 20 ? node->string : "$..."),
					 errhint("Take a smaller part of the result; refer to its outputs as {\"$output\": [" INT64_FORMAT
							 ", 1]}.",
							 job)));
		n += 1 + check_inert(node->child, job);
	}
	return n;
}

/*
 * Parses a result, in the current memory context.
 */
static cJSON *
read_result(const RequestSource *source, const Reference *wanted)
{
	const Reference *found = binary_find_result(source, wanted);

	if (found == NULL || found->data == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("job " INT64_FORMAT " has no result, or it is not yours", wanted->job),
				 errhint("Look for it in gen_jobs: job " INT64_FORMAT
						 " must have ended, and this job's owner must be a member of the role that owns job " INT64_FORMAT
						 ".",
						 wanted->job, wanted->job)));
	return json_parse_trusted(found->data);
}

static void
refuse_size(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the request takes %s", what),
			 errhint("Take smaller parts of the results, or split the request into several jobs.")));
}

/*
 * Returns the value for which a place stands, out of its job's result.
 */
static cJSON *
find_value(Filling *filling, const Place *place, cJSON *result)
{
	cJSON *value = pointer_first_within(result, place->pointer, &filling->left);

	if (filling->left < 0)
		refuse_size("too many values from large results of other jobs");
	if (value == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("the result of job " INT64_FORMAT " has nothing at \"%s\"",
						place->wanted.job, clip_line(place->pointer, strlen(place->pointer), 100)),
				 errhint("Look at it in gen_jobs.result.")));
	if (value->string != NULL && value->string[0] == '$')
		check_inert(value, place->wanted.job);
	filling->bytes +=
		json_length(value) + NODE_BYTES * (1 + check_inert(value->child, place->wanted.job));
	if (filling->bytes > MAX_BYTES)
		refuse_size(
			psprintf("more than %d MB from results of other jobs", MAX_BYTES / (1024 * 1024)));
	return value;
}

/*
 * Fills the places of one result, from index first on; returns the index of
 * the first place of another result.  Parses the result once, and frees its
 * tree here: a request may refer to a thousand results.
 */
static int
fill_of_result(Filling *filling, int first)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "genjob result", ALLOCSET_DEFAULT_SIZES);
	int64 job = filling->places[first].wanted.job;
	cJSON *result;
	int i;

	MemoryContextSwitchTo(scratch);
	result = read_result(filling->source, &filling->places[first].wanted);
	MemoryContextSwitchTo(caller);
	for (i = first; i < filling->n && filling->places[i].wanted.job == job; i++)
	{
		CHECK_FOR_INTERRUPTS();
		replace_node(filling->places[i].node,
					 json_copy(find_value(filling, &filling->places[i], result)));
	}
	MemoryContextDelete(scratch);
	return i;
}

static void
fill_places(Filling *filling)
{
	int i;

	if (filling->source == NULL)
	{
		for (i = 0; i < filling->n; i++)
			replace_node(filling->places[i].node, json_create_string(pstrdup(VALUES_UNKNOWN)));
		return;
	}
	qsort(filling->places, filling->n, sizeof(Place), compare_places);
	for (i = 0; i < filling->n;)
		i = fill_of_result(filling, i);
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
						errmsg("the request has an object or an array in \"$concat\""),
						errhint("Join strings, numbers and booleans.")));
}

/*
 * Appends the parts; of a part that is a $concat, appends its parts, so that
 * no text is copied more than once.
 */
static void
append_parts(StringInfo text, const cJSON *parts)
{
	const cJSON *part;

	check_stack_depth();
	if (!cJSON_IsArray(parts))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"$concat\" in the request is not an array"),
				 errhint(
					 "Write {\"$concat\": [\"A poster of \", {\"$result\": [7, \"/text\"]}]}.")));
	for (part = parts->child; part != NULL; part = part->next)
	{
		const cJSON *inner = parts_of(part);

		CHECK_FOR_INTERRUPTS();
		if (inner != NULL)
			append_parts(text, inner);
		else
			append_text(text, part);
	}
}

/*
 * Joins each $concat in a node and in all nodes below it.
 */
static void
join_concats(cJSON *node)
{
	cJSON *parts = parts_of(node);
	StringInfoData text;
	cJSON *child;

	check_stack_depth();
	if (parts == NULL)
	{
		for (child = node->child; child != NULL; child = child->next)
			join_concats(child);
		return;
	}
	initStringInfo(&text);
	append_parts(&text, parts);
	replace_node(node, json_create_string(text.data));
}

/* ---------- both ---------- */

static void
fill_params(Filling *filling, cJSON *params)
{
	filling->left = MAX_PASSED;
	list_places(filling, params);
	fill_places(filling);
	join_concats(params);
}

/*
 * Raises errors for the user if a $result or $concat is not written correctly.
 * Values that are not known yet become VALUES_UNKNOWN.
 */
void
values_check(cJSON *params)
{
	Filling filling = {NULL};

	fill_params(&filling, params);
}

/*
 * Fills in each $result and $concat.  Raises an error for the user if a
 * result, or its value, does not exist.
 */
void
values_fill(const RequestSource *source, cJSON *params)
{
	Filling filling = {source};

	fill_params(&filling, params);
}

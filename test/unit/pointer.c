/*
 * pointer.c
 *		JSON Pointers with stars: what they name, and what they make of an id.
 */
#include "unit.h"

#include "server/pointer.h"

static cJSON *
parse(const char *text)
{
	const char *reason;
	cJSON *json = json_parse(pstrdup(text), strlen(text), &reason);

	unit_ok(json != NULL, "%s is JSON", text);
	return json;
}

static void
test_first(void)
{
	static const struct
	{
		const char *pointer;
		const char *found; /* NULL: nothing */
	} cases[] = {
		{"/a", "1"},     {"/b/0", "2"},    {"/b/*", "2"},   {"/b/*/c", "3"},
		{"/b/01", NULL}, {"/b/9", NULL},   {"/b/-1", NULL}, {"/b/99999999999999999999", NULL},
		{"/b/ 0", NULL}, {"/a/0", NULL},   {"/A", NULL},    {"/x~1y", "4"},
		{"/m~0n", "5"},  {"/~2", "6"},     {"//", NULL},    {"/", "7"},
		{"/*", "1"},     {"/b/*/d", NULL}, {"/~01", "8"},
	};
	cJSON *json = parse(
		"{\"a\":\"1\",\"b\":[\"2\",{\"c\":\"3\"}],\"x/y\":\"4\",\"m~n\":\"5\",\"*\":\"6\",\"\":\"7\",\"~1\":\"8\"}");
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		cJSON *node = pointer_first(json, cases[i].pointer);

		unit_is_text(node ? node->valuestring : NULL, cases[i].found, "%s", cases[i].pointer);
	}
	unit_ok(pointer_first(json, "") == json, "an empty pointer names the whole");
}

static void
test_fill(void)
{
	static const struct
	{
		const char *id;
		const char *pointer;
	} cases[] = {
		{"p1", "/jobs/p1/state"}, {"a/b", "/jobs/a~1b/state"}, {"a~b", "/jobs/a~0b/state"},
		{"*", "/jobs/~2/state"},  {"", "/jobs//state"},        {"{id}", "/jobs/{id}/state"},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(pointer_fill("/jobs/{id}/state", "id", cases[i].id), cases[i].pointer,
					 "the id %s", cases[i].id);
}

static void
test_set(void)
{
	cJSON *json = parse("{\"a\":{\"b\":1}}");

	pointer_set(json, "/a/b", parse("\"2\""));
	pointer_set(json, "/c/d", parse("\"3\""));
	unit_is_text(pointer_first(json, "/a/b")->valuestring, "2", "what is there is replaced");
	unit_is_text(pointer_first(json, "/c/d")->valuestring, "3", "what is not there is made");
}

void
unit_run(void)
{
	test_first();
	test_fill();
	test_set();
}

/*
 * pointer.c
 *		JSON Pointers:  the pointer on the first line, the id that is filled in on the second, then JSON.
 */
#include "fuzz.h"

#include "base/json.h"
#include "server/pointer.h"

typedef struct Visits
{
	cJSON *first;
	int n;
} Visits;

static void
note(cJSON *node, const PointerPlace *place, void *arg)
{
	Visits *visits = arg;

	must_be(node != NULL, "a place that matches is there", NULL);
	must_be_utf8(pointer_describe(place), "a place that is shown");
	if (visits->n++ == 0)
		visits->first = node;
}

FUZZ_HARNESS(pointer)
{
	char *pattern = input_take_line(input);
	char *id = input_take_line(input);
	char *text = input_take_text(input);
	char *pointer = pointer_fill(pattern, "id", id);
	Visits visits = {NULL};
	const char *reason;
	cJSON *json = json_parse(text, strlen(text), &reason);

	if (*pointer != '/')
		return; /* the options let none pass */
	pointer_each(json, pointer, note, &visits);
	must_be(pointer_first(json, pointer) == visits.first, "the first place is the first", NULL);
	if (!cJSON_IsObject(json) || strchr(pointer, '*') != NULL)
		return;
	pointer_set(json, pointer, json_create_string(pstrdup("value")));
	must_be_utf8(json_print(json), "JSON with a value set");
}

/*
 * json.c
 *		JSON of servers and of users:  all of the input, as json_parse() gets a body.
 *
 * What can be parsed can be printed, and what was printed comes out the same again.
 */
#include "fuzz.h"

#include "base/json.h"

static char *
copy_of(const char *data, size_t len)
{
	char *copy = palloc(len + 1);

	memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

static void
print_twice(const cJSON *json)
{
	char *once = json_print(json);
	char *copy = pstrdup(once);
	const char *reason;
	cJSON *again = json_parse(copy, strlen(copy), &reason);

	must_be_jsonb(once, "printed JSON");
	must_be(again != NULL, "printed JSON can be parsed", once);
	must_be(strcmp(json_print(again), once) == 0, "printed JSON stays the same", once);
}

FUZZ_HARNESS(json)
{
	const char *reason;
	char *text = copy_of(input->data, input->len);
	cJSON *json = json_parse(text, input->len, &reason);

	must_be(text[input->len] == '\0', "the end of the text is left as it is", NULL);
	if (json == NULL)
	{
		must_be_utf8(reason, "why it is not JSON");
		return;
	}
	print_twice(json);
	print_twice(json_merge(json, json_copy(json)));
	(void) json_escape(text);
}

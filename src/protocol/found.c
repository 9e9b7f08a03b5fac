/*
 * found.c
 *		Whether an answer says that a prediction is there.
 *
 * Pure.  "It is not there" is believed only if the answer has the expected
 * form: another submission, and another bill, may follow from it.
 */
#include "postgres.h"

#include "base/json.h"
#include "protocol/found.h"
#include "server/pointer.h"

typedef struct Search
{
	const char *id;
	bool is_found;
} Search;

static void
compare_with_id(cJSON *node, const PointerPlace *place, void *arg)
{
	Search *search = arg;

	if (cJSON_IsString(node) && strcmp(node->valuestring, search->id) == 0)
		search->is_found = true;
}

/*
 * True if a place that names the id exists, or another place has the id.
 */
static bool
has_id(cJSON *json, const char *places, const char *id)
{
	Search search = {id, false};
	const char *word;
	int len;

	while (!search.is_found && (word = grammar_next_word(&places, &len)) != NULL)
	{
		char *place = pnstrdup(word, len);

		if (strstr(place, "{id}") != NULL)
			search.is_found = pointer_first(json, grammar_fill(place, "id", id)) != NULL;
		else
			pointer_each(json, place, compare_with_id, &search);
	}
	return search.is_found;
}

/*
 * Returns what the answer of an address says about the prediction of that id.  Overwrites the body.
 */
FoundState
found_judge(HttpReply *reply, const Address *address, const char *places, const char *id)
{
	bool names_it = strstr(address->path, "{id}") != NULL;
	const char *reason;
	cJSON *json;

	if (reply->error == HTTP_OK && names_it && (reply->status == 404 || reply->status == 410))
		return FOUND_NOTHING;
	if (reply->error != HTTP_OK || reply->status < 200 || reply->status >= 300)
		return FOUND_NO_ANSWER;
	if (places == NULL)
		return FOUND_IT;
	json = reply->body->len > 0 ? json_parse_answer(reply->body->data, reply->body->len, &reason)
								: NULL;
	if (!cJSON_IsObject(json) && !cJSON_IsArray(json))
		return FOUND_NO_ANSWER;
	return has_id(json, places, id) ? FOUND_IT : FOUND_NOTHING;
}

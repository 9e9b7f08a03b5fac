/*
 * reasons.c
 *		The reasons that a server gives in JSON, as one line for people.
 *
 * A place may have a text, a list of reasons, or what frameworks answer when
 * they refuse: FastAPI's list of "loc" and "msg", ComfyUI's errors by node.
 * Other objects are shown as JSON.  Empty values, numbers and booleans say
 * nothing.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/clip.h"
#include "protocol/reasons.h"
#include "protocol/words.h"
#include "server/grammar.h"
#include "server/pointer.h"

#define MAX_REASONS 2000 /* bytes that are put together, before they are clipped */
#define MAX_NAME 100     /* bytes of a node's id and class */

static const char *
text_of_member(const cJSON *node, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(node, name);

	return cJSON_IsString(member) && *member->valuestring != '\0' ? member->valuestring : NULL;
}

static bool
is_full(StringInfo text)
{
	return text->len >= MAX_REASONS;
}

static void
append_part(StringInfo text, const char *glue, const char *part)
{
	size_t len = strlen(part);

	if (len == 0 || is_full(text))
		return;
	if (text->len > 0)
		appendStringInfoString(text, glue);
	appendBinaryStringInfo(text, part, (int) Min(len, MAX_REASONS));
}

static char *
clip_name(const char *name)
{
	return clip_line(name, strlen(name), MAX_NAME);
}

static char *
print_start(const cJSON *node)
{
	return json_print_start(node, MAX_REASONS);
}

/*
 * Returns where FastAPI found a fault: ["body", "steps", 0] as body.steps.0.
 */
static char *
join_location(const cJSON *location)
{
	StringInfoData text;
	const cJSON *step;

	initStringInfo(&text);
	for (step = location->child; step != NULL && !is_full(&text); step = step->next)
		append_part(&text, ".", cJSON_IsString(step) ? step->valuestring : print_start(step));
	return text.data;
}

static char *
describe_element(const cJSON *node)
{
	const cJSON *location = cJSON_GetObjectItemCaseSensitive(node, "loc");
	const char *message = text_of_member(node, "msg");

	if (cJSON_IsString(node))
		return node->valuestring;
	if (message != NULL && cJSON_IsArray(location) && location->child != NULL)
		return psprintf("%s: %s", join_location(location), message);
	if (message == NULL)
		message = text_of_member(node, "message");
	return message != NULL && !text_of_member(node, "details") ? pstrdup(message)
															   : print_start(node);
}

static char *
describe_list(const cJSON *list)
{
	StringInfoData text;
	const cJSON *element;

	initStringInfo(&text);
	for (element = list->child; element != NULL && !is_full(&text); element = element->next)
	{
		if (!json_is_empty(element))
			append_part(&text, "; ", describe_element(element));
	}
	return text.data;
}

/*
 * Describes an error of a ComfyUI node: the input, what is wrong with it, and
 * the details.
 */
static char *
describe_node_error(const cJSON *error)
{
	const char *input =
		text_of_member(cJSON_GetObjectItemCaseSensitive(error, "extra_info"), "input_name");
	const char *details = text_of_member(error, "details");
	StringInfoData text;

	initStringInfo(&text);
	if (input != NULL && (details == NULL || strstr(details, input) == NULL))
		append_part(&text, "", input);
	if (text_of_member(error, "message") != NULL)
		append_part(&text, ": ", text_of_member(error, "message"));
	if (details != NULL)
		append_part(&text, ": ", details);
	return text.len > 0 ? text.data : print_start(error);
}

static bool
has_node_errors(const cJSON *node)
{
	return cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(node, "errors"));
}

/*
 * {"4": {"class_type": "CheckpointLoaderSimple", "errors": [{"message": …, "details": …}]}}
 */
static char *
describe_nodes(const cJSON *nodes)
{
	StringInfoData text;
	const cJSON *node;

	initStringInfo(&text);
	for (node = nodes->child; node != NULL && !is_full(&text); node = node->next)
	{
		const cJSON *errors = cJSON_GetObjectItemCaseSensitive(node, "errors");
		const char *type = text_of_member(node, "class_type");
		const cJSON *error;

		if (!cJSON_IsArray(errors))
			continue;
		append_part(&text, "; ",
					psprintf("node %s%s%s%s", clip_name(node->string), type ? " (" : "",
							 type ? clip_name(type) : "", type ? ")" : ""));
		for (error = errors->child; error != NULL && !is_full(&text); error = error->next)
			append_part(&text, error == errors->child ? ", " : "; ", describe_node_error(error));
	}
	return text.data;
}

/*
 * Returns what a value says; NULL if it says nothing.
 */
static char *
describe_value(const cJSON *node)
{
	char *text = NULL;

	if (node == NULL || json_is_blank(node))
		return NULL;
	if (cJSON_IsString(node))
		text = node->valuestring;
	else if (cJSON_IsArray(node))
		text = describe_list(node);
	else if (cJSON_IsObject(node))
		text = has_node_errors(node->child) ? describe_nodes(node) : print_start(node);
	if (text != NULL)
		text = words_clip(text, strlen(text));
	return text != NULL && *text != '\0' ? text : NULL;
}

/*
 * True if not only errors have a member of that name: in a success it is the
 * answer's own.
 */
static bool
is_common_name(const char *pointer)
{
	static const char *const names[] = {"detail", "details",     "message", "msg",
										"title",  "description", "name",    "reason"};
	size_t len = strcspn(pointer + 1, "/");
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		if (strlen(names[i]) == len && pg_strncasecmp(pointer + 1, names[i], len) == 0)
			return true;
	}
	return false;
}

static char *
find_reasons(cJSON *json, const char *places, const char *id, bool is_success)
{
	const char *word;
	char *found = NULL;
	bool takes_more = true; /* "+" places may still follow */
	int len;

	while (places != NULL && (word = grammar_next_word(&places, &len)) != NULL)
	{
		bool is_more = *word == '+';
		char *pointer = pnstrdup(word + is_more, len - is_more);
		char *words = NULL;

		if (found != NULL && !(is_more && takes_more))
		{
			takes_more = false;
			continue;
		}
		if (id != NULL)
			pointer = pointer_fill(pointer, "id", id);
		if (!is_success || !is_common_name(pointer))
			words = describe_value(pointer_first(json, pointer));
		if (words != NULL)
			found = found == NULL ? words : psprintf("%s: %s", found, words);
		takes_more = found != NULL;
	}
	return found != NULL ? words_clip(found, strlen(found)) : NULL;
}

/*
 * Returns what the server says went wrong: the words at the first of places
 * that has any, and at the "+" places right behind it.  NULL if no place has
 * words.
 */
char *
reasons_of_json(cJSON *json, const char *places, const char *id)
{
	return find_reasons(json, places, id, false);
}

/*
 * As reasons_of_json(), for an answer whose status says success: skips members
 * of common names, which are the answer's own.
 */
char *
reasons_of_success(cJSON *json, const char *places, const char *id)
{
	return find_reasons(json, places, id, true);
}

/*
 * script.c
 *		What a request asks the stand-in to do with it: the JSON object in its
 *		header X-Standin, or in its member (form field) "standin".
 *
 *	{"id": "...", "latency_ms": 2000, "usage": {...}, "repeat": true,
 *	 "faults": [{"status": 503, "retry_after": "1"}, null, ...]}
 *
 * A script with a name or a value that is not known is refused: a slip in a
 * test must not look like a server that works.
 */
#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How deep in a request the script may be: beside what wraps the request, or in a part of it */
#define MAX_DEPTH 5

static const Member script_members[] = {{"id", cJSON_String},
										{"latency_ms", cJSON_Number},
										{"queue_ms", cJSON_Number},
										{"chunk_ms", cJSON_Number},
										{"usage", cJSON_Object},
										{"outcome", cJSON_String},
										{"message", cJSON_String},
										{"outputs", cJSON_Number},
										{"output", TYPE_ANY},
										{"text", cJSON_String},
										{"progress", TYPE_BOOL},
										{"kept_ms", cJSON_Number},
										{"urls", cJSON_String},
										{"url_expires_ms", cJSON_Number},
										{"url_renewed", TYPE_BOOL},
										{"faults", cJSON_Array},
										{"poll_faults", cJSON_Array},
										{"result_faults", cJSON_Array},
										{"download_faults", cJSON_Array},
										{"cancel_faults", cJSON_Array},
										{"repeat", TYPE_BOOL},
										{NULL, 0}};

/* The names that the enum Ending of standin.h has in a script, in its order */
static const char *const ending_names[] = {"succeed", "fail",  "moderated", "cancelled",
										   "gone",    "never", NULL};
static const char *const url_names[] = {"own", "foreign", NULL};

/* The string "name" of a script; NULL when there is none. */
const char *
script_text(const cJSON *script, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(script, name));
}

/* The number "name" of a script, or "otherwise". */
double
script_number(const cJSON *script, const char *name, double otherwise)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(script, name);

	return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

bool
script_bool(const cJSON *script, const char *name)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(script, name));
}

/* Sets "why" (to be freed) to a message; always false. */
bool
script_complain(char **why, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	if (vasprintf(why, fmt, args) < 0)
		*why = NULL;
	va_end(args);
	return false;
}

/* Complains of the first member of "object" that is not among "members" or has another type. */
bool
script_check_members(const cJSON *object, const Member *members, const char *where, char **why)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, object)
	{
		const Member *member = members;

		while (member->name && strcmp(member->name, item->string) != 0)
			member++;
		if (member->name == NULL)
			return script_complain(why, "standin: \"%s\" is not a member of %s", item->string,
								   where);
		if ((item->type & 0xFF & member->types) == 0)
			return script_complain(why, "standin: \"%s\" of %s has the wrong type", item->string,
								   where);
		if (cJSON_IsNumber(item) && !(item->valuedouble >= 0))
			return script_complain(why, "standin: \"%s\" of %s is negative", item->string, where);
	}
	return true;
}

/*
 * Sets "value" to the place that the string "name" of the object has in
 * "names"; leaves it when there is none.
 */
bool
script_read_name(const cJSON *object, const char *name, const char *const *names, int *value,
				 char **why)
{
	const char *text = script_text(object, name);

	for (int i = 0; text && names[i]; i++)
	{
		if (strcmp(names[i], text) == 0 && *text != '\0')
		{
			*value = i;
			return true;
		}
	}
	return text == NULL || script_complain(why, "standin: \"%s\" cannot be \"%s\"", name, text);
}

/* Takes the script out of a JSON body: from the top, or from what is in it. */
static cJSON *
script_take_from_json(cJSON *json, int depth)
{
	cJSON *script = cJSON_DetachItemFromObjectCaseSensitive(json, "standin");
	cJSON *item;

	if (script || depth == MAX_DEPTH)
		return script;
	cJSON_ArrayForEach(item, json)
	{
		if (item->child && (script = script_take_from_json(item, depth + 1)) != NULL)
			return script;
	}
	return NULL;
}

/* Complains of what is wrong anywhere in the script. */
static bool
script_check(const cJSON *script, char **why)
{
	static const char *const lists[] = {"faults", "poll_faults", "result_faults", "download_faults",
										"cancel_faults"};
	int ignored;

	if (!script_check_members(script, script_members, "a script", why) ||
		!script_read_name(script, "outcome", ending_names, &ignored, why) ||
		!script_read_name(script, "urls", url_names, &ignored, why))
		return false;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (!fault_check_list(script, lists[i], why))
			return false;
	return true;
}

/*
 * Reads the script of a request; it is taken out of the body's JSON.  False:
 * there is one and it is not valid, and "why", to be freed, says what is wrong.
 */
bool
script_read(Script *script, struct evhttp_request *req, const Body *body, char **why)
{
	const char *text = evhttp_find_header(evhttp_request_get_input_headers(req), "X-Standin");

	script->id = NULL;
	if (text == NULL && body->multipart)
		text = body_text(body, "standin");
	script->json = text ? cJSON_Parse(text) : script_take_from_json(body->json, 0);
	if (script->json == NULL)
		return text ? script_complain(why, "standin: the script is not JSON: %.200s", text) : true;
	if (!cJSON_IsObject(script->json))
		return script_complain(why, "standin: the script is not a JSON object");
	if (!script_check(script->json, why))
		return false;
	script->id = script_text(script->json, "id");
	return true;
}

/*
 * Gives the call what the script has for arrival number "nth" of its id: the
 * fault, the latency, the usage, the end.  False: not valid, and "why", to be
 * freed, says what is wrong.
 */
bool
script_choose(Script *script, Call *call, uint32_t nth, char **why)
{
	const cJSON *usage = cJSON_GetObjectItemCaseSensitive(script->json, "usage");
	int ending = ENDING_SUCCEED;

	if (usage)
		call->usage = cJSON_PrintUnformatted(usage);
	if (!script_read_name(script->json, "outcome", ending_names, &ending, why) ||
		!fault_choose(&call->fault, script->json, "faults", nth, why))
		return false;
	call->ending = (Ending) ending;
	call->work_ms = script_number(script->json, "latency_ms", call_default_latency_ms);
	call->latency_ms = call->fault.has_latency ? call->fault.latency_ms : call->work_ms;
	call->chunk_ms = script_number(script->json, "chunk_ms", 0);
	return true;
}

void
script_free(Script *script)
{
	cJSON_Delete(script->json);
	script->json = NULL;
}

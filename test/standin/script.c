/*
 * script.c
 *		What a request asks the stand-in to do with it: the JSON object in its
 *		header X-Standin, or in its member (form field) "standin".
 *
 *	{"id": "...", "latency_ms": 2000, "usage": {...}, "repeat": true,
 *	 "faults": [{"status": 503, "retry_after": "1"}, null, ...]}
 *
 * The n-th arrival of an id meets the n-th fault.  A script with a name or a
 * value that is not known is refused: a slip in a test must not look like a
 * server that works.
 */
#include "standin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A member of a script: its name and the types its value may have */
typedef struct Member
{
	const char *name;
	int types;
} Member;

#define TYPE_BOOL (cJSON_True | cJSON_False)

static const Member script_members[] = {{"id", cJSON_String},    {"latency_ms", cJSON_Number},
										{"usage", cJSON_Object}, {"faults", cJSON_Array},
										{"repeat", TYPE_BOOL},   {NULL, 0}};

static const Member fault_members[] = {{"latency_ms", cJSON_Number},
									   {"status", cJSON_Number},
									   {"retry_after", cJSON_String | cJSON_Object},
									   {"headers", cJSON_Object},
									   {"message", cJSON_String},
									   {"body", cJSON_String | cJSON_Object},
									   {"content_type", cJSON_String},
									   {"cut", cJSON_String},
									   {"reset", TYPE_BOOL},
									   {"stall", TYPE_BOOL | cJSON_String},
									   {"drip", cJSON_Object},
									   {"garbage", cJSON_String},
									   {"huge", cJSON_Number},
									   {"chunked", TYPE_BOOL},
									   {"close", TYPE_BOOL},
									   {NULL, 0}};

static const Member retry_after_members[] = {{"date_in_s", cJSON_Number}, {NULL, 0}};
static const Member body_members[] = {{"base64", cJSON_String}, {NULL, 0}};
static const Member drip_members[] = {{"bytes", cJSON_Number},
									  {"every_ms", cJSON_Number},
									  {NULL, 0}};

/* The names that the enums of standin.h have in a script, in their order */
static const char *const cut_names[] = {"", "accept", "headers", "body", NULL};
static const char *const stall_names[] = {"", "", "body", NULL};
static const char *const garbage_names[] = {"",           "not-json",   "truncated-json", "empty",
											"nul",        "nul-escape", "invalid-utf8",   "nested",
											"bad-base64", "error-200",  "html",           "no-http",
											NULL};

static bool script_complain(char **why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sets "why" (to be freed) to a message; always false. */
static bool
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
static bool
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

static bool
script_check_nested(const cJSON *fault, const char *name, const Member *members, char **why)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(fault, name);

	if (!cJSON_IsObject(item))
		return true;
	if (item->child == NULL)
		return script_complain(why, "standin: \"%s\" of a fault is empty", name);
	return script_check_members(item, members, name, why);
}

/* Takes the script out of a JSON body: from the top, or from an object that wraps the request. */
static cJSON *
script_take_from_json(cJSON *json)
{
	cJSON *script = cJSON_DetachItemFromObjectCaseSensitive(json, "standin");
	cJSON *item;

	if (script || !cJSON_IsObject(json))
		return script;
	cJSON_ArrayForEach(item, json)
	{
		if (cJSON_IsObject(item))
			script = cJSON_DetachItemFromObjectCaseSensitive(item, "standin");
		if (script)
			return script;
	}
	return NULL;
}

/*
 * Reads the script of a request; it is taken out of the body's JSON.  False:
 * there is one and it is not valid, and "why", to be freed, says what is wrong.
 */
bool
script_read(Script *script, struct evhttp_request *req, const Body *body, char **why)
{
	const char *text = evhttp_find_header(evhttp_request_get_input_headers(req), "X-Standin");
	const cJSON *item;

	script->id = NULL;
	script->latency_ms = -1;
	if (text == NULL && body->multipart)
		text = body_text(body, "standin");
	script->json = text ? cJSON_Parse(text) : script_take_from_json(body->json);
	if (script->json == NULL)
		return text ? script_complain(why, "standin: the script is not JSON: %.200s", text) : true;
	if (!cJSON_IsObject(script->json))
		return script_complain(why, "standin: the script is not a JSON object");
	if (!script_check_members(script->json, script_members, "a script", why))
		return false;

	script->id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(script->json, "id"));
	item = cJSON_GetObjectItemCaseSensitive(script->json, "latency_ms");
	if (item)
		script->latency_ms = item->valuedouble;
	return true;
}

/* The fault of arrival number "nth", taken out of the script; NULL: none. */
static cJSON *
script_take_fault(Script *script, uint32_t nth)
{
	cJSON *faults = cJSON_GetObjectItemCaseSensitive(script->json, "faults");
	uint32_t count = (uint32_t) cJSON_GetArraySize(faults);
	bool repeat = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(script->json, "repeat"));

	if (count == 0 || (nth >= count && !repeat))
		return NULL;
	return cJSON_DetachItemFromArray(faults, (int) (nth < count ? nth : count - 1));
}

/* Sets "value" to the place that the string "name" of the fault has in "names". */
static bool
fault_read_name(const cJSON *fault, const char *name, const char *const *names, int *value,
				char **why)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fault, name));

	*value = 0;
	if (text == NULL)
		return true;
	for (int i = 1; names[i]; i++)
	{
		if (strcmp(names[i], text) == 0 && *text != '\0')
		{
			*value = i;
			return true;
		}
	}
	return script_complain(why, "standin: \"%s\" cannot be \"%s\"", name, text);
}

static double
fault_number(const cJSON *fault, const char *name)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(fault, name);

	return item ? item->valuedouble : 0;
}

static bool
fault_bool(const cJSON *fault, const char *name)
{
	return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(fault, name));
}

static const char *
fault_text(const cJSON *fault, const char *name)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(fault, name));
}

static bool
fault_check(const cJSON *script, char **why)
{
	const cJSON *header;

	if (!script_check_members(script, fault_members, "a fault", why) ||
		!script_check_nested(script, "retry_after", retry_after_members, why) ||
		!script_check_nested(script, "body", body_members, why) ||
		!script_check_nested(script, "drip", drip_members, why))
		return false;
	cJSON_ArrayForEach(header, cJSON_GetObjectItemCaseSensitive(script, "headers"))
	{
		if (!cJSON_IsString(header))
			return script_complain(why, "standin: the header \"%s\" is not a string",
								   header->string);
	}
	return true;
}

/* Reads the fault that "script" describes; the fault owns it from now on. */
static bool
fault_read(Fault *fault, cJSON *script, char **why)
{
	const cJSON *drip = cJSON_GetObjectItemCaseSensitive(script, "drip");
	const cJSON *retry_after = cJSON_GetObjectItemCaseSensitive(script, "retry_after");
	int cut;
	int stall;
	int garbage;

	fault->script = script;
	if (!fault_check(script, why) || !fault_read_name(script, "cut", cut_names, &cut, why) ||
		!fault_read_name(script, "stall", stall_names, &stall, why) ||
		!fault_read_name(script, "garbage", garbage_names, &garbage, why))
		return false;
	fault->status = (int) fault_number(script, "status");
	if (fault->status != 0 && (fault->status < 200 || fault->status > 599))
		return script_complain(why, "standin: \"status\" must be from 200 to 599");
	fault->reset = fault_bool(script, "reset");
	fault->cut = fault->reset && cut == CUT_NONE && stall == STALL_NONE ? CUT_ACCEPT : (Cut) cut;
	fault->stall = fault_bool(script, "stall") ? STALL_ALL : (Stall) stall;
	fault->garbage = (Garbage) garbage;
	fault->chunked = fault_bool(script, "chunked");
	fault->close = fault_bool(script, "close");
	fault->huge = fault_number(script, "huge");
	fault->drip_bytes = drip ? fault_number(drip, "bytes") : 0;
	fault->drip_every_ms = drip ? fault_number(drip, "every_ms") : 0;
	if (drip && (fault->drip_bytes < 1 || fault->drip_every_ms < 1))
		return script_complain(why,
							   "standin: \"drip\" needs \"bytes\" and \"every_ms\" of 1 or more");
	fault->has_retry_date = cJSON_IsObject(retry_after);
	fault->retry_date_in_s = fault_number(retry_after, "date_in_s");
	fault->retry_after = cJSON_GetStringValue(retry_after);
	fault->message = fault_text(script, "message");
	fault->content_type = fault_text(script, "content_type");
	fault->headers = cJSON_GetObjectItemCaseSensitive(script, "headers");
	fault->body = cJSON_GetObjectItemCaseSensitive(script, "body");
	return true;
}

/*
 * Gives the call what the script has for arrival number "nth" of its id: the
 * fault, the latency, the usage.  False: not valid, and "why", to be freed,
 * says what is wrong.
 */
bool
script_choose(Script *script, Call *call, uint32_t nth, char **why)
{
	const cJSON *usage = cJSON_GetObjectItemCaseSensitive(script->json, "usage");
	const cJSON *latency;
	cJSON *fault = script_take_fault(script, nth);

	call->latency_ms = script->latency_ms >= 0 ? script->latency_ms : call_default_latency_ms;
	if (usage)
		call->usage = cJSON_PrintUnformatted(usage);
	if (fault == NULL || cJSON_IsNull(fault))
	{
		cJSON_Delete(fault);
		return true;
	}
	if (!cJSON_IsObject(fault))
	{
		cJSON_Delete(fault);
		return script_complain(why, "standin: a fault is neither an object nor null");
	}
	latency = cJSON_GetObjectItemCaseSensitive(fault, "latency_ms");
	if (cJSON_IsNumber(latency))
		call->latency_ms = latency->valuedouble;
	return fault_read(&call->fault, fault, why);
}

void
script_free(Script *script)
{
	cJSON_Delete(script->json);
	script->json = NULL;
}

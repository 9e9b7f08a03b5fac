/*
 * fault.c
 *		What is to go wrong with one answer, as a script describes it.
 */
#include "standin.h"

#include <stdlib.h>

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
									   {"interim", cJSON_Number},
									   {"close", TYPE_BOOL},
									   {"hang_up", TYPE_BOOL | cJSON_Number},
									   {"retry_in_s", cJSON_Number},
									   {"stream_error", TYPE_BOOL},
									   {"redirect", cJSON_String},
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

static bool
fault_check_nested(const cJSON *fault, const char *name, const Member *members, char **why)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(fault, name);

	if (!cJSON_IsObject(item))
		return true;
	if (item->child == NULL)
		return script_complain(why, "standin: \"%s\" of a fault is empty", name);
	return script_check_members(item, members, name, why);
}

static bool
fault_check(const cJSON *script, char **why)
{
	const cJSON *header;
	const cJSON *line;

	if (!script_check_members(script, fault_members, "a fault", why) ||
		!fault_check_nested(script, "retry_after", retry_after_members, why) ||
		!fault_check_nested(script, "body", body_members, why) ||
		!fault_check_nested(script, "drip", drip_members, why))
		return false;
	cJSON_ArrayForEach(header, cJSON_GetObjectItemCaseSensitive(script, "headers"))
	{
		if (!cJSON_IsString(header) && !cJSON_IsArray(header))
			return script_complain(why, "standin: the header \"%s\" is neither a string nor a list",
								   header->string);
		cJSON_ArrayForEach(line, header)
		{
			if (!cJSON_IsString(line))
				return script_complain(why, "standin: a line of the header \"%s\" is not a string",
									   header->string);
		}
	}
	return true;
}

/* Reads the fault that "script" describes; the fault owns it from now on. */
static bool
fault_read(Fault *fault, cJSON *script, char **why)
{
	const cJSON *drip = cJSON_GetObjectItemCaseSensitive(script, "drip");
	const cJSON *retry_after = cJSON_GetObjectItemCaseSensitive(script, "retry_after");
	int cut = 0;
	int stall = 0;
	int garbage = 0;

	fault->script = script;
	if (!fault_check(script, why) || !script_read_name(script, "cut", cut_names, &cut, why) ||
		!script_read_name(script, "stall", stall_names, &stall, why) ||
		!script_read_name(script, "garbage", garbage_names, &garbage, why))
		return false;
	fault->status = (int) script_number(script, "status", 0);
	if (fault->status != 0 && (fault->status < 200 || fault->status > 599))
		return script_complain(why, "standin: \"status\" must be from 200 to 599");
	fault->reset = script_bool(script, "reset");
	fault->cut = fault->reset && cut == CUT_NONE && stall == STALL_NONE ? CUT_ACCEPT : (Cut) cut;
	fault->stall = script_bool(script, "stall") ? STALL_ALL : (Stall) stall;
	fault->garbage = (Garbage) garbage;
	fault->chunked = script_bool(script, "chunked");
	fault->close = script_bool(script, "close");
	fault->hang_up_ms = script_number(script, "hang_up", 0);
	fault->hang_up = script_bool(script, "hang_up") || fault->hang_up_ms > 0;
	fault->huge = script_number(script, "huge", 0);
	fault->interim = script_number(script, "interim", 0);
	fault->drip_bytes = drip ? script_number(drip, "bytes", 0) : 0;
	fault->drip_every_ms = drip ? script_number(drip, "every_ms", 0) : 0;
	if (drip && (fault->drip_bytes < 1 || fault->drip_every_ms < 1))
		return script_complain(why,
							   "standin: \"drip\" needs \"bytes\" and \"every_ms\" of 1 or more");
	fault->has_latency = cJSON_HasObjectItem(script, "latency_ms");
	fault->latency_ms = script_number(script, "latency_ms", 0);
	fault->retry_in_s = script_number(script, "retry_in_s", 0);
	fault->stream_error = script_bool(script, "stream_error");
	fault->redirect = script_text(script, "redirect");
	fault->has_retry_date = cJSON_IsObject(retry_after);
	fault->retry_date_in_s = script_number(retry_after, "date_in_s", 0);
	fault->retry_after = cJSON_GetStringValue(retry_after);
	fault->message = script_text(script, "message");
	fault->content_type = script_text(script, "content_type");
	fault->headers = cJSON_GetObjectItemCaseSensitive(script, "headers");
	fault->body = cJSON_GetObjectItemCaseSensitive(script, "body");
	return true;
}

/* Complains of the first fault of a list that is not valid. */
bool
fault_check_list(const cJSON *script, const char *list, char **why)
{
	const cJSON *item;
	Fault fault;

	cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(script, list))
	{
		if (cJSON_IsNull(item))
			continue;
		if (!cJSON_IsObject(item))
			return script_complain(why, "standin: a fault is neither an object nor null");
		if (!fault_read(&fault, (cJSON *) item, why))
			return false;
	}
	return true;
}

/*
 * Sets "fault", which is all zero, to the one that arrival number "nth" meets.
 * False: not valid, and "why", to be freed, says what is wrong.
 */
bool
fault_choose(Fault *fault, const cJSON *script, const char *list, uint32_t nth, char **why)
{
	const cJSON *faults = cJSON_GetObjectItemCaseSensitive(script, list);
	uint32_t count = (uint32_t) cJSON_GetArraySize(faults);
	const cJSON *item;

	if (count == 0 || (nth >= count && !script_bool(script, "repeat")))
		return true;
	item = cJSON_GetArrayItem(faults, (int) (nth < count ? nth : count - 1));
	return cJSON_IsNull(item) || fault_read(fault, cJSON_Duplicate(item, true), why);
}

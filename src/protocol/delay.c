/*
 * delay.c
 *		How long a server asks to wait, in any of the places where servers say
 *		so.
 *
 * Retry-After (RFC 9110) and retry-after-ms (OpenAI, Azure) count with any
 * status.  Other headers come with every answer and tell when a limit renews:
 * x-ratelimit-reset-* (OpenAI, Azure), anthropic-ratelimit-*-reset,
 * RateLimit-Reset and RateLimit (IETF drafts), X-RateLimit-Reset.  They count
 * only if a header says that nothing of the limit remains or, if no header
 * says what remains, if the status is 429, 503 or 529.  In the body: a number
 * or a span (Hugging Face's estimated_time, Google's retryDelay), or a
 * sentence.  A date counts from the server's own Date, because our calendar may
 * be wrong.
 */
#include "postgres.h"

#include "http/header.h"
#include "protocol/delay.h"
#include "protocol/duration.h"
#include "server/grammar.h"
#include "server/pointer.h"

/* The headers of a limit, what remains of it and when it renews. */
typedef struct LimitHeaders
{
	const char *remaining;
	const char *reset;
} LimitHeaders;

static const LimitHeaders limit_headers[] = {
	{"x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"},
	{"x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"},
	{"anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"},
	{"anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"},
	{"anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"},
	{"anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"},
	{"RateLimit-Remaining", "RateLimit-Reset"},
	{"X-RateLimit-Remaining", "X-RateLimit-Reset"},
	{"X-Rate-Limit-Remaining", "X-Rate-Limit-Reset"},
};

/*
 * True if the status says that the server is busy, or that we send too much.
 */
static bool
is_busy(int status)
{
	return status == 429 || status == 503 || status == 529;
}

static int64
header_duration(const HttpReply *reply, const char *name, int64 now_unix)
{
	char *value = header_find(reply, name);

	return value ? duration_of_value(value, now_unix) : -1;
}

/*
 * True if a limit is used up. remaining is what a header says is left of it;
 * if that is NULL, the status decides.
 */
static bool
is_used_up(const char *remaining, int status)
{
	if (remaining == NULL)
		return is_busy(status);
	return isdigit((unsigned char) *remaining) && atof(remaining) == 0;
}

/*
 * Returns the digits of a parameter of a structured header, such as t in
 * `"default";r=0;t=30`; NULL if there is none.
 */
static char *
parameter_of(const char *header, const char *name)
{
	size_t len = strlen(name);
	const char *p = header;

	while ((p = strstr(p, name)) != NULL)
	{
		if (p[len] == '=' && (p == header || strchr(" ,;", p[-1]) != NULL))
			return pnstrdup(p + len + 1, strspn(p + len + 1, "0123456789"));
		p += len;
	}
	return NULL;
}

/*
 * Returns the ms until the limit in the header RateLimit renews, -1 if it is
 * not used up.  Reads drafts 3 to 7 ("remaining=0, reset=30"), and drafts from
 * 8 on.
 */
static int64
structured_reset(const HttpReply *reply, int64 now_unix)
{
	char *header = header_find(reply, "RateLimit");
	char *remaining;
	char *reset;

	if (header == NULL)
		return -1;
	remaining = parameter_of(header, "remaining");
	reset = parameter_of(header, "reset");
	if (reset == NULL)
	{
		remaining = parameter_of(header, "r");
		reset = parameter_of(header, "t");
	}
	return reset != NULL && is_used_up(remaining, reply->status)
			   ? duration_of_value(reset, now_unix)
			   : -1;
}

/*
 * Returns the ms until the last used-up limit renews; -1 if none is used up.
 */
static int64
longest_reset(const HttpReply *reply, int64 now_unix)
{
	int64 longest = structured_reset(reply, now_unix);
	int i;

	for (i = 0; i < lengthof(limit_headers); i++)
	{
		int64 ms = header_duration(reply, limit_headers[i].reset, now_unix);

		if (ms > longest &&
			is_used_up(header_find(reply, limit_headers[i].remaining), reply->status))
			longest = ms;
	}
	return longest;
}

static int64
delay_in_headers(const HttpReply *reply, int64 now_unix)
{
	char *value = header_find(reply, "retry-after-ms");
	int64 ms =
		value && isdigit((unsigned char) *value) ? duration_of_seconds(atof(value) / 1000) : -1;

	if (ms < 0)
		ms = header_duration(reply, "Retry-After", now_unix);
	return ms >= 0 ? ms : longest_reset(reply, now_unix);
}

/*
 * Returns the ms that a value in the body asks to wait; -1 if it has none.  A
 * number is in ms if the name of its member ends with "ms".
 */
static int64
delay_at(const cJSON *node, int64 now_unix)
{
	size_t len = node->string ? strlen(node->string) : 0;
	bool in_ms = len > 2 && pg_strcasecmp(node->string + len - 2, "ms") == 0;

	if (json_is_number(node))
		return in_ms ? duration_of_seconds(json_double(node) / 1000)
					 : duration_of_number(json_double(node), now_unix);
	return cJSON_IsString(node) ? duration_of_value(node->valuestring, now_unix) : -1;
}

static int64
delay_in_body(cJSON *json, const char *places, int64 now_unix)
{
	const char *place;
	int len;

	while (places != NULL && (place = grammar_next_word(&places, &len)) != NULL)
	{
		const cJSON *node = pointer_first(json, pnstrdup(place, len));
		int64 ms = node ? delay_at(node, now_unix) : -1;

		if (ms >= 0)
			return ms;
	}
	return -1;
}

/*
 * Returns what time it was for the server when it answered; now_unix if it
 * does not say.  A cache adds for how long it has had the answer (Age).
 */
static int64
server_time(const HttpReply *reply, int64 now_unix)
{
	char *date = header_find(reply, "Date");
	char *age = header_find(reply, "Age");
	int64 theirs;

	if (date == NULL || !duration_read_date(date, &theirs))
		return now_unix;
	if (age != NULL && isdigit((unsigned char) *age))
		theirs += duration_of_seconds(atof(age)) / 1000;
	return theirs;
}

/*
 * Returns for how many ms a refusal asks to wait; -1 if it does not say.
 * now_unix counts only if the answer has no Date.
 */
int64
delay_read(const HttpReply *reply, cJSON *json, const char *places, const char *words,
		   int64 now_unix)
{
	int64 now = server_time(reply, now_unix);
	int64 ms = delay_in_headers(reply, now);

	if (ms < 0 && json != NULL)
		ms = delay_in_body(json, places, now);
	return ms >= 0 ? ms : duration_in_words(words);
}

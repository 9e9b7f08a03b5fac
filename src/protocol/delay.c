/*
 * delay.c
 *		How long a server asks to wait, in any of the places where servers say
 *		so.
 *
 * Retry-After (RFC 9110) and retry-after-ms (OpenAI, Azure) count with any
 * status.  Other headers come with every answer and tell when a limit renews:
 * x-ratelimit-reset-* (OpenAI, Azure, Groq), anthropic-*-reset,
 * RateLimit-Reset and RateLimit (IETF drafts), X-RateLimit-Reset.  They count
 * only if a header says that nothing of the limit remains or, if no header
 * says what remains, if the status is 429, 503 or 529.  In the body: a number
 * or a span (Hugging Face's estimated_time, Google's retryDelay), or a
 * sentence.  A date counts from the server's own Date, because our calendar may
 * be wrong.
 */
#include "postgres.h"

#include <math.h>

#include "http/header.h"
#include "protocol/delay.h"
#include "protocol/duration.h"
#include "server/grammar.h"
#include "server/pointer.h"

#define RESET "reset"
#define REMAINING "remaining"
#define MAX_LIMITS 32 /* headers that are looked at, since each is a search for another one */

/* A limit that the header RateLimit names. */
typedef struct Limit
{
	double remaining; /* NaN: the header does not say; below 0: it is no number */
	double reset;     /* seconds; below 0: the header does not say */
} Limit;

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

static double
read_count(const char *text)
{
	return isdigit((unsigned char) *text) ? strtod(text, NULL) : -1;
}

/*
 * True if a limit is used up.  If nothing says what remains of it (NaN), the status decides.
 */
static bool
is_used_up(double remaining, int status)
{
	return isnan(remaining) ? is_busy(status) : remaining == 0;
}

/* ---------- the header RateLimit ---------- */

/*
 * Returns the bytes of the piece that text begins with: all up to a comma or a semicolon that is in no string.
 */
static size_t
piece_length(const char *text)
{
	const char *p;
	bool is_quoted = false;

	for (p = text; *p != '\0' && (is_quoted || (*p != ',' && *p != ';')); p++)
	{
		if (*p == '"')
			is_quoted = !is_quoted;
		else if (*p == '\\' && is_quoted && p[1] != '\0')
			p++;
	}
	return p - text;
}

static bool
is_named(const char *piece, size_t len, const char *name, const char *short_name)
{
	return (strlen(name) == len && strncmp(piece, name, len) == 0) ||
		   (strlen(short_name) == len && strncmp(piece, short_name, len) == 0);
}

static int64
limit_delay(const Limit *limit, int status, int64 now_unix)
{
	return limit->reset >= 0 && is_used_up(limit->remaining, status)
			   ? duration_of_number(limit->reset, now_unix)
			   : -1;
}

/*
 * Returns the ms until the last used-up limit in a value of the header
 * RateLimit renews; -1 if none is used up.  Reads drafts 3 to 7, which have one
 * limit ("remaining=0, reset=30"), and drafts from 8 on, where each limit
 * begins with its name ("a";r=0;t=30, "b";r=5;t=60).
 */
static int64
structured_reset(const char *text, int status, int64 now_unix)
{
	static const Limit unknown = {NAN, -1};
	Limit limit = unknown;
	int64 longest = -1;

	while (*(text += strspn(text, ",; \t")) != '\0')
	{
		size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-.*");

		if (text[name] != '=')
		{
			longest = Max(longest, limit_delay(&limit, status, now_unix));
			limit = unknown;
		}
		else if (is_named(text, name, REMAINING, "r"))
			limit.remaining = read_count(text + name + 1);
		else if (is_named(text, name, RESET, "t"))
			limit.reset = read_count(text + name + 1);
		text += piece_length(text);
	}
	return Max(longest, limit_delay(&limit, status, now_unix));
}

/* ---------- headers in pairs: what remains of a limit, and when it renews ---------- */

static char *
lower_name(const HeaderLine *header)
{
	char *name = pnstrdup(header->name, header->name_len);
	char *p;

	for (p = name; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	return name;
}

/*
 * Returns the word "reset" in the name of a header, in lower case, if the name says when a limit renews; else NULL.
 */
static const char *
find_reset(const char *name)
{
	const char *word = strstr(name, RESET);
	const char *end = word ? word + strlen(RESET) : NULL;

	if (word == NULL || (*end != '\0' && *end != '-') || word == name || word[-1] != '-')
		return NULL;
	return strstr(name, "ratelimit") != NULL || strstr(name, "rate-limit") != NULL ||
				   strncmp(name, "anthropic-", strlen("anthropic-")) == 0
			   ? word
			   : NULL;
}

/*
 * Returns what remains of a limit, by the header beside the one that says when the limit renews; NaN if there is none.
 */
static double
find_remaining(const HttpReply *reply, const char *name, const char *reset)
{
	char *other =
		psprintf("%.*s" REMAINING "%s", (int) (reset - name), name, reset + strlen(RESET));
	char *value = header_find(reply, other);

	return value ? read_count(value) : NAN;
}

/*
 * Returns the ms until the last used-up limit renews; -1 if none is used up.
 */
static int64
longest_reset(const HttpReply *reply, int64 now_unix)
{
	HeaderLine header;
	int64 longest = -1;
	size_t at = 0;
	int n = 0;

	while (n < MAX_LIMITS && header_next(reply, &at, &header))
	{
		char *name = lower_name(&header);
		const char *reset = find_reset(name);
		int64 ms = -1;

		if (strcmp(name, "ratelimit") == 0)
			ms =
				structured_reset(pnstrdup(header.value, header.value_len), reply->status, now_unix);
		else if (reset != NULL)
		{
			ms = duration_of_value(pnstrdup(header.value, header.value_len), now_unix);
			if (ms > longest && !is_used_up(find_remaining(reply, name, reset), reply->status))
				ms = -1;
		}
		n += reset != NULL;
		longest = Max(longest, ms);
	}
	return longest;
}

static int64
delay_in_headers(const HttpReply *reply, int64 now_unix)
{
	char *value = header_find(reply, "retry-after-ms");
	int64 ms = value ? duration_of_seconds(read_count(value) / 1000) : -1;

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

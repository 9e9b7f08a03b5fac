/*
 * delay.c
 *		How long a server asks to wait, in any of the ways that servers say so.
 *
 * Retry-After in seconds or as a date (RFC 9110); retry-after-ms (OpenAI, Azure); x-ratelimit-reset-*
 * as Go durations or seconds (OpenAI, Azure); RateLimit-Reset in seconds (IETF draft); a number or a
 * duration in the body (Hugging Face's estimated_time, Google's retryDelay "34.4s"); and in words
 * (Replicate's "resets in ~30s", OpenAI's "try again in 20s").
 */
#include "postgres.h"

#include "header.h"
#include "protocol/delay.h"
#include "protocol/grammar.h"
#include "protocol/pointer.h"
#include "retry.h"

static int64
ms_of_seconds(double seconds)
{
	if (!(seconds >= 0))
		return -1;
	return seconds * 1000 > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : (int64) (seconds * 1000);
}

/*
 * "34.4s", "12ms", "6m0s", "1h2m", or a number of seconds.  -1 when it is none; *end is where it ends.
 */
static int64
read_duration(const char *text, const char **end)
{
	double seconds = 0;
	bool any = false;

	for (;;)
	{
		char *after;
		double number;

		if (!isdigit((unsigned char) *text))
			break;
		number = strtod(text, &after);
		any = true;
		if (strncmp(after, "ms", 2) == 0)
			seconds += number / 1000, after += 2;
		else if (*after == 'h')
			seconds += number * 3600, after += 1;
		else if (*after == 'm')
			seconds += number * 60, after += 1;
		else
			seconds += number, after += *after == 's';
		text = after;
	}
	*end = text;
	return any ? ms_of_seconds(seconds) : -1;
}

static int64
header_duration(const HttpReply *reply, const char *name)
{
	char *value = header_find(reply, name);
	const char *end;
	int64 ms = value ? read_duration(value, &end) : -1;

	return ms >= 0 && *end == '\0' ? ms : -1;
}

/*
 * Of limits that reset at different times the one that is used up counts.
 */
static int64
ratelimit_reset(const HttpReply *reply)
{
	static const char *const kinds[] = {"requests", "tokens"};
	int64 longest = -1;
	int i;

	for (i = 0; i < lengthof(kinds); i++)
	{
		char *left = header_find(reply, psprintf("x-ratelimit-remaining-%s", kinds[i]));
		int64 ms = header_duration(reply, psprintf("x-ratelimit-reset-%s", kinds[i]));

		if (left != NULL && atof(left) <= 0 && ms > longest)
			longest = ms;
	}
	return longest;
}

static int64
delay_in_headers(const HttpReply *reply, int64 now_unix)
{
	char *value = header_find(reply, "retry-after-ms");
	int64 ms = value && isdigit((unsigned char) *value) ? ms_of_seconds(atof(value) / 1000) : -1;

	if (ms < 0 && (value = header_find(reply, "Retry-After")) != NULL)
		ms = retry_after_ms(value, now_unix);
	if (ms < 0)
		ms = ratelimit_reset(reply);
	if (ms < 0)
		ms = header_duration(reply, "RateLimit-Reset");
	return ms;
}

static int64
delay_in_body(cJSON *json, const char *places)
{
	const char *place;
	int len;

	while (places != NULL && (place = grammar_next_word(&places, &len)) != NULL)
	{
		const cJSON *node = pointer_first(json, pnstrdup(place, len));
		const char *end;

		if (json_is_number(node))
			return ms_of_seconds(json_double(node));
		if (cJSON_IsString(node) && read_duration(node->valuestring, &end) >= 0)
			return read_duration(node->valuestring, &end);
	}
	return -1;
}

static int64
delay_in_words(const char *words)
{
	static const char *const phrases[] = {"resets in ~", "resets in ", "try again in ",
										  "retry in "};
	int i;

	for (i = 0; i < lengthof(phrases); i++)
	{
		const char *found = strcasestr(words, phrases[i]);
		const char *end;
		int64 ms;
		int unit;

		if (found == NULL)
			continue;
		ms = read_duration(found + strlen(phrases[i]), &end);
		/* "5 minutes" */
		unit = strncmp(end, " min", 4) == 0 ? 60 : strncmp(end, " hour", 5) == 0 ? 3600 : 1;
		return ms < 0 ? -1 : Min(ms * unit, RETRY_AFTER_MAX_MS);
	}
	return -1;
}

/*
 * The ms to wait that a refusal asks for; -1 when it does not say.
 */
int64
delay_read(const HttpReply *reply, cJSON *json, const char *places, const char *words,
		   int64 now_unix)
{
	int64 ms = delay_in_headers(reply, now_unix);

	if (ms < 0 && json != NULL)
		ms = delay_in_body(json, places);
	return ms >= 0 ? ms : delay_in_words(words);
}

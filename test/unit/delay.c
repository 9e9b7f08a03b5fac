/*
 * delay.c
 *		How long a refusal asks to wait: by its headers, its body, its words.
 */
#include "unit.h"

#include "utils/memutils.h"

#include "base/bytes.h"
#include "protocol/delay.h"
#include "protocol/duration.h"
#include "replies.h"

#define NOW 1700000000 /* Tue, 14 Nov 2023 22:13:20 GMT */
#define DAY (INT64CONST(86400) * 1000)

/* ---------- sentences ---------- */

static const struct
{
	const char *words;
	int64 ms; /* -1: they name no span */
} sentences[] = {
	{"Please try again in 20s.", 20000},
	{"try again in 1 day", DAY},
	{"try again in 1d2h", DAY}, /* at most a day */
	{"Try again in 2h30m", 9000000},
	{"retry after 26 seconds", 26000},
	{"Please retry after 1,200 seconds.", 1200000},
	{"Try again in 1500 milliseconds", 1500},
	{"Please try again in 858ms. Visit the page.", 858},
	{"Please try again in 6m0s", 360000},
	{"Your rate limit resets in ~30s.", 30000},
	{"resets in ~1 hour and 5 minutes", 3900000},
	{"Please wait 3 minutes", 180000},
	{"retry in 2.5 seconds", 2500},
	{"Retry after 5", 5000},
	{"try again in 5 fortnights", -1},
	{"try again in 3 moons or 20 s", -1},
	{"try again later", -1},
	{"limit of 20 requests in 60 s", -1},
	{"", -1},
};

static void
test_sentences(void)
{
	int i;

	for (i = 0; i < lengthof(sentences); i++)
		unit_is_int(duration_in_words(sentences[i].words), sentences[i].ms, "\"%s\"",
					sentences[i].words);
}

/* ---------- values ---------- */

static const struct
{
	const char *value;
	int64 ms;
} values[] = {
	{"0", 0},
	{"7", 7000},
	{"1.5", 1500},
	{"34.4s", 34400},
	{"12ms", 12},
	{"6m0s", 360000},
	{"1h", 3600000},
	{"1700000010", 10000},    /* seconds since 1970 */
	{"1700000010000", 10000}, /* ms since 1970 */
	{"1600000000", 0},        /* it has passed */
	{"99999999", DAY},        /* at most a day */
	{"Tue, 14 Nov 2023 22:14:20 GMT", 60000},
	{"Tuesday, 14-Nov-23 22:14:20 GMT", 60000},
	{"Tue Nov 14 22:14:20 2023", 60000},
	{"2023-11-14T22:14:20Z", 60000},
	{"2023-11-14T23:14:20+01:00", 60000},
	{"2023-11-14T22:14:20.5Z", 60000},
	{"Tue, 14 Nov 2023 22:12:20 GMT", 0}, /* it has passed */
	{"-5", -1},
	{"soon", -1},
	{"7 fortnights", -1},
	{"", -1},
};

static void
test_values(void)
{
	int i;

	for (i = 0; i < lengthof(values); i++)
		unit_is_int(duration_of_value(values[i].value, NOW), values[i].ms, "value \"%s\"",
					values[i].value);
}

/* ---------- refusals ---------- */

static const struct
{
	const char *what;
	int status;
	const char *headers;
	const char *body; /* JSON, or NULL */
	const char *places;
	const char *words;
	int64 ms;
} refusals[] = {
	{"nothing", 429, "", NULL, NULL, "", -1},
	{"Retry-After", 500, "Retry-After: 7\r\n", NULL, NULL, "", 7000},
	{"retry-after-ms goes before it", 429, "Retry-After: 7\r\nretry-after-ms: 250\r\n", NULL, NULL,
	 "", 250},
	{"what Retry-After does not say, the words do", 429, "Retry-After: soon\r\n", NULL, NULL,
	 "try again in 3s", 3000},
	{"Retry-After goes before the words", 429, "Retry-After: 7\r\n", NULL, NULL, "try again in 3s",
	 7000},
	{"a date that has passed", 429, "Retry-After: Tue, 14 Nov 2023 22:12:20 GMT\r\n", NULL, NULL,
	 "", 0},
	{"a date, by the server's own clock", 429,
	 "Date: Tue, 14 Nov 2023 23:13:20 GMT\r\nRetry-After: Tue, 14 Nov 2023 23:13:50 GMT\r\n", NULL,
	 NULL, "", 30000},
	{"a date, by the clock of a server that is behind", 503,
	 "Date: Mon, 13 Nov 2023 22:13:20 GMT\r\nRetry-After: Mon, 13 Nov 2023 22:13:27 GMT\r\n", NULL,
	 NULL, "", 7000},
	{"a date in an answer that a cache kept", 503,
	 "Date: Tue, 14 Nov 2023 22:03:20 GMT\r\nAge: 600\r\nRetry-After: Tue, 14 Nov 2023 22:13:30 GMT\r\n",
	 NULL, NULL, "", 10000},
	{"an answer of the year 9999", 429,
	 "Date: Fri, 31 Dec 9999 23:59:59 GMT\r\nRetry-After: Tue, 14 Nov 2023 22:13:40 GMT\r\n", NULL,
	 NULL, "", 0},
	{"an answer of 1970", 429,
	 "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-RateLimit-Reset: 1700003605\r\n", NULL, NULL, "",
	 DURATION_MAX_MS},
	{"an age without end", 429,
	 "Date: Tue, 14 Nov 2023 22:03:20 GMT\r\nAge: 9e999\r\nRetry-After: Tue, 14 Nov 2023 22:13:30 GMT\r\n",
	 NULL, NULL, "", 0},
	{"an age below zero", 429,
	 "Date: Tue, 14 Nov 2023 22:13:20 GMT\r\nAge: -600\r\nRetry-After: Tue, 14 Nov 2023 22:13:30 GMT\r\n",
	 NULL, NULL, "", 10000},
	{"a date, beside one that is none", 429,
	 "Date: today\r\nRetry-After: Tue, 14 Nov 2023 22:13:40 GMT\r\n", NULL, NULL, "", 20000},
	{"an epoch, by the server's own clock", 429,
	 "Date: Tue, 14 Nov 2023 23:13:20 GMT\r\nX-RateLimit-Reset: 1700003605\r\n", NULL, NULL, "",
	 5000},
	{"seconds do not depend on it", 429,
	 "Date: Tue, 14 Nov 2023 23:13:20 GMT\r\nRetry-After: 7\r\n", NULL, NULL, "", 7000},
	{"when a limit renews, with a refusal for it", 429, "x-ratelimit-reset-requests: 6m0s\r\n",
	 NULL, NULL, "", 360000},
	{"with another refusal it says nothing", 500, "x-ratelimit-reset-requests: 6m0s\r\n", NULL,
	 NULL, "", -1},
	{"where something remains it says nothing", 429,
	 "x-ratelimit-remaining-requests: 5\r\nx-ratelimit-reset-requests: 6m0s\r\n", NULL, NULL, "",
	 -1},
	{"where nothing remains it does", 500,
	 "x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 30s\r\n", NULL, NULL, "", 30000},
	{"-1 is no number that remains", 429,
	 "x-ratelimit-remaining-tokens: -1\r\nx-ratelimit-reset-tokens: 30\r\n", NULL, NULL, "", -1},
	{"the longest of several", 429,
	 "x-ratelimit-reset-requests: 1s\r\nx-ratelimit-reset-tokens: 30s\r\n", NULL, NULL, "", 30000},
	{"Anthropic's", 429,
	 "anthropic-ratelimit-requests-remaining: 0\r\nanthropic-ratelimit-requests-reset: 2023-11-14T22:14:20Z\r\n",
	 NULL, NULL, "", 60000},
	{"the draft's", 429, "RateLimit-Reset: 12\r\n", NULL, NULL, "", 12000},
	{"a later draft's", 429, "RateLimit: limit=10, remaining=0, reset=30\r\n", NULL, NULL, "",
	 30000},
	{"the last draft's", 429, "RateLimit: \"default\";r=0;t=31\r\n", NULL, NULL, "", 31000},
	{"an item of several that is used up", 429,
	 "RateLimit: \"burst\";r=50;t=5, \"daily\";r=0;t=3600\r\n", NULL, NULL, "", 3600000},
	{"the longest of several items that are used up", 500,
	 "RateLimit: \"a\";r=0;t=9,\"b\";r=0;t=40;pk=:cGs=: , \"c\";r=7;t=99\r\n", NULL, NULL, "",
	 40000},
	{"no item of several that is used up", 429,
	 "RateLimit: \"burst\";r=50;t=5, \"daily\";r=3;t=3600\r\n", NULL, NULL, "", -1},
	{"items in several lines", 429,
	 "RateLimit: \"burst\";r=9;t=5\r\nratelimit: \"daily\";r=0;t=60\r\n", NULL, NULL, "", 60000},
	{"a name that looks like items", 429,
	 "RateLimit: \"a, b;r=0;t=900\\\", \";r=4;t=8, \"c\";r=0;t=7\r\n", NULL, NULL, "", 7000},
	{"an item without a time", 429, "RateLimit: \"a\";r=0, \"b\";r=8;t=50\r\n", NULL, NULL, "", -1},
	{"parameters in another order, with blanks", 429, "RateLimit: \"a\" ; t=30 ; r=0\r\n", NULL,
	 NULL, "", 30000},
	{"an item without what remains", 429, "RateLimit: \"a\";t=30\r\n", NULL, NULL, "", 30000},
	{"a token for a name", 429, "RateLimit: default;r=0;t=30\r\n", NULL, NULL, "", 30000},
	{"a later draft's, in another order", 429, "RateLimit: reset=30,limit=10,remaining=0\r\n", NULL,
	 NULL, "", 30000},
	{"a later draft's, with semicolons", 429, "RateLimit: limit=10; remaining=0; reset=30\r\n",
	 NULL, NULL, "", 30000},
	{"a time below zero", 429, "RateLimit: \"a\";r=0;t=-5\r\n", NULL, NULL, "", -1},
	{"a time beyond all numbers", 429, "RateLimit: \"a\";r=0;t=99999999999999999999999\r\n", NULL,
	 NULL, "", DAY},
	{"a string that does not end", 429, "RateLimit: \"a;r=0;t=30\r\n", NULL, NULL, "", -1},
	{"a limit of a kind of its own", 429,
	 "x-ratelimit-remaining-tokens-minute: 0\r\nx-ratelimit-reset-tokens-minute: 30.5\r\n", NULL,
	 NULL, "", 30500},
	{"the same with another refusal", 500,
	 "x-ratelimit-reset-requests-day: 30000\r\nx-ratelimit-remaining-requests-day: 14000\r\n", NULL,
	 NULL, "", -1},
	{"a project's limit", 429,
	 "x-ratelimit-remaining-project-tokens: 0\r\nx-ratelimit-reset-project-tokens: 6m0s\r\n", NULL,
	 NULL, "", 360000},
	{"Anthropic's other limits", 429,
	 "anthropic-priority-input-tokens-remaining: 0\r\nanthropic-priority-input-tokens-reset: 2023-11-14T22:14:20Z\r\n",
	 NULL, NULL, "", 60000},
	{"a limit by size", 429, "ratelimitbysize-remaining: 0\r\nratelimitbysize-reset: 33\r\n", NULL,
	 NULL, "", 33000},
	{"what is not a limit's", 429, "X-Password-Reset: 33\r\nx-ratelimit-resets: 8\r\n", NULL, NULL,
	 "", -1},
	{"a header in another case", 429, "X-RATELIMIT-RESET-Requests: 1m30s\r\n", NULL, NULL, "",
	 90000},
	{"Retry-After below zero", 429, "Retry-After: -7\r\n", NULL, NULL, "", -1},
	{"Retry-After with a fraction", 429, "Retry-After: 1.25\r\n", NULL, NULL, "", 1250},
	{"Retry-After beyond all numbers", 429, "Retry-After: 99999999999999999999999999\r\n", NULL,
	 NULL, "", DAY},
	{"Retry-After that is no number", 429, "Retry-After: NaN\r\n", NULL, NULL, "", -1},
	{"Retry-After with a unit", 429, "Retry-After: 20 s\r\n", NULL, NULL, "", 20000},
	{"retry-after-ms with a fraction", 429, "retry-after-ms: 1250.7\r\n", NULL, NULL, "", 1250},
	{"retry-after-ms beyond all numbers", 429, "retry-after-ms: 1e300\r\n", NULL, NULL, "", DAY},
	{"an epoch", 429, "X-RateLimit-Reset: 1700000020\r\n", NULL, NULL, "", 20000},
	{"Google's", 429, "", "{\"error\":{\"details\":[{\"a\":1},{\"retryDelay\":\"34.4s\"}]}}",
	 "/error/details/*/retryDelay", "", 34400},
	{"a number in ms", 429, "", "{\"retryAfterMs\":250}", "/retryAfterMs", "", 250},
	{"a number", 503, "", "{\"estimated_time\":44.5}", "/estimated_time", "", 44500},
	{"a negative one", 503, "", "{\"estimated_time\":-4}", "/estimated_time", "", -1},
};

static void
test_refusals(void)
{
	int i;

	for (i = 0; i < lengthof(refusals); i++)
	{
		HttpReply *reply = replies_make(refusals[i].status, refusals[i].headers, "");
		cJSON *json = refusals[i].body ? json_parse_trusted(refusals[i].body) : NULL;

		unit_is_int(delay_read(reply, json, refusals[i].places, refusals[i].words, NOW),
					refusals[i].ms, "%s", refusals[i].what);
	}
}

void
unit_run(void)
{
	test_sentences();
	test_values();
	test_refusals();
}

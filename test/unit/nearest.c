/*
 * nearest.c
 *		Which of some names a mistyped one was probably meant to be; none, where it is far from all.
 */
#include "unit.h"

#include "server/nearest.h"

static const char *const names[] =
	{"url",     "key",         "timeout",
	 "api_key", "retry_max",   "max_in_flight",
	 "notify",  "retry_base",  "connect_timeout",
	 "headers", "put_headers", "a_name_of_more_bytes_than_are_looked_at"};

static const struct
{
	const char *wanted;
	const char *expected;
} cases[] = {
	{"timeouts", "timeout"},
	{"Timeout", "timeout"},
	{"time_out", "timeout"},
	{"tiemout", "timeout"},
	{"apikey", "api_key"},
	{"API-KEY", "api_key"},
	{"max_inflight", "max_in_flight"},
	{"maxinflight", "max_in_flight"},
	{"connection_timeout", NULL},
	{"connect_timeuot", "connect_timeout"},
	{"retry_bax", "retry_max"}, /* as near as retry_base: the first */
	{"header", "headers"},
	{"uri", "url"},
	{"ur", NULL},
	{"", NULL},
	{"colour", NULL},
	{"password", NULL},
	{"a_name_of_more_bytes_than_are_looked_at", NULL},
};

void
unit_run(void)
{
	int i;
	int j;

	for (i = 0; i < lengthof(cases); i++)
	{
		Nearest nearest = {cases[i].wanted};

		for (j = 0; j < lengthof(names); j++)
			nearest_offer(&nearest, names[j]);
		unit_is_text(nearest.name, cases[i].expected, "\"%s\"", cases[i].wanted);
	}
}

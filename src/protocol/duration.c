/*
 * duration.c
 *		Spans of time as servers write them: "34.4s", "1d2h", "1,200 seconds",
 *		a date, an epoch, a sentence.
 *
 * Pure.  All results are in ms, at most DURATION_MAX_MS; -1 means that the
 * text has no span.  Text with an unknown unit has none: if "5 fortnights"
 * were 5 seconds, we would call the server again and again.
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "protocol/duration.h"

#define EPOCH_MIN 1e9 /* a number of seconds from here on is a time since 1970, of 2001 or later */
#define EPOCH_MS_MIN 1e12 /* the same in ms */
#define MAX_WORDS_BETWEEN 4

typedef struct Unit
{
	const char *name;
	double seconds;
} Unit;

static const Unit units[] = {
	{"ns", 1e-9},           {"us", 1e-6},      {"µs", 1e-6},     {"ms", 1e-3},
	{"msec", 1e-3},         {"msecs", 1e-3},   {"millis", 1e-3}, {"millisecond", 1e-3},
	{"milliseconds", 1e-3}, {"s", 1},          {"sec", 1},       {"secs", 1},
	{"second", 1},          {"seconds", 1},    {"m", 60},        {"min", 60},
	{"mins", 60},           {"minute", 60},    {"minutes", 60},  {"h", 3600},
	{"hr", 3600},           {"hrs", 3600},     {"hour", 3600},   {"hours", 3600},
	{"d", 86400},           {"day", 86400},    {"days", 86400},  {"w", 604800},
	{"week", 604800},       {"weeks", 604800},
};

/* A span behind one of these is one to wait for. */
static const char *const triggers[] = {"try again", "retry",     "reset",     "resets",
									   "wait",      "available", "come back", "slow down"};

/* Words that may stand between a trigger and its span. */
static const char *const fillers[] = {"again ",    "in ",      "after ",     "for ",
									  "at least ", "about ",   "around ",    "approximately ",
									  "approx. ",  "another ", "a further ", "within ",
									  "~",         "is ",      ": ",         "after: ",
									  "in: "};

int64
duration_of_seconds(double seconds)
{
	if (!(seconds >= 0))
		return -1;
	return seconds * 1000 >= DURATION_MAX_MS ? DURATION_MAX_MS : (int64) (seconds * 1000);
}

/*
 * Returns the ms of a number without a unit: seconds, or the time at which the
 * wait ends, in seconds or ms since 1970.
 */
int64
duration_of_number(double number, int64 now_unix)
{
	if (number >= EPOCH_MS_MIN)
		number /= 1000;
	if (number >= EPOCH_MIN)
		return duration_of_seconds(Max(0, number - now_unix));
	return duration_of_seconds(number);
}

/*
 * Reads digits, with commas between thousands and with a fraction, and moves
 * *text behind them.  False, and nothing changed, if there are none.
 */
static bool
read_number(const char **text, double *number)
{
	const char *p = *text;
	double value = 0;
	double digit = 1;

	if (!isdigit((unsigned char) *p))
		return false;
	for (; isdigit((unsigned char) *p) ||
		   (*p == ',' && strspn(p + 1, "0123456789") == 3 && value < 1e15);
		 p++)
	{
		if (*p != ',')
			value = Min(value * 10 + (*p - '0'), 1e18);
	}
	if (*p == '.' && isdigit((unsigned char) p[1]))
	{
		for (p++; isdigit((unsigned char) *p); p++)
			value += (*p - '0') * (digit /= 10);
	}
	*text = p;
	*number = value;
	return true;
}

/* Returns the bytes of the word at the start of text; "µ" is a letter. */
static size_t
word_length(const char *text)
{
	size_t len = strncmp(text, "µ", strlen("µ")) == 0 ? strlen("µ") : 0;

	while (isalpha((unsigned char) text[len]))
		len++;
	return len;
}

/*
 * Returns the seconds of the unit that text begins with, 0 if the word is no
 * unit; *len is the length of the word.
 */
static double
read_unit(const char *text, size_t *len)
{
	int i;

	*len = word_length(text);
	for (i = 0; i < lengthof(units); i++)
	{
		if (strlen(units[i].name) == *len && pg_strncasecmp(units[i].name, text, *len) == 0)
			return units[i].seconds;
	}
	return 0;
}

static const char *
skip_joint(const char *text)
{
	text += strspn(text, ", ");
	return strncmp(text, "and ", 4) == 0 ? text + 4 : text;
}

/*
 * Reads a span with units, "1d 2h" or "6m0s", each unit smaller than the last.
 * Returns seconds; -1 if text does not begin with a span. *end is where the
 * span ends.
 */
static double
read_span(const char *text, const char **end)
{
	double sum = -1;
	double last = INFINITY;

	for (;;)
	{
		const char *p = sum < 0 ? text : skip_joint(text);
		double number;
		double unit;
		size_t len;

		if (!read_number(&p, &number))
			break;
		p += *p == ' ' || (*p == '-' && isalpha((unsigned char) p[1]));
		unit = read_unit(p, &len);
		if (unit == 0 || unit >= last)
			break;
		sum = Max(sum, 0) + number * unit;
		last = unit;
		text = p + len;
	}
	*end = text;
	return sum;
}

/* ---------- dates ---------- */

/*
 * Reads what follows the seconds in RFC 3339: a fraction, and the distance to
 * UTC.  Sets *offset to the distance in seconds; leaves it for UTC.
 */
static bool
read_zone(const char *text, int *offset)
{
	int hours;
	int minutes;

	if (*text == '.')
		text += 1 + strspn(text + 1, "0123456789");
	if (strcmp(text, "Z") == 0 || strcmp(text, "z") == 0 || *text == '\0')
		return true;
	if (strlen(text) != 6 || sscanf(text + 1, "%2d:%2d", &hours, &minutes) != 2)
		return false;
	*offset = (hours * 60 + minutes) * (*text == '-' ? -60 : 60);
	return *text == '-' || *text == '+';
}

/*
 * Reads a date in one of the three formats of RFC 9110, 5.6.7, or in that of
 * RFC 3339.
 */
bool
duration_read_date(const char *value, int64 *unix_time)
{
	static const char *const formats[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
										  "%a %b %e %H:%M:%S %Y", "%Y-%m-%dT%H:%M:%S"};
	int i;

	for (i = 0; i < lengthof(formats); i++)
	{
		bool has_zone = i == lengthof(formats) - 1;
		struct tm date = {0};
		int offset = 0;
		char *end = strptime(value, formats[i], &date);

		if (end == NULL || (has_zone ? !read_zone(end, &offset) : *end != '\0'))
			continue;
		*unix_time = (int64) timegm(&date) - offset;
		return true;
	}
	return false;
}

/*
 * Returns the ms of a whole value, of a header or of a member of JSON: a
 * number, a span, or a date.  A date that has passed is 0.
 */
int64
duration_of_value(const char *value, int64 now_unix)
{
	const char *end = value;
	double number;
	int64 date;

	if (read_number(&end, &number) && *end == '\0')
		return duration_of_number(number, now_unix);
	number = read_span(value, &end);
	if (number >= 0 && *end == '\0')
		return duration_of_seconds(number);
	return duration_read_date(value, &date) ? duration_of_seconds(Max(0, date - now_unix)) : -1;
}

/* ---------- sentences ---------- */

static const char *
skip_fillers(const char *text)
{
	int skipped;
	int i;

	for (skipped = 0; skipped < MAX_WORDS_BETWEEN; skipped++)
	{
		for (i = 0;
			 i < lengthof(fillers) && pg_strncasecmp(text, fillers[i], strlen(fillers[i])) != 0;
			 i++)
			;
		if (i == lengthof(fillers))
			break;
		text += strlen(fillers[i]);
	}
	return text;
}

/*
 * Returns the span that text begins with, in a sentence; -1 if there is none.
 * A bare number is seconds only if no word follows it.
 */
static int64
span_in_sentence(const char *text)
{
	const char *end = text;
	double number = read_span(text, &end);

	if (number >= 0)
		return duration_of_seconds(number);
	if (!read_number(&end, &number) || isalpha((unsigned char) *end))
		return -1;
	end += strspn(end, " ");
	return word_length(end) == 0 && !isdigit((unsigned char) *end) ? duration_of_seconds(number)
																   : -1;
}

/*
 * Returns the span that a sentence asks to wait, as in "Please try again in 20s." or "retry after 26 seconds".
 */
int64
duration_in_words(const char *words)
{
	const char *p;
	int i;

	for (p = words; *p != '\0'; p++)
	{
		if (p > words && isalpha((unsigned char) p[-1]))
			continue;
		for (i = 0; i < lengthof(triggers); i++)
		{
			size_t len = strlen(triggers[i]);
			int64 ms;

			if (pg_strncasecmp(p, triggers[i], len) != 0 || (p[len] != ' ' && p[len] != ':'))
				continue;
			ms = span_in_sentence(skip_fillers(p + len + (p[len] == ' ')));
			if (ms >= 0)
				return ms;
		}
	}
	return -1;
}

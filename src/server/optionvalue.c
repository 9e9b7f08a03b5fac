/*
 * optionvalue.c
 *		Checks the value of an option and stores it in the option's field.
 *
 * Each kind of option has one function.  It stores the value, or raises an
 * error whose hint says what is valid.  No message repeats a secret.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_user_mapping.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/clip.h"
#include "http/header.h"
#include "server/keytemplate.h"
#include "server/options.h"
#include "server/optionvalue.h"
#include "server/streamrules.h"
#include "server/grammar.h"
#include "shared/stats.h"
#include "http/url.h"

#define MAX_SHOWN 500 /* bytes of a wrong value in a message */
#define MAX_CALLS_A_SECOND 1000000
#define MAX_SECONDS_OF_A_CALL 31536000.0
#define WHITE_SPACE " \t\n"

/*
 * Returns a value, shortened for a message.
 */
static const char *
clip_value(const char *value)
{
	size_t len = strlen(value);

	return len > MAX_SHOWN ? clip_line(value, len, MAX_SHOWN) : value;
}

/*
 * Raises the error of a bad value.  shown is NULL if the value must not be repeated.
 */
static void
refuse_value(const Option *option, const char *shown, const char *hint)
{
	if (shown != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"%s\": \"%s\"", option->name, clip_value(shown)),
				 errhint("%s", hint)));
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					errmsg("invalid value for option \"%s\"", option->name), errhint("%s", hint)));
}

/* ---------- words ---------- */

static void
parse_text(const Option *option, const char *value, void *field)
{
	*(char **) field = pstrdup(value);
}

/*
 * Returns the index of word (word_len bytes) in the option's choices, or -1.
 */
static int
find_choice(const Option *option, const char *word, size_t word_len)
{
	const char *p = option->choices;
	int n;

	for (n = 0; *p != '\0'; n++)
	{
		size_t len = strcspn(p, ",");

		if (len == word_len && strncmp(p, word, len) == 0)
			return n;
		p += len;
		p += strspn(p, ", ");
	}
	return -1;
}

static void
parse_choice(const Option *option, const char *value, void *field)
{
	if (find_choice(option, value, strlen(value)) < 0)
		refuse_value(option, value, psprintf("Valid values are: %s.", option->choices));
	*(char **) field = pstrdup(value);
}

static void
parse_api(const Option *option, const char *value, void *field)
{
	const Preset *preset = preset_find(value);

	if (preset == NULL)
		refuse_value(option, value, psprintf("Valid values are: %s.", preset_list()));
	*(const Preset **) field = preset;
}

static void
parse_boolean(const Option *option, const char *value, void *field)
{
	bool flag;

	if (!parse_bool(value, &flag))
		refuse_value(option, value, "Valid values are: on, off.");
	*(int64 *) field = flag;
}

static void
parse_on_unknown(const Option *option, const char *value, void *field)
{
	bool fails = strcmp(value, "fail") == 0;

	if (!fails && strcmp(value, "retry") != 0)
		refuse_value(option, value, "Valid values are: retry, fail.");
	*(int64 *) field = fails ? ON_UNKNOWN_FAIL : ON_UNKNOWN_RETRY;
}

static void
parse_status_set(const Option *option, const char *value, void *field)
{
	StatusSet *set = palloc(sizeof(StatusSet));
	const char *problem = status_read_set(value, set);

	if (problem != NULL)
		refuse_value(option, value, problem);
	*(StatusSet **) field = set;
}

static void
parse_server(const Option *option, const char *value, void *field)
{
	if (*value == '\0' || strlen(value) >= NAMEDATALEN)
		refuse_value(option, value, "The name of a server is expected.");
	*(char **) field = pstrdup(value);
}

static void
parse_channel(const Option *option, const char *value, void *field)
{
	if (*value == '\0' || strlen(value) >= NAMEDATALEN)
		refuse_value(option, value,
					 psprintf("The name of a channel is expected, of %d bytes at most, as LISTEN takes it.",
							  NAMEDATALEN - 1));
	*(char **) field = pstrdup(value);
}

static void
parse_file(const Option *option, const char *value, void *field)
{
	if (!is_absolute_path(value))
		refuse_value(option, value, "An absolute path is expected.");
	*(char **) field = pstrdup(value);
}

static void
parse_secret(const Option *option, const char *value, void *field)
{
	if (*value == '\0' || !header_is_value(value))
		refuse_value(option, NULL,
					 "It must not be empty, and must have no line breaks or other control characters.");
	*(char **) field = pstrdup(value);
}

static void
parse_object(const Option *option, const char *value, void *field)
{
	bool is_secret = option->catalog == UserMappingRelationId;
	const char *problem =
		option->kind == OPTION_HEADERS ? grammar_check_headers(value) : grammar_check_object(value);

	if (problem != NULL)
		refuse_value(option, is_secret ? NULL : value, pstrdup(problem));
	*(char **) field = pstrdup(value);
}

/* ---------- addresses ---------- */

/*
 * Returns the address of len bytes at start, palloc'd, without its trailing
 * slashes, and without a third one before the host, which libcurl forgives and
 * others who read the address do not.  value is the whole option.
 */
static char *
parse_url(const Option *option, const char *value, const char *start, size_t len)
{
	char *url = pnstrdup(start, len);
	const char *problem = url_check(url);
	char *third;

	/*
	 * a password may have a comma: with "@" anywhere, show nothing of the
	 * value
	 */
	if (problem != NULL)
		refuse_value(option, strchr(value, '@') != NULL ? NULL : url, pstrdup(problem));
	while (len > 0 && url[len - 1] == '/')
		url[--len] = '\0';
	third = strstr(url, "://");
	if (third != NULL && third[3] == '/')
		memmove(third + 3, third + 4, strlen(third + 4) + 1);
	return url;
}

/*
 * Refuses an address that is given twice: its calls would count twice.
 */
static void
check_distinct(const Option *option, const List *urls, const char *url)
{
	ListCell *cell;

	foreach(cell, urls)
	{
		if (strcmp(lfirst(cell), url) == 0)
			ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
							errmsg("option \"%s\" names an address twice: \"%s\"", option->name,
								   clip_value(url)),
							errhint("Name each address once; max_in_flight applies to each.")));
	}
}

/*
 * Parses base addresses, separated by commas, with or without white space
 * around them.
 */
static void
parse_urls(const Option *option, const char *value, void *field)
{
	const char *p = value;
	List *urls = NIL;

	for (;;)
	{
		const char *comma;
		size_t len;
		char *url;

		p += strspn(p, WHITE_SPACE);
		comma = p + strcspn(p, ",");
		len = comma - p;
		while (len > 0 && strchr(WHITE_SPACE, p[len - 1]) != NULL)
			len--;
		url = parse_url(option, value, p, len);
		check_distinct(option, urls, url);
		urls = lappend(urls, url);
		if (*comma == '\0')
			break;
		if (list_length(urls) == STATS_BACKENDS)
			refuse_value(option, value,
						 psprintf("A server can have at most %d addresses.", STATS_BACKENDS));
		p = comma + 1;
	}
	*(List **) field = urls;
}

/* ---------- numbers ---------- */

static bool
read_count(const Option *option, const char *value, int64 *number)
{
	char *end;

	errno = 0;
	*number = strtoll(value, &end, 10);
	return errno == 0 && end != value && *end == '\0' && *number >= option->min &&
		   *number <= option->max;
}

static void
parse_count(const Option *option, const char *value, void *field)
{
	if (!read_count(option, value, field))
		refuse_value(option, value,
					 psprintf("A whole number from " INT64_FORMAT " to " INT64_FORMAT
							  " is expected.",
							  option->min, option->max));
}

/*
 * Parses a number of calls at a time, or "auto".
 */
static void
parse_at_a_time(const Option *option, const char *value, void *field)
{
	if (strcmp(value, "auto") == 0)
		*(int64 *) field = MAX_IN_FLIGHT_AUTO;
	else if (!read_count(option, value, field))
		refuse_value(option, value,
					 psprintf("A whole number from " INT64_FORMAT " to " INT64_FORMAT
							  " is expected, or \"auto\".",
							  option->min, option->max));
}

/*
 * Parses a number of calls a second, minute, hour or day.
 */
static void
parse_rate(const Option *option, const char *value, void *field)
{
	static const struct
	{
		const char *unit;
		double seconds;
	} units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
	char *end;
	double calls = strtod(value, &end);
	double rate = NAN;
	int i;

	for (i = 0; i < lengthof(units) && end != value && *end == '/'; i++)
	{
		if (strcmp(end + 1, units[i].unit) == 0)
			rate = calls / units[i].seconds;
	}
	if (isnan(rate))
		refuse_value(option, value,
					 "Write calls per unit of time: /s, /min, /h or /d, as in \"60/min\".");
	if (rate < 1 / MAX_SECONDS_OF_A_CALL || rate > MAX_CALLS_A_SECOND)
		refuse_value(option, value,
					 psprintf("The rate must be from one call in 365 d to %d/s.",
							  MAX_CALLS_A_SECOND));
	*(double *) field = rate;
}

/*
 * Reads a number with a unit, as postgresql.conf spells it, and converts it to
 * base_unit.  Refuses a number without a unit: a user who means 30 seconds
 * would get 30 milliseconds, and lose paid calls.
 */
static bool
read_quantity(const char *value, int base_unit, double *quantity)
{
	const char *unit = value + strspn(value, " +-.0123456789eE");
	const char *problem = NULL;

	return *unit != '\0' && parse_real(value, quantity, base_unit, &problem);
}

static void
parse_duration(const Option *option, const char *value, void *field)
{
	double ms;

	if (!read_quantity(value, GUC_UNIT_MS, &ms))
		refuse_value(option, value,
					 "A number with a unit is expected: ms, s, min, h or d, as in \"10 min\".");
	ms = rint(ms);
	if (ms < option->min || ms > option->max)
		refuse_value(option, value,
					 psprintf("The duration must be from " INT64_FORMAT " ms to " INT64_FORMAT " h.",
							  option->min, option->max / (MS_OF_DAY / 24)));
	*(int64 *) field = (int64) ms;
}

/*
 * Parses how long to keep something: people write "30 days" here.
 */
static void
parse_age(const Option *option, const char *value, void *field)
{
	static const struct
	{
		const char *word;
		int days;
	} words[] = {{"day", 1}, {"days", 1}, {"week", 7}, {"weeks", 7}};
	const char *unit = value + strspn(value, "0123456789. ");
	char *number = pnstrdup(value, unit - value);
	const char *quantity = value;
	double ms;
	int i;

	for (i = 0; i < lengthof(words) && strcmp(unit, words[i].word) != 0; i++)
		;
	if (i < lengthof(words))
		quantity = psprintf("%s d", number);
	if (!read_quantity(quantity, GUC_UNIT_MS, &ms))
		refuse_value(option, value,
					 "A number with a unit is expected: s, min, h, days or weeks, as in \"30 days\". Without the option, jobs are kept.");
	ms = rint(i < lengthof(words) ? ms * words[i].days : ms);
	if (ms < option->min || ms > option->max)
		refuse_value(option, value,
					 psprintf("It must be from " INT64_FORMAT " s to " INT64_FORMAT
							  " days. Without the option, jobs are kept.",
							  option->min / 1000, option->max / MS_OF_DAY));
	*(int64 *) field = (int64) ms;
}

static void
parse_size(const Option *option, const char *value, void *field)
{
	double bytes;

	if (!read_quantity(value, GUC_UNIT_KB, &bytes))
		refuse_value(option, value,
					 "A number with a unit is expected: B, kB, MB or GB, as in \"256MB\".");
	bytes = rint(bytes * 1024);
	if (bytes < option->min || bytes > option->max)
		refuse_value(option, value,
					 psprintf("The size must be from " INT64_FORMAT " B to " INT64_FORMAT " MB.",
							  option->min, option->max / (1024 * 1024)));
	*(int64 *) field = (int64) bytes;
}

/* ---------- which is which ---------- */

static void (*const parsers[OPTION_KINDS])(const Option *option, const char *value, void *field) = {
	[OPTION_TEXT] = parse_text,
	[OPTION_CHOICE] = parse_choice,
	[OPTION_API] = parse_api,
	[OPTION_BOOL] = parse_boolean,
	[OPTION_ON_UNKNOWN] = parse_on_unknown,
	[OPTION_STATUS_SET] = parse_status_set,
	[OPTION_SERVER] = parse_server,
	[OPTION_CHANNEL] = parse_channel,
	[OPTION_URLS] = parse_urls,
	[OPTION_FILE] = parse_file,
	[OPTION_OBJECT] = parse_object,
	[OPTION_HEADERS] = parse_object,
	[OPTION_SECRET] = parse_secret,
	[OPTION_COUNT] = parse_count,
	[OPTION_AT_A_TIME] = parse_at_a_time,
	[OPTION_RATE] = parse_rate,
	[OPTION_DURATION] = parse_duration,
	[OPTION_AGE] = parse_age,
	[OPTION_SIZE] = parse_size,
};

/* Checks of texts that have a grammar: each returns what is wrong, or NULL. */
static const char *(*const grammar_checks[OPTION_KINDS])(const char *value) = {
	[OPTION_WORD] = grammar_check_word,
	[OPTION_BUCKET] = grammar_check_bucket,
	[OPTION_KEY] = keytemplate_check,
	[OPTION_PATH] = grammar_check_path,
	[OPTION_AUTH] = grammar_check_auth,
	[OPTION_PLACE] = grammar_check_place,
	[OPTION_REMOTE_ID] = grammar_check_remote_id,
	[OPTION_STATE] = grammar_check_state,
	[OPTION_PROGRESS] = grammar_check_progress,
	[OPTION_HEADER_VALUE] = grammar_check_header_value,
	[OPTION_PLACES] = grammar_check_places,
	[OPTION_ADDRESS] = grammar_check_address,
	[OPTION_LOOKUP] = grammar_check_lookup,
	[OPTION_STATES] = grammar_check_states,
	[OPTION_ENCODING] = grammar_check_encoding,
	[OPTION_REQUIREMENT] = grammar_check_requirement,
	[OPTION_REASONS] = grammar_check_reasons,
	[OPTION_STREAM_CONDITIONS] = streamrules_check_conditions,
	[OPTION_STREAM_PARTS] = streamrules_check_parts,
	[OPTION_STREAM_PLACES] = streamrules_check_places,
};

/*
 * True if an empty value turns the preset's value off.
 */
static bool
may_be_empty(const Option *option)
{
	switch (option->kind)
	{
		case OPTION_PLACE:
		case OPTION_REMOTE_ID:
		case OPTION_STATE:
		case OPTION_PROGRESS:
		case OPTION_ADDRESS:
		case OPTION_STREAM_CONDITIONS:
		case OPTION_STREAM_PARTS:
		case OPTION_STREAM_PLACES:
			return true;
		default:
			return false;
	}
}

/*
 * Sets the option's enum to the choice that its text equals, or has before a
 * ":"; to the first choice without a text.  A text that begins with a "/" or a
 * "?" is the choice of that name.
 */
void
optionvalue_read_kind(const Option *option, void *options)
{
	const char *text = *(const char **) ((char *) options + option->offset);
	int *kind = (int *) ((char *) options + option->kind_offset);
	int n = 0;

	if (text != NULL)
		text += strspn(text, " ");
	if (text != NULL)
		n = find_choice(option, text, *text == '/' || *text == '?' ? 1 : strcspn(text, ":"));
	Assert(n >= 0);
	*kind = n;
}

/*
 * Parses value into the option's field of options, a ServerOptions or MappingOptions, in the current memory context.
 * Raises an error for the user if it is not valid.
 */
void
optionvalue_parse(const Option *option, const char *value, void *options)
{
	void *field = (char *) options + option->offset;
	const char *problem;

	if (grammar_checks[option->kind] == NULL)
	{
		parsers[option->kind](option, value, field);
		return;
	}
	problem = *value == '\0' && may_be_empty(option) ? NULL : grammar_checks[option->kind](value);
	if (problem != NULL)
		refuse_value(option, value, pstrdup(problem));
	parse_text(option, value, field);
}

/*
 * options.c
 *		The options of a foreign server and of a user mapping: one table, read by the validator and by
 *		everyone who wants a value.
 *
 * Whatever is wrong is refused when the server or the mapping is created or altered, with what would
 * be right.  No message repeats the value of a secret.
 */
#include "postgres.h"

#include <math.h>

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "header.h"
#include "options.h"
#include "protocol/grammar.h"
#include "protocol/request.h"
#include "stats.h"
#include "url.h"

typedef enum OptionKind
{
	OPTION_TEXT,
	OPTION_API,
	OPTION_URLS, /* base addresses, separated by commas */
	OPTION_PATH,
	OPTION_AUTH,
	OPTION_CHOICE, /* one of choices */
	OPTION_PLACES, /* JSON Pointers */
	OPTION_PLACE,  /* a JSON Pointer */
	OPTION_REMOTE_ID,
	OPTION_STATE,
	OPTION_PROGRESS,
	OPTION_HEADER_VALUE,
	OPTION_ADDRESS, /* "METHOD path" or "METHOD @place" */
	OPTION_LOOKUP,
	OPTION_STATES,
	OPTION_ENCODING,
	OPTION_OBJECT,  /* JSON object */
	OPTION_HEADERS, /* JSON object of strings */
	OPTION_FILE,    /* absolute path */
	OPTION_COUNT,
	OPTION_PLACES_AT_ONCE, /* a count, or auto */
	OPTION_RATE,           /* calls a unit of time; calls a second */
	OPTION_SERVER,         /* name of a server */
	OPTION_DURATION,       /* with a unit; ms */
	OPTION_SIZE,           /* with a unit; bytes */
	OPTION_BOOL,
	OPTION_ON_UNKNOWN,
	OPTION_SECRET,
	OPTION_KINDS
} OptionKind;

typedef struct Option
{
	const char *name;
	Oid catalog; /* where it may stand */
	OptionKind kind;
	size_t offset;        /* of its value in ServerOptions or MappingOptions */
	const char *fallback; /* NULL: by the preset, or none */
	int64 min, max;       /* of a number, in its unit of storage */
	const char *choices;  /* of OPTION_CHOICE, separated by ", " */
} Option;

#define SERVER_OPTION(name, kind, field, ...) \
	{ \
		name, ForeignServerRelationId, kind, offsetof(ServerOptions, field), __VA_ARGS__ \
	}
#define PROTOCOL_OPTION(name, kind, field) SERVER_OPTION(name, kind, protocol.field, NULL)
#define PROTOCOL_CHOICE(name, field, choices) \
	SERVER_OPTION(name, OPTION_CHOICE, protocol.field, NULL, 0, 0, choices)
#define MAPPING_OPTION(name, kind, field, ...) \
	{ \
		name, UserMappingRelationId, kind, offsetof(MappingOptions, field), __VA_ARGS__ \
	}

#define MS_OF_DAY INT64CONST(86400000)
#define MAX_CALLS_A_SECOND 1000000
#define MAX_SECONDS_OF_A_CALL 31536000.0
#define MAX_RESPONSE INT64CONST(1000000000) /* bytea and jsonb hold less than 1 GiB */

static const Option options_table[] = {
	SERVER_OPTION("api", OPTION_API, preset, NULL),
	SERVER_OPTION("url", OPTION_URLS, urls, NULL),
	PROTOCOL_OPTION("auth", OPTION_AUTH, auth),
	PROTOCOL_OPTION("path", OPTION_PATH, path),
	PROTOCOL_CHOICE("body", body, "json, multipart, raw"),
	PROTOCOL_OPTION("wrap", OPTION_PLACE, wrap),
	PROTOCOL_OPTION("model_at", OPTION_PLACE, model_at),
	PROTOCOL_OPTION("accept", OPTION_HEADER_VALUE, accept),
	PROTOCOL_OPTION("allow_hosts", OPTION_TEXT, allow_hosts),
	PROTOCOL_OPTION("inputs_path", OPTION_PATH, inputs_path),
	PROTOCOL_CHOICE("inputs_body", inputs_body, "json, multipart, raw"),
	PROTOCOL_CHOICE("inputs_as", inputs_as, "base64, data-url"),
	PROTOCOL_OPTION("inputs_at", OPTION_TEXT, inputs_at),
	PROTOCOL_CHOICE("reply", reply, "body, stream, poll"),
	PROTOCOL_OPTION("remote_id", OPTION_REMOTE_ID, remote_id),
	PROTOCOL_OPTION("lookup", OPTION_LOOKUP, lookup),
	PROTOCOL_OPTION("poll", OPTION_ADDRESS, poll),
	PROTOCOL_OPTION("state", OPTION_STATE, state),
	PROTOCOL_OPTION("states", OPTION_STATES, states),
	PROTOCOL_OPTION("result", OPTION_ADDRESS, result),
	PROTOCOL_OPTION("output", OPTION_PLACES, output),
	PROTOCOL_OPTION("encoding", OPTION_ENCODING, encoding),
	PROTOCOL_CHOICE("download_auth", download_auth, "none, same-origin"),
	PROTOCOL_OPTION("error", OPTION_PLACES, error),
	PROTOCOL_OPTION("retry_after", OPTION_PLACES, retry_after),
	PROTOCOL_OPTION("usage", OPTION_PLACES, usage),
	PROTOCOL_OPTION("progress", OPTION_PROGRESS, progress),
	PROTOCOL_OPTION("cancel", OPTION_ADDRESS, cancel),
	SERVER_OPTION("model", OPTION_TEXT, model, NULL),
	SERVER_OPTION("defaults", OPTION_OBJECT, defaults, NULL),
	SERVER_OPTION("headers", OPTION_HEADERS, headers, NULL),
	SERVER_OPTION("ca_file", OPTION_FILE, ca_file, NULL),
	SERVER_OPTION("max_in_flight", OPTION_PLACES_AT_ONCE, max_in_flight, "10", 1, 1000000),
	SERVER_OPTION("rate_limit", OPTION_RATE, rate, NULL),
	SERVER_OPTION("rate_burst", OPTION_COUNT, rate_burst, NULL, 1, 1000000),
	SERVER_OPTION("fallback", OPTION_SERVER, fallback, NULL),
	SERVER_OPTION("timeout", OPTION_DURATION, timeout, "15 min", 1, 20 * MS_OF_DAY),
	SERVER_OPTION("poll_interval", OPTION_DURATION, poll_interval, "1 s", 10, MS_OF_DAY),
	SERVER_OPTION("connect_timeout", OPTION_DURATION, connect_timeout, "10 s", 1, MS_OF_DAY),
	SERVER_OPTION("max_response", OPTION_SIZE, max_response, "256MB", 1024, MAX_RESPONSE),
	SERVER_OPTION("max_attempts", OPTION_COUNT, max_attempts, "5", 1, 1000000),
	SERVER_OPTION("retry_base", OPTION_DURATION, retry_base, "1 s", 1, MS_OF_DAY),
	SERVER_OPTION("retry_max", OPTION_DURATION, retry_max, "5 min", 1, 20 * MS_OF_DAY),
	SERVER_OPTION("on_unknown", OPTION_ON_UNKNOWN, on_unknown, "retry"),
	SERVER_OPTION("paused", OPTION_BOOL, paused, "off"),
	MAPPING_OPTION("api_key", OPTION_SECRET, api_key, NULL),
	MAPPING_OPTION("headers", OPTION_HEADERS, headers, NULL),
};

static const char *
place_name(Oid catalog)
{
	return catalog == ForeignServerRelationId ? "a server" : "a user mapping";
}

static char *
list_options(Oid catalog)
{
	StringInfoData list;
	int i;

	initStringInfo(&list);
	for (i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].catalog == catalog)
			appendStringInfo(&list, "%s%s", list.len > 0 ? ", " : "", options_table[i].name);
	}
	return list.data;
}

static const Option *
option_find(const char *name, Oid catalog)
{
	const Option *elsewhere = NULL;
	int i;

	for (i = 0; i < lengthof(options_table); i++)
	{
		const Option *option = &options_table[i];

		if (strcmp(option->name, name) != 0)
			continue;
		if (option->catalog == catalog)
			return option;
		elsewhere = option;
	}
	if (elsewhere != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" belongs to %s, not to %s", name,
						place_name(elsewhere->catalog), place_name(catalog)),
				 elsewhere->catalog == UserMappingRelationId
					 ? errhint("A server's options can be read by everyone. Put secrets into CREATE USER MAPPING ... OPTIONS (%s ...).",
							   name)
					 : errhint("Use CREATE SERVER or ALTER SERVER ... OPTIONS (%s ...).", name)));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME), errmsg("invalid option \"%s\"", name),
			 errhint("Valid options for %s are: %s.", place_name(catalog), list_options(catalog))));
	pg_unreachable();
}

/*
 * The error of a bad value.  shown is NULL where the value must not be repeated.
 */
static void
refuse_value(const Option *option, const char *shown, char *hint)
{
	if (shown != NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						errmsg("invalid value for option \"%s\": \"%s\"", option->name, shown),
						errhint("%s", hint)));
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					errmsg("invalid value for option \"%s\"", option->name), errhint("%s", hint)));
}

static void
parse_number(const Option *option, const char *value, int64 *number)
{
	char *end;

	errno = 0;
	*number = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || *number < option->min ||
		*number > option->max)
		refuse_value(option, value,
					 psprintf("A whole number from " INT64_FORMAT " to " INT64_FORMAT
							  " is expected.",
							  option->min, option->max));
}

/*
 * Durations and sizes as postgresql.conf spells them.  A bare number is refused, for a "30" that is
 * read as milliseconds costs whoever meant seconds a call.
 */
static void
parse_quantity(const Option *option, const char *value, int64 *number)
{
	bool is_size = option->kind == OPTION_SIZE;
	const char *unit = value + strspn(value, " +-.0123456789eE");
	const char *problem = NULL;
	double quantity;

	if (*unit == '\0' ||
		!parse_real(value, &quantity, is_size ? GUC_UNIT_KB : GUC_UNIT_MS, &problem))
		refuse_value(option, value,
					 is_size
						 ? "A number with a unit is expected: B, kB, MB or GB, as in \"256MB\"."
						 : "A number with a unit is expected: ms, s, min, h or d, as in \"10 min\".");
	quantity = rint(is_size ? quantity * 1024 : quantity);
	if (quantity < option->min || quantity > option->max)
		refuse_value(option, value,
					 is_size ? psprintf("The size must be from " INT64_FORMAT " B to " INT64_FORMAT
										" MB.",
										option->min, option->max / (1024 * 1024))
							 : psprintf("The duration must be from " INT64_FORMAT
										" ms to " INT64_FORMAT " h.",
										option->min, option->max / (MS_OF_DAY / 24)));
	*number = (int64) quantity;
}

/*
 * As many at a time as a number says, or as the server is found to do.
 */
static void
parse_places(const Option *option, const char *value, int64 *number)
{
	char *end;

	if (strcmp(value, "auto") == 0)
	{
		*number = MAX_IN_FLIGHT_AUTO;
		return;
	}
	errno = 0;
	*number = strtoll(value, &end, 10);
	if (errno != 0 || end == value || *end != '\0' || *number < option->min ||
		*number > option->max)
		refuse_value(option, value,
					 psprintf("A whole number from " INT64_FORMAT " to " INT64_FORMAT
							  " is expected, or \"auto\".",
							  option->min, option->max));
}

/*
 * So many a second, minute, hour or day.
 */
static void
parse_rate(const Option *option, const char *value, double *rate)
{
	static const struct
	{
		const char *unit;
		double seconds;
	} units[] = {{"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}};
	char *end;
	double calls = strtod(value, &end);
	int i;

	*rate = 0;
	for (i = 0; i < lengthof(units) && end != value && *end == '/'; i++)
	{
		if (strcmp(end + 1, units[i].unit) == 0)
			*rate = calls / units[i].seconds;
	}
	if (!(*rate >= 1 / MAX_SECONDS_OF_A_CALL && *rate <= MAX_CALLS_A_SECOND))
		refuse_value(option, value,
					 "Calls in a unit of time are expected: /s, /min, /h or /d, as in \"60/min\".");
}

static void
parse_server_name(const Option *option, const char *value, char **name)
{
	if (*value == '\0' || strlen(value) >= NAMEDATALEN)
		refuse_value(option, value, "The name of a server is expected.");
	*name = pstrdup(value);
}

static char *
parse_url(const Option *option, const char *value)
{
	const char *problem = url_check(value);
	size_t len = strlen(value);

	if (problem != NULL)
	{
		bool has_secret = strchr(value, '@') != NULL;

		refuse_value(option, has_secret ? NULL : value, psprintf("%s", problem));
	}
	while (len > 0 && value[len - 1] == '/')
		len--;
	return pnstrdup(value, len);
}

/*
 * Base addresses, separated by commas, with or without blanks around them.
 */
static void
parse_urls(const Option *option, const char *value, List **urls)
{
	const char *p = value;
	size_t len;

	*urls = NIL;
	for (;;)
	{
		p += strspn(p, " \t\n");
		len = strcspn(p, ",");
		while (p[len] == ',' && len > 0 && strchr(" \t\n", p[len - 1]) != NULL)
			len--;
		*urls = lappend(*urls, parse_url(option, pnstrdup(p, len)));
		p = strchr(p, ',');
		if (p == NULL)
			break;
		p++;
	}
	if (list_length(*urls) > MAX_BACKENDS)
		refuse_value(option, value,
					 psprintf("At most %d addresses can be one server.", MAX_BACKENDS));
}

/* The kinds that are texts with a grammar. */
static const char *(*const grammar_checks[OPTION_KINDS])(const char *value) = {
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
};

/*
 * A text that one of the grammar's checks lets pass.
 */
static void
parse_checked(const Option *option, const char *value, const char *problem, char **text)
{
	if (problem != NULL)
		refuse_value(option, value, pstrdup(problem));
	*text = pstrdup(value);
}

static void
parse_file(const Option *option, const char *value, char **file)
{
	if (!is_absolute_path(value))
		refuse_value(option, value, "An absolute path is expected.");
	*file = pstrdup(value);
}

static void
parse_secret(const Option *option, const char *value, char **secret)
{
	if (*value == '\0' || !header_is_value(value))
		refuse_value(option, NULL,
					 "It must not be empty, and must have no line breaks or other control characters.");
	*secret = pstrdup(value);
}

static void
parse_object(const Option *option, const char *value, char **object)
{
	bool secret = option->catalog == UserMappingRelationId;
	const char *problem =
		option->kind == OPTION_HEADERS ? grammar_check_headers(value) : grammar_check_object(value);

	if (problem != NULL)
		refuse_value(option, secret ? NULL : value, psprintf("%s", problem));
	*object = pstrdup(value);
}

/*
 * One of the option's choices.
 */
static void
parse_word(const Option *option, const char *value, char **word)
{
	size_t value_len = strlen(value);
	const char *p = option->choices;

	while (*p != '\0')
	{
		size_t len = strcspn(p, ",");

		if (len == value_len && strncmp(p, value, len) == 0)
		{
			*word = pstrdup(value);
			return;
		}
		p += len;
		p += strspn(p, ", ");
	}
	refuse_value(option, value, psprintf("Valid values are: %s.", option->choices));
}

static void
parse_choice(const Option *option, const char *value, int64 *number)
{
	bool flag;

	if (option->kind == OPTION_BOOL)
	{
		if (!parse_bool(value, &flag))
			refuse_value(option, value, "Valid values are: on, off.");
		*number = flag;
		return;
	}
	if (strcmp(value, "retry") == 0)
		*number = ON_UNKNOWN_RETRY;
	else if (strcmp(value, "fail") == 0)
		*number = ON_UNKNOWN_FAIL;
	else
		refuse_value(option, value, "Valid values are: retry, fail.");
}

/*
 * Whether an empty value says that the protocol has no such thing, whatever the preset says.
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
			return true;
		default:
			return false;
	}
}

/*
 * Checks value and stores it where the option's field is.
 */
static void
option_parse(const Option *option, const char *value, void *options)
{
	void *field = (char *) options + option->offset;

	if (grammar_checks[option->kind] != NULL)
	{
		bool is_none = *value == '\0' && may_be_empty(option);

		parse_checked(option, value, is_none ? NULL : grammar_checks[option->kind](value), field);
		return;
	}
	switch (option->kind)
	{
		case OPTION_TEXT:
			*(char **) field = pstrdup(value);
			break;
		case OPTION_API:
			*(const Preset **) field = preset_find(value);
			if (*(const Preset **) field == NULL)
				refuse_value(option, value, psprintf("Valid values are: %s.", preset_list()));
			break;
		case OPTION_URLS:
			parse_urls(option, value, field);
			break;
		case OPTION_CHOICE:
			parse_word(option, value, field);
			break;
		case OPTION_FILE:
			parse_file(option, value, field);
			break;
		case OPTION_OBJECT:
		case OPTION_HEADERS:
			parse_object(option, value, field);
			break;
		case OPTION_COUNT:
			parse_number(option, value, field);
			break;
		case OPTION_PLACES_AT_ONCE:
			parse_places(option, value, field);
			break;
		case OPTION_RATE:
			parse_rate(option, value, field);
			break;
		case OPTION_SERVER:
			parse_server_name(option, value, field);
			break;
		case OPTION_DURATION:
		case OPTION_SIZE:
			parse_quantity(option, value, field);
			break;
		case OPTION_BOOL:
		case OPTION_ON_UNKNOWN:
			parse_choice(option, value, field);
			break;
		case OPTION_SECRET:
			parse_secret(option, value, field);
			break;
		default:
			break;
	}
}

static void
options_parse(List *defs, Oid catalog, void *options)
{
	ListCell *cell;
	int i;

	for (i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].catalog == catalog && options_table[i].fallback != NULL)
			option_parse(&options_table[i], options_table[i].fallback, options);
	}
	foreach(cell, defs)
	{
		DefElem *def = lfirst_node(DefElem, cell);

		option_parse(option_find(def->defname, catalog), defGetString(def), options);
	}
}

static void
require_option(const char *name, bool present, const char *hint)
{
	if (!present)
		ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
						errmsg("option \"%s\" is required", name), errhint("%s", hint)));
}

/*
 * An option that is empty takes away what the preset says.
 */
static void
drop_emptied(Protocol *protocol)
{
	const char **fields[] = {
		&protocol->wrap,   &protocol->model_at, &protocol->allow_hosts, &protocol->inputs_at,
		&protocol->poll,   &protocol->state,    &protocol->states,      &protocol->remote_id,
		&protocol->result, &protocol->output,   &protocol->error,       &protocol->retry_after,
		&protocol->usage,  &protocol->progress, &protocol->cancel,
	};
	int i;

	for (i = 0; i < lengthof(fields); i++)
	{
		if (*fields[i] != NULL && **fields[i] == '\0')
			*fields[i] = NULL;
	}
}

/*
 * Where an option says nothing, the preset does.
 */
static void
fill_protocol(ServerOptions *options)
{
	const Protocol *preset = &options->preset->protocol;
	Protocol *protocol = &options->protocol;
	size_t n = sizeof(Protocol) / sizeof(const char *);
	size_t i;

	for (i = 0; i < n; i++)
	{
		const char **field = (const char **) protocol + i;

		if (*field == NULL)
			*field = ((const char *const *) preset)[i];
	}
	drop_emptied(protocol);
	if (protocol->inputs_path == NULL)
		protocol->inputs_path = protocol->path;
	if (protocol->body == NULL)
		protocol->body = "json";
	if (protocol->inputs_body == NULL)
		protocol->inputs_body = protocol->body;
	if (protocol->inputs_as == NULL)
		protocol->inputs_as = "base64";
	if (protocol->reply == NULL)
		protocol->reply = "body";
	if (protocol->accept == NULL)
		protocol->accept = "application/json";
	if (protocol->encoding == NULL)
		protocol->encoding = "auto";
}

/*
 * Whether the id of a prediction is ours to choose.
 */
static bool
chooses_id(const Protocol *protocol)
{
	return strcmp(protocol->reply, "poll") == 0 && protocol->remote_id != NULL &&
		   *protocol->remote_id == '=';
}

/*
 * A preset's lookup asks by the id that it has us choose: it goes when that is overridden.
 */
static void
settle_lookup(ServerOptions *options)
{
	Protocol *protocol = &options->protocol;
	const char *lookup = protocol->lookup;

	if (lookup != NULL &&
		(*lookup == '\0' || (lookup == options->preset->protocol.lookup && !chooses_id(protocol))))
		protocol->lookup = NULL;
}

static void
check_poll(const Protocol *protocol)
{
	require_option("poll", protocol->poll != NULL,
				   "With reply 'poll', say how to ask, as in poll 'GET /jobs/{id}'.");
	require_option("state", protocol->state != NULL,
				   "With reply 'poll', say where the state stands, as in state '/status', states 'ok=done;fail=failed'.");
	if (strstr(protocol->poll, "{id}") != NULL)
		require_option("remote_id", protocol->remote_id != NULL,
					   "Say where the provider names the prediction, as in remote_id '/id'.");
}

/*
 * What is below the server's url may name the model.
 */
static void
check_model(const ServerOptions *options)
{
	const Protocol *protocol = &options->protocol;
	const struct
	{
		const char *name;
		const char *value;
	} users[] = {{"path", protocol->path},         {"inputs_path", protocol->inputs_path},
				 {"poll", protocol->poll},         {"result", protocol->result},
				 {"progress", protocol->progress}, {"cancel", protocol->cancel}};
	int i;

	for (i = 0; i < lengthof(users); i++)
	{
		if (users[i].value != NULL && strstr(users[i].value, "{model}") != NULL)
			require_option("model", options->model != NULL,
						   psprintf("The %s of api \"%s\" names it: %s.", users[i].name,
									options->preset->api, users[i].value));
	}
}

/*
 * What one option needs another for.
 */
static void
check_protocol(const ServerOptions *options)
{
	const Protocol *protocol = &options->protocol;
	const char *state = protocol->state;
	const char *inputs_at = protocol->inputs_at;

	check_model(options);
	if (inputs_at != NULL && *inputs_at != '/' && strcmp(protocol->inputs_body, "multipart") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"inputs_at\": \"%s\"", inputs_at),
				 errhint("With inputs_body '%s' a JSON Pointer is expected, such as \"/images\".",
						 protocol->inputs_body)));
	if (strcmp(protocol->reply, "poll") == 0)
		check_poll(protocol);
	if (protocol->lookup != NULL)
		require_option("remote_id", chooses_id(protocol),
					   "With lookup, the request must choose the id, as in reply 'poll', remote_id '=/id'.");
	if (state != NULL && (*state == '/' || strcmp(state, "http") == 0))
		require_option("states", protocol->states != NULL,
					   "Say what the values of state mean, as in states 'ok=done;fail=failed'.");
}

/*
 * Two addresses that are one would count its calls twice.
 */
static void
check_urls(const List *urls)
{
	int i;
	int j;

	for (i = 0; i < list_length(urls); i++)
	{
		for (j = 0; j < i; j++)
		{
			if (strcmp(list_nth(urls, i), list_nth(urls, j)) == 0)
				ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
								errmsg("option \"url\" names an address twice: \"%s\"",
									   (char *) list_nth(urls, i)),
								errhint("Name each once; max_in_flight holds for each of them.")));
		}
	}
}

/*
 * Reads the options of a server of the wrapper genjob into *options (in the current memory context),
 * defaults and preset included.  Errors for the user where anything is wrong.
 */
void
options_parse_server(List *defs, ServerOptions *options)
{
	const Preset *preset;

	memset(options, 0, sizeof(*options));
	options_parse(defs, ForeignServerRelationId, options);
	preset = options->preset;
	require_option("api", preset != NULL, psprintf("Valid values are: %s.", preset_list()));
	require_option("url", options->urls != NIL,
				   "Name the server's base address, as in OPTIONS (url 'http://127.0.0.1:8188').");
	options->url = linitial(options->urls);
	check_urls(options->urls);
	if (options->rate_burst > 0)
		require_option("rate_limit", options->rate > 0,
					   "rate_burst says how many calls rate_limit lets go at once.");
	if (options->retry_base > options->retry_max)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						errmsg("option \"retry_base\" is longer than \"retry_max\""),
						errhint("Raise retry_max, or lower retry_base.")));
	fill_protocol(options);
	settle_lookup(options);
	check_protocol(options);
}

/*
 * Reads the options of a user mapping.
 */
void
options_parse_mapping(List *defs, MappingOptions *options)
{
	memset(options, 0, sizeof(*options));
	options_parse(defs, UserMappingRelationId, options);
}

PG_FUNCTION_INFO_V1(genjob_validator);

/*
 * The validator of the wrapper: gets all options that an object will have.
 */
Datum
genjob_validator(PG_FUNCTION_ARGS)
{
	List *defs = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	ServerOptions server;
	MappingOptions mapping;

	if (catalog == ForeignServerRelationId)
		options_parse_server(defs, &server);
	else if (catalog == UserMappingRelationId)
		options_parse_mapping(defs, &mapping);
	else if (defs != NIL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						errmsg("invalid option \"%s\"", linitial_node(DefElem, defs)->defname),
						errhint("Options belong to CREATE SERVER and CREATE USER MAPPING.")));
	PG_RETURN_VOID();
}

/*
 * options.c
 *		The options of a foreign server and of a user mapping: one table for
 *		the validator and for all readers, and the checks of one option against
 *		another.
 *
 * CREATE and ALTER refuse what is wrong.  optionvalue.c reads single values.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"

#include "server/addressing.h"
#include "server/aws.h"
#include "server/nearest.h"
#include "server/options.h"
#include "server/optionvalue.h"
#include "server/storeheaders.h"

#define SERVER_OPTION(name, kind, field, ...) \
	{ \
		name, ForeignServerRelationId, kind, offsetof(ServerOptions, field), __VA_ARGS__ \
	}
#define PROTOCOL_OPTION(name, kind, field) SERVER_OPTION(name, kind, protocol.field, NULL)
/* Also stored as an enum, in protocol.kind.field */
#define PROTOCOL_KIND(name, type, field, choices) \
	SERVER_OPTION(name, type, protocol.field, NULL, 0, 0, choices, \
				  offsetof(ServerOptions, protocol.kind.field))
#define PROTOCOL_CHOICE(name, field, choices) PROTOCOL_KIND(name, OPTION_CHOICE, field, choices)
#define MAPPING_OPTION(name, kind, field, ...) \
	{ \
		name, UserMappingRelationId, kind, offsetof(MappingOptions, field), __VA_ARGS__ \
	}

#define MAX_AGE_DAYS INT64CONST(36500)
#define MAX_OUTPUT (INT64CONST(10000) * 8 * 1024 * 1024) /* a store takes 10000 parts of 8 MB */
#define MAX_RESPONSE INT64CONST(1000000000)              /* bytea and jsonb stay below 1 GiB */

static const Option options_table[] = {
	SERVER_OPTION("api", OPTION_API, preset, NULL),
	SERVER_OPTION("url", OPTION_URLS, urls, NULL),
	PROTOCOL_CHOICE("method", method, "POST, PUT, PATCH, GET, HEAD, DELETE"),
	PROTOCOL_KIND("auth", OPTION_AUTH, auth, "none, bearer, basic, header, query, sigv4, webhook"),
	PROTOCOL_OPTION("region", OPTION_WORD, region),
	PROTOCOL_OPTION("service", OPTION_WORD, service),
	PROTOCOL_OPTION("path", OPTION_PATH, path),
	PROTOCOL_CHOICE("body", body, "json, multipart, raw"),
	PROTOCOL_OPTION("wrap", OPTION_PLACE, wrap),
	PROTOCOL_OPTION("model_at", OPTION_PLACE, model_at),
	PROTOCOL_OPTION("accept", OPTION_HEADER_VALUE, accept),
	PROTOCOL_OPTION("allow_hosts", OPTION_TEXT, allow_hosts),
	PROTOCOL_OPTION("inputs_path", OPTION_PATH, inputs_path),
	PROTOCOL_CHOICE("inputs_body", inputs_body, "json, multipart, raw"),
	PROTOCOL_CHOICE("inputs_as", inputs_as, "base64, data-url"),
	PROTOCOL_CHOICE("links_as", links_as, "url, bytes"),
	PROTOCOL_OPTION("inputs_at", OPTION_TEXT, inputs_at),
	PROTOCOL_CHOICE("reply", reply, "body, stream, poll, hand-over"),
	PROTOCOL_OPTION("token_at", OPTION_PLACE, token_at),
	PROTOCOL_OPTION("remote_id", OPTION_REMOTE_ID, remote_id),
	PROTOCOL_OPTION("lookup", OPTION_LOOKUP, lookup),
	PROTOCOL_OPTION("poll", OPTION_ADDRESS, poll),
	PROTOCOL_KIND("state", OPTION_STATE, state, "/, exists, bool, http"),
	PROTOCOL_OPTION("states", OPTION_STATES, states),
	PROTOCOL_OPTION("result", OPTION_ADDRESS, result),
	PROTOCOL_OPTION("stream_type", OPTION_PLACE, stream_type),
	PROTOCOL_OPTION("stream_end", OPTION_STREAM_CONDITIONS, stream_end),
	PROTOCOL_OPTION("stream_error", OPTION_STREAM_CONDITIONS, stream_error),
	PROTOCOL_OPTION("stream_parts", OPTION_STREAM_PARTS, stream_parts),
	PROTOCOL_OPTION("stream_places", OPTION_STREAM_PLACES, stream_places),
	PROTOCOL_OPTION("output", OPTION_PLACES, output),
	PROTOCOL_KIND("requires_output", OPTION_REQUIREMENT, requires_output, "off, on, /, ?"),
	PROTOCOL_CHOICE("any_answer", any_answer, "on, off"),
	PROTOCOL_OPTION("reason", OPTION_REASONS, reason),
	PROTOCOL_OPTION("warning", OPTION_REASONS, warning),
	PROTOCOL_KIND("encoding", OPTION_ENCODING, encoding, "auto, url, text, file"),
	PROTOCOL_CHOICE("download_auth", download_auth, "none, same-origin"),
	PROTOCOL_OPTION("error", OPTION_REASONS, error),
	PROTOCOL_OPTION("retry_after", OPTION_PLACES, retry_after),
	PROTOCOL_OPTION("usage", OPTION_PLACES, usage),
	PROTOCOL_OPTION("progress", OPTION_PROGRESS, progress),
	PROTOCOL_OPTION("cancel", OPTION_ADDRESS, cancel),
	SERVER_OPTION("store", OPTION_SERVER, store, NULL),
	SERVER_OPTION("bucket", OPTION_BUCKET, bucket, NULL),
	SERVER_OPTION("key", OPTION_KEY, key, NULL),
	SERVER_OPTION("addressing", OPTION_CHOICE, addressing, NULL, 0, 0, "path, virtual",
				  offsetof(ServerOptions, addressing_kind)),
	SERVER_OPTION("put_headers", OPTION_HEADERS, put_headers, NULL),
	SERVER_OPTION("model", OPTION_TEXT, model, NULL),
	SERVER_OPTION("defaults", OPTION_OBJECT, defaults, NULL),
	SERVER_OPTION("headers", OPTION_HEADERS, headers, NULL),
	SERVER_OPTION("ca_file", OPTION_FILE, ca_file, NULL),
	SERVER_OPTION("max_in_flight", OPTION_AT_A_TIME, max_in_flight, "10", 1, 1000000),
	SERVER_OPTION("rate_limit", OPTION_RATE, rate, NULL),
	SERVER_OPTION("rate_burst", OPTION_COUNT, rate_burst, NULL, 1, 1000000),
	SERVER_OPTION("fallback", OPTION_SERVER, fallback, NULL),
	SERVER_OPTION("timeout", OPTION_DURATION, timeout, "15 min", 1, 20 * MS_OF_DAY),
	SERVER_OPTION("poll_interval", OPTION_DURATION, poll_interval, "1 s", 10, MS_OF_DAY),
	SERVER_OPTION("gone_after", OPTION_DURATION, gone_after, NULL, 0, MS_OF_DAY),
	SERVER_OPTION("connect_timeout", OPTION_DURATION, connect_timeout, "10 s", 1, MS_OF_DAY),
	SERVER_OPTION("max_response", OPTION_SIZE, max_response, "256MB", 1024, MAX_RESPONSE),
	SERVER_OPTION("max_output", OPTION_SIZE, max_output, "20GB", 1024, MAX_OUTPUT),
	SERVER_OPTION("max_attempts", OPTION_COUNT, max_attempts, "5", 1, 1000000),
	SERVER_OPTION("retry_base", OPTION_DURATION, retry_base, "1 s", 1, MS_OF_DAY),
	SERVER_OPTION("retry_max", OPTION_DURATION, retry_max, "5 min", 1, 20 * MS_OF_DAY),
	SERVER_OPTION("retry_status", OPTION_STATUS_SET, retry_status, NULL),
	SERVER_OPTION("max_wait", OPTION_DURATION, max_wait, "1 d", 1, 365 * MS_OF_DAY),
	SERVER_OPTION("on_unknown", OPTION_ON_UNKNOWN, on_unknown, "retry"),
	SERVER_OPTION("max_unknown", OPTION_COUNT, max_unknown, "2", 0, 1000000),
	SERVER_OPTION("paused", OPTION_BOOL, paused, "off"),
	SERVER_OPTION("retention", OPTION_AGE, retention, NULL, 1000, MAX_AGE_DAYS *MS_OF_DAY),
	SERVER_OPTION("retention_failed", OPTION_AGE, retention_failed, NULL, 1000,
				  MAX_AGE_DAYS *MS_OF_DAY),
	SERVER_OPTION("notify", OPTION_CHANNEL, notify, NULL),
	SERVER_OPTION("on_success", OPTION_SERVER, on_success, NULL),
	SERVER_OPTION("on_failure", OPTION_SERVER, on_failure, NULL),
	MAPPING_OPTION("api_key", OPTION_SECRET, api_key, NULL),
	MAPPING_OPTION("headers", OPTION_HEADERS, headers, NULL),
	MAPPING_OPTION("access_key_id", OPTION_SECRET, access_key_id, NULL),
	MAPPING_OPTION("secret_access_key", OPTION_SECRET, secret_access_key, NULL),
	MAPPING_OPTION("session_token", OPTION_SECRET, session_token, NULL),
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
	Nearest nearest = {name};
	int i;

	for (i = 0; i < lengthof(options_table); i++)
	{
		const Option *option = &options_table[i];

		if (strcmp(option->name, name) != 0)
		{
			if (option->catalog == catalog)
				nearest_offer(&nearest, option->name);
			continue;
		}
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
			 errhint("%sValid options for %s are: %s.",
					 nearest.name ? psprintf("Perhaps you meant \"%s\". ", nearest.name) : "",
					 place_name(catalog), list_options(catalog))));
	pg_unreachable();
}

/*
 * Parses the settings of the preset that the option api names: its own
 * defaults of other options.
 */
static void
parse_preset_settings(List *defs, void *options)
{
	ListCell *cell;
	const Preset *preset = NULL;
	char *setting;
	char *rest;

	foreach(cell, defs)
	{
		DefElem *def = lfirst_node(DefElem, cell);

		if (strcmp(def->defname, "api") == 0)
			preset = preset_find(defGetString(def));
	}
	if (preset == NULL || preset->settings == NULL)
		return;
	rest = pstrdup(preset->settings);
	while ((setting = strsep(&rest, ";")) != NULL)
	{
		char *name = strsep(&setting, "=");

		optionvalue_parse(option_find(name, ForeignServerRelationId), setting, options);
	}
}

static void
options_parse(List *defs, Oid catalog, void *options)
{
	ListCell *cell;
	int i;

	for (i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].catalog == catalog && options_table[i].default_value != NULL)
			optionvalue_parse(&options_table[i], options_table[i].default_value, options);
	}
	if (catalog == ForeignServerRelationId)
		parse_preset_settings(defs, options);
	foreach(cell, defs)
	{
		DefElem *def = lfirst_node(DefElem, cell);

		optionvalue_parse(option_find(def->defname, catalog), defGetString(def), options);
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
 * Sets empty options to NULL.  An empty option turns the preset's value off.
 */
static void
drop_emptied(Protocol *protocol)
{
	const char **fields[] = {
		&protocol->wrap,          &protocol->model_at,     &protocol->allow_hosts,
		&protocol->inputs_at,     &protocol->poll,         &protocol->state,
		&protocol->states,        &protocol->remote_id,    &protocol->result,
		&protocol->output,        &protocol->error,        &protocol->reason,
		&protocol->warning,       &protocol->retry_after,  &protocol->usage,
		&protocol->progress,      &protocol->cancel,       &protocol->stream_type,
		&protocol->stream_end,    &protocol->stream_error, &protocol->stream_parts,
		&protocol->stream_places,
	};
	int i;

	for (i = 0; i < lengthof(fields); i++)
	{
		if (*fields[i] != NULL && **fields[i] == '\0')
			*fields[i] = NULL;
	}
}

/*
 * Fills in options that are not given, from the preset or else with a default.
 */
static void
fill_protocol(ServerOptions *options)
{
	const Protocol *preset = &options->preset->protocol;
	Protocol *protocol = &options->protocol;
	size_t n = offsetof(Protocol, kind) / sizeof(const char *);
	size_t i;

	for (i = 0; i < n; i++)
	{
		const char **field = (const char **) protocol + i;

		if (*field == NULL)
			*field = ((const char *const *) preset)[i];
	}
	drop_emptied(protocol);
	if (protocol->method == NULL)
		protocol->method = "POST";
	if (protocol->inputs_path == NULL)
		protocol->inputs_path = protocol->path;
	if (protocol->body == NULL)
		protocol->body = "json";
	if (protocol->inputs_body == NULL)
		protocol->inputs_body = protocol->body;
	if (protocol->inputs_as == NULL)
		protocol->inputs_as = "base64";
	/* a form sends files, and a raw body is a file */
	if (protocol->links_as == NULL)
		protocol->links_as = strcmp(protocol->inputs_body, "json") == 0 ? "url" : "bytes";
	if (protocol->reply == NULL)
		protocol->reply = "body";
	if (protocol->token_at == NULL)
		protocol->token_at = "/genjob";
	if (protocol->accept == NULL)
		protocol->accept = "application/json";
	if (protocol->encoding == NULL)
		protocol->encoding = "auto";
	if (protocol->download_auth == NULL)
		protocol->download_auth = "same-origin";
	if (protocol->stream_error == NULL)
		protocol->stream_error = "event:error";
	if (protocol->requires_output == NULL)
		protocol->requires_output = "off";
	if (protocol->any_answer == NULL)
		protocol->any_answer = "off";
}

/*
 * Sets the enums of the options that have one.
 */
static void
read_kinds(ServerOptions *options)
{
	int i;

	for (i = 0; i < lengthof(options_table); i++)
	{
		if (options_table[i].kind_offset != 0)
			optionvalue_read_kind(&options_table[i], options);
	}
}

/*
 * True if genjob chooses the id of a prediction.
 */
static bool
chooses_id(const Protocol *protocol)
{
	return protocol->kind.reply == REPLY_POLL && protocol->remote_id != NULL &&
		   *protocol->remote_id == '=';
}

/*
 * Drops an empty lookup, and the preset's lookup if genjob does not choose the
 * id: the lookup asks by that id.
 */
static void
complete_lookup(ServerOptions *options)
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
				   "With reply 'poll', name the place of the state, as in state '/status', states 'ok=done;fail=failed'.");
	if (strstr(protocol->poll, "{id}") != NULL)
		require_option("remote_id", protocol->remote_id != NULL,
					   "Say where the provider names the prediction, as in remote_id '/id'.");
}

/*
 * True if the answer comes by genjob.complete().
 */
bool
options_hands_over(const ServerOptions *options)
{
	return options->protocol.kind.reply == REPLY_HAND_OVER;
}

static void
check_hand_over(const Protocol *protocol)
{
	if (strcmp(protocol->body, "json") != 0 || strcmp(protocol->inputs_body, "json") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("a server with reply 'hand-over' takes its requests as JSON"),
				 errhint(
					 "genjob puts the token of genjob.complete() into the JSON: leave out the options body and inputs_body.")));
	require_option("token_at", protocol->token_at != NULL && *protocol->token_at == '/',
				   "With reply 'hand-over', say where the token of genjob.complete() goes, as in token_at '/genjob'.");
}

/*
 * Requires the option model if a path names it.
 */
static void
check_model(const ServerOptions *options)
{
	const Protocol *protocol = &options->protocol;
	const struct
	{
		const char *name;
		const char *value;
	} users[] = {{"path", protocol->path},     {"inputs_path", protocol->inputs_path},
				 {"poll", protocol->poll},     {"result", protocol->result},
				 {"lookup", protocol->lookup}, {"progress", protocol->progress},
				 {"cancel", protocol->cancel}};
	int i;

	for (i = 0; i < lengthof(users); i++)
	{
		if (users[i].value != NULL && strstr(users[i].value, "{model}") != NULL)
			require_option("model", options->model != NULL,
						   psprintf("The %s of api \"%s\" contains {model}: %s.", users[i].name,
									options->preset->api, users[i].value));
	}
}

/*
 * Finds the region and the service to sign for.  The names of AWS's hosts
 * contain them.
 */
static void
complete_scope(ServerOptions *options)
{
	Protocol *protocol = &options->protocol;
	char *region;
	char *service;
	bool names_region;

	if (protocol->kind.auth != AUTH_SIGV4)
		return;
	names_region = aws_read_host(options->url, &region, &service);
	if (names_region && protocol->region != NULL && strcmp(protocol->region, region) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("option \"region\" is \"%s\", but the host of option \"url\" is in region \"%s\"",
						protocol->region, region),
				 errhint("Leave the option region out, or name the host of that region.")));
	if (protocol->region == NULL)
		protocol->region = region;
	if (protocol->service == NULL)
		protocol->service = service;
	require_option("region", protocol->region != NULL,
				   "Requests are signed for a region (auth 'sigv4'), as in region 'eu-central-1'.");
	require_option("service", protocol->service != NULL,
				   "Requests are signed for a service (auth 'sigv4'), as in service 'lambda'.");
}

#define DEFAULT_KEY "{server}/{yyyy}/{mm}/{dd}/{job}-{ordinal}.{ext}"

/*
 * Checks and completes the options of an object store.  Refuses these options
 * for other servers.
 */
static void
complete_store(ServerOptions *options)
{
	Protocol *protocol = &options->protocol;
	const char *alien = options->bucket        ? "bucket"
						: options->key         ? "key"
						: options->addressing  ? "addressing"
						: options->put_headers ? "put_headers"
											   : NULL;

	if (!options->preset->is_store)
	{
		if (alien != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" belongs to a server with api 's3'", alien),
					 errhint(
						 "To put this server's outputs into an object store, set its option store.")));
		return;
	}
	if (options->store != NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
						errmsg("an object store has no option \"store\""),
						errhint("It belongs to the server whose outputs go there.")));
	require_option("bucket", options->bucket != NULL,
				   "Name the bucket of the objects, as in bucket 'pictures'.");
	storeheaders_check(options);
	if (options->key == NULL)
		options->key = DEFAULT_KEY;
	addressing_complete(options);
	if (protocol->region == NULL && !aws_is_host(options->url))
		protocol->region = "us-east-1";
}

/*
 * Checks the options against each other.
 */
static void
check_protocol(const ServerOptions *options)
{
	const Protocol *protocol = &options->protocol;
	const char *inputs_at = protocol->inputs_at;

	check_model(options);
	if (inputs_at != NULL && *inputs_at != '/' && protocol->kind.inputs_body != BODY_MULTIPART)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("invalid value for option \"inputs_at\": \"%s\"", inputs_at),
				 errhint("With inputs_body '%s' a JSON Pointer is expected, such as \"/images\".",
						 protocol->inputs_body)));
	if (options->preset->target != NULL)
		require_option("model", options->model != NULL,
					   psprintf("genjob puts it into %s: the URL of the queue, or the ARN of the state machine.",
								protocol->model_at ? protocol->model_at : "the request"));
	if (protocol->kind.reply == REPLY_POLL)
		check_poll(protocol);
	if (options_hands_over(options))
		check_hand_over(protocol);
	if (protocol->lookup != NULL)
		require_option("remote_id", chooses_id(protocol),
					   "With lookup, the request must choose the id, as in reply 'poll', remote_id '=/id'.");
	if (protocol->state != NULL &&
		(protocol->kind.state == STATE_AT_PLACE || protocol->kind.state == STATE_HTTP))
		require_option("states", protocol->states != NULL,
					   "Say what the values of state mean, as in states 'ok=done;fail=failed'.");
}

static bool
is_given(List *defs, const char *name)
{
	ListCell *cell;

	foreach(cell, defs)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	}
	return false;
}

/*
 * Reads the options of a server of the wrapper genjob into *options, defaults
 * and preset included.  Strings live in the current memory context.  Raises an
 * error for the user if an option is wrong.
 */
void
options_parse_server(List *defs, ServerOptions *options)
{
	const Preset *preset;

	memset(options, 0, sizeof(*options));
	options->gone_after = -1;
	options_parse(defs, ForeignServerRelationId, options);
	preset = options->preset;
	require_option("api", preset != NULL, psprintf("Valid values are: %s.", preset_list()));
	require_option("url", options->urls != NIL,
				   "Name the server's base address, as in OPTIONS (url 'http://127.0.0.1:8188').");
	options->url = linitial(options->urls);
	if (options->rate_burst > 0)
		require_option("rate_limit", options->rate > 0,
					   "rate_burst is how many calls rate_limit allows at once.");
	options->schedule =
		is_given(defs, "retry_base") || is_given(defs, "retry_max") ? NULL : preset->schedule;
	if (options->retry_base > options->retry_max)
		ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
						errmsg("option \"retry_base\" is longer than \"retry_max\""),
						errhint("Raise retry_max, or lower retry_base.")));
	if (options->gone_after < 0)
		options->gone_after = preset->gone_after;
	if (options->retention_failed == 0)
		options->retention_failed = options->retention;
	fill_protocol(options);
	complete_store(options);
	read_kinds(options);
	complete_lookup(options);
	complete_scope(options);
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
	if (options->access_key_id != NULL || options->session_token != NULL)
		require_option("secret_access_key", options->secret_access_key != NULL,
					   "It belongs to the access_key_id, with which requests are signed (auth 'sigv4').");
	if (options->secret_access_key != NULL)
		require_option("access_key_id", options->access_key_id != NULL,
					   "It belongs to the secret_access_key, with which requests are signed (auth 'sigv4').");
}

/*
 * unusable.c
 *		Combinations of a server's options that can never work: an address that
 *		is never called, a state that never means success.
 *
 * Only CREATE and ALTER SERVER ask, and only about options that they are
 * given.  Servers that have such options already still work as they did, can be
 * altered otherwise and come back from a dump: validator.c.  A server may turn
 * off what its preset has.
 */
#include "postgres.h"

#include "commands/defrem.h"

#include "server/grammar.h"
#include "server/unusable.h"

/*
 * Returns the value that an option is given; NULL if it is not given, or is empty.
 */
static const char *
find_given(const List *defs, const char *name)
{
	ListCell *cell;

	foreach(cell, defs)
	{
		DefElem *def = lfirst_node(DefElem, cell);

		if (strcmp(def->defname, name) == 0 && *defGetString(def) != '\0')
			return defGetString(def);
	}
	return NULL;
}

static bool
has_id(const char *address)
{
	return strstr(address, "{id}") != NULL;
}

static void
refuse_without_poll(const char *name, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					errmsg("option \"%s\" has no effect without reply 'poll'", name),
					errhint("%s Add reply 'poll', or leave the option out.", hint)));
}

/*
 * Refuses what only a prediction that is polled can use.
 */
static void
check_without_poll(const List *defs, const ServerOptions *options)
{
	const char *progress = find_given(defs, "progress");
	const char *cancel = find_given(defs, "cancel");

	if (find_given(defs, "poll"))
		refuse_without_poll("poll", "Otherwise genjob asks for no state of a prediction.");
	if (find_given(defs, "result"))
		refuse_without_poll("result", "Otherwise the answer to the submission is the result.");
	if (progress != NULL && *progress == '/')
		refuse_without_poll("progress",
							"The value is a place in the answer to a poll. While a submission is in flight, genjob can only ask an address, as in progress 'GET /progress#/done'.");
	if (cancel != NULL && !options_hands_over(options) &&
		(has_id(cancel) || strstr(cancel, " @") != NULL))
		refuse_without_poll("cancel",
							"Before an answer has come, genjob knows no id and no URL of the prediction.");
}

/*
 * Requires the place of the id if an address of a prediction contains it.
 */
static void
check_id(const List *defs, const char *name, const ServerOptions *options)
{
	const char *address = find_given(defs, name);

	if (address != NULL && has_id(address) && options->protocol.remote_id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("option \"remote_id\" is required"),
				 errhint("The option %s contains {id}: say where the provider names the prediction, as in remote_id '/id'.",
						 name)));
}

static void
refuse_states(const char *states, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
			 errmsg("invalid value for option \"states\": \"%s\"", states), errhint("%s", hint)));
}

/*
 * Checks a list of values, up to the next semicolon.
 */
static void
check_values(const char *states, const char *values, bool are_statuses)
{
	while (*values != '\0' && *values != ';')
	{
		size_t len = strcspn(values, ",;");
		bool is_star = len == 1 && *values == '*';
		char *value = pnstrdup(values, len);

		if (are_statuses && !is_star && (len != 3 || strspn(value, "0123456789") != len))
			refuse_states(states,
						  "With state 'http', the values are statuses of HTTP, as in states 'ok=200;run=202'.");
		values += len + (values[len] == ',');
	}
}

/*
 * Checks that a prediction can succeed.
 */
static void
check_states(const ServerOptions *options)
{
	const char *states = options->protocol.states;
	const char *group = states;
	bool may_succeed = false;

	while (*group != '\0')
	{
		const char *values = strchr(group, '=') + 1;

		may_succeed |= strncmp(group, "ok=", 3) == 0 || strncmp(group, "partly=", 7) == 0;
		check_values(states, values, options->protocol.kind.state == STATE_HTTP);
		group += strcspn(group, ";");
		group += *group == ';';
	}
	if (!may_succeed)
		refuse_states(states,
					  "No prediction would ever succeed: say which values mean success, as in states 'ok=done;fail=failed'.");
}

/*
 * Refuses allowed hosts that are no names of hosts.
 */
static void
check_hosts(const char *hosts)
{
	const char *word;
	int len;

	while (hosts != NULL && (word = grammar_next_word(&hosts, &len)) != NULL)
	{
		if (memchr(word, '/', len) != NULL || memchr(word, '@', len) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
					 errmsg("invalid value for option \"allow_hosts\""),
					 errhint(
						 "Names of hosts are expected, without a scheme, a user or a path, as in \"files.example.com *.example.net\".")));
	}
}

/*
 * True if unusable_refuse() looks at an option.
 */
bool
unusable_concerns(const char *option)
{
	static const char *const names[] = {"allow_hosts", "api",      "cancel",    "method",
										"poll",        "progress", "remote_id", "reply",
										"result",      "state",    "states"};
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		if (strcmp(names[i], option) == 0)
			return true;
	}
	return false;
}

/*
 * Raises an error for the user if options that a server is given can never work.  *options was read from defs.
 */
void
unusable_refuse(const List *defs, const ServerOptions *options)
{
	const Protocol *protocol = &options->protocol;

	check_hosts(find_given(defs, "allow_hosts"));
	if (options_hands_over(options) && protocol->kind.method >= METHOD_GET)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("a call with method '%s' hands no job over", protocol->method),
				 errhint(
					 "Its body would take the token of genjob.complete(): with reply 'hand-over' the method is POST, PUT or PATCH.")));
	if (protocol->kind.reply != REPLY_POLL)
	{
		check_without_poll(defs, options);
		return;
	}
	check_id(defs, "result", options);
	check_id(defs, "cancel", options);
	if (protocol->kind.state == STATE_AT_PLACE || protocol->kind.state == STATE_HTTP)
		check_states(options);
}

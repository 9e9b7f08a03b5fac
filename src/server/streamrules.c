/*
 * streamrules.c
 *		Reads the options stream_…: what ends a stream, and where its parts go.
 *
 * These rules are all that genjob knows about a provider's streams.  They say
 * how to join the parts of events to the object that the same call would
 * return without a stream.  docs/reference.md has their grammar.
 */
#include "postgres.h"

#include "server/grammar.h"
#include "server/streamrules.h"

#define WHOLE "." /* the whole event, or the whole result */
#define SHOWN "~" /* nowhere: only shown */

static const struct
{
	const char *name;
	int op;
} ops[] = {{"text:", PLACE_TEXT}, {"json:", PLACE_JSON},    {"run:", PLACE_RUN},
		   {"join:", PLACE_JOIN}, {"last:", PLACE_LAST},    {"skip:", PLACE_SKIP},
		   {"new:", PLACE_NEW},   {"base64:", PLACE_BASE64}};

#define KEY "key:"

/*
 * True if word is in a list "A,B"; an entry "A*" matches every word that
 * begins with A.
 */
bool
streamrules_list_has(const char *list, const char *word)
{
	size_t word_len = strlen(word);

	while (*list != '\0')
	{
		size_t len = strcspn(list, ",");
		bool is_prefix = len > 0 && list[len - 1] == '*';

		if (is_prefix ? word_len >= len - 1 && memcmp(list, word, len - 1) == 0
					  : len == word_len && memcmp(list, word, len) == 0)
			return true;
		list += len + (list[len] == ',');
	}
	return false;
}

static bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* ---------- conditions ---------- */

static StreamCondition
read_condition(char *word)
{
	StreamCondition condition = {NULL};
	char *equals;

	if (starts_with(word, "event:"))
		condition.type = word + strlen("event:");
	else if (*word != '/')
		condition.data = word;
	else
	{
		equals = strchr(word, '=');
		if (equals != NULL)
			*equals = '\0';
		condition.values = equals ? equals + 1 : NULL;
		condition.place = pointer_read(word);
	}
	return condition;
}

static StreamConditions
read_conditions(const char *text)
{
	StreamConditions conditions = {palloc((strlen(text) / 2 + 1) * sizeof(StreamCondition)), 0};
	const char *word;
	int len;

	while ((word = grammar_next_word(&text, &len)) != NULL)
		conditions.all[conditions.n++] = read_condition(pnstrdup(word, len));
	return conditions;
}

const char *
streamrules_check_conditions(const char *value)
{
	StreamConditions conditions = read_conditions(value);
	int i;

	for (i = 0; i < conditions.n; i++)
	{
		if ((conditions.all[i].type != NULL && *conditions.all[i].type == '\0') ||
			(conditions.all[i].values != NULL && *conditions.all[i].values == '\0'))
			return "What an event says is expected, separated by spaces: its data, such as \"[DONE]\", its type, such as \"event:message_stop\", or a place in it with or without a value, such as \"/done\" or \"/type=end,stop\".";
	}
	return NULL;
}

/* ---------- places ---------- */

/*
 * Returns the rules for the child with name token, or for elements if token is
 * NULL; NULL if there are none.  place may be NULL.
 */
const StreamPlace *
streamrules_below(const StreamPlace *place, const char *token)
{
	const StreamPlace *child;

	for (child = place ? place->child : NULL; child != NULL; child = child->next)
	{
		if (token == NULL ? child->token == NULL
						  : child->token != NULL && strcmp(child->token, token) == 0)
			return child;
	}
	return NULL;
}

static StreamPlace *
make_place(StreamPlace *root, const JsonPointer *pointer, int n_tokens, bool has_run)
{
	StreamPlace *place = root;
	int i;

	for (i = 0; i < n_tokens; i++)
	{
		StreamPlace *child =
			unconstify(StreamPlace *, streamrules_below(place, pointer->tokens[i]));

		if (child == NULL)
		{
			child = palloc0(sizeof(StreamPlace));
			child->token = pointer->tokens[i];
			child->next = place->child;
			place->child = child;
		}
		child->has_run |= has_run;
		place = child;
	}
	return place;
}

/*
 * Reads "op:/place"; PLACE_RUN may have "(name=value)" behind it.  False if
 * word is something else.
 */
static bool
read_place(StreamPlace *root, char *word)
{
	JsonPointer pointer;
	StreamPlace *place;
	char *with = strchr(word, '(');
	char *equals = with ? strchr(with, '=') : NULL;
	char *pointer_text = strchr(word, '/');
	int op = 0;
	int i;

	for (i = 0; i < lengthof(ops); i++)
	{
		if (starts_with(word, ops[i].name))
			op = ops[i].op;
	}
	if (pointer_text == NULL || (op == 0 && pointer_text != word && !starts_with(word, KEY)) ||
		(pointer_text != word && pointer_text[-1] != ':') || strchr(word, ':') > pointer_text)
		return false;
	if (with != NULL)
	{
		if (op != PLACE_RUN || equals == NULL || word[strlen(word) - 1] != ')')
			return false;
		word[strlen(word) - 1] = '\0';
		*with = *equals = '\0';
	}
	pointer = pointer_read(pointer_text);
	if (starts_with(word, KEY))
	{
		if (pointer.n_tokens < 2 || pointer.tokens[pointer.n_tokens - 1] == NULL ||
			pointer.tokens[pointer.n_tokens - 2] != NULL)
			return false;
		make_place(root, &pointer, pointer.n_tokens - 1, false)->key =
			pointer.tokens[pointer.n_tokens - 1];
		return true;
	}
	place = make_place(root, &pointer, pointer.n_tokens, op == PLACE_RUN);
	place->ops |= op != 0 ? op : PLACE_TEXT;
	if (with != NULL)
	{
		place->with_name = with + 1;
		place->with_value = equals + 1;
	}
	return true;
}

/*
 * Adds the places in text to the tree at root.  False if text is not a list of
 * places.
 */
static bool
read_places(StreamPlace *root, const char *text)
{
	const char *word;
	int len;

	while ((word = grammar_next_word(&text, &len)) != NULL)
	{
		if (!read_place(root, pnstrdup(word, len)))
			return false;
	}
	return true;
}

const char *
streamrules_check_places(const char *value)
{
	StreamPlace root = {NULL};

	if (read_places(&root, value))
		return NULL;
	return "Places in the result are expected, separated by spaces, each with text:, base64:, json:, run:, join:, last:, skip:, new: or key: before it, such as \"text:/choices/*/message/content key:/choices/*/index\".";
}

/* ---------- parts ---------- */

/*
 * Reads "/place=value", or "." for the whole.  False if word is neither.
 */
static bool
read_end(char *word, JsonPointer *pointer, char **value)
{
	char *equals = strchr(word, '=');

	*value = NULL;
	if (*word == '/' && equals != NULL)
	{
		*equals = '\0';
		*value = equals + 1;
	}
	if (*word != '/' && strcmp(word, WHOLE) != 0)
		return false;
	*pointer = pointer_read(*word == '/' ? word : "");
	return true;
}

static int
count_stars(const JsonPointer *pointer)
{
	int n = 0;
	int i;

	for (i = 0; i < pointer->n_tokens; i++)
		n += pointer->tokens[i] == NULL;
	return n;
}

/*
 * Reads "types: from -> to".  Without types, the route is for all other
 * events.  Without the arrow, it drops the part.  False if text is something
 * else.
 */
static bool
read_route(StreamRoute *route, const char *text)
{
	char *words[5] = {NULL};
	int n = 0;
	int i = 0;
	const char *word;
	int len;

	while (n < lengthof(words) - 1 && (word = grammar_next_word(&text, &len)) != NULL)
		words[n++] = pnstrdup(word, len);
	if (n == 0 || grammar_next_word(&text, &len) != NULL)
		return false;
	if (words[0][strlen(words[0]) - 1] == ':')
	{
		route->types = words[i++];
		route->types[strlen(route->types) - 1] = '\0';
	}
	if (i == n || !read_end(words[i++], &route->from, &route->only))
		return false;
	route->target = i == n ? STREAM_DROP : STREAM_PUT;
	if (i == n)
		return true;
	if (n != i + 2 || strcmp(words[i++], "->") != 0)
		return false;
	if (strcmp(words[i], SHOWN) == 0)
	{
		route->target = STREAM_SHOW;
		return true;
	}
	return read_end(words[i], &route->to, &route->constant) &&
		   count_stars(&route->to) <= count_stars(&route->from);
}

/*
 * Finds the member that identifies the elements of each list that a route
 * passes.
 */
static void
find_keys(StreamRoute *route, const StreamPlace *root)
{
	const StreamPlace *place = root;
	int n = 0;
	int i;

	route->keys = palloc0((count_stars(&route->from) + 1) * sizeof(char *));
	for (i = 0; i < route->to.n_tokens; i++)
	{
		place = streamrules_below(place, route->to.tokens[i]);
		if (route->to.tokens[i] == NULL)
			route->keys[n++] = place ? place->key : NULL;
	}
}

static int
count_rules(const char *text)
{
	int n = 1;

	for (; *text != '\0'; text++)
		n += *text == ';';
	return n;
}

/*
 * Returns the *n routes in text; NULL if text is not a list of routes.
 */
static StreamRoute *
read_routes(const char *text, int *n)
{
	StreamRoute *routes = palloc0((count_rules(text) + 1) * sizeof(StreamRoute));

	*n = 0;
	while (*text != '\0')
	{
		size_t len = strcspn(text, ";");

		if (!read_route(&routes[(*n)++], pnstrdup(text, len)))
			return NULL;
		text += len + (text[len] == ';');
	}
	return routes;
}

const char *
streamrules_check_parts(const char *value)
{
	int n;

	if (read_routes(value, &n) != NULL)
		return NULL;
	return "Rules are expected, separated by \";\", such as \"/choices/*/delta -> /choices/*/message; . -> .\", each with the types of its events before it or not, such as \"message_start: /message -> .\"; \".\" is the whole, \"~\" is only shown, and without \"->\" a part is left out.";
}

/* ---------- all ---------- */

/*
 * Reads the rules of a protocol, in the current memory context.  Without rules
 * for parts, each event is merged into the result of the events before.
 */
StreamRules *
streamrules_read(const Protocol *protocol)
{
	StreamRules *rules = palloc0(sizeof(StreamRules));
	int i;

	rules->ends = read_conditions(protocol->stream_end ? protocol->stream_end : "");
	rules->errors = read_conditions(protocol->stream_error ? protocol->stream_error : "");
	if (protocol->stream_type != NULL)
		rules->type = pointer_read(protocol->stream_type);
	rules->places = palloc0(sizeof(StreamPlace));
	if (protocol->stream_places != NULL)
		(void) read_places(rules->places, protocol->stream_places);
	/* with encoding text, outputs are texts to join, too */
	if (protocol->output != NULL && protocol->kind.encoding == ENCODING_TEXT)
		(void) read_places(rules->places, protocol->output);
	rules->routes =
		read_routes(protocol->stream_parts ? protocol->stream_parts : WHOLE " -> " WHOLE,
					&rules->n_routes);
	for (i = 0; i < rules->n_routes; i++)
		find_keys(&rules->routes[i], rules->places);
	return rules;
}

/*
 * stream.c
 *		Answers that come in pieces: server-sent events (WHATWG HTML, "Server-sent events"), and lines of
 *		JSON (NDJSON).
 *
 * A stream is read when it has ended.  What was cut before its end is not a short answer, and an
 * error in its midst is an error.  Where servers break the rules, and what they mean is clear, it is read: an event
 * without the empty line behind it, several events without one between them, JSON where an event should be.
 *
 * What an event means, the protocol's rules say (streamrules.h): whether it is the last, whether it is an error, and
 * where its parts go in the object that they come to (assembly.c).
 *
 * Each event is read in a memory context of its own, which is reset behind it: a stream of megabytes may have a million.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "base/clip.h"
#include "http/header.h"
#include "protocol/assembly.h"
#include "protocol/stream.h"
#include "protocol/words.h"
#include "protocol/reasons.h"
#include "server/streamrules.h"

#define LARGE_EVENT (256 * 1024) /* bytes; the buffer of one is not kept for the next */
#define MAX_TYPE 100             /* bytes of an event's type */
#define MAX_WORDS 2000           /* bytes of an error that is no JSON */
#define MAX_STARS 8              /* in a rule: more are not followed */

/* A model's longest answer has some 100,000.  So many take half a second, in which the dispatcher does nothing else. */
#define MAX_EVENTS 500000

/* A stream that is being read. */
typedef struct Reader
{
	const Protocol *protocol;
	const StreamRules *rules;
	Stream *stream;
	StringInfoData data; /* of the event: its lines, each with a line feed */
	char type[MAX_TYPE]; /* of the event, as its field says; empty: it does not */
	Assembly *assembly;
	MemoryContext result; /* for what remains */
	MemoryContext event;  /* reset behind each event */
	int n_events;
} Reader;

/* An event that is being read. */
typedef struct Event
{
	const char *data;     /* where it is no JSON object; else NULL */
	cJSON *json;          /* where it is one; else NULL */
	const char *types[2]; /* by its field, and by what its data says; or NULL */
	bool has_half;        /* strings of it are no valid UTF-8 */
} Event;

/*
 * Whether a body that nothing is said of begins as a stream of events.  A URL "data:image/png;..." is none.
 */
static bool
begins_as_stream(const Bytes *body)
{
	static const char *const starts[] = {"data: ", "data:{", "event:", ": "};
	int i;

	for (i = 0; i < lengthof(starts); i++)
	{
		if (body->len > strlen(starts[i]) && memcmp(body->data, starts[i], strlen(starts[i])) == 0)
			return true;
	}
	return false;
}

/*
 * Whether an answer is a stream, and one that the protocol has rules for: servers answer with plain JSON when they are
 * not asked for one, or refuse.
 */
bool
stream_is(const Protocol *protocol, const HttpReply *reply)
{
	char *type = header_find(reply, "Content-Type");

	if (protocol->stream_end == NULL && strcmp(protocol->reply, "stream") != 0)
		return false;
	if (type != NULL && (strcasestr(type, "event-stream") != NULL ||
						 strcasestr(type, "ndjson") != NULL || strcasestr(type, "jsonl") != NULL))
		return true;
	return (type == NULL || strcasestr(type, "json") == NULL) && begins_as_stream(reply->body);
}

/* ---------- what an event says ---------- */

static const char *
text_of(const cJSON *node)
{
	return cJSON_IsString(node)                         ? node->valuestring
		   : json_is_number(node) || cJSON_IsBool(node) ? json_print(node)
														: NULL;
}

static bool
is_of_type(const Event *event, const char *types)
{
	int i;

	for (i = 0; i < lengthof(event->types); i++)
	{
		if (event->types[i] != NULL && streamrules_list_has(types, event->types[i]))
			return true;
	}
	return false;
}

static void
note_value(cJSON *node, const PointerPlace *place, void *arg)
{
	const char **values = arg; /* those that count, or NULL; and whether one did */
	const char *text = text_of(node);

	if (values[0] == NULL ? !json_is_empty(node) && !cJSON_IsFalse(node)
						  : text != NULL && streamrules_list_has(values[0], text))
		values[1] = "";
}

static bool
holds(const StreamCondition *condition, const Event *event)
{
	const char *values[2] = {condition->values, NULL};

	if (condition->type != NULL)
		return is_of_type(event, condition->type);
	if (condition->data != NULL)
		return event->data != NULL && strcmp(condition->data, event->data) == 0;
	if (event->json != NULL)
		pointer_visit(&condition->place, event->json, note_value, values);
	return values[1] != NULL;
}

static bool
any_holds(const StreamConditions *conditions, const Event *event)
{
	int i;

	for (i = 0; i < conditions->n; i++)
	{
		if (holds(&conditions->all[i], event))
			return true;
	}
	return false;
}

/* ---------- where its parts go ---------- */

/* A rule that is followed through an event. */
typedef struct Walk
{
	Reader *reader;
	const StreamRoute *route;
	Event *event;
	char *keys[MAX_STARS];
	int n_keys;
} Walk;

/*
 * What tells an element apart: what its member says, else its position.
 */
static char *
key_of(const Walk *walk, const cJSON *element, int position)
{
	const char *member = walk->route->keys[walk->n_keys];
	const cJSON *node = member != NULL && cJSON_IsObject(element)
							? cJSON_GetObjectItemCaseSensitive(element, member)
							: NULL;

	return cJSON_IsString(node) || json_is_number(node) ? json_print_start(node, MAX_TYPE)
														: psprintf("%d", position);
}

/*
 * Takes a part out of its event, and puts it where its rule says.
 */
static void
take_part(Walk *walk, cJSON *node, cJSON *parent)
{
	const StreamRoute *route = walk->route;
	Reader *reader = walk->reader;
	const char *text = text_of(node);
	cJSON constant = {.type = cJSON_String, .valuestring = route->constant};
	cJSON whole = *node;

	if (route->only != NULL && (text == NULL || strcmp(text, route->only) != 0))
		return;
	if (parent != NULL)
		json_detach(parent, node);
	else
		node->child = NULL;
	whole.string = NULL;
	if (route->target == STREAM_PUT)
		assembly_put(reader->assembly, &route->to, walk->keys, walk->event->json,
					 route->constant ? &constant : &whole, walk->event->has_half);
}

static void
walk_to_parts(Walk *walk, int i, cJSON *node, cJSON *parent)
{
	const JsonPointer *from = &walk->route->from;
	cJSON *child;
	cJSON *next;
	int position = 0;

	if (i == from->n_tokens)
	{
		take_part(walk, node, parent);
		return;
	}
	if (from->tokens[i] != NULL)
	{
		child =
			cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, from->tokens[i]) : NULL;
		if (child != NULL)
			walk_to_parts(walk, i + 1, child, node);
		return;
	}
	if (!cJSON_IsArray(node) || walk->n_keys == MAX_STARS)
		return;
	for (child = node->child; child != NULL; child = next, position++)
	{
		next = child->next;
		walk->keys[walk->n_keys] = key_of(walk, child, position);
		walk->n_keys++;
		walk_to_parts(walk, i + 1, child, node);
		walk->n_keys--;
	}
}

/*
 * Follows the rules for an event of its type; if there is none, those for any.
 */
static void
take_parts(Reader *reader, Event *event)
{
	const StreamRules *rules = reader->rules;
	bool has_own = false;
	int i;

	for (i = 0; i < rules->n_routes; i++)
		has_own |= rules->routes[i].types != NULL && is_of_type(event, rules->routes[i].types);
	for (i = 0; i < rules->n_routes; i++)
	{
		Walk walk = {reader, &rules->routes[i], event};

		if (has_own ? walk.route->types != NULL && is_of_type(event, walk.route->types)
					: walk.route->types == NULL)
			walk_to_parts(&walk, 0, event->json, NULL);
	}
}

/* ---------- events ---------- */

static void
note_error(Reader *reader, const Event *event)
{
	char *words =
		event->json != NULL ? reasons_of_success(event->json, reader->protocol->error, NULL) : NULL;
	bool is_error = any_holds(&reader->rules->errors, event);

	if (reader->stream->error != NULL || (words == NULL && !is_error))
		return;
	if (words == NULL)
	{
		const char *text =
			event->json != NULL ? json_print_start(event->json, MAX_WORDS) : event->data;

		words = *text != '\0' ? clip_line(text, strlen(text), MAX_WORDS) : "it gives no reason";
	}
	reader->stream->error = MemoryContextStrdup(reader->result, words);
}

static void
take_object(Reader *reader, Event *event)
{
	const cJSON *type;

	if (reader->rules->type.n_tokens > 0)
	{
		type = pointer_find(&reader->rules->type, event->json);
		event->types[1] = cJSON_IsString(type) ? type->valuestring : NULL;
	}
	note_error(reader, event);
	reader->stream->is_whole |= any_holds(&reader->rules->ends, event);
	reader->stream->has_long_numbers |= json_has_long_numbers(event->json);
	take_parts(reader, event);
	if (assembly_is_full(reader->assembly) && reader->stream->refused == NULL)
		reader->stream->refused =
			MemoryContextStrdup(reader->result,
								psprintf("one of more than %d parts", assembly_limit()));
}

/*
 * What is no JSON object: the word that ends a stream, or an error in plain words.  False when it is neither.  What
 * begins as an object was cut, and then it does not count that its type is that of the last.
 */
static bool
take_words(Reader *reader, Event *event)
{
	bool is_end = *event->data != '{' && any_holds(&reader->rules->ends, event);
	bool is_error = any_holds(&reader->rules->errors, event);

	reader->stream->is_whole |= is_end;
	if (is_error)
		note_error(reader, event);
	return is_end || is_error;
}

/*
 * Takes in what may be one event; data is overwritten.  False when it means nothing.
 */
static bool
take_event(Reader *reader, char *data, size_t len)
{
	MemoryContext caller;
	Event event = {NULL};
	const char *reason = NULL;
	bool is_known;
	cJSON *json;

	if (reader->stream->refused != NULL)
		return true;
	caller = MemoryContextSwitchTo(reader->event);
	event.types[0] = reader->type[0] != '\0' ? reader->type : NULL;
	json = json_parse_piece(data, len, &event.has_half, &reason);
	if (cJSON_IsObject(json))
	{
		event.json = json;
		take_object(reader, &event);
		is_known = true;
	}
	else if (json == NULL && json_is_too_much(reason))
	{
		reader->stream->refused = MemoryContextStrdup(reader->result, reason);
		is_known = true;
	}
	else
	{
		event.data =
			json == NULL ? pnstrdup(data, Min(len, MAX_WORDS)) : json_print_start(json, MAX_WORDS);
		is_known = take_words(reader, &event) || json != NULL;
	}
	MemoryContextSwitchTo(caller);
	MemoryContextReset(reader->event);
	if (++reader->n_events > MAX_EVENTS && reader->stream->refused == NULL)
		reader->stream->refused = psprintf("one of more than %d", MAX_EVENTS);
	return is_known;
}

/* ---------- how events are written ---------- */

/*
 * Takes in the event whose last line has come, if it has any; where its lines are no JSON together, each for itself.
 */
static void
end_event(Reader *reader)
{
	StringInfo data = &reader->data;
	char *line = data->data;
	char *end = data->data + data->len - 1; /* its last line feed */

	if (data->len == 0 && reader->type[0] != '\0')
		(void) take_event(reader, "", 0);
	else if (data->len > 1 && !take_event(reader, line, end - line))
	{
		bool has_lines = memchr(line, '\n', end - line) != NULL;

		reader->stream->has_unread |= !has_lines;
		while (has_lines && line < end)
		{
			char *line_end = memchr(line, '\n', end + 1 - line);

			reader->stream->has_unread |=
				line_end > line && !take_event(reader, line, line_end - line);
			line = line_end + 1;
		}
	}
	reader->type[0] = '\0';
	resetStringInfo(data);
	if (data->maxlen > LARGE_EVENT)
	{
		pfree(data->data);
		initStringInfo(data);
	}
}

static void
take_data(Reader *reader, const char *data, size_t len)
{
	if (len > MaxAllocSize / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("an event has %zu bytes", len)));
	appendBinaryStringInfo(&reader->data, data, (int) len);
	appendStringInfoChar(&reader->data, '\n');
}

/*
 * The value of a field of that name in a line, and its length; NULL: it is another line.
 */
static const char *
read_field(const char *line, size_t len, const char *name, size_t *value_len)
{
	size_t name_len = strlen(name);
	const char *value = line + name_len;

	if (len < name_len || memcmp(line, name, name_len) != 0 || (len > name_len && *value != ':'))
		return NULL;
	if (len > name_len)
		value++;
	if (value < line + len && *value == ' ')
		value++;
	*value_len = line + len - value;
	return value;
}

/*
 * Takes in one line, without its end.
 */
static void
take_line(Reader *reader, const char *line, size_t len)
{
	const char *value;
	size_t value_len;

	if (len == 0)
	{
		end_event(reader);
		return;
	}
	if (*line == '{')
	{
		/* of NDJSON each is an event */
		end_event(reader);
		take_data(reader, line, len);
		end_event(reader);
		return;
	}
	value = read_field(line, len, "data", &value_len);
	if (value != NULL)
	{
		take_data(reader, value, value_len);
		return;
	}
	value = read_field(line, len, "event", &value_len);
	if (value == NULL)
		return; /* another field, or a comment */
	value_len = Min(value_len, MAX_TYPE - 1);
	memcpy(reader->type, value, value_len);
	reader->type[value_len] = '\0';
}

/*
 * Where c is next from text on, or end.  *known is where it was found before: a text without any is not searched for
 * one again in each of its lines.
 */
static const char *
find_next(char c, const char *text, const char *end, const char **known)
{
	if (*known < text)
	{
		*known = memchr(text, c, end - text);
		if (*known == NULL)
			*known = end;
	}
	return *known;
}

static void
read_lines(Reader *reader, const char *line, const char *end)
{
	const char *feed = line - 1;
	const char *carriage = line - 1;

	while (line < end)
	{
		const char *line_end =
			Min(find_next('\n', line, end, &feed), find_next('\r', line, end, &carriage));

		take_line(reader, line, line_end - line);
		if (end - line_end >= 2 && line_end[0] == '\r' && line_end[1] == '\n')
			line_end++;
		line = line_end + 1;
	}
	/* a type without data may have been cut from it */
	if (reader->data.len == 0)
		reader->type[0] = '\0';
	end_event(reader);
}

/*
 * What the events come to, as a tree; empty where that is too much to be one.
 */
static cJSON *
finish(Reader *reader, MemoryContext scratch)
{
	StringInfo text = assembly_print(reader->assembly);
	MemoryContext caller = MemoryContextSwitchTo(scratch);
	const char *reason;
	cJSON *json = json_parse_answer(text->data, text->len, &reason);

	reader->stream->is_empty = assembly_is_empty(reader->assembly);
	if (json == NULL)
	{
		if (reader->stream->refused == NULL)
			reader->stream->refused = MemoryContextStrdup(reader->result, reason);
		json = json_create(cJSON_Object);
	}
	MemoryContextSwitchTo(caller);
	return json;
}

/*
 * Reads a whole body, which stays as it is, into *stream.  What is to stay is in the current memory context, trees of JSON
 * are in scratch.
 */
void
stream_read(const Protocol *protocol, const char *body, size_t len, MemoryContext scratch,
			Stream *stream)
{
	Reader reader = {protocol};
	const char *end = body + len;

	memset(stream, 0, sizeof(*stream));
	reader.stream = stream;
	reader.rules = streamrules_read(protocol);
	reader.result = CurrentMemoryContext;
	reader.event =
		AllocSetContextCreate(CurrentMemoryContext, "genjob event", ALLOCSET_DEFAULT_SIZES);
	reader.assembly = assembly_create(reader.rules->places);
	initStringInfo(&reader.data);
	if (len >= 3 && memcmp(body, "\xEF\xBB\xBF", 3) == 0)
		body += 3;
	read_lines(&reader, body, end);
	pfree(reader.data.data);
	stream->json = finish(&reader, scratch);
	MemoryContextDelete(reader.event);
}

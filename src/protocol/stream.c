/*
 * stream.c
 *		Answers that come in pieces: server-sent events (WHATWG HTML,
 *		"Server-sent events"), and lines of JSON (NDJSON).
 *
 * A stream is read when it has ended.  A stream that was cut is not a short
 * answer, and an error in its midst is an error.  What breaks the rules but is
 * clear is read: an event without the empty line behind it, several events
 * without an empty line between them, JSON where an event should be.
 *
 * The protocol's rules say what an event means (event.c). assembly.c puts the
 * parts of the events together.
 *
 * Each event is read in a memory context of its own, which is reset
 * afterwards: a stream of megabytes may have a million events.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "base/clip.h"
#include "http/header.h"
#include "protocol/disguise.h"
#include "protocol/event.h"
#include "protocol/stream.h"
#include "protocol/words.h"
#include "protocol/reasons.h"

#define LARGE_EVENT (256 * 1024) /* bytes; the buffer of a larger event is freed after it */
#define MAX_TYPE 100             /* bytes of an event's type */
#define MAX_WORDS 2000           /* bytes of an error, or of an event that is no JSON */

/*
 * A model's longest answer has some 100,000 events.  This many take half a
 * second, in which the dispatcher does nothing else.
 */
#define MAX_EVENTS 500000

/* For a look at a stream while it comes */
#define PEEK_TAIL 4096        /* bytes of text that are kept, enough to mask a whole secret */
#define PEEK_SHOWN 200        /* characters that are shown */
#define PEEK_MOST (64 * 1024) /* bytes for one look; of more, only the last PEEK_REST are read */
#define PEEK_REST (16 * 1024)
#define MIN_PREFIX 4 /* characters; a shorter beginning of a secret may be shown */

/* A stream that is being read. */
typedef struct Reader
{
	const Protocol *protocol;
	const StreamRules *rules;
	Stream *stream;
	StringInfoData data; /* of the event: its lines, each with a line feed */
	char type[MAX_TYPE]; /* of the event, by its field; empty: none */
	Assembly *assembly;
	MemoryContext result; /* for what outlives the reader */
	MemoryContext event;  /* reset behind each event */
	int n_events;
} Reader;

/*
 * True if a body of unknown type begins as a stream of events.  A URL
 * "data:image/png;..." does not.
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
 * True if an answer is a stream for which the protocol has rules.  A server
 * answers with plain JSON if we do not ask for a stream, or if it refuses.
 */
bool
stream_is(const Protocol *protocol, const HttpReply *reply)
{
	char *type = header_find(reply, "Content-Type");

	if (protocol->stream_end == NULL && protocol->kind.reply != REPLY_STREAM)
		return false;
	if (type != NULL && (strcasestr(type, "event-stream") != NULL ||
						 strcasestr(type, "ndjson") != NULL || strcasestr(type, "jsonl") != NULL))
		return true;
	return (type == NULL || strcasestr(type, "json") == NULL) && begins_as_stream(reply->body);
}

/* ---------- events ---------- */

static void
note_error(Reader *reader, const Event *event)
{
	char *words =
		event->json != NULL ? reasons_of_success(event->json, reader->protocol->error, NULL) : NULL;
	bool is_error = event_holds(event, &reader->rules->errors);

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
take_event_object(Reader *reader, Event *event)
{
	const cJSON *type;

	if (reader->rules->type.n_tokens > 0)
	{
		type = pointer_find(&reader->rules->type, event->json);
		event->types[1] = cJSON_IsString(type) ? type->valuestring : NULL;
	}
	note_error(reader, event);
	reader->stream->is_whole |= event_holds(event, &reader->rules->ends);
	reader->stream->has_long_numbers |= json_has_long_numbers(event->json);
	event_take_parts(event, reader->rules, reader->assembly);
	if (assembly_is_full(reader->assembly) && reader->stream->refused == NULL)
		reader->stream->refused =
			MemoryContextStrdup(reader->result,
								psprintf("one of more than %d parts", assembly_limit()));
}

/*
 * Takes an event that is no JSON object: the word that ends a stream, or an
 * error in plain words.  False if it is neither.  An event that begins as an
 * object was cut, and does not end the stream, even if its type is that of the
 * last event.
 */
static bool
take_words(Reader *reader, Event *event)
{
	bool is_end = *event->data != '{' && event_holds(event, &reader->rules->ends);
	bool is_error = event_holds(event, &reader->rules->errors);

	reader->stream->is_whole |= is_end;
	if (is_error)
		note_error(reader, event);
	return is_end || is_error;
}

/*
 * Takes what may be one event; overwrites data.  False if it means nothing.
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
		take_event_object(reader, &event);
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
		reader->stream->refused =
			MemoryContextStrdup(reader->result, psprintf("one of more than %d", MAX_EVENTS));
	return is_known;
}

/* ---------- how events are written ---------- */

/*
 * Takes the event whose last line has come, if there is one.  If its lines
 * together are no JSON, takes each line as an event.
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
append_data_line(Reader *reader, const char *data, size_t len)
{
	if (len > MaxAllocSize / 2)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("an event has %zu bytes", len)));
	appendBinaryStringInfo(&reader->data, data, (int) len);
	appendStringInfoChar(&reader->data, '\n');
}

/*
 * Returns the value of a field of that name in a line, and its length; NULL if
 * the line has another field.
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
 * Takes one line, without its end.
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
		/* NDJSON: each line is an event */
		end_event(reader);
		append_data_line(reader, line, len);
		end_event(reader);
		return;
	}
	value = read_field(line, len, "data", &value_len);
	if (value != NULL)
	{
		append_data_line(reader, value, value_len);
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
 * Returns where c is next from text on, or end. *known is where c was found
 * before: if a text has no c, it is not searched again for each line.
 */
static const char *
find_next_byte(char c, const char *text, const char *end, const char **known)
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
			Min(find_next_byte('\n', line, end, &feed), find_next_byte('\r', line, end, &carriage));

		take_line(reader, line, line_end - line);
		if (end - line_end >= 2 && line_end[0] == '\r' && line_end[1] == '\n')
			line_end++;
		line = line_end + 1;
	}
}

/*
 * Returns the object that the events make; an empty one if it is too large to
 * be parsed, which is then refused.
 */
static cJSON *
parse_assembly(Reader *reader, MemoryContext scratch)
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
 * Makes a reader ready to read into *stream.  Returns the memory context of
 * its parts, which is current then; the caller deletes it.
 */
static MemoryContext
begin_reading(Reader *reader, Stream *stream)
{
	MemoryContext parts;

	memset(stream, 0, sizeof(*stream));
	reader->stream = stream;
	reader->result = CurrentMemoryContext;
	/*
	 * parts grow and are freed: the result's context would not use that again
	 */
	parts = AllocSetContextCreate(reader->result, "genjob parts", ALLOCSET_DEFAULT_SIZES);
	reader->event = AllocSetContextCreate(parts, "genjob event", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(parts);
	reader->rules = streamrules_read(reader->protocol);
	reader->assembly = assembly_create(reader->rules->places);
	initStringInfo(&reader->data);
	return parts;
}

/*
 * Reads a list, whose elements are events, into *stream; takes the elements
 * apart.  Uses memory as stream_read() does.
 */
void
stream_read_list(const Protocol *protocol, cJSON *list, MemoryContext scratch, Stream *stream)
{
	Reader reader = {protocol};
	MemoryContext parts = begin_reading(&reader, stream);
	cJSON *node;

	for (node = list->child; node != NULL && stream->refused == NULL; node = node->next)
	{
		Event event = {.json = node};
		MemoryContext caller = MemoryContextSwitchTo(reader.event);

		if (cJSON_IsObject(node))
			take_event_object(&reader, &event);
		else
			stream->has_unread = true;
		MemoryContextSwitchTo(caller);
		MemoryContextReset(reader.event);
	}
	MemoryContextSwitchTo(reader.result);
	stream->json = parse_assembly(&reader, scratch);
	MemoryContextDelete(parts);
}

/*
 * Reads a whole body into *stream; does not change the body.  What stays is in
 * the current memory context, trees of JSON are in scratch.
 */
void
stream_read(const Protocol *protocol, const char *body, size_t len, MemoryContext scratch,
			Stream *stream)
{
	Reader reader = {protocol};
	const char *end = body + len;
	MemoryContext parts = begin_reading(&reader, stream);

	if (len >= 3 && memcmp(body, "\xEF\xBB\xBF", 3) == 0)
		body += 3;
	read_lines(&reader, body, end);
	/* a type without data: the data may have been cut off */
	if (reader.data.len == 0)
		reader.type[0] = '\0';
	end_event(&reader);
	pfree(reader.data.data);
	MemoryContextSwitchTo(reader.result);
	stream->json = parse_assembly(&reader, scratch);
	MemoryContextDelete(parts);
}

/* ---------- while it comes ---------- */

struct StreamPeek
{
	Reader reader;
	Stream stream;
	MemoryContext context; /* of all this */
	MemoryContext scratch; /* of one look */
	size_t seen;           /* bytes of the body that were read */
	int64 pieces;          /* of text */
	size_t tail_len;
	char tail[PEEK_TAIL]; /* the last of the text */
};

/*
 * Begins to look at a stream while it comes, in the current memory context.
 * protocol must outlive the look.
 */
StreamPeek *
stream_peek_begin(const Protocol *protocol)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "genjob peek", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	StreamPeek *peek = palloc0(sizeof(StreamPeek));

	peek->context = context;
	peek->scratch = AllocSetContextCreate(context, "genjob look", ALLOCSET_SMALL_SIZES);
	peek->reader.protocol = protocol;
	peek->reader.stream = &peek->stream;
	peek->reader.rules = streamrules_read(protocol);
	peek->reader.event = AllocSetContextCreate(context, "genjob event", ALLOCSET_SMALL_SIZES);
	initStringInfo(&peek->reader.data);
	MemoryContextSwitchTo(caller);
	return peek;
}

static void
note_piece(const char *text, size_t len, void *arg)
{
	StreamPeek *peek = arg;
	size_t kept;

	if (len == 0)
		return;
	peek->pieces++;
	if (len > PEEK_TAIL)
	{
		text += len - PEEK_TAIL;
		len = PEEK_TAIL;
	}
	kept = Min(peek->tail_len, PEEK_TAIL - len);
	memmove(peek->tail, peek->tail + peek->tail_len - kept, kept);
	memcpy(peek->tail + kept, text, len);
	peek->tail_len = kept + len;
}

/*
 * Skips what is too much for one look.  Counts its pieces at the rate of the
 * text before it.
 */
static void
skip_excess(StreamPeek *peek, const char *body, size_t end)
{
	size_t from = end - PEEK_REST;
	const char *feed = memchr(body + from, '\n', end - from);

	if (peek->seen > 0)
		peek->pieces += (int64) ((double) peek->pieces * (from - peek->seen) / peek->seen);
	peek->seen = feed != NULL ? feed + 1 - body : end;
	peek->reader.type[0] = '\0';
	resetStringInfo(&peek->reader.data);
}

/*
 * Reads what has come since the last look; body has len bytes now.
 */
void
stream_peek(StreamPeek *peek, const char *body, size_t len)
{
	Reader *reader = &peek->reader;
	const char *feed = len > peek->seen ? memrchr(body + peek->seen, '\n', len - peek->seen) : NULL;
	size_t end = feed ? feed + 1 - body : 0;
	MemoryContext caller;

	if (feed == NULL)
		return;
	if (end - peek->seen > PEEK_MOST)
		skip_excess(peek, body, end);
	caller = MemoryContextSwitchTo(peek->scratch);
	reader->result = peek->scratch;
	reader->assembly = assembly_create(reader->rules->places);
	assembly_listen(reader->assembly, note_piece, peek);
	MemoryContextSwitchTo(peek->context);
	read_lines(reader, body + peek->seen, body + end);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(peek->scratch);
	memset(&peek->stream, 0, sizeof(peek->stream));
	reader->n_events = 0;
	peek->seen = end;
}

/*
 * Returns how many pieces of text have come; most servers send one for each
 * token.
 */
int64
stream_peek_pieces(const StreamPeek *peek)
{
	return peek->pieces;
}

/*
 * Returns len without what may be the beginning of a secret at the end of
 * text.
 */
static size_t
length_without_secrets(const char *text, size_t len, const List *secrets)
{
	const ListCell *cell;

	foreach(cell, secrets)
	{
		const char *secret = lfirst(cell);
		size_t n = Min(strlen(secret), len);

		while (n >= MIN_PREFIX && memcmp(text + len - n, secret, n) != 0)
			n--;
		len -= n >= MIN_PREFIX ? n : 0;
	}
	return len;
}

/*
 * Returns the last characters of the text that has come, as UTF-8 without
 * secrets; valid until the next look.
 */
char *
stream_peek_text(const StreamPeek *peek, const HttpRequest *request)
{
	MemoryContext caller = MemoryContextSwitchTo(peek->scratch);
	char *text = pnstrdup(peek->tail, peek->tail_len);
	char *start;
	size_t len;
	int n;

	jsontext_join_halves(text, peek->tail_len);
	len = strlen(text);
	json_sanitize_text(text, len);
	words_mask(request, text, len);
	len = length_without_secrets(text, len, request->secrets);
	len -= disguise_prefix(text, len, request->disguises, MIN_PREFIX);
	text[len] = '\0';
	start = text + len;
	for (n = 0; n < PEEK_SHOWN && start > text; n++)
	{
		do
			start--;
		while (start > text && (*start & 0xC0) == 0x80);
	}
	MemoryContextSwitchTo(caller);
	return start;
}

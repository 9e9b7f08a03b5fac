/*
 * stream.c
 *		Answers that come in pieces: server-sent events (WHATWG HTML, "Server-sent events"), and lines of
 *		JSON (NDJSON).
 *
 * A stream is read when it has ended.  What was cut before its end is not a short answer, and an
 * error in its midst is an error.  Where servers break the rules, and what they mean is clear, it is read: an event
 * without the empty line behind it, several events without one between them, JSON where an event should be.
 *
 * Each event is read in a memory context of its own, which is reset behind it: a stream of megabytes may have a million.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "http/header.h"
#include "server/grammar.h"
#include "protocol/kept.h"
#include "server/pointer.h"
#include "protocol/stream.h"
#include "protocol/reasons.h"
#include "protocol/words.h"

#define LARGE_EVENT (256 * 1024) /* bytes; the buffer of one is not kept for the next */

/* A model's longest answer has some 100,000.  So many take half a second, in which the dispatcher does nothing else. */
#define MAX_EVENTS 500000

/* Where an event says that it is the last: the first by true, the others by a reason. */
static const char *const end_places[] = {"/done", "/choices/0/finish_reason", "/done_reason"};
#define N_ENDS lengthof(end_places)

/* A stream that is being read. */
typedef struct Reader
{
	const Protocol *protocol;
	Stream *stream;
	StringInfoData text;  /* of the answer; with halves of surrogate pairs, until all has come */
	StringInfoData data;  /* of the event: its lines, each with a line feed */
	Kept *kept;           /* members of the events */
	MemoryContext result; /* for what remains */
	MemoryContext event;  /* reset behind each event */
	int n_events;
	JsonPointer *outputs; /* where the text is */
	int n_outputs;
	JsonPointer ends[N_ENDS]; /* where it says that it is the last */
} Reader;

/*
 * Whether an answer is a stream: servers answer with plain JSON when they are not asked for one, or
 * refuse.
 */
bool
stream_is(const HttpReply *reply)
{
	char *type = header_find(reply, "Content-Type");

	return type != NULL &&
		   (strcasestr(type, "event-stream") != NULL || strcasestr(type, "ndjson") != NULL ||
			strcasestr(type, "jsonl") != NULL);
}

/* ---------- what an event says ---------- */

static void
add_text(cJSON *node, const PointerPlace *place, void *arg)
{
	Reader *reader = arg;

	if (cJSON_IsString(node))
		appendStringInfoString(&reader->text, node->valuestring);
}

static void
note_end(Reader *reader, cJSON *event)
{
	int i;

	if (cJSON_IsTrue(pointer_find(&reader->ends[0], event)))
		reader->stream->is_whole = true;
	for (i = 1; i < N_ENDS; i++)
	{
		cJSON *reason = pointer_find(&reader->ends[i], event);

		if (!cJSON_IsString(reason))
			continue;
		reader->stream->is_whole = true;
		kept_put(reader->kept, "finish_reason", json_print(reason));
	}
}

/*
 * Makes valid UTF-8 of an event's strings.
 */
static void
join_halves(cJSON *node)
{
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL)
			jsontext_join_halves(node->string, strlen(node->string));
		if (cJSON_IsString(node))
			jsontext_join_halves(node->valuestring, strlen(node->valuestring));
		join_halves(node->child);
	}
}

/*
 * Takes in an event.  Its text comes first: what is half a character in it may be joined with the next one's.
 */
static void
take_object(Reader *reader, cJSON *event, bool has_half)
{
	const cJSON *member;
	char *error;
	int i;

	if (event->child == NULL)
		return;
	for (i = 0; i < reader->n_outputs; i++)
		pointer_visit(&reader->outputs[i], event, add_text, reader);
	if (has_half)
		join_halves(event);
	error = reader->stream->error == NULL ? reasons_of_json(event, reader->protocol->error, NULL)
										  : NULL;
	if (error != NULL)
		reader->stream->error = MemoryContextStrdup(reader->result, error);
	note_end(reader, event);
	cJSON_ArrayForEach(member, event)
	{
		if (strcmp(member->string, "choices") != 0 && kept_takes(reader->kept, member->string))
			kept_put(reader->kept, member->string, json_print(member));
	}
}

/*
 * Takes in what may be one event, which is JSON or the word that ends OpenAI's streams; data is overwritten.  False
 * when it is neither.
 */
static bool
take_event(Reader *reader, char *data, size_t len)
{
	MemoryContext caller;
	bool has_half = false;
	const char *reason = NULL;
	bool is_too_much;
	cJSON *event;

	if (reader->stream->refused != NULL)
		return true;
	if (len == 6 && memcmp(data, "[DONE]", 6) == 0)
	{
		reader->stream->is_whole = true;
		return true;
	}
	caller = MemoryContextSwitchTo(reader->event);
	event = json_parse_piece(data, len, &has_half, &reason);
	is_too_much = event == NULL && json_is_too_much(reason);
	if (cJSON_IsObject(event))
		take_object(reader, event, has_half);
	else if (is_too_much)
		reader->stream->refused = MemoryContextStrdup(reader->result, reason);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(reader->event);
	if (++reader->n_events > MAX_EVENTS && reader->stream->refused == NULL)
		reader->stream->refused = psprintf("one of more than %d", MAX_EVENTS);
	return event != NULL || is_too_much;
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

	if (data->len == 0)
		return;
	if (!take_event(reader, line, end - line) && memchr(line, '\n', end - line) != NULL)
	{
		while (line < end)
		{
			char *line_end = memchr(line, '\n', end + 1 - line);

			(void) take_event(reader, line, line_end - line);
			line = line_end + 1;
		}
	}
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
 * Takes in one line, without its end.
 */
static void
take_line(Reader *reader, const char *line, size_t len)
{
	const char *colon;

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
	if (len < 4 || memcmp(line, "data", 4) != 0)
		return; /* another field, or a comment */
	colon = line + 4;
	if (len == 4)
		take_data(reader, line, 0);
	else if (*colon == ':')
	{
		bool has_space = len > 5 && colon[1] == ' ';

		take_data(reader, colon + 1 + has_space, len - 5 - has_space);
	}
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
	end_event(reader);
}

static void
read_places(Reader *reader)
{
	const char *places = reader->protocol->output ? reader->protocol->output : "";
	const char *place;
	int len;
	int i;

	reader->outputs = palloc((strlen(places) + 1) * sizeof(JsonPointer));
	while ((place = grammar_next_word(&places, &len)) != NULL)
		reader->outputs[reader->n_outputs++] = pointer_read(pnstrdup(place, len));
	for (i = 0; i < N_ENDS; i++)
		reader->ends[i] = pointer_read(end_places[i]);
}

/*
 * Reads a whole body, which stays as it is, into *stream, in the current memory context.
 */
void
stream_read(const Protocol *protocol, const char *body, size_t len, Stream *stream)
{
	Reader reader = {protocol, stream};
	const char *end = body + len;

	memset(stream, 0, sizeof(*stream));
	reader.result = CurrentMemoryContext;
	reader.event =
		AllocSetContextCreate(CurrentMemoryContext, "genjob event", ALLOCSET_DEFAULT_SIZES);
	reader.kept = kept_create();
	initStringInfo(&reader.text);
	initStringInfo(&reader.data);
	read_places(&reader);
	if (len >= 3 && memcmp(body, "\xEF\xBB\xBF", 3) == 0)
		body += 3;
	read_lines(&reader, body, end);
	jsontext_join_halves(reader.text.data, reader.text.len);
	stream->json = kept_object(reader.kept);
	json_attach(stream->json, "text", json_create_string(reader.text.data));
}

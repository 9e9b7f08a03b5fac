/*
 * stream.c
 *		Answers that come in pieces: server-sent events (WHATWG HTML, "Server-sent events"), and lines of
 *		JSON (NDJSON).
 *
 * A stream is read when it has ended.  What was cut before its end is not a short answer, and an
 * error in its midst is an error.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "header.h"
#include "protocol/grammar.h"
#include "protocol/pointer.h"
#include "protocol/stream.h"
#include "protocol/words.h"

#define MAX_MEMBERS 1000 /* of all events that are kept; a hostile stream has a new one in each */

/* A stream that is being read. */
typedef struct Reader
{
	const Protocol *protocol;
	Stream *stream;
	StringInfoData text;
	int n_members; /* of the events, that are kept */
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

static void
add_text(cJSON *node, const char *path, void *arg)
{
	Reader *reader = arg;

	if (cJSON_IsString(node))
		appendStringInfoString(&reader->text, node->valuestring);
}

static void
note_end(Reader *reader, cJSON *event)
{
	static const char *const places[] = {"/choices/0/finish_reason", "/done_reason"};
	int i;

	if (cJSON_IsTrue(pointer_first(event, "/done")))
		reader->stream->is_whole = true;
	for (i = 0; i < lengthof(places); i++)
	{
		cJSON *reason = pointer_first(event, places[i]);

		if (!cJSON_IsString(reason))
			continue;
		reader->stream->is_whole = true;
		json_attach(reader->stream->json, "finish_reason", cJSON_CreateString(reason->valuestring));
	}
}

/*
 * Keeps an event's members, in place of those of the same names from events before.
 */
static void
take_members(Reader *reader, cJSON *event)
{
	cJSON *kept = reader->stream->json;
	cJSON *member;

	while ((member = event->child) != NULL)
	{
		cJSON *old = cJSON_GetObjectItemCaseSensitive(kept, member->string);

		cJSON_DetachItemViaPointer(event, member);
		if (old != NULL)
			cJSON_ReplaceItemViaPointer(kept, old, member);
		else if (reader->n_members++ < MAX_MEMBERS)
			cJSON_AddItemToArray(kept, member);
		else
			cJSON_Delete(member);
	}
}

/*
 * Takes in one event, which is JSON or the word that ends OpenAI's streams.
 */
static void
take_event(Reader *reader, char *data, size_t len)
{
	const char *places = reader->protocol->output;
	const char *reason;
	const char *place;
	cJSON *event;
	int place_len;

	if (len == 6 && memcmp(data, "[DONE]", 6) == 0)
	{
		reader->stream->is_whole = true;
		return;
	}
	data = pnstrdup(data, len);
	event = json_parse(data, len, &reason);
	pfree(data);
	if (!cJSON_IsObject(event))
	{
		cJSON_Delete(event);
		return;
	}
	if (reader->stream->error == NULL)
		reader->stream->error = words_of_json(event, reader->protocol->error, NULL);
	while (places != NULL && (place = grammar_next_word(&places, &place_len)) != NULL)
		pointer_each(event, pnstrdup(place, place_len), add_text, reader);
	note_end(reader, event);
	cJSON_DeleteItemFromObjectCaseSensitive(event, "choices");
	take_members(reader, event);
	cJSON_Delete(event);
}

/*
 * Takes in one line: of server-sent events what follows "data:", of NDJSON all of it.
 */
static void
take_line(Reader *reader, char *line, size_t len)
{
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len >= 5 && memcmp(line, "data:", 5) == 0)
	{
		line += 5, len -= 5;
		if (len > 0 && *line == ' ')
			line++, len--;
		take_event(reader, line, len);
	}
	else if (len > 0 && *line == '{')
		take_event(reader, line, len);
}

/*
 * Reads a whole body into *stream, in the current memory context.
 */
void
stream_read(const Protocol *protocol, char *body, size_t len, Stream *stream)
{
	Reader reader = {protocol, stream};
	char *line = body;
	char *end = body + len;

	memset(stream, 0, sizeof(*stream));
	stream->json = json_parse_trusted("{}");
	initStringInfo(&reader.text);
	while (line < end)
	{
		char *newline = memchr(line, '\n', end - line);
		char *line_end = newline ? newline : end;

		take_line(&reader, line, line_end - line);
		line = line_end + 1;
	}
	json_attach(stream->json, "text", cJSON_CreateString(reader.text.data));
}

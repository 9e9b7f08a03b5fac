/*
 * stream.h
 *		Answers that come in pieces: server-sent events, and lines of JSON.
 */
#ifndef GENJOB_STREAM_H
#define GENJOB_STREAM_H

#include "http/http.h"
#include "base/json.h"
#include "server/preset.h"

/* What a stream becomes. */
typedef struct Stream
{
	cJSON *json;           /* the object that its events make; empty if no part has come */
	bool is_empty;         /* no part has come */
	char *error;           /* the server's words in an event that is an error; or NULL */
	char *refused;         /* after "an event that is": why it cannot be read; or NULL */
	bool is_whole;         /* its end has come */
	bool has_unread;       /* there was data that means nothing */
	bool has_long_numbers; /* json has some numbers as strings */
} Stream;

/* A look at a stream while it comes. */
typedef struct StreamPeek StreamPeek;

extern StreamPeek *stream_peek_begin(const Protocol *protocol);
extern void stream_peek(StreamPeek *peek, const char *body, size_t len);
extern int64 stream_peek_pieces(const StreamPeek *peek);
extern char *stream_peek_text(const StreamPeek *peek, const HttpRequest *request);

extern bool stream_is(const Protocol *protocol, const HttpReply *reply);
extern void stream_read_list(const Protocol *protocol, cJSON *list, MemoryContext scratch,
							 Stream *stream);
extern void stream_read(const Protocol *protocol, const char *body, size_t len,
						MemoryContext scratch, Stream *stream);

#endif /* GENJOB_STREAM_H */

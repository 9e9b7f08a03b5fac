/*
 * stream.h
 *		Answers that come in pieces: server-sent events, and lines of JSON.
 */
#ifndef GENJOB_STREAM_H
#define GENJOB_STREAM_H

#include "http/http.h"
#include "base/json.h"
#include "server/preset.h"

/* What the pieces come to. */
typedef struct Stream
{
	cJSON *json; /* the members of all events, the later over the earlier, and the text as "text" */
	char *error; /* the server's words, of an event that says so; or NULL */
	char *refused; /* what an event is that is too much to be read; or NULL */
	bool is_whole; /* its end has come */
} Stream;

extern bool stream_is(const HttpReply *reply);
extern void stream_read(const Protocol *protocol, const char *body, size_t len, Stream *stream);

#endif /* GENJOB_STREAM_H */

/*
 * replies.c
 *		Replies as http.c gives them, made by hand; for the tests that need some.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/bytes.h"
#include "replies.h"

/*
 * Bytes with a NUL behind them, in the current memory context.
 */
Bytes *
replies_bytes(const char *data, size_t len)
{
	Bytes *bytes = bytes_create(CurrentMemoryContext, MaxAllocSize);

	bytes_append(bytes, data, len);
	bytes_append(bytes, "", 1);
	bytes->len--;
	return bytes;
}

/*
 * A reply that has come whole, in the current memory context.
 */
HttpReply *
replies_make(int status, const char *headers, const char *body)
{
	HttpReply *reply = palloc0(sizeof(HttpReply));

	reply->error = HTTP_OK;
	reply->error_text = pstrdup("");
	reply->sent = true;
	reply->status = status;
	reply->headers = replies_bytes(headers, strlen(headers));
	reply->body = replies_bytes(body, strlen(body));
	return reply;
}

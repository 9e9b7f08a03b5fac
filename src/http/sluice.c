/*
 * sluice.c
 *		Answers that are too large to be in memory as a whole: they come in
 *		pieces.
 *
 * An answer to a request with a HttpPour comes in pieces if it has more bytes
 * than POUR_FROM or max_response, or does not say how many.  When a piece is
 * complete, the transfer is paused until somebody takes the piece
 * (http_take_piece()), or says that the answer must come whole
 * (http_keep_whole()).  Meanwhile the rest stays with its server, and the time
 * does not count.
 *
 * If the call is cut, another call with the same HttpPour may ask for the
 * rest.  If the server then sends anything else (its status says so, or
 * another ETag), the call ends at once.
 *
 * The digests are computed as the bytes come, so that nobody has to read the
 * bytes again.
 */
#include "postgres.h"

#include "base/digest.h"
#include "base/memory.h"
#include "http/transfer.h"

#define POUR_FROM (64 * 1024 * 1024) /* bytes; a smaller answer comes whole */
#define CHUNK (64 * 1024)            /* bytes that libcurl gives at a time, at most */

static dlist_head full = DLIST_STATIC_INIT(full);         /* a piece is complete; nobody was told */
static dlist_head going_on = DLIST_STATIC_INIT(going_on); /* resumed by the next http_work() */

/* ---------- what the answer's headers say ---------- */

/*
 * Returns the value of the first header of that name, without blanks around
 * it; NULL if there is none.  Without palloc(), because libcurl's callbacks
 * call it.
 */
static const char *
find_header(const HttpTransfer *transfer, const char *name, size_t *len)
{
	const char *line = transfer->reply->headers->data;
	const char *end = line + transfer->reply->headers->len;
	size_t name_len = strlen(name);

	while (line != NULL && line < end)
	{
		const char *newline = memchr(line, '\n', end - line);
		const char *stop = newline ? newline : end;

		if (stop - line > name_len && pg_strncasecmp(line, name, name_len) == 0 &&
			line[name_len] == ':')
		{
			const char *value = line + name_len + 1;

			while (value < stop && (*value == ' ' || *value == '\t'))
				value++;
			while (stop > value && (stop[-1] == '\r' || stop[-1] == ' ' || stop[-1] == '\t'))
				stop--;
			*len = stop - value;
			return value;
		}
		line = stop + 1;
	}
	return NULL;
}

static bool
begins_with(const char *value, size_t len, const char *text)
{
	return value != NULL && len >= strlen(text) && memcmp(value, text, strlen(text)) == 0;
}

/*
 * True if an answer is the rest that was asked for.  A 206 must repeat the
 * ETag (RFC 9110, 15.3.7): without it, the file may have changed.
 */
static bool
is_rest(const HttpTransfer *transfer, long status)
{
	const HttpPour *pour = transfer->request->pour;
	size_t len = 0;
	const char *value = find_header(transfer, "Content-Range", &len);
	char range[64];

	snprintf(range, sizeof(range), "bytes " UINT64_FORMAT "-", pour->received);
	if (status != 206 || !begins_with(value, len, range))
		return false;
	if (pour->etag == NULL)
		return true;
	value = find_header(transfer, "ETag", &len);
	return value != NULL && len == strlen(pour->etag) && memcmp(value, pour->etag, len) == 0;
}

static bool
is_encoded(const HttpTransfer *transfer)
{
	size_t len = 0;
	const char *value = find_header(transfer, "Content-Encoding", &len);

	return value != NULL && len > 0 && !(len == 8 && pg_strncasecmp(value, "identity", 8) == 0);
}

/*
 * Decides, when the body of an answer begins, whether it comes in pieces.
 * False if the call must end, because this is not what was asked for.
 */
bool
sluice_consider(HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	HttpPour *pour = request->pour;
	size_t most = Min(POUR_FROM, request->max_response);
	curl_off_t expected = -1;
	long status = 0;

	if (pour == NULL || transfer->is_considered)
		return true;
	transfer->is_considered = true;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
	if (status < 200 || status >= 300)
		return true;
	if (pour->received > 0 && !is_rest(transfer, status))
	{
		transfer->reply->is_elsewhere = true;
		return false;
	}
	transfer->is_pouring = pour->received > 0 || (status == 200 && !is_encoded(transfer) &&
												  (expected < 0 || expected > (curl_off_t) most));
	transfer->reply->is_pieces = transfer->is_pouring;
	if (!transfer->is_pouring)
		return true;
	if (pour->received == 0 && expected > 0)
		pour->total = expected;
	transfer->reply->body->limit = HTTP_PIECE + 2 * CHUNK;
	if (pour->begun->len > 0)
		bytes_move(transfer->reply->body, pour->begun);
	return true;
}

/*
 * True if an answer is larger than it may be, by what its headers say.
 */
bool
sluice_is_too_large(const HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	curl_off_t expected = -1;

	if (!request->is_download || transfer->reply->body->len > 0)
		return false;
	curl_easy_getinfo(transfer->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
	if (transfer->is_pouring)
		return expected > 0 &&
			   expected > (curl_off_t) (request->pour->max - request->pour->received);
	return expected > (curl_off_t) request->max_response;
}

/* ---------- pieces ---------- */

/*
 * Returns how many bytes more may come.
 */
size_t
sluice_room(const HttpTransfer *transfer)
{
	return transfer->request->pour->max - transfer->request->pour->received;
}

/*
 * True if a piece is complete, so that no more is taken in before somebody has
 * it.
 */
bool
sluice_is_full(const HttpTransfer *transfer)
{
	return transfer->is_pouring && transfer->reply->body->len >= HTTP_PIECE;
}

/*
 * True if a transfer may be the one that passes the limit on memory.  An
 * answer in pieces may pass it by one piece.
 */
bool
sluice_may_be_favoured(const HttpTransfer *transfer)
{
	return !transfer->is_pouring || transfer->request->pour->is_alone;
}

/*
 * Takes in what has come.  False if memory is short: transfer->wanted bytes
 * are missing or, if that is 0, malloc() failed.
 */
bool
sluice_append(HttpTransfer *transfer, const char *data, size_t len)
{
	HttpPour *pour = transfer->request->pour;
	Bytes *body = transfer->reply->body;
	size_t capacity = HTTP_PIECE + CHUNK;
	size_t within = Min(len, HTTP_PIECE - body->len);

	transfer->wanted = body->capacity >= capacity ? 0 : capacity - body->capacity;
	if (transfer->wanted > 0 && !memory_may_receive(transfer->request->account, transfer->wanted) &&
		!(sluice_may_be_favoured(transfer) && memory_favour(transfer->tag)))
		return false;
	transfer->wanted = 0;
	if (!bytes_reserve(body, capacity) || !bytes_append(body, data, len))
		return false;
	(void) digest_add(pour->whole, data, len);
	(void) digest_add(pour->piece, data, within);
	pour->received += len;
	return true;
}

/*
 * Pauses a transfer whose piece is complete, until somebody takes the piece.
 * libcurl's callbacks call it.
 */
void
sluice_wait(HttpTransfer *transfer)
{
	transfer->is_full = transfer->was_paused = transfer->reply->is_poured = true;
	dlist_push_tail(&full, &transfer->full_node);
	transfer->full_list = &full;
	deadlines_pause(transfer);
}

static void
move_transfer(HttpTransfer *transfer, dlist_head *list)
{
	if (transfer->full_list != NULL)
		dlist_delete(&transfer->full_node);
	transfer->full_list = list;
	if (list != NULL)
		dlist_push_tail(list, &transfer->full_node);
}

/*
 * Forgets a call that is over.
 */
void
sluice_forget(HttpTransfer *transfer)
{
	move_transfer(transfer, NULL);
	transfer->is_full = false;
}

/*
 * Returns a transfer that may go on, and notes that it is not paused any more.
 * NULL if there is none.
 */
HttpTransfer *
sluice_next(void)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&going_on))
		return NULL;
	transfer = dlist_container(HttpTransfer, full_node, dlist_head_node(&going_on));
	move_transfer(transfer, NULL);
	transfer->is_full = false;
	transfer->received_at = clock_wire();
	deadlines_resume(transfer);
	return transfer;
}

/*
 * True if there is something to do without waiting.
 */
bool
sluice_is_due(void)
{
	return !dlist_is_empty(&going_on) || !dlist_is_empty(&full);
}

/*
 * Returns the tag of a call of which a piece is complete, once for each piece;
 * false if there is none.
 */
bool
http_take_full(void **tag)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&full))
		return false;
	transfer = dlist_container(HttpTransfer, full_node, dlist_head_node(&full));
	move_transfer(transfer, NULL);
	*tag = transfer->tag;
	return true;
}

/*
 * True if a piece of a call's answer is complete.
 */
bool
http_is_full(const HttpTransfer *transfer)
{
	return transfer->is_full && transfer->full_list != &going_on;
}

/*
 * Returns what has come so far of a call's answer: its headers, and the
 * present piece.
 */
HttpReply *
http_so_far(const HttpTransfer *transfer)
{
	return transfer->reply;
}

/*
 * Takes the complete piece, of HTTP_PIECE bytes, to owner, and its digest, of
 * DIGEST_BYTES; the transfer goes on.  NULL, with nothing changed, when memory
 * is short.
 */
Bytes *
http_take_piece(HttpTransfer *transfer, MemoryContext owner, uint8 *digest)
{
	Bytes *body = transfer->reply->body;
	Bytes *piece = bytes_create(owner, body->limit);
	HttpPour *pour = transfer->request->pour;
	size_t rest = body->len - HTTP_PIECE;

	Assert(http_is_full(transfer) && body->len >= HTTP_PIECE);
	bytes_move(piece, body);
	piece->len = HTTP_PIECE;
	if (!bytes_append(body, piece->data + HTTP_PIECE, rest))
	{
		piece->len += rest;
		bytes_move(body, piece);
		return NULL;
	}
	if (!digest_end(pour->piece, digest))
		digest_sha256(piece->data, piece->len, digest);
	(void) digest_add(pour->piece, piece->data + HTTP_PIECE, rest);
	move_transfer(transfer, &going_on);
	return piece;
}

/*
 * Makes an answer whose first piece is complete come whole, up to
 * max_response.
 */
void
http_keep_whole(HttpTransfer *transfer)
{
	transfer->is_pouring = transfer->reply->is_poured = transfer->reply->is_pieces = false;
	transfer->reply->body->limit = transfer->request->max_response + 1;
	move_transfer(transfer, &going_on);
}

/*
 * words.c
 *		What a server itself says about a failure, made fit to be shown: one line, of bounded length,
 *		without secrets.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/clip.h"
#include "base/media.h"
#include "server/grammar.h"
#include "server/pointer.h"
#include "protocol/disguise.h"
#include "protocol/reasons.h"
#include "protocol/words.h"
#include "protocol/xml.h"

/*
 * Where servers, and proxies before them, have their words, if the protocol's
 * places have none
 */
#define USUAL_PLACES \
	"/error/message +/error/details /error /errors /detail /message /Message /errorMessage /msg /title"

#define MAX_WORDS 1000                /* bytes of the server's own words in an error */
#define LARGE_STRING ((size_t) 65536) /* bytes */
#define MAX_READ 65536                /* bytes of a text that are searched for words */

/* ---------- secrets ---------- */

/*
 * Overwrites every secret in text, in whatever form (disguise.c), because a
 * server may echo its request.  The length stays the same.
 */
void
words_mask(const HttpRequest *request, char *text, size_t len)
{
	if (request != NULL && request->secrets != NIL)
		disguise_overwrite(text, len, request->secrets, request->disguises);
}

/*
 * Overwrites only the secrets that text has as they are: for large text, and
 * when memory has run out. request must not be NULL.
 */
void
words_mask_plain(const HttpRequest *request, char *text, size_t len)
{
	disguise_overwrite_plain(text, len, request->secrets);
}

static void
mask_string(const HttpRequest *request, char *text, bool is_rest)
{
	size_t len = strlen(text);
	bool is_large = len > LARGE_STRING;

	if (is_large == is_rest)
		words_mask(request, text, len);
	else if (is_large)
		words_mask_plain(request, text, len);
}

static void
mask_json(const HttpRequest *request, cJSON *node, bool is_rest)
{
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL)
			mask_string(request, node->string, is_rest);
		if (cJSON_IsString(node) && node->valuestring != NULL)
			mask_string(request, node->valuestring, is_rest);
		mask_json(request, node->child, is_rest);
	}
}

/*
 * Overwrites every secret in the strings of parsed JSON, whose escapes may
 * have hidden a secret in the text.  Only words_mask_rest() searches large
 * strings, most of which are outputs, for encoded secrets.
 */
void
words_mask_json(const HttpRequest *request, cJSON *json)
{
	if (request != NULL && request->secrets != NIL)
		mask_json(request, json, false);
}

/*
 * Does what words_mask_json() left.  Call it when the outputs are taken out,
 * before the JSON is kept.
 */
void
words_mask_rest(const HttpRequest *request, cJSON *json)
{
	if (request != NULL && request->secrets != NIL)
		mask_json(request, json, true);
}

/*
 * Overwrites every secret in the headers of an answer, except in Location, and
 * in libcurl's words.
 */
void
words_mask_reply(const HttpRequest *request, HttpReply *reply)
{
	char *line = reply->headers->data;
	char *end = line + reply->headers->len;

	while (line < end)
	{
		char *newline = memchr(line, '\n', end - line);
		size_t len = (newline ? newline : end) - line;

		if (pg_strncasecmp(line, "Location:", Min(len, 9)) != 0)
			words_mask(request, line, len);
		line += len + 1;
	}
	words_mask(request, reply->error_text, strlen(reply->error_text));
}

/* ---------- words ---------- */

/*
 * Returns text, which must be valid UTF-8, as one line of at most MAX_WORDS
 * bytes, palloc'd.
 */
char *
words_clip(const char *text, size_t len)
{
	return clip_line(text, len, MAX_WORDS);
}

/*
 * As words_clip(), for any bytes from outside, such as libcurl's words, which
 * repeat what a server sent.  Masks the request's secrets, unless request is
 * NULL.
 */
char *
words_of_bytes(const HttpRequest *request, const char *bytes, size_t len)
{
	size_t seen = Min(len, MAX_READ);
	char *text = memcpy(palloc(seen + 1), bytes, seen);
	char *words;

	json_sanitize_line(text, seen);
	if (request != NULL)
		words_mask(request, text, seen);
	words = words_clip(text, seen);
	pfree(text);
	return words;
}

static char *
words_of_html(const char *page, size_t len)
{
	char *text = pnstrdup(page, Min(len, MAX_READ));
	const char *title = strcasestr(text, "<title>");
	const char *end = title ? strcasestr(title, "</title>") : NULL;

	if (end == NULL)
		return pstrdup("(an HTML page)");
	title += strlen("<title>");
	return psprintf("(an HTML page) %s", words_clip(title, end - title));
}

/*
 * Returns "Code: message" of an error in XML, as AWS and servers like it write
 * it; NULL if text is no such error.
 */
static char *
words_of_xml(const char *text, size_t len)
{
	const char *open = memchr(text, '<', len);
	char *code;
	char *message;

	if (open == NULL || len < 5 ||
		(strncmp(open, "<?xml", Min(5, text + len - open)) != 0 &&
		 strncmp(open, "<Error", Min(6, text + len - open)) != 0))
		return NULL;
	code = xml_find(text, len, "Code");
	message = xml_find(text, len, "Message");
	if (code == NULL || *code == '\0')
		return NULL;
	return message != NULL && *message != '\0' ? psprintf("%s: %s", code, message) : code;
}

/*
 * Returns the first 64 kB of a body that is text, as it came but with secrets
 * masked, palloc'd; NULL if it is no text.  Masks the whole body: a secret may
 * continue behind the first 64 kB.
 */
char *
words_copy_body(const HttpRequest *request, const HttpReply *reply)
{
	size_t len = Min(reply->body->len, MAX_READ);
	char *text;

	if (len == 0 || reply->undecoded != NULL ||
		strcmp(media_type_of(reply->body->data, reply->body->len), "application/octet-stream") == 0)
		return NULL;
	words_mask(request, reply->body->data, reply->body->len);
	text = memcpy(palloc(len + 1), reply->body->data, len);
	text[len] = '\0';
	json_sanitize_text(text, len);
	return text;
}

/*
 * Returns the server's own words in a body of any kind; "" if it has none.
 * Overwrites the body. *json is the body as JSON, with its strings in the
 * body; NULL if it is no JSON.
 */
char *
words_of_body(const HttpRequest *request, HttpReply *reply, const char *places, const char *id,
			  cJSON **json)
{
	Bytes *body = reply->body;
	const char *type = media_type_of(body->data, body->len);
	const char *reason;
	char *words = NULL;

	*json = NULL;
	if (body->len == 0 || strcmp(type, "application/octet-stream") == 0)
		return "";
	words_mask(request, body->data, body->len);
	if (strcmp(type, "application/json") == 0)
		*json = json_parse_answer(body->data, body->len, &reason);
	if (*json != NULL)
	{
		words_mask_json(request, *json);
		/* Gemini refuses with a list what it would have streamed as a list */
		if (cJSON_IsArray(*json) && cJSON_IsObject((*json)->child))
			*json = (*json)->child;
		words = reasons_of_json(*json, places, id);
		if (words == NULL)
			words = reasons_of_json(*json, USUAL_PLACES, NULL);
		if (words == NULL)
			words = json_print_start(*json, 2 * MAX_WORDS);
		return words_clip(words, strlen(words));
	}
	words = words_of_xml(body->data, Min(body->len, MAX_READ));
	if (words != NULL)
		return words_clip(words, strlen(words));
	json_sanitize_text(body->data, Min(body->len, MAX_READ));
	if (strcmp(type, "text/html") == 0)
		return words_of_html(body->data, body->len);
	return words_clip(body->data, Min(body->len, MAX_READ));
}

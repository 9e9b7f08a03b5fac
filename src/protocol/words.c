/*
 * words.c
 *		What a server itself says about a failure, made fit to be shown: one line, of bounded length,
 *		without secrets.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "media.h"
#include "protocol/grammar.h"
#include "protocol/pointer.h"
#include "protocol/words.h"

#define MAX_WORDS 1000 /* bytes of the server's own words in an error */
#define MIN_SECRET 6   /* bytes; shorter ones would mask ordinary text */
#define MAX_READ 65536 /* bytes of a text in which words are looked for */

/*
 * Overwrites every secret in text, so that a server that echoes its request gives nothing away.
 */
void
words_mask(const HttpRequest *request, char *text, size_t len)
{
	ListCell *cell;

	foreach(cell, request->secrets)
	{
		const char *secret = lfirst(cell);
		size_t secret_len = strlen(secret);
		char *end = text + len;
		char *found = text;

		if (secret_len < MIN_SECRET)
			continue;
		while ((found = memmem(found, end - found, secret, secret_len)) != NULL)
		{
			memset(found, '*', secret_len);
			found += secret_len;
		}
	}
}

/*
 * The same in every string of parsed JSON, whose escapes may have hidden a secret in the text.
 */
void
words_mask_json(const HttpRequest *request, cJSON *node)
{
	for (; node != NULL; node = node->next)
	{
		if (node->string != NULL)
			words_mask(request, node->string, strlen(node->string));
		if (cJSON_IsString(node))
			words_mask(request, node->valuestring, strlen(node->valuestring));
		words_mask_json(request, node->child);
	}
}

/*
 * A palloc'd copy of text, which is valid UTF-8, as one line of at most max bytes.
 */
char *
words_cut(const char *text, size_t len, int max)
{
	StringInfoData words;
	size_t i;

	initStringInfo(&words);
	len = pg_encoding_mbcliplen(PG_UTF8, text, (int) Min(len, MaxAllocSize), max);
	for (i = 0; i < len; i++)
	{
		bool blank = (unsigned char) text[i] <= ' ';

		if (!blank)
			appendStringInfoChar(&words, text[i]);
		else if (words.len > 0 && words.data[words.len - 1] != ' ')
			appendStringInfoChar(&words, ' ');
	}
	if (words.len > 0 && words.data[words.len - 1] == ' ')
		words.data[--words.len] = '\0';
	return words.data;
}

/*
 * The same, of as many bytes as an error has of the server's own words.
 */
char *
words_clip(const char *text, size_t len)
{
	return words_cut(text, len, MAX_WORDS);
}

/*
 * The same of any bytes from outside, such as libcurl's words, which repeat what a server sent: without the request's
 * secrets, if there is a request.
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
words_of_node(const cJSON *node)
{
	char *text;

	if (cJSON_IsString(node))
		text = node->valuestring;
	else if ((cJSON_IsObject(node) || cJSON_IsArray(node)) && node->child != NULL)
		text = json_print_start(node, 2 * MAX_WORDS);
	else
		return NULL;
	text = words_clip(text, strlen(text));
	return *text != '\0' ? text : NULL;
}

/*
 * What the server says went wrong, where the protocol says that such words stand; NULL if nowhere.
 */
char *
words_of_json(cJSON *json, const char *places, const char *id)
{
	const char *place;
	int len;

	while (places != NULL && (place = grammar_next_word(&places, &len)) != NULL)
	{
		char *pointer = pnstrdup(place, len);
		char *words;

		if (id != NULL)
			pointer = pointer_fill(pointer, "id", id);
		words = words_of_node(pointer_first(json, pointer));
		if (words != NULL)
			return words;
	}
	return NULL;
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
 * The server's own words in a body of any kind; empty where it has none.  The body is overwritten; as
 * JSON, if it is that, it goes to *json, whose strings are in the body.
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
		words = words_of_json(*json, places, id);
		if (words == NULL)
			words = json_print_start(*json, 2 * MAX_WORDS);
		return words_clip(words, strlen(words));
	}
	json_sanitize_text(body->data, Min(body->len, MAX_READ));
	if (strcmp(type, "text/html") == 0)
		return words_of_html(body->data, body->len);
	return words_clip(body->data, Min(body->len, MAX_READ));
}

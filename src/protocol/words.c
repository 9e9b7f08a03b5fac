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
 * A palloc'd copy of text as one line of at most MAX_WORDS bytes.
 */
char *
words_clip(const char *text, size_t len)
{
	StringInfoData words;
	size_t i;

	initStringInfo(&words);
	len = pg_encoding_mbcliplen(PG_UTF8, text, (int) Min(len, MaxAllocSize), MAX_WORDS);
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

static char *
words_of_node(const cJSON *node)
{
	char *text;

	if (cJSON_IsString(node))
		text = node->valuestring;
	else if ((cJSON_IsObject(node) || cJSON_IsArray(node)) && node->child != NULL)
		text = json_print(node);
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
words_of_html(const char *text)
{
	const char *title = strcasestr(text, "<title>");
	const char *end = title ? strcasestr(title, "</title>") : NULL;

	if (end == NULL)
		return pstrdup("(an HTML page)");
	title += strlen("<title>");
	return psprintf("(an HTML page) %s", words_clip(title, end - title));
}

/*
 * The server's own words in a body of any kind; empty where it has none.  The body is overwritten; as
 * JSON, if it is that, it goes to *json.
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
	json_sanitize_text(body->data, body->len);
	if (strcmp(type, "text/html") == 0)
		return words_of_html(body->data);
	if (strcmp(type, "application/json") == 0)
	{
		char *copy = MemoryContextAllocHuge(CurrentMemoryContext, body->len + 1);

		memcpy(copy, body->data, body->len + 1);
		*json = json_parse(copy, body->len, &reason);
		if (*json == NULL)
			return words_clip(body->data, body->len);
		words_mask_json(request, *json);
		words = words_of_json(*json, places, id);
		if (words != NULL)
			return words;
		words = json_print(*json);
		return words_clip(words, strlen(words));
	}
	return words_clip(body->data, body->len);
}

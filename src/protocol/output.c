/*
 * output.c
 *		The outputs of an answer in JSON: where they stand, and what takes their places.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "base/media.h"
#include "server/grammar.h"
#include "protocol/judge.h"
#include "server/pointer.h"
#include "protocol/words.h"
#include "http/url.h"

/*
 * Once an answer has this many outputs, further URLs, and further binaries,
 * stay in it as they are.
 */
#define MAX_DOWNLOADS 1000
#define MAX_OUTPUTS 10000
#define LARGE_PART 8 /* outputs of at least an eighth of a body stay in it */

#define MAX_URL 16384 /* bytes; a longer URL stays in the answer as it is */
#define MAX_TYPE 100  /* bytes of a claimed content type */
#define NEARBY 16     /* members on each side of an output that may tell its type */
#define TYPE_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.+-"
#define MAX_FAULTS 5 /* unreadable outputs that an error names; it counts the others */

/*
 * Adds an empty output to a verdict.
 */
Output *
output_add(Verdict *verdict)
{
	Output *output = palloc0(sizeof(Output));

	verdict->outputs = lappend(verdict->outputs, output);
	return output;
}

/*
 * Makes node {"$output": n}, n being the last output's ordinal.
 */
static void
refer_to_last_output(const Verdict *verdict, cJSON *node)
{
	node->type = cJSON_Object;
	node->valuestring = NULL;
	node->child = NULL;
	json_attach(node, "$output", json_create_number(list_length(verdict->outputs)));
}

/*
 * Overwrites secrets in an output, unless it is a picture, a sound or a film.
 */
void
output_mask(const Judge *judge, const char *type, char *data, size_t len)
{
	if (media_has_text(type))
		words_mask(judge->source->request, data, len);
}

/*
 * Returns the content type that bytes show.  If they show none, returns claim,
 * unless the bytes would have shown that type.
 */
static const char *
type_beside(const char *data, size_t len, const char *claim)
{
	const char *type = media_type_of(data, len);
	size_t claim_len = claim ? strspn(claim, TYPE_CHARACTERS) : 0;

	if (claim_len == 0 || claim_len > MAX_TYPE ||
		(strcmp(type, "application/octet-stream") != 0 && strcmp(type, "text/plain") != 0))
		return type;
	claim = pnstrdup(claim, claim_len);
	return strchr(claim, '/') != NULL && strcmp(media_extension_of(claim), "bin") == 0 ? claim
																					   : type;
}

static void
add_bytes(Judge *judge, cJSON *node, char *data, size_t len, const char *claim)
{
	Output *output = output_add(judge->verdict);

	output->content_type = type_beside(data, len, claim);
	output_mask(judge, output->content_type, data, len);
	output->data = data;
	output->len = len;
	refer_to_last_output(judge->verdict, node);
}

static void
add_download(Judge *judge, cJSON *node, char *url)
{
	Output *output = output_add(judge->verdict);

	output->url = url;
	output->original = json_print(node);
	words_mask(judge->source->request, output->original, strlen(output->original));
	output->node = node;
	refer_to_last_output(judge->verdict, node);
}

/*
 * Returns where the payload of a "data:" URL begins; NULL if text is no such
 * URL.
 */
static char *
data_url_payload(char *text, bool *is_base64)
{
	char *comma;
	size_t type_len;

	if (pg_strncasecmp(text, "data:", 5) != 0)
		return NULL;
	comma = text + strcspn(text, ",");
	if (*comma == '\0')
		return NULL;
	*is_base64 = comma - text > 7 && pg_strncasecmp(comma - 7, ";base64", 7) == 0;
	type_len = strspn(text + 5, TYPE_CHARACTERS);
	if (!*is_base64 &&
		(memchr(text + 5, '/', type_len) == NULL || strchr(";,", text[5 + type_len]) == NULL))
		return NULL;
	return comma + 1;
}

/*
 * Decodes base64 into an output.  Text that is not base64 stays as it is; with
 * a place, where an output must be, it counts as a fault.  An empty text is no
 * output, like null.
 */
static void
extract_base64(Judge *judge, cJSON *node, char *payload, const PointerPlace *place,
			   const char *claim)
{
	ssize_t len;

	if (list_length(judge->verdict->outputs) >= MAX_OUTPUTS)
		return;
	len = base64_decode_in_place(payload, strlen(payload));
	if (len > 0)
		add_bytes(judge, node, payload, len, claim);
	else if (len < 0 && place != NULL && judge->n_faults++ < MAX_FAULTS)
		judge->faults = psprintf("%s%s%s", judge->faults ? judge->faults : "",
								 judge->faults ? ", " : "", pointer_describe(place));
}

/*
 * Decodes a URL's %XX in place; returns the new length.
 */
static size_t
decode_percents(char *text)
{
	const char *from = text;
	char *to = text;

	while (*from != '\0')
	{
		bool is_escape =
			*from == '%' && bytes_hex_value(from[1]) >= 0 && bytes_hex_value(from[2]) >= 0;

		*to++ =
			is_escape ? (char) (bytes_hex_value(from[1]) * 16 + bytes_hex_value(from[2])) : *from;
		from += is_escape ? 3 : 1;
	}
	return to - text;
}

/*
 * Makes an output of text if it is a "data:" URL; place is NULL where there need not be an output.
 */
static bool
extract_data_url(Judge *judge, cJSON *node, char *text, const PointerPlace *place)
{
	bool is_base64;
	char *payload = data_url_payload(text, &is_base64);
	size_t len;

	if (payload == NULL || (!is_base64 && place == NULL && !media_is_playable(text + 5)))
		return false;
	if (is_base64)
		extract_base64(judge, node, payload, place, text + 5);
	else if (list_length(judge->verdict->outputs) < MAX_OUTPUTS)
	{
		len = decode_percents(payload);
		if (len > 0)
			add_bytes(judge, node, payload, len, text + 5);
	}
	return true;
}

/*
 * True if text begins like base64 of a picture, a sound or a film.
 */
static bool
is_base64_of_media(const char *text)
{
	char start[60]; /* a multiple of 4 */
	ssize_t len = strnlen(text, sizeof(start));

	memcpy(start, text, len);
	len = base64_decode_in_place(start, len);
	return len > 0 && media_is_playable(media_type_of(start, len));
}

static bool
is_web_url(const char *text)
{
	return pg_strncasecmp(text, "http://", 7) == 0 || pg_strncasecmp(text, "https://", 8) == 0;
}

/*
 * True if the last part of a path seems to end like a file's name.
 */
static bool
has_ending(const char *text)
{
	size_t len = strcspn(text, "?#");
	size_t ending = 0;

	while (ending < len && isalnum((unsigned char) text[len - 1 - ending]))
		ending++;
	return ending >= 2 && ending <= 5 && len > ending + 1 && text[len - 1 - ending] == '.' &&
		   text[len - 2 - ending] != '/';
}

/*
 * True if text is the path of a file on the server, rather than a word: a language model may say "/".
 */
static bool
is_path(const Judge *judge, const char *text)
{
	const Protocol *protocol = judge->protocol;
	bool is_url = protocol->kind.encoding == ENCODING_URL &&
				  protocol->encoding != judge->source->options->preset->protocol.encoding;
	const char *p;

	if (*text != '/' && strncmp(text, "./", 2) != 0 && strncmp(text, "../", 3) != 0)
		return false;
	/* base64 of a JPEG begins with "/", too, and is megabytes */
	for (p = text; p - text <= MAX_URL && *p > ' ' && *p < 0x7f; p++)
	{
		if (strchr("\"<>\\^`{|}", *p) != NULL)
			return false;
	}
	return *p == '\0' && p - text <= MAX_URL && p - text > 2 && (is_url || has_ending(text));
}

/*
 * Returns the address that an answer came from.
 */
static const char *
address_of_answer(const Judge *judge)
{
	return judge->source->request != NULL ? judge->source->request->url
										  : request_address(judge->source->options);
}

/*
 * Returns the content type that a member near node names; NULL if none does.
 * Only near: an object may have many members.
 */
static const char *
type_of_sibling(const cJSON *node)
{
	static const char *const names[] = {"mimeType", "mime_type", "content_type", "contentType"};
	const cJSON *sibling = node;
	int i;
	int k;

	for (i = 0; i < NEARBY && sibling->prev != NULL && sibling->prev->next != NULL; i++)
		sibling = sibling->prev;
	for (i = 0; i < 2 * NEARBY && sibling != NULL; i++, sibling = sibling->next)
	{
		for (k = 0; k < lengthof(names); k++)
		{
			if (cJSON_IsString(sibling) && sibling->string != NULL &&
				strcmp(sibling->string, names[k]) == 0)
				return sibling->valuestring;
		}
	}
	return NULL;
}

static void
extract_string(Judge *judge, cJSON *node, const PointerPlace *place)
{
	char *text = node->valuestring;

	if (extract_data_url(judge, node, text, place))
		return;
	if (is_web_url(text) || is_path(judge, text))
	{
		bool has_room =
			list_length(judge->verdict->outputs) < MAX_DOWNLOADS && strlen(text) <= MAX_URL;
		char *url = has_room ? url_resolve(address_of_answer(judge), text) : NULL;

		if (url != NULL)
			add_download(judge, node, url);
	}
	else if (judge->protocol->kind.encoding == ENCODING_AUTO &&
			 (!judge->source->options->preset->output_may_be_text || is_base64_of_media(text)))
		extract_base64(judge, node, text, place, type_of_sibling(node));
}

/*
 * Returns pattern with each {member} replaced by that member of node, if it is
 * a string.  NULL if a member is too long.
 */
static char *
fill_from_members(const char *pattern, const cJSON *node)
{
	StringInfoData path;
	const char *open;
	const char *close;

	initStringInfo(&path);
	while ((open = strchr(pattern, '{')) != NULL && (close = strchr(open, '}')) != NULL)
	{
		char *name = pnstrdup(open + 1, close - open - 1);
		const cJSON *member = cJSON_GetObjectItemCaseSensitive(node, name);

		appendBinaryStringInfo(&path, pattern, open - pattern);
		if (cJSON_IsString(member) && strlen(member->valuestring) > MAX_URL)
			return NULL;
		if (cJSON_IsString(member))
			appendStringInfoString(&path, grammar_percent_encode(member->valuestring, ""));
		else
			appendBinaryStringInfo(&path, open, close + 1 - open);
		pattern = close + 1;
	}
	appendStringInfoString(&path, pattern);
	return path.data;
}

/*
 * True if node has the first member that the path names: without that, node
 * describes no file.
 */
static bool
names_file(const char *pattern, const cJSON *node)
{
	const char *open = strchr(pattern, '{');
	const char *close = open ? strchr(open, '}') : NULL;
	const cJSON *member;

	if (close == NULL)
		return true;
	member = cJSON_GetObjectItemCaseSensitive(node, pnstrdup(open + 1, close - open - 1));
	return cJSON_IsString(member) && *member->valuestring != '\0';
}

/*
 * True if a file is only a preview of others, by the member that the preset
 * names.
 */
static bool
is_preview(const Judge *judge, const cJSON *node)
{
	const char *preview = judge->source->options->preset->preview;
	const char *equals = preview ? strchr(preview, '=') : NULL;
	const cJSON *member;

	if (equals == NULL)
		return false;
	member = cJSON_GetObjectItemCaseSensitive(node, pnstrdup(preview, equals - preview));
	return cJSON_IsString(member) && strcmp(member->valuestring, equals + 1) == 0;
}

static void
note_file(cJSON *node, const PointerPlace *place, void *arg)
{
	Judge *judge = arg;

	judge->skips_previews |= cJSON_IsObject(node) && !is_preview(judge, node) &&
							 names_file(judge->protocol->encoding, node);
}

/*
 * Makes an output of a file that node's members describe, such as ComfyUI's
 * file name, folder and type.  The encoding has the path of the download, with
 * {member} for members.
 */
static void
extract_file(Judge *judge, cJSON *node)
{
	MemoryContext caller = MemoryContextSwitchTo(judge_scratch(judge));
	const char *pattern = judge->protocol->encoding + strlen("file:");
	bool is_left_out = judge->skips_previews && is_preview(judge, node);
	char *path =
		names_file(pattern, node) && !is_left_out ? fill_from_members(pattern, node) : NULL;

	MemoryContextSwitchTo(caller);
	if (path != NULL && strlen(path) <= MAX_URL)
		add_download(judge, node, psprintf("%s%s", judge->source->options->url, path));
}

static void
extract_output(cJSON *node, const PointerPlace *place, void *arg)
{
	Judge *judge = arg;

	if (judge->protocol->kind.encoding == ENCODING_FILE)
	{
		if (cJSON_IsObject(node) && list_length(judge->verdict->outputs) < MAX_DOWNLOADS)
			extract_file(judge, node);
	}
	else if (cJSON_IsString(node))
		extract_string(judge, node, place);
}

/*
 * data: URLs are outputs wherever they stand.
 */
static void
extract_data_urls(Judge *judge, cJSON *node)
{
	for (; node != NULL; node = node->next)
	{
		if (cJSON_IsString(node))
			(void) extract_data_url(judge, node, node->valuestring, NULL);
		else if (node->child != NULL)
			extract_data_urls(judge, node->child);
	}
}

/*
 * Visits the places where the protocol has outputs.
 */
static void
each_output(const Judge *judge, cJSON *json, PointerVisitor visit, void *arg)
{
	const char *places = judge->protocol->output;
	const char *place;
	int len;

	while (places != NULL && judge->protocol->kind.encoding != ENCODING_TEXT &&
		   (place = grammar_next_word(&places, &len)) != NULL)
	{
		char *pointer = pnstrdup(place, len);

		if (judge->id != NULL)
			pointer = pointer_fill(pointer, "id", judge->id);
		pointer_each(json, pointer, visit, arg);
	}
}

/*
 * Takes the outputs out of an answer, and puts references in their places.  What cannot be read as an output stays
 * where it is.
 */
void
output_take_all(Judge *judge, cJSON *json)
{
	if (judge->source->options->preset->preview != NULL)
		each_output(judge, json, note_file, judge);
	each_output(judge, json, extract_output, judge);
	extract_data_urls(judge, json);
}

/*
 * Describes outputs that cannot be read; NULL if there are none.
 */
char *
output_describe_faults(const Judge *judge)
{
	int more = judge->n_faults - MAX_FAULTS;

	if (judge->n_faults == 0)
		return NULL;
	return psprintf("the answer of server \"%s\" has invalid base64 at %s%s; it is kept in the column result.",
					judge->source->server_name, judge->faults,
					more > 0 ? psprintf(" and %d more places", more) : "");
}

typedef struct Finding
{
	const Judge *judge;
	bool found;
} Finding;

static void
note_download(cJSON *node, const PointerPlace *place, void *arg)
{
	Finding *finding = arg;

	finding->found |= cJSON_IsObject(node) ||
					  (cJSON_IsString(node) && (is_web_url(node->valuestring) ||
												is_path(finding->judge, node->valuestring)));
}

/*
 * True if an output may have to be downloaded.  Only then is the answer
 * printed before its outputs are taken out: most answers have their outputs in
 * them, and are large.
 */
bool
output_may_be_download(const Judge *judge, cJSON *json)
{
	Finding finding = {judge, false};

	each_output(judge, json, note_download, &finding);
	return finding.found;
}

/*
 * Frees the body in which outputs were decoded, unless they are a good part of
 * it.  Copies them first.
 */
void
output_leave_body(Verdict *verdict, Bytes *body)
{
	size_t kept = 0;
	ListCell *cell;

	foreach(cell, verdict->outputs)
	{
		const Output *output = lfirst(cell);

		kept += output->data != NULL ? output->len : 0;
	}
	if (kept > body->len / LARGE_PART)
		return;
	foreach(cell, verdict->outputs)
	{
		Output *output = lfirst(cell);
		char *copy;

		if (output->data == NULL)
			continue;
		copy = MemoryContextAllocHuge(CurrentMemoryContext, output->len + 1);
		memcpy(copy, output->data, output->len);
		copy[output->len] = '\0';
		output->data = copy;
	}
	bytes_clear(body);
}

/*
 * True if outputs are to be downloaded.
 */
bool
output_has_downloads(const Verdict *verdict)
{
	ListCell *cell;

	foreach(cell, verdict->outputs)
	{
		if (((Output *) lfirst(cell))->url != NULL)
			return true;
	}
	return false;
}

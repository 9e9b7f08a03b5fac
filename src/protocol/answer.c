/*
 * answer.c
 *		What a success contains: outputs, the answer without them, and what it used.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "bytes.h"
#include "header.h"
#include "media.h"
#include "protocol/grammar.h"
#include "protocol/judge.h"
#include "protocol/pointer.h"
#include "protocol/stream.h"
#include "protocol/words.h"
#include "url.h"

/* Outputs that an answer may have before further URLs, and further binaries, are left in it as they are. */
#define MAX_DOWNLOADS 1000
#define MAX_OUTPUTS 10000

#define MAX_URL 16384   /* bytes; longer ones are left in the answer as they are */
#define MAX_USAGE 65536 /* bytes of JSON; what is more is in the result, if it is there at all */

/*
 * Bytes of JSON that go into the column result; more of it becomes an output.  What stands in a table must be printed
 * again, with two bytes for one in COPY, and numbers without their exponents: a row of 1 GB cannot be.
 */
#define MAX_RESULT (200 * 1024 * 1024)

/* ---------- outputs ---------- */

static Output *
add_output(Verdict *verdict)
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
 * Overwrites secrets in what is an output and no picture, sound or film.
 */
static void
mask_output(const Judge *judge, const char *type, char *data, size_t len)
{
	if (!media_is_playable(type))
		words_mask(judge->source->request, data, len);
}

static void
add_bytes(Judge *judge, cJSON *node, char *data, size_t len)
{
	Output *output = add_output(judge->verdict);

	output->content_type = media_type_of(data, len);
	mask_output(judge, output->content_type, data, len);
	output->data = data;
	output->len = len;
	refer_to_last_output(judge->verdict, node);
}

static void
add_download(Judge *judge, cJSON *node, char *url)
{
	add_output(judge->verdict)->url = url;
	refer_to_last_output(judge->verdict, node);
}

/*
 * Where the base64 of a "data:" URL begins, or NULL if text is not one.
 */
static char *
data_url_payload(char *text)
{
	char *comma;

	if (pg_strncasecmp(text, "data:", 5) != 0)
		return NULL;
	comma = strchr(text, ',');
	if (comma == NULL || comma - text <= 7 || pg_strncasecmp(comma - 7, ";base64", 7) != 0)
		return NULL;
	return comma + 1;
}

/*
 * Decodes base64 into an output; what is not base64 is left as it is, and a fault if it should be.
 */
static void
extract_base64(Judge *judge, cJSON *node, char *payload, const PointerPlace *place, bool must_be)
{
	ssize_t len;

	if (list_length(judge->verdict->outputs) >= MAX_OUTPUTS)
		return;
	len = base64_decode_in_place(payload, strlen(payload));
	if (len > 0)
		add_bytes(judge, node, payload, len);
	else if (must_be && judge->fault == NULL)
		judge->fault =
			psprintf("the answer of server \"%s\" has %s at %s; it is kept in the column result.",
					 judge->source->server_name, len < 0 ? "invalid base64" : "an empty output",
					 pointer_describe(place));
}

/*
 * Whether text begins as base64 of a picture, a sound or a film does.
 */
static bool
is_base64_of_media(const char *text)
{
	char start[61]; /* a multiple of 4, and the end */
	ssize_t len;

	strlcpy(start, text, sizeof(start));
	len = base64_decode_in_place(start, strlen(start));
	return len > 0 && media_is_playable(media_type_of(start, len));
}

static bool
is_web_url(const char *text)
{
	return pg_strncasecmp(text, "http://", 7) == 0 || pg_strncasecmp(text, "https://", 8) == 0;
}

static void
extract_string(Judge *judge, cJSON *node, const PointerPlace *place)
{
	char *text = node->valuestring;
	char *payload = data_url_payload(text);

	if (payload != NULL)
		extract_base64(judge, node, payload, place, true);
	else if (is_web_url(text))
	{
		bool has_room =
			list_length(judge->verdict->outputs) < MAX_DOWNLOADS && strlen(text) <= MAX_URL;
		char *url = has_room ? url_resolve(judge->source->options->url, text) : NULL;

		if (url != NULL)
			add_download(judge, node, url);
	}
	else if (strcmp(judge->protocol->encoding, "auto") == 0 &&
			 (!judge->source->options->preset->output_may_be_text || is_base64_of_media(text)))
		extract_base64(judge, node, text, place, true);
}

/*
 * pattern with each {member} replaced by that member of node, where it is a string.
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
 * An output that is described by members, such as ComfyUI's file name, folder and type: the path of its
 * download is the encoding's, with {member} filled in.
 */
static void
extract_file(Judge *judge, cJSON *node)
{
	MemoryContext caller = MemoryContextSwitchTo(judge_scratch(judge));
	const char *pattern = judge->protocol->encoding + strlen("file:");
	char *path = fill_from_members(pattern, node);

	MemoryContextSwitchTo(caller);
	if (strlen(path) <= MAX_URL)
		add_download(judge, node, psprintf("%s%s", judge->source->options->url, path));
}

static void
extract_output(cJSON *node, const PointerPlace *place, void *arg)
{
	Judge *judge = arg;

	if (strncmp(judge->protocol->encoding, "file:", 5) == 0)
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
		char *payload = cJSON_IsString(node) ? data_url_payload(node->valuestring) : NULL;

		if (payload != NULL)
			extract_base64(judge, node, payload, NULL, false);
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

	while (places != NULL && strcmp(judge->protocol->encoding, "text") != 0 &&
		   (place = grammar_next_word(&places, &len)) != NULL)
	{
		char *pointer = pnstrdup(place, len);

		if (judge->id != NULL)
			pointer = pointer_fill(pointer, "id", judge->id);
		pointer_each(json, pointer, visit, arg);
	}
}

static void
extract_outputs(Judge *judge, cJSON *json)
{
	each_output(judge, json, extract_output, judge);
	extract_data_urls(judge, json);
}

static void
note_download(cJSON *node, const PointerPlace *place, void *arg)
{
	bool *found = arg;

	*found |= cJSON_IsObject(node) || (cJSON_IsString(node) && is_web_url(node->valuestring));
}

/*
 * Whether an output may have to be downloaded: most answers bring theirs with them, and are large.
 */
static bool
names_download(const Judge *judge, cJSON *json)
{
	bool found = false;

	each_output(judge, json, note_download, &found);
	return found;
}

/*
 * Whether outputs have come with the answer.
 */
static bool
has_data(const Verdict *verdict)
{
	ListCell *cell;

	foreach(cell, verdict->outputs)
	{
		if (((Output *) lfirst(cell))->data != NULL)
			return true;
	}
	return false;
}

static bool
has_downloads(const Verdict *verdict)
{
	ListCell *cell;

	foreach(cell, verdict->outputs)
	{
		if (((Output *) lfirst(cell))->url != NULL)
			return true;
	}
	return false;
}

/* ---------- what was used ---------- */

static cJSON *
usage_before(const Judge *judge)
{
	const Remote *remote = judge->source->remote;
	const char *reason;
	cJSON *usage;
	char *text;

	if (remote == NULL || remote->usage == NULL)
		return json_create(cJSON_Object);
	text = pstrdup(remote->usage);
	usage = json_parse(text, strlen(text), &reason);
	return cJSON_IsObject(usage) ? usage : json_create(cJSON_Object);
}

static cJSON *
merge_usage(const Judge *judge, cJSON *json)
{
	const char *places = judge->protocol->usage;
	cJSON *usage = usage_before(judge);
	const char *place;
	int len;

	while (places != NULL && (place = grammar_next_word(&places, &len)) != NULL)
	{
		char *pointer = pnstrdup(place, len);
		cJSON *node = pointer_first(json, pointer);

		if (node == NULL || cJSON_IsNull(node) || json_length(node) > MAX_USAGE)
			continue;
		if (cJSON_IsObject(node))
			usage = json_merge(usage, json_copy(node));
		else
			json_attach(usage, strrchr(pointer, '/') + 1, json_copy(node));
	}
	return usage;
}

/*
 * What the provider says was used, here or in earlier answers: an object as it is, single values under
 * their own names.  JSON, or NULL.
 */
char *
answer_read_usage(Judge *judge, cJSON *json)
{
	MemoryContext caller = MemoryContextSwitchTo(judge_scratch(judge));
	cJSON *usage = merge_usage(judge, json);

	MemoryContextSwitchTo(caller);
	return usage->child != NULL && json_length(usage) <= MAX_USAGE ? json_print(usage) : NULL;
}

/* ---------- answers ---------- */

/*
 * The sentence for a server's own words in an answer whose status says that it is a success.
 */
char *
answer_describe_words(const Judge *judge, const char *words)
{
	const char *name = judge->source->server_name;

	if (judge->reply == NULL)
		return psprintf("server \"%s\" answered with an error inside: %s", name, words);
	return psprintf("server \"%s\" answered HTTP %d with an error inside: %s", name,
					judge->reply->status, words);
}

/*
 * Why a JSON answer is not a success although its status says so; NULL if it is one.
 */
static char *
find_fault(const Judge *judge, cJSON *json)
{
	const ReplySource *source = judge->source;
	const Protocol *protocol = judge->protocol;
	char *words = words_of_json(json, protocol->error, judge->id);
	const char *id = judge->id ? judge->id : "";
	cJSON *state = protocol->state != NULL && *protocol->state == '/'
					   ? pointer_first(json, pointer_fill(protocol->state, "id", id))
					   : NULL;
	RemoteState means = cJSON_IsString(state)
							? grammar_state_of(protocol->states, state->valuestring)
							: REMOTE_RUNNING;

	if (means == REMOTE_OK)
		return NULL; /* whatever words stand beside it, as in ComfyUI's messages */
	if (words != NULL)
		return answer_describe_words(judge, words);
	if (means == REMOTE_FAILED && judge->id == NULL)
		return psprintf("server \"%s\" answered %s.", source->server_name,
						words_clip(state->valuestring, strlen(state->valuestring)));
	return NULL;
}

/*
 * Keeps an answer as the verdict's result; where that cannot be, or has numbers as text, also as its last output.
 */
void
answer_keep_json(Judge *judge, const cJSON *json)
{
	Verdict *verdict = judge->verdict;
	bool is_exact = !json_has_long_numbers(json);
	char *text = json_print(json);
	size_t len = strlen(text);
	Output *output;

	if (len <= MAX_RESULT)
		verdict->result = text;
	if (len <= MAX_RESULT && is_exact)
		return;
	output = add_output(verdict);
	output->content_type = "application/json";
	output->data = is_exact ? text : json_print_exact(json);
	output->len = strlen(output->data);
}

/*
 * An answer in JSON, of the job itself or of the prediction that it became.
 */
void
answer_judge_json(Judge *judge, cJSON *json)
{
	const ReplySource *source = judge->source;
	Verdict *verdict = judge->verdict;
	char *fault = find_fault(judge, json);
	/* before outputs are taken out of it */
	char *whole = NULL;

	if (judge->id == NULL && names_download(judge, json))
	{
		words_mask_rest(source->request, json);
		whole = json_print(json);
	}
	verdict->usage = answer_read_usage(judge, json);
	extract_outputs(judge, json);
	if (fault == NULL)
		fault = judge->fault;
	if (fault == NULL && source->options->preset->requires_output && verdict->outputs == NIL)
		fault =
			psprintf("the answer of server \"%s\" has no output at %s; it is kept in the column result.",
					 source->server_name, judge->protocol->output);
	words_mask_rest(source->request, json);
	answer_keep_json(judge, json);
	verdict->error = fault;
	verdict->kind = fault ? VERDICT_FAIL : VERDICT_DONE;
	if (fault == NULL && has_downloads(verdict))
	{
		verdict->kind = VERDICT_FETCH;
		verdict->answer = whole;
	}
}

/*
 * The content type of a body that is an output itself: by its bytes; where they tell nothing, what
 * the server claims, unless the bytes would have shown that.
 */
const char *
answer_body_type(const HttpReply *reply)
{
	const char *type = media_type_of(reply->body->data, reply->body->len);
	char *claim = header_find(reply, "Content-Type");
	size_t len;

	if (claim == NULL ||
		(strcmp(type, "application/octet-stream") != 0 && strcmp(type, "text/plain") != 0))
		return type;
	len = strspn(claim, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/.+-");
	claim[len] = '\0';
	if (len > 100 || strchr(claim, '/') == NULL || strcmp(media_extension_of(claim), "bin") != 0)
		return type;
	return claim;
}

static bool
claims_json(const HttpReply *reply)
{
	char *claim = header_find(reply, "Content-Type");

	return claim != NULL && strcasestr(claim, "json") != NULL;
}

/*
 * A body that is not JSON: the output itself where the api or the bytes say so, else kept for whoever
 * paid for it.
 */
void
answer_judge_unread(Judge *judge, const char *reason)
{
	const Bytes *body = judge->reply->body;
	const char *type = answer_body_type(judge->reply);
	Verdict *verdict = judge->verdict;
	bool is_media = media_is_playable(type);
	Output *output = add_output(verdict);

	mask_output(judge, type, body->data, body->len);
	output->content_type = type;
	output->data = body->data;
	output->len = body->len;
	verdict->kind = VERDICT_DONE;
	if (is_media || (judge->source->options->preset->any_answer && !claims_json(judge->reply)))
		return;
	verdict->kind = VERDICT_FAIL;
	verdict->error =
		psprintf("the answer of server \"%s\" is %s; it is kept in gen_outputs. Check the server's options api, url and path.",
				 judge->source->server_name, reason);
}

/*
 * The body as JSON, without secrets, whose strings are in the body; NULL, and why in *reason, if it is not.
 */
cJSON *
answer_read_json(Judge *judge, const char **reason)
{
	Bytes *body = judge->reply->body;
	MemoryContext caller;
	const char *type;
	bool is_json;
	cJSON *json;

	*reason = "not JSON";
	if (body->len == 0)
		return NULL;
	type = answer_body_type(judge->reply);
	is_json = strcmp(type, "application/json") == 0 || claims_json(judge->reply);
	if (is_json)
		words_mask_plain(judge->source->request, body->data, body->len);
	else if (strncmp(type, "text/", 5) == 0)
		words_mask(judge->source->request, body->data, body->len);
	if (!is_json)
		return NULL;
	caller = MemoryContextSwitchTo(judge_scratch(judge));
	json = json_parse_answer(body->data, body->len, reason);
	MemoryContextSwitchTo(caller);
	if (json != NULL)
		words_mask_json(judge->source->request, json);
	else
		*reason = pstrdup(*reason);
	return json;
}

/*
 * The answer as it came, beside what was made of it.
 */
static void
keep_body(Judge *judge)
{
	Output *output = add_output(judge->verdict);

	output->content_type = answer_body_type(judge->reply);
	output->data = judge->reply->body->data;
	output->len = judge->reply->body->len;
}

static void
judge_stream(Judge *judge)
{
	const char *name = judge->source->server_name;
	Bytes *body = judge->reply->body;
	Verdict *verdict = judge->verdict;
	MemoryContext caller = MemoryContextSwitchTo(judge_scratch(judge));
	Stream stream;

	words_mask(judge->source->request, body->data, body->len);
	stream_read(judge->protocol, body->data, body->len, &stream);
	/* its events may have broken one up */
	words_mask_json(judge->source->request, stream.json);
	words_mask_rest(judge->source->request, stream.json);
	if (stream.error != NULL)
		words_mask(judge->source->request, stream.error, strlen(stream.error));
	MemoryContextSwitchTo(caller);
	verdict->usage = answer_read_usage(judge, stream.json);
	answer_keep_json(judge, stream.json);
	verdict->kind = VERDICT_FAIL;
	if (stream.error != NULL)
		verdict->error =
			psprintf("server \"%s\" broke its answer off with an error: %s", name, stream.error);
	else if (stream.refused != NULL)
	{
		keep_body(judge);
		verdict->error =
			psprintf("the answer of server \"%s\" has an event that is %s; all of it is kept in gen_outputs.",
					 name, stream.refused);
	}
	else if (!stream.is_whole)
	{
		verdict->kind = VERDICT_RETRY;
		verdict->unknown = true;
		verdict->error =
			psprintf("the answer of server \"%s\" ended before it was complete.", name);
	}
	else
		verdict->kind = VERDICT_DONE;
}

/*
 * A successful answer to the job's own call.
 */
void
answer_judge_body(Judge *judge)
{
	HttpReply *reply = judge->reply;
	Verdict *verdict = judge->verdict;
	const char *reason;
	cJSON *json;

	if (reply->body->len == 0)
	{
		verdict->kind = reply->status == 204 ? VERDICT_DONE : VERDICT_FAIL;
		if (verdict->kind == VERDICT_FAIL)
			verdict->error =
				psprintf("server \"%s\" answered HTTP %d with an empty body. Check its options api, url and path.",
						 judge->source->server_name, reply->status);
		return;
	}
	if (strcmp(judge->protocol->reply, "stream") == 0 && stream_is(reply))
	{
		judge_stream(judge);
		return;
	}
	json = answer_read_json(judge, &reason);
	if (json == NULL)
	{
		answer_judge_unread(judge, reason);
		return;
	}
	answer_judge_json(judge, json);
	if (!has_data(verdict))
		bytes_clear(reply->body); /* else the outputs are in it */
}

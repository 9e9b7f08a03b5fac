/*
 * answer.c
 *		What a success contains: the answer without its outputs (output.c), and what it used.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/bytes.h"
#include "http/header.h"
#include "base/media.h"
#include "server/grammar.h"
#include "protocol/charset.h"
#include "protocol/judge.h"
#include "protocol/missing.h"
#include "server/pointer.h"
#include "protocol/stream.h"
#include "protocol/reasons.h"
#include "protocol/saved.h"
#include "protocol/words.h"
#include "http/url.h"

#define MAX_HEADERS_KEPT 100 /* of the answer to a HEAD request */
#define MAX_USAGE 65536      /* bytes of JSON; larger usage stays in the result only */

/*
 * Bytes of JSON that the column result takes; a larger answer becomes an
 * output.  COPY prints some bytes as two and numbers without exponents, and
 * PostgreSQL cannot print a row of 1 GB.
 */
#define MAX_RESULT (200 * 1024 * 1024)

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
 * Returns what the provider says was used, here or in earlier answers: an object as it is, single values under their
 * own names.  JSON, or NULL.
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
 * Returns the error for a server's own words in an answer whose status says success.
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
 * Returns a JSON scalar as text; NULL if node is not a scalar.
 */
char *
answer_text_of(const cJSON *node)
{
	if (cJSON_IsString(node))
		return node->valuestring;
	if (cJSON_IsBool(node) || json_is_number(node))
		return json_print(node);
	return NULL;
}

/*
 * Returns the value at the option state, as text; NULL if there is none.
 */
char *
answer_state(const Judge *judge, cJSON *json)
{
	const char *place = judge->protocol->state;

	if (place == NULL || *place != '/')
		return NULL;
	return answer_text_of(
		pointer_first(json, pointer_fill(place, "id", judge->id ? judge->id : "")));
}

/*
 * Returns the answer's own state and reason: 'server "s" answered MAX_TOKENS: …'.
 */
static char *
describe_state(const Judge *judge, cJSON *json, const char *word)
{
	char *why = reasons_of_json(json, judge->protocol->reason, judge->id);

	word = words_clip(word, strlen(word));
	if (why != NULL && strcmp(why, word) == 0)
		why = NULL;
	return psprintf("server \"%s\" answered %s%s%s", judge->source->server_name, word,
					why ? ": " : ".", why ? why : "");
}

/*
 * Returns why a JSON answer with a success status has failed all the same, by
 * its state or its error words; NULL if it has not.
 */
static char *
find_fault(const Judge *judge, cJSON *json, RemoteState means, const char *word)
{
	char *words = reasons_of_success(json, judge->protocol->error, judge->id);

	if (means == REMOTE_OK)
		return NULL; /* ignore error words beside it, as in ComfyUI's messages */
	if (words != NULL)
		return answer_describe_words(judge, words);
	return means == REMOTE_FAILED && judge->id == NULL ? describe_state(judge, json, word) : NULL;
}

static void
note_content(cJSON *node, const PointerPlace *place, void *arg)
{
	bool *has_content = arg;

	*has_content |= !json_is_empty(node);
}

/*
 * True if the answer has content at one of the required places, or if all of
 * them are optional ("?") and absent.
 */
static bool
has_content(const Judge *judge, cJSON *json)
{
	const char *places = judge->protocol->requires_output;
	bool has_content = false;
	bool must_be = false;
	const char *word;
	int len;

	while (!has_content && (word = grammar_next_word(&places, &len)) != NULL)
	{
		bool is_optional = *word == '?';
		char *pointer = pnstrdup(word + is_optional, len - is_optional);

		if (judge->id != NULL)
			pointer = pointer_fill(pointer, "id", judge->id);
		pointer_each(json, pointer, note_content, &has_content);
		must_be |= !is_optional || pointer_first(json, pointer) != NULL;
	}
	return has_content || !must_be;
}

/*
 * Returns a sentence about the output that the answer lacks to be a success;
 * NULL if it lacks none.  Call it after output_take_all().
 */
static char *
find_lack(const Judge *judge, cJSON *json)
{
	RequirementKind required = judge->protocol->kind.requires_output;
	bool takes_places = required == REQUIRES_PLACE || required == REQUIRES_OPTIONAL_PLACE;
	const char *places = takes_places ? judge->protocol->requires_output : judge->protocol->output;
	char *why;

	if (judge->verdict->outputs != NIL || required == REQUIRES_NOTHING ||
		(takes_places && has_content(judge, json)))
		return NULL;
	why = reasons_of_json(json, judge->protocol->reason, judge->id);
	return psprintf("the answer of server \"%s\" has no output%s%s; it is kept in the column result.%s%s",
					judge->source->server_name, places ? " at " : "", places ? places : "",
					why ? " Its reason: " : "", why ? why : "");
}

/*
 * Returns the answer's warning as a sentence; NULL if it has none.
 */
char *
answer_describe_warning(const Judge *judge, cJSON *json)
{
	char *warning = reasons_of_json(json, judge->protocol->warning, judge->id);

	return warning != NULL
			   ? psprintf("server \"%s\" warns: %s", judge->source->server_name, warning)
			   : NULL;
}

/*
 * Returns the note on a partial success, or on an answer with a warning; else
 * NULL.
 */
static char *
find_note(const Judge *judge, cJSON *json, RemoteState means, const char *word)
{
	return means == REMOTE_PARTLY ? describe_state(judge, json, word)
								  : answer_describe_warning(judge, json);
}

/*
 * Keeps an answer as the verdict's result.  Larger than MAX_RESULT, it becomes
 * the last output instead.  With numbers that the result must have as strings,
 * it becomes both.
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
	output = output_add(verdict);
	output->content_type = "application/json";
	output->data = is_exact ? text : json_print_exact(json);
	output->len = strlen(output->data);
}

/*
 * Takes the outputs out of an answer.  Returns what else is wrong with the
 * answer, the most telling fault first; NULL if nothing is.
 */
static char *
take_outputs(Judge *judge, cJSON *json)
{
	char *word = answer_state(judge, json);
	RemoteState means = word ? grammar_state_of(judge->protocol->states, word) : REMOTE_RUNNING;
	char *fault = find_fault(judge, json, means, word);
	char *note = find_note(judge, json, means, word);
	char *lack;

	output_take_all(judge, json);
	lack = find_lack(judge, json);
	judge->verdict->note = note;
	if (fault == NULL && lack != NULL && means == REMOTE_PARTLY)
		return note;
	if (fault == NULL)
		fault = output_describe_faults(judge);
	return fault ? fault : lack;
}

/*
 * Judges an answer in JSON, of the job itself or of its prediction.  Its outputs are fetched, whatever else is wrong.
 */
void
answer_judge_json(Judge *judge, cJSON *json)
{
	const ReplySource *source = judge->source;
	Verdict *verdict = judge->verdict;
	char *whole = NULL; /* before outputs are taken out of it */
	bool has_downloads;
	char *fault;

	if (judge->id == NULL && output_may_be_download(judge, json))
	{
		words_mask_rest(source->request, json);
		whole = json_print(json);
	}
	verdict->usage = answer_read_usage(judge, json);
	fault = take_outputs(judge, json);
	has_downloads = output_has_downloads(verdict);
	words_mask_rest(source->request, json);
	if (has_downloads)
		missing_note(verdict, json);
	answer_keep_json(judge, json);
	verdict->error = fault;
	verdict->kind = has_downloads ? VERDICT_FETCH : fault ? VERDICT_FAIL : VERDICT_DONE;
	/* do not save an answer that we would read back as a saved verdict */
	if (has_downloads && whole != NULL && !saved_is_text(whole))
		verdict->answer = whole;
	else if (whole != NULL)
		pfree(whole);
}

/*
 * Returns the content type of a body that is itself an output.  The bytes
 * decide.  If they do not show a type, Content-Type decides, unless it claims
 * a type that the bytes would have shown.
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
 * Judges a body that is not JSON.  It is the output if the api or the bytes
 * say so.  Else the job fails, and keeps the body, because it was paid for.
 */
void
answer_judge_unread(Judge *judge, const char *reason)
{
	const Bytes *body = judge->reply->body;
	const char *type = answer_body_type(judge->reply);
	Verdict *verdict = judge->verdict;
	bool is_media = media_is_playable(type) || strncmp(type, "model/", 6) == 0;
	Output *output = output_add(verdict);

	output_mask(judge, type, body->data, body->len);
	output->content_type = type;
	output->data = body->data;
	output->len = body->len;
	verdict->kind = VERDICT_DONE;
	if (judge->source->options->preset->is_receipt)
		return;
	if (judge->reply->undecoded == NULL &&
		(is_media || (judge->protocol->kind.any_answer == ANSWER_ANY && !claims_json(judge->reply))))
		return;
	verdict->kind = VERDICT_FAIL;
	verdict->error =
		psprintf("the answer of server \"%s\" is %s; it is kept in gen_outputs. Check the server's options api, url and path.",
				 judge->source->server_name, reason);
}

/*
 * Returns the body as JSON with its secrets masked; its strings may point into
 * the body.  Returns NULL, and why in *reason, if it is not JSON.
 */
cJSON *
answer_read_json(Judge *judge, const char **reason)
{
	Bytes *body = judge->reply->body;
	char *text = body->data;
	size_t len = body->len;
	MemoryContext caller;
	const char *type;
	char *utf8;
	bool is_json;
	cJSON *json;

	*reason = judge->reply->undecoded ? judge->reply->undecoded : "not JSON";
	if (body->len == 0 || judge->reply->undecoded != NULL)
		return NULL;
	type = answer_body_type(judge->reply);
	is_json = (strcmp(type, "application/json") == 0 || claims_json(judge->reply)) &&
			  !media_is_playable(type);
	utf8 = media_is_playable(type) ? NULL : charset_to_utf8(judge->reply, &len);
	if (utf8 != NULL)
	{
		text = utf8;
		is_json |= strcmp(media_type_of(text, len), "application/json") == 0;
	}
	if (is_json)
		words_mask_plain(judge->source->request, text, len);
	else if (strncmp(type, "text/", 5) == 0)
		words_mask(judge->source->request, body->data, body->len);
	if (!is_json)
		return NULL;
	caller = MemoryContextSwitchTo(judge_scratch(judge));
	json = json_parse_answer(text, len, reason);
	MemoryContextSwitchTo(caller);
	if (json != NULL)
		words_mask_json(judge->source->request, json);
	else
		*reason = pstrdup(*reason);
	return json;
}

/*
 * Keeps the answer as it came, as one more output. text is the answer if the
 * body has been overwritten, else NULL.
 */
static void
keep_body(Judge *judge, char *text)
{
	Output *output = output_add(judge->verdict);

	if (text != NULL)
	{
		output->content_type = "application/json";
		output->data = text;
		output->len = strlen(text);
		return;
	}
	output->content_type = answer_body_type(judge->reply);
	output->data = judge->reply->body->data;
	output->len = judge->reply->body->len;
}

/*
 * Fails a stream.  Keeps what was understood of it, and the body as it came.
 * Only a stream that the server ended with an error keeps no body, if anything
 * was understood.
 */
static void
fail_stream(Judge *judge, const Stream *stream, char *text, char *error)
{
	Verdict *verdict = judge->verdict;

	verdict->usage = answer_read_usage(judge, stream->json);
	if (!stream->is_empty)
		answer_keep_json(judge, stream->json);
	if (stream->is_empty || stream->error == NULL)
		keep_body(judge, text);
	verdict->kind = VERDICT_FAIL;
	verdict->error = error;
}

/*
 * Returns what is wrong with a stream, as a sentence; NULL if it is complete.
 */
static char *
find_stream_fault(const Judge *judge, const Stream *stream)
{
	const char *name = judge->source->server_name;

	if (stream->error != NULL)
		return psprintf("server \"%s\" ended its answer with an error: %s", name, stream->error);
	if (stream->refused != NULL)
		return psprintf("the answer of server \"%s\" has an event that is %s; all of it is kept in gen_outputs.",
						name, stream->refused);
	if (!stream->is_whole)
		return psprintf("the stream of server \"%s\" ended without the last event that its option stream_end describes. It may have been paid for, so genjob does not repeat the call. What came is kept in gen_outputs. If the server ends its streams in another way, set stream_end.",
						name);
	if (stream->is_empty)
		return psprintf("the stream of server \"%s\" has no parts that its option stream_parts names; it is kept in gen_outputs.",
						name);
	return NULL;
}

/*
 * Judges a stream as the object that the call would have returned without
 * streaming. list has the events; if it is NULL, they are in the body, as
 * server-sent events or as lines.
 */
static void
judge_stream(Judge *judge, cJSON *list)
{
	const HttpRequest *request = judge->source->request;
	Bytes *body = judge->reply->body;
	char *text = list != NULL ? json_print(list) : NULL;
	Stream stream;
	char *fault;

	if (list != NULL)
		stream_read_list(judge->protocol, list, judge_scratch(judge), &stream);
	else
	{
		words_mask(request, body->data, body->len);
		stream_read(judge->protocol, body->data, body->len, judge_scratch(judge), &stream);
	}
	/* a secret may have been split between events */
	words_mask_json(request, stream.json);
	words_mask_rest(request, stream.json);
	if (stream.error != NULL)
		words_mask(request, stream.error, strlen(stream.error));
	fault = find_stream_fault(judge, &stream);
	if (fault != NULL)
	{
		fail_stream(judge, &stream, text, fault);
		return;
	}
	answer_judge_json(judge, stream.json);
	if (stream.has_unread || stream.has_long_numbers)
		keep_body(judge, text);
	else
		bytes_clear(body);
}

/*
 * Keeps the headers of an answer that has nothing else, as the result: {"headers": {"etag": ...}}.
 */
static void
keep_headers(Judge *judge)
{
	cJSON *headers = json_create(cJSON_Object);
	cJSON *result = json_create(cJSON_Object);
	char *line = pnstrdup(judge->reply->headers->data, judge->reply->headers->len);
	char *rest;

	for (line = strtok_r(line, "\r\n", &rest); line != NULL; line = strtok_r(NULL, "\r\n", &rest))
	{
		char *colon = strchr(line, ':');
		char *p;

		if (colon == NULL || cJSON_GetArraySize(headers) >= MAX_HEADERS_KEPT)
			continue;
		*colon = '\0';
		for (p = line; p < colon; p++)
			*p = pg_ascii_tolower((unsigned char) *p);
		json_sanitize_line(line, strlen(line));
		colon += 1 + strspn(colon + 1, " \t");
		json_sanitize_line(colon, strlen(colon));
		if (cJSON_GetObjectItemCaseSensitive(headers, line) == NULL)
			json_attach(headers, line, json_create_string(colon));
	}
	json_attach(result, "headers", headers);
	answer_keep_json(judge, result);
}

/*
 * Judges a successful answer to the job's own call.
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
		bool may_be_empty = reply->status == 204 || judge->protocol->kind.method != METHOD_POST ||
							judge->source->options->preset->is_receipt;

		verdict->kind = may_be_empty ? VERDICT_DONE : VERDICT_FAIL;
		if (judge->protocol->kind.method == METHOD_HEAD)
			keep_headers(judge);
		if (verdict->kind == VERDICT_FAIL)
			verdict->error =
				psprintf("server \"%s\" answered HTTP %d with an empty body. Check its options api, url and path.",
						 judge->source->server_name, reply->status);
		return;
	}
	if (stream_is(judge->protocol, reply))
	{
		judge_stream(judge, NULL);
		return;
	}
	json = answer_read_json(judge, &reason);
	if (json == NULL)
	{
		answer_judge_unread(judge, reason);
		return;
	}
	if (judge->source->options->preset->list_is_stream && cJSON_IsArray(json))
	{
		judge_stream(judge, json);
		return;
	}
	answer_judge_json(judge, json);
	output_leave_body(verdict, reply->body);
}

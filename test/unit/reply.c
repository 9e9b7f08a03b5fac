/*
 * reply.c
 *		What answers mean: each case is an answer as a server sends it, and what genjob makes of it.
 *
 * A case's server is described as by CREATE SERVER, its answer by status, headers and body.  What comes of it is compared
 * as one line:
 *
 *		KIND[ error=SENTENCE][ note=SENTENCE][ result=JSON][ outputs=TYPE:BYTES ?URL ...]
 */
#include "unit.h"

#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "utils/memutils.h"

#include "protocol/missing.h"
#include "protocol/reply.h"

#define SECRET "sk-unit-secret"
#define KEY "0190a0a0-0000-7000-8000-000000000000"
#define PNG "\x89PNG\r\n\x1a\n"
#define PNG_BASE64 "iVBORw0KGgo="

typedef enum Step
{
	STEP_JUDGE,
	STEP_POLL,
	STEP_RESULT,
	STEP_UNDECODED /* the submission's answer, compressed in some other way */
} Step;

typedef struct Case
{
	const char *what;
	const char *api;
	const char *options; /* "name=value|name=value" */
	Step step;
	int status;
	const char *headers;
	const char *body;
	size_t len; /* of body; 0: as text */
	const char *expected;
	int forgotten; /* answers before this one that the prediction is not known */
	int age;       /* of the prediction, in s */
} Case;

static List *
add_option(List *defs, const char *name, const char *value)
{
	return lappend(defs, makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1));
}

static ServerOptions *
read_options(const char *api, const char *text)
{
	ServerOptions *options = palloc(sizeof(ServerOptions));
	List *defs = add_option(NIL, "api", api);
	char *copy = pstrdup(text ? text : "");
	char *word;

	defs = add_option(defs, "url", "http://server.test/x");
	defs = add_option(defs, "model", "maker/model");
	for (word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|"))
	{
		char *value = strchr(word, '=');

		*value++ = '\0';
		defs = add_option(defs, word, value);
	}
	options_parse_server(defs, options);
	return options;
}

static Bytes *
bytes_of(const char *data, size_t len)
{
	Bytes *bytes = bytes_create(CurrentMemoryContext, MaxAllocSize);

	bytes_append(bytes, data, len);
	bytes_append(bytes, "", 1);
	bytes->len--;
	return bytes;
}

static HttpReply *
make_reply(const Case *test)
{
	HttpReply *reply = palloc0(sizeof(HttpReply));
	const char *headers = test->headers ? test->headers : "Content-Type: application/json\r\n";

	reply->error = HTTP_OK;
	reply->error_text = pstrdup("");
	reply->sent = true;
	reply->status = test->status;
	reply->headers = bytes_of(headers, strlen(headers));
	reply->body = bytes_of(test->body, test->len > 0 ? test->len : strlen(test->body));
	return reply;
}

static Verdict *
judge(const Case *test, Remote *remote)
{
	ServerOptions *options = read_options(test->api, test->options);
	MappingOptions secrets = {.api_key = SECRET,
							  .access_key_id = SECRET,
							  .secret_access_key = SECRET};
	RequestSource request = {.options = options,
							 .secrets = &secrets,
							 .request = "{}",
							 .idempotency_key = KEY};
	ReplySource source = {
		.server_name = "s",
		.options = options,
		.request = request_build(&request),
		.idempotency_key = KEY,
		.forgotten = test->forgotten,
		.age = test->age * INT64CONST(1000),
		.now_unix = 1700000000,
	};
	HttpReply *reply = make_reply(test);

	if (test->step == STEP_UNDECODED)
		reply->undecoded = "compressed";
	if (test->step == STEP_JUDGE || test->step == STEP_UNDECODED)
		return reply_judge(&source, reply, remote);
	remote->id = "p1";
	source.remote = remote;
	return test->step == STEP_POLL ? reply_judge_poll(&source, reply)
								   : reply_judge_result(&source, reply);
}

static char *
describe_outputs(const Verdict *verdict)
{
	StringInfoData text;
	ListCell *cell;

	initStringInfo(&text);
	foreach(cell, verdict->outputs)
	{
		const Output *output = lfirst(cell);

		if (output->data != NULL)
			appendStringInfo(&text, " %s:%zu", output->content_type, output->len);
		else
			appendStringInfo(&text, " ?%s", output->url);
	}
	return text.data;
}

static char *
describe(const Verdict *verdict, bool with_answer)
{
	static const char *const kinds[] = {"DONE",  "WAIT",     "FETCH", "RETRY",
										"DEFER", "POSTPONE", "LOST",  "FAIL"};

	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, kinds[verdict->kind]);
	if (verdict->error != NULL)
		appendStringInfo(&text, " error=%s", verdict->error);
	else if (verdict->note != NULL)
		appendStringInfo(&text, " note=%s", verdict->note);
	if (verdict->kind == VERDICT_WAIT)
		appendStringInfo(&text, "%s%s%s", verdict->forgotten ? " forgotten" : "",
						 verdict->remote_state ? " state=" : "",
						 verdict->remote_state ? verdict->remote_state : "");
	if (with_answer && verdict->result != NULL)
		appendStringInfo(&text, " result=%s", verdict->result);
	if (with_answer && verdict->outputs != NIL)
		appendStringInfo(&text, " outputs=%s", describe_outputs(verdict) + 1);
	return text.data;
}

static void
run_cases(const Case *cases, int n, bool with_answer)
{
	int i;

	for (i = 0; i < n; i++)
	{
		Remote remote = {NULL};

		unit_is_text(describe(judge(&cases[i], &remote), with_answer), cases[i].expected, "%s: %s",
					 cases[i].api, cases[i].what);
	}
}

/* ---------- outputs, and what is beside them ---------- */

static const Case outputs[] = {
	{"an empty base64 is like null", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"\",\"url\":\"http://cdn.test/a.png\"}]}", 0,
	 "FETCH result={\"data\":[{\"b64_json\":\"\",\"url\":{\"$output\":1}}]} outputs=?http://cdn.test/a.png"},
	{"an empty URL is like null", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"" PNG_BASE64 "\",\"url\":\"\"}]}", 0,
	 "DONE result={\"data\":[{\"b64_json\":{\"$output\":1},\"url\":\"\"}]} outputs=image/png:8"},
	{"nothing but empty ones is no output", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"\",\"url\":null}]}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /data/*/b64_json /data/*/url; it is kept in the column result. result={\"data\":[{\"b64_json\":\"\",\"url\":null}]}"},
	{"bad base64 stops no other", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"?!\"},{\"url\":\"http://cdn.test/a.png\"}]}", 0,
	 "FETCH error=the answer of server \"s\" has invalid base64 at /data/0/b64_json; it is kept in the column result. result={\"data\":[{\"b64_json\":\"?!\"},{\"url\":{\"$output\":1}}]} outputs=?http://cdn.test/a.png"},
	{"each that is bad is named", "automatic1111", NULL, STEP_JUDGE, 200, NULL,
	 "{\"images\":[\"?!\",\"" PNG_BASE64 "\",\"\",\"!\"]}", 0,
	 "FAIL error=the answer of server \"s\" has invalid base64 at /images/0, /images/3; it is kept in the column result. result={\"images\":[\"?!\",{\"$output\":1},\"\",\"!\"]} outputs=image/png:8"},
	{"a path on the server", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"url\":\"/files/a.png?x=1\"}]}", 0,
	 "FETCH result={\"data\":[{\"url\":{\"$output\":1}}]} outputs=?http://server.test/files/a.png?x=1"},
	{"a path beside the call", "http", "path=/v1/make|output=/file|encoding=url", STEP_JUDGE, 200,
	 NULL, "{\"file\":\"../out/7\"}", 0,
	 "FETCH result={\"file\":{\"$output\":1}} outputs=?http://server.test/x/out/7"},
	{"another host with the same scheme", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"url\":\"//cdn.test/a.png\"}]}", 0,
	 "FETCH result={\"data\":[{\"url\":{\"$output\":1}}]} outputs=?http://cdn.test/a.png"},
	{"words with strokes", "replicate", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"succeeded\",\"output\":[\"/\",\"/or\",\" a/b.c\",\"and/or\"]}", 0,
	 "DONE result={\"status\":\"succeeded\",\"output\":[\"/\",\"/or\",\" a/b.c\",\"and/or\"]}"},
	{"base64 that begins with a stroke", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"b64_json\":\"/9j/4AAQ\"}]}", 0,
	 "DONE result={\"data\":[{\"b64_json\":{\"$output\":1}}]} outputs=image/jpeg:6"},
	{"a data: URL that is text", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"data\":[{\"url\":\"data:image/svg+xml;utf8,%3Csvg xmlns='x'%3E%3C/svg%3E\"}]}", 0,
	 "DONE result={\"data\":[{\"url\":{\"$output\":1}}]} outputs=image/svg+xml:21"},
	{"the same anywhere", "http", NULL, STEP_JUDGE, 200, NULL,
	 "{\"a\":\"data:image/svg+xml,<svg/>\",\"b\":\"data:text/plain,Hi\",\"c\":\"data: a, b\"}", 0,
	 "DONE result={\"a\":{\"$output\":1},\"b\":\"data:text/plain,Hi\",\"c\":\"data: a, b\"} outputs=image/svg+xml:6"},
	{"sound of which the bytes tell nothing", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 "{\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[{\"inlineData\":{\"mimeType\":\"audio/L16;codec=pcm;rate=24000\",\"data\":\"AAECAwQF\"}}]}}]}",
	 0,
	 "DONE result={\"candidates\":[{\"finishReason\":\"STOP\",\"content\":{\"parts\":[{\"inlineData\":{\"mimeType\":\"audio/L16;codec=pcm;rate=24000\",\"data\":{\"$output\":1}}}]}}]} outputs=audio/L16:6"},
	{"a file without a name is none", "http",
	 "output=/files/*|encoding=file:/get?name={name}&dir={dir}", STEP_JUDGE, 200, NULL,
	 "{\"files\":[{\"name\":\"\"},{\"name\":\"a b\",\"dir\":\"\"},{\"dir\":\"x\"}]}", 0,
	 "FETCH result={\"files\":[{\"name\":\"\"},{\"$output\":1},{\"dir\":\"x\"}]} outputs=?http://server.test/x/get?name=a%20b&dir="},
	{"an error beside a link does not lose what is there", "openai-images", NULL, STEP_JUDGE, 200,
	 NULL, "{\"data\":[{\"url\":\"http://cdn.test/a.png\"}],\"error\":\"one was filtered\"}", 0,
	 "FETCH error=server \"s\" answered HTTP 200 with an error inside: one was filtered result={\"data\":[{\"url\":{\"$output\":1}}],\"error\":\"one was filtered\"} outputs=?http://cdn.test/a.png"},
	{"previews beside a picture", "comfyui", NULL, STEP_POLL, 200, NULL,
	 "{\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"images\":[{\"filename\":\"t.png\",\"subfolder\":\"\",\"type\":\"temp\"}]},\"9\":{\"images\":[{\"filename\":\"a.png\",\"subfolder\":\"\",\"type\":\"output\"}],\"animated\":[false]}}}}",
	 0,
	 "FETCH result={\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"images\":[{\"filename\":\"t.png\",\"subfolder\":\"\",\"type\":\"temp\"}]},\"9\":{\"images\":[{\"$output\":1}],\"animated\":[false]}}}} outputs=?http://server.test/x/view?filename=a.png&subfolder=&type=output"},
	{"nothing but previews", "comfyui", NULL, STEP_POLL, 200, NULL,
	 "{\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"images\":[{\"filename\":\"t.png\",\"subfolder\":\"\",\"type\":\"temp\"}]}}}}",
	 0,
	 "FETCH result={\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"images\":[{\"$output\":1}]}}}} outputs=?http://server.test/x/view?filename=t.png&subfolder=&type=temp"},
	{"files of other kinds", "comfyui", NULL, STEP_POLL, 200, NULL,
	 "{\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"3d\":[{\"filename\":\"a.glb\",\"subfolder\":\"\",\"type\":\"output\"}],\"camera\":[null]}}}}",
	 0,
	 "FETCH result={\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"3d\":[{\"$output\":1}],\"camera\":[null]}}}} outputs=?http://server.test/x/view?filename=a.glb&subfolder=&type=output"},
	{"text and no file", "comfyui", NULL, STEP_POLL, 200, NULL,
	 "{\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"text\":[\"a cat\"]}}}}",
	 0,
	 "DONE result={\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"text\":[\"a cat\"]}}}}"},
	{"neither", "comfyui", NULL, STEP_POLL, 200, NULL,
	 "{\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"text\":[\"\"]}}}}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /{id}/outputs/*/text/*; it is kept in the column result. result={\"p1\":{\"status\":{\"status_str\":\"success\"},\"outputs\":{\"7\":{\"text\":[\"\"]}}}}"},
	{"sound in a chat", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 "{\"choices\":[{\"message\":{\"content\":null,\"audio\":{\"data\":\"AAECAwQF\",\"transcript\":\"Hi\"}},\"finish_reason\":\"stop\"}]}",
	 0,
	 "DONE result={\"choices\":[{\"message\":{\"content\":null,\"audio\":{\"data\":{\"$output\":1},\"transcript\":\"Hi\"}},\"finish_reason\":\"stop\"}]} outputs=application/octet-stream:6"},
	{"sound that is streamed", "openai-speech", NULL, STEP_JUDGE, 200,
	 "Content-Type: text/event-stream\r\n",
	 "data: {\"type\":\"speech.audio.delta\",\"audio\":\"SUQzBAA=\"}\n\ndata: {\"type\":\"speech.audio.delta\",\"audio\":\"gIE=\"}\n\ndata: {\"type\":\"speech.audio.done\",\"usage\":{\"total_tokens\":3}}\n\n",
	 0,
	 "DONE result={\"audio\":{\"$output\":1},\"usage\":{\"total_tokens\":3}} outputs=audio/mpeg:7"},
	{"a stream that is a list", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}]}}]},{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"i\"},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":\"iVBORw0KGgo=\"}}]},\"finishReason\":\"STOP\"}]}]",
	 0,
	 "DONE result={\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"},{\"inlineData\":{\"mimeType\":\"image/png\",\"data\":{\"$output\":1}}}]},\"finishReason\":\"STOP\"}]} outputs=image/png:8"},
	{"a list without an end", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}]}}]}]", 0,
	 "FAIL error=the stream of server \"s\" ended before it was complete, as far as its option stream_end tells. It may have been paid for, and is not sent again by itself: what came is kept in gen_outputs. If the server ends its streams otherwise, set stream_end. result={\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}]}}]} outputs=application/json:55"},
	{"a list that is none of a stream's", "http", NULL, STEP_JUDGE, 200, NULL,
	 "[{\"generated_text\":\"Hi\"}]", 0, "DONE result=[{\"generated_text\":\"Hi\"}]"},
};

/* ---------- bodies that are not what they are said to be ---------- */

#define BODY(text) text, sizeof(text) - 1

static const Case bodies[] = {
	{"a picture that is called JSON", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 BODY(PNG "\xff\xfe\0\x80"), "DONE outputs=image/png:12"},
	{"a sound that is called JSON", "openai-speech", NULL, STEP_JUDGE, 200, NULL,
	 BODY("ID3\x04\0\x80\x81"), "DONE outputs=audio/mpeg:7"},
	{"bytes that are called JSON", "http", NULL, STEP_JUDGE, 200, NULL, BODY("\x80\x81\x82"),
	 "FAIL error=the answer of server \"s\" is not valid JSON at byte 1 of 3; it is kept in gen_outputs. Check the server's options api, url and path. outputs=application/octet-stream:3"},
	{"UTF-16, little end first", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 BODY("\xff\xfe{\0\"\0d\0a\0t\0a\0\"\0:\0[\0{\0\"\0b\0"
		  "6\0"
		  "4\0_\0j\0s\0o\0n\0\"\0:\0\"\0i\0V\0B\0O\0R\0w\0"
		  "0\0K\0G\0g\0o\0=\0\"\0}\0]\0}\0"),
	 "DONE result={\"data\":[{\"b64_json\":{\"$output\":1}}]} outputs=image/png:8"},
	{"UTF-16, big end first", "http", NULL, STEP_JUDGE, 200, NULL,
	 BODY("\xfe\xff\0{\0\"\0a\0\"\0:\0\"\0\xe9\xd8\x3d\xde\0\0\"\0}"),
	 "DONE result={\"a\":\"\303\251\360\237\230\200\"}"},
	{"UTF-16 that is no JSON", "openai-images", NULL, STEP_JUDGE, 200, NULL, BODY("\xff\xfeN\0o\0"),
	 "FAIL error=the answer of server \"s\" is not valid JSON at byte 1 of 2; it is kept in gen_outputs. Check the server's options api, url and path. outputs=application/octet-stream:6"},
	{"Latin 1, and it says so", "http", NULL, STEP_JUDGE, 200,
	 "Content-Type: application/json; charset=ISO-8859-1\r\n", BODY("{\"a\":\"caf\xe9\"}"),
	 "DONE result={\"a\":\"caf\303\251\"}"},
	{"Latin 1 that is no JSON", "openai-images", NULL, STEP_JUDGE, 200,
	 "Content-Type: application/json; charset=latin1\r\n", BODY("caf\xe9"),
	 "FAIL error=the answer of server \"s\" is not valid JSON at byte 1 of 5; it is kept in gen_outputs. Check the server's options api, url and path. outputs=application/octet-stream:4"},
	{"what cannot be decompressed", "http", NULL, STEP_UNDECODED, 200, "Content-Encoding: br\r\n",
	 BODY("\x1f\x8b\x80"),
	 "FAIL error=the answer of server \"s\" is compressed; it is kept in gen_outputs. Check the server's options api, url and path. outputs=application/gzip:3"},
};

/* ---------- what a success must have ---------- */

#define CHAT(message, reason) \
	"{\"choices\":[{\"message\":" message ",\"finish_reason\":\"" reason "\"}]}"
#define GEMINI(content, reason) \
	"{\"candidates\":[{\"content\":" content ",\"finishReason\":\"" reason "\"}]}"
#define NOTHING_IN_CHAT \
	"FAIL error=the answer of server \"s\" has no output at /choices/*/message/content /choices/*/message/tool_calls /choices/*/message/function_call /choices/*/message/images /choices/*/message/audio /choices/*/text; it is kept in the column result. The reason that it gives: "
#define NOTHING_IN_GEMINI \
	"FAIL error=the answer of server \"s\" has no output at /candidates/*/content/parts /embedding /embeddings /predictions /totalTokens; it is kept in the column result."

/* The result is the answer itself, and not compared. */
static const Case lacks[] = {
	{"a picture that was blocked", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 "{\"candidates\":[{\"content\":{},\"finishReason\":\"IMAGE_SAFETY\",\"finishMessage\":\"Unsafe.\"}]}",
	 0, "FAIL error=server \"s\" answered IMAGE_SAFETY: Unsafe."},
	{"a picture that was not made", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 GEMINI("{\"parts\":[]}", "NO_IMAGE"), 0, "FAIL error=server \"s\" answered NO_IMAGE."},
	{"a text that was cut for its content", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 GEMINI("{\"parts\":[{\"text\":\"Once\"}]}", "RECITATION"), 0,
	 "DONE note=server \"s\" answered RECITATION."},
	{"a text", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 GEMINI("{\"parts\":[{\"text\":\"Once\"}]}", "STOP"), 0, "DONE"},
	{"a text that is as long as it may be", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 GEMINI("{\"parts\":[{\"text\":\"Once\"}]}", "MAX_TOKENS"), 0, "DONE"},
	{"no candidates", "gemini", NULL, STEP_JUDGE, 200, NULL, "{\"candidates\":[]}", 0,
	 NOTHING_IN_GEMINI},
	{"usage alone", "gemini", NULL, STEP_JUDGE, 200, NULL, "{\"usageMetadata\":{\"a\":1}}", 0,
	 NOTHING_IN_GEMINI},
	{"an empty text", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 GEMINI("{\"parts\":[{\"text\":\"\"}]}", "STOP"), 0,
	 NOTHING_IN_GEMINI " The reason that it gives: STOP"},
	{"a blocked prompt", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}", 0,
	 "FAIL error=server \"s\" answered HTTP 200 with an error inside: SAFETY"},
	{"what a function gives", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 200, NULL,
	 "{\"a\":1}", 0, "DONE"},
	{"a function that failed", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 200,
	 "Content-Type: application/json\r\nX-Amz-Function-Error: Unhandled\r\n",
	 "{\"errorMessage\":\"no such picture\",\"errorType\":\"KeyError\"}", 0,
	 "FAIL error=what server \"s\" ran has failed (Unhandled): no such picture"},
	{"a function that failed without a word", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 200,
	 "X-Amz-Function-Error: Handled\r\n", "", 0,
	 "FAIL error=what server \"s\" ran has failed (Handled)."},
	{"too many calls of a function", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 429,
	 "Content-Type: application/json\r\nx-amzn-ErrorType: TooManyRequestsException\r\n",
	 "{\"Message\":\"Rate Exceeded.\"}", 0,
	 "DEFER error=server \"s\" answered HTTP 429 (TooManyRequestsException): Rate Exceeded."},
	{"vectors", "gemini", "path=/v1beta/models/{model}:embedContent", STEP_JUDGE, 200, NULL,
	 "{\"embedding\":{\"values\":[0.5]}}", 0, "DONE"},
	{"neither text nor tool call", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":null}", "stop"), 0, NOTHING_IN_CHAT "stop"},
	{"an empty text", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":\"\"}", "length"), 0, NOTHING_IN_CHAT "length"},
	{"a refusal", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":null,\"refusal\":\"I cannot.\"}", "stop"), 0, NOTHING_IN_CHAT "I cannot."},
	{"what was filtered", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":\"\"}", "content_filter"), 0,
	 "FAIL error=server \"s\" answered content_filter."},
	{"what was filtered in part", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":\"Once\"}", "content_filter"), 0,
	 "DONE note=server \"s\" answered content_filter."},
	{"a tool call", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":null,\"tool_calls\":[{\"id\":\"a\"}]}", "tool_calls"), 0, "DONE"},
	{"parts", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 CHAT("{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]}", "stop"), 0, "DONE"},
	{"the second choice", "openai-chat", NULL, STEP_JUDGE, 200, NULL,
	 "{\"choices\":[{\"message\":{\"content\":\"\"}},{\"message\":{\"content\":\"Hi\"}}]}", 0,
	 "DONE"},
	{"no vectors", "openai-embeddings", NULL, STEP_JUDGE, 200, NULL, "{\"data\":[]}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /data; it is kept in the column result."},
	{"an empty list", "replicate", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"succeeded\",\"output\":[]}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /output; it is kept in the column result."},
	{"text", "replicate", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"succeeded\",\"output\":[\"a\",\" b\"]}", 0, "DONE"},
	{"a number", "replicate", NULL, STEP_POLL, 200, NULL, "{\"status\":\"succeeded\",\"output\":0}",
	 0, "DONE"},
	{"the option takes it back", "replicate", "requires_output=off", STEP_POLL, 200, NULL,
	 "{\"status\":\"succeeded\",\"output\":null}", 0, "DONE"},
	{"an empty list", "runpod", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"COMPLETED\",\"output\":{\"images\":[]}}", 0,
	 "FAIL error=the answer of server \"s\" has no output at ?/output; it is kept in the column result."},
	{"an endpoint without output", "runpod", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"COMPLETED\",\"executionTime\":5}", 0, "DONE"},
	{"an empty list", "fal", NULL, STEP_RESULT, 200, NULL, "{\"images\":[],\"seed\":7}", 0,
	 "FAIL error=the answer of server \"s\" has no output at ?/images ?/image ?/video ?/audio ?/output; it is kept in the column result."},
	{"text", "fal", NULL, STEP_RESULT, 200, NULL, "{\"text\":\"Hi\",\"chunks\":[]}", 0, "DONE"},
	{"no picture", "stability", NULL, STEP_JUDGE, 200, NULL, "{\"finish_reason\":\"SUCCESS\"}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /image /audio; it is kept in the column result."},
	{"a picture that was filtered", "stability", NULL, STEP_JUDGE, 200, NULL,
	 "{\"finish_reason\":\"CONTENT_FILTERED\",\"image\":\"\"}", 0,
	 "FAIL error=server \"s\" answered CONTENT_FILTERED."},
	{"what is incomplete", "openai-responses", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[{\"type\":\"message\"}]}",
	 0, "DONE note=server \"s\" answered incomplete: max_output_tokens"},
	{"what is incomplete, and nothing", "openai-responses", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"incomplete\",\"incomplete_details\":{\"reason\":\"max_output_tokens\"},\"output\":[]}",
	 0, "FAIL error=server \"s\" answered incomplete: max_output_tokens"},
	{"no tensors", "kserve", NULL, STEP_JUDGE, 200, NULL, "{\"outputs\":[]}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /outputs; it is kept in the column result."},
	{"nothing", "ollama", NULL, STEP_JUDGE, 200, NULL, "{\"response\":\"\",\"done\":true}", 0,
	 "FAIL error=the answer of server \"s\" has no output at ?/response ?/message/content ?/message/tool_calls; it is kept in the column result."},
	{"JSON in place of sound", "openai-speech", NULL, STEP_JUDGE, 200, NULL,
	 "{\"status\":\"queued\"}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /audio; it is kept in the column result."},
	{"a chat that its server ended", "cohere", NULL, STEP_JUDGE, 200, NULL,
	 "{\"message\":{\"content\":[]},\"finish_reason\":\"ERROR\"}", 0,
	 "FAIL error=server \"s\" answered ERROR."},
	{"one that was cut short", "cohere", NULL, STEP_JUDGE, 200, NULL,
	 "{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},\"finish_reason\":\"TIMEOUT\"}",
	 0, "DONE note=server \"s\" answered TIMEOUT."},
	{"a tool alone", "cohere", NULL, STEP_JUDGE, 200, NULL,
	 "{\"message\":{\"tool_plan\":\"I\",\"tool_calls\":[{\"id\":\"t\"}]},\"finish_reason\":\"TOOL_CALL\"}",
	 0, "DONE"},
	{"no text", "tgi", NULL, STEP_JUDGE, 200, NULL, "{\"generated_text\":\"\"}", 0,
	 "FAIL error=the answer of server \"s\" has no output at ?/generated_text; it is kept in the column result."},
	{"places of one's own", "http", "requires_output=/text ?/pictures", STEP_JUDGE, 200, NULL,
	 "{\"text\":\"\"}", 0,
	 "FAIL error=the answer of server \"s\" has no output at /text ?/pictures; it is kept in the column result."},
	{"a state of one's own, a number", "http", "state=/code|states=ok=0;fail=*|reason=/why",
	 STEP_JUDGE, 200, NULL, "{\"code\":1002,\"why\":\"no balance\"}", 0,
	 "FAIL error=server \"s\" answered 1002: no balance"},
	{"no JSON, where only JSON is an answer", "http", "any_answer=off", STEP_JUDGE, 200,
	 "Content-Type: text/plain\r\n", "Hi", 0,
	 "FAIL error=the answer of server \"s\" is not JSON; it is kept in gen_outputs. Check the server's options api, url and path."},
};

/* ---------- states of predictions ---------- */

static const Case states[] = {
	{"aborted", "replicate", NULL, STEP_POLL, 200, NULL, "{\"status\":\"aborted\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"aborted\"."},
	{"in capitals", "replicate", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Failed\",\"error\":\"no\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"Failed\": no"},
	{"in small letters", "runpod", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"completed\",\"output\":1}", 0, "DONE"},
	{"one that is not known", "runpod", NULL, STEP_POLL, 200, NULL, "{\"status\":\"PURGED\"}", 0,
	 "WAIT state=PURGED"},
	{"none", "runpod", NULL, STEP_POLL, 200, NULL, "{\"id\":\"x\"}", 0, "WAIT"},
	{"any other, as the option has it", "http",
	 "reply=poll|remote_id=/id|poll=GET /{id}|state=/status|states=ok=done;run=queued,running;fail=*",
	 STEP_POLL, 200, NULL, "{\"status\":\"purged\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"purged\"."},
	{"but one that runs", "http",
	 "reply=poll|remote_id=/id|poll=GET /{id}|state=/status|states=fail=*;ok=done;run=queued,running",
	 STEP_POLL, 200, NULL, "{\"status\":\"Running\"}", 0, "WAIT state=Running"},
	{"it is not there at first", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0, "WAIT forgotten state=Task not found"},
	{"nor the third time, while it is new", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0, "WAIT forgotten state=Task not found", 9, 29},
	{"the first time later on", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0, "WAIT forgotten state=Task not found", 0, 31},
	{"the third time later on", "bfl", NULL, STEP_POLL, 200, NULL,
	 "{\"status\":\"Task not found\"}", 0,
	 "FAIL error=server \"s\" does not know the prediction p1 any more (\"Task not found\"). It may have been paid for: look for it at the provider before genjob.retry().",
	 2, 31},
	{"by its status, while it is new", "bfl", NULL, STEP_POLL, 404, NULL, "{\"detail\":\"no\"}", 0,
	 "WAIT error=server \"s\" answered HTTP 404: no. Check the server's options api, url and path. forgotten",
	 9, 29},
	{"by its status, later on", "bfl", NULL, STEP_POLL, 404, NULL, "{}", 0,
	 "FAIL error=server \"s\" does not know the prediction p1 any more (HTTP 404). It may have been paid for: look for it at the provider before genjob.retry().",
	 2, 31},
	{"by its status, of others", "replicate", NULL, STEP_POLL, 404, NULL, "{}", 0,
	 "FAIL error=server \"s\" does not know the prediction p1 any more (HTTP 404). It may have been paid for: look for it at the provider before genjob.retry().",
	 2, 0},
	{"an answer that was kept of a failure", "fal", NULL, STEP_RESULT, 503,
	 "X-Fal-Retryable: true\r\nX-Fal-Error-Type: runner_server_error\r\n", "{\"detail\":\"down\"}",
	 0, "RETRY error=server \"s\" answered HTTP 503 (runner_server_error): down."},
	{"one that would fail again", "fal", NULL, STEP_RESULT, 500, "X-Fal-Retryable: false\r\n",
	 "{\"detail\":\"down\"}", 0, "FAIL error=server \"s\" answered HTTP 500: down."},
	{"what stands between", "fal", NULL, STEP_RESULT, 503, "Server: proxy\r\n",
	 "{\"detail\":\"down\"}", 0, "WAIT error=server \"s\" answered HTTP 503: down."},
};

/* ---------- words of success ---------- */

static const Case words[] = {
	{"its own detail", "http", NULL, STEP_JUDGE, 200, NULL, "{\"detail\":\"high\",\"text\":\"Hi\"}",
	 0, "DONE"},
	{"its own details", "http", NULL, STEP_JUDGE, 200, NULL, "{\"detail\":[{\"msg\":\"Hi\"}]}", 0,
	 "DONE"},
	{"its own message", "http", NULL, STEP_JUDGE, 201, NULL,
	 "{\"message\":{\"role\":\"assistant\"}}", 0, "DONE"},
	{"its own message", "huggingface", NULL, STEP_JUDGE, 200, NULL,
	 "{\"message\":\"Hi\",\"detail\":\"x\"}", 0, "DONE"},
	{"its own message, as the option has it", "http", "error=/message /err_msg", STEP_JUDGE, 200,
	 NULL, "{\"message\":\"Hi\"}", 0, "DONE"},
	{"its own name", "stability", "requires_output=off", STEP_JUDGE, 200, NULL, "{\"name\":\"a\"}",
	 0, "DONE"},
	{"an error", "http", NULL, STEP_JUDGE, 200, NULL, "{\"error\":\"no\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 200 with an error inside: no"},
	{"an error that says nothing", "openai-images", NULL, STEP_JUDGE, 200, NULL,
	 "{\"error\":{\"message\":\"\",\"code\":0},\"data\":[{\"b64_json\":\"" PNG_BASE64 "\"}]}", 0,
	 "DONE"},
	{"an error that is false", "http", NULL, STEP_JUDGE, 200, NULL, "{\"error\":false}", 0, "DONE"},
	{"an error of empty things", "http", NULL, STEP_JUDGE, 200, NULL,
	 "{\"error\":[{\"code\":null,\"message\":\"\"}]}", 0, "DONE"},
	{"an error with a code", "http", NULL, STEP_JUDGE, 200, NULL,
	 "{\"error\":{\"message\":\"\",\"code\":\"rate\"}}", 0,
	 "FAIL error=server \"s\" answered HTTP 200 with an error inside: {\"message\":\"\",\"code\":\"rate\"}"},
};

/* ---------- words of refusals ---------- */

static const Case refusals[] = {
	{"a list of one", "gemini", NULL, STEP_JUDGE, 429, NULL,
	 "[{\"error\":{\"code\":429,\"message\":\"Resource has been exhausted\",\"status\":\"RESOURCE_EXHAUSTED\"}}]",
	 0, "DEFER error=server \"s\" answered HTTP 429: Resource has been exhausted."},
	{"TGI's", "tgi", NULL, STEP_JUDGE, 422, NULL,
	 "{\"error\":\"Input validation error: too long\",\"error_type\":\"validation\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 422: Input validation error: too long."},
	{"Cohere's", "cohere", NULL, STEP_JUDGE, 400, NULL,
	 "{\"id\":\"x\",\"message\":\"invalid request: message must be at least 1 token long\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: invalid request: message must be at least 1 token long."},
	{"FastAPI's", "http", NULL, STEP_JUDGE, 422, NULL,
	 "{\"detail\":[{\"loc\":[\"body\",\"steps\"],\"msg\":\"Field required\"}]}", 0,
	 "FAIL error=server \"s\" answered HTTP 422: body.steps: Field required."},
	{"FastAPI's, two of them", "automatic1111", NULL, STEP_JUDGE, 422, NULL,
	 "{\"detail\":[{\"loc\":[\"body\",\"a\",0],\"msg\":\"Field required\"},{\"loc\":[\"query\"],\"msg\":\"too long\"}]}",
	 0, "FAIL error=server \"s\" answered HTTP 422: body.a.0: Field required; query: too long."},
	{"FastAPI's", "fal", NULL, STEP_RESULT, 422, NULL,
	 "{\"detail\":[{\"loc\":[\"body\",\"prompt\"],\"msg\":\"blocked\",\"type\":\"content_policy\"}]}",
	 0, "FAIL error=server \"s\" answered HTTP 422: body.prompt: blocked."},
	{"a detail that is text", "http", NULL, STEP_JUDGE, 400, NULL, "{\"detail\":\"no such voice\"}",
	 0, "FAIL error=server \"s\" answered HTTP 400: no such voice."},
	{"a list of texts", "stability", NULL, STEP_JUDGE, 400, NULL,
	 "{\"id\":\"1\",\"name\":\"bad_request\",\"errors\":[\"prompt: missing\",\"seed: negative\"]}",
	 0, "FAIL error=server \"s\" answered HTTP 400: prompt: missing; seed: negative."},
	{"a list of messages", "http", "error=/errors", STEP_JUDGE, 400, NULL,
	 "{\"errors\":[{\"code\":7003,\"message\":\"no route\"},{\"code\":1,\"message\":\"no key\"}]}",
	 0, "FAIL error=server \"s\" answered HTTP 400: no route; no key."},
	{"AWS's", "http", NULL, STEP_JUDGE, 400, NULL, "{\"message\":\"Malformed input\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: Malformed input."},
	{"AWS's, of Lambda", "http", NULL, STEP_JUDGE, 400, NULL,
	 "{\"Type\":\"User\",\"Message\":\"Bad\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: Bad."},
	{"Google's", "gemini", NULL, STEP_JUDGE, 400, NULL,
	 "{\"error\":{\"code\":400,\"message\":\"Invalid value\",\"details\":[{\"fieldViolations\":[{\"field\":\"a.b\"}]}]}}",
	 0,
	 "FAIL error=server \"s\" answered HTTP 400: Invalid value: {\"fieldViolations\":[{\"field\":\"a.b\"}]}."},
	{"ComfyUI's", "comfyui", NULL, STEP_JUDGE, 400, NULL,
	 "{\"error\":{\"message\":\"Prompt outputs failed validation\"},\"node_errors\":{\"4\":{\"class_type\":\"CheckpointLoaderSimple\",\"errors\":[{\"details\":\"ckpt_name: 'x' not in list\"}]}}}",
	 0,
	 "FAIL error=server \"s\" answered HTTP 400: Prompt outputs failed validation: node 4 (CheckpointLoaderSimple), ckpt_name: 'x' not in list."},
	{"ComfyUI's, of several nodes", "comfyui", NULL, STEP_JUDGE, 400, NULL,
	 "{\"error\":{\"message\":\"No\"},\"node_errors\":{\"4\":{\"class_type\":\"A\",\"errors\":[{\"message\":\"Required input is missing\",\"details\":\"\",\"extra_info\":{\"input_name\":\"model\"}},{\"message\":\"B\",\"details\":\"seed\"}]},\"9\":{\"errors\":[{\"message\":\"C\"}]}}}",
	 0,
	 "FAIL error=server \"s\" answered HTTP 400: No: node 4 (A), model: Required input is missing; B: seed; node 9, C."},
};

/* ---------- outputs that do not come ---------- */

static const struct
{
	const char *what;
	const char *body;
	int given_up;         /* bits: 1 the first, 2 the second ... */
	const char *expected; /* result */
} missing[] = {
	{"none", "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":\"http://h/2\"}]}", 0,
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":{\"$output\":2}}]}"},
	{"the first", "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":\"http://h/2\"}]}", 1,
	 "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":{\"$output\":2}}]}"},
	{"the last", "{\"data\":[{\"url\":\"http://h/1\"},{\"url\":\"http://h/2\"}]}", 2,
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":\"http://h/2\"}]}"},
	{"all", "{\"data\":[{\"url\":\"HTTP://h/\\u0031\"},{\"url\":\"http://h/2\"}]}", 3,
	 "{\"data\":[{\"url\":\"HTTP://h/1\"},{\"url\":\"http://h/2\"}]}"},
	{"beside base64", "{\"data\":[{\"b64_json\":\"" PNG_BASE64 "\",\"url\":\"http://h/1\"}]}", 2,
	 "{\"data\":[{\"b64_json\":{\"$output\":1},\"url\":\"http://h/1\"}]}"},
	{"beside what only looks like a reference",
	 "{\"a\":{\"$output\":1},\"data\":[{\"url\":\"http://h/1\"}],\"z\":{\"$output\":1}}", 1,
	 "{\"a\":{\"$output\":1},\"data\":[{\"url\":\"http://h/1\"}],\"z\":{\"$output\":1}}"},
	{"at a place that looks like a reference",
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":\"http://h/1\"}]}", 1,
	 "{\"data\":[{\"url\":{\"$output\":1}},{\"url\":\"http://h/1\"}]}"},
};

static void
test_missing(void)
{
	int i;

	for (i = 0; i < lengthof(missing); i++)
	{
		Case test = {NULL, "openai-images", NULL, STEP_JUDGE, 200, NULL, missing[i].body};
		Remote remote = {NULL};
		Verdict *verdict = judge(&test, &remote);
		ListCell *cell;
		int bit = 1;

		foreach(cell, verdict->outputs)
		{
			Output *output = lfirst(cell);

			if (missing[i].given_up & bit)
				output->fault = "it is not there.";
			else if (output->data == NULL)
				output->data = "x";
			bit *= 2;
		}
		missing_restore(verdict);
		unit_is_text(verdict->result, missing[i].expected, "missing: %s", missing[i].what);
		unit_ok((missing_describe(verdict) != NULL) == (missing[i].given_up != 0),
				"missing: %s: is told of", missing[i].what);
	}
}

/* ---------- names of predictions ---------- */

static const struct
{
	const char *what;
	const char *api;
	const char *body;
	const char *id;
	const char *note;
} names[] = {
	{"the id that we chose", "comfyui",
	 "{\"prompt_id\":\"" KEY "\",\"number\":1,\"node_errors\":{}}", KEY, NULL},
	{"the id of a server that takes none", "comfyui", "{\"prompt_id\":\"a1\",\"number\":1}", "a1",
	 NULL},
	{"no id", "comfyui", "{\"number\":1}", KEY, NULL},
	{"nodes that are left out", "comfyui",
	 "{\"prompt_id\":\"" KEY
	 "\",\"node_errors\":{\"7\":{\"class_type\":\"SaveImage\",\"errors\":[{\"message\":\"No\",\"details\":\"images\"}]}}}",
	 KEY, "server \"s\" warns: node 7 (SaveImage), No: images"},
	{"a number", "sdcpp", "{\"id\":17,\"status\":\"queued\"}", "17", NULL},
};

static void
test_names(void)
{
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		Case test = {NULL, names[i].api, NULL, STEP_JUDGE, 200, NULL, names[i].body};
		Remote remote = {NULL};
		Verdict *verdict = judge(&test, &remote);

		unit_is_text(remote.id, names[i].id, "%s: %s", names[i].api, names[i].what);
		unit_is_text(verdict->note, names[i].note, "%s: %s: note", names[i].api, names[i].what);
	}
}

/* ---------- what is called then ---------- */

static const struct
{
	const char *what;
	const char *address;
	const char *id;
	const char *url;
	const char *body;
} calls[] = {
	{"a name with strokes", "GET /v1/{id}", "models/veo/operations/7",
	 "http://server.test/x/v1/models/veo/operations/7", NULL},
	{"one that leads elsewhere", "GET /v1/{id}", "../keys", "http://server.test/x/v1/..%2Fkeys",
	 NULL},
	{"one that leads elsewhere further on", "GET /v1/{id}", "a/./b",
	 "http://server.test/x/v1/a%2F.%2Fb", NULL},
	{"one with an empty part", "GET /v1/{id}", "/a", "http://server.test/x/v1/%2Fa", NULL},
	{"one with a query", "GET /v1/{id}", "a?b#c", "http://server.test/x/v1/a%3Fb%23c", NULL},
	{"a POST without a body", "POST /v1/{id}/cancel", "7", "http://server.test/x/v1/7/cancel", "{}"},
	{"a PUT without a body", "PUT /v1/{id}", "7", "http://server.test/x/v1/7", "{}"},
	{"a DELETE", "DELETE /v1/{id}", "7", "http://server.test/x/v1/7", NULL},
};

static void
test_calls(void)
{
	int i;

	for (i = 0; i < lengthof(calls); i++)
	{
		MappingOptions secrets = {.api_key = SECRET};
		RequestSource source = {.options = read_options("http", NULL),
								.secrets = &secrets,
								.request = "{}"};
		Remote remote = {.id = pstrdup(calls[i].id)};
		HttpRequest *http;
		Address address;

		(void) grammar_read_address(calls[i].address, &address);
		http = request_follow(&source, &remote, &address);
		unit_is_text(http->url, calls[i].url, "%s: address", calls[i].what);
		unit_is_text(http->body, calls[i].body, "%s: body", calls[i].what);
	}
	unit_is_text(grammar_fit_addresses("POST /a {}; ?POST /b {}; GET /c", true),
				 "POST /a {}; POST /b {}; GET /c", "all addresses");
	unit_is_text(grammar_fit_addresses("?POST /b {}; POST /a {}; ?GET /c", false), "POST /a {}",
				 "those of a server that takes no id");
}

void
unit_run(void)
{
	test_names();
	test_calls();
	run_cases(outputs, lengthof(outputs), true);
	run_cases(bodies, lengthof(bodies), true);
	run_cases(lacks, lengthof(lacks), false);
	run_cases(states, lengthof(states), false);
	run_cases(words, lengthof(words), false);
	run_cases(refusals, lengthof(refusals), false);
	test_missing();
}

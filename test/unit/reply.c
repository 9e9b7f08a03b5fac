/*
 * reply.c
 *		What answers mean: their outputs, their bodies, what a success must have.
 */
#include "cases.h"

#include "protocol/missing.h"

#define PNG "\x89PNG\r\n\x1a\n"
#define PNG_BASE64 "iVBORw0KGgo="

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
	 "FAIL error=the stream of server \"s\" ended without the last event that its option stream_end describes. It may have been paid for, so genjob does not repeat the call. What came is kept in gen_outputs. If the server ends its streams in another way, set stream_end. result={\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}]}}]} outputs=application/json:55"},
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
	{"a model in three dimensions", "stability", NULL, STEP_JUDGE, 200,
	 "Content-Type: model/gltf-binary\r\n", BODY("glTF\x02\0\0\0\x80"),
	 "DONE outputs=model/gltf-binary:9"},
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
	"FAIL error=the answer of server \"s\" has no output at /choices/*/message/content /choices/*/message/tool_calls /choices/*/message/function_call /choices/*/message/images /choices/*/message/audio /choices/*/text; it is kept in the column result. Its reason: "
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
	 GEMINI("{\"parts\":[{\"text\":\"\"}]}", "STOP"), 0, NOTHING_IN_GEMINI " Its reason: STOP"},
	{"a blocked prompt", "gemini", NULL, STEP_JUDGE, 200, NULL,
	 "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}", 0,
	 "FAIL error=server \"s\" answered HTTP 200 with an error inside: SAFETY"},
	{"what a function gives", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 200, NULL,
	 "{\"a\":1}", 0, "DONE"},
	{"a function that failed", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 200,
	 "Content-Type: application/json\r\nX-Amz-Function-Error: Unhandled\r\n",
	 "{\"errorMessage\":\"no such picture\",\"errorType\":\"KeyError\"}", 0,
	 "FAIL error=the function that server \"s\" ran has failed (Unhandled): no such picture"},
	{"a function that failed without a word", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 200,
	 "X-Amz-Function-Error: Handled\r\n", "", 0,
	 "FAIL error=the function that server \"s\" ran has failed (Handled)."},
	{"too many calls of a function", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 429,
	 "Content-Type: application/json\r\nx-amzn-ErrorType: TooManyRequestsException\r\n",
	 "{\"Message\":\"Rate Exceeded.\"}", 0,
	 "DEFER error=server \"s\" answered HTTP 429 (TooManyRequestsException): Rate Exceeded."},
	{"a function that EC2 throttles", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 502,
	 "x-amzn-ErrorType: EC2ThrottledException\r\n", "{\"Message\":\"not now\"}", 0,
	 "DEFER error=server \"s\" answered EC2ThrottledException: not now."},
	{"a network that has no room for a function", "aws-lambda", "region=eu-central-1", STEP_JUDGE,
	 502,
	 "x-amzn-ErrorType: com.amazonaws.lambda#ENILimitReachedException:http://internal.amazon.com/a#b\r\n",
	 "{\"Message\":\"not now\"}", 0,
	 "RETRY error=server \"s\" answered ENILimitReachedException: not now."},
	{"a file system that fails for a moment", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 410,
	 "x-amzn-ErrorType: EFSIOException\r\n", "{\"Message\":\"not now\"}", 0,
	 "RETRY error=server \"s\" answered EFSIOException: not now."},
	{"a key of a function that is off", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 502,
	 "x-amzn-ErrorType: KMSDisabledException\r\n", "{\"Message\":\"not now\"}", 0,
	 "FAIL error=server \"s\" answered KMSDisabledException: not now."},
	{"a 502 of a proxy before Lambda", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 502,
	 "x-amzn-ErrorType: \r\n", "{\"Message\":\"not now\"}", 0,
	 "RETRY error=server \"s\" answered HTTP 502: not now."},
	{"a type with a namespace", "aws-lambda", "region=eu-central-1", STEP_JUDGE, 403,
	 "x-amzn-ErrorType: com.amazonaws.coral.service#ExpiredTokenException:\r\n",
	 "{\"Message\":\"not now\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 403 (ExpiredTokenException): not now. Renew session_token, with its keys, in the user mapping."},
	{"throttled by a 400", "aws-sfn", "region=eu-central-1|model=arn", STEP_JUDGE, 400, NULL,
	 "{\"__type\":\"com.amazonaws.swf.base.model#ThrottlingException\",\"message\":\"Rate exceeded\"}",
	 0, "DEFER error=server \"s\" answered ThrottlingException: Rate exceeded."},
	{"throttled by a 403", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 403, NULL,
	 "{\"__type\":\"com.amazonaws.sqs#RequestThrottled\",\"message\":\"Rate exceeded\"}", 0,
	 "DEFER error=server \"s\" answered RequestThrottled: Rate exceeded."},
	{"too many messages, by a 403", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 403, NULL,
	 "{\"__type\":\"com.amazonaws.sqs#OverLimit\",\"message\":\"Over limit\"}", 0,
	 "DEFER error=server \"s\" answered OverLimit: Over limit."},
	{"a key's service throttles", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 400, NULL,
	 "{\"__type\":\"KMS.ThrottlingException\",\"message\":\"not now\"}", 0,
	 "DEFER error=server \"s\" answered KMS.ThrottlingException: not now."},
	{"a throttle that botocore knows", "aws-sfn", "region=eu-central-1|model=arn", STEP_JUDGE, 400,
	 NULL, "{\"__type\":\"LimitExceededException\",\"message\":\"not now\"}", 0,
	 "DEFER error=server \"s\" answered LimitExceededException: not now."},
	{"a time that was up", "aws-sfn", "region=eu-central-1|model=arn", STEP_JUDGE, 400, NULL,
	 "{\"__type\":\"RequestTimeoutException\",\"message\":\"not now\"}", 0,
	 "RETRY error=server \"s\" answered RequestTimeoutException: not now."},
	{"a queue that is not there, by its old name", "aws-sqs", "region=eu-central-1|model=q",
	 STEP_JUDGE, 400, NULL,
	 "{\"__type\":\"AWS.SimpleQueueService.NonExistentQueue\",\"message\":\"gone\"}", 0,
	 "FAIL error=server \"s\" answered AWS.SimpleQueueService.NonExistentQueue: gone. Check the server's options model, url and region."},
	{"an address that is none", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 404, NULL,
	 "{\"__type\":\"com.amazonaws.sqs#InvalidAddress\",\"message\":\"no queue\"}", 0,
	 "FAIL error=server \"s\" answered InvalidAddress: no queue. Check the server's options model, url and region."},
	{"a proxy's 502 with a type", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 502, NULL,
	 "{\"__type\":\"InternalFailure\",\"message\":\"cut\"}", 0,
	 "RETRY error=server \"s\" answered InternalFailure: cut."},
	{"a function's queue that is throttled by a 400", "aws-lambda", "region=eu-central-1",
	 STEP_JUDGE, 400, "x-amzn-ErrorType: ThrottlingException\r\n", "{\"message\":\"Rate exceeded\"}",
	 0, "DEFER error=server \"s\" answered ThrottlingException: Rate exceeded."},
	{"an execution of a function that has begun", "aws-lambda", "region=eu-central-1", STEP_JUDGE,
	 409, "x-amzn-ErrorType: DurableExecutionAlreadyStartedException\r\n",
	 "{\"Message\":\"another payload\"}", 0,
	 "FAIL error=server \"s\" answered DurableExecutionAlreadyStartedException: another payload."},
	{"a wrong signature by a 400", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 400, NULL,
	 "{\"__type\":\"InvalidSignatureException\",\"message\":\"Credential should be scoped to a valid region.\"}",
	 0,
	 "FAIL error=server \"s\" answered InvalidSignatureException: Credential should be scoped to a valid region. Check the server's options region and service."},
	{"a clock that is off", "aws-sqs", "region=eu-central-1|model=q", STEP_JUDGE, 403,
	 "x-amzn-ErrorType: InvalidSignatureException:http://internal.amazon.com/\r\n",
	 "{\"message\":\"Signature expired: a is now earlier than b\"}", 0,
	 "FAIL error=server \"s\" answered InvalidSignatureException: Signature expired: a is now earlier than b. Set the clock of the machine on which PostgreSQL runs: it is off by more than AWS allows."},
	{"another error by a 400", "aws-sfn", "region=eu-central-1|model=arn", STEP_JUDGE, 400, NULL,
	 "{\"__type\":\"InvalidExecutionInput\",\"message\":\"no JSON\"}", 0,
	 "FAIL error=server \"s\" answered InvalidExecutionInput: no JSON."},
	{"a 400 of a proxy", "aws-sfn", "region=eu-central-1|model=arn", STEP_JUDGE, 400, NULL,
	 "<html>", 0, "FAIL error=server \"s\" answered HTTP 400: (an HTML page)."},
	{"an output that is no JSON", "aws-sfn", "region=eu-central-1|model=arn", STEP_POLL, 200, NULL,
	 "{\"status\":\"SUCCEEDED\",\"output\":\"plain\"}", 0, "DONE"},
	{"an execution that failed", "aws-sfn", "region=eu-central-1|model=arn", STEP_POLL, 200, NULL,
	 "{\"status\":\"FAILED\",\"error\":\"E\",\"cause\":\"because\"}", 0,
	 "FAIL error=server \"s\" ended the prediction as \"FAILED\": E: because"},
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
		Verdict *verdict = cases_judge(&test, &remote);
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

void
unit_run(void)
{
	cases_run(outputs, lengthof(outputs), true);
	cases_run(bodies, lengthof(bodies), true);
	cases_run(lacks, lengthof(lacks), false);
	cases_run(words, lengthof(words), false);
	test_missing();
}

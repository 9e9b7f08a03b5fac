/*
 * storerefusal.c
 *		What is said when an object store refuses: each names the setting that is wrong, or the next step.  And that an
 *		ETag is taken as it comes.
 */
#include "cases.h"
#include "replies.h"

#include "utils/memutils.h"

#define NOW INT64CONST(1795687200) /* 2026-11-26 10:00:00 GMT */
#define XML(code, message) \
	"<?xml version=\"1.0\"?><Error><Code>" code "</Code><Message>" message "</Message></Error>"

typedef struct Refusal
{
	const char *code;
	int status;
	const char *headers; /* NULL: none */
	const char *body;    /* NULL: XML with the code */
	VerdictKind kind;
	const char *advice; /* the end of the error */
} Refusal;

static const Refusal refusals[] = {
	/* keys */
	{"SignatureDoesNotMatch", 403, NULL, NULL, VERDICT_FAIL,
	 " Check secret_access_key in the user mapping. Some stores say so of a wrong access_key_id, too."},
	{"InvalidAccessKeyId", 403, NULL, NULL, VERDICT_FAIL,
	 " Check access_key_id in the user mapping."},
	{"ExpiredToken", 400, NULL, NULL, VERDICT_FAIL, " Renew the keys in the user mapping."},
	{"InvalidToken", 400, NULL, NULL, VERDICT_FAIL, " Check session_token in the user mapping."},
	{"AccessDenied", 403, NULL, NULL, VERDICT_FAIL,
	 " A store says so of an object that is not there, too, if the key may not list the bucket."},
	{"a proxy's", 403, "Content-Type: text/plain\r\n", "", VERDICT_FAIL,
	 " Check the keys in the user mapping, and their permissions."},

	/* clocks */
	{"RequestTimeTooSkewed", 403, "Date: Thu, 26 Nov 2026 11:00:00 GMT\r\n", NULL, VERDICT_FAIL,
	 " Set this machine's clock: it is 3600 s behind that of the store."},
	{"RequestTimeTooSkewed", 403, "Date: Thu, 26 Nov 2026 09:00:00 GMT\r\n", NULL, VERDICT_FAIL,
	 " Set this machine's clock: it is 3600 s ahead of that of the store."},
	{"RequestTimeTooSkewed", 403, NULL, NULL, VERDICT_FAIL, " Set this machine's clock."},
	{"RequestExpired", 400, "Date: yesterday\r\n", NULL, VERDICT_FAIL, " Set this machine's clock."},

	/* places */
	{"AuthorizationHeaderMalformed", 400, NULL, NULL, VERDICT_FAIL,
	 " Set the server's option region."},
	{"AuthorizationHeaderMalformed", 400, "x-amz-bucket-region: eu-central-1\r\n", NULL,
	 VERDICT_FAIL, " Set the server's option region to eu-central-1."},
	{"PermanentRedirect", 301, "x-amz-bucket-region: eu-west-1\r\n", NULL, VERDICT_FAIL,
	 " Set the server's option region to eu-west-1."},
	{"AuthorizationHeaderMalformed", 400, NULL,
	 "<Error><Code>AuthorizationHeaderMalformed</Code><Message>words</Message><Region>eu-west-2</Region></Error>",
	 VERDICT_FAIL, " Set the server's option region to eu-west-2."},
	{"AuthorizationHeaderMalformed", 400, NULL,
	 "<Error><Code>AuthorizationHeaderMalformed</Code><Message>words</Message><Region>eu' x</Region></Error>",
	 VERDICT_FAIL, " Set the server's option region."},
	{"TemporaryRedirect", 307,
	 "Location: https://pictures.s3.eu-west-1.amazonaws.com/in\r\nx-amz-bucket-region: eu-west-1\r\n",
	 NULL, VERDICT_RETRY, " Set the server's option region to eu-west-1."},
	{"ConditionalRequestConflict", 409, NULL, NULL, VERDICT_RETRY,
	 "ConditionalRequestConflict: words."},
	{"PermanentRedirect", 301, "x-amz-bucket-region: no' region\r\n", NULL, VERDICT_FAIL,
	 " Set the server's options url and region to those of the bucket."},
	{"NoSuchBucket", 404, NULL, NULL, VERDICT_FAIL,
	 " Create it, or check the server's option bucket, and that its option url has no path."},
	{"InvalidBucketName", 400, NULL, NULL, VERDICT_FAIL,
	 " Check the server's option bucket, and that its option url has no path."},
	{"AuthorizationHeaderMalformed", 400, NULL,
	 XML("AuthorizationHeaderMalformed", "incorrect service \"lambda\""), VERDICT_FAIL,
	 " Leave out the server's option service."},
	{"NoSuchKey", 404, NULL, NULL, VERDICT_FAIL,
	 " a job {\"list\": \"prefix\"} says which keys there are."},
	{"InvalidRange", 416, NULL, NULL, VERDICT_FAIL,
	 " The object is shorter than the range in the request."},

	/* what is no store */
	{"a web server's", 404, "Content-Type: text/html\r\n", "<html><title>Not found</title></html>",
	 VERDICT_FAIL, " This is no answer of a store that speaks S3: check the server's option url."},
	{"an api's", 404, "Content-Type: application/json\r\n", "{\"error\": \"no such route\"}",
	 VERDICT_FAIL, " This is no answer of a store that speaks S3: check the server's option url."},
	{"a web server's", 405, "Content-Type: text/plain\r\n", "Method not allowed", VERDICT_FAIL,
	 " This is no answer of a store that speaks S3: check the server's option url."},
	{"MethodNotAllowed", 405, NULL, NULL, VERDICT_FAIL,
	 " Check that the server's option url is that of a store that speaks S3."},
	{"a gateway's", 502, "Content-Type: text/html\r\n", "<html><title>Bad gateway</title></html>",
	 VERDICT_RETRY, "."},

	/* what the store cannot do will not pass */
	{"NotImplemented", 501, NULL, NULL, VERDICT_FAIL, "NotImplemented: words."},
	{"InvalidStorageClass", 400, NULL, NULL, VERDICT_FAIL,
	 " Check the server's option put_headers."},
	{"AccessControlListNotSupported", 400, NULL, NULL, VERDICT_FAIL,
	 " Take the ACL out of the server's option put_headers."},

	{"no word", 404, "Content-Type: text/plain\r\n", "", VERDICT_FAIL, " There is no such object."},
	{"EntityTooLarge", 400, NULL, NULL, VERDICT_FAIL,
	 " It is more than the store takes in one piece."},

	{"InvalidObjectState", 403, NULL, NULL, VERDICT_FAIL,
	 " Restore the object from its storage class first."},
	{"QuotaExceeded", 403, NULL, NULL, VERDICT_FAIL, " Make room in the store, or raise its quota."},
	{"PreconditionFailed", 412, NULL, NULL, VERDICT_FAIL,
	 " The object that is there does not meet a condition: take headers such as If-None-Match out of the options of the server and of the user mapping, or ask who sets it for the bucket."},

	/* of the moment */
	{"SlowDown", 503, NULL, NULL, VERDICT_RETRY, "SlowDown: words."},
	{"InternalError", 500, NULL, NULL, VERDICT_RETRY, "InternalError: words."},
	{"RequestTimeout", 400, NULL, NULL, VERDICT_RETRY, "RequestTimeout: words."},
	{"BadDigest", 400, NULL, NULL, VERDICT_RETRY, "BadDigest: words."},
};

static void
test_refusal(const Refusal *refusal)
{
	ServerOptions *options = cases_options("s3", "bucket=pictures|region=us-east-1");
	MappingOptions secrets = {.access_key_id = "AKIDEXAMPLE", .secret_access_key = "unknown"};
	RequestSource request = {.options = options,
							 .secrets = &secrets,
							 .request = "{\"get\": \"in/cat.png\"}",
							 .idempotency_key = "a",
							 .now_unix = NOW};
	ReplySource source = {.server_name = "s",
						  .options = options,
						  .request = request_build(&request),
						  .now_unix = NOW};
	const char *body = refusal->body ? refusal->body : psprintf(XML("%s", "words"), refusal->code);
	HttpReply *reply =
		replies_make(refusal->status, refusal->headers ? refusal->headers : "", body);
	Remote remote = {NULL};
	Verdict *verdict = reply_judge(&source, reply, &remote);
	const char *error;
	size_t len = strlen(refusal->advice);

	error = verdict->error ? verdict->error : "";
	unit_is_int(verdict->kind, refusal->kind, "%s, HTTP %d: what becomes of it", refusal->code,
				refusal->status);
	unit_is_text(strlen(error) > len ? error + strlen(error) - len : error, refusal->advice,
				 "%s, HTTP %d: what is to be done", refusal->code, refusal->status);
}

/*
 * Returns the verdict on a PUT that succeeds with these headers.
 */
static Verdict *
judge_put(const char *headers)
{
	ServerOptions *options = cases_options("s3", "bucket=pictures|region=us-east-1");
	MappingOptions secrets = {.access_key_id = "AKIDEXAMPLE", .secret_access_key = "unknown"};
	Input input = {"abc", 3};
	RequestSource request = {.options = options,
							 .secrets = &secrets,
							 .request = "{\"put\": \"in/cat.png\"}",
							 .inputs = &input,
							 .n_inputs = 1,
							 .idempotency_key = "a",
							 .now_unix = NOW};
	ReplySource source = {.server_name = "s",
						  .options = options,
						  .request = request_build(&request),
						  .now_unix = NOW};
	HttpReply *reply = replies_make(200, headers, "");
	Remote remote = {NULL};

	return reply_judge(&source, reply, &remote);
}

/*
 * A web server may answer any PUT with a page and HTTP 200; it has no object.
 */
static void
test_no_etag(const char *headers)
{
	Verdict *verdict = judge_put(headers);

	unit_is_int(verdict->kind, VERDICT_RETRY, "a success without an ETag is none: %s", headers);
	unit_ok(verdict->error != NULL && strstr(verdict->error, "an ETag of the object") != NULL,
			"... and says so: %s", verdict->error ? verdict->error : "nothing");
}

/*
 * An ETag is the store's own word: of an object that was encrypted, or came in parts, it is no MD5.
 */
static void
test_etag(const char *etag)
{
	Verdict *verdict = judge_put(psprintf("ETag: \"%s\"\r\n", etag));

	unit_is_int(verdict->kind, VERDICT_DONE, "an object with the ETag %s is stored", etag);
	unit_ok(verdict->result != NULL && strstr(verdict->result, etag) != NULL,
			"... and the result has it: %s", verdict->result ? verdict->result : "nothing");
}

void
unit_run(void)
{
	static const char *const etags[] = {"900150983cd24fb0d6963f7d28e17f72",
										"9b2cf535f27731c974343645a3985328-12", "0x8D4BCC2E4835CD0",
										"of its own making"};
	int i;

	for (i = 0; i < lengthof(refusals); i++)
		test_refusal(&refusals[i]);
	for (i = 0; i < lengthof(etags); i++)
		test_etag(etags[i]);
	test_no_etag("Content-Type: text/html\r\n");
	test_no_etag("ETag: \r\n");
}

/*
 * awsjson.c
 *		AWS's JSON protocol: SQS, Step Functions.  A header names the action.
 *		The job's request is JSON inside a string.  A refusal says by its type
 *		what its status, nearly always 400, does not.  Nor does the status of
 *		Lambda, for some of its types.
 *
 * Pure.  Sources:
 * https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html; for error
 * types the API references of Step Functions, SQS and Lambda's Invoke, and
 * AWS's "Common errors"; and what botocore takes for throttling
 * (retries/standard.py).
 */
#include "postgres.h"

#include "base/digest.h"
#include "http/header.h"
#include "protocol/awsjson.h"
#include "protocol/building.h"
#include "server/pointer.h"

#define MAX_REFUSAL 65536 /* bytes; the type of a larger refusal is not read */
#define MAX_TYPE 100      /* bytes of an error's type */
#define MAX_GROUP_LEN 128 /* of a MessageGroupId */
#define MAX_ARN 512
#define TYPE_LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"
#define GROUP_LETTERS TYPE_LETTERS "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~"

/* ---------- requests ---------- */

/*
 * Sets the headers that name the action; action NULL: the one that submits.
 */
void
awsjson_set_headers(HttpRequest *http, const Preset *preset, const char *action)
{
	const char *dot = strchr(preset->target, '.');
	char *target = action
					   ? psprintf("%.*s.%s", (int) (dot - preset->target), preset->target, action)
					   : pstrdup(preset->target);

	headers_set(http, "X-Amz-Target", target, NULL);
	headers_set(http, "Content-Type", pstrdup("application/x-amz-json-1.0"), NULL);
}

/*
 * Returns the action at the start of *body, which is an address of the preset,
 * palloc'd; moves *body behind the action.
 */
char *
awsjson_take_action(const char **body)
{
	size_t len = strspn(*body, TYPE_LETTERS);
	char *action = pnstrdup(*body, len);

	*body += len;
	return action;
}

static void
set_missing(cJSON *params, const char *place, const char *text)
{
	if (pointer_first(params, place) == NULL)
		pointer_set(params, place, json_create_string(pstrdup(text)));
}

/*
 * Returns the group in which a FIFO queue keeps messages in order: the job's
 * tenant, or a digest of it if AWS allows no group of that name.
 */
static const char *
group_of(const RequestSource *source)
{
	const char *tenant = source->tenant ? source->tenant : "";
	size_t len = strlen(tenant);

	if (len > 0 && len <= MAX_GROUP_LEN && strspn(tenant, GROUP_LETTERS) == len)
		return tenant;
	return digest_sha256_hex(tenant, len);
}

/*
 * True if the string that the request gives can be sent as it is.
 */
static bool
is_text(const Preset *preset, const cJSON *given)
{
	const char *reason;

	if (given == NULL || !cJSON_IsString(given))
		return false;
	return !preset->text_is_json ||
		   json_parse(pstrdup(given->valuestring), strlen(given->valuestring), &reason) != NULL;
}

/*
 * Turns the job's request into a string, and adds what names the call, so that
 * a repeated call counts as the same one.
 */
void
awsjson_fill(const RequestSource *source, cJSON *params)
{
	const ServerOptions *options = source->options;
	const Preset *preset = options->preset;
	const char *key = source->idempotency_key;
	cJSON *given = pointer_first(params, preset->text_at);

	if (!is_text(preset, given))
	{
		char *text = given ? json_print(given) : pstrdup("{}");

		pointer_set(params, preset->text_at, json_create_string(text));
	}
	/*
	 * overwrite the user's name: it might be that of someone else's execution,
	 * and this job would get its output
	 */
	if (preset->key_at != NULL && key != NULL)
		pointer_set(params, preset->key_at, json_create_string(pstrdup(key)));
	/* overwrite the user's model: the server's keys may give access to more */
	if (options->model != NULL && options->protocol.model_at != NULL)
		pointer_set(params, options->protocol.model_at,
					json_create_string(pstrdup(options->model)));
	if (!preset->has_groups || options->model == NULL || strlen(options->model) < strlen(".fifo") ||
		strcmp(options->model + strlen(options->model) - strlen(".fifo"), ".fifo") != 0)
		return;
	set_missing(params, "/MessageGroupId", group_of(source));
	if (key != NULL)
		set_missing(params, "/MessageDeduplicationId", key);
}

/* ---------- refusals ---------- */

/* The status that says best what an error type means. */
typedef struct TypeStatus
{
	const char *type;
	int status;
} TypeStatus;

static const TypeStatus types[] = {
	{"ThrottlingException", 429},
	{"Throttling", 429},
	{"ThrottledException", 429},
	{"RequestThrottled", 429},
	{"RequestThrottledException", 429},
	{"TooManyRequestsException", 429},
	{"RequestLimitExceeded", 429},
	{"ExecutionLimitExceeded", 429},
	{"KmsThrottled", 429},
	{"KmsThrottlingException", 429},
	{"KMS.ThrottlingException", 429},
	{"OverLimit", 429},
	{"BandwidthLimitExceeded", 429},
	{"LimitExceededException", 429},
	{"PriorRequestNotComplete", 429},
	{"ProvisionedThroughputExceededException", 429},
	{"TransactionInProgressException", 429},
	{"EC2ThrottledException", 429},
	{"SlowDown", 503},
	{"ServiceUnavailable", 503},
	{"ServiceUnavailableException", 503},
	{"InternalFailure", 500},
	{"InternalServerError", 500},
	{"InternalError", 500},
	{"RequestTimeout", 408},
	{"RequestTimeoutException", 408},
	{"AccessDenied", 403},
	{"AccessDeniedException", 403},
	{"ExpiredToken", 403},
	{"ExpiredTokenException", 403},
	{"IncompleteSignature", 403},
	{"IncompleteSignatureException", 403},
	{"InvalidClientTokenId", 403},
	{"InvalidSecurity", 403},
	{"InvalidSignatureException", 403},
	{"MissingAuthenticationToken", 403},
	{"MissingAuthenticationTokenException", 403},
	{"NotAuthorized", 403},
	{"OptInRequired", 403},
	{"RequestExpired", 403},
	{"SignatureDoesNotMatch", 403},
	{"UnrecognizedClientException", 403},
	{"AWS.SimpleQueueService.NonExistentQueue", 404},
	{"ExecutionDoesNotExist", 404},
	{"InvalidAddress", 404},
	{"QueueDoesNotExist", 404},
	{"ResourceNotFoundException", 404},
	{"StateMachineDoesNotExist", 404},
};

/*
 * The types of Lambda whose own status misleads: 502 would mean that the
 * function may have run, 410 that it is gone, and 409 that it is at work.
 * With none of them this call has run it.
 */
static const TypeStatus function_types[] = {
	{"EC2ThrottledException", 429},
	{"ThrottlingException", 429},
	{"EC2UnexpectedException", 500},
	{"EFSIOException", 500},
	{"ENILimitReachedException", 500},
	{"ResourceNotReadyException", 500},
	{"SubnetIPAddressLimitReachedException", 500},
	{"DurableExecutionAlreadyStartedException", 400}, /* with another payload */
	{"EC2AccessDeniedException", 400},
	{"InvalidRuntimeException", 400},
	{"InvalidSecurityGroupIDException", 400},
	{"InvalidSubnetIDException", 400},
	{"InvalidZipFileException", 400},
	{"KMSAccessDeniedException", 400},
	{"KMSDisabledException", 400},
	{"KMSInvalidStateException", 400},
	{"KMSNotFoundException", 400},
};

/*
 * Returns the status for a type, or 0.
 */
static int
status_of_type(const TypeStatus *table, int n, const char *type)
{
	int i;

	for (i = 0; type != NULL && i < n; i++)
	{
		if (strcmp(table[i].type, type) == 0)
			return table[i].status;
	}
	return 0;
}

/*
 * Returns the first of these members of a refusal's body that is a string and
 * not empty, palloc'd; NULL if there is none.  Parses a copy, because parsing
 * overwrites its input.
 */
static char *
string_at(const HttpReply *reply, const char *const *names, int n)
{
	size_t len = reply->body->len;
	const char *reason;
	cJSON *json = NULL;
	int i;

	if (len > 0 && len <= MAX_REFUSAL)
	{
		char *copy = palloc(len + 1);

		/* not pnstrdup(), which would stop at a NUL */
		memcpy(copy, reply->body->data, len);
		copy[len] = '\0';
		json = json_parse_answer(copy, len, &reason);
	}
	for (i = 0; json != NULL && i < n; i++)
	{
		const cJSON *node = cJSON_GetObjectItemCaseSensitive(json, names[i]);

		if (cJSON_IsString(node) && *node->valuestring != '\0')
			return pstrdup(node->valuestring);
	}
	return NULL;
}

/*
 * Cuts the name of an error type, of TYPE_LETTERS, out of what the server
 * gives: "namespace#Name:URI".  Returns NULL if nothing is left.
 */
static char *
cut_type(char *text)
{
	char *hash;

	text[strcspn(text, ":")] = '\0';
	hash = strrchr(text, '#');
	text = hash ? hash + 1 : text;
	text[Min(strspn(text, TYPE_LETTERS), MAX_TYPE)] = '\0';
	return *text != '\0' ? text : NULL;
}

/*
 * Returns the name of an error type that the preset's header error_type gives;
 * NULL if there is none.  Do not pfree it: it may point into a longer text.
 */
char *
awsjson_header_type(const ServerOptions *options, const HttpReply *reply)
{
	const char *header = options->preset->error_type;
	char *text = header ? header_find(reply, header) : NULL;

	return text ? cut_type(text) : NULL;
}

/*
 * Returns the type of an error if it says more than the status; else NULL.  Do
 * not pfree it: it may point into a longer text.
 */
char *
awsjson_error_type(const ServerOptions *options, const HttpReply *reply)
{
	static const char *const names[] = {"__type", "code"};
	char *type;

	if (reply->status < 400)
		return NULL;
	if (options->preset->target == NULL)
	{
		type = awsjson_header_type(options, reply);
		return status_of_type(function_types, lengthof(function_types), type) != 0 ? type : NULL;
	}
	type = header_find(reply, "x-amzn-ErrorType");
	if (type == NULL)
		type = string_at(reply, names, lengthof(names));
	return type ? cut_type(type) : NULL;
}

/*
 * True if the status of a server's refusals may have to be read from their
 * type.
 */
bool
awsjson_types_count(const ServerOptions *options)
{
	return options->preset->target != NULL || options->preset->error_type != NULL;
}

/*
 * Replaces the status of a refusal by the one that says what the error's type
 * means.  In the JSON protocol, a 4xx says less than the type: SQS's model has
 * RequestThrottled as 403.  A 5xx stays: 502 means that the call may have been
 * accepted.  The user's option retry_status is about Lambda's own statuses.
 */
void
awsjson_read_status(const ServerOptions *options, HttpReply *reply)
{
	bool is_json = options->preset->target != NULL;
	bool is_read =
		is_json ? reply->status >= 400 && reply->status < 500 : options->retry_status == NULL;
	char *type;
	int status;

	if (reply->error != HTTP_OK || !is_read)
		return;
	type = awsjson_error_type(options, reply);
	status = is_json ? status_of_type(types, lengthof(types), type)
					 : status_of_type(function_types, lengthof(function_types), type);
	if (status != 0)
		reply->status = status;
}

static bool
is_one_of(const char *type, const char *const *of)
{
	for (; *of != NULL; of++)
	{
		if (strcmp(*of, type) == 0)
			return true;
	}
	return false;
}

/*
 * Returns advice on an error of that type with these words, as a sentence
 * after a blank; NULL if we have none.
 */
const char *
awsjson_advice(const char *type, const char *words)
{
	static const char *const keys[] = {"UnrecognizedClientException", "InvalidClientTokenId",
									   "MissingAuthenticationTokenException", NULL};
	static const char *const tokens[] = {"ExpiredToken", "ExpiredTokenException", NULL};
	static const char *const denials[] = {"AccessDenied", "AccessDeniedException",
										  "KmsAccessDenied", "KmsAccessDeniedException", NULL};
	static const char *const signatures[] = {"InvalidSignatureException", "SignatureDoesNotMatch",
											 "RequestExpired", NULL};
	static const char *const absences[] = {"QueueDoesNotExist",
										   "AWS.SimpleQueueService.NonExistentQueue",
										   "InvalidAddress",
										   "StateMachineDoesNotExist",
										   "ResourceNotFoundException",
										   NULL};

	if (is_one_of(type, keys))
		return " Check access_key_id in the user mapping.";
	if (is_one_of(type, tokens))
		return " Renew session_token, with its keys, in the user mapping.";
	if (is_one_of(type, denials))
		return " Give the owner of the keys in the user mapping permission for the action.";
	if (is_one_of(type, absences))
		return " Check the server's options model, url and region.";
	if (!is_one_of(type, signatures))
		return NULL;
	if (strstr(words, "expired") != NULL || strstr(words, "not yet current") != NULL)
		return " Set the clock of the machine on which PostgreSQL runs: it is off by more than AWS allows.";
	if (strstr(words, "scoped") != NULL)
		return " Check the server's options region and service.";
	return " Check secret_access_key in the user mapping.";
}

/*
 * If a refusal says that an earlier call with this name was accepted, returns
 * the id of what that call began, palloc'd; else NULL.
 */
char *
awsjson_known_id(const ServerOptions *options, const HttpReply *reply)
{
	static const char *const names[] = {"message", "Message"};
	const char *known_by = options->preset->known_by;
	char *type = known_by ? awsjson_error_type(options, reply) : NULL;
	char *words;
	char *arn;
	size_t len;

	if (type == NULL || strcmp(type, known_by) != 0)
		return NULL;
	words = string_at(reply, names, lengthof(names));
	arn = words ? strstr(words, "arn:") : NULL;
	len = arn ? strcspn(arn, "'\" ") : 0;
	arn = len > 0 && len <= MAX_ARN ? pnstrdup(arn, len) : NULL;
	/* of a standard or an express workflow; what we cannot ask about is none */
	return arn && (strstr(arn, ":execution:") || strstr(arn, ":express:")) ? arn : NULL;
}

/*
 * Returns the answer that a server gives as JSON inside a string, parsed, in
 * the current memory context; json itself if there is no such string.
 */
cJSON *
awsjson_answer(const ServerOptions *options, cJSON *json)
{
	const char *place = options->preset->answer_text_at;
	const cJSON *node = place ? pointer_first(json, place) : NULL;
	const char *reason;
	cJSON *answer = NULL;

	if (cJSON_IsString(node))
		answer = json_parse(pstrdup(node->valuestring), strlen(node->valuestring), &reason);
	return answer ? answer : json;
}

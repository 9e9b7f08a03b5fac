/*
 * s3refusal.c
 *		What an object store's refusal means, and what to do about it.
 *
 * A refusal has its code in XML, and words_of_body() puts that first.  To HEAD
 * there is only a status.
 */
#include "postgres.h"

#include "http/header.h"
#include "protocol/duration.h"
#include "protocol/s3refusal.h"
#include "protocol/xml.h"
#include "server/aws.h"

#define MAX_REGION 63

static bool
is_code(const char *words, const char *code)
{
	size_t len = strlen(code);

	return strncmp(words, code, len) == 0 && (words[len] == '\0' || words[len] == ':');
}

/*
 * True if a refusal will pass. words begin with the store's code for it.
 */
bool
s3_is_of_the_moment(const char *words)
{
	static const char *const codes[] = {"RequestTimeout",    "SlowDown",
										"InternalError",     "ServiceUnavailable",
										"OperationAborted",  "ConditionalRequestConflict",
										"TemporaryRedirect", "BadDigest"};
	int i;

	for (i = 0; i < lengthof(codes); i++)
	{
		if (is_code(words, codes[i]))
			return true;
	}
	return false;
}

/*
 * True if a refusal will not pass, although its status says that the server
 * failed.
 */
bool
s3_is_for_good(const char *words)
{
	return is_code(words, "NotImplemented");
}

/*
 * True if a store refuses all calls until an administrator does something that
 * may take hours, such as setting a clock: what waits for the store goes on
 * waiting, as while it is down.
 */
bool
s3_is_of_all_calls(const HttpReply *reply)
{
	static const char *const codes[] = {"RequestTimeTooSkewed", "RequestExpired", "ExpiredToken",
										"TokenRefreshRequired"};
	char *code;
	int i;

	if (reply->error != HTTP_OK || reply->status < 400)
		return false;
	code = xml_find(reply->body->data, reply->body->len, "Code");
	for (i = 0; code != NULL && i < lengthof(codes); i++)
	{
		if (strcmp(code, codes[i]) == 0)
			return true;
	}
	return false;
}

/*
 * True if an answer says that there is no such object, although the bucket
 * exists.  A page of another server says nothing about objects.
 */
bool
s3_is_missing(const HttpReply *reply)
{
	char *code;

	if (reply->error != HTTP_OK || reply->status != 404)
		return false;
	code = xml_find(reply->body->data, reply->body->len, "Code");
	return code ? strcmp(code, "NoSuchBucket") != 0 : reply->body->len == 0;
}

/*
 * Describes how far this machine's clock is from the store's, palloc'd; "" if
 * that is not known.
 */
static char *
describe_skew(const HttpReply *reply, int64 now_unix)
{
	char *date = header_find(reply, "Date");
	int64 theirs;
	int64 skew;

	if (date == NULL || !duration_read_date(date, &theirs))
		return pstrdup("");
	skew = now_unix - theirs;
	return psprintf(": it is " INT64_FORMAT " s %s that of the store", skew < 0 ? -skew : skew,
					skew < 0 ? "behind" : "ahead of");
}

/*
 * True if a refusal is one that only another server than a store gives.  A
 * gateway before a store may answer with pages of its own for a while.
 */
static bool
is_of_another(const HttpReply *reply)
{
	bool is_final = reply->status == 400 || reply->status == 404 || reply->status == 405 ||
					reply->status == 412 || reply->status == 501;

	return is_final && reply->body->len > 0 &&
		   xml_find(reply->body->data, reply->body->len, "Code") == NULL;
}

/*
 * Returns what to do about a refusal whose words begin with no code that is
 * known, as s3_advice() does.
 */
static const char *
advise_by_status(const ReplySource *source, const HttpReply *reply, const char *words)
{
	int status = reply->status;

	if (is_of_another(reply))
		return " This is no answer of a store that speaks S3: check the server's option url.";
	if ((status == 400 || status == 501) && strcmp(source->request->method, "GET") != 0 &&
		source->options->put_headers != NULL)
		return " Check the server's option put_headers.";
	if (*words == '\0' && status == 404)
		return " There is no such object.";
	if (status == 403)
		return " Check the keys in the user mapping, and their permissions.";
	return status >= 300 && status < 400
			   ? " Set the server's options url and region to those of the bucket."
			   : "";
}

/*
 * Returns the region that an answer names, palloc'd; NULL if it names none.
 */
static char *
region_of(const HttpReply *reply)
{
	char *region = header_find(reply, "x-amz-bucket-region");

	if (region == NULL)
		region = xml_find(reply->body->data, reply->body->len, "Region");
	return region != NULL && *region != '\0' && strlen(region) <= MAX_REGION &&
				   strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(region)
			   ? region
			   : NULL;
}

/*
 * Returns what to do if the bucket is in another region than genjob asked, as
 * a sentence after a blank; NULL if it is not, as far as is known.  The hosts
 * of AWS name their region, and the option region must not say another.
 */
static const char *
advise_region(const ReplySource *source, const HttpReply *reply)
{
	const ServerOptions *options = source->options;
	char *region = region_of(reply);

	if (region == NULL || strcmp(region, options->protocol.region) == 0)
		return NULL;
	if (!aws_is_host(options->url))
		return psprintf(" Set the server's option region to %s.", region);
	return psprintf(" Set the server's option url to https://s3.%s.amazonaws.com%s, and leave its option region out.",
					region, strncmp(region, "cn-", strlen("cn-")) == 0 ? ".cn" : "");
}

/*
 * Returns what to do about a refusal, as a sentence after a blank; "" if its
 * words say enough.
 */
const char *
s3_advice(const ReplySource *source, const HttpReply *reply, const char *words)
{
	static const struct
	{
		const char *code;
		const char *advice;
	} known[] = {
		{"SignatureDoesNotMatch",
		 " Check secret_access_key in the user mapping. Some stores say so of a wrong access_key_id, too."},
		{"InvalidAccessKeyId", " Check access_key_id in the user mapping."},
		{"AccessDenied",
		 " Give the access key the permission, and check it in the user mapping. A store says so of an object that is not there, too, if the key may not list the bucket."},
		{"ExpiredToken", " Renew the keys in the user mapping."},
		{"InvalidToken", " Check session_token in the user mapping."},
		{"NoSuchBucket",
		 " Create it, or check the server's option bucket, and that its option url has no path."},
		{"InvalidBucketName",
		 " Check the server's option bucket, and that its option url has no path."},
		{"NoSuchKey",
		 " There is no such object: check the key, which begins with no slash and without the name of the bucket; a job {\"list\": \"prefix\"} says which keys there are."},
		{"NoSuchVersion", " Check version_id in the request."},
		{"InvalidRange", " The object is shorter than the range in the request."},
		{"MethodNotAllowed",
		 " Check that the server's option url is that of a store that speaks S3."},
		{"AuthorizationHeaderMalformed", " Set the server's option region."},
		{"IllegalLocationConstraintException", " Set the server's option region."},
		{"InvalidObjectState", " Restore the object from its storage class first."},
		{"QuotaExceeded", " Make room in the store, or raise its quota."},
		{"PreconditionFailed",
		 " The object that is there does not meet a condition: take headers such as If-None-Match out of the options of the server and of the user mapping, or ask who sets it for the bucket."},
		{"EntityTooLarge", " It is more than the store takes in one piece."},
		{"InvalidStorageClass", " Check the server's option put_headers."},
		{"InvalidEncryptionAlgorithmError", " Check the server's option put_headers."},
		{"AccessControlListNotSupported", " Take the ACL out of the server's option put_headers."},
		{"InvalidTag", " Check the server's option put_headers."},
	};
	const char *advice;
	int i;

	if (is_code(words, "AuthorizationHeaderMalformed") && strstr(words, "service") != NULL)
		return " Leave out the server's option service.";
	if (is_code(words, "RequestTimeTooSkewed") || is_code(words, "RequestExpired"))
		return psprintf(" Set this machine's clock%s.", describe_skew(reply, source->now_unix));
	advice = advise_region(source, reply);
	if (advice != NULL)
		return advice;
	for (i = 0; i < lengthof(known); i++)
	{
		if (is_code(words, known[i].code))
			return known[i].advice;
	}
	return advise_by_status(source, reply, words);
}

/*
 * presign.c
 *		genjob.presign() and genjob.presign_put(): links to objects, made in SQL without a call.
 *
 * A link can do what the keys of the calling role's user mapping can do, so
 * only a role that may use the server gets one.
 */
#include "postgres.h"

#include <time.h>

#include "common/string.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/clip.h"
#include "http/header.h"
#include "protocol/link.h"
#include "queue/needed.h"
#include "server/keytemplate.h"
#include "server/storeplace.h"
#include "server/stores.h"
#include "session/presign.h"
#include "shared/shown.h"

#define MAX_SHOWN 100 /* bytes of an argument, in an error */
#define MAX_TYPE 1024 /* bytes of a content type */

static void
raise_complaint(const ServerComplaint *complaint)
{
	ereport(ERROR, (errcode(complaint->sqlerrcode), errmsg("%s", complaint->message),
					errhint("%s", complaint->hint)));
}

/*
 * Returns argument n in UTF-8, palloc'd.
 */
static char *
text_argument(FunctionCallInfo fcinfo, int n)
{
	char *value = text_to_cstring(PG_GETARG_TEXT_PP(n));

	return pg_server_to_any(value, (int) strlen(value), PG_UTF8);
}

/*
 * Returns for how many seconds a link is valid.
 */
static int
expiry_argument(FunctionCallInfo fcinfo, int n)
{
	const Interval *span = PG_GETARG_INTERVAL_P(n);
	int64 seconds = span->time / USECS_PER_SEC + (int64) span->day * SECS_PER_DAY +
					(int64) span->month * DAYS_PER_MONTH * SECS_PER_DAY;

	if (seconds < 1 || seconds > SIGV4_MAX_EXPIRY)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a link cannot be valid for that long"),
						errhint("Choose from 1 second to 7 days.")));
	return (int) seconds;
}

/*
 * Returns what signs a link: the server's options and the calling role's keys.
 */
static RequestSource
source_of(const Server *server, MappingOptions *secrets)
{
	RequestSource source = {.options = &server->options, .secrets = secrets};
	ServerComplaint complaint;

	if (!server_read_secrets(server, GetUserId(), secrets, &complaint))
		raise_complaint(&complaint);
	/* not the time of the statement: a procedure may run for longer than its links are valid */
	source.now_unix = time(NULL);
	return source;
}

/*
 * Refuses a key to which no link leads.
 */
static void
check_key(const char *key)
{
	if (link_is_possible(key))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cannot make a link to the key \"%s\"",
					shown_from_utf8(clip_line(key, strlen(key), MAX_SHOWN))),
			 errdetail("Browsers and other clients take \".\" and \"..\" out of a path."),
			 errhint("A job of the store reads and writes it: {\"get\": ...}, {\"put\": ...}.")));
}

static Datum
link_datum(const char *link)
{
	return CStringGetTextDatum(link); /* ASCII in every encoding */
}

/*
 * Splits argument n, "s3://bucket/key", palloc'd.
 */
static void
url_argument(FunctionCallInfo fcinfo, int n, char **bucket, char **key)
{
	if (!stores_split_url(text_argument(fcinfo, n), bucket, key))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the argument url is not the URL of an object"),
						errhint("Write it as 's3://bucket/key', with a key of at most %d bytes.",
								KEY_MAX)));
}

/*
 * Returns a link to read an object.  Raises *complaint if server is NULL.
 */
static Datum
read_link(FunctionCallInfo fcinfo, Server *server, const char *bucket, const char *key,
		  ServerComplaint *complaint)
{
	MappingOptions secrets;
	RequestSource source;
	char *signature;

	if (server == NULL)
		raise_complaint(complaint);
	check_key(key);
	source = source_of(server, &secrets);
	source.options = storeplace_bucket(source.options, bucket);
	return link_datum(link_to_read(&source, key, expiry_argument(fcinfo, 1), &signature));
}

PG_FUNCTION_INFO_V1(genjob_presign);

/*
 * Returns a link to read "s3://bucket/key".
 */
Datum
genjob_presign(PG_FUNCTION_ARGS)
{
	ServerComplaint complaint;
	Server *server;
	char *bucket;
	char *key;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	url_argument(fcinfo, 0, &bucket, &key);
	server = stores_find(bucket, PG_ARGISNULL(2) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(2)),
						 GetUserId(), &complaint);
	return read_link(fcinfo, server, bucket, key, &complaint);
}

/*
 * Returns the store that has an output, if role may use it; else NULL and a
 * complaint.  Arguments from n on: the store's name and OID, the owner of the
 * job.
 */
static Server *
find_store(FunctionCallInfo fcinfo, int n, const char *bucket, Oid role, ServerComplaint *complaint)
{
	Oid intended = PG_ARGISNULL(n + 1) ? InvalidOid : PG_GETARG_OID(n + 1);
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(n));

	return stores_find_intended(bucket, name, intended, PG_GETARG_OID(n + 2), role, complaint);
}

PG_FUNCTION_INFO_V1(genjob_presign_output);

/*
 * Returns a link to read an output.  Only of a true output may the bucket be
 * another one than the store's server has now: else anyone who may use it
 * could have links to all that its keys open.  Arguments: its URL, for how long, the
 * name and OID of its store, the owner of its job.
 */
Datum
genjob_presign_output(PG_FUNCTION_ARGS)
{
	ServerComplaint complaint;
	Server *server;
	char *bucket;
	char *key;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2) || PG_ARGISNULL(4))
		PG_RETURN_NULL();
	url_argument(fcinfo, 0, &bucket, &key);
	server = find_store(fcinfo, 2, bucket, GetUserId(), &complaint);
	if (server != NULL && strcmp(server->options.bucket, bucket) != 0 &&
		!needed_is_output(PG_GETARG_DATUM(0), server->oid))
		server = stores_find(bucket, NameStr(server->name), GetUserId(), &complaint);
	return read_link(fcinfo, server, bucket, key, &complaint);
}

PG_FUNCTION_INFO_V1(genjob_store_trouble);

/*
 * Returns why genjob cannot delete an output for the owner of its job, or
 * NULL.  Arguments: its URL, the name and OID of its store, the owner.
 */
Datum
genjob_store_trouble(PG_FUNCTION_ARGS)
{
	ServerComplaint complaint;
	char *bucket;
	char *key;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3) ||
		!stores_split_url(text_argument(fcinfo, 0), &bucket, &key))
		PG_RETURN_TEXT_P(cstring_to_text("its place is unknown."));
	if (find_store(fcinfo, 1, bucket, PG_GETARG_OID(3), &complaint) != NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%s. %s", complaint.message, complaint.hint)));
}

/*
 * Returns the content type that an upload must send; NULL: any.
 */
static char *
type_argument(FunctionCallInfo fcinfo, int n)
{
	char *type = PG_ARGISNULL(n) ? NULL : text_argument(fcinfo, n);

	/* browsers cannot send a header that is not ASCII */
	if (type != NULL && (*type == '\0' || strlen(type) > MAX_TYPE || strchr(type, '/') == NULL ||
						 !header_is_value(type) || !pg_is_ascii(type)))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid content type: \"%s\"",
							   shown_from_utf8(clip_line(type, strlen(type), MAX_SHOWN))),
						errhint("One such as 'image/png' is expected.")));
	return type;
}

PG_FUNCTION_INFO_V1(genjob_presign_put);

/*
 * Returns a link to write an object of a server.
 */
Datum
genjob_presign_put(PG_FUNCTION_ARGS)
{
	ServerComplaint complaint;
	MappingOptions secrets;
	RequestSource source;
	Server *server;
	char *signature;
	char *name;
	char *key;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(3))
		PG_RETURN_NULL();
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	server = server_get(name, &complaint);
	if (server == NULL || !server_check_role(server, GetUserId(), &complaint))
		raise_complaint(&complaint);
	if (!server->options.preset->is_store)
		ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
						errmsg("server \"%s\" is not an object store", name),
						errhint("Name one with api 's3'.")));
	key = text_argument(fcinfo, 1);
	if (*key == '\0' || strlen(key) > KEY_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a key of %zu bytes cannot be written", strlen(key)),
						errhint("It must have 1 to %d bytes.", KEY_MAX)));
	if (strncmp(key, "s3://", 5) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the argument key is a URL"),
				 errhint("Write the key alone: the server names the bucket.")));
	check_key(key);
	source = source_of(server, &secrets);
	return link_datum(link_to_write(&source, key, type_argument(fcinfo, 2),
									expiry_argument(fcinfo, 3), &signature));
}

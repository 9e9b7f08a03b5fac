/*
 * s3upload.c
 *		Objects that are uploaded in parts: the requests, and what a store
 *		answers.
 *
 *		POST   key?uploads                       the upload gets an id
 *		PUT    key?partNumber=1&uploadId=ID      a part; the store answers its ETag
 *		POST   key?uploadId=ID                   the list of the parts: makes the object
 *		DELETE key?uploadId=ID                   aborts the upload
 *		GET    key?uploadId=ID                   lists the parts
 *		GET    bucket?uploads                    lists the open uploads
 *
 * Pure.  What is read is hostile: numbers and texts out of bounds count as
 * absent.
 */
#include "postgres.h"

#include <time.h>

#include "lib/stringinfo.h"

#include "base/bytes.h"
#include "base/json.h"
#include "http/header.h"
#include "protocol/building.h"
#include "protocol/duration.h"
#include "protocol/s3answer.h"
#include "protocol/s3upload.h"
#include "protocol/xml.h"
#include "server/keytemplate.h"

#define MAX_ID 2048 /* bytes of an upload's id */
#define MAX_ANSWER \
	(4 * 1024 * 1024) /* bytes; a thousand keys of 1,024 bytes, each written as three */
#define MAX_LISTED 1000
#define ASK_TIMEOUT_MS 60000 /* of a list, a HEAD, or an abort */

/* ---------- requests ---------- */

static HttpRequest *
begin_request(const RequestSource *source, const char *method, const char *key, char *query)
{
	const ServerOptions *options = source->options;
	char *url = psprintf("%s?%s", s3_url_of(options, key), query);
	HttpRequest *http = request_begin(options, method, url, options->timeout);

	http->object = s3_name_of(options, key);
	http->max_response = Min(http->max_response, MAX_ANSWER);
	headers_set_server(http, source);
	return http;
}

static char *
query_of(const S3Upload *upload)
{
	return psprintf("uploadId=%s", grammar_percent_encode(upload->id, ""));
}

static HttpRequest *
signed_by(const RequestSource *source, HttpRequest *http)
{
	signing_sign(http, source);
	return http;
}

/*
 * Returns the request that begins an upload.
 */
HttpRequest *
s3upload_begin(const RequestSource *source, const char *key, const char *content_type)
{
	HttpRequest *http = begin_request(source, "POST", key, "uploads=");

	http->is_sent_once = true; /* nobody would know the id of the first upload */
	headers_set(http, "Content-Type", pstrdup(content_type), NULL);
	headers_set_list(http, s3_put_headers(source->options));
	return signed_by(source, http);
}

/*
 * Returns the request that sends a part.  Does not copy data; sha256 is its
 * digest in hexadecimal.
 */
HttpRequest *
s3upload_put_part(const RequestSource *source, const S3Upload *upload, int number, const char *data,
				  size_t len, const char *sha256)
{
	HttpRequest *http = begin_request(source, "PUT", upload->key,
									  psprintf("partNumber=%d&%s", number, query_of(upload)));

	http->body = unconstify(char *, data);
	http->body_len = len;
	http->body_sha256 = sha256;
	headers_set_list(http, s3_key_headers(source->options));
	return signed_by(source, http);
}

static void
append_escaped(StringInfo xml, const char *text)
{
	for (; *text != '\0'; text++)
	{
		switch (*text)
		{
			case '<':
				appendStringInfoString(xml, "&lt;");
				break;
			case '>':
				appendStringInfoString(xml, "&gt;");
				break;
			case '&':
				appendStringInfoString(xml, "&amp;");
				break;
			case '"':
				appendStringInfoString(xml, "&quot;");
				break;
			default:
				appendStringInfoChar(xml, *text);
		}
	}
}

/*
 * Returns the request that makes the object of its n parts, which are sorted
 * by their numbers.
 */
HttpRequest *
s3upload_complete(const RequestSource *source, const S3Upload *upload, const S3Part *parts, int n)
{
	HttpRequest *http = begin_request(source, "POST", upload->key, query_of(upload));
	StringInfoData xml;
	int i;

	initStringInfo(&xml);
	appendStringInfoString(&xml,
						   "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	for (i = 0; i < n; i++)
	{
		bool is_bare = strchr(parts[i].etag, '"') == NULL;

		appendStringInfo(&xml, "<Part><PartNumber>%d</PartNumber><ETag>", parts[i].number);
		append_escaped(&xml, is_bare ? psprintf("\"%s\"", parts[i].etag) : parts[i].etag);
		appendStringInfoString(&xml, "</ETag></Part>");
	}
	appendStringInfoString(&xml, "</CompleteMultipartUpload>");
	http->body = xml.data;
	http->body_len = xml.len;
	headers_set(http, "Content-Type", "application/xml", NULL);
	headers_set_list(http, s3_key_headers(source->options));
	return signed_by(source, http);
}

/*
 * Returns the request that makes the store forget an upload and its parts.
 */
HttpRequest *
s3upload_abort(const RequestSource *source, const S3Upload *upload)
{
	HttpRequest *http = begin_request(source, "DELETE", upload->key, query_of(upload));

	http->timeout = Min(http->timeout, ASK_TIMEOUT_MS);
	return signed_by(source, http);
}

/*
 * Returns the request for a list of the parts with numbers above after.
 */
HttpRequest *
s3upload_list_parts(const RequestSource *source, const S3Upload *upload, int after)
{
	HttpRequest *http = begin_request(source, "GET", upload->key,
									  psprintf("max-parts=%d&part-number-marker=%d&%s", MAX_LISTED,
											   after, query_of(upload)));

	http->timeout = Min(http->timeout, ASK_TIMEOUT_MS);
	return signed_by(source, http);
}

/*
 * Returns the request for a page of the open uploads whose keys begin with
 * prefix: those behind *after, or, if that has no key, the first.
 */
HttpRequest *
s3upload_list(const RequestSource *source, const char *prefix, const S3Upload *after)
{
	const ServerOptions *options = source->options;
	StringInfoData url;
	HttpRequest *http;

	initStringInfo(&url);
	appendStringInfo(&url, "%s?encoding-type=url", s3_bucket_url(options));
	if (after->key != NULL)
		appendStringInfo(&url, "&key-marker=%s", grammar_percent_encode(after->key, ""));
	appendStringInfo(&url, "&max-uploads=%d&prefix=%s", MAX_LISTED,
					 grammar_percent_encode(prefix, ""));
	if (after->key != NULL && after->id != NULL)
		appendStringInfo(&url, "&upload-id-marker=%s", grammar_percent_encode(after->id, ""));
	appendStringInfoString(&url, "&uploads=");
	http = request_begin(options, "GET", url.data, Min(options->timeout, ASK_TIMEOUT_MS));
	http->max_response = Min(http->max_response, MAX_ANSWER);
	headers_set_server(http, source);
	return signed_by(source, http);
}

/*
 * Returns the request that asks whether an object exists.
 */
HttpRequest *
s3upload_head(const RequestSource *source, const char *key)
{
	const ServerOptions *options = source->options;
	HttpRequest *http = request_begin(options, "HEAD", s3_url_of(options, key),
									  Min(options->timeout, ASK_TIMEOUT_MS));

	http->object = s3_name_of(options, key);
	headers_set_server(http, source);
	headers_set_list(http, s3_key_headers(options));
	return signed_by(source, http);
}

/* ---------- answers ---------- */

/*
 * Returns an id that can be sent again; NULL if it cannot.
 */
static char *
sound_id(char *id)
{
	const char *p;

	if (id == NULL || *id == '\0' || strlen(id) > MAX_ID)
		return NULL;
	for (p = id; *p != '\0'; p++)
	{
		if ((unsigned char) *p <= ' ' || (unsigned char) *p >= 0x7f)
			return NULL;
	}
	return id;
}

/*
 * Returns the id of an upload that the store has begun, palloc'd; NULL if
 * there is none.
 */
char *
s3upload_read_id(const HttpReply *reply)
{
	return sound_id(xml_find(reply->body->data, reply->body->len, "UploadId"));
}

/*
 * Returns the code of a refusal, such as NoSuchUpload, palloc'd; NULL if there
 * is none.
 */
char *
s3upload_read_code(const HttpReply *reply)
{
	return xml_find(reply->body->data, reply->body->len, "Code");
}

/*
 * Returns a number of a list; -1 if digits are no number.
 */
static int64
number_of(const char *digits)
{
	if (*digits == '\0' || strlen(digits) > 18 || strspn(digits, "0123456789") != strlen(digits))
		return -1;
	return strtoi64(digits, NULL, 10);
}

static char *
etag_of(char *etag)
{
	etag = s3_clean_etag(etag);
	return etag != NULL && header_is_value(etag) ? etag : NULL;
}

/*
 * True if an answer says that the object is complete. *etag is its ETag,
 * palloc'd, or NULL.
 */
bool
s3upload_read_completed(const HttpReply *reply, char **etag)
{
	char *text = xml_find(reply->body->data, reply->body->len, "ETag");

	*etag = text ? etag_of(text) : NULL;
	return xml_is_whole(reply->body->data, reply->body->len, "CompleteMultipartUploadResult");
}

static void
read_part(Xml *xml, List **parts)
{
	int inside = xml->depth;
	S3Part *part = palloc0(sizeof(S3Part));
	int64 number = -1;
	XmlPiece piece;

	part->bytes = -1;
	while ((piece = xml_next(xml)) != XML_END && xml->depth >= inside)
	{
		if (piece != XML_OPEN)
			continue;
		if (number < 0 && strcmp(xml->name, "PartNumber") == 0)
			number = number_of(xml_value(xml));
		else if (part->bytes < 0 && strcmp(xml->name, "Size") == 0)
			part->bytes = number_of(xml_value(xml));
		else if (part->etag == NULL && strcmp(xml->name, "ETag") == 0)
			part->etag = etag_of(xml_value(xml));
		else
			xml_skip(xml);
	}
	part->number = number >= 1 && number <= S3_MAX_PARTS ? (int) number : 0;
	if (part->number > 0 && part->bytes >= 0 && part->etag != NULL)
		*parts = lappend(*parts, part);
}

/*
 * Returns the parts of a list, of S3Part, palloc'd. *after: the number of the
 * last part of a list that was cut, 0 if it was not cut.
 */
List *
s3upload_read_parts(const HttpReply *reply, int *after)
{
	List *parts = NIL;
	bool is_cut = false;
	int64 marker = 0;
	XmlPiece piece;
	Xml xml;

	xml_begin(&xml, reply->body->data, reply->body->len);
	while ((piece = xml_next(&xml)) != XML_END && list_length(parts) <= MAX_LISTED)
	{
		if (piece != XML_OPEN || xml.depth < 2)
			continue;
		if (strcmp(xml.name, "Part") == 0)
			read_part(&xml, &parts);
		else if (!is_cut && strcmp(xml.name, "IsTruncated") == 0)
			is_cut = strcmp(xml_value(&xml), "true") == 0;
		else if (marker == 0 && strcmp(xml.name, "NextPartNumberMarker") == 0)
			marker = number_of(xml_value(&xml));
	}
	*after = is_cut && marker > 0 && marker < S3_MAX_PARTS ? (int) marker : 0;
	return parts;
}

/*
 * Returns a time such as "2026-11-26T10:20:30.000Z" in seconds since 1970; 0
 * if text is none.
 */
static int64
read_time(const char *text)
{
	struct tm parts = {0};
	time_t time;

	if (strlen(text) > 40 || strptime(text, "%Y-%m-%dT%H:%M:%S", &parts) == NULL)
		return 0;
	time = timegm(&parts);
	return time > 0 ? (int64) time : 0;
}

/*
 * Returns a key that can be sent again; NULL if it cannot.
 */
static char *
sound_key(char *key, bool is_encoded)
{
	if (key != NULL && is_encoded)
		key = s3_decode_key(key);
	return key != NULL && *key != '\0' && strlen(key) <= KEY_MAX ? key : NULL;
}

static void
read_open(Xml *xml, bool is_encoded, List **uploads)
{
	int inside = xml->depth;
	S3Open *open = palloc0(sizeof(S3Open));
	XmlPiece piece;

	while ((piece = xml_next(xml)) != XML_END && xml->depth >= inside)
	{
		if (piece != XML_OPEN)
			continue;
		if (open->key == NULL && strcmp(xml->name, "Key") == 0)
			open->key = sound_key(xml_value(xml), is_encoded);
		else if (open->id == NULL && strcmp(xml->name, "UploadId") == 0)
			open->id = sound_id(xml_value(xml));
		else if (open->begun_unix == 0 && strcmp(xml->name, "Initiated") == 0)
			open->begun_unix = read_time(xml_value(xml));
		else
			xml_skip(xml);
	}
	if (open->key != NULL && open->id != NULL)
		*uploads = lappend(*uploads, open);
}

/*
 * Returns where the next page of a list begins: behind the last upload, or
 * where the store says.  Swift does not encode the key that it gives for this,
 * and gives none if the page has one upload.
 */
static S3Upload
next_page(List *uploads, char *key, char *id, bool is_encoded)
{
	const S3Open *last = uploads != NIL ? llast(uploads) : NULL;

	id = sound_id(id);
	if (last != NULL && (id == NULL || strcmp(id, last->id) == 0))
		return (S3Upload){last->key, last->id};
	return (S3Upload){sound_key(key, is_encoded), id};
}

/*
 * Returns the uploads of a list, of S3Open, palloc'd.  *after: where the next
 * page begins, palloc'd; without a key if there is none.
 */
List *
s3upload_read_open(const HttpReply *reply, S3Upload *after)
{
	bool is_encoded = s3_keys_are_encoded(reply);
	bool is_cut = false;
	List *uploads = NIL;
	char *key = NULL;
	char *id = NULL;
	XmlPiece piece;
	Xml xml;

	xml_begin(&xml, reply->body->data, reply->body->len);
	while ((piece = xml_next(&xml)) != XML_END && list_length(uploads) < MAX_LISTED)
	{
		if (piece != XML_OPEN || xml.depth < 2)
			continue;
		if (strcmp(xml.name, "Upload") == 0)
			read_open(&xml, is_encoded, &uploads);
		else if (!is_cut && strcmp(xml.name, "IsTruncated") == 0)
			is_cut = strcmp(xml_value(&xml), "true") == 0;
		else if (key == NULL && strcmp(xml.name, "NextKeyMarker") == 0)
			key = xml_value(&xml);
		else if (id == NULL && strcmp(xml.name, "NextUploadIdMarker") == 0)
			id = xml_value(&xml);
	}
	is_cut |= list_length(uploads) == MAX_LISTED;
	*after = is_cut ? next_page(uploads, key, id, is_encoded) : (S3Upload){NULL};
	return uploads;
}

/*
 * Returns how many bytes an object has, by an answer about it; -1 if that does
 * not say.
 */
int64
s3upload_read_length(const HttpReply *reply)
{
	char *length = header_find(reply, "Content-Length");

	return length ? number_of(length) : -1;
}

/*
 * Returns how many seconds ago an object was made, by the store's clock; -1 if
 * the answer does not say.
 */
int64
s3upload_read_age(const HttpReply *reply)
{
	char *now = header_find(reply, "Date");
	char *then = header_find(reply, "Last-Modified");
	int64 now_unix;
	int64 then_unix;

	if (now == NULL || then == NULL || !duration_read_date(now, &now_unix) ||
		!duration_read_date(then, &then_unix))
		return -1;
	return Max(now_unix - then_unix, 0);
}

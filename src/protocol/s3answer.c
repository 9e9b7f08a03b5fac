/*
 * s3answer.c
 *		What an object store answers.
 *
 * The answer to every verb becomes a result in JSON: {"url":
 * "s3://bucket/key", "etag": ..., "bytes": ...}.  An object that was read
 * becomes an output.  A refusal gives its reason in XML; to HEAD, only by its
 * status.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "http/header.h"
#include "protocol/judge.h"
#include "protocol/s3answer.h"
#include "protocol/words.h"
#include "protocol/xml.h"

#define MAX_KEYS 2000 /* of a list; a store gives no more than we ask for */

#define MAX_ETAG 1024 /* bytes */

/* ---------- texts ---------- */

static cJSON *
string_of(const char *text)
{
	char *copy = pstrdup(text);

	json_sanitize_line(copy, strlen(copy));
	return json_create_string(copy);
}

/*
 * Adds a header of the answer as a member of the result.
 */
static void
add_header(cJSON *result, const char *name, const HttpReply *reply, const char *header)
{
	char *value = header_find(reply, header);

	if (value != NULL && *value != '\0')
		json_attach(result, name, string_of(value));
}

/*
 * Adds a number of bytes as a member of the result.
 */
static void
add_bytes(cJSON *result, const char *digits)
{
	cJSON *number;

	if (digits == NULL || *digits == '\0' || strlen(digits) > 18 ||
		strspn(digits, "0123456789") != strlen(digits))
		return;
	number = json_create(cJSON_Number);
	number->valuestring = psprintf(INT64_FORMAT, strtoi64(digits, NULL, 10));
	json_attach(result, "bytes", number);
}

/*
 * Returns an entity tag without its quotation marks, palloc'd.
 */
static char *
unquote_etag(const char *etag)
{
	size_t len = strlen(etag);

	return len >= 2 && etag[0] == '"' && etag[len - 1] == '"' ? pnstrdup(etag + 1, len - 2)
															  : pstrdup(etag);
}

/*
 * Returns an entity tag without its quotation marks, as valid UTF-8, palloc'd;
 * NULL if it is empty or too long.
 */
char *
s3_clean_etag(const char *etag)
{
	char *clean;

	if (etag == NULL || *etag == '\0' || strlen(etag) > MAX_ETAG)
		return NULL;
	clean = unquote_etag(etag);
	json_sanitize_line(clean, strlen(clean));
	return clean;
}

/*
 * Returns the entity tag of an answer, as s3_clean_etag() does.
 */
char *
s3_read_etag(const HttpReply *reply)
{
	return s3_clean_etag(header_find(reply, "ETag"));
}

static void
add_etag(cJSON *result, const char *etag)
{
	if (etag != NULL && *etag != '\0')
		json_attach(result, "etag", string_of(unquote_etag(etag)));
}

/*
 * Returns what the headers of every answer about an object say.
 */
static cJSON *
result_of(const Judge *judge)
{
	const HttpReply *reply = judge->reply;
	cJSON *result = json_create(cJSON_Object);

	if (judge->source->request->object != NULL)
		json_attach(result, "url", json_create_string(pstrdup(judge->source->request->object)));
	add_etag(result, header_find(reply, "ETag"));
	add_header(result, "version_id", reply, "x-amz-version-id");
	return result;
}

/*
 * Appends the text of an encoded word, in the letters of encoding Q.
 */
static void
append_quoted(StringInfo to, const char *text, size_t len)
{
	const char *end = text + len;

	for (; text < end; text++)
	{
		int high = *text == '=' && end - text > 2 ? bytes_hex_value(text[1]) : -1;
		int low = high >= 0 ? bytes_hex_value(text[2]) : -1;

		if (low >= 0)
			appendStringInfoChar(to, (char) (high * 16 + low));
		else
			appendStringInfoChar(to, *text == '_' ? ' ' : *text);
		text += low >= 0 ? 2 : 0;
	}
}

/*
 * Returns metadata as text, palloc'd: stores give text that is not ASCII as
 * encoded words (RFC 2047), "=?UTF-8?B?...?=" or "=?UTF-8?Q?...?=".  Returns
 * what is no such text as it is.
 */
static char *
decode_words(const char *value)
{
	static const char start[] = "=?UTF-8?";
	StringInfoData text;
	const char *p = value;

	initStringInfo(&text);
	while (pg_strncasecmp(p, start, strlen(start)) == 0)
	{
		const char *word = p + strlen(start);
		char encoding = pg_toupper((unsigned char) *word);
		const char *end = encoding != '\0' && word[1] == '?' ? strstr(word + 2, "?=") : NULL;

		if (end == NULL || (encoding != 'B' && encoding != 'Q'))
			break;
		if (encoding == 'B')
		{
			char *bytes = pnstrdup(word + 2, end - word - 2);
			ssize_t len = base64_decode_in_place(bytes, strlen(bytes));

			if (len < 0)
				break;
			appendBinaryStringInfo(&text, bytes, (int) len);
		}
		else
			append_quoted(&text, word + 2, end - word - 2);
		p = end + 2 + strspn(end + 2, " ");
	}
	return *p == '\0' ? text.data : pstrdup(value);
}

static void
add_metadata(cJSON *result, const HttpReply *reply)
{
	static const char prefix[] = "x-amz-meta-";
	cJSON *metadata = json_create(cJSON_Object);
	const char *line = reply->headers->data;
	const char *end = line + reply->headers->len;

	while (line != NULL && line < end)
	{
		const char *newline = memchr(line, '\n', end - line);
		size_t len = (newline ? newline : end) - line;
		const char *colon = memchr(line, ':', len);

		if (colon != NULL && len > strlen(prefix) &&
			pg_strncasecmp(line, prefix, strlen(prefix)) == 0)
		{
			char *name = pnstrdup(line, colon - line);
			char *value = pnstrdup(colon + 1, line + len - colon - 1);

			value += strspn(value, " \t");
			value[strcspn(value, "\r")] = '\0';
			name = pnstrdup(name + strlen(prefix), 100);
			json_sanitize_line(name, strlen(name));
			if (cJSON_GetArraySize(metadata) < 100)
				json_attach(metadata, name, string_of(decode_words(value)));
		}
		line += len + 1;
	}
	if (metadata->child != NULL)
		json_attach(result, "metadata", metadata);
}

/* ---------- lists ---------- */

/*
 * True if the keys of a list are percent-encoded.  We ask for that, but not every store does it.
 */
bool
s3_keys_are_encoded(const HttpReply *reply)
{
	char *type = xml_find(reply->body->data, reply->body->len, "EncodingType");

	return type != NULL && strcmp(type, "url") == 0;
}

/*
 * Decodes an encoded key of a list in place.
 */
char *
s3_decode_key(char *key)
{
	char *from = key;
	char *to = key;

	for (; *from != '\0'; from++)
	{
		int high = *from == '%' ? bytes_hex_value(from[1]) : -1;
		int low = high >= 0 ? bytes_hex_value(from[2]) : -1;

		if (low >= 0)
		{
			*to++ = (char) (high * 16 + low);
			from += 2;
		}
		else
			*to++ = *from == '+' ? ' ' : *from;
	}
	*to = '\0';
	json_sanitize_text(key, to - key);
	return key;
}

/* The tags that a list has for an object, and their members in our result. */
static const struct
{
	const char *tag;
	const char *member;
} object_members[] = {{"Key", "key"},
					  {"LastModified", "last_modified"},
					  {"ETag", "etag"},
					  {"Size", "bytes"}};

/*
 * Returns the member for a tag, if the object does not have it yet; else NULL.
 */
static const char *
member_of(const char *tag, const cJSON *object)
{
	int i;

	for (i = 0; i < lengthof(object_members); i++)
	{
		if (strcmp(tag, object_members[i].tag) == 0)
			return cJSON_GetObjectItemCaseSensitive(object, object_members[i].member) == NULL
					   ? object_members[i].member
					   : NULL;
	}
	return NULL;
}

/*
 * Adds a member to an object; frees value.
 */
static void
take_member(cJSON *object, const char *member, char *value, bool is_encoded)
{
	if (strcmp(member, "key") == 0)
		json_attach(object, member,
					json_create_string(pstrdup(is_encoded ? s3_decode_key(value) : value)));
	else if (strcmp(member, "etag") == 0)
		add_etag(object, value);
	else if (strcmp(member, "bytes") == 0)
		add_bytes(object, value);
	else
		json_attach(object, member, string_of(value));
	pfree(value);
}

static cJSON *
read_object(Xml *xml, bool is_encoded)
{
	int inside = xml->depth;
	cJSON *object = json_create(cJSON_Object);
	XmlPiece piece;

	while ((piece = xml_next(xml)) != XML_END && xml->depth >= inside)
	{
		const char *member = piece == XML_OPEN ? member_of(xml->name, object) : NULL;

		if (member != NULL)
			take_member(object, member, xml_value(xml), is_encoded);
		else if (piece == XML_OPEN)
			xml_skip(xml);
	}
	return object;
}

/*
 * Returns the answer to a list: {"objects": [...], "prefixes": [...], "after":
 * "where the rest begins"}.  NULL if it is not whole, or does not say where the
 * rest begins: nobody must take a part for all.
 */
static cJSON *
read_list(const HttpReply *reply)
{
	bool is_encoded = s3_keys_are_encoded(reply);
	bool is_cut = false;
	cJSON *objects = json_create(cJSON_Array);
	cJSON *prefixes = json_create(cJSON_Array);
	cJSON *list = json_create(cJSON_Object);
	XmlPiece piece;
	int n = 0;
	Xml xml;

	xml_begin(&xml, reply->body->data, reply->body->len);
	while ((piece = xml_next(&xml)) != XML_END && n <= MAX_KEYS)
	{
		if (piece != XML_OPEN || xml.depth < 2)
			continue;
		if (strcmp(xml.name, "Contents") == 0 && ++n)
			json_append(objects, read_object(&xml, is_encoded));
		else if (strcmp(xml.name, "Prefix") == 0 && xml.depth == 3 && ++n)
		{
			char *prefix = xml_value(&xml);

			json_append(prefixes, json_create_string(is_encoded ? s3_decode_key(prefix) : prefix));
		}
		else if (strcmp(xml.name, "NextContinuationToken") == 0 && list->child == NULL)
			json_attach(list, "after", string_of(xml_value(&xml)));
		else if (!is_cut && strcmp(xml.name, "IsTruncated") == 0)
			is_cut = strcmp(xml_value(&xml), "true") == 0;
	}
	if (n > MAX_KEYS || (is_cut && list->child == NULL) ||
		!xml_is_whole(reply->body->data, reply->body->len, "ListBucketResult"))
		return NULL;
	json_attach(list, "objects", objects);
	if (prefixes->child != NULL)
		json_attach(list, "prefixes", prefixes);
	return list;
}

/* ---------- judging ---------- */

/*
 * Makes the object that was read an output, which points to the body.
 */
static void
make_object_output(Judge *judge, cJSON *result)
{
	HttpReply *reply = judge->reply;
	Output *output = output_add(judge->verdict);
	const char *claim = header_find(reply, "Content-Type");

	output->content_type =
		reply->body->len > 0 ? answer_body_type(reply) : pstrdup("application/octet-stream");
	output_mask(judge, output->content_type, reply->body->data, reply->body->len);
	output->data = reply->body->len > 0 ? reply->body->data : "";
	output->len = reply->body->len;
	add_bytes(result, psprintf("%zu", reply->body->len));
	if (claim != NULL)
		json_attach(result, "content_type", string_of(claim));
	add_header(result, "last_modified", reply, "Last-Modified");
	add_metadata(result, reply);
	json_attach(result, "output",
				json_merge(json_create(cJSON_Object), json_parse_trusted("{\"$output\": 1}")));
}

static void
describe_object(const HttpReply *reply, cJSON *result)
{
	add_bytes(result, header_find(reply, "Content-Length"));
	add_header(result, "content_type", reply, "Content-Type");
	add_header(result, "last_modified", reply, "Last-Modified");
	add_metadata(result, reply);
}

static bool
has_header(const HttpRequest *request, const char *name)
{
	ListCell *cell;

	foreach(cell, request->headers)
	{
		if (pg_strcasecmp(((HttpHeader *) lfirst(cell))->name, name) == 0)
			return true;
	}
	return false;
}

/*
 * True if a call copies an object.
 */
static bool
is_copy(const HttpRequest *request)
{
	return strcmp(request->method, "PUT") == 0 && has_header(request, "X-Amz-Copy-Source");
}

/*
 * Judges an answer whose status says success, and whose body does not say what
 * it must.  The next one may.
 */
static void
judge_unsaid(Judge *judge, const char *what)
{
	judge->verdict->kind = VERDICT_RETRY;
	judge->verdict->error =
		psprintf("the answer of server \"%s\" does not have %s. Check that its option url is that of a store that speaks S3.",
				 judge->source->server_name, what);
}

/*
 * Turns an answer with a success status into the verdict's result and outputs.
 */
static void
judge_success(Judge *judge)
{
	const HttpRequest *request = judge->source->request;
	HttpReply *reply = judge->reply;
	cJSON *result = result_of(judge);

	if (strcmp(request->method, "HEAD") == 0)
		describe_object(reply, result);
	else if (strcmp(request->method, "GET") == 0 && request->object != NULL)
		make_object_output(judge, result);
	else if (strcmp(request->method, "GET") == 0)
		result = read_list(reply);
	else if (is_copy(request))
		add_etag(result, xml_find(reply->body->data, reply->body->len, "ETag"));
	else if (strcmp(request->method, "PUT") == 0 && s3_read_etag(reply) == NULL)
	{
		judge_unsaid(judge, "an ETag of the object");
		return;
	}
	else if (strcmp(request->method, "PUT") == 0)
		add_bytes(result, psprintf("%zu", request->body_len));
	if (result == NULL)
	{
		judge_unsaid(judge, "a whole list of objects, or where the rest of it begins");
		return;
	}
	if (is_copy(request) && !xml_is_whole(reply->body->data, reply->body->len, "CopyObjectResult"))
	{
		judge_unsaid(judge, "the result of the copy");
		return;
	}
	judge->verdict->kind = VERDICT_DONE;
	words_mask_json(request, result);
	words_mask_rest(request, result);
	answer_keep_json(judge, result);
}

/*
 * Returns true if the status of an answer is all that matters: a body that we
 * could not take changes nothing about an object that was put or deleted.
 */
static bool
is_told_by_status(const HttpRequest *request, const HttpReply *reply)
{
	bool is_unread = reply->error == HTTP_TOO_LARGE || reply->error == HTTP_GARBLED ||
					 reply->error == HTTP_MEMORY;

	return is_unread && reply->status >= 200 && reply->status < 300 && !is_copy(request) &&
		   (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "DELETE") == 0);
}

/*
 * True if an object that is to be deleted is not there.  Most stores take that
 * for a success.
 */
static bool
is_deleted_before(const HttpRequest *request, const HttpReply *reply)
{
	char *code;

	if (reply->error != HTTP_OK || reply->status != 404 || strcmp(request->method, "DELETE") != 0)
		return false;
	code = xml_find(reply->body->data, reply->body->len, "Code");
	return code != NULL && (strcmp(code, "NoSuchKey") == 0 || strcmp(code, "NoSuchVersion") == 0);
}

/*
 * Judges the answer of an object store.  A copy, or the completion of an
 * upload, may fail after it has begun: then the store says so under HTTP 200.
 */
void
s3_judge(Judge *judge)
{
	HttpReply *reply = judge->reply;
	char *root = NULL;

	if (is_told_by_status(judge->source->request, reply))
		reply->error = HTTP_OK;

	if (reply_is_success(reply) && strcmp(judge->source->request->method, "GET") != 0 &&
		reply->body->len > 0)
		root = xml_find(reply->body->data, reply->body->len, "Error");
	if (root != NULL)
		reply->status = 500;
	if (is_deleted_before(judge->source->request, reply))
		reply->status = 204;
	if (reply_is_success(reply))
		judge_success(judge);
	else
		failure_judge(judge);
	/* every call to a store may be repeated */
	judge->verdict->unknown = false;
}

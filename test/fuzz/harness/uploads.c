/*
 * uploads.c
 *		What is said of uploads in parts: by an object store in XML, and by a row in JSON.
 */
#include "fuzz.h"

#include "utils/memutils.h"

#include "protocol/openupload.h"
#include "protocol/s3upload.h"

static HttpReply *
reply_with(const char *body, size_t len)
{
	HttpReply *reply = palloc0(sizeof(HttpReply));

	reply->body = bytes_create(CurrentMemoryContext, MaxAllocSize);
	must_be(bytes_append(reply->body, body, len), "a body fits", NULL);
	return reply;
}

static void
must_be_sendable(const char *id)
{
	must_be(*id != '\0' && strpbrk(id, " \t\r\n") == NULL, "an id is one word", id);
}

static void
read_answers(const HttpReply *reply)
{
	char *id = s3upload_read_id(reply);
	char *etag;
	int after;
	S3Upload behind;
	ListCell *cell;

	if (id != NULL)
		must_be_sendable(id);
	(void) s3upload_read_code(reply);
	if (s3upload_read_completed(reply, &etag) && etag != NULL)
		must_be_utf8(etag, "an ETag");
	foreach(cell, s3upload_read_parts(reply, &after))
	{
		const S3Part *part = lfirst(cell);

		must_be(part->number >= 1 && part->number <= S3_MAX_PARTS && part->bytes >= 0,
				"a part is within bounds", NULL);
		must_be_utf8(part->etag, "an ETag");
	}
	must_be(after >= 0 && after < S3_MAX_PARTS, "the rest is within bounds", NULL);
	foreach(cell, s3upload_read_open(reply, &behind))
	{
		const S3Open *open = lfirst(cell);

		must_be_utf8(open->key, "a key");
		must_be_sendable(open->id);
	}
	if (behind.key != NULL)
		must_be_utf8(behind.key, "a key");
	if (behind.id != NULL)
		must_be_sendable(behind.id);
}

FUZZ_HARNESS(uploads)
{
	char *text = pnstrdup(input->data, input->len);
	OpenUpload *upload;

	read_answers(reply_with(input->data, input->len));
	upload = openupload_find(text, 1);
	if (upload != NULL)
	{
		char *set = openupload_set(text, upload, "secret");

		must_be(openupload_find(set, 1) != NULL, "what is set is found", NULL);
		must_be(upload->at.bucket == NULL || openupload_is_proven(set, 1, "secret"),
				"what is set with its place is proven", set);
		must_be(!openupload_is_proven(set, 1, "another"), "another secret proves nothing", set);
		(void) openupload_describe(set);
	}
	(void) openupload_is_proven(text, 1, "secret");
	(void) openupload_describe(text);
	text = openupload_remove(text, 1);
	must_be(text == NULL || openupload_find(text, 1) == NULL, "what is removed is gone", text);
}

/*
 * uploads.c
 *		Uploads in parts: what is asked of an object store, what it answers, and what a row keeps.
 */
#include "unit.h"

#include "utils/memutils.h"

#include "protocol/openupload.h"
#include "protocol/s3upload.h"
#include "replies.h"

static HttpReply *
answer(const char *body)
{
	return replies_make(200, "", body);
}

static void
test_ids(void)
{
	unit_is_text(s3upload_read_id(answer("<R><Key>k</Key><UploadId>abc~-_.=</UploadId></R>")),
				 "abc~-_.=", "an id");
	unit_is_text(s3upload_read_id(answer("<R><UploadId>a b</UploadId></R>")), NULL,
				 "one with a blank is none");
	unit_is_text(s3upload_read_id(answer("<R><UploadId></UploadId></R>")), NULL,
				 "nor an empty one");
	unit_is_text(s3upload_read_id(answer("")), NULL, "nor nothing");
	unit_is_text(s3upload_read_code(answer("<Error><Code>NoSuchUpload</Code></Error>")),
				 "NoSuchUpload", "the code of a refusal");
}

static void
test_completed(void)
{
	char *etag;

	unit_ok(s3upload_read_completed(answer(
										"  \n<CompleteMultipartUploadResult><ETag>&quot;x-2&quot;</ETag>"
										"</CompleteMultipartUploadResult>"),
									&etag),
			"it is there");
	unit_is_text(etag, "x-2", "... with an ETag that is no MD5");
	unit_ok(s3upload_read_completed(answer("<a:CompleteMultipartUploadResult/>"), &etag),
			"one without an ETag");
	unit_is_text(etag, NULL, "... has none");
	unit_ok(!s3upload_read_completed(answer("<Error><Code>InternalError</Code></Error>"), &etag),
			"an error is not");
	unit_ok(!s3upload_read_completed(answer(""), &etag), "nor is silence");
	unit_ok(!s3upload_read_completed(answer(
										 "<CompleteMultipartUploadResult><ETag>&quot;x-2&quot;</ETag>"),
									 &etag),
			"nor half an answer");
}

static void
test_parts(void)
{
	int after;
	List *parts = s3upload_read_parts(
		answer(
			"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>7</NextPartNumberMarker>"
			"<Part><PartNumber>2</PartNumber><ETag>\"b\"</ETag><Size>8388608</Size><LastModified>x</LastModified></Part>"
			"<Part><PartNumber>10001</PartNumber><ETag>c</ETag><Size>1</Size></Part>"
			"<Part><PartNumber>3</PartNumber><Size>1</Size></Part>"
			"<Part><PartNumber>4</PartNumber><ETag>d</ETag><Size>-1</Size></Part>"
			"<Part><PartNumber>5</PartNumber><ETag>e</ETag><Size>1</Size></Part></ListPartsResult>"),
		&after);

	unit_is_int(list_length(parts), 2, "parts that make sense");
	unit_is_int(((S3Part *) linitial(parts))->number, 2, "... with their numbers");
	unit_is_int(((S3Part *) linitial(parts))->bytes, 8388608, "... their lengths");
	unit_is_text(((S3Part *) linitial(parts))->etag, "b", "... and their ETags");
	unit_is_int(after, 7, "the rest is behind");
	(void) s3upload_read_parts(answer("<R><NextPartNumberMarker>7</NextPartNumberMarker></R>"),
							   &after);
	unit_is_int(after, 0, "... unless there is none");
}

static void
test_open(void)
{
	S3Upload after;
	List *uploads = s3upload_read_open(
		answer(
			"<R><Prefix>p</Prefix><EncodingType>url</EncodingType>"
			"<Upload><Key>a%2Fb+c%C3%BC</Key><UploadId>i</UploadId><Initiated>2026-11-26T10:20:30.000Z</Initiated></Upload>"
			"<Upload><Key>d</Key><UploadId>j</UploadId><Initiated>yesterday</Initiated></Upload>"
			"<Upload><Key></Key><UploadId>k</UploadId></Upload><Upload><Key>e</Key></Upload></R>"),
		&after);
	const S3Open *open;

	unit_is_int(list_length(uploads), 2, "uploads that can be named");
	open = linitial(uploads);
	unit_is_text(open->key, "a/b c\303\274", "the key of one");
	unit_is_text(open->id, "i", "... its id");
	unit_is_int(open->begun_unix, 1795688430, "... when it was begun");
	unit_is_int(((S3Open *) lsecond(uploads))->begun_unix, 0, "what is no time is not known");
	unit_is_text(after.key, NULL, "nothing is behind them");
}

/*
 * Fails unless the list of these words continues behind key and id.
 */
static void
is_behind(const char *words, const char *key, const char *id, const char *name)
{
	S3Upload after;

	(void) s3upload_read_open(answer(psprintf("<R>%s</R>", words)), &after);
	unit_is_text(after.key, key, psprintf("%s: the key", name));
	unit_is_text(after.id, id, psprintf("%s: the id", name));
}

static void
test_pages(void)
{
	const char *last = "<Upload><Key>a%2Fb%2525</Key><UploadId>i</UploadId></Upload>";
	const char *cut = "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>";

	is_behind(psprintf("%s<NextKeyMarker>a%%2Fz</NextKeyMarker>"
					   "<NextUploadIdMarker>z</NextUploadIdMarker>%s",
					   cut, last),
			  "a/z", "z", "where the store says");
	is_behind(psprintf("%s<NextKeyMarker>a/b%%25</NextKeyMarker>"
					   "<NextUploadIdMarker>i</NextUploadIdMarker>%s",
					   cut, last),
			  "a/b%25", "i", "a key that is not encoded there");
	is_behind(psprintf("%s<NextKeyMarker></NextKeyMarker><NextUploadIdMarker/>%s", cut, last),
			  "a/b%25", "i", "a store that does not say");
	is_behind(psprintf("%s<NextKeyMarker>k</NextKeyMarker>", cut), "k", NULL,
			  "a page without uploads");
	is_behind(cut, NULL, NULL, "a list that ends in nothing");
	is_behind(psprintf("<NextKeyMarker>k</NextKeyMarker>"
					   "<NextUploadIdMarker>z</NextUploadIdMarker>%s",
					   last),
			  NULL, NULL, "a list that is not cut");
}

static void
test_objects(void)
{
	const HttpReply *reply = replies_make(200,
										  "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n"
										  "Date: Thu, 26 Nov 2026 10:20:40 GMT\r\n"
										  "Last-Modified: Thu, 26 Nov 2026 10:20:30 GMT\r\n\r\n",
										  "");

	unit_is_int(s3upload_read_length(reply), 12, "how long an object is");
	unit_is_int(s3upload_read_age(reply), 10, "how old");
	unit_is_int(s3upload_read_length(answer("")), -1, "... where that is not told");
	unit_is_int(s3upload_read_age(answer("")), -1, "... nor that");
}

/*
 * Returns text with another word in place of the first one that it has.
 */
static char *
with_word(const char *text, const char *word, const char *other)
{
	const char *at = strstr(text, word);

	return psprintf("%.*s%s%s", (int) (at - text), text, other, at + strlen(word));
}

/*
 * Nobody can make genjob send signed calls to another place by writing the row.
 */
static void
test_proof(const char *row)
{
	unit_ok(openupload_is_proven(row, 2, "secret"), "genjob wrote where it was begun");
	unit_ok(!openupload_is_proven(row, 1, "secret"), "... if it knew");
	unit_ok(!openupload_is_proven(row, 2, "other"), "... with the same key");
	unit_ok(!openupload_is_proven(row, 2, NULL), "... and not without one");
	unit_ok(!openupload_is_proven(with_word(row, "http://h", "http://i"), 2, "secret"),
			"another url is not proven");
	unit_ok(!openupload_is_proven(with_word(row, "pictures", "secrets"), 2, "secret"),
			"... nor another bucket");
	unit_ok(!openupload_is_proven(with_word(row, "eu-1", "eu-2"), 2, "secret"),
			"... nor another region");
	unit_ok(!openupload_is_proven(with_word(row, "\"j\"", "\"k\""), 2, "secret"),
			"... nor another upload");
	unit_is_text(openupload_describe(row), "s3://.../a (upload i), s3://pictures/b\" (upload j)",
				 "they have names for people");
	unit_is_text(openupload_describe("{}"), "", "... if there are any");
}

static void
test_rows(void)
{
	OpenUpload first = {1, "a", "i", "m"};
	OpenUpload second = {2, "b\"", "j", NULL, {"http://h", "pictures", "eu-1", "path"}};
	OpenUpload changed = {1, "a", "k", NULL};
	char *row = openupload_set(openupload_set(NULL, &first, "secret"), &second, "secret");
	OpenUpload *found = openupload_find(row, 2);

	unit_is_text(openupload_find(row, 1)->mark, "m", "an upload has its mark");
	unit_is_text(found->key, "b\"", "... its key");
	unit_is_text(found->mark, NULL, "... or no mark");
	unit_is_text(found->at.bucket, "pictures", "... and the place where it was begun");
	unit_is_text(openupload_find(row, 1)->at.bucket, NULL, "... if that is known");
	test_proof(row);
	row = openupload_set(row, &changed, NULL);
	unit_is_text(openupload_find(row, 1)->id, "k", "one takes the place of another");
	unit_ok(openupload_find(row, 3) == NULL, "there is no third");
	row = openupload_remove(row, 1);
	unit_ok(openupload_find(row, 1) == NULL && openupload_find(row, 2) != NULL, "one is removed");
	unit_is_text(openupload_remove(row, 2), NULL, "... and then none is left");
	unit_ok(openupload_find("{\"n\": 1}", 1) == NULL, "what somebody else wrote");
	unit_ok(openupload_find("[{\"n\": 1, \"key\": 7, \"id\": \"\"}]", 1) == NULL,
			"... is not believed");
	unit_ok(openupload_find("nonsense", 1) == NULL, "... nor read");
}

void
unit_run(void)
{
	test_ids();
	test_completed();
	test_parts();
	test_open();
	test_pages();
	test_objects();
	test_rows();
}

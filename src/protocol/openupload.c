/*
 * openupload.c
 *		The uploads that a job has open, as its row keeps them in the column
 *		remote.
 *
 *		[{"n": 1, "key": "painter/1-1.mp4", "id": "...", "mark": "...",
 *		  "at": {"url": "...", "bucket": "...", "region": "...", "addressing": "path"},
 *		  "proof": "..."}]
 *
 * Anyone who may write the table may write this.  So an upload is continued
 * only if its key is the key that its output has anyway, and no signed call
 * goes to a place that is not the server's own unless proof shows that genjob
 * wrote it: a MAC with the secret access key.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/digest.h"
#include "base/json.h"
#include "protocol/openupload.h"

#define MAX_TEXT 4096 /* bytes of an id, a key, a mark */

static cJSON *
parse_uploads(const char *uploads)
{
	const char *reason;
	cJSON *json = uploads ? json_parse(pstrdup(uploads), strlen(uploads), &reason) : NULL;

	return cJSON_IsArray(json) ? json : json_create(cJSON_Array);
}

static int
ordinal_of(const cJSON *entry)
{
	const cJSON *n = cJSON_GetObjectItemCaseSensitive(entry, "n");
	double value = json_is_number(n) ? json_double(n) : 0;

	return value >= 1 && value <= 1000000 ? (int) value : 0;
}

static cJSON *
entry_of(const cJSON *json, int ordinal)
{
	cJSON *entry;

	for (entry = json->child; entry != NULL; entry = entry->next)
	{
		if (cJSON_IsObject(entry) && ordinal_of(entry) == ordinal)
			return entry;
	}
	return NULL;
}

static char *
text_of(const cJSON *entry, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(entry, name);

	if (!cJSON_IsString(member) || *member->valuestring == '\0' ||
		strlen(member->valuestring) > MAX_TEXT)
		return NULL;
	return pstrdup(member->valuestring);
}

static void
remove_entry(cJSON *json, int ordinal)
{
	cJSON *entry;

	while ((entry = entry_of(json, ordinal)) != NULL)
		json_detach(json, entry);
}

/* ---------- where it was begun ---------- */

static void
add_text(cJSON *object, const char *name, const char *text)
{
	if (text != NULL)
		json_attach(object, name, json_create_string(pstrdup(text)));
}

/*
 * Returns the MAC that proves where an upload was begun, in hexadecimal.
 */
static char *
prove_place(const OpenUpload *upload, const char *secret)
{
	cJSON *json = json_create(cJSON_Object);
	uint8 mac[DIGEST_BYTES];
	char *text;

	add_text(json, "what", "genjob upload");
	add_text(json, "key", upload->key);
	add_text(json, "id", upload->id);
	add_text(json, "url", upload->at.url);
	add_text(json, "bucket", upload->at.bucket);
	add_text(json, "region", upload->at.region);
	add_text(json, "addressing", upload->at.addressing);
	text = json_print(json);
	digest_hmac(secret, strlen(secret), text, strlen(text), mac);
	return digest_hex(mac);
}

static void
add_place(cJSON *entry, const OpenUpload *upload, const char *secret)
{
	cJSON *at = json_create(cJSON_Object);

	add_text(at, "url", upload->at.url);
	add_text(at, "bucket", upload->at.bucket);
	add_text(at, "region", upload->at.region);
	add_text(at, "addressing", upload->at.addressing);
	json_attach(entry, "at", at);
	if (secret != NULL)
		add_text(entry, "proof", prove_place(upload, secret));
}

/*
 * Returns the place that an entry names; no bucket: none that could be called.
 */
static StorePlace
place_of(const cJSON *entry)
{
	const cJSON *at = cJSON_GetObjectItemCaseSensitive(entry, "at");
	StorePlace place = {text_of(at, "url"), text_of(at, "bucket"), text_of(at, "region"),
						text_of(at, "addressing")};

	if (place.url == NULL || place.region == NULL || place.addressing == NULL)
		place.bucket = NULL;
	return place;
}

/* ---------- the uploads of a row ---------- */

/*
 * Returns the uploads as JSON, palloc'd, with upload in place of an earlier
 * one of the same output.  uploads: JSON, or NULL.  secret proves where it was
 * begun; or NULL.
 */
char *
openupload_set(const char *uploads, const OpenUpload *upload, const char *secret)
{
	cJSON *json = parse_uploads(uploads);
	cJSON *entry = json_create(cJSON_Object);

	remove_entry(json, upload->ordinal);
	json_attach(entry, "n", json_create_number(upload->ordinal));
	json_attach(entry, "key", json_create_string(pstrdup(upload->key)));
	json_attach(entry, "id", json_create_string(pstrdup(upload->id)));
	add_text(entry, "mark", upload->mark);
	if (upload->at.bucket != NULL)
		add_place(entry, upload, secret);
	json_append(json, entry);
	return json_print(json);
}

/*
 * Returns the uploads as JSON, palloc'd, without that of the output; NULL if
 * none is left.
 */
char *
openupload_remove(const char *uploads, int ordinal)
{
	cJSON *json = parse_uploads(uploads);

	remove_entry(json, ordinal);
	return json->child != NULL ? json_print(json) : NULL;
}

/*
 * Returns the upload that an entry names, palloc'd; NULL if it names none.
 */
static OpenUpload *
read_entry(const cJSON *entry)
{
	OpenUpload *upload = palloc0(sizeof(OpenUpload));

	upload->ordinal = ordinal_of(entry);
	upload->key = text_of(entry, "key");
	upload->id = text_of(entry, "id");
	upload->mark = text_of(entry, "mark");
	upload->at = place_of(entry);
	return upload->key != NULL && upload->id != NULL ? upload : NULL;
}

/*
 * Returns the upload of an output, palloc'd; NULL if there is none, or it
 * cannot be continued.
 */
OpenUpload *
openupload_find(const char *uploads, int ordinal)
{
	const cJSON *entry = entry_of(parse_uploads(uploads), ordinal);

	return entry != NULL ? read_entry(entry) : NULL;
}

/*
 * Returns all uploads that can be named, of OpenUpload, palloc'd.
 */
List *
openupload_list(const char *uploads)
{
	const cJSON *entry;
	List *list = NIL;

	for (entry = parse_uploads(uploads)->child; entry != NULL; entry = entry->next)
	{
		OpenUpload *upload = read_entry(entry);

		if (upload != NULL)
			list = lappend(list, upload);
	}
	return list;
}

/*
 * True if genjob wrote where the upload of an output was begun, with the same
 * secret.
 */
bool
openupload_is_proven(const char *uploads, int ordinal, const char *secret)
{
	const OpenUpload *upload = openupload_find(uploads, ordinal);
	char *proof = upload ? text_of(entry_of(parse_uploads(uploads), ordinal), "proof") : NULL;

	return proof != NULL && secret != NULL && upload->at.bucket != NULL &&
		   strcmp(proof, prove_place(upload, secret)) == 0;
}

/*
 * Names the uploads for people, as "s3://bucket/key (upload ID)", palloc'd; ""
 * if there is none.
 */
char *
openupload_describe(const char *uploads)
{
	StringInfoData list;
	ListCell *cell;

	initStringInfo(&list);
	foreach(cell, openupload_list(uploads))
	{
		const OpenUpload *upload = lfirst(cell);

		appendStringInfo(&list, "%ss3://%s/%s (upload %s)", list.len > 0 ? ", " : "",
						 upload->at.bucket ? upload->at.bucket : "...", upload->key, upload->id);
	}
	return list.data;
}

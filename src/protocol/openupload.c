/*
 * openupload.c
 *		The uploads that a job has open, as its row keeps them in the column
 *		remote.
 *
 *		[{"n": 1, "key": "painter/1-1.mp4", "id": "...", "mark": "..."}]
 *
 * Anyone who may write the table may write this.  So an upload is continued
 * only if its key is the key that its output has anyway.
 */
#include "postgres.h"

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

/*
 * Returns the uploads as JSON, palloc'd, with upload in place of an earlier
 * one of the same output.  uploads: JSON, or NULL.
 */
char *
openupload_set(const char *uploads, const OpenUpload *upload)
{
	cJSON *json = parse_uploads(uploads);
	cJSON *entry = json_create(cJSON_Object);

	remove_entry(json, upload->ordinal);
	json_attach(entry, "n", json_create_number(upload->ordinal));
	json_attach(entry, "key", json_create_string(pstrdup(upload->key)));
	json_attach(entry, "id", json_create_string(pstrdup(upload->id)));
	if (upload->mark != NULL)
		json_attach(entry, "mark", json_create_string(pstrdup(upload->mark)));
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
 * Returns the upload of an output, palloc'd; NULL if there is none, or it
 * cannot be continued.
 */
OpenUpload *
openupload_find(const char *uploads, int ordinal)
{
	const cJSON *entry = entry_of(parse_uploads(uploads), ordinal);
	OpenUpload *upload = palloc0(sizeof(OpenUpload));

	if (entry == NULL)
		return NULL;
	upload->ordinal = ordinal;
	upload->key = text_of(entry, "key");
	upload->id = text_of(entry, "id");
	upload->mark = text_of(entry, "mark");
	return upload->key != NULL && upload->id != NULL ? upload : NULL;
}

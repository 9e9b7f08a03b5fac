/*
 * saved.c
 *		A verdict as JSON, kept in the table until its outputs are in their
 *		object store.
 *
 *		{"$verdict": 1, "result": ..., "usage": ..., "outputs": [{"type": "image/png", "data": "base64"}, ...]}
 *
 * Anyone who may write the table may write this: it is trusted no more than an
 * answer.
 */
#include "postgres.h"

#include "base/base64.h"
#include "base/bytes.h"
#include "protocol/saved.h"

#define MARK "$verdict"

static void
add_number(StringInfo out, const char *name, int64 value)
{
	json_add_member(out, name, psprintf(INT64_FORMAT, value));
}

static void
add_data(StringInfo out, const Output *output)
{
	char *base64 = base64_encode(output->data, output->len);

	json_add_member(out, "data", "\"");
	appendStringInfoString(out, base64);
	appendStringInfoChar(out, '"');
	pfree(base64);
}

static void
add_output(StringInfo out, const Output *output)
{
	appendStringInfoChar(out, '{');
	json_add_string(out, "type", output->content_type);
	json_add_string(out, "sha256", output->sha256);
	if (output->object != NULL)
	{
		json_add_string(out, "object", output->object);
		json_add_string(out, "etag", output->etag);
		json_add_string(out, "store", output->store);
		add_number(out, "store_oid", output->store_oid);
		add_number(out, "bytes", (int64) output->len);
	}
	else if (output->data != NULL)
		add_data(out, output);
	appendStringInfoChar(out, '}');
}

static size_t
bytes_of_outputs(const Verdict *verdict)
{
	size_t bytes = 0;
	ListCell *cell;

	foreach(cell, verdict->outputs)
	{
		const Output *output = lfirst(cell);

		bytes += output->object == NULL ? output->len : 0;
	}
	return bytes;
}

/*
 * Returns about how long the text of a verdict will be, in bytes.
 */
size_t
saved_size(const Verdict *verdict)
{
	return bytes_of_outputs(verdict) / 3 * 4 + (verdict->result ? strlen(verdict->result) : 0) +
		   (verdict->usage ? strlen(verdict->usage) : 0);
}

/*
 * True if a verdict is small enough for the table.
 */
bool
saved_fits(const Verdict *verdict)
{
	return bytes_of_outputs(verdict) <= SAVED_MOST && saved_size(verdict) <= SAVED_MOST_TEXT;
}

/*
 * Appends a verdict of the kind VERDICT_DONE as JSON.  Its result and usage go
 * as they are: who writes them has made them of a tree.
 */
void
saved_write(StringInfo out, const Verdict *verdict)
{
	ListCell *cell;

	appendStringInfoChar(out, '{');
	add_number(out, MARK, 1);
	add_number(out, "status", verdict->http_status);
	json_add_member(out, "result", verdict->result);
	json_add_member(out, "usage", verdict->usage);
	json_add_string(out, "note", verdict->note);
	json_add_member(out, "outputs", "[");
	foreach(cell, verdict->outputs)
	{
		if (foreach_current_index(cell) > 0)
			appendStringInfoChar(out, ',');
		add_output(out, lfirst(cell));
	}
	appendStringInfoString(out, "]}");
}

/*
 * True if saved JSON is a verdict, and not an answer.
 */
bool
saved_is(const cJSON *json)
{
	return cJSON_IsObject(json) && cJSON_GetObjectItemCaseSensitive(json, MARK) != NULL;
}

/*
 * True if text has the mark of a saved verdict; an answer may have it, too.
 */
bool
saved_is_text(const char *text)
{
	return strstr(text, "\"" MARK "\"") != NULL;
}

static char *
read_text(const cJSON *object, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);

	return cJSON_IsString(member) ? pstrdup(member->valuestring) : NULL;
}

static char *
read_json(const cJSON *object, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);

	return member != NULL && !cJSON_IsNull(member) ? json_print(member) : NULL;
}

static int64
read_number(const cJSON *object, const char *name)
{
	const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
	double number = json_is_number(member) ? json_double(member) : 0;

	return number >= 0 && number <= 1e15 ? (int64) number : 0;
}

static bool
is_digest(const char *hex)
{
	return hex != NULL && strlen(hex) == 64 && strspn(hex, "0123456789abcdef") == 64;
}

static Output *
read_output(const cJSON *object)
{
	Output *output = palloc0(sizeof(Output));
	char *data = read_text(object, "data");
	ssize_t len;

	output->content_type = read_text(object, "type");
	if (output->content_type == NULL)
		output->content_type = "application/octet-stream";
	output->sha256 = read_text(object, "sha256");
	if (!is_digest(output->sha256))
		output->sha256 = NULL;
	output->object = read_text(object, "object");
	output->etag = read_text(object, "etag");
	output->store = read_text(object, "store");
	output->store_oid = (Oid) Min(read_number(object, "store_oid"), PG_UINT32_MAX);
	output->len = (size_t) read_number(object, "bytes");
	if (output->sha256 == NULL || output->store == NULL)
		output->object = NULL;
	if (output->object != NULL || data == NULL)
		return output;
	len = base64_decode_in_place(data, strlen(data));
	output->data = len >= 0 ? data : NULL;
	output->len = len >= 0 ? (size_t) len : 0;
	return output;
}

/*
 * Returns the verdict that saved_write() wrote, in the current memory context.
 */
Verdict *
saved_read(cJSON *json)
{
	Verdict *verdict = palloc0(sizeof(Verdict));
	const cJSON *outputs = cJSON_GetObjectItemCaseSensitive(json, "outputs");
	const cJSON *output;

	verdict->kind = VERDICT_DONE;
	verdict->after = -1;
	verdict->progress = -1;
	verdict->http_status = (int) Min(read_number(json, "status"), 999);
	verdict->result = read_json(json, "result");
	verdict->usage = read_json(json, "usage");
	verdict->note = read_text(json, "note");
	cJSON_ArrayForEach(output, outputs) verdict->outputs =
		lappend(verdict->outputs, read_output(output));
	return verdict;
}

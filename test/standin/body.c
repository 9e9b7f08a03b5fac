/*
 * body.c
 *		Reading the body of a request: JSON, or multipart/form-data.
 */
#include "standin.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/keyvalq_struct.h>

const char *
request_method(const struct evhttp_request *req)
{
	switch (evhttp_request_get_command(req))
	{
		case EVHTTP_REQ_GET:
			return "GET";
		case EVHTTP_REQ_POST:
			return "POST";
		case EVHTTP_REQ_HEAD:
			return "HEAD";
		case EVHTTP_REQ_PUT:
			return "PUT";
		case EVHTTP_REQ_DELETE:
			return "DELETE";
		case EVHTTP_REQ_OPTIONS:
			return "OPTIONS";
		case EVHTTP_REQ_PATCH:
			return "PATCH";
		default:
			return "?";
	}
}

/* The JSON value that all of the text is; NULL when it is not one, or not UTF-8. */
static cJSON *
body_parse_json(const char *data, size_t len)
{
	const char *end = NULL;
	cJSON *json;

	for (size_t i = 0, n; i < len; i += n)
		if ((n = utf8_bytes((const unsigned char *) data + i, len - i)) == 0)
			return NULL;
	json = cJSON_ParseWithLengthOpts(data, len, &end, false);
	while (json && end < data + len && isspace((unsigned char) *end))
		end++;
	if (json && end < data + len)
	{
		cJSON_Delete(json);
		json = NULL;
	}
	return json;
}

/*
 * The value of "name" in a header such as
 * 'form-data; name="image"; filename="a.png"', to be freed; NULL when absent.
 */
static char *
header_parameter(const char *header, size_t len, const char *name)
{
	const char *end = header + len;
	const char *c = memchr(header, ';', len);
	size_t name_len = strlen(name);

	while (c && c < end)
	{
		const char *value;
		const char *stop;

		for (c++; c < end && (*c == ' ' || *c == '\t'); c++)
			;
		value = c + name_len + 1;
		if (value < end && strncasecmp(c, name, name_len) == 0 && value[-1] == '=')
		{
			const char *quote = *value == '"' ? "\"" : "; \t";

			value += *value == '"';
			for (stop = value; stop < end && strchr(quote, *stop) == NULL; stop++)
				;
			return strndup(value, stop - value);
		}
		c = memchr(c, ';', end - c);
	}
	return NULL;
}

/* Reads one header line of a part. */
static void
part_read_header(Part *part, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	const char *value = colon ? colon + 1 : NULL;

	if (value == NULL)
		return;
	while (value < line + len && *value == ' ')
		value++;
	len -= value - line;
	if (strncasecmp(line, "Content-Disposition:", 20) == 0)
	{
		free(part->name);
		free(part->filename);
		part->name = header_parameter(value, len, "name");
		part->filename = header_parameter(value, len, "filename");
	}
	else if (strncasecmp(line, "Content-Type:", 13) == 0)
	{
		free(part->content_type);
		part->content_type = strndup(value, len);
	}
}

/* Reads the part that is "len" bytes at "data", its headers first. */
static void
part_read(Part *part, const char *data, size_t len)
{
	const char *end = data + len;
	const char *eol;

	while ((eol = memmem(data, end - data, "\r\n", 2)) != NULL && eol != data)
	{
		part_read_header(part, data, eol - data);
		data = eol + 2;
	}
	part->data = eol ? eol + 2 : end;
	part->len = end - part->data;
	if (part->filename == NULL)
		part->text = strndup(part->data, part->len);
}

/* Reads the parts between the boundaries; what is not well formed is not a part. */
static void
body_parse_multipart(Body *body, const char *boundary)
{
	const char *end = body->data + body->len;
	size_t len = strlen(boundary) + 4;
	char *mark = malloc(len + 1);
	const char *start;
	const char *stop;

	strcpy(mark, "\r\n--");
	strcat(mark, boundary);
	/* the first boundary has no line end before it when there is no preamble */
	if (body->len >= len - 2 && memcmp(body->data, mark + 2, len - 2) == 0)
		start = body->data + len - 2;
	else if ((start = memmem(body->data, body->len, mark, len)) != NULL)
		start += len;
	while (start && end - start >= 2 && memcmp(start, "\r\n", 2) == 0 &&
		   (stop = memmem(start, end - start, mark, len)) != NULL)
	{
		body->parts = realloc(body->parts, (body->nparts + 1) * sizeof(Part));
		memset(&body->parts[body->nparts], 0, sizeof(Part));
		part_read(&body->parts[body->nparts++], start + 2, stop > start + 2 ? stop - start - 2 : 0);
		start = stop + len;
	}
	free(mark);
}

/* Reads the body of "req", which must stay as it is until body_free(). */
void
body_read(Body *body, struct evhttp_request *req)
{
	struct evbuffer *input = evhttp_request_get_input_buffer(req);
	const char *type = evhttp_find_header(evhttp_request_get_input_headers(req), "Content-Type");
	char *boundary;

	memset(body, 0, sizeof(Body));
	body->len = evbuffer_get_length(input);
	body->data = body->len > 0 ? (const char *) evbuffer_pullup(input, -1) : "";
	if (type && strncasecmp(type, "multipart/form-data", 19) == 0)
	{
		boundary = header_parameter(type, strlen(type), "boundary");
		if (boundary)
			body_parse_multipart(body, boundary);
		free(boundary);
		body->multipart = true;
	}
	else if (body->len > 0)
		body->json = body_parse_json(body->data, body->len);
}

void
body_free(Body *body)
{
	cJSON_Delete(body->json);
	for (int i = 0; i < body->nparts; i++)
	{
		free(body->parts[i].name);
		free(body->parts[i].filename);
		free(body->parts[i].content_type);
		free(body->parts[i].text);
	}
	free(body->parts);
}

/* The string "name" of the JSON body or of the form; NULL when there is none. */
const char *
body_text(const Body *body, const char *name)
{
	for (int i = 0; i < body->nparts; i++)
		if (body->parts[i].text && body->parts[i].name && strcmp(body->parts[i].name, name) == 0)
			return body->parts[i].text;
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(body->json, name));
}

/* Sets "number" to the number "name" of the JSON body or of the form; false when there is none. */
bool
body_number(const Body *body, const char *name, double *number)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(body->json, name);
	const char *text;
	char *end;

	if (cJSON_IsNumber(item))
	{
		*number = item->valuedouble;
		return true;
	}
	text = body->multipart ? body_text(body, name) : NULL;
	if (text == NULL || *text == '\0')
		return false;
	*number = strtod(text, &end);
	return *end == '\0';
}

/* What the object "name" of a JSON body wraps, to be read like a body; not to be freed. */
Body
body_inside(const Body *body, const char *name)
{
	Body inside = {.data = body->data, .len = body->len};

	inside.json = cJSON_GetObjectItemCaseSensitive(body->json, name);
	return inside;
}

/* The prompt of a request, wherever a dialect has it; NULL when there is none. */
const char *
body_prompt(const Body *body)
{
	static const char *const wrappers[] = {"input", "inputs", "messages", "contents"};
	const char *prompt = body_text(body, "prompt");

	for (size_t i = 0; prompt == NULL && i < sizeof(wrappers) / sizeof(wrappers[0]); i++)
	{
		const cJSON *item = cJSON_GetObjectItemCaseSensitive(body->json, wrappers[i]);

		prompt = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "prompt"));
		if (prompt == NULL)
			prompt = json_last_text(item);
	}
	return prompt;
}

/*
 * The last text of what was said: a string, or the last one that stands as
 * "content" or "text", on its own or in an array of parts; NULL: there is none.
 */
const char *
json_last_text(const cJSON *messages)
{
	static const char *const places[] = {"content", "parts", "text"};
	const char *last = NULL;
	const cJSON *item;

	if (cJSON_IsString(messages))
		return messages->valuestring;
	if (cJSON_IsArray(messages))
	{
		cJSON_ArrayForEach(item, messages)
		{
			const char *text = json_last_text(item);

			last = text ? text : last;
		}
		return last;
	}
	for (size_t i = 0; messages && last == NULL && i < sizeof(places) / sizeof(places[0]); i++)
		last = json_last_text(cJSON_GetObjectItemCaseSensitive(messages, places[i]));
	return last;
}

/*
 * request.c
 *		From a job's request to the call: what a role may INSERT, with inputs and outputs of other jobs.
 *
 *		API [OPTION=VALUE]...
 *		[input TEXT]...
 *
 *		REQUEST
 */
#include "fuzz.h"

#include "http/header.h"
#include "base/json.h"
#include "protocol/request.h"

#define MAX_INPUTS 8

static int
read_inputs(FuzzInput *input, Input *inputs)
{
	size_t len;
	char *block = input_take_block(input, &len);
	FuzzInput lines = {block, len};
	int n = 0;

	while (lines.len > 0 && n < MAX_INPUTS)
	{
		inputs[n].data = input_take_line(&lines);
		inputs[n].len = strlen(inputs[n].data);
		n++;
	}
	return n;
}

/*
 * Every other output that is referred to is there.
 */
static void
give_references(RequestSource *source)
{
	int i;

	source->references = request_list_references(source, &source->n_references);
	for (i = 0; i < source->n_references; i++)
	{
		Reference *reference = &source->references[i];

		if (reference->ordinal % 2 == 0)
			continue;
		reference->content_type = reference->ordinal % 3 == 0 ? "image/png" : "strange";
		reference->data = pstrdup("bytes of another job's output");
		reference->len = strlen(reference->data);
	}
}

/*
 * A call that can be sent, and shown to people.
 */
static void
must_be_call(const HttpRequest *http)
{
	ListCell *cell;
	const char *p;

	for (p = http->url; *p > ' ' && *p != 0x7f; p++)
		;
	must_be(*p == '\0', "a URL has no blank and no byte beyond ASCII", http->url);
	foreach(cell, http->headers)
	{
		const HttpHeader *header = lfirst(cell);

		must_be(header_is_name(header->name), "a header has a name", header->name);
		must_be(header_is_value(header->value), "a header has no line break", header->value);
	}
	must_be_bytes(http->body, http->body_len);
	must_be_utf8(http->shown_url, "shown_url");
}

static bool
is_object(const char *text)
{
	const char *reason;
	char *copy = pstrdup(text);

	return cJSON_IsObject(json_parse(copy, strlen(copy), &reason));
}

FUZZ_HARNESS(request)
{
	/* then it is the user's own word */
	bool has_secret = memmem(input->data, input->len, "sk-", 3) != NULL;
	char *line = input_take_line(input);
	const char *api = input_take_word(&line);
	ServerOptions *options = input_read_options(preset_find(api) ? api : "http", &line);
	MappingOptions secrets = {pstrdup("user:" FUZZ_SECRET), "{\"X-Own\": \"" FUZZ_SECRET "\"}"};
	Input inputs[MAX_INPUTS];
	RequestSource source = {options, &secrets, NULL, inputs};
	HttpRequest *http;

	secrets.access_key_id = secrets.secret_access_key = secrets.session_token = FUZZ_SECRET;
	source.n_inputs = read_inputs(input, inputs);
	source.idempotency_key = "0190a0a0-0000-7000-8000-000000000000";
	source.request = input_take_utf8(input);
	if (!is_object(source.request)) /* a column of jsonb has nothing else */
		return;
	if (strstr(source.request, FUZZ_SECRET) != NULL)
		return; /* its own words it may show */
	if (request_may_refer(&source))
		give_references(&source);
	request_check(&source);
	http = request_build(&source);
	must_be_call(http);
	must_be_utf8(request_describe(http), "what preview() shows");
	if (!has_secret)
		must_be_text(request_describe(http), "what preview() shows");
}

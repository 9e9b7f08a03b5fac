/*
 * stream.c
 *		Answers that come in pieces: the body alone, by the rules of each api that has some; or, where the first line is
 *		"options", by those that the lines up to an empty one say.
 */
#include "fuzz.h"

#include "base/json.h"
#include "server/preset.h"
#include "server/streamrules.h"
#include "protocol/stream.h"

static const char *const apis[] = {"openai-chat",      "ollama", "anthropic",
								   "openai-responses", "gemini", "openai-images",
								   "huggingface",      "http",   "bfl"};

static void
read_stream(const Protocol *protocol, const char *data, size_t len)
{
	char *body = palloc(len + 1);
	Stream stream;

	memcpy(body, data, len);
	body[len] = '\0';
	stream_read(protocol, body, len, CurrentMemoryContext, &stream);
	must_be_jsonb(json_print(stream.json), "the object that a stream comes to");
	if (stream.error != NULL)
		must_be_utf8(stream.error, "the error of a stream");
	pfree(body);
}

static const char *
take_option(FuzzInput *input, const char *(*check)(const char *) )
{
	char *line = input_take_line(input);

	return *line != '\0' && check(line) == NULL ? line : NULL;
}

FUZZ_HARNESS(stream)
{
	int i;

	if (input->len > 8 && memcmp(input->data, "options\n", 8) == 0)
	{
		Protocol protocol = {.error = "/error/message /error", .encoding = "auto"};

		(void) input_take_line(input);
		protocol.stream_end = take_option(input, streamrules_check_conditions);
		protocol.stream_error = take_option(input, streamrules_check_conditions);
		protocol.stream_parts = take_option(input, streamrules_check_parts);
		protocol.stream_places = take_option(input, streamrules_check_places);
		protocol.stream_type = "/type";
		read_stream(&protocol, input->data, input->len);
		return;
	}
	for (i = 0; i < lengthof(apis); i++)
	{
		Protocol protocol = preset_find(apis[i])->protocol;

		protocol.encoding = protocol.encoding ? protocol.encoding : "auto";
		read_stream(&protocol, input->data, input->len);
	}
}

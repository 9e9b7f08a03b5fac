/*
 * stream.c
 *		Answers that come in pieces:  the body alone, first with the places of one api, then of another.
 */
#include "fuzz.h"

#include "base/json.h"
#include "server/preset.h"
#include "protocol/stream.h"

static void
read_stream(const char *api, const char *data, size_t len)
{
	const Preset *preset = preset_find(api);
	char *body = palloc(len + 1);
	Stream stream;

	memcpy(body, data, len);
	body[len] = '\0';
	stream_read(&preset->protocol, body, len, &stream);
	must_be_jsonb(json_print(stream.json), "the members of a stream");
	must_be_utf8(stream.error, "the error of a stream");
}

FUZZ_HARNESS(stream)
{
	read_stream("openai-chat", input->data, input->len);
	read_stream("ollama", input->data, input->len);
}

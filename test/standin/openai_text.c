/*
 * openai_text.c
 *		The dialect of OpenAI's text: /v1/chat/completions, at once or as a
 *		stream, which llama.cpp and many others speak too, /v1/embeddings and
 *		/v1/audio/speech.
 */
#include "standin.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define CHUNK_HEAD \
	"data: {\"id\":\"chatcmpl-standin\",\"object\":\"chat.completion.chunk\"," \
	"\"created\":1700000000,\"model\":\"stand-in\",\"choices\":["
#define DEFAULT_DIMENSIONS 8
#define MAX_DIMENSIONS 4096
#define SPEECH_HZ 8000

static void
chat_write_usage(Call *call, struct evbuffer *out, size_t tokens)
{
	size_t prompt = call->picture.prompt_bytes;

	if (call->usage)
		evbuffer_add_printf(out, "%s", call->usage);
	else
		evbuffer_add_printf(out,
							"{\"prompt_tokens\":%zu,\"completion_tokens\":%zu,\"total_tokens\":%zu}",
							prompt, tokens, prompt + tokens);
}

static void
chat_write_chunk(struct evbuffer *out, const char *delta, const char *text, size_t len,
				 const char *rest)
{
	evbuffer_add_printf(out, CHUNK_HEAD "{\"index\":0,\"delta\":{%s", delta);
	if (text)
		json_add_text(out, text, len);
	evbuffer_add_printf(out, "},\"logprobs\":null,\"finish_reason\":%s}]}\n\n", rest);
}

/* A stream that fails half-way says so in an event, and ends without [DONE]. */
static void
chat_write_stream_error(Call *call, struct evbuffer *out)
{
	evbuffer_add_printf(out, "data: {\"error\":{\"message\":");
	json_add_string(out, call->fault.message ? call->fault.message
											 : "The server had an error while processing your "
											   "request.");
	evbuffer_add_printf(out, ",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n");
}

static void
chat_write_stream(Call *call, const char *text, bool include_usage)
{
	struct evbuffer *out = call_begin_stream(call, "text/event-stream; charset=utf-8", "\n\n");
	size_t pieces = text_pieces(text);
	size_t left = call->fault.stream_error ? pieces / 2 : pieces;

	chat_write_chunk(out, "\"role\":\"assistant\",\"refusal\":null,\"content\":", "", 0, "null");
	for (size_t n; left > 0; left--, text += n)
	{
		n = text_piece_bytes(text);
		chat_write_chunk(out, "\"content\":", text, n, "null");
	}
	if (call->fault.stream_error)
	{
		chat_write_stream_error(call, out);
		return;
	}
	chat_write_chunk(out, "", NULL, 0, "\"stop\"");
	if (include_usage)
	{
		evbuffer_add_printf(out, CHUNK_HEAD "],\"usage\":");
		chat_write_usage(call, out, pieces);
		evbuffer_add_printf(out, "}\n\n");
	}
	evbuffer_add_printf(out, "data: [DONE]\n\n");
}

static void
chat_write_whole(Call *call, const char *text)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json");

	evbuffer_add_printf(out, "{\"id\":\"chatcmpl-standin\",\"object\":\"chat.completion\","
							 "\"created\":1700000000,\"model\":\"stand-in\",\"choices\":[{"
							 "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
	json_add_string(out, text);
	evbuffer_add_printf(out, ",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
							 "\"usage\":");
	chat_write_usage(call, out, text_pieces(text));
	evbuffer_add(out, "}", 1);
}

static void
chat_accept(Call *call, const Body *body)
{
	const cJSON *messages = cJSON_GetObjectItemCaseSensitive(body->json, "messages");
	const cJSON *options = cJSON_GetObjectItemCaseSensitive(body->json, "stream_options");
	const char *prompt = json_last_text(messages);
	char *text;

	if (!cJSON_IsArray(messages) || messages->child == NULL)
	{
		call_refuse(call, 400, "missing_required_parameter",
					"Missing required parameter: 'messages'.");
		return;
	}
	call->picture.prompt_bytes = prompt ? text_pieces(prompt) : 0;
	text = call_said(call, prompt);
	if (script_bool(body->json, "stream"))
		chat_write_stream(call, text, script_bool(options, "include_usage"));
	else
		chat_write_whole(call, text);
	free(text);
}

/* Writes the vector of a text: numbers that follow from it, or their bytes in base64. */
static void
embedding_write(struct evbuffer *out, const char *text, int dimensions, bool base64)
{
	float numbers[MAX_DIMENSIONS];
	uint32_t sum = (uint32_t) crc32(0, (const Bytef *) text, (uInt) strlen(text));

	for (int i = 0; i < dimensions; i++)
		numbers[i] = sinf((float) (sum % 1000) + (float) i) / sqrtf((float) dimensions);
	if (base64)
	{
		evbuffer_add(out, "\"", 1);
		json_add_base64(out, numbers, (size_t) dimensions * sizeof(float));
		evbuffer_add(out, "\"", 1);
		return;
	}
	for (int i = 0; i < dimensions; i++)
		evbuffer_add_printf(out, "%s%.8g", i > 0 ? "," : "[", (double) numbers[i]);
	evbuffer_add(out, "]", 1);
}

static void
embeddings_accept(Call *call, const Body *body)
{
	const cJSON *input = cJSON_GetObjectItemCaseSensitive(body->json, "input");
	const char *format = body_text(body, "encoding_format");
	const cJSON *item = cJSON_IsArray(input) ? input->child : input;
	bool base64 = format && strcmp(format, "base64") == 0;
	double dimensions = DEFAULT_DIMENSIONS;
	struct evbuffer *out;
	size_t tokens = 0;

	body_number(body, "dimensions", &dimensions);
	if (!cJSON_IsString(item) || !(dimensions >= 1 && dimensions <= MAX_DIMENSIONS))
	{
		call_refuse(call, 400, NULL, "Invalid 'input' or 'dimensions'.");
		return;
	}
	out = call_begin_answer(call, 200, "application/json");
	evbuffer_add_printf(out, "{\"object\":\"list\",\"data\":[");
	for (int i = 0; item && cJSON_IsString(item);
		 i++, item = cJSON_IsArray(input) ? item->next : NULL)
	{
		evbuffer_add_printf(out, "%s{\"object\":\"embedding\",\"index\":%d,\"embedding\":",
							i > 0 ? "," : "", i);
		embedding_write(out, item->valuestring, (int) dimensions, base64);
		evbuffer_add(out, "}", 1);
		tokens += text_pieces(item->valuestring);
	}
	evbuffer_add_printf(out, "],\"model\":\"stand-in\",\"usage\":");
	if (call->usage)
		evbuffer_add_printf(out, "%s}", call->usage);
	else
		evbuffer_add_printf(out, "{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}", tokens, tokens);
}

/* Adds numbers of "bytes" bytes, the least first. */
static void
bytes_add(struct evbuffer *out, uint32_t number, int bytes)
{
	for (; bytes > 0; bytes--, number >>= 8)
	{
		unsigned char byte = (unsigned char) number;

		evbuffer_add(out, &byte, 1);
	}
}

/* A tone of 16-bit samples: a tenth of a second and more for a longer text. */
static void
speech_write_samples(struct evbuffer *out, uint32_t samples, double hz)
{
	for (uint32_t i = 0; i < samples; i++)
		bytes_add(out, (uint32_t) (int) (8000 * sin(i * hz * 2 * M_PI / SPEECH_HZ)), 2);
}

static void
speech_write_wav(struct evbuffer *out, uint32_t samples, double hz)
{
	evbuffer_add(out, "RIFF", 4);
	bytes_add(out, 36 + samples * 2, 4);
	evbuffer_add(out, "WAVEfmt ", 8);
	bytes_add(out, 16, 4);
	bytes_add(out, 1, 2); /* PCM, of one channel */
	bytes_add(out, 1, 2);
	bytes_add(out, SPEECH_HZ, 4);
	bytes_add(out, SPEECH_HZ * 2, 4);
	bytes_add(out, 2, 2);
	bytes_add(out, 16, 2);
	evbuffer_add(out, "data", 4);
	bytes_add(out, samples * 2, 4);
	speech_write_samples(out, samples, hz);
}

/* Silence, whatever the text: a frame of MPEG 1 Layer III that is all zero but for its header. */
static void
speech_write_mp3(struct evbuffer *out, uint32_t frames)
{
	unsigned char frame[417] = {0xFF, 0xFB, 0x90, 0x64};

	for (; frames > 0; frames--)
		evbuffer_add(out, frame, sizeof(frame));
}

static void
speech_accept(Call *call, const Body *body)
{
	const char *input = body_text(body, "input");
	const char *format = body_text(body, "response_format");
	uint32_t samples;
	double hz;

	if (input == NULL || body_text(body, "voice") == NULL)
	{
		call_refuse(call, 400, "missing_required_parameter", "Missing required parameter: '%s'.",
					input ? "voice" : "input");
		return;
	}
	samples = SPEECH_HZ / 10 + 8 * (uint32_t) strnlen(input, 4096);
	hz = 220 + crc32(0, (const Bytef *) input, (uInt) strlen(input)) % 440;
	if (format && strcmp(format, "wav") == 0)
		speech_write_wav(call_begin_answer(call, 200, "audio/wav"), samples, hz);
	else if (format && strcmp(format, "pcm") == 0)
		speech_write_samples(call_begin_answer(call, 200, "audio/pcm"), samples, hz);
	else if (format == NULL || strcmp(format, "mp3") == 0)
		speech_write_mp3(call_begin_answer(call, 200, "audio/mpeg"), samples / 100);
	else
		call_refuse(call, 400, "invalid_value",
					"Invalid value: '%.40s'. Supported here are: "
					"'mp3', 'pcm' and 'wav'.",
					format);
}

static const Route routes[] = {{"POST", "/v1/chat/completions", chat_accept, NULL, ERRAND_SUBMIT},
							   {"POST", "/v1/embeddings", embeddings_accept, NULL, ERRAND_SUBMIT},
							   {"POST", "/v1/audio/speech", speech_accept, NULL, ERRAND_SUBMIT},
							   {.path = NULL}};

const Dialect openai_text_dialect = {.routes = routes,
									 .auth = "Authorization: Bearer ",
									 .busy_message = "Rate limit reached.",
									 .write_error = openai_write_error};

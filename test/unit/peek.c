/*
 * peek.c
 *		What is shown of a stream while it comes: the same wherever it is cut in two.
 */
#include "unit.h"

#include "lib/stringinfo.h"

#include "protocol/disguise.h"
#include "protocol/stream.h"
#include "server/preset.h"

static const Protocol *
protocol_of(const char *api)
{
	Protocol *protocol = palloc(sizeof(Protocol));

	*protocol = preset_find(api)->protocol;
	protocol->encoding = "auto";
	return protocol;
}

static const struct
{
	const char *api;
	const char *body;
	const char *text;
	int pieces;
} streams[] = {
	{"openai-chat",
	 "data: {\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"content\":\"l\\ud83d\"}}]}\r\n\r\n"
	 "data: {\"choices\":[{\"delta\":{\"content\":\"\\ude00\"}}]}\r\n\r\n",
	 "Hell\xF0\x9F\x98\x80", 3},
	{"ollama", "{\"response\":\"a\"}\n{\"response\":\"a\"}\n{\"response\":\"\",\"done\":true}\n",
	 "aa", 2},
	{"anthropic",
	 "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
	 "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
	 "Hi", 1},
	{"openai-responses",
	 "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n"
	 "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"!\"}\n\n",
	 "Hi!", 2},
	{"gemini",
	 "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}]}}]}\r\n\r\ndata: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"y\"}]}}]}\r\n\r\n",
	 "xy", 2},
	{"huggingface", "data:{\"token\":{\"text\":\"He\"}}\n\ndata:{\"token\":{\"text\":\"llo\"}}\n\n",
	 "Hello", 2},
};

static void
test_cuts(void)
{
	HttpRequest request = {NULL};
	int i;

	for (i = 0; i < lengthof(streams); i++)
	{
		const Protocol *protocol = protocol_of(streams[i].api);
		size_t len = strlen(streams[i].body);
		int n_wrong = 0;
		size_t at;

		for (at = 0; at <= len; at++)
		{
			StreamPeek *peek = stream_peek_begin(protocol);

			stream_peek(peek, streams[i].body, at);
			stream_peek(peek, streams[i].body, len);
			n_wrong += strcmp(stream_peek_text(peek, &request), streams[i].text) != 0 ||
					   stream_peek_pieces(peek) != streams[i].pieces;
		}
		unit_is_int(n_wrong, 0, "%s, cut anywhere", streams[i].api);
	}
}

static StreamPeek *
peek_at_text(const char *text, int times)
{
	StreamPeek *peek = stream_peek_begin(protocol_of("ollama"));
	StringInfo body = makeStringInfo();

	while (times-- > 0)
		appendStringInfo(body, "{\"response\":\"%s\"}\n", text);
	stream_peek(peek, body->data, body->len);
	return peek;
}

static void
test_tail(void)
{
	HttpRequest request = {NULL};
	char *text;

	request.secrets = lappend(NIL, "sk-secret-1234");
	text = stream_peek_text(peek_at_text("\xC3\xA9", 1000), &request);
	unit_is_int((int64) strlen(text), 400, "the last 200 characters");
	unit_ok(strstr(stream_peek_text(peek_at_text("my sk-secret-1234 is", 1), &request), "secret") ==
				NULL,
			"a secret is masked");
	unit_is_text(stream_peek_text(peek_at_text("my sk-secret-1", 1), &request), "my ",
				 "the beginning of one is not shown");
	request.disguises = disguise_list(NIL, "sk-secret-1234");
	unit_is_text(stream_peek_text(peek_at_text("my c2stc2Vjcm", 1), &request), "my ",
				 "... also not in base64");
	unit_is_int(stream_peek_pieces(peek_at_text("x", 100)), 100, "as many pieces as came");
	unit_ok(stream_peek_pieces(peek_at_text("a word and another", 100000)) < 110000,
			"much at once is passed over");
	unit_is_text(stream_peek_text(peek_at_text("a word and another", 100000), &request) + 182,
				 "a word and another", "... and its end is shown");
}

void
unit_run(void)
{
	test_cuts();
	test_tail();
}

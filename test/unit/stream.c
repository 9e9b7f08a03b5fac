/*
 * stream.c
 *		What streams come to: each case is a stream as a server sends it, and the object that the call would have given
 *		without one; however its lines end, and wherever it is cut.
 *
 * Events are written one a line: "data" alone is JSON, "type data" has a type, and what begins with "=" is a line as it
 * stands.
 */
#include "unit.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "base/json.h"
#include "protocol/stream.h"
#include "server/preset.h"
#include "server/streamrules.h"

typedef struct Case
{
	const char *what;
	const char *api;
	const char *events;
	const char
		*expected; /* "JSON", or with what is said of it before: "error: WORDS", "cut", "unread" */
} Case;

#define CHUNK "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,"

static const Case cases[] = {
	/* chat completions */
	{"text", "openai-chat",
	 CHUNK
	 "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n" CHUNK
	 "\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}\n" CHUNK
	 "\"delta\":{\"content\":\"lo\"},\"finish_reason\":null}]}\n" CHUNK
	 "\"delta\":{},\"finish_reason\":\"stop\"}]}\n"
	 "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"total_tokens\":7}}\n"
	 "[DONE]",
	 "{\"object\":\"chat.completion\",\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"Hello\"},"
	 "\"index\":0,\"finish_reason\":\"stop\"}],\"id\":\"c\",\"usage\":{\"total_tokens\":7}}"},
	{"a role in each chunk, and the same token twice", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"ha\"}}]}\n"
	 "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"ha\"},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"haha\"},\"finish_reason\":\"stop\"}]}"},
	{"tool calls by index", "openai-chat",
	 "{\"choices\":[{\"index\":0,\"delta\":{\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\","
	 "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]}}]}\n"
	 "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":\"function\","
	 "\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"y\\\"\"}}]}}]}\n"
	 "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}},"
	 "{\"index\":1,\"function\":{\"arguments\":\":2}\"}}]},\"finish_reason\":\"tool_calls\"}]}",
	 "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":["
	 "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
	 "{\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\\\"y\\\":2}\"}}]},"
	 "\"index\":0,\"finish_reason\":\"tool_calls\"}]}"},
	{"whole tool calls without an index", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
	 "\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"
	 "{\"id\":\"b\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"stop\"}]}"},
	{"several choices, the second first", "openai-chat",
	 "{\"choices\":[{\"index\":1,\"delta\":{\"content\":\"b\"}}]}\n"
	 "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}},{\"index\":1,\"delta\":{\"content\":\"B\"}}]}\n"
	 "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"A\"},\"finish_reason\":\"stop\"}]}\n[DONE]",
	 "{\"choices\":[{\"message\":{\"content\":\"aA\"},\"index\":0,\"finish_reason\":\"stop\"},"
	 "{\"message\":{\"content\":\"bB\"},\"index\":1}]}"},
	{"content as a list, then as text", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"H\"}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"i\"}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":\"!\"},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"Hi!\"}]},\"finish_reason\":\"stop\"}]}"},
	{"Mistral's thinking", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"a\"}]}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"b\"}]}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":\"c\"}}]}\n{\"choices\":[{\"delta\":{\"content\":\"d\"},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"type\":\"text\",\"text\":\"ab\"}]},"
	 "{\"type\":\"text\",\"text\":\"cd\"}]},\"finish_reason\":\"stop\"}]}"},
	{"pictures, reasoning and a refusal", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"reasoning\":\"so\",\"refusal\":\"n\"}}]}\n"
	 "{\"choices\":[{\"delta\":{\"reasoning\":\"so\",\"refusal\":\"o\"}}]}\n"
	 "{\"choices\":[{\"delta\":{\"images\":[{\"image_url\":{\"url\":\"x\"}}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"images\":[{\"image_url\":{\"url\":\"y\"}}]},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"reasoning\":\"soso\",\"refusal\":\"no\",\"images\":[{\"image_url\":{\"url\":\"x\"}},"
	 "{\"image_url\":{\"url\":\"y\"}}]},\"finish_reason\":\"stop\"}]}"},
	{"a member of no one's", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"musing\":\"so \",\"format\":\"v1\"}}]}\n"
	 "{\"choices\":[{\"delta\":{\"musing\":\"what\",\"format\":\"v1\"},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"musing\":\"so what\",\"format\":\"v1\"},\"finish_reason\":\"stop\"}]}"},
	{"lists of log probabilities", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":[{\"token\":\"a\"}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":\"b\"},\"logprobs\":{\"content\":[{\"token\":\"b\"}]},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"content\":\"ab\"},\"logprobs\":{\"content\":[{\"token\":\"a\"},{\"token\":\"b\"}]},"
	 "\"finish_reason\":\"stop\"}]}"},
	{"completions", "openai-chat",
	 "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n"
	 "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"b\",\"finish_reason\":\"stop\"}]}",
	 "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"ab\",\"finish_reason\":\"stop\"}]}"},
	{"llama.cpp's completion", "openai-chat",
	 "{\"index\":0,\"content\":\"a\",\"tokens\":[1],\"stop\":false}\n{\"index\":0,\"content\":\"b\",\"tokens\":[2],\"stop\":false}\n"
	 "{\"index\":0,\"content\":\"\",\"tokens\":[],\"stop\":true,\"timings\":{\"predicted_n\":2}}",
	 "{\"index\":0,\"content\":\"ab\",\"tokens\":[1,2],\"stop\":true,\"timings\":{\"predicted_n\":2}}"},
	{"log probabilities of a refusal, and usage that is null until the end", "openai-chat",
	 "{\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"No\"},\"logprobs\":{\"content\":null,\"refusal\":[{\"token\":\"No\",\"logprob\":-0.5}]},\"finish_reason\":null}],\"usage\":null}\n"
	 "{\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\".\"},\"logprobs\":{\"content\":null,\"refusal\":[{\"token\":\".\",\"logprob\":-1}]},\"finish_reason\":\"stop\"}],\"usage\":null}\n"
	 "{\"choices\":[],\"usage\":{\"total_tokens\":7,\"completion_tokens_details\":{\"reasoning_tokens\":0}}}\n"
	 "[DONE]",
	 "{\"choices\":[{\"message\":{\"refusal\":\"No.\"},\"index\":0,\"logprobs\":{\"content\":null,\"refusal\":[{\"token\":\"No\",\"logprob\":-0.5},{\"token\":\".\",\"logprob\":-1}]},\"finish_reason\":\"stop\"}],\"usage\":{\"total_tokens\":7,\"completion_tokens_details\":{\"reasoning_tokens\":0}}}"},
	{"tool calls of two choices", "openai-chat",
	 "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}},{\"index\":1,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"[\"}}]}}]}\n"
	 "{\"choices\":[{\"index\":1,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"]\"}}]},\"finish_reason\":\"tool_calls\"}]}\n"
	 "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n"
	 "[DONE]",
	 "{\"choices\":[{\"message\":{\"tool_calls\":[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"index\":0,\"finish_reason\":\"tool_calls\"},{\"message\":{\"tool_calls\":[{\"id\":\"b\",\"function\":{\"name\":\"g\",\"arguments\":\"[]\"}}]},\"index\":1,\"finish_reason\":\"tool_calls\"}]}"},
	{"a tool of one's own, and a function call as they were", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"custom\",\"custom\":{\"name\":\"f\",\"input\":\"x\"}}],\"function_call\":{\"name\":\"h\",\"arguments\":\"{\"}}}]}\n"
	 "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"custom\":{\"input\":\"y\"}}],\"function_call\":{\"arguments\":\"}\"}},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"tool_calls\":[{\"id\":\"a\",\"type\":\"custom\",\"custom\":{\"name\":\"f\",\"input\":\"xy\"}}],\"function_call\":{\"name\":\"h\",\"arguments\":\"{}\"}},\"finish_reason\":\"stop\"}]}"},
	{"reasoning of others", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"reasoning_content\":\"a\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"a\",\"index\":0}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"reasoning_content\":\"a\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"a\",\"signature\":\"s\",\"index\":0}]}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"reasoning_content\":\"aa\",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":\"aa\",\"index\":0,\"signature\":\"s\"}],\"content\":\"b\"},\"finish_reason\":\"stop\"}]}"},
	{"sound in pieces with padding", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"audio\":{\"id\":\"a\",\"transcript\":\"Hel\",\"data\":\"AAE=\"}}}]}\n"
	 "{\"choices\":[{\"delta\":{\"audio\":{\"data\":\"AgME\",\"transcript\":\"lo\"}}}]}\n"
	 "{\"choices\":[{\"delta\":{\"audio\":{\"data\":\"BQ==\",\"expires_at\":7}},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"audio\":{\"id\":\"a\",\"transcript\":\"Hello\",\"data\":\"AAECAwQF\",\"expires_at\":7}},\"finish_reason\":\"stop\"}]}"},
	{"completions with choices and log probabilities", "openai-chat",
	 "{\"choices\":[{\"index\":1,\"text\":\"b\",\"logprobs\":{\"tokens\":[\"b\"],\"token_logprobs\":[-1],\"text_offset\":[3]}},{\"index\":0,\"text\":\"a\",\"logprobs\":{\"tokens\":[\"a\"],\"token_logprobs\":[-2],\"text_offset\":[3]}}]}\n"
	 "{\"choices\":[{\"index\":0,\"text\":\"c\",\"logprobs\":{\"tokens\":[\"c\"],\"token_logprobs\":[-3],\"text_offset\":[4]},\"finish_reason\":\"length\"}]}\n"
	 "{\"choices\":[{\"index\":1,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n"
	 "[DONE]",
	 "{\"choices\":[{\"index\":0,\"text\":\"ac\",\"logprobs\":{\"tokens\":[\"a\",\"c\"],\"token_logprobs\":[-2,-3],\"text_offset\":[3,4]},\"finish_reason\":\"length\"},{\"index\":1,\"text\":\"b\",\"logprobs\":{\"tokens\":[\"b\"],\"token_logprobs\":[-1],\"text_offset\":[3]},\"finish_reason\":\"stop\"}]}"},
	{"llama.cpp's probabilities", "openai-chat",
	 "{\"content\":\"a\",\"stop\":false,\"completion_probabilities\":[{\"id\":1}]}\n"
	 "{\"content\":\"b\",\"stop\":false,\"completion_probabilities\":[{\"id\":2}]}\n"
	 "{\"content\":\"\",\"stop\":true,\"tokens_predicted\":2}",
	 "{\"content\":\"ab\",\"stop\":true,\"completion_probabilities\":[{\"id\":1},{\"id\":2}],\"tokens_predicted\":2}"},
	{"half a character in each of two events", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"content\":\"\\ud83d\"}}]}\n"
	 "{\"choices\":[{\"delta\":{\"content\":\"\\ude00\"},\"finish_reason\":\"stop\"}]}",
	 "{\"choices\":[{\"message\":{\"content\":\"\xF0\x9F\x98\x80\"},\"finish_reason\":\"stop\"}]}"},
	{"nothing but its end", "openai-chat", "[DONE]", "empty {}"},
	{"no end", "openai-chat", "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}",
	 "cut {\"choices\":[{\"message\":{\"content\":\"a\"}}]}"},
	{"an error in its midst", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n{\"error\":{\"message\":\"it broke\",\"code\":500}}",
	 "error: it broke {\"choices\":[{\"message\":{\"content\":\"a\"}}],\"error\":{\"message\":\"it broke\",\"code\":500}}"},
	{"an error event in plain words", "openai-chat", "error the beam broke",
	 "error: the beam broke {}"},
	{"an error event in other words", "openai-chat", "error {\"reason\":\"beam\"}",
	 "error: {\"reason\":\"beam\"} {\"reason\":\"beam\"}"},
	{"something else", "openai-chat",
	 "{\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\nhello",
	 "unread {\"choices\":[{\"message\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}"},

	/* Anthropic's messages */
	{"text and tools", "anthropic",
	 "message_start {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\","
	 "\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n"
	 "ping {\"type\":\"ping\"}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"lo\"}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"citations_delta\",\"citation\":{\"a\":1}}}\n"
	 "content_block_stop {\"type\":\"content_block_stop\",\"index\":0}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\","
	 "\"name\":\"f\",\"input\":{}}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"x\\\"\"}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\": 7.0}\"}}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"u\","
	 "\"name\":\"g\",\"input\":{}}}\n"
	 "message_delta {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":9}}\n"
	 "message_stop {\"type\":\"message_stop\"}",
	 "{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":["
	 "{\"type\":\"text\",\"text\":\"Hello\",\"citations\":[{\"a\":1}]},"
	 "{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{\"x\": 7.0}},"
	 "{\"type\":\"tool_use\",\"id\":\"u\",\"name\":\"g\",\"input\":{}}],\"stop_reason\":\"tool_use\","
	 "\"usage\":{\"input_tokens\":5,\"output_tokens\":9},\"stop_sequence\":null}"},
	{"thinking, without types of events", "anthropic",
	 "{\"type\":\"message_start\",\"message\":{\"content\":[]}}\n"
	 "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n"
	 "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"a\"}}\n"
	 "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"a\"}}\n"
	 "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"S\"}}\n"
	 "{\"type\":\"message_stop\"}",
	 "{\"content\":[{\"type\":\"thinking\",\"thinking\":\"aa\",\"signature\":\"S\"}]}"},
	{"what a server's own tool finds, and thinking that is hidden", "anthropic",
	 "message_start {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":5}}}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"redacted_thinking\",\"data\":\"x\"}}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"server_tool_use\",\"id\":\"t\",\"name\":\"web_search\",\"input\":{}}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"query\\\":\\\"a\\\"}\"}}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"t\",\"content\":[{\"type\":\"web_search_result\",\"url\":\"http://a.test\"}]}}\n"
	 "message_delta {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"input_tokens\":9,\"output_tokens\":3,\"server_tool_use\":{\"web_search_requests\":1}}}\n"
	 "message_stop {\"type\":\"message_stop\"}",
	 "{\"id\":\"m\",\"content\":[{\"type\":\"redacted_thinking\",\"data\":\"x\"},{\"type\":\"server_tool_use\",\"id\":\"t\",\"name\":\"web_search\",\"input\":{\"query\":\"a\"}},{\"type\":\"web_search_tool_result\",\"tool_use_id\":\"t\",\"content\":[{\"type\":\"web_search_result\",\"url\":\"http://a.test\"}]}],\"usage\":{\"input_tokens\":9,\"output_tokens\":3,\"server_tool_use\":{\"web_search_requests\":1}},\"stop_reason\":\"end_turn\"}"},
	{"overloaded", "anthropic",
	 "error {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}",
	 "error: Overloaded {}"},
	{"cut off", "anthropic",
	 "message_start {\"type\":\"message_start\",\"message\":{\"content\":[]}}",
	 "cut {\"content\":[]}"},

	/* Responses */
	{"the last has it all", "openai-responses",
	 "response.created {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"output\":[]}}\n"
	 "response.output_text.delta {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n"
	 "response.completed {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\","
	 "\"output\":[{\"type\":\"message\"}]}}",
	 "{\"id\":\"r\",\"status\":\"completed\",\"output\":[{\"type\":\"message\"}]}"},
	{"an error", "openai-responses",
	 "error {\"type\":\"error\",\"code\":\"x\",\"message\":\"too much\",\"error\":{\"message\":\"too much\"}}",
	 "error: too much {}"},
	{"sound", "openai-speech",
	 "{\"type\":\"speech.audio.delta\",\"audio\":\"AAE=\"}\n"
	 "{\"type\":\"speech.audio.delta\",\"audio\":\"AgME\"}\n"
	 "{\"type\":\"speech.audio.done\",\"usage\":{\"total_tokens\":3}}",
	 "{\"audio\":\"AAECAwQ=\",\"usage\":{\"total_tokens\":3}}"},
	{"sound that stops", "openai-speech",
	 "{\"type\":\"speech.audio.delta\",\"audio\":\"AAEC\"}\n"
	 "{\"type\":\"error\",\"error\":{\"message\":\"no voice\"}}",
	 "error: no voice {\"audio\":\"AAEC\"}"},
	{"sound that is no base64", "openai-speech",
	 "{\"type\":\"speech.audio.delta\",\"audio\":\"AAE=\"}\n"
	 "{\"type\":\"speech.audio.delta\",\"audio\":\"!\"}\n"
	 "{\"type\":\"speech.audio.done\"}",
	 "{\"audio\":\"AAE=!\"}"},
	{"pictures", "openai-images",
	 "image_generation.partial_image {\"type\":\"image_generation.partial_image\",\"b64_json\":\"AA\"}\n"
	 "image_generation.completed {\"type\":\"image_generation.completed\",\"b64_json\":\"BB\",\"created_at\":5,\"usage\":{\"total_tokens\":1}}",
	 "{\"data\":[{\"b64_json\":\"BB\"}],\"created\":5,\"usage\":{\"total_tokens\":1}}"},

	/* Gemini */
	{"parts", "gemini",
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"th\",\"thought\":true}],\"role\":\"model\"}}]}\n"
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"ink\",\"thought\":true}],\"role\":\"model\"}}]}\n"
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"He\"}],\"role\":\"model\"}}],\"usageMetadata\":{\"d\":[1]}}\n"
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"llo\"},{\"functionCall\":{\"name\":\"f\"}}],\"role\":\"model\"},"
	 "\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"d\":[2]}}",
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"think\",\"thought\":true},{\"text\":\"Hello\"},"
	 "{\"functionCall\":{\"name\":\"f\"}}],\"role\":\"model\"},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"d\":[2]}}"},

	{"candidates by index", "gemini",
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]},\"index\":0},{\"content\":{\"parts\":[{\"text\":\"b\"}]},\"index\":1}]}\n"
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"B\"}]},\"finishReason\":\"STOP\",\"index\":1,\"logprobsResult\":{\"chosenCandidates\":[{\"token\":\"B\"}]}}],\"usageMetadata\":{\"totalTokenCount\":2}}\n"
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"A\"}]},\"finishReason\":\"STOP\",\"index\":0,\"groundingMetadata\":{\"webSearchQueries\":[\"q\"]}}],\"usageMetadata\":{\"totalTokenCount\":4}}\n"
	 "[DONE]",
	 "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"aA\"}]},\"index\":0,\"finishReason\":\"STOP\",\"groundingMetadata\":{\"webSearchQueries\":[\"q\"]}},{\"content\":{\"parts\":[{\"text\":\"bB\"}]},\"index\":1,\"finishReason\":\"STOP\",\"logprobsResult\":{\"chosenCandidates\":[{\"token\":\"B\"}]}}],\"usageMetadata\":{\"totalTokenCount\":4}}"},

	/* lines of JSON */
	{"generate", "ollama",
	 "={\"model\":\"m\",\"response\":\"\",\"thinking\":\"a\",\"done\":false}\n={\"model\":\"m\",\"response\":\"b\",\"done\":false}\n"
	 "={\"model\":\"m\",\"response\":\"b\",\"done\":true,\"done_reason\":\"stop\",\"context\":[1,2]}",
	 "{\"model\":\"m\",\"response\":\"bb\",\"thinking\":\"a\",\"done\":true,\"done_reason\":\"stop\",\"context\":[1,2]}"},
	{"chat with tool calls", "ollama",
	 "={\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]},\"done\":false}\n"
	 "={\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"g\"}}]},\"done\":true}",
	 "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}},"
	 "{\"function\":{\"name\":\"g\"}}]},\"done\":true}"},

	{"log probabilities", "ollama",
	 "={\"response\":\"a\",\"logprobs\":[{\"token\":\"a\"}],\"done\":false}\n"
	 "={\"response\":\"b\",\"logprobs\":[{\"token\":\"b\"}],\"done\":true,\"eval_count\":2}",
	 "{\"response\":\"ab\",\"logprobs\":[{\"token\":\"a\"},{\"token\":\"b\"}],\"done\":true,\"eval_count\":2}"},
	{"TGI", "huggingface",
	 "{\"index\":1,\"token\":{\"id\":1,\"text\":\"He\"},\"generated_text\":null,\"details\":null}\n"
	 "{\"index\":2,\"token\":{\"id\":2,\"text\":\"llo\"},\"generated_text\":\"Hello\",\"details\":{\"finish_reason\":\"length\"}}",
	 "{\"details\":{\"tokens\":[{\"id\":1,\"text\":\"He\"},{\"id\":2,\"text\":\"llo\"}],\"finish_reason\":\"length\"},"
	 "\"generated_text\":\"Hello\"}"},

	{"tokens that were nearly taken", "tgi",
	 "{\"index\":1,\"token\":{\"id\":1,\"text\":\"He\",\"logprob\":-0.5,\"special\":false},\"top_tokens\":[{\"id\":1},{\"id\":3}],\"generated_text\":null,\"details\":null}\n"
	 "{\"index\":2,\"token\":{\"id\":2,\"text\":\"llo\",\"logprob\":-1.0,\"special\":false},\"top_tokens\":null,\"generated_text\":\"Hello\",\"details\":{\"finish_reason\":\"length\",\"generated_tokens\":2,\"seed\":null}}",
	 "{\"details\":{\"tokens\":[{\"id\":1,\"text\":\"He\",\"logprob\":-0.5,\"special\":false},{\"id\":2,\"text\":\"llo\",\"logprob\":-1.0,\"special\":false}],\"top_tokens\":[[{\"id\":1},{\"id\":3}]],\"finish_reason\":\"length\",\"generated_tokens\":2,\"seed\":null},\"generated_text\":\"Hello\"}"},
	{"an error", "tgi",
	 "{\"error\":\"Request failed during generation\",\"error_type\":\"generation\"}",
	 "error: Request failed during generation {\"error\":\"Request failed during generation\",\"error_type\":\"generation\"}"},
	{"chat with log probabilities and sources", "cohere",
	 "message-start {\"type\":\"message-start\",\"id\":\"c\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[],\"tool_calls\":[],\"citations\":[]}}}\n"
	 "content-start {\"type\":\"content-start\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"thinking\",\"thinking\":\"\"}}}}\n"
	 "content-delta {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"thinking\":\"so\"}}},\"logprobs\":null}\n"
	 "content-end {\"type\":\"content-end\",\"index\":0}\n"
	 "content-start {\"type\":\"content-start\",\"index\":1,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n"
	 "content-delta {\"type\":\"content-delta\",\"index\":1,\"delta\":{\"message\":{\"content\":{\"text\":\"H\"}}},\"logprobs\":{\"token_ids\":[1],\"logprobs\":[-0.5]}}\n"
	 "content-delta {\"type\":\"content-delta\",\"index\":1,\"delta\":{\"message\":{\"content\":{\"text\":\"i\"}}},\"logprobs\":{\"token_ids\":[2],\"logprobs\":[-1.5]}}\n"
	 "citation-start {\"type\":\"citation-start\",\"index\":0,\"delta\":{\"message\":{\"citations\":{\"start\":0,\"end\":2,\"text\":\"Hi\"}}}}\n"
	 "citation-end {\"type\":\"citation-end\",\"index\":0}\n"
	 "message-end {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"output_tokens\":2}}}}",
	 "{\"id\":\"c\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"so\"},{\"type\":\"text\",\"text\":\"Hi\"}],\"tool_calls\":[],\"citations\":[{\"start\":0,\"end\":2,\"text\":\"Hi\"}]},\"logprobs\":[{\"token_ids\":[1],\"logprobs\":[-0.5]},{\"token_ids\":[2],\"logprobs\":[-1.5]}],\"finish_reason\":\"COMPLETE\",\"usage\":{\"billed_units\":{\"output_tokens\":2}}}"},

	/* a server of which nothing is said */
	{"Cohere", "http",
	 "message-start {\"type\":\"message-start\",\"id\":\"c\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[],\"tool_calls\":[]}}}\n"
	 "tool-plan-delta {\"type\":\"tool-plan-delta\",\"delta\":{\"message\":{\"tool_plan\":\"I \"}}}\n"
	 "tool-plan-delta {\"type\":\"tool-plan-delta\",\"delta\":{\"message\":{\"tool_plan\":\"I \"}}}\n"
	 "tool-call-start {\"type\":\"tool-call-start\",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{\"id\":\"t\",\"type\":\"function\","
	 "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}}}}\n"
	 "tool-call-delta {\"type\":\"tool-call-delta\",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{\"function\":{\"arguments\":\"{}\"}}}}}\n"
	 "tool-call-end {\"type\":\"tool-call-end\",\"index\":0}\n"
	 "content-start {\"type\":\"content-start\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n"
	 "content-delta {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Hi\"}}}}\n"
	 "message-end {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\"usage\":{\"tokens\":{\"output_tokens\":2}}}}",
	 "{\"id\":\"c\",\"message\":{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],"
	 "\"tool_calls\":[{\"id\":\"t\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}],\"tool_plan\":\"I I \"},"
	 "\"finish_reason\":\"COMPLETE\",\"usage\":{\"tokens\":{\"output_tokens\":2}}}"},
	{"Anthropic", "http",
	 "message_start {\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{\"input_tokens\":5}}}\n"
	 "message_delta {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":9}}\n"
	 "content_block_start {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n"
	 "content_block_delta {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n"
	 "message_stop {\"type\":\"message_stop\"}",
	 "{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}],\"usage\":{\"input_tokens\":5,\"output_tokens\":9}}"},
	{"chat", "http",
	 "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"}}]}\n[DONE]",
	 "{\"choices\":[{\"message\":{\"content\":\"ab\"},\"index\":0}]}"},
	{"types of its own", "http",
	 "{\"type\":\"piece\",\"n\":1}\n{\"type\":\"piece\",\"m\":2,\"done\":true}",
	 "{\"type\":\"piece\",\"n\":1,\"m\":2,\"done\":true}"},
};

/* ---------- how a case's events are written ---------- */

static void
append_event(StringInfo body, const char *line, int len, const char *line_end)
{
	bool has_type = len > 0 && islower((unsigned char) *line) && memchr(line, ' ', len) != NULL;
	int type_len = has_type ? (int) ((const char *) memchr(line, ' ', len) - line) : 0;

	if (len > 0 && *line == '=')
	{
		appendBinaryStringInfo(body, line + 1, len - 1);
		appendStringInfoString(body, line_end);
		return;
	}
	if (has_type)
	{
		appendStringInfo(body, "event: %.*s%s", type_len, line, line_end);
		line += type_len + 1;
		len -= type_len + 1;
	}
	appendStringInfo(body, "data: %.*s%s%s", len, line, line_end, line_end);
}

static StringInfo
write_events(const char *events, const char *line_end)
{
	StringInfo body = makeStringInfo();

	while (*events != '\0')
	{
		int len = (int) strcspn(events, "\n");

		append_event(body, events, len, line_end);
		events += len + (events[len] == '\n');
	}
	return body;
}

static char *
read_body(const char *api, const char *body, size_t len)
{
	Protocol protocol = preset_find(api)->protocol;
	char *copy = palloc(len + 1);
	char *json;
	Stream stream;

	memcpy(copy, body, len);
	protocol.encoding = "auto";
	protocol.stream_error = "event:error";
	stream_read(&protocol, copy, len, CurrentMemoryContext, &stream);
	json = json_print(stream.json);
	if (stream.error != NULL)
		return psprintf("error: %s %s", stream.error, json);
	if (stream.refused != NULL)
		return psprintf("refused: %s %s", stream.refused, json);
	return psprintf("%s%s",
					!stream.is_whole    ? "cut "
					: stream.is_empty   ? "empty "
					: stream.has_unread ? "unread "
										: "",
					json);
}

/* As JSON is printed. */
static char *
normal(const char *expected)
{
	const char *json = strchr(expected, '{');

	/* the words of an error may be JSON themselves */
	if (strncmp(expected, "error: {", 8) == 0)
		json = strstr(expected, "} {") + 2;
	return psprintf("%.*s%s", (int) (json - expected), expected,
					json_print(json_parse_trusted(json)));
}

static void
test_cases(void)
{
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		StringInfo body = write_events(cases[i].events, "\n");

		unit_is_text(read_body(cases[i].api, body->data, body->len), normal(cases[i].expected),
					 "%s: %s", cases[i].api, cases[i].what);
	}
}

/*
 * However lines end, with comments and fields that mean nothing, with a byte order mark, without a space behind the
 * colon: the same.
 */
static void
test_framing(void)
{
	static const char *const line_ends[] = {"\n", "\r", "\r\n"};
	int i;
	int j;

	for (i = 0; i < lengthof(cases); i++)
	{
		for (j = 0; j < lengthof(line_ends); j++)
		{
			StringInfo plain = write_events(cases[i].events, line_ends[j]);
			StringInfo body = makeStringInfo();
			const char *p;

			appendStringInfo(body, "\xEF\xBB\xBF: hello%sid: 7%sretry: 10%s%s", line_ends[j],
							 line_ends[j], line_ends[j], line_ends[j]);
			for (p = plain->data; *p != '\0'; p++)
			{
				if (strncmp(p, "data: ", 6) == 0)
				{
					appendStringInfoString(body, "data:");
					p += 5;
				}
				else
					appendStringInfoChar(body, *p);
			}
			unit_is_text(read_body(cases[i].api, body->data, body->len), normal(cases[i].expected),
						 "%s: %s, lines that end otherwise (%d)", cases[i].api, cases[i].what, j);
		}
	}
}

/*
 * A stream that is cut at any byte is cut, unless what is missing means nothing; and nothing behind the cut is read.
 */
static void
test_cuts(void)
{
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		StringInfo body = write_events(cases[i].events, "\r\n");
		const char *expected = normal(cases[i].expected);
		int n_wrong = 0;
		int at;

		if (*expected != '{' || strstr(cases[i].events, "\n[DONE]") != NULL)
			continue; /* it is not whole, or has usage behind what ends it */
		for (at = 0; at < body->len; at++)
		{
			const char *got = read_body(cases[i].api, body->data, at);

			n_wrong += strncmp(got, "cut ", 4) != 0 && strncmp(got, "empty ", 6) != 0 &&
					   strcmp(got, expected) != 0;
		}
		unit_is_int(n_wrong, 0, "%s: %s, cut anywhere", cases[i].api, cases[i].what);
	}
}

/* ---------- what cannot be said ---------- */

static void
test_grammar(void)
{
	static const char *const good[] = {
		". -> .",
		"/a",
		"x: /a -> /b; x,y*: . ; /c=d -> /e=f",
		"a: /d -> ~",
		"/a/*/b -> /c/*/d",
		"a: /b -> /c/{index}; a: /b -> /c/-",
	};
	static const char *const bad[] = {"",      "a",           "/a ->",      "/a -> b",
									  "-> /a", "/a -> /b /c", "/a -> /*/b", ";"};
	static const char *const good_places[] = {"/a",
											  "text:/a json:/b last:/c skip:/d join:/e new:/f/*",
											  "key:/a/*/index", "run:/a/*/text(type=text)"};
	static const char *const bad_places[] = {"a",        "text:a",       "foo:/a",   "key:/a",
											 "key:/a/b", "text:/a(b=c)", "run:/a(b)"};
	static const char *const good_ends[] = {"[DONE]", "event:a* /b /c=d,e", "/a"};
	static const char *const bad_ends[] = {"event:", "/a="};
	int i;

	for (i = 0; i < lengthof(good); i++)
		unit_ok(streamrules_check_parts(good[i]) == NULL, "parts \"%s\"", good[i]);
	for (i = 0; i < lengthof(bad); i++)
		unit_ok(*bad[i] == '\0' || streamrules_check_parts(bad[i]) != NULL, "not parts \"%s\"",
				bad[i]);
	for (i = 0; i < lengthof(good_places); i++)
		unit_ok(streamrules_check_places(good_places[i]) == NULL, "places \"%s\"", good_places[i]);
	for (i = 0; i < lengthof(bad_places); i++)
		unit_ok(streamrules_check_places(bad_places[i]) != NULL, "not places \"%s\"",
				bad_places[i]);
	for (i = 0; i < lengthof(good_ends); i++)
		unit_ok(streamrules_check_conditions(good_ends[i]) == NULL, "ends \"%s\"", good_ends[i]);
	for (i = 0; i < lengthof(bad_ends); i++)
		unit_ok(streamrules_check_conditions(bad_ends[i]) != NULL, "no ends \"%s\"", bad_ends[i]);
}

/*
 * What the presets say can be read.
 */
static void
test_presets(void)
{
	static const char *const apis[] = {"openai-chat", "openai-images", "openai-responses",
									   "anthropic",   "huggingface",   "ollama",
									   "gemini",      "http"};
	int i;

	for (i = 0; i < lengthof(apis); i++)
	{
		const Protocol *protocol = &preset_find(apis[i])->protocol;

		unit_ok(protocol->stream_end != NULL &&
					streamrules_check_conditions(protocol->stream_end) == NULL,
				"%s: stream_end", apis[i]);
		unit_ok(protocol->stream_parts == NULL ||
					streamrules_check_parts(protocol->stream_parts) == NULL,
				"%s: stream_parts", apis[i]);
		unit_ok(protocol->stream_places == NULL ||
					streamrules_check_places(protocol->stream_places) == NULL,
				"%s: stream_places", apis[i]);
	}
}

/*
 * More parts than can be kept are refused, not left out.
 */
static void
test_limit(void)
{
	StringInfo body = makeStringInfo();
	int i;

	for (i = 0; i < 40000; i++)
		appendStringInfo(body, "{\"m%d\":1}\n", i);
	unit_ok(strncmp(read_body("ollama", body->data, body->len), "refused: one of more than", 25) ==
				0,
			"a new member in each of 40,000 events");
}

void
unit_run(void)
{
	test_grammar();
	test_presets();
	test_cases();
	test_framing();
	test_cuts();
	test_limit();
}

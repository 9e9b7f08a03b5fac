/*
 * streampresets.h
 *		How to join the streams of known apis: initializers of Protocol, for
 *		rows of presets.
 *
 * Each follows the provider's documents, or the code of its clients.
 * docs/reference.md explains the grammar.
 */
#ifndef GENJOB_STREAMPRESETS_H
#define GENJOB_STREAMPRESETS_H

/*
 * Chat completions, and completions (https://platform.openai.com/docs/api-reference/chat-streaming).  Mistral's content
 * may be a list, OpenRouter has images and reasoning, vLLM and DeepSeek have reasoning_content.  llama.cpp's own
 * /completion (tools/server/README.md) ends with "stop".
 */
#define CHAT_END "[DONE] /choices/*/finish_reason /stop=true"
#define CHAT_PARTS \
	"/object=chat.completion.chunk -> /object=chat.completion; " \
	"/choices/*/delta -> /choices/*/message"
#define CHAT_PLACES \
	"key:/choices/*/index text:/choices/*/text join:/choices/*/message " \
	"text:/choices/*/message/content run:/choices/*/message/content/*/text(type=text) " \
	"run:/choices/*/message/content/*/thinking/*/text text:/choices/*/message/refusal " \
	"text:/choices/*/message/reasoning text:/choices/*/message/reasoning_content " \
	"key:/choices/*/message/reasoning_details/*/index " \
	"text:/choices/*/message/reasoning_details/*/text " \
	"text:/choices/*/message/reasoning_details/*/summary " \
	"text:/choices/*/message/reasoning_details/*/data new:/choices/*/message/tool_calls/* " \
	"key:/choices/*/message/tool_calls/*/index skip:/choices/*/message/tool_calls/*/index " \
	"text:/choices/*/message/tool_calls/*/function/arguments " \
	"text:/choices/*/message/tool_calls/*/custom/input " \
	"text:/choices/*/message/function_call/arguments base64:/choices/*/message/audio/data " \
	"text:/choices/*/message/audio/transcript text:/content"

/* Messages (https://docs.anthropic.com/en/docs/build-with-claude/streaming) */
#define ANTHROPIC_END "event:message_stop"
#define ANTHROPIC_PARTS \
	"message_start: /message -> .; content_block_start: /content_block -> /content/{index}; " \
	"content_block_delta: /delta/partial_json -> /content/{index}/input; " \
	"content_block_delta: /delta/citation -> /content/{index}/citations/-; " \
	"content_block_delta: /delta/type; content_block_delta: /delta -> /content/{index}; " \
	"message_delta: /delta -> .; message_delta: /usage -> /usage; " \
	"ping,content_block_stop,message_stop: ."
#define ANTHROPIC_PLACES \
	"text:/content/*/text text:/content/*/thinking text:/content/*/signature " \
	"json:/content/*/input join:/content/*"

/*
 * Responses: the last event is complete
 * (https://platform.openai.com/docs/api-reference/responses-streaming)
 */
#define RESPONSES_END \
	"event:response.completed event:response.incomplete event:response.failed " \
	"event:response.cancelled"
#define RESPONSES_PARTS \
	"response.output_text.delta,response.refusal.delta,response.reasoning*.delta," \
	"response.function_call_arguments.delta: /delta -> ~; " \
	"response.completed,response.incomplete,response.failed,response.cancelled: " \
	"/response -> .; response.*: ."
#define RESPONSES_PLACES "last:/output"

/* Images: all before the last are previews */
#define IMAGES_END "event:image_generation.completed event:image_edit.completed"
#define IMAGES_PARTS \
	"image_generation.completed,image_edit.completed: /b64_json -> /data/-/b64_json; " \
	"image_generation.completed,image_edit.completed: /created_at -> /created; " \
	"image_generation.completed,image_edit.completed: /type; " \
	"image_generation.completed,image_edit.completed: . -> .; " \
	"image_generation.*,image_edit.*: ."

/* streamGenerateContent?alt=sse (https://ai.google.dev/api/generate-content) */
#define GEMINI_END "/candidates/*/finishReason /promptFeedback/blockReason [DONE]"
#define GEMINI_PLACES \
	"key:/candidates/*/index run:/candidates/*/content/parts/*/text last:/usageMetadata " \
	"last:/promptFeedback last:/candidates/*/safetyRatings last:/candidates/*/citationMetadata " \
	"last:/candidates/*/groundingMetadata last:/candidates/*/urlContextMetadata"

/* /api/generate and /api/chat (https://github.com/ollama/ollama/blob/main/docs/api.md) */
#define OLLAMA_END "/done /done_reason"
#define OLLAMA_PLACES \
	"text:/response text:/thinking text:/message/content text:/message/thinking join:/message " \
	"last:/context"

/*
 * /generate_stream (https://huggingface.github.io/text-generation-inference):
 * the last event has the text and the details.  Each event has a token, which
 * belongs into the details.
 */
#define TGI_END "/generated_text"
#define TGI_PARTS \
	"/token/text -> ~; /token -> /details/tokens/-; /top_tokens -> /details/top_tokens/-"

/* /v1/audio/speech with "stream_format": "sse" (https://platform.openai.com/docs/api-reference/audio) */
#define SPEECH_END "event:speech.audio.done"
#define SPEECH_PARTS \
	"speech.audio.delta: /audio -> /audio; speech.audio.done: /usage -> /usage; speech.audio.*: ."
#define SPEECH_PLACES "base64:/audio"

/*
 * Chat, v2 (https://docs.cohere.com/v2/docs/streaming); and v1, whose last
 * event is complete
 */
#define COHERE_END "event:message-end event:stream-end"
#define COHERE_PARTS \
	"message-start: /id -> /id; message-start,message-end: /delta -> .; " \
	"content-start,content-delta: /delta/message/content -> /message/content/{index}; " \
	"content-delta: /logprobs -> /logprobs/-; " \
	"tool-plan-delta: /delta/message/tool_plan -> /message/tool_plan; " \
	"tool-call-start,tool-call-delta: /delta/message/tool_calls -> /message/tool_calls/{index}; " \
	"citation-start: /delta/message/citations -> /message/citations/{index}; " \
	"content-end,tool-call-end,citation-end: .; stream-end: /response -> .; " \
	"text-generation: /text -> ~; stream-start,text-generation,search-*,citation-generation," \
	"tool-calls-*: ."
#define COHERE_PLACES \
	"text:/message/content/*/text text:/message/content/*/thinking text:/message/tool_plan " \
	"text:/message/tool_calls/*/function/arguments join:/message"

#define STREAM_CHAT \
	.stream_end = CHAT_END, .stream_parts = CHAT_PARTS "; . -> .", .stream_places = CHAT_PLACES

#define STREAM_ANTHROPIC \
	.stream_type = "/type", .stream_end = ANTHROPIC_END, .stream_parts = ANTHROPIC_PARTS, \
	.stream_places = ANTHROPIC_PLACES

#define STREAM_RESPONSES \
	.stream_type = "/type", .stream_end = RESPONSES_END, .stream_parts = RESPONSES_PARTS, \
	.stream_places = RESPONSES_PLACES

#define STREAM_IMAGES .stream_type = "/type", .stream_end = IMAGES_END, .stream_parts = IMAGES_PARTS

#define STREAM_GEMINI .stream_end = GEMINI_END, .stream_places = GEMINI_PLACES

#define STREAM_OLLAMA .stream_end = OLLAMA_END, .stream_places = OLLAMA_PLACES

#define STREAM_TGI .stream_end = TGI_END, .stream_parts = TGI_PARTS "; /index; . -> ."

#define STREAM_SPEECH \
	.stream_type = "/type", .stream_end = SPEECH_END, .stream_parts = SPEECH_PARTS, \
	.stream_places = SPEECH_PLACES

#define STREAM_COHERE \
	.stream_type = "/type", .stream_end = COHERE_END, .stream_parts = COHERE_PARTS "; . -> .", \
	.stream_places = COHERE_PLACES

/* An unknown server may stream as any of them. */
#define STREAM_ANY \
	.stream_type = "/type", \
	.stream_end = CHAT_END " " ANTHROPIC_END " " RESPONSES_END " " IMAGES_END " " GEMINI_END \
						   " " OLLAMA_END " " TGI_END " " COHERE_END " " SPEECH_END " event:done", \
	.stream_parts = \
		CHAT_PARTS "; " ANTHROPIC_PARTS "; " RESPONSES_PARTS "; " IMAGES_PARTS "; " COHERE_PARTS \
				   "; " SPEECH_PARTS "; " TGI_PARTS "; done: .; . -> .", \
	.stream_places = CHAT_PLACES " " ANTHROPIC_PLACES " " GEMINI_PLACES " " OLLAMA_PLACES \
								 " " COHERE_PLACES " " SPEECH_PLACES

#endif /* GENJOB_STREAMPRESETS_H */

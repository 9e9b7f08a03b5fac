/*
 * modelpresets.c
 *		The presets of GenAI servers: a row of data for each value of the option "api".
 *
 * A new wire protocol is a new row here, or in servicepresets.c.  request.c and reply.c read rows and know no protocol
 * by name.  Each row has a regression test and a section in docs/servers.md.
 */
#include "postgres.h"

#include "server/preset.h"
#include "server/streampresets.h"

const Preset preset_models[] = {
	/*
	 * OpenAI and all that speak its image API (https://platform.openai.com/docs/api-reference/images).
	 * Edits take one file as "image" and several as "image[]".
	 */
	{
		.api = "openai-images",
		.needs_secret = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/v1/images/generations",
				.model_at = "/model",
				.inputs_path = "/v1/images/edits",
				.inputs_body = "multipart",
				.inputs_at = "image",
				STREAM_IMAGES,
				.output = "/data/*/b64_json /data/*/url",
				.requires_output = "on",
				.error = "/error/message /error",
				.usage = "/usage",
			},
	},

	/* Streamed, so that no proxy on the way takes a long silence for a dead connection. */
	{
		.api = "openai-chat",
		.needs_secret = true,
		.bare_in = "input_audio",
		.defaults = "{\"stream\": true, \"stream_options\": {\"include_usage\": true}}",
		.protocol =
			{
				.auth = "bearer",
				.path = "/v1/chat/completions",
				.model_at = "/model",
				.inputs_as = "data-url",
				.reply = "stream",
				STREAM_CHAT,
				.output = "/choices/*/message/audio/data",
				.requires_output = "/choices/*/message/content /choices/*/message/tool_calls "
								   "/choices/*/message/function_call /choices/*/message/images "
								   "/choices/*/message/audio /choices/*/text",
				.state = "/choices/0/finish_reason",
				.states = "partly=content_filter",
				.reason = "/choices/0/message/refusal /choices/0/finish_reason",
				.error = "/error/message /error",
				.usage = "/usage",
			},
	},
	{
		.api = "openai-embeddings",
		.needs_secret = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/v1/embeddings",
				.model_at = "/model",
				.requires_output = "/data",
				.error = "/error/message /error",
				.usage = "/usage",
			},
	},

	/*
	 * Messages (https://docs.anthropic.com/en/api/messages), streamed as
	 * openai-chat is.
	 */
	{
		.api = "anthropic",
		.needs_secret = true,
		.bare_in = "source",
		.defaults = "{\"stream\": true, \"max_tokens\": 4096}",
		.headers = "{\"anthropic-version\": \"2023-06-01\"}",
		.protocol =
			{
				.auth = "header:x-api-key",
				.path = "/v1/messages",
				.model_at = "/model",
				.reply = "stream",
				STREAM_ANTHROPIC,
				.requires_output = "/content ?/input_tokens",
				.state = "/stop_reason",
				.states = "partly=refusal",
				.reason = "/stop_reason",
				.error = "/error/message /error",
				.usage = "/usage",
			},
	},

	/* In the background: submitted, polled, cancelled by id. */
	{
		.api = "openai-responses",
		.needs_secret = true,
		.output_may_be_text = true,
		.bare_in = "input_audio",
		.defaults = "{\"background\": true, \"store\": true}",
		.protocol =
			{
				.auth = "bearer",
				.path = "/v1/responses",
				.model_at = "/model",
				.inputs_as = "data-url",
				.reply = "poll",
				.remote_id = "/id",
				.poll = "GET /v1/responses/{id}",
				.state = "/status",
				.states = "ok=completed;fail=failed,cancelled;partly=incomplete",
				STREAM_RESPONSES,
				.output = "/output/*/result",
				.requires_output = "/output",
				.reason = "/incomplete_details/reason",
				.error = "/error/message /error",
				.usage = "/usage",
				.cancel = "POST /v1/responses/{id}/cancel",
			},
	},
	{
		.api = "openai-speech",
		.needs_secret = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/v1/audio/speech",
				.model_at = "/model",
				.accept = "*/*",
				.requires_output = "on",
				.any_answer = "on",
				STREAM_SPEECH,
				.output = "/audio",
				.error = "/error/message /error",
				.usage = "/usage",
			},
	},

	/*
	 * AUTOMATIC1111's stable-diffusion-webui and Forge (modules/api/api.py),
	 * SD.Next, stable-diffusion.cpp's server.  Progress and interrupt concern
	 * the whole server, so genjob uses them only if the server gets one call
	 * at a time.
	 */
	{
		.api = "automatic1111",
		.protocol =
			{
				.auth = "basic",
				.path = "/sdapi/v1/txt2img",
				.model_at = "/override_settings/sd_model_checkpoint",
				.inputs_path = "/sdapi/v1/img2img",
				.links_as = "bytes",
				.inputs_at = "/init_images",
				.output = "/images/*",
				.requires_output = "on",
				.error = "/errors /detail /error",
				.progress = "GET /sdapi/v1/progress?skip_current_image=true#/progress",
				.cancel = "POST /sdapi/v1/interrupt {}",
			},
	},

	/*
	 * A graph in "API format"; we choose its id (ComfyUI, server.py and
	 * execution.py).
	 */
	{
		.api = "comfyui",
		.unended = "GET /queue#/queue_running/*/1 /queue_pending/*/1",
		.preview = "type=temp",
		.protocol =
			{
				.auth = "none",
				.path = "/prompt",
				.wrap = "/prompt",
				.reply = "poll",
				.remote_id = "=/prompt_id",
				/*
				 * what ends between the two calls is in the history by the
				 * second call
				 */
				.lookup =
					"GET /queue#/queue_running/*/1 /queue_pending/*/1; GET /history/{id}#/{id}",
				.poll = "GET /history/{id}",
				.state = "/{id}/status/status_str",
				.states = "ok=success;fail=error",
				/*
				 * images, gifs, audio, 3d, and all other names that nodes give
				 * their files
				 */
				.output = "/{id}/outputs/*/*/*",
				.encoding = "file:/view?filename={filename}&subfolder={subfolder}&type={type}",
				.requires_output = "/{id}/outputs/*/text/*",
				.warning = "/node_errors",
				.error =
					"/error/message +/node_errors /{id}/status/messages/*/1/exception_message /{id}/status/messages",
				.cancel =
					"POST /queue {\"delete\": [\"{id}\"]}; ?POST /interrupt {\"prompt_id\": \"{id}\"}",
			},
	},

	/* stable-diffusion.cpp's own asynchronous API (examples/server). */
	{
		.api = "sdcpp",
		.protocol =
			{
				.auth = "bearer",
				.path = "/sdcpp/v1/img_gen",
				.links_as = "bytes",
				.reply = "poll",
				.remote_id = "/id",
				.poll = "GET /sdcpp/v1/jobs/{id}",
				.state = "/status",
				.states = "ok=completed;fail=failed,cancelled",
				.output = "/result/images/*/b64_json /result/b64_json",
				.requires_output = "on",
				.error = "/error/message /error",
				.progress = "/progress",
				.cancel = "POST /sdcpp/v1/jobs/{id}/cancel",
			},
	},

	/* https://replicate.com/docs/reference/http */
	{
		.api = "replicate",
		.needs_secret = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/v1/predictions",
				.wrap = "/input",
				.model_at = "/version",
				.inputs_as = "data-url",
				.reply = "poll",
				.remote_id = "/id",
				.poll = "GET @/urls/get",
				.state = "/status",
				.states = "ok=succeeded;fail=failed,canceled,aborted",
				.output = "/output /output/*",
				.encoding = "url",
				.requires_output = "/output",
				.error = "/error /detail /title",
				.usage = "/metrics",
				.cancel = "POST @/urls/cancel",
			},
	},

	/* https://docs.fal.ai/model-apis/model-endpoints/queue */
	{
		.api = "fal",
		.needs_secret = true,
		.worth_a_retry = "X-Fal-Retryable",
		.error_type = "X-Fal-Error-Type",
		.protocol =
			{
				.auth = "header:Authorization:Key",
				.path = "/{model}",
				.inputs_as = "data-url",
				.reply = "poll",
				.remote_id = "/request_id",
				.poll = "GET @/status_url",
				.state = "/status",
				.states = "ok=COMPLETED",
				.result = "GET @/response_url",
				.output = "/*/url /*/*/url",
				.requires_output = "?/images ?/image ?/video ?/audio ?/output",
				.encoding = "url",
				.error = "/detail /error",
				.usage = "/metrics",
				.cancel = "PUT @/cancel_url",
			},
	},

	/* https://platform.stability.ai/docs/api-reference: always form data */
	{
		.api = "stability",
		.needs_secret = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/v2beta/stable-image/generate/{model}",
				.body = "multipart",
				.inputs_at = "image",
				.state = "/finish_reason",
				.states = "fail=CONTENT_FILTERED",
				.output = "/image /audio",
				.requires_output = "on",
				.error = "/errors /name",
			},
	},

	/*
	 * https://docs.bfl.ai: the polling URL is on a regional host; the sample's
	 * URL expires in minutes
	 */
	{
		.api = "bfl",
		.needs_secret = true,
		.gone_after = 30000,
		.protocol =
			{
				.auth = "header:x-key",
				.path = "/v1/{model}",
				.allow_hosts = "*.bfl.ai",
				.reply = "poll",
				.remote_id = "/id",
				.poll = "GET @/polling_url",
				.state = "/status",
				.states =
					"ok=Ready;fail=Error,Failed,Request Moderated,Content Moderated;gone=Task not found",
				.output = "/result/sample",
				.encoding = "url",
				.requires_output = "on",
				.error = "/details /detail /message",
				.usage = "/cost",
				.progress = "/progress",
			},
	},

	/*
	 * https://docs.runpod.io/serverless: each endpoint chooses the shape of
	 * "output"
	 */
	{
		.api = "runpod",
		.needs_secret = true,
		.output_may_be_text = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/v2/{model}/run",
				.wrap = "/input",
				.reply = "poll",
				.remote_id = "/id",
				.poll = "GET /v2/{model}/status/{id}",
				.state = "/status",
				.states = "ok=COMPLETED;fail=FAILED,TIMED_OUT,CANCELLED",
				.output = "/output/image_url /output/audio_url /output/video_url /output/images/* "
						  "/output/images/*/data /output/images/*/url",
				.requires_output = "?/output",
				.error = "/error",
				.usage = "/executionTime /delayTime",
				.cancel = "POST /v2/{model}/cancel/{id}",
			},
	},

	/*
	 * https://huggingface.co/docs/inference-providers: while a model loads,
	 * the error says for how long
	 */
	{
		.api = "huggingface",
		.needs_secret = true,
		.output_may_be_text = true,
		.protocol =
			{
				.auth = "bearer",
				.path = "/models/{model}",
				.accept = "*/*",
				STREAM_TGI,
				.output = "/data/*/b64_json /data/*/url /images/*/url /output /output/* /*/blob",
				.requires_output = "?/data ?/images ?/output",
				.any_answer = "on",
				.error = "/error/message /error /detail /message",
				.retry_after = "/estimated_time",
			},
	},

	/*
	 * Hugging Face's text-generation-inference, by its own API (https://huggingface.github.io/text-generation-inference);
	 * it speaks openai-chat, too.
	 */
	{
		.api = "tgi",
		.protocol =
			{
				.auth = "bearer",
				.path = "/generate_stream",
				.reply = "stream",
				STREAM_TGI,
				.requires_output = "?/generated_text",
				.error = "/error /message",
				.usage = "/details/generated_tokens",
			},
	},

	/*
	 * Chat, v2 (https://docs.cohere.com/v2/reference/chat), and the endpoints
	 * that answer at once
	 */
	{
		.api = "cohere",
		.needs_secret = true,
		.defaults = "{\"stream\": true}",
		.protocol =
			{
				.auth = "bearer",
				.path = "/v2/chat",
				.model_at = "/model",
				.inputs_as = "data-url",
				.reply = "stream",
				STREAM_COHERE,
				.requires_output =
					"/message/content /message/tool_calls /text /generations /embeddings /results",
				.state = "/finish_reason",
				.states = "partly=ERROR,ERROR_TOXIC,ERROR_LIMIT,TIMEOUT,USER_CANCEL",
				.reason = "/error /finish_reason",
				.error = "/message /error",
				.usage = "/usage /meta/billed_units",
			},
	},

	/* https://github.com/ollama/ollama/blob/main/docs/api.md */
	{
		.api = "ollama",
		.protocol =
			{
				.auth = "bearer",
				.path = "/api/generate",
				.model_at = "/model",
				.links_as = "bytes",
				.inputs_at = "/images",
				.reply = "stream",
				STREAM_OLLAMA,
				.requires_output = "?/response ?/message/content ?/message/tool_calls",
				.error = "/error",
				.usage = "/prompt_eval_count /eval_count /total_duration /load_duration",
			},
	},

	/* https://ai.google.dev/api/generate-content */
	{
		.api = "gemini",
		.needs_secret = true,
		.bare_in = "inlineData inline_data",
		.list_is_stream = true,
		.protocol =
			{
				.auth = "header:x-goog-api-key",
				.path = "/v1beta/models/{model}:generateContent",
				STREAM_GEMINI,
				.output = "/candidates/*/content/parts/*/inlineData/data",
				.requires_output =
					"/candidates/*/content/parts /embedding /embeddings /predictions /totalTokens",
				.state = "/candidates/0/finishReason",
				.states = "ok=STOP,MAX_TOKENS;partly=*",
				.reason = "/candidates/0/finishMessage /candidates/0/finishReason "
						  "/promptFeedback/blockReasonMessage /promptFeedback/blockReason",
				.error = "/error/message +/error/details /promptFeedback/blockReason /error",
				.retry_after = "/error/details/*/retryDelay",
				.usage = "/usageMetadata",
			},
	},

	/*
	 * Open Inference Protocol v2, Triton: outputs are tensors; the user says
	 * which of them are binaries
	 */
	{
		.api = "kserve",
		.protocol =
			{
				.auth = "bearer",
				.path = "/v2/models/{model}/infer",
				.remote_id = "=/id",
				.requires_output = "/outputs",
				.error = "/error",
			},
	},
};

const int preset_n_models = lengthof(preset_models);

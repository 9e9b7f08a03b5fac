/*
 * refusal.c
 *		What refusals say, as each kind of server writes it.
 */
#include "cases.h"

static const Case refusals[] = {
	{"a list of one", "gemini", NULL, STEP_JUDGE, 429, NULL,
	 "[{\"error\":{\"code\":429,\"message\":\"Resource has been exhausted\",\"status\":\"RESOURCE_EXHAUSTED\"}}]",
	 0, "DEFER error=server \"s\" answered HTTP 429: Resource has been exhausted."},
	{"TGI's", "tgi", NULL, STEP_JUDGE, 422, NULL,
	 "{\"error\":\"Input validation error: too long\",\"error_type\":\"validation\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 422: Input validation error: too long."},
	{"Cohere's", "cohere", NULL, STEP_JUDGE, 400, NULL,
	 "{\"id\":\"x\",\"message\":\"invalid request: message must be at least 1 token long\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: invalid request: message must be at least 1 token long."},
	{"FastAPI's", "http", NULL, STEP_JUDGE, 422, NULL,
	 "{\"detail\":[{\"loc\":[\"body\",\"steps\"],\"msg\":\"Field required\"}]}", 0,
	 "FAIL error=server \"s\" answered HTTP 422: body.steps: Field required."},
	{"FastAPI's, from a server that speaks as another", "openai-images", NULL, STEP_JUDGE, 422,
	 NULL, "{\"detail\":[{\"loc\":[\"body\",\"steps\"],\"msg\":\"Field required\"}]}", 0,
	 "FAIL error=server \"s\" answered HTTP 422: body.steps: Field required."},
	{"a gateway's", "openai-chat", NULL, STEP_JUDGE, 404, NULL,
	 "{\"title\":\"Not Found\",\"status\":404}", 0,
	 "FAIL error=server \"s\" answered HTTP 404: Not Found. Check the server's options api, url and path."},
	{"no words", "openai-images", NULL, STEP_JUDGE, 400, NULL, "{\"code\":17}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: {\"code\":17}."},
	{"FastAPI's, two of them", "automatic1111", NULL, STEP_JUDGE, 422, NULL,
	 "{\"detail\":[{\"loc\":[\"body\",\"a\",0],\"msg\":\"Field required\"},{\"loc\":[\"query\"],\"msg\":\"too long\"}]}",
	 0, "FAIL error=server \"s\" answered HTTP 422: body.a.0: Field required; query: too long."},
	{"FastAPI's", "fal", NULL, STEP_RESULT, 422, NULL,
	 "{\"detail\":[{\"loc\":[\"body\",\"prompt\"],\"msg\":\"blocked\",\"type\":\"content_policy\"}]}",
	 0, "FAIL error=server \"s\" answered HTTP 422: body.prompt: blocked."},
	{"a detail that is text", "http", NULL, STEP_JUDGE, 400, NULL, "{\"detail\":\"no such voice\"}",
	 0, "FAIL error=server \"s\" answered HTTP 400: no such voice."},
	{"a list of texts", "stability", NULL, STEP_JUDGE, 400, NULL,
	 "{\"id\":\"1\",\"name\":\"bad_request\",\"errors\":[\"prompt: missing\",\"seed: negative\"]}",
	 0, "FAIL error=server \"s\" answered HTTP 400: prompt: missing; seed: negative."},
	{"a list of messages", "http", "error=/errors", STEP_JUDGE, 400, NULL,
	 "{\"errors\":[{\"code\":7003,\"message\":\"no route\"},{\"code\":1,\"message\":\"no key\"}]}",
	 0, "FAIL error=server \"s\" answered HTTP 400: no route; no key."},
	{"AWS's", "http", NULL, STEP_JUDGE, 400, NULL, "{\"message\":\"Malformed input\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: Malformed input."},
	{"AWS's, of Lambda", "http", NULL, STEP_JUDGE, 400, NULL,
	 "{\"Type\":\"User\",\"Message\":\"Bad\"}", 0,
	 "FAIL error=server \"s\" answered HTTP 400: Bad."},
	{"Google's", "gemini", NULL, STEP_JUDGE, 400, NULL,
	 "{\"error\":{\"code\":400,\"message\":\"Invalid value\",\"details\":[{\"fieldViolations\":[{\"field\":\"a.b\"}]}]}}",
	 0,
	 "FAIL error=server \"s\" answered HTTP 400: Invalid value: {\"fieldViolations\":[{\"field\":\"a.b\"}]}."},
	{"ComfyUI's", "comfyui", NULL, STEP_JUDGE, 400, NULL,
	 "{\"error\":{\"message\":\"Prompt outputs failed validation\"},\"node_errors\":{\"4\":{\"class_type\":\"CheckpointLoaderSimple\",\"errors\":[{\"details\":\"ckpt_name: 'x' not in list\"}]}}}",
	 0,
	 "FAIL error=server \"s\" answered HTTP 400: Prompt outputs failed validation: node 4 (CheckpointLoaderSimple), ckpt_name: 'x' not in list."},
	{"ComfyUI's, of several nodes", "comfyui", NULL, STEP_JUDGE, 400, NULL,
	 "{\"error\":{\"message\":\"No\"},\"node_errors\":{\"4\":{\"class_type\":\"A\",\"errors\":[{\"message\":\"Required input is missing\",\"details\":\"\",\"extra_info\":{\"input_name\":\"model\"}},{\"message\":\"B\",\"details\":\"seed\"}]},\"9\":{\"errors\":[{\"message\":\"C\"}]}}}",
	 0,
	 "FAIL error=server \"s\" answered HTTP 400: No: node 4 (A), model: Required input is missing; B: seed; node 9, C."},
};

void
unit_run(void)
{
	cases_run(refusals, lengthof(refusals), false);
}

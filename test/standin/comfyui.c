/*
 * comfyui.c
 *		The dialect of ComfyUI: a graph of nodes goes to /prompt under an id that
 *		the client may choose, and is asked for in the history.  Whoever is not in
 *		the history is in the queue, or has never been.
 *
 *		A picture is of the first text, seed and size that nodes of the graph have.
 */
#include "prediction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
comfyui_write_error(Call *call, int status, const char *code, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, status, "application/json; charset=utf-8");

	evbuffer_add_printf(out, "{\"error\":{\"type\":\"%s\",\"message\":", code ? code : "error");
	json_add_string(out, message);
	evbuffer_add_printf(out, ",\"details\":\"\",\"extra_info\":{}},\"node_errors\":{}}");
}

/* Refuses a graph because of one of its nodes. */
static void
comfyui_refuse_node(Call *call, const cJSON *node, const char *message)
{
	struct evbuffer *out = call_begin_answer(call, 400, "application/json; charset=utf-8");

	evbuffer_add_printf(out, "{\"error\":{\"type\":\"prompt_outputs_failed_validation\","
							 "\"message\":\"Prompt outputs failed validation\",\"details\":\"\","
							 "\"extra_info\":{}},\"node_errors\":{");
	json_add_string(out, node->string);
	evbuffer_add_printf(out, ":{\"errors\":[{\"type\":\"value_not_valid\",\"message\":");
	json_add_string(out, message);
	evbuffer_add_printf(out, ",\"details\":\"\",\"extra_info\":{}}],\"dependent_outputs\":[],"
							 "\"class_type\":");
	json_add_string(out, script_text(node, "class_type"));
	evbuffer_add_printf(out, "}}}");
}

/* The first input of that name that is a string or a number, in any node. */
static cJSON *
graph_find_input(const cJSON *graph, const char *name)
{
	const cJSON *node;

	cJSON_ArrayForEach(node, graph)
	{
		cJSON *input =
			cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(node, "inputs"),
											 name);

		if (cJSON_IsString(input) || cJSON_IsNumber(input))
			return input;
	}
	return NULL;
}

/* The node that saves the pictures; NULL: there is none. */
static const cJSON *
graph_find_output(const cJSON *graph)
{
	const cJSON *node;

	cJSON_ArrayForEach(node, graph)
	{
		const char *type = script_text(node, "class_type");

		if (type && (strstr(type, "Save") || strstr(type, "Preview")))
			return node;
	}
	return NULL;
}

/* Draws what the graph says: its inputs are looked at as if they were a plain request. */
static bool
comfyui_describe(Call *call, const cJSON *graph)
{
	static const struct
	{
		const char *input;
		const char *member;
	} inputs[] = {{"text", "prompt"}, {"seed", "seed"},     {"noise_seed", "seed"},
				  {"width", "width"}, {"height", "height"}, {"batch_size", "n"},
				  {"image", "image"}};
	Body body = {.json = cJSON_CreateObject()};
	bool valid;

	for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++)
	{
		cJSON *input = graph_find_input(graph, inputs[i].input);

		if (input && !cJSON_HasObjectItem(body.json, inputs[i].member))
			cJSON_AddItemReferenceToObject(body.json, inputs[i].member, input);
	}
	valid = call_describe(call, &body, 400);
	if (valid)
		picture_mix_member(&call->picture, body.json, "image");
	cJSON_Delete(body.json);
	return valid;
}

/* Is the graph one that can be run?  Else refuses. */
static bool
comfyui_check_graph(Call *call, const cJSON *graph)
{
	const cJSON *node;

	if (!cJSON_IsObject(graph))
	{
		call_write_error(call, 400, "no_prompt", "No prompt provided");
		return false;
	}
	cJSON_ArrayForEach(node, graph)
	{
		if (script_text(node, "class_type") &&
			cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(node, "inputs")))
			continue;
		comfyui_refuse_node(call, node, "A node needs a class_type and inputs");
		return false;
	}
	if (graph_find_output(graph))
		return true;
	call_write_error(call, 400, "prompt_no_outputs", "Prompt has no outputs");
	return false;
}

static void
comfyui_accept(Call *call, const Body *body)
{
	const cJSON *graph = cJSON_GetObjectItemCaseSensitive(body->json, "prompt");
	const cJSON *saver;
	const cJSON *inputs;
	const char *prefix;
	Prediction *prompt;

	if (!comfyui_check_graph(call, graph) || !comfyui_describe(call, graph))
		return;
	saver = graph_find_output(graph);
	inputs = cJSON_GetObjectItemCaseSensitive(saver, "inputs");
	prefix = script_text(inputs, "filename_prefix");
	prompt = prediction_submit(call, body_text(body, "prompt_id"));
	if (prompt && prompt->note == NULL) /* node, then prefix of its files */
		prompt->note = text_format("%s\n%s", saver->string, prefix ? prefix : "ComfyUI");
}

static void
comfyui_answer_submit(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json; charset=utf-8");

	evbuffer_add_printf(out, "{\"prompt_id\":");
	json_add_string(out, call->prediction->id);
	evbuffer_add_printf(out, ",\"number\":%u,\"node_errors\":{}}", call->prediction->number);
}

/* Adds the files of the prompt: a folder in the prefix is the subfolder. */
static void
comfyui_write_files(const Prediction *prompt, struct evbuffer *out)
{
	const char *prefix = strchr(prompt->note, '\n') + 1;
	const char *slash = strrchr(prefix, '/');
	const char *name = slash ? slash + 1 : prefix;

	evbuffer_add(out, "{", 1);
	json_add_text(out, prompt->note, strcspn(prompt->note, "\n"));
	evbuffer_add_printf(out, ":{\"images\":[");
	for (int i = 0; i < prompt->picture.n; i++)
	{
		char *file = text_format("%s_%s_%05d_.png", name, prompt->id, i + 1);

		evbuffer_add_printf(out, "%s{\"filename\":", i > 0 ? "," : "");
		json_add_string(out, file);
		evbuffer_add_printf(out, ",\"subfolder\":");
		json_add_text(out, prefix, slash ? slash - prefix : 0);
		evbuffer_add_printf(out, ",\"type\":\"output\"}");
		free(file);
	}
	evbuffer_add_printf(out, "]}}");
}

static void
comfyui_write_messages(const Prediction *prompt, PredictionState state, struct evbuffer *out)
{
	evbuffer_add_printf(out, "[[\"execution_start\",{\"prompt_id\":");
	json_add_string(out, prompt->id);
	evbuffer_add_printf(out, ",\"timestamp\":1700000000000}],[\"%s\",{\"prompt_id\":",
						state == PREDICTION_SUCCEEDED   ? "execution_success"
						: state == PREDICTION_CANCELLED ? "execution_interrupted"
														: "execution_error");
	json_add_string(out, prompt->id);
	if (state != PREDICTION_SUCCEEDED)
		evbuffer_add_printf(out, ",\"node_id\":\"3\",\"node_type\":\"KSampler\",\"executed\":[]");
	if (state != PREDICTION_SUCCEEDED && state != PREDICTION_CANCELLED)
	{
		evbuffer_add_printf(out, ",\"exception_message\":");
		json_add_string(out, prediction_message(prompt));
		evbuffer_add_printf(out, ",\"exception_type\":\"RuntimeError\",\"traceback\":[],"
								 "\"current_inputs\":{},\"current_outputs\":[]");
	}
	evbuffer_add_printf(out, ",\"timestamp\":1700000001000}]]");
}

/* {} until it has ended; {} too when it was deleted from the queue, or is unknown. */
static void
comfyui_answer_history(Call *call)
{
	const Prediction *prompt = call->prediction;
	PredictionState state = prompt ? prediction_state(prompt) : PREDICTION_GONE;
	struct evbuffer *out = call_begin_answer(call, 200, "application/json; charset=utf-8");
	bool good = state == PREDICTION_SUCCEEDED;

	evbuffer_add(out, "{", 1);
	if (state >= PREDICTION_SUCCEEDED && state != PREDICTION_GONE && !prompt->cancelled_early)
	{
		json_add_string(out, prompt->id);
		evbuffer_add_printf(out, ":{\"prompt\":[%u,", prompt->number);
		json_add_string(out, prompt->id);
		evbuffer_add_printf(out, ",{},{},[]],\"outputs\":");
		if (good)
			comfyui_write_files(prompt, out);
		else
			evbuffer_add(out, "{}", 2);
		evbuffer_add_printf(out,
							",\"status\":{\"status_str\":\"%s\",\"completed\":%s,\"messages\":",
							good ? "success" : "error", good ? "true" : "false");
		comfyui_write_messages(prompt, state, out);
		evbuffer_add_printf(out, "},\"meta\":{}}");
	}
	evbuffer_add(out, "}", 1);
}

static void
comfyui_write_queue(const Dialect *dialect, PredictionState state, struct evbuffer *out)
{
	const char *separator = "";
	Prediction *prompt;

	TAILQ_FOREACH(prompt, &predictions, link)
	{
		if (prompt->dialect != dialect || prediction_state(prompt) != state)
			continue;
		evbuffer_add_printf(out, "%s[%u,", separator, prompt->number);
		json_add_string(out, prompt->id);
		evbuffer_add_printf(out, ",{},{},[]]");
		separator = ",";
	}
}

static void
comfyui_answer_queue(Call *call)
{
	struct evbuffer *out = call_begin_answer(call, 200, "application/json; charset=utf-8");

	evbuffer_add_printf(out, "{\"queue_running\":[");
	comfyui_write_queue(call->dialect, PREDICTION_RUNNING, out);
	evbuffer_add_printf(out, "],\"queue_pending\":[");
	comfyui_write_queue(call->dialect, PREDICTION_QUEUED, out);
	evbuffer_add_printf(out, "]}");
}

/* Cancels the prompt of that id if it is in that state. */
static void
comfyui_cancel(Call *call, const cJSON *id, PredictionState state)
{
	Prediction *prompt = cJSON_IsString(id) ? prediction_find(id->valuestring) : NULL;

	if (prompt == NULL)
		return;
	prediction_attend(call, prompt);
	if (prediction_state(prompt) == state)
		prediction_cancel(call, prompt);
}

static void
comfyui_accept_delete(Call *call, const Body *body)
{
	const cJSON *id;

	cJSON_ArrayForEach(id, cJSON_GetObjectItemCaseSensitive(body->json, "delete"))
		comfyui_cancel(call, id, PREDICTION_QUEUED);
	call_begin_answer(call, 200, NULL);
}

/* Without an id it interrupts whatever runs. */
static void
comfyui_accept_interrupt(Call *call, const Body *body)
{
	const cJSON *id = cJSON_GetObjectItemCaseSensitive(body->json, "prompt_id");
	Prediction *prompt;

	if (id)
		comfyui_cancel(call, id, PREDICTION_RUNNING);
	else
	{
		TAILQ_FOREACH(prompt, &predictions, link)
		{
			if (prompt->dialect == call->dialect && prediction_state(prompt) == PREDICTION_RUNNING)
				prediction_cancel(call, prompt);
		}
	}
	call_begin_answer(call, 200, NULL);
}

/* A file's name has the id of its prompt before its number: "ComfyUI_{id}_00001_.png". */
static void
comfyui_accept_view(Call *call, const Body *body)
{
	char *name = call_query(call, "filename");
	size_t len = name ? strlen(name) : 0;
	Prediction *prompt = NULL;

	(void) body;
	if (len > 11 && strcmp(name + len - 5, "_.png") == 0)
	{
		call->picture.n = atoi(name + len - 10);
		name[len - 11] = '\0';
		for (char *id = strchr(name, '_'); id && !prompt; id = strchr(id, '_'))
			prompt = prediction_find(++id);
	}
	free(name);
	if (prompt)
	{
		int number = call->picture.n;

		prediction_attend(call, prompt);
		call->picture.n = number;
	}
}

static void
comfyui_answer_view(Call *call)
{
	const Prediction *prompt = call->prediction;
	const char *prefix = prompt ? strchr(prompt->note, '\n') + 1 : "";
	const char *slash = strrchr(prefix, '/');
	char *wanted = slash ? strndup(prefix, slash - prefix) : strdup("");
	char *subfolder = call_query(call, "subfolder");
	int number = call->picture.n;
	const void *png;
	size_t len;

	if (prompt == NULL || number < 1 || number > prompt->picture.n ||
		strcmp(subfolder ? subfolder : "", wanted) != 0)
		call_begin_answer(call, 404, NULL);
	else
	{
		png = picture_draw(&prompt->picture, number - 1, &len);
		evbuffer_add(call_begin_answer(call, 200, "image/png"), png, len);
	}
	free(wanted);
	free(subfolder);
}

static const Route routes[] =
	{{"POST", "/prompt", comfyui_accept, comfyui_answer_submit, ERRAND_SUBMIT},
	 {"GET", "/history/{id}", NULL, comfyui_answer_history, ERRAND_POLL},
	 {"GET", "/queue", NULL, comfyui_answer_queue, ERRAND_ASK},
	 {"POST", "/queue", comfyui_accept_delete, NULL, ERRAND_CANCEL},
	 {"POST", "/interrupt", comfyui_accept_interrupt, NULL, ERRAND_CANCEL},
	 {"GET", "/view", comfyui_accept_view, comfyui_answer_view, ERRAND_DOWNLOAD},
	 {.path = NULL}};

const Dialect comfyui_dialect = {.routes = routes,
								 .ids = "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx",
								 .write_error = comfyui_write_error};

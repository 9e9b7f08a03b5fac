/*
 * prediction.c
 *		Predictions: making them, finding them, what state they are in, and what
 *		all dialects say of them alike.
 */
#include "prediction.h"

#include <err.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

bool prediction_idempotent;
struct PredictionList predictions = TAILQ_HEAD_INITIALIZER(predictions);

/* Trees of <search.h>: by id; by key, of those that --idempotent may answer again */
static void *by_id;
static void *by_key;
static uint32_t serial;

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(((const Prediction *) a)->id, ((const Prediction *) b)->id);
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(((const Prediction *) a)->key, ((const Prediction *) b)->key);
}

/* The prediction of that id; NULL: there is none. */
Prediction *
prediction_find(const char *id)
{
	Prediction wanted = {.id = (char *) id};
	Prediction **found = tfind(&wanted, &by_id, compare_ids);

	return found ? *found : NULL;
}

static Prediction *
prediction_find_by_key(const char *key)
{
	Prediction wanted = {.key = (char *) key};
	Prediction **found =
		key && prediction_idempotent ? tfind(&wanted, &by_key, compare_keys) : NULL;

	return found ? *found : NULL;
}

/* An id after the form of the dialect, each time another; to be freed. */
static char *
prediction_make_id(const char *form)
{
	char *id = strdup(form);
	uint64_t state = (uint64_t) ++serial * 0x9E3779B97F4A7C15u;

	if (id == NULL)
		errx(1, "out of memory");
	for (char *c = id; *c; c++)
	{
		if (*c != 'x')
			continue;
		state ^= state >> 31;
		*c = "0123456789abcdef"[state & 15];
		state = (state >> 4 | state << 60) * 0xBF58476D1CE4E5B9u;
	}
	return id;
}

void
prediction_release(Prediction *prediction)
{
	if (--prediction->references > 0)
		return;
	cJSON_Delete(prediction->script);
	free(prediction->id);
	free(prediction->key);
	free(prediction->note);
	free(prediction);
}

static void
prediction_refer(Call *call, Prediction *prediction)
{
	if (call->prediction)
		prediction_release(call->prediction);
	prediction->references++;
	call->prediction = prediction;
	call->picture = prediction->picture;
}

/* Takes what the call knows, and its script. */
static Prediction *
prediction_new(Call *call, const char *id)
{
	Prediction *prediction = calloc(1, sizeof(Prediction));
	const cJSON *script = call->script->json;
	const char *key = call_header(call, "Idempotency-Key");
	double outputs = script_number(script, "outputs", call->picture.n);

	if (prediction == NULL)
		errx(1, "out of memory");
	prediction->references = 1;
	prediction->dialect = call->dialect;
	prediction->id = id ? strdup(id) : prediction_make_id(call->dialect->ids);
	prediction->key = key ? strdup(key) : NULL;
	prediction->count = call->count;
	prediction->picture = call->picture;
	prediction->picture.n = outputs < 100 ? (int) outputs : 100;
	prediction->number = serial;
	prediction->submitted_s = call->arrived_s;
	prediction->queue_s = script_number(script, "queue_ms", 0) / 1000;
	prediction->run_s = call->work_ms / 1000;
	prediction->kept_s = script_number(script, "kept_ms", -1000) / 1000;
	prediction->ending = call->ending;
	prediction->expires_ms = script_number(script, "url_expires_ms", 0);
	prediction->script = call->script->json;
	prediction->arrived[ERRAND_SUBMIT] = 1;
	call->script->json = NULL;
	return prediction;
}

/*
 * Makes the prediction that the call submits, by the id given or by one of its
 * own, and answers the call at once but for a latency of its fault.  NULL: the
 * call's fault refuses it.  The same id again, or with --idempotent the same
 * Idempotency-Key, is the same prediction.
 */
Prediction *
prediction_submit(Call *call, const char *id)
{
	const char *key = call_header(call, "Idempotency-Key");
	Prediction *prediction;

	call->latency_ms = call->fault.has_latency ? call->fault.latency_ms : 0;
	if (call->fault.status >= 400)
		return NULL;
	prediction = id ? prediction_find(id) : prediction_find_by_key(key);
	if (prediction == NULL)
	{
		prediction = prediction_new(call, id);
		TAILQ_INSERT_TAIL(&predictions, prediction, link);
		if (!tsearch(prediction, &by_id, compare_ids) ||
			(key && !tsearch(prediction, &by_key, compare_keys)))
			errx(1, "out of memory");
		counts_add(&prediction->count, EVENT_SUBMITTED);
	}
	else
	{
		prediction->arrived[ERRAND_SUBMIT]++;
		counts_add(&prediction->count, EVENT_REPEATED);
	}
	prediction_refer(call, prediction);
	return prediction;
}

/* The call is about the prediction: counts it, and gives it the fault that is due. */
void
prediction_attend(Call *call, Prediction *prediction)
{
	static const struct
	{
		const char *faults;
		Event event;
	} errands[] = {
		[ERRAND_POLL] = {"poll_faults", EVENT_POLL},
		[ERRAND_RESULT] = {"result_faults", EVENT_RESULT},
		[ERRAND_DOWNLOAD] = {"download_faults", EVENT_DOWNLOAD},
		[ERRAND_CANCEL] = {"cancel_faults", EVENT_CANCEL},
	};
	Errand errand = call->route->errand;
	char *why = NULL;

	prediction_refer(call, prediction);
	counts_add(&prediction->count, errands[errand].event);
	fault_choose(&call->fault, prediction->script, errands[errand].faults,
				 prediction->arrived[errand]++, &why);
	free(why); /* the script was checked when it came */
	call->latency_ms = call->fault.latency_ms;
}

/* When it ends, or has ended. */
double
prediction_ended_s(const Prediction *prediction)
{
	if (prediction->cancelled_s > 0)
		return prediction->cancelled_s;
	return prediction->submitted_s + prediction->queue_s + prediction->run_s;
}

PredictionState
prediction_state(const Prediction *prediction)
{
	static const PredictionState ends[] =
		{[ENDING_SUCCEED] = PREDICTION_SUCCEEDED,   [ENDING_FAIL] = PREDICTION_FAILED,
		 [ENDING_MODERATED] = PREDICTION_MODERATED, [ENDING_CANCELLED] = PREDICTION_CANCELLED,
		 [ENDING_GONE] = PREDICTION_GONE,           [ENDING_NEVER] = PREDICTION_RUNNING};
	double now = clock_now_s();
	double ended = prediction_ended_s(prediction);

	if (prediction->cancelled_s == 0)
	{
		if (now < prediction->submitted_s + prediction->queue_s)
			return PREDICTION_QUEUED;
		if (now < ended || prediction->ending == ENDING_NEVER)
			return PREDICTION_RUNNING;
	}
	if (prediction->kept_s >= 0 && now >= ended + prediction->kept_s)
		return PREDICTION_GONE;
	return prediction->cancelled_s > 0 ? PREDICTION_CANCELLED : ends[prediction->ending];
}

/* How far it is, from 0 to 1; below 0: its script does not want it told. */
double
prediction_progress(const Prediction *prediction)
{
	double ran = clock_now_s() - prediction->submitted_s - prediction->queue_s;

	if (!script_bool(prediction->script, "progress"))
		return -1;
	if (ran <= 0)
		return 0;
	return ran < prediction->run_s ? ran / prediction->run_s : 1;
}

/* Its place in the queue: one for each 100 ms that are left; 0: it is not queued. */
unsigned
prediction_queue_position(const Prediction *prediction)
{
	double left = prediction->submitted_s + prediction->queue_s - clock_now_s();

	return left > 0 && prediction->cancelled_s == 0 ? 1 + (unsigned) (left * 10) : 0;
}

/* Stops it, unless the call's fault fails or it has ended; true: it is stopped. */
bool
prediction_cancel(Call *call, Prediction *prediction)
{
	PredictionState state = prediction_state(prediction);

	if (state >= PREDICTION_SUCCEEDED || call->fault.status >= 400)
		return false;
	prediction->cancelled_s = clock_now_s();
	prediction->cancelled_early = state == PREDICTION_QUEUED;
	counts_add(&prediction->count, EVENT_CANCELLED);
	return true;
}

/* Ends the work of all that are under way, as their scripts say; gives how many those were. */
unsigned
prediction_finish_all(void)
{
	double now = clock_now_s();
	Prediction *prediction;
	unsigned n = 0;

	TAILQ_FOREACH(prediction, &predictions, link)
	{
		double age = now - prediction->submitted_s;

		if (prediction_state(prediction) > PREDICTION_RUNNING)
			continue;
		if (prediction->queue_s > age)
			prediction->queue_s = age;
		prediction->run_s = age - prediction->queue_s;
		n++;
	}
	return n;
}

/* Why it failed. */
const char *
prediction_message(const Prediction *prediction)
{
	const char *message = script_text(prediction->script, "message");

	if (message)
		return message;
	return prediction->ending == ENDING_MODERATED ? "The content was flagged by the safety system."
												  : "The model has failed.";
}

/* Adds the output that its script gives word for word; false: it gives none. */
bool
prediction_add_script_output(const Prediction *prediction, struct evbuffer *out)
{
	const cJSON *output = cJSON_GetObjectItemCaseSensitive(prediction->script, "output");
	char *text = output ? cJSON_PrintUnformatted(output) : NULL;

	if (text)
		evbuffer_add(out, text, strlen(text));
	free(text);
	return text != NULL;
}

/* Adds the usage of its script, or the JSON given. */
void
prediction_add_usage(const Prediction *prediction, struct evbuffer *out, const char *otherwise)
{
	const cJSON *usage = cJSON_GetObjectItemCaseSensitive(prediction->script, "usage");
	char *text = usage ? cJSON_PrintUnformatted(usage) : NULL;

	evbuffer_add_printf(out, "%s", text ? text : otherwise);
	free(text);
}

static void
keep_node(void *node)
{
	(void) node;
}

/* Forgets them all; calls that are under way still have theirs. */
void
prediction_reset(void)
{
	Prediction *prediction;

	tdestroy(by_id, keep_node);
	tdestroy(by_key, keep_node);
	by_id = by_key = NULL;
	while ((prediction = TAILQ_FIRST(&predictions)) != NULL)
	{
		TAILQ_REMOVE(&predictions, prediction, link);
		prediction_release(prediction);
	}
}

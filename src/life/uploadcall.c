/*
 * uploadcall.c
 *		The calls of an upload (upload.c): which comes next, and how it begins.
 *
 * They run beside the call of the job's step.  Each takes a place at the
 * store.
 */
#include "postgres.h"

#include <time.h>

#include "utils/memutils.h"

#include "base/clock.h"
#include "base/trace.h"
#include "base/marker.h"
#include "life/calls.h"
#include "life/store.h"
#include "life/storeline.h"
#include "life/upload.h"
#include "schedule/schedule.h"

/* Argument of build_request(). */
typedef struct Asking
{
	Job *job;
	UploadCall *ask;
	RequestSource source;
	HttpRequest *http;
} Asking;

/*
 * Notes where an upload begins.
 */
static void
note_place(Upload *upload, const ServerOptions *options)
{
	StorePlace place = storeplace_of(options);
	MemoryContext caller = MemoryContextSwitchTo(upload->context);

	upload->at = storeplace_copy(&place);
	MemoryContextSwitchTo(caller);
}

static void
build_request(void *arg)
{
	Asking *asking = arg;
	UploadCall *ask = asking->ask;
	const Upload *upload = asking->job->store->upload;
	RequestSource *source = &asking->source;
	S3Upload known = {upload->key, upload->id};

	if (ask->ask != UPLOAD_BEGIN && upload_is_away(asking->job))
		source->options = storeplace_options(source->options, &upload->at);
	switch (ask->ask)
	{
		case UPLOAD_BEGIN:
			asking->http = s3upload_begin(source, upload->key, upload->content_type);
			break;
		case UPLOAD_LIST:
			asking->http = s3upload_list_parts(source, &known, upload->listed_after);
			break;
		case UPLOAD_PUT_PART:
			asking->http =
				s3upload_put_part(source, &known, ask->number, ask->data, ask->len, ask->sha256);
			break;
		case UPLOAD_COMPLETE:
			asking->http = s3upload_complete(source, &known, upload->parts, upload->n_taken);
			break;
		case UPLOAD_HEAD:
			asking->http = s3upload_head(source, upload->key);
			break;
	}
	if (ask->ask == UPLOAD_BEGIN)
		note_place(asking->job->store->upload, source->options);
	asking->http->account = NULL;
	ask->call.http = asking->http;
	ask->call.transfer = http_start(asking->http, &ask->meter, ask->call.context, &ask->call);
}

/*
 * Begins a call.  The store must have a place for it.
 */
static void
begin_call(Job *job, UploadCall *ask, UploadAsk what)
{
	JobStore *store = job->store;
	Upload *upload = store->upload;
	Asking asking = {.job = job, .ask = ask};
	ErrorData *error = NULL;

	ask->ask = what;
	ask->place = limits_take(&store->queue->limits, clock_mono());
	limits_started(&ask->place);
	asking.source = (RequestSource){.options = ask->place.backend->options,
									.secrets = &store->secrets,
									.now_unix = time(NULL)};
	ask->call.step = STEP_PART;
	ask->call.context =
		AllocSetContextCreate(upload->context, "genjob upload call", ALLOCSET_SMALL_SIZES);
	http_meter_init(&ask->meter);
	if (calls_run(&ask->call, build_request, &asking, &error) && ask->call.transfer != NULL)
	{
		/* the step decides what follows a crash */
		ask->call.noted = marker_begin_call(job->id, job->attempt, job->step);
		store->unnamed += what == UPLOAD_BEGIN;
		trace("job " INT64_FORMAT " attempt %d: part calls %s %s", job->id, job->attempt,
			  asking.http->method, trace_name(asking.http->shown_url));
		return;
	}
	limits_give_back(&ask->place);
	upload_note_trouble(upload, error ? error->message : "no memory was left to call the store.",
						error != NULL);
	upload_end_call(ask);
}

static bool
is_calling(const Upload *upload)
{
	int i;

	for (i = 0; i < UPLOAD_SLOTS; i++)
	{
		if (upload->slots[i].call.transfer != NULL)
			return true;
	}
	return upload->control.call.transfer != NULL;
}

/*
 * Returns the next call that can be made, and what it is for; NULL: none.
 */
static UploadCall *
next_call_of(Upload *upload, UploadAsk *what)
{
	bool has_parts = false;
	int i;

	if (upload->control.call.transfer != NULL)
		return NULL;
	*what = UPLOAD_BEGIN;
	if (upload->id == NULL)
		return &upload->control;
	*what = UPLOAD_LIST;
	if (upload->is_saved && !upload->is_listed)
		return &upload->control;
	if (!upload_is_open(upload))
		return NULL;
	*what = UPLOAD_PUT_PART;
	for (i = 0; i < UPLOAD_SLOTS; i++)
	{
		if (upload->slots[i].number != 0 && upload->slots[i].call.transfer == NULL)
			return &upload->slots[i];
		has_parts |= upload->slots[i].number != 0;
	}
	*what = upload->in_doubt ? UPLOAD_HEAD : UPLOAD_COMPLETE;
	return upload->is_whole && !has_parts ? &upload->control : NULL;
}

/*
 * Moves a job's upload on: begins the calls for which the store has a place.
 */
UploadNews
upload_work(Job *job)
{
	JobStore *store = job->store;
	Upload *upload = store->upload;
	MonoTime now = clock_mono();
	UploadCall *ask;
	UploadAsk what;

	if (upload->is_done)
		return UPLOAD_DONE;
	if (upload->is_gone || upload->is_left)
		return UPLOAD_GONE;
	if (upload->trouble != NULL)
		return UPLOAD_FAILED;
	if (upload->id != NULL && !upload->is_saved)
		return UPLOAD_SAVES;
	if (now < upload->again_at)
		return UPLOAD_WAITS;
	if (store->server == NULL)
		calls_doubt_secrets(job);
	calls_refresh(job);
	while (upload->trouble == NULL && (ask = next_call_of(upload, &what)) != NULL)
	{
		if (store->server == NULL)
			upload_note_trouble(upload, store->trouble, true);
		else if (!storeline_take_turn(job, is_calling(upload)))
			return is_calling(upload) ? UPLOAD_BUSY : UPLOAD_NO_PLACE;
		else
			begin_call(job, ask, what);
	}
	return upload->trouble != NULL ? UPLOAD_FAILED : UPLOAD_BUSY;
}

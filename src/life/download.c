/*
 * download.c
 *		The step that downloads outputs that an answer gives as URLs.
 *
 * It downloads them one after another, without delay: many URLs expire within
 * minutes.  If a download fails, it polls the provider once more.  An output
 * that is too large for memory goes to its object store while it arrives
 * (pour.c).
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "life/calls.h"
#include "life/pour.h"
#include "life/step.h"
#include "life/store.h"
#include "life/verdict.h"
#include "protocol/judge.h"
#include "protocol/missing.h"
#include "protocol/words.h"

#define MAX_DOWNLOAD_FAILURES 5
#define MAX_REDIRECTS 3
#define MAX_OUTAGE_US (10 * USECS_PER_MINUTE) /* of the server that has the file */
#define MAX_POLLING_US (24 * USECS_PER_HOUR)  /* for new links */

static const Backoff try_again = {500, 30000}; /* ms, between two tries */

static Output *
next_download(const Job *job)
{
	ListCell *cell;

	foreach(cell, job->verdict->outputs)
	{
		Output *output = lfirst(cell);

		if (!OUTPUT_IS_THERE(output) && output->url != NULL && output->fault == NULL)
			return output;
	}
	return NULL;
}

/*
 * Returns how many more bytes the job's outputs may have.  Together they may be as large as one answer.
 */
static size_t
room_for_outputs(const Job *job)
{
	size_t room = job->options->max_response;
	ListCell *cell;

	foreach(cell, job->verdict->outputs)
	{
		const Output *output = lfirst(cell);

		room -= output->data != NULL ? Min(room, output->len) : 0;
	}
	return room;
}

/*
 * Takes over what was downloaded for the earlier answer, if the link is the
 * same.  Ignores the queries of the links, which have signatures.
 */
static void
reuse_outputs(Job *job)
{
	int n = list_length(job->verdict->outputs);
	int i;

	if (job->download.old_answer == NULL || list_length(job->download.old_answer->outputs) != n)
		return;
	for (i = 0; i < n; i++)
	{
		Output *output = list_nth(job->verdict->outputs, i);
		const Output *old = list_nth(job->download.old_answer->outputs, i);
		size_t len = output->url != NULL ? strcspn(output->url, "?") : 0;

		if (OUTPUT_IS_THERE(output) || !OUTPUT_IS_THERE(old) || old->url == NULL || len == 0 ||
			strcspn(old->url, "?") != len || strncmp(old->url, output->url, len) != 0)
			continue;
		output->content_type = old->content_type;
		output->data = old->data;
		output->len = old->len;
		output->object = old->object;
		output->etag = old->etag;
		output->store = old->store;
		output->store_oid = old->store_oid;
		output->sha256 = old->sha256;
	}
}

/*
 * True if the provider may have a new link.  It is asked once whatever is
 * wrong; and whenever a link that has worked is refused, because it has
 * expired, for a day: so long an output waits for its store, too.
 */
static bool
may_poll_again(const Job *job)
{
	const JobDownload *download = &job->download;
	bool has_expired = download->has_worked && download->is_refused;

	return verdict_names_prediction(job) && !download->needs_no_link &&
		   (download->polls == 0 ||
			(has_expired && clock_mono() < download->polled_first + MAX_POLLING_US));
}

/*
 * Polls the provider once more: a link may have expired, and a new answer has
 * a new link.  Waits longer each time.
 */
static Next
poll_again(Job *job)
{
	MonoTime now = clock_mono();
	MonoTime pause = 0;

	if (job->download.polls == 0)
		job->download.polled_first = now;
	else
		pause = backoff_delay(&try_again, job->download.polls - 1) * 1000;
	job->download.polls++;
	job->download.has_worked = job->download.is_refused = false;
	job->download.old_answer = job->verdict;
	calls_forget(job); /* except the outputs of the verdict */
	job->verdict = NULL;
	return next_wait(job->options->protocol.result ? STEP_RESULT : STEP_POLL, now + pause);
}

/*
 * Ends a job after its downloads.  A missing output, or an error in the answer itself, fails it.  Before that, a
 * provider that may have new links is polled (may_poll_again()).
 */
static Next
end_downloads(Job *job)
{
	char *faults = missing_describe(job->verdict);

	job->download.redirects = job->download.failures = 0;
	if (faults != NULL && may_poll_again(job))
		return poll_again(job);
	if (faults != NULL && job->verdict->error != NULL)
		faults = psprintf("%s %s", job->verdict->error, faults);
	if (faults == NULL)
		faults = job->verdict->error;
	if (faults != NULL)
		return next_fail(job, faults);
	job->verdict->kind = VERDICT_DONE;
	return next_verdict(job->verdict);
}

/*
 * Gives up an output that cannot be fetched, and fetches the others.  The next
 * output gets no new time for retries.
 */
static Next
abandon_output(Job *job, Output *output, const char *why)
{
	output->fault = pstrdup(why);
	pour_drop(job, true);
	job->download.redirects = job->download.furthest = 0;
	return next_call(STEP_DOWNLOAD);
}

bool
download_is_due(const Job *job)
{
	return job->verdict->kind == VERDICT_FETCH;
}

Next
download_begin(Job *job)
{
	/* the row is written; the download went on meanwhile */
	if (pour_is_under_way(job) && (job->call.transfer != NULL || job->store->ended != NULL))
		return next_go_on(STEP_DOWNLOAD);
	job->download.failures = 0;
	return next_call(STEP_DOWNLOAD);
}

/*
 * The alarm has come: retries a download, or looks after its upload.
 */
Next
download_woken(Job *job)
{
	if (job->call.transfer != NULL || pour_has_ended(job))
		return pour_go_on(job);
	return next_call(STEP_DOWNLOAD);
}

/*
 * Builds the call that downloads the next missing output for which there is room; NULL when there is none.
 */
HttpRequest *
download_build(Job *job, char **why)
{
	RequestSource source = calls_request_source(job);
	HttpRequest *http;
	Output *output;
	size_t room;

	Assert(job->verdict != NULL);
	reuse_outputs(job);
	room = room_for_outputs(job);
	while ((output = next_download(job)) != NULL && room == 0 && !pour_may(job, output))
	{
		ReplySource reply_source = verdict_source(job, NULL);

		output->fault = MemoryContextStrdup(job->context, reply_describe_too_large(&reply_source));
	}
	if (output == NULL)
		return NULL;
	http = request_download(&source, output->url, job->remote.is_private, room);
	if (pour_may(job, output))
		pour_prepare(job, output, http);
	return http;
}

Next
download_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	return error ? next_fail(job, error->message) : end_downloads(job);
}

/*
 * Gives up all outputs that are not here yet: nobody knows which of them
 * crashes PostgreSQL.
 */
Next
download_given_up(Job *job, const char *why)
{
	Output *output;

	while ((output = next_download(job)) != NULL)
		output->fault = MemoryContextStrdup(job->context, why);
	pour_drop(job, true);
	job->download.needs_no_link = true;
	return end_downloads(job);
}

/*
 * True if a failed download is retried.  The output is paid for, and an outage
 * may be long: retry for the option timeout, at most ten minutes.  Give up
 * sooner after a 404: the link may have expired.
 */
static bool
may_try_again(Job *job, const Verdict *verdict)
{
	MonoTime now = clock_mono();
	bool is_answered = verdict->http_status == 404;

	if (job->download.failures++ == 0)
		job->download.failing_since = now;
	return job->download.failures < MAX_DOWNLOAD_FAILURES ||
		   (!is_answered && now < job->download.failing_since +
									  Min(job->options->timeout * INT64CONST(1000), MAX_OUTAGE_US));
}

/*
 * Handles a download that did not bring its output.
 */
static Next
download_failed(Job *job, Output *output, Verdict *verdict, char *redirect)
{
	if (redirect != NULL && job->download.redirects >= MAX_REDIRECTS)
		verdict->error =
			psprintf("output could not be downloaded from %s: more than %d redirects. Check that the provider's files can be downloaded.",
					 job->call.http->shown_url, MAX_REDIRECTS);
	if (redirect != NULL && job->download.redirects++ < MAX_REDIRECTS)
	{
		output->url = pstrdup(redirect);
		return next_call(STEP_DOWNLOAD);
	}
	if (verdict->kind == VERDICT_FETCH && redirect == NULL && may_try_again(job, verdict))
		return next_wait(STEP_DOWNLOAD,
						 clock_mono() +
							 backoff_delay(&try_again, job->download.failures - 1) * 1000);
	job->download.is_refused |= verdict->http_status >= 400 && verdict->http_status < 500;
	return abandon_output(job, output, verdict->error);
}

/* A download that is judged. */
typedef struct Download
{
	ReplySource source;
	HttpReply *reply;
	Output *output;
	const Judged *judged; /* how another process judged it; or NULL */
	const char *why;      /* why it could not be judged */
	char *redirect;
	Verdict *verdict;
} Download;

/*
 * Takes over a writer's judgement.  Raises an error if it could not judge.
 */
static void
take_judged(Download *download, const Judged *judged)
{
	if (judged->why != NULL)
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("%s", judged->why)));
	download->verdict = judged->verdict;
	download->redirect = judged->redirect;
	if (judged->output.data == NULL)
		return;
	download->output->content_type = judged->output.content_type;
	download->output->data = judged->output.data;
	download->output->len = judged->output.len;
	download->output->fault = judged->output.fault;
}

static void
judge_download(void *arg)
{
	Download *download = arg;

	if (download->judged != NULL)
	{
		take_judged(download, download->judged);
		return;
	}
	download->verdict = reply_judge_download(&download->source, download->reply, download->output,
											 &download->redirect);
}

static void
judge_unread(void *arg)
{
	Download *download = arg;

	/* nobody knows what came: treat it as nothing */
	download->redirect = NULL;
	download->verdict = reply_unjudged(&download->source, download->reply, download->why);
	download->verdict->kind = VERDICT_FETCH;
}

Next
download_answered(Job *job, HttpReply *reply)
{
	Download download = {verdict_source(job, job->call.http), reply, next_download(job),
						 job->judged};
	Verdict *verdict;
	ErrorData *error;

	job->judged = NULL;
	if (pour_take_end(job, reply))
		return pour_go_on(job);
	if (!reply_is_success(reply) || pour_is_under_way(job))
		pour_take_failure(job, reply);
	if (!calls_run(&job->call, judge_download, &download, &error))
	{
		download.why = error->message;
		if (!calls_run(&job->call, judge_unread, &download, &error))
			return next_fail(job, error->message);
	}
	verdict = download.verdict;
	if (verdict->kind == VERDICT_DONE)
	{
		pour_drop(job, true);
		job->download.failures = job->download.redirects = job->download.furthest = 0;
		job->download.has_worked = true;
		return next_call(STEP_DOWNLOAD);
	}
	if (verdict->error != NULL)
		words_mask(job->call.http, verdict->error, strlen(verdict->error));
	bytes_clear(reply->body);
	if (pour_take_too_large(job, download.output, reply))
		return next_wait(STEP_DOWNLOAD, clock_mono() + store_pause(job) * 1000);
	return download_failed(job, download.output, verdict, download.redirect);
}

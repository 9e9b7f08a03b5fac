/*
 * submit.c
 *		The step that sends a job.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "life/calls.h"
#include "life/same.h"
#include "life/step.h"
#include "life/verdict.h"

/*
 * Frees what only building the request needed: the request has its own copy.
 */
void
submit_built(Job *job)
{
	calls_forget_input(job);
	calls_hold_request(job);
}

/*
 * Builds the request of a job.  INSERT checked it, but the server's options may have changed since.
 */
HttpRequest *
submit_build(Job *job, char **why)
{
	RequestSource source = calls_request_source(job);
	HttpRequest *http = NULL;
	char *sha256;

	if (same_begin(job, &source, &sha256))
		http = request_build(&source);
	if (http == NULL || !same_is(job, http, sha256))
		return NULL;
	submit_built(job);
	return http;
}

Next
submit_unbuilt(Job *job, const char *why, const ErrorData *error)
{
	if (error == NULL)
		return same_give_up(job);
	return next_fail(job, psprintf("%s. %s", error->message, error->hint ? error->hint : ""));
}

Next
submit_starved(Job *job)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_RETRY;
	verdict->error = pstrdup("no memory was left to call the server. Lower max_in_flight.");
	return next_verdict(verdict);
}

Next
submit_answered(Job *job, HttpReply *reply)
{
	Remote *remote = &job->remote;
	Verdict *verdict;

	job_stop_waking(job);
	progress_end(job);
	verdict = verdict_read(job, reply, reply_judge, false);
	remote->is_private |= reply->peer_is_private;
	remote->is_public |= reply->peer_is_public;
	if (verdict->unknown)
		same_note(job, job->call.http);
	if (verdict->note != NULL)
		remote->note = pstrdup(verdict->note);
	if (remote->id != NULL)
		remote->id = pstrdup(remote->id);
	if (remote->urls != NULL)
		remote->urls = pstrdup(remote->urls);
	if (remote->usage != NULL)
		remote->usage = pstrdup(remote->usage);
	return next_verdict(verdict);
}

/*
 * resume.c
 *		Resumes a job that an earlier dispatcher has begun: from its answer, if
 *		that had come; from its prediction, if the provider had named one; or
 *		from the beginning.
 */
#include "postgres.h"

#include "base/guard.h"
#include "life/life.h"
#include "life/step.h"
#include "life/store.h"
#include "life/verdict.h"
#include "schedule/schedule.h"

/*
 * Returns what the answer in the column remote means, in the current memory
 * context; NULL: there is none.  If the answer is a saved verdict, frees its
 * text.  Pure; may raise an error.
 */
Verdict *
life_judge_saved(const ReplySource *source, Remote *remote)
{
	Verdict *verdict;
	bool is_verdict;

	if (remote->answer == NULL)
		return NULL;
	verdict = reply_judge_saved(source, remote->answer, &is_verdict);
	if (!is_verdict)
		return verdict;
	pfree(remote->answer);
	remote->answer = NULL;
	remote->has_verdict = true;
	return verdict;
}

static void
judge_saved(void *arg)
{
	Job *job = arg;
	ReplySource source = verdict_source(job, NULL);

	job->verdict = life_judge_saved(&source, &job->remote);
}

/*
 * Judges the saved answer, unless another process did.  False, and *error, if
 * it cannot be read.
 */
static bool
judge_answer(Job *job, char **error)
{
	Judged *judged = job->judged;

	job->judged = NULL;
	if (judged == NULL)
		return guard_run(judge_saved, job, error);
	job->verdict = judged->verdict;
	*error = judged->why;
	return judged->why == NULL;
}

/*
 * Continues with the downloads of an answer from the table.  Somebody else
 * than genjob may have written it.
 */
static Next
resume_answer(Job *job)
{
	char *error;

	if (judge_answer(job, &error))
		return next_verdict(job->verdict);
	job->verdict = palloc0(sizeof(Verdict));
	job->verdict->result = job->remote.answer;
	return next_fail(job,
					 psprintf("genjob could not read the answer of server \"%s\" in the column remote: %s. The answer is in the column result now: look there before you call genjob.retry().",
							  NameStr(job->queue->name), error));
}

/*
 * Fails a job that cannot be continued, although its call has brought
 * something.
 */
static Next
fail_resumed(Job *job)
{
	job->verdict = palloc0(sizeof(Verdict));
	job->verdict->result = job->remote.answer;
	if (job->remote.answer != NULL)
		return next_fail(job,
						 psprintf("%s The answer that had come is in the column result: look there before you call genjob.retry().%s",
								  job->complaint, store_describe_left_parts(job)));
	return next_fail(job,
					 psprintf("%s The prediction %s may still run and cost money: look for it at the provider before you call genjob.retry().%s",
							  job->complaint, job->remote.id ? job->remote.id : "",
							  store_describe_left_parts(job)));
}

/*
 * Continues with polls for the prediction.
 */
static Next
resume_prediction(Job *job)
{
	Verdict *verdict = palloc0(sizeof(Verdict));

	verdict->kind = VERDICT_WAIT;
	return next_verdict(verdict);
}

/*
 * Returns the verdict for a job that was not sent yet when genjob ended.  It
 * counts as a loss all the same: the fetched objects may have caused that end.
 */
static Verdict *
lost_unsent(void)
{
	Verdict *verdict = reply_lost();

	verdict->unknown = false;
	verdict->error = pstrdup(
		"genjob or the database server stopped while genjob fetched the objects of the request from their store. Nothing was sent.");
	return verdict;
}

Next
resume_begin(Job *job)
{
	bool is_named = verdict_names_prediction(job);
	bool has_answer = job->remote.answer != NULL || job->remote.has_verdict;

	Assert(job->request == NULL && job->verdict == NULL && !job->remote.is_unread);
	job->is_saved = true;
	if (job->store != NULL)
		job->store->is_resumed = true;
	if (job->remote.is_unsent)
		return next_verdict(lost_unsent());
	if (!is_named && !has_answer)
		return next_verdict(reply_lost());
	if (job->complaint != NULL)
	{
		job->judged = NULL; /* the caller of life_resumed() frees it */
		return fail_resumed(job);
	}
	return has_answer ? resume_answer(job) : resume_prediction(job);
}

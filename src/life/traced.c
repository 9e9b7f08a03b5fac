/*
 * traced.c
 *		What the log says of a job's calls, at DEBUG1.
 */
#include "postgres.h"

#include "base/bytes.h"
#include "base/trace.h"
#include "life/traced.h"

/*
 * Logs how the call of a step ended.
 */
void
traced_answer(const Job *job, const char *step, const HttpReply *reply)
{
	static const char *const errors[] = {
		[HTTP_OK] = "answered",
		[HTTP_RESOLVE] = "not called, because the name has no address",
		[HTTP_CONNECT] = "not called, because nobody listens there",
		[HTTP_FORBIDDEN] = "not called, because the address is a private one",
		[HTTP_TLS] = "not called, because TLS failed",
		[HTTP_UNTRUSTED] = "not called, because the certificate does not verify",
		[HTTP_TIMEOUT] = "not answered in time",
		[HTTP_CUT] = "cut off",
		[HTTP_GARBLED] = "answered, but not in HTTP",
		[HTTP_TOO_LARGE] = "answer too large",
		[HTTP_MEMORY] = "cut off because memory ran out",
		[HTTP_OTHER] = "ended by an error",
	};

	trace("job " INT64_FORMAT " attempt %d: %s %s, status %d, %zu bytes", job->id, job->attempt,
		  step, errors[reply->error], reply->status, reply->body->len);
}

/*
 * Logs the verdict.
 */
void
traced_verdict(const Job *job, const Verdict *verdict)
{
	static const char *const kinds[] = {
		[VERDICT_DONE] = "done",   [VERDICT_WAIT] = "wait",   [VERDICT_FETCH] = "fetch",
		[VERDICT_RETRY] = "retry", [VERDICT_DEFER] = "defer", [VERDICT_POSTPONE] = "postpone",
		[VERDICT_LOST] = "lost",   [VERDICT_FAIL] = "fail",
	};

	trace("job " INT64_FORMAT " attempt %d: verdict %s%s%s", job->id, job->attempt,
		  kinds[verdict->kind], verdict->unknown ? ", may have been accepted" : "",
		  trace_reason(verdict->error));
}

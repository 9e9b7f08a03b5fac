/*
 * job.h
 *		A job: its columns in the table, and its life in the dispatcher's memory.
 */
#ifndef GENJOB_JOB_H
#define GENJOB_JOB_H

#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "base/clock.h"
#include "limits/limits.h"
#include "base/memory.h"
#include "protocol/found.h"
#include "protocol/reply.h"
#include "protocol/request.h"
#include "protocol/stream.h"
#include "schedule/lines.h"
#include "server/server.h"
#include "shared/shmem.h"

/*
 * The columns of gen_jobs by number, in the order of sql/schema.sql.  Those from request_id on, which an upgrade adds,
 * have other numbers where others had added columns of their own before: row.c finds them by name.
 */
typedef enum JobColumn
{
	JOB_ID = 1,
	JOB_SERVER,
	JOB_REQUEST,
	JOB_INPUTS,
	JOB_PRIORITY,
	JOB_RUN_AT,
	JOB_EXPIRES_AT,
	JOB_TENANT,
	JOB_UNIQUE_KEY,
	JOB_MAX_ATTEMPTS,
	JOB_OWNER,
	JOB_CREATED_AT,
	JOB_STATE,
	JOB_ATTEMPT,
	JOB_FAILURES,
	JOB_STARTED_AT,
	JOB_FINISHED_AT,
	JOB_IDEMPOTENCY_KEY,
	JOB_RESULT,
	JOB_USAGE,
	JOB_ERROR,
	JOB_ATTEMPT_ERRORS,
	JOB_REMOTE_ID,
	JOB_REMOTE,
	JOB_RAN_ON,
	JOB_BACKEND,
	JOB_REQUEST_ID,
	JOB_SERVER_OID,
	JOB_LOSSES,
	JOB_ON_DONE,
	JOB_DEPTH,
	JOB_FOLLOW_UP,
	JOB_AFTER,
	JOB_AFTER_RULE,
	JOB_BLOCKED_BY,
	JOB_UNKNOWN_ENDS,
	JOB_PUT_OFF_SINCE,
	JOB_CLAIMED_ELSEWHERE,
	JOB_REFERS,
	JOB_LAST_COLUMN = JOB_REFERS
} JobColumn;

/*
 * Where a claimed job is in memory.  A job is on exactly one list, that of its state.  In the table it is 'running' in
 * all of them but the last.  life.c moves it from one to another.
 */
typedef enum JobState
{
	JOB_CLAIMED, /* just read; life_start() moves it on before the turn ends, or when a standby has the claim */
	JOB_CALLING,    /* a call is under way; its end moves the job on */
	JOB_SAVING,     /* what a resumed job needs is to be written; the commit moves it on */
	JOB_WAITING,    /* the provider works; its alarm moves it on, or its turn in a line */
	JOB_REPORTING,  /* its verdict is to be written; the commit moves it on */
	JOB_CANCELLING, /* the row is final or gone; the provider is being told */
	JOB_STATES
} JobState;

/* What a job's call is for: the one under way, or the next one.  The table in life.c has a row for each. */
typedef enum JobStep
{
	STEP_SUBMIT,
	STEP_LOOKUP, /* asks whether the submission arrived */
	STEP_POLL,
	STEP_RESULT,
	STEP_DOWNLOAD,
	STEP_STORE, /* puts an output into an object store */
	STEP_CANCEL,
	STEP_PART,     /* of an upload, beside that of the step that owns it: no job is at this step */
	STEP_PROGRESS, /* of a submission, beside it: no job is at this step */
	JOB_STEPS
} JobStep;

/* A call, from its building until what it brought is not needed any more. */
typedef struct Call
{
	struct Job *job;       /* NULL: of a leftover */
	JobStep step;          /* what it is for */
	MemoryContext context; /* holds it, and what it brings; or NULL */
	HttpRequest *http;
	HttpTransfer *transfer; /* NULL: it is not under way */
	StreamPeek *peek;       /* in context: of a stream that is shown while it comes; or NULL */
} Call;

/* What became of writing a job's verdict. */
typedef enum ReportOutcome
{
	REPORT_PENDING, /* not written: the row is locked, or it was not tried */
	REPORT_WRITTEN,
	REPORT_FENCED /* the row is not this attempt's any more, and stays as it is */
} ReportOutcome;

/* What another process has made of an answer (process/writers.c). */
typedef struct Judged
{
	char *why;        /* it could not be judged; else NULL */
	Verdict *verdict; /* NULL: of STEP_LOOKUP */
	Remote remote;    /* STEP_SUBMIT: the job's, with what the answer adds to it */
	FoundState found; /* STEP_LOOKUP */
	Output output;    /* STEP_DOWNLOAD */
	char *redirect;   /* STEP_DOWNLOAD; or NULL */
} Judged;

struct JobStore;
struct ServerQueue;

typedef struct Job
{
	dlist_node node; /* on the list of its state */
	JobState state;
	MemoryContext context;       /* holds this and all below */
	MemoryContext input_context; /* holds what only the submission needs; NULL after it */

	/* As claimed */
	int64 id;
	int attempt;
	int failures;     /* before this attempt */
	int losses;       /* attempts in a row before this one that were cut short */
	int depth;        /* hand-overs that led to it: then its request is meant word for word */
	int unknown_ends; /* calls whose end is not known that were repeated, or will be */
	TimestampTz
		put_off_since; /* since when no attempt has been counted, nor overload the reason; 0: not so */
	int max_attempts; /* 0: the server's */
	int priority;
	Oid owner;
	Oid server_oid;    /* of the server that it was inserted for; InvalidOid: not known */
	char *server_name; /* of the row: where it is queued */
	char *tenant;
	TimestampTz expires_at; /* 0: it does not */
	char *request;          /* JSON in UTF-8; NULL when the job is an orphan */
	Input *inputs;
	int n_inputs;
	Reference *references; /* outputs of other jobs that the request refers to */
	int n_references;
	char *idempotency_key;
	char *token;              /* of a hand-over, for its one call; or NULL */
	MemoryShare *input_share; /* of input_context; or NULL */
	bool key_is_kept;         /* of an earlier attempt, whose end is not known */
	char *sent; /* what the call was made of whose key this is (server/shape.c); NULL: not known */
	bool body_varies;  /* each time that the call is built */
	bool is_committed; /* in the table it is running */
	TimestampTz started_at;
	MonoTime began_at; /* the same, for durations */

	/* Who runs it, and with what */
	struct ServerQueue *queue;    /* of the server that runs it, which may be a fallback */
	Place place;                  /* there; left when the call and what follows it are over */
	Server *server;               /* NULL when it cannot be used */
	const ServerOptions *options; /* of the backend that is called; NULL with server */
	MappingOptions secrets;
	uint64 secrets_generation; /* of the catalogs from which they were read; 0: they are to be read again */
	char *complaint;           /* why the job cannot be sent; else NULL */
	char *waits_for;           /* why it cannot be sent yet; else NULL */

	/* Its calls */
	JobStep step; /* of the present one, or of the next one */
	Call call;
	MemoryShare *request_share; /* of call.context; or NULL */
	MemoryShare *answer_share;  /* the same, of what was made of the answer */
	CallOutcome call_outcome;   /* of the last one */
	Verdict *spare;             /* in call.context: for an answer that leaves no memory for one */
	Judged *judged;             /* what another process has made of its answer; or NULL */
	Call beside;                /* asks for the progress of the present one */
	Activity *activity;         /* or NULL */
	HttpMeter meter;            /* counts where activity is NULL */

	/* A submission that may have arrived, or not (lookup.c) */
	Verdict *doubt;        /* of it, in case that it did not; NULL: then it is sent now */
	const char *lookup;    /* the address that is asked next, and those behind it */
	MonoTime lookup_until; /* then on_unknown decides */

	/* A prediction that the provider has named */
	Remote remote;
	MemoryShare *saved_share; /* of context, where remote.answer was read from the table; or NULL */
	bool is_saved;            /* remote is in the table */
	bool asked_again;         /* for a fresh answer, because a download had expired */
	int ask_failures;         /* in a row */
	MonoTime failing_since;   /* the first of those of a download */
	int n_questions;          /* about the prediction, that were answered */
	int n_forgotten;          /* answers in a row that the prediction is not known, or not there */
	int n_absent;             /* answers in a row that say nothing about it */
	char *remote_state;       /* what the provider last called its state; or NULL */
	bool asks_unended;        /* the next poll asks for the list of what has not ended */
	Verdict *old_answer;      /* whose outputs could not be downloaded; or NULL */
	int redirects;
	pairingheap_node wake_node; /* in the heap while is_waking */
	bool is_waking;
	MonoTime poked_at; /* when genjob.poke() last had the prediction asked about */
	MonoTime wake_at;
	LineWaiter waiter; /* where it waits for a call, and where that is counted */

	struct JobStore *store; /* where its outputs go; NULL: into the table */

	/* JOB_CANCELLING: a prediction that the provider is to cancel */
	const char *cancels;      /* addresses still to be called, from the present one on */
	const char *cancels_left; /* those behind it */
	bool cancel_confirmed;
	bool is_marked;    /* the row says that the provider is still to be told */
	bool is_completed; /* genjob.complete() has ended the row: there is nothing to be cancelled */
	bool row_is_gone;  /* there is no row, or it is another attempt's */
	int cancel_failures;
	MonoTime cancel_since;         /* the first call; 0: there was none */
	MonoTime cancel_again;         /* the next one, after a failure */
	bool cancel_has_ended;         /* what is saved is how it ended */
	struct ServerQueue *stored_at; /* where its row counts that was read; or NULL */

	/* JOB_REPORTING */
	Verdict *verdict;
	struct varlena *result; /* the verdict's as jsonb, in place of its text; NULL: it has none yet */
	const char *new_state;  /* of the row: succeeded, failed or queued */
	TimestampTz run_at;     /* when queued: not before */
	bool counts;            /* the attempt was a failure of its own */
	bool must_cancel;       /* the prediction is still running: it is cancelled then */
	ReportOutcome outcome;
	MonoTime report_at; /* not before; the last try failed */
	int report_failures;
	bool begins_errors; /* the column attempt_errors cannot be added to */
	bool is_spooled;    /* an earlier dispatcher has left it */
	bool is_out;        /* a writer writes it */
	bool stays_here;    /* no writer does */
} Job;

extern Job *job_create(int64 id);
extern void job_destroy(Job *job);
extern bool job_may_enter(const Job *job, JobState state, JobStep step);
extern void job_enter(Job *job, JobState state, JobStep step);
extern void job_requeue(Job *job);
extern void job_end_calls(Job *job);
extern void job_forget_id(Job *job);
extern Job *job_find(int64 id);
extern Job *job_of_waiter(LineWaiter *waiter);
extern int job_count(JobState state);
extern int job_count_in_flight(void);
extern dlist_head *job_list(JobState state);

extern void job_wake_at(Job *job, MonoTime when);
extern Job *job_next_to_wake(void);
extern void job_stop_waking(Job *job);

#endif /* GENJOB_JOB_H */

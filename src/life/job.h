/*
 * job.h
 *		A job: its columns in the table, and its life in the dispatcher's memory.
 */
#ifndef GENJOB_JOB_H
#define GENJOB_JOB_H

#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "base/clock.h"
#include "base/memory.h"
#include "life/rowstate.h"
#include "limits/limits.h"
#include "protocol/found.h"
#include "protocol/reply.h"
#include "protocol/request.h"
#include "protocol/stream.h"
#include "schedule/lines.h"
#include "server/server.h"
#include "shared/shmem.h"

/*
 * The columns of gen_jobs by number, in the order of sql/schema.sql.  An
 * upgrade adds the columns from request_id on.  Their numbers differ if users
 * had added columns before it, so row.c finds them by name.
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
	JOB_RETAINED,
	JOB_LAST_COLUMN = JOB_RETAINED
} JobColumn;

/*
 * Where a claimed job is in memory.  A job is on exactly one list, that of its
 * state.  Its row is 'running' in every state but JOB_CANCELLING.  job_enter()
 * changes the state.
 */
typedef enum JobState
{
	JOB_CLAIMED, /* just read; life_start() moves it on before the turn ends, or when a standby has the claim */
	JOB_CALLING,    /* a call is under way; its end moves the job on */
	JOB_SAVING,     /* the row must have what a resumed job needs; the commit moves it on */
	JOB_WAITING,    /* the provider works; the job's alarm, or its turn in a line, moves it on */
	JOB_REPORTING,  /* its verdict must be written; the commit moves it on */
	JOB_CANCELLING, /* the row is final or gone; the provider is being told */
	JOB_STATES
} JobState;

/* What a job's call is for: the one under way, or the next one.  The table in steps.c has a row for each. */
typedef enum JobStep
{
	STEP_SUBMIT,
	STEP_FETCH,  /* fetches the stored objects that the request needs, before it is sent */
	STEP_LOOKUP, /* asks whether the submission arrived */
	STEP_POLL,
	STEP_RESULT,
	STEP_DOWNLOAD,
	STEP_STORE, /* puts an output into an object store */
	STEP_CANCEL,
	STEP_PART,     /* one call of an upload, beside its owner's; no job is at this step */
	STEP_PROGRESS, /* asks how far a submission is, beside it; no job is at this step */
	JOB_STEPS
} JobStep;

/* A call, from building it until nothing that it brought is needed. */
typedef struct Call
{
	struct Job *job;       /* NULL: the call of a leftover */
	JobStep step;          /* what it is for */
	MemoryContext context; /* owns the call and what it brings; or NULL */
	HttpRequest *http;
	HttpTransfer *transfer; /* NULL: it is not under way */
	int noted;              /* of the marker; 0: not noted */
	StreamPeek *peek;       /* in context: shows a stream while it arrives; or NULL */
} Call;

/* How another process judged an answer (process/writers.c). */
typedef struct Judged
{
	char *why;        /* why it could not be judged; else NULL */
	Verdict *verdict; /* NULL for STEP_LOOKUP */
	Remote remote; /* STEP_SUBMIT: the job's, plus what the answer adds; saved answer: all of it */
	FoundState found; /* STEP_LOOKUP */
	Output output;    /* STEP_DOWNLOAD */
	char *redirect;   /* STEP_DOWNLOAD; or NULL */
} Judged;

/* ---------- what belongs to one step ---------- */

/* What only the submission needs.  Empty once the provider has named a prediction. */
typedef struct JobSubmission
{
	MemoryContext context; /* owns all below; NULL: freed */
	Input *inputs;
	int n_inputs;
	Reference *references; /* outputs of other jobs that the request refers to */
	int n_references;
	const char *sent_bucket; /* as in RequestSource */
	char *token;             /* of a job that is handed over: lets its receiver answer; or NULL */
	MemoryShare *share;      /* of context; or NULL */
	bool stays_here;         /* this process must build the request */
} JobSubmission;

/* STEP_LOOKUP.  lookup_begin() sets it. */
typedef struct JobLookup
{
	Verdict *doubt; /* the submission's, reported if it did not arrive; NULL: send the job then */
	const char *address; /* the address to ask next, and the addresses after it */
	MonoTime until;      /* from then on, the option on_unknown decides */
	int failures;        /* calls in a row without an answer */
	int n_empty_rounds;  /* rounds in a row in which no address knew the prediction */
} JobLookup;

/* STEP_POLL and STEP_RESULT: valid while remote names a prediction. */
typedef struct JobPolling
{
	int failures;       /* polls in a row without an answer */
	int n_answers;      /* all polls that were answered */
	int n_forgotten;    /* answers in a row that the prediction is unknown, or missing */
	int n_absent;       /* answers in a row that say nothing about it */
	char *remote_state; /* what the provider last called its state; or NULL */
	bool asks_unended;  /* the next poll asks for the list of unfinished predictions */
	MonoTime poked_at;  /* the last genjob.poke(); 0: none */
} JobPolling;

/* STEP_DOWNLOAD.  The outputs are those of the job's verdict. */
typedef struct JobDownload
{
	int failures;           /* in a row, of the present output */
	MonoTime failing_since; /* the first of them; set if failures > 0 */
	uint64 furthest;        /* bytes of the present output that a poured download has ever had */
	int redirects;          /* of the present output */
	bool has_worked;        /* a link of the present answer */
	bool is_refused;        /* a link of it: it may have expired */
	bool needs_no_link;     /* another link would lead to the same bytes */
	int polls;              /* for fresh links */
	MonoTime polled_first;  /* the first of them; set if polls > 0 */
	Verdict *old_answer;    /* the answer before the last of them; or NULL */
} JobDownload;

struct JobFetch;
struct JobStore;
struct ServerQueue;

/* STEP_CANCEL: the provider is told to cancel a prediction. */
typedef struct JobCancel
{
	const char *addresses; /* still to be called, the present one first */
	const char *rest;      /* those behind the present one */
	bool is_confirmed;     /* a call has succeeded */
	bool is_marked;        /* the row says that the provider must still be told */
	bool is_completed;     /* genjob.complete() has ended the row: there is nothing to cancel */
	bool row_is_gone;      /* the row was deleted, or belongs to another attempt */
	int failures;          /* in a row, of the present address */
	MonoTime since;        /* the first call; 0: none yet */
	MonoTime again_at;     /* the next call, after a failure */
	bool saves_end;        /* JOB_SAVING writes how the cancelling ended */
	struct ServerQueue *stored_at; /* the queue that counts a row read from the table; or NULL */
} JobCancel;

/* ---------- what belongs to one state ---------- */

/* What became of writing a job's row. */
typedef enum WriteOutcome
{
	WRITE_PENDING, /* not written: the row is locked, or it was not tried */
	WRITE_DONE,
	WRITE_FENCED /* the row belongs to another attempt, and stays as it is */
} WriteOutcome;

/* JOB_SAVING and JOB_REPORTING: the row must be written. */
typedef struct JobWrite
{
	WriteOutcome outcome; /* of the last try */
	int failures;         /* tries in a row that failed */
	MonoTime again_at;    /* not before; 0: at once */
	bool begins_errors;   /* overwrites the column attempt_errors, which cannot be added to */
	bool is_spooled;      /* an earlier dispatcher left it in a file */
	bool is_out;          /* a writer has it */
	bool stays_here;      /* no writer may have it */
} JobWrite;

/* JOB_REPORTING: what becomes of the row.  outcome_decide() sets it from the verdict. */
typedef struct JobReport
{
	struct varlena
		*result; /* the verdict's result as jsonb, in place of its text; NULL: not yet, or none */
	RowState new_state; /* ROW_SUCCEEDED, ROW_FAILED or ROW_QUEUED; ROW_WAITING: not decided */
	TimestampTz run_at; /* ROW_QUEUED: not before */
	bool counts;        /* the attempt was a failure of its own */
	bool must_cancel;   /* the prediction still runs: cancel it once the row is written */
} JobReport;

/* ---------- the job ---------- */

typedef struct Job
{
	dlist_node node; /* on the list of its state */
	JobState state;
	JobStep step;          /* of the call under way, or of the next one */
	MemoryContext context; /* owns this and all below */

	/* The row as claimed */
	int64 id;
	int attempt;
	int failures;         /* before this attempt */
	int losses;           /* attempts in a row before this one that were cut short */
	uint32 delayed_steps; /* bits of the steps that cuts.c has delayed */
	int depth;        /* hand-overs that led to it; above 0 the request is taken word for word */
	int unknown_ends; /* calls repeated although their end is not known; this attempt may add one */
	TimestampTz
		put_off_since; /* since when no attempt has counted, for another reason than overload; 0: none */
	int max_attempts; /* 0: the server's */
	int priority;
	Oid owner;
	Oid server_oid;    /* of the server that it was inserted for; InvalidOid: not known */
	char *server_name; /* where it is queued */
	char *tenant;
	TimestampTz expires_at; /* 0: never */
	char *request;          /* JSON in UTF-8; NULL for an orphan */
	bool is_committed;      /* the row is 'running' in the table */
	TimestampTz started_at;
	MonoTime began_at; /* the same, for durations */

	/* Its Idempotency-Key, and what was sent under it (same.c) */
	char *idempotency_key;
	bool key_is_kept; /* from an earlier attempt, whose end is not known */
	char *sent;       /* what the earlier call was built from (server/shape.c); NULL: not known */
	bool body_varies; /* each build of the call gives another body */

	/* Who runs it, and with what */
	struct ServerQueue *queue;    /* of the server that runs it, which may be a fallback */
	Place place;                  /* at queue; left when its calls are over */
	Server *server;               /* NULL when it cannot be used */
	const ServerOptions *options; /* of the backend that is called; NULL with server */
	MappingOptions secrets;
	uint64 secrets_generation; /* of the catalogs from which they were read; 0: read them again */
	char *complaint;           /* why the job cannot be sent; else NULL */
	char *waits_for;           /* why it cannot be sent yet; else NULL */
	size_t wants_memory;       /* bytes of memory that it waits for; or 0 */

	/* Its calls */
	Call call;                  /* of step */
	Call beside;                /* asks for the progress of call */
	MemoryShare *request_share; /* of call.context; or NULL */
	MemoryShare *answer_share;  /* of call.context, for the answer; or NULL */
	CallOutcome call_outcome;   /* of the last call that ended */
	Verdict *spare;             /* in call.context: for an answer that no memory is left to judge */
	Judged *judged;             /* how another process judged the answer; or NULL */
	Activity *activity;         /* or NULL */
	HttpMeter meter;            /* counts if activity is NULL */

	/* When it goes on: its alarm, or its turn in a line */
	pairingheap_node wake_node; /* in the heap while is_waking */
	bool is_waking;
	MonoTime wake_at;  /* valid while is_waking */
	LineWaiter waiter; /* where it waits for a call, and where that call counts */

	List *link_secrets; /* of char *, in context: of the links in the request, also after submission is freed */

	/* The prediction that the provider has named */
	Remote remote;
	bool is_saved;            /* remote is in the table */
	bool is_read_apart;       /* JOB_CLAIMED: a writer reads it from there */
	MemoryShare *saved_share; /* of context, for a remote.answer read from the table; or NULL */

	/* What the attempt came to, until the row is written; NULL: nothing yet */
	Verdict *verdict;

	/* Of single steps */
	JobSubmission submission;
	struct JobFetch *fetch; /* STEP_FETCH, in submission.context; NULL: nothing is left to fetch */
	JobLookup lookup;
	JobPolling poll;
	JobDownload download;
	struct JobStore *store; /* STEP_STORE (store.h); NULL: the outputs go into the table */
	JobCancel cancel;

	/* Of single states */
	JobWrite write;
	JobReport report;
} Job;

extern Job *job_create(int64 id);
extern void job_destroy(Job *job);
extern void job_enter(Job *job, JobState state, JobStep step);
extern void job_requeue(Job *job);
extern void job_end_calls(Job *job);
extern void job_forget_id(Job *job);
extern Job *job_find(int64 id);
extern Job *job_of_waiter(LineWaiter *waiter);
extern int job_count(JobState state);
extern bool job_is_unsent(const Job *job);
extern int job_count_in_flight(void);
extern dlist_head *job_list(JobState state);

extern void job_wake_at(Job *job, MonoTime when);
extern Job *job_next_to_wake(void);
extern void job_stop_waking(Job *job);

#endif /* GENJOB_JOB_H */

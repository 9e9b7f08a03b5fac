/*
 * dependency.c
 *		Jobs that wait for others: when a dispatcher looks at them.
 *
 * The dispatcher looks at a job that it ends in the transaction that ends it.
 * It looks at a job that a session changed after the session's commit reports
 * it.  It runs one transaction after another, so the later of two commits sees
 * what both did.  A job with thousands of dependents takes several
 * transactions; the dispatcher writes answers between them.
 */
#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/builtins.h"

#include "base/clock.h"
#include "queue/dependency.h"
#include "queue/depround.h"
#include "queue/ended.h"
#include "queue/find.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "queue/trouble.h"

#define CHUNK 1000                      /* jobs in a round; also dependents */
#define ROUNDS 8                        /* in a transaction */
#define LATER_US USECS_PER_SEC          /* until the next look at a locked row */
#define TROUBLE_US (30 * USECS_PER_SEC) /* the same for a row that raises an error */
#define USED_US (10 * USECS_PER_SEC)    /* between two checks whether any job waits */

static bool is_on = false; /* this process is a dispatcher */
static IdList ends;        /* jobs that have ended */
static IdList changes;     /* jobs that have changed in any way */
static IdList later;       /* jobs to look at again at later_at */
static IdList looked_at;   /* in the present transaction */
static MonoTime later_at;
static bool is_used = true;     /* a job may wait */
static MonoTime used_at;        /* when to check that again */
static bool has_blocked = true; /* a job may have not run because of another */
static int chunk = CHUNK;

/* A look at all waiting jobs, then at all that a retry should revive */
typedef enum Paging
{
	PAGE_NONE,
	PAGE_WAITING,
	PAGE_RETRIED
} Paging;

static MonoTime all_at; /* when to begin again, after an error; 0: not planned */
static Paging paging = PAGE_NONE;
static int64 page_from;

/*
 * Lets this process follow dependencies.  Only one process in a database may
 * do so, so that it sees everything that was done before.
 */
void
dependency_start(void)
{
	is_on = true;
}

/*
 * Notes a job that this transaction ends.
 */
void
dependency_note_end(int64 id)
{
	if (!queue_is_mine)
		dependency_note_own(id, false);
	else if (is_on && is_used)
		idlist_add(&ends, id);
}

/*
 * Notes a job that this transaction lets expire.  If the job waited, a look
 * deletes its dependencies.
 */
void
dependency_note_expired(int64 id)
{
	if (is_on && is_used)
		idlist_add(&changes, id);
}

/*
 * Notes a job that a commit reported.  has_ended: it has ended or is gone.  If
 * neither waits nor has_ended, it is queued.
 */
void
dependency_note_news(int64 id, bool waits, bool has_ended)
{
	is_used |= waits;
	if (has_ended ? is_used : waits || has_blocked)
		idlist_add(&changes, id);
}

/*
 * Notes that a commit reported a job that did not run because of another.
 * Until now retries were ignored, and a retry of that other job may have been
 * reported before; so looks at all retried jobs.
 */
void
dependency_note_blocked(void)
{
	if (has_blocked)
		return;
	has_blocked = true;
	if (paging == PAGE_WAITING)
		return;
	paging = PAGE_RETRIED;
	page_from = 0;
}

/*
 * Begins to look at all waiting jobs, then at all jobs that a retry should
 * have made wait again, a few at a time.
 */
void
dependency_look_at_all(void)
{
	is_used = has_blocked = true;
	paging = PAGE_WAITING;
	all_at = 0;
	page_from = PG_INT64_MIN;
}

/*
 * Like dependency_look_at_all(), but does not restart a look that is under
 * way.
 */
void
dependency_rescan(void)
{
	if (paging == PAGE_NONE)
		dependency_look_at_all();
}

static void
look_later(int64 id, MonoTime when)
{
	if (later.n == 0 || when < later_at)
		later_at = when;
	idlist_add(&later, id);
}

/* Some ids that are looked at together. */
typedef struct Looking
{
	IdList *list; /* ends or changes: where the ids come from */
	int64 ids[CHUNK];
	int n;
	Round round;
	TimestampTz now;
	MemoryContext context; /* for what outlives the round */
	List *ended;           /* of JobEnd: jobs that the round ended */
} Looking;

/*
 * Handles a resolved job: it is queued, or ended without having run, or
 * another session has it locked.
 */
static void
take_resolved(const Resolved *job, void *arg)
{
	Looking *looking = arg;
	MemoryContext caller;
	JobEnd *end;

	if (job->state == NULL)
		look_later(job->id, clock_mono() + LATER_US);
	else if (strcmp(job->state, "queued") == 0)
		find_take_queued(job->row, job->id, ROUND_SERVER, looking->now);
	else
	{
		caller = MemoryContextSwitchTo(looking->context);
		end = palloc0(sizeof(JobEnd));
		*end =
			(JobEnd){.id = job->id,
					 .from = ROW_WAITING,
					 .to = rowstate_parse(job->state),
					 .server = statement_name(job->row, ROUND_SERVER),
					 .has_on_done = DatumGetBool(statement_not_null(job->row, ROUND_HAS_ON_DONE))};
		looking->ended = lappend(looking->ended, end);
		MemoryContextSwitchTo(caller);
	}
}

/*
 * Reports the jobs that a successful round ended.
 */
static void
tell_ended(Looking *looking)
{
	ListCell *cell;

	foreach(cell, looking->ended)
	{
		has_blocked = true;
		job_ended(lfirst(cell));
	}
}

static void
take_page(Looking *looking)
{
	looking->list = &changes;
	if (paging == PAGE_RETRIED)
	{
		if (!round_page_retried(&page_from, looking->ids, &looking->n, CHUNK))
			paging = PAGE_NONE;
		return;
	}
	looking->n = round_page(&page_from, looking->ids, CHUNK);
	if (looking->n == CHUNK)
		return;
	paging = PAGE_RETRIED;
	page_from = 0;
}

static bool
take_ids(Looking *looking)
{
	if (paging != PAGE_NONE && changes.n == 0)
	{
		take_page(looking);
		return looking->n > 0 || paging != PAGE_NONE;
	}
	looking->list = changes.n > 0 ? &changes : &ends;
	looking->n = Min(looking->list->n, chunk);
	looking->list->n -= looking->n;
	memcpy(looking->ids, looking->list->ids + looking->list->n, looking->n * sizeof(int64));
	return looking->n > 0;
}

/*
 * Forgets what the last transaction looked at.
 */
void
dependency_begin(void)
{
	looked_at.n = 0;
}

/*
 * The transaction has failed: plans to look at its jobs again.
 */
void
dependency_transaction_failed(void)
{
	int i;

	for (i = 0; i < looked_at.n; i++)
		look_later(looked_at.ids[i], clock_mono() + LATER_US);
	looked_at.n = 0;
}

static void
look_at_jobs(void *arg)
{
	Looking *looking = arg;

	looking->now = clock_now();
	looking->ended = NIL;
	looking->round = (Round){.ids = looking->ids,
							 .n = looking->n,
							 .is_look = looking->list == &changes,
							 .may_revive = has_blocked,
							 .is_final = true,
							 .now = looking->now,
							 .limit = CHUNK,
							 .revived = &changes,
							 .resolved = take_resolved,
							 .arg = looking};
	round_run(&looking->round);
}

static void
list_waiting(void *arg)
{
	Looking *looking = arg;
	int64 from = looking->ids[0];

	looking->n = round_list_dependents(from, looking->ids, CHUNK);
}

/*
 * Plans to look at all jobs later, because of an error that no row caused.
 */
static void
look_at_all_later(void)
{
	changes.n = ends.n = later.n = 0;
	paging = PAGE_NONE;
	all_at = clock_mono() + TROUBLE_US;
}

/*
 * Repeats a failed look one by one, so that one row's error affects no other.
 */
static void
look_singly(Looking *looking, const ErrorData *error)
{
	int64 job = looking->ids[0];
	ErrorData *ignored;
	int i;

	if (!trouble_is_of_row(error) || error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE)
	{
		trouble_show(TROUBLE_FAIL, error);
		look_at_all_later();
		return;
	}

	if (chunk == 1)
	{
		trouble_show_job(TROUBLE_FAIL, job, NULL, error);
		look_later(job, clock_mono() + TROUBLE_US);
		if (looking->list == &changes || !queue_guard(list_waiting, looking, &ignored))
			return;
		/* look at each of its dependents by itself */
		looking->list = &changes;
	}
	for (i = 0; i < looking->n; i++)
		idlist_add(looking->list, looking->ids[i]);
	chunk = 1;
}

/*
 * Checks once in a while whether dependencies are used.  While no job waits, ends cost nothing.
 */
static void
look_at_use(void)
{
	if (!is_used || used_at > clock_mono() || changes.n > 0 || paging != PAGE_NONE)
		return;
	is_used = round_is_used(&has_blocked);
	used_at = clock_mono() + USED_US;
}

/*
 * Looks at some of the noted jobs; dependency_next() says when to continue.
 * Call it in a transaction of the dispatcher.
 */
void
dependency_work(void)
{
	Looking *looking;
	bool found = false;
	int rounds = ROUNDS;
	ErrorData *error;
	int i;

	if (!is_on || !tables_are_known() || dependency_next() == 0 || dependency_next() > clock_mono())
		return;
	if (all_at != 0 && all_at <= clock_mono())
		dependency_look_at_all();
	for (i = 0; i < later.n && later_at <= clock_mono(); i++)
		idlist_add(&changes, later.ids[i]);
	if (i > 0)
		later.n = 0;
	looking = palloc0(sizeof(Looking));
	looking->context = CurrentMemoryContext;
	while (rounds-- > 0 && (changes.n > 0 || ends.n > 0 || paging != PAGE_NONE) && take_ids(looking))
	{
		for (i = 0; i < looking->n; i++)
			idlist_add(&looked_at, looking->ids[i]);
		if (looking->n == 0)
			continue;
		if (!queue_guard(look_at_jobs, looking, &error))
		{
			look_singly(looking, error);
			continue;
		}
		tell_ended(looking);
		chunk = Min(chunk * 2, CHUNK);
		found |= looking->round.found;
		is_used |= looking->round.found;
		for (i = 0; i < looking->n && looking->round.has_more; i++)
		{
			if (looking->round.n_done > 0)
				idlist_add(looking->list, looking->ids[i]);
			else
				look_later(looking->ids[i], clock_mono() + LATER_US);
		}
	}
	if (!found)
		look_at_use();
	pfree(looking);
}

/*
 * Returns when there is something to look at; 0: never.
 */
MonoTime
dependency_next(void)
{
	if (all_at != 0)
		return all_at;
	if (changes.n > 0 || ends.n > 0 || paging != PAGE_NONE)
		return 1;
	return later.n > 0 ? later_at : 0;
}

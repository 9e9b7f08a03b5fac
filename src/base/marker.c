/*
 * marker.c
 *		Notes which jobs' bytes a process handles, for the next dispatcher
 *		after a crash.
 *
 * PostgreSQL restarts when one of its processes crashes, and the dispatcher
 * takes up the same jobs again.  An answer or a request that crashes it must
 * not do so for ever.  So the dispatcher notes which job it handles in a file
 * that is mapped into its memory: a store, no system call.  The kernel keeps
 * the file, whatever becomes of the process.  If the next dispatcher finds a
 * note, the last one came to its end in the middle of such work: it counts a
 * crash for each job of the note.
 *
 * Jobs that were written together share a note, and nobody knows which of them
 * crashed.  So a suspect is handled alone from then on.
 *
 * An orderly end, an immediate stop, and the crash of another process leave no
 * note: SIGQUIT erases it.
 *
 * A base backup copies the file, but not its inode: marker_init() empties a
 * copy.
 *
 * The file also has the calls that are under way, by job and step.  What
 * arrives in a call may crash the process before any job is marked, or take
 * all memory; then nobody knows which of the calls did it.  So the next
 * dispatcher counts a cut for each, and life/cuts.c says what follows.
 *
 * A dispatcher's writers handle bytes for it.  Each has its own part of the
 * file.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "storage/procarray.h"

#include "base/datafile.h"
#include "base/marker.h"

#define MARKER_MAGIC UINT64CONST(0x67656e6a6f624d4b) /* "genjobMK" */
#define MARKER_VERSION 3
#define MAX_SUSPECTS 1024 /* the newest */

/* What one process handles now. */
typedef struct Present
{
	int32 pid;
	int32 n;
	Suspect jobs[MARKER_MAX];
} Present;

/* Calls of a job for one step.  Unused if both counts are 0. */
typedef struct NotedCall
{
	int64 job;
	int32 attempt;
	int16 step;
	int16 n;    /* under way */
	int32 cuts; /* crashes of dispatchers in a row while there was one */
	int32 unused;
} NotedCall;

typedef struct MarkerFile
{
	uint64 magic;
	uint32 version;
	uint32 database;
	uint64 system_identifier;
	uint64 inode;

	Present present[1 + MARKER_WRITERS]; /* the dispatcher's is the first */

	/*
	 * Jobs that a process handled at its end, and that were not handled well
	 * since
	 */
	int32 n_suspects;
	Suspect suspects[MAX_SUSPECTS];

	bool cuts_calls; /* the dispatcher's end is a crash until it says otherwise */
	NotedCall calls[MARKER_CALLS];
} MarkerFile;

static MarkerFile *marker = NULL; /* NULL: the file could not be made or mapped */
static Present *mine = NULL;      /* this process's part */
static int n_noted = 0;           /* no element of calls is used from here on */
static int n_cut = 0;             /* elements of calls with cuts: hardly ever any */
static int first_unused = 0;      /* all elements of calls before it are used */

/* ---------- what is handled ---------- */

/*
 * Notes that this process handles the bytes of this job, and of no other,
 * until marker_end().
 */
void
marker_begin(int64 job, int attempt)
{
	marker_end();
	marker_begin_add(job, attempt);
}

/*
 * Notes that this process handles the bytes of one more job.
 */
void
marker_begin_add(int64 job, int attempt)
{
	if (mine == NULL || mine->n == MARKER_MAX)
		return;
	mine->jobs[mine->n] = (Suspect){job, attempt, 0};
	pg_compiler_barrier();
	mine->n++;
	pg_compiler_barrier();
}

/*
 * Notes that this process handles no job.  A signal handler calls it, too.
 */
void
marker_end(void)
{
	if (mine != NULL)
		mine->n = 0;
	pg_compiler_barrier();
}

/* ---------- who is suspected ---------- */

static Suspect *
find_suspect(int64 job)
{
	int i;

	for (i = 0; marker != NULL && i < marker->n_suspects; i++)
	{
		if (marker->suspects[i].job == job)
			return &marker->suspects[i];
	}
	return NULL;
}

/*
 * True if a job must be handled alone.
 */
bool
marker_is_suspect(int64 job)
{
	return find_suspect(job) != NULL;
}

/*
 * True if a job must not be handled at all.
 */
bool
marker_is_condemned(int64 job)
{
	const Suspect *suspect = find_suspect(job);

	return suspect != NULL && suspect->crashes >= MARKER_CRASHES;
}

/*
 * Returns the next job that must not be handled at all, in *suspect; false if
 * there is none.  *i is 0 at first.
 */
bool
marker_next_condemned(int *i, Suspect *suspect)
{
	while (marker != NULL && *i < marker->n_suspects)
	{
		*suspect = marker->suspects[(*i)++];
		if (suspect->crashes >= MARKER_CRASHES)
			return true;
	}
	return false;
}

/*
 * Forgets a suspect: it was handled well, or put aside.
 */
void
marker_acquit(int64 job)
{
	Suspect *suspect = find_suspect(job);

	if (suspect == NULL)
		return;
	memmove(suspect, suspect + 1,
			(char *) &marker->suspects[marker->n_suspects] - (char *) (suspect + 1));
	marker->n_suspects--;
}

static void
count_crash(const Suspect *present)
{
	Suspect *suspect = find_suspect(present->job);

	if (suspect == NULL)
	{
		if (marker->n_suspects == MAX_SUSPECTS)
			marker_acquit(marker->suspects[0].job);
		suspect = &marker->suspects[marker->n_suspects++];
		*suspect = *present;
		suspect->crashes = 0;
	}
	suspect->attempt = present->attempt;
	suspect->crashes++;
}

/* ---------- calls ---------- */

static bool
is_used(const NotedCall *call)
{
	return call->n > 0 || call->cuts > 0;
}

/*
 * Returns the element of a job's calls for a step; NULL: there is none with a
 * cut.  Elements without one need not be found.
 */
static NotedCall *
find_cut(int64 job, int attempt, int step)
{
	int i;

	for (i = 0; n_cut > 0 && i < n_noted; i++)
	{
		NotedCall *call = &marker->calls[i];

		if (call->cuts > 0 && call->job == job && call->attempt == attempt && call->step == step)
			return call;
	}
	return NULL;
}

static void
forget_cut(NotedCall *call)
{
	if (call->cuts > 0)
		n_cut--;
	call->cuts = 0;
}

/*
 * Returns an element for another call; NULL: all have calls that are under way.
 */
static NotedCall *
find_unused(void)
{
	int i;

	for (; first_unused < n_noted; first_unused++)
	{
		if (!is_used(&marker->calls[first_unused]))
			return &marker->calls[first_unused];
	}
	if (n_noted < MARKER_CALLS)
		return &marker->calls[n_noted++];
	/* its job may be gone: nobody says so */
	for (i = 0; n_cut > 0 && i < MARKER_CALLS; i++)
	{
		if (marker->calls[i].n == 0)
		{
			forget_cut(&marker->calls[i]);
			return &marker->calls[i];
		}
	}
	return NULL;
}

/*
 * Notes that a call begins.  Returns what marker_end_call() gets; 0: it is not
 * noted.
 */
int
marker_begin_call(int64 job, int attempt, int step)
{
	NotedCall *call;

	if (marker == NULL)
		return 0;
	call = find_cut(job, attempt, step);
	if (call == NULL)
	{
		call = find_unused();
		if (call == NULL)
			return 0;
		*call = (NotedCall){.job = job, .attempt = attempt, .step = step};
	}
	call->n++;
	return call - marker->calls + 1;
}

/*
 * Notes that a call has ended.  noted may be 0.
 */
void
marker_end_call(int noted)
{
	if (noted == 0)
		return;
	Assert(marker->calls[noted - 1].n > 0);
	marker->calls[noted - 1].n--;
	first_unused = Min(first_unused, noted - 1);
	while (n_noted > 0 && !is_used(&marker->calls[n_noted - 1]))
		n_noted--;
}

/*
 * Returns how often in a row a dispatcher has crashed while a call of this job
 * and step was under way.
 */
int
marker_count_cuts(int64 job, int attempt, int step)
{
	const NotedCall *call = marker != NULL ? find_cut(job, attempt, step) : NULL;

	return call != NULL ? call->cuts : 0;
}

/*
 * Ends the row of crashes of a job at a step; step -1: at all steps.
 */
void
marker_forget_cuts(int64 job, int attempt, int step)
{
	int i;

	for (i = 0; n_cut > 0 && i < n_noted; i++)
	{
		NotedCall *call = &marker->calls[i];

		if (call->job == job && call->attempt == attempt && (step < 0 || call->step == step))
		{
			forget_cut(call);
			first_unused = Min(first_unused, i);
		}
	}
}

/*
 * Counts a cut for the calls that were under way when the last dispatcher
 * ended, if it crashed.
 */
static void
count_cuts(void)
{
	int i;

	n_noted = n_cut = first_unused = 0;
	for (i = 0; i < MARKER_CALLS; i++)
	{
		NotedCall *call = &marker->calls[i];

		if (call->n > 0 && marker->cuts_calls)
			call->cuts++;
		call->n = 0;
		if (call->cuts > 0)
		{
			n_cut++;
			n_noted = i + 1;
		}
	}
	marker->cuts_calls = true;
}

/* ---------- the file ---------- */

static bool
belongs_here(const struct stat *status)
{
	return marker->magic == MARKER_MAGIC && marker->version == MARKER_VERSION &&
		   marker->database == MyDatabaseId && marker->system_identifier == GetSystemIdentifier() &&
		   marker->inode == (uint64) status->st_ino && marker->n_suspects >= 0 &&
		   marker->n_suspects <= MAX_SUSPECTS;
}

static void
clear_file(const struct stat *status)
{
	memset(marker, 0, sizeof(*marker));
	marker->magic = MARKER_MAGIC;
	marker->version = MARKER_VERSION;
	marker->database = MyDatabaseId;
	marker->system_identifier = GetSystemIdentifier();
	marker->inode = (uint64) status->st_ino;
}

/*
 * Maps the file.  All its blocks must be on the disk first: when the disk is
 * full, a store into a missing block would end the process.
 */
static bool
map_file(const char *path, struct stat *status)
{
	int fd = BasicOpenFilePerm(path, O_RDWR | O_CREAT | PG_BINARY, S_IRUSR | S_IWUSR);
	void *mapped = MAP_FAILED;

	if (fd < 0)
		return false;
	errno = posix_fallocate(fd, 0, sizeof(MarkerFile));
	if (errno == 0 && fstat(fd, status) == 0)
		mapped = mmap(NULL, sizeof(MarkerFile), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		return false;
	marker = mapped;
	return true;
}

/*
 * Erases the note of a process that ends in order, or in the middle of its
 * work because it was told to.
 */
static void
exit_callback(int code, Datum arg)
{
	if (code == 0 || ShutdownRequestPending || ProcDiePending || !PostmasterIsAlive())
	{
		marker_end();
		marker->cuts_calls = false;
	}
}

/*
 * Handles SIGQUIT: another process has crashed, or the server stops at once.
 */
static void
handle_sigquit(SIGNAL_ARGS)
{
	marker_end();
	if (mine == &marker->present[0])
		marker->cuts_calls = false;
	SignalHandlerForCrashExit(postgres_signal_arg);
}

static bool
open_file(struct stat *status)
{
	char path[MAXPGPATH];

	datafile_path(path, MyDatabaseId, ".marker");
	if (datafile_make_folder() && map_file(path, status))
		return true;
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("genjob could not open or extend the file \"%s\": %m", path),
			 errdetail("Without it, genjob cannot tell which job's answer crashes PostgreSQL.")));
	return false;
}

static bool
is_alive(const Present *present)
{
	return present->pid != 0 && BackendPidGetProc(present->pid) != NULL;
}

/*
 * Counts a crash for what a process was handling when it ended.
 */
static void
count_present(Present *present)
{
	int i;

	for (i = 0; i < Min(present->n, MARKER_MAX); i++)
		count_crash(&present->jobs[i]);
	present->n = 0;
}

static void
begin_noting(Present *present)
{
	mine = present;
	mine->n = 0;
	mine->pid = MyProcPid;
	pqsignal(SIGQUIT, handle_sigquit);
}

/*
 * Takes over the notes of this database's last dispatcher, and begins to note.
 * Writers of the last dispatcher may still run.
 */
void
marker_init(void)
{
	struct stat status;
	int i;

	if (!open_file(&status))
		return;
	if (!belongs_here(&status))
		clear_file(&status);
	for (i = 0; i <= MARKER_WRITERS; i++)
	{
		if (i == 0 || !is_alive(&marker->present[i]))
			count_present(&marker->present[i]);
	}
	count_cuts();
	begin_noting(&marker->present[0]);
	before_shmem_exit(exit_callback, (Datum) 0);
}

/*
 * True if no process uses this writer's part.
 */
bool
marker_is_free(int writer)
{
	return marker == NULL || !is_alive(&marker->present[1 + writer]);
}

static void
join_exit_callback(int code, Datum arg)
{
	marker_end();
}

/*
 * Makes this process, a writer, note what it handles.  If it ends by an error
 * it leaves no note, because its dispatcher handles the jobs then.
 */
void
marker_join(int writer)
{
	struct stat status;

	if (!open_file(&status) || !belongs_here(&status))
		return;
	begin_noting(&marker->present[1 + writer]);
	before_shmem_exit(join_exit_callback, (Datum) 0);
}

/*
 * marker.c
 *		Which jobs' bytes are being handled, for whoever comes after a crash.
 *
 * PostgreSQL restarts when one of its processes crashes, and the dispatcher takes up the same jobs again.  So that no
 * answer and no request keeps it in a circle, the dispatcher notes which job it handles in a file that it has mapped
 * into its memory: a store, no system call.  The kernel keeps that, whatever becomes of the process.  The next
 * dispatcher finds the note if the last one came to its end in the middle of such work, and counts it against the job.
 *
 * A job of whose kind nobody knows which one it was (they were written together) is handled alone from then on.
 *
 * An orderly end, an immediate stop, and the crash of another process leave no note: SIGQUIT takes it away.
 *
 * A base backup copies the file, but not its inode: a copy is emptied.
 *
 * A dispatcher's writers handle bytes for it.  Each has a part of the file of its own.
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
#include "storage/procarray.h"

#include "base/datafile.h"
#include "base/marker.h"

#define MARKER_MAGIC UINT64CONST(0x67656e6a6f624d4b) /* "genjobMK" */
#define MARKER_VERSION 2
#define MAX_SUSPECTS 1024 /* the last ones */

/* What a process handles now. */
typedef struct Present
{
	int32 pid;
	int32 n;
	Suspect jobs[MARKER_MAX];
} Present;

typedef struct MarkerFile
{
	uint64 magic;
	uint32 version;
	uint32 database;
	uint64 system_identifier;
	uint64 inode;

	Present present[1 + MARKER_WRITERS]; /* the dispatcher's is the first */

	/* What was handled when a dispatcher came to its end, and has not been handled well since */
	int32 n_suspects;
	Suspect suspects[MAX_SUSPECTS];
} MarkerFile;

static MarkerFile *marker = NULL; /* NULL: there is no room on the disk for it */
static Present *mine = NULL;      /* this process's, in it */

/* ---------- what is handled ---------- */

/*
 * The bytes of this job are handled from now on, until marker_end().
 */
void
marker_begin(int64 job, int attempt)
{
	marker_end();
	marker_begin_add(job, attempt);
}

/*
 * The bytes of one more job are.
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
 * None are any more.  Called from a signal handler too.
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
 * Whether a job is to be handled alone.
 */
bool
marker_is_suspect(int64 job)
{
	return find_suspect(job) != NULL;
}

/*
 * Whether a job is not to be handled at all.
 */
bool
marker_is_condemned(int64 job)
{
	const Suspect *suspect = find_suspect(job);

	return suspect != NULL && suspect->crashes >= MARKER_CRASHES;
}

/*
 * Hands out the jobs that are not to be handled at all, one a call; *i is 0 at first.
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
 * A job has been handled well, or put aside.
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
 * Maps the file, all of whose blocks are on the disk: a store into one that is not would end the process where the disk
 * is full.
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
 * Whoever ends in order, and even in the middle of something because it was told to, leaves no note.
 */
static void
exit_callback(int code, Datum arg)
{
	if (code == 0 || ShutdownRequestPending || ProcDiePending)
		marker_end();
}

/*
 * Another process has crashed, or the server stops at once.
 */
static void
quit(SIGNAL_ARGS)
{
	marker_end();
	SignalHandlerForCrashExit(postgres_signal_arg);
}

static bool
open_file(struct stat *status)
{
	char path[MAXPGPATH];

	datafile_path(path, MyDatabaseId, ".marker");
	if (datafile_make_folder() && map_file(path, status))
		return true;
	ereport(LOG, (errcode_for_file_access(),
				  errmsg("genjob could not open or extend the file \"%s\": %m", path),
				  errdetail("genjob cannot tell now whose answer crashes PostgreSQL.")));
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
	pqsignal(SIGQUIT, quit);
}

/*
 * Takes over what the last dispatcher of this database has left, and begins to note.  Writers of that one may be about
 * to leave.
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
	begin_noting(&marker->present[0]);
	before_shmem_exit(exit_callback, (Datum) 0);
}

/*
 * Whether no process has this writer's part.
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
 * Has this process note what it handles for its dispatcher, which handles it itself if this process ends by an error.
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

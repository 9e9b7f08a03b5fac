/*
 * spool.c
 *		Results that outlive the dispatcher which could not write them.
 *
 * A dispatcher that must end while the tables refuse its results (rows are
 * locked, a standby is away) leaves the verdicts of its jobs, and the names of
 * predictions, in a file: pg_genjob/DATABASE.spool in the data directory.  The
 * next dispatcher of the database makes Jobs from the file before it reads
 * orphans, and writes them like all others: each only over its own attempt.
 * The file is removed when the last of these jobs is done.
 *
 * The file is not in the WAL, but a base backup copies it.  So a record counts
 * only if its row is still running in that attempt under that Idempotency-Key.
 *
 * The file: a SpoolHeader, then for each job a RecordHeader and its fields,
 * integers in the byte order of this machine, texts with their length before
 * them.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "base/clock.h"
#include "base/datafile.h"
#include "base/guard.h"
#include "life/job.h"
#include "queue/queue.h"
#include "process/spool.h"
#include "process/spoolfields.h"
#include "life/life.h"

#define SPOOL_MAGIC UINT64CONST(0x67656e6a6f625350) /* "genjobSP" */
#define SPOOL_VERSION 6 /* change it with the fields or with VerdictKind */
#define RECORD_MAGIC 0x67726563
#define READ_US (5 * INT64CONST(1000)) /* of a turn of the loop, plus one record */

typedef struct SpoolHeader
{
	uint64 magic;
	uint32 version;
	uint32 database;
	uint64 system_identifier;
} SpoolHeader;

typedef struct RecordHeader
{
	uint32 magic;
	pg_crc32c crc; /* of the fields */
	uint64 len;    /* of the fields */
} RecordHeader;

static int n_pending = 0; /* jobs of the file that are not done */
static bool is_written = false;
static uint64 next_record = 0;  /* its offset in the file; 0: nothing is read yet */
static bool is_reading = false; /* some records are read, and some are not */

/* ---------- writing ---------- */

static void
write_job(SpoolStream *file, Job *job)
{
	SpooledJob spooled = {.id = job->id,
						  .is_save = job->state == JOB_SAVING,
						  .ran_on = NameStr(job->queue->name),
						  .backend = job->options ? job->options->url : NULL};
	SpoolStream counter = {.use = STREAM_COUNTS};
	RecordHeader header = {.magic = RECORD_MAGIC};

	INIT_CRC32C(counter.crc);
	spool_pass_job(&counter, job, &spooled);
	FIN_CRC32C(counter.crc);
	header.crc = counter.crc;
	header.len = counter.len;
	spool_pass(file, &header, sizeof(header));
	spool_pass_job(file, job, &spooled);
}

/*
 * True if the job's verdict would be lost.  False if its row already says what
 * a cancel needs, or if nothing was sent.
 */
static bool
is_to_be_kept(const Job *job)
{
	bool is_told = job->step == STEP_CANCEL &&
				   (job->cancel.saves_end || job->cancel.is_marked || job->cancel.row_is_gone);

	bool is_unsent = job->state == JOB_SAVING && job->step == STEP_FETCH;

	return job->verdict != NULL && job->queue != NULL && !is_told && !is_unsent;
}

static const JobState kept_states[] = {JOB_SAVING, JOB_REPORTING};

static int
count_to_be_kept(void)
{
	int n = 0;
	int i;
	dlist_iter iter;

	for (i = 0; i < lengthof(kept_states); i++)
	{
		dlist_foreach(iter, job_list(kept_states[i]))
			n += is_to_be_kept(dlist_container(Job, node, iter.cur));
	}
	return n;
}

/*
 * Copies the records of the file that this process has not read yet.
 */
static void
copy_unread(SpoolStream *file)
{
	char bytes[8192];
	char path[MAXPGPATH];
	ssize_t n;
	int fd;

	if (!is_reading)
		return;
	datafile_path(path, MyDatabaseId, ".spool");
	fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 || lseek(fd, (off_t) next_record, SEEK_SET) < 0)
		file->failed = true;
	while (!file->failed && (n = read(fd, bytes, sizeof(bytes))) != 0)
	{
		if (n > 0)
			spool_pass(file, bytes, n);
		else if (errno != EINTR)
			file->failed = true;
	}
	if (fd >= 0)
		close(fd);
}

static void
write_jobs(SpoolStream *file)
{
	SpoolHeader header = {SPOOL_MAGIC, SPOOL_VERSION, MyDatabaseId, GetSystemIdentifier()};
	dlist_iter iter;
	int i;

	spool_pass(file, &header, sizeof(header));
	for (i = 0; i < lengthof(kept_states); i++)
	{
		dlist_foreach(iter, job_list(kept_states[i]))
		{
			Job *job = dlist_container(Job, node, iter.cur);

			if (is_to_be_kept(job))
				write_job(file, job);
		}
	}
	copy_unread(file);
	spool_flush(file);
}

/*
 * Writes the file completely or not at all.  False, and errno, if it cannot.
 */
static bool
write_file(void)
{
	static char buffer[SPOOL_BUFFER_BYTES];
	char path[MAXPGPATH];
	char new_path[MAXPGPATH];
	SpoolStream file = {.use = STREAM_WRITES, .buffer = buffer};
	bool is_whole;

	datafile_path(path, MyDatabaseId, ".spool");
	datafile_path(new_path, MyDatabaseId, ".spool.new");
	if (!datafile_make_folder())
		return false;
	(void) unlink(new_path);
	file.fd =
		BasicOpenFilePerm(new_path, O_WRONLY | O_CREAT | O_EXCL | PG_BINARY, S_IRUSR | S_IWUSR);
	if (file.fd < 0)
		return false;
	write_jobs(&file);
	is_whole = !file.failed && pg_fsync(file.fd) == 0;
	if (close(file.fd) != 0 || !is_whole || durable_rename(new_path, path, LOG) != 0)
	{
		int saved = errno;

		(void) unlink(new_path);
		errno = saved;
		return false;
	}
	return true;
}

#define IDS_BYTES 4000

/*
 * Logs which answers are lost.
 */
static void
say_dropped(int n, const char *why)
{
	static char ids[IDS_BYTES];
	size_t len = 0;
	dlist_iter iter;
	int i;

	for (i = 0; i < lengthof(kept_states); i++)
	{
		dlist_foreach(iter, job_list(kept_states[i]))
		{
			const Job *job = dlist_container(Job, node, iter.cur);

			if (!is_to_be_kept(job))
				continue;
			len += snprintf(ids + len, sizeof(ids) - len, "%s" INT64_FORMAT, len > 0 ? ", " : "",
							job->id);
			if (len < sizeof(ids) - 32)
				continue;
			ereport(LOG, (errmsg("genjob drops the answers of the jobs %s", ids)));
			len = 0;
		}
	}
	ereport(LOG,
			(errmsg("genjob drops the answers of the jobs %s", len > 0 ? ids : "above"),
			 errdetail("These %d answers could not be written into the tables before the dispatcher had to end, nor into a file in the folder %s: %s.",
					   n, DATAFILE_FOLDER, why),
			 errhint(
				 "The calls are repeated with the same Idempotency-Key. Make room on the disk of the data directory.")));
}

/*
 * Leaves what this dispatcher could not write into the tables in the spool,
 * for the next one.
 */
void
spool_write(void)
{
	int n = count_to_be_kept();

	if (is_written || n == 0)
		return;
	is_written = true;
	if (write_file())
		ereport(LOG,
				(errmsg("genjob left the answers of %d jobs to the next dispatcher", n),
				 errdetail("They could not be written into the tables before the dispatcher had to end, and are in the folder %s of the data directory.",
						   DATAFILE_FOLDER)));
	else
		say_dropped(n, strerror(errno));
}

/*
 * Makes spool_write() write nothing, because there will be no next dispatcher.
 */
void
spool_discard(void)
{
	is_written = true;
}

/*
 * Runs when the process ends, perhaps in the middle of something.
 */
static void
exit_callback(int code, Datum arg)
{
	spool_write();
}

/*
 * Makes this process write the spool however it ends (except by a crash).
 */
void
spool_init(void)
{
	before_shmem_exit(exit_callback, (Datum) 0);
}

/* ---------- reading ---------- */

/* A file that is read. */
typedef struct Reading
{
	int fd;
	uint64 left;
	uint64 end; /* where the file ends */
	char path[MAXPGPATH];
	const char *fault; /* why the rest cannot be read */
} Reading;

static bool
read_exactly(Reading *reading, void *to, uint64 len)
{
	uint64 done = 0;

	if (len > reading->left)
		return false;
	while (done < len)
	{
		ssize_t n = read(reading->fd, (char *) to + done, Min(len - done, 1024 * 1024 * 1024));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += n;
	}
	reading->left -= len;
	return true;
}

static void
done_callback(void *arg)
{
	char path[MAXPGPATH];

	if (--n_pending > 0)
		return;
	datafile_path(path, MyDatabaseId, ".spool");
	(void) unlink(path);
}

/*
 * Removes the file when its last job is done.
 */
static void
expect_settling(Job *job)
{
	MemoryContextCallback *callback =
		MemoryContextAllocZero(job->context, sizeof(MemoryContextCallback));

	callback->func = done_callback;
	MemoryContextRegisterResetCallback(job->context, callback);
	n_pending++;
}

/* A record, from which take_record() makes a Job. */
typedef struct Record
{
	char *data;
	uint64 len;
	bool is_whole;
} Record;

static bool
fill_job(Job *job, SpooledJob *spooled, const Record *record)
{
	SpoolStream stream = {.use = STREAM_READS, .data = record->data, .left = record->len};

	job->verdict = palloc0(sizeof(Verdict));
	spool_pass_job(&stream, job, spooled);
	job->verdict->progress = -1;
	return !stream.failed && stream.left == 0 && job->idempotency_key != NULL &&
		   job->server_name != NULL && job->tenant != NULL && spooled->ran_on != NULL &&
		   (spooled->is_save ||
			(job->report.new_state > ROW_WAITING && job->report.new_state < ROW_STATES));
}

/*
 * Continues with a job as the earlier dispatcher would have.  If its row has
 * ended or was retried meanwhile, tells the provider to cancel.
 */
static void
continue_job(Job *job, const SpooledJob *spooled, SpooledRow row, uint64 len)
{
	memory_hold(&job->saved_share, job->context, MEMORY_ANSWERS, NULL, len);
	expect_settling(job);
	job->write.is_spooled = true;
	job_enter(job, spooled->is_save ? JOB_SAVING : JOB_REPORTING, job->step);
	job->cancel.row_is_gone = row == SPOOLED_RETRIED;
	if (row != SPOOLED_RUNNING)
		life_cancel(job);
}

/*
 * Makes a Job from a record, unless its row belongs to another attempt.  The
 * Job is written next.
 */
static void
take_record(void *arg)
{
	Record *record = arg;
	SpooledJob spooled = {0};
	MemoryContext caller = CurrentMemoryContext;
	Job *job;

	memcpy(&spooled.id, record->data, sizeof(spooled.id));
	if (job_find(spooled.id) != NULL)
		return;
	job = job_create(spooled.id);
	PG_TRY();
	{
		SpooledRow row = SPOOLED_GONE;

		MemoryContextSwitchTo(job->context);
		record->is_whole = fill_job(job, &spooled, record);
		MemoryContextSwitchTo(caller);
		if (record->is_whole)
			row = queue_take_spooled(job, &spooled);
		if (row != SPOOLED_GONE)
			continue_job(job, &spooled, row, record->len);
		else
			job_destroy(job);
	}
	PG_CATCH();
	{
		job_destroy(job);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/*
 * Reads the next record and makes a Job from it.  False if there is none, or
 * it cannot be read.
 */
static bool
read_record(Reading *reading)
{
	RecordHeader header;
	Record record;
	pg_crc32c crc;
	ErrorData *error;

	if (reading->left == 0)
		return false;
	reading->fault = "It ends in the middle of a job";
	if (!read_exactly(reading, &header, sizeof(header)) || header.magic != RECORD_MAGIC ||
		header.len > reading->left || header.len < sizeof(int64))
		return false;
	record = (Record){.data = MemoryContextAllocExtended(CurrentMemoryContext, header.len,
														 MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM),
					  .len = header.len,
					  .is_whole = true};
	reading->fault = "There is no memory for all of it";
	if (record.data == NULL)
		return false;
	reading->fault = "It ends in the middle of a job";
	if (!read_exactly(reading, record.data, header.len))
		return false;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, record.data, header.len);
	FIN_CRC32C(crc);
	reading->fault = "A checksum is wrong";
	if (!EQ_CRC32C(crc, header.crc))
		return false;
	if (!queue_guard(take_record, &record, &error))
	{
		reading->fault = error->message;
		return false;
	}
	pfree(record.data);
	reading->fault = record.is_whole ? NULL : "A job in it is not complete";
	return record.is_whole;
}

static bool
read_header(Reading *reading)
{
	SpoolHeader header;

	reading->fault = "It is not a genjob spool file of this version";
	if (!read_exactly(reading, &header, sizeof(header)) || header.magic != SPOOL_MAGIC ||
		header.version != SPOOL_VERSION)
		return false;
	reading->fault = "It belongs to another database or cluster";
	if (header.database != MyDatabaseId || header.system_identifier != GetSystemIdentifier())
		return false;
	reading->fault = NULL;
	return true;
}

/*
 * Renames a file that cannot be read to its end.  What could be read is in memory.
 */
static void
set_spool_aside(const Reading *reading)
{
	char aside[MAXPGPATH];

	datafile_path(aside, MyDatabaseId, ".spool.bad");
	(void) durable_rename(reading->path, aside, LOG);
	ereport(WARNING,
			(errmsg("genjob could not read all answers in file \"%s\"", reading->path),
			 errdetail("%s.", reading->fault),
			 errhint("It is renamed to \"%s\". Jobs whose answers could not be read are repeated with the same Idempotency-Key.",
					 aside)));
}

/*
 * Opens the file where the next record begins; false if there is none.
 */
static bool
open_file(Reading *reading)
{
	struct stat status;

	datafile_path(reading->path, MyDatabaseId, ".spool");
	reading->fd = OpenTransientFile(reading->path, O_RDONLY | PG_BINARY);
	if (reading->fd < 0)
	{
		if (errno != ENOENT)
			ereport(WARNING, (errcode_for_file_access(),
							  errmsg("could not open file \"%s\": %m", reading->path)));
		return false;
	}
	if (fstat(reading->fd, &status) == 0)
		reading->left = Max((uint64) status.st_size, next_record) - next_record;
	reading->end = next_record + reading->left;
	if (lseek(reading->fd, (off_t) next_record, SEEK_SET) < 0)
		reading->left = 0;
	return true;
}

/*
 * Makes Jobs from what an earlier dispatcher of this database could not write,
 * for READ_US.  False: there is more.  Call it in a transaction that knows the
 * tables, before orphans are read.
 */
bool
spool_load(void)
{
	Reading reading = {0};
	MonoTime enough = clock_uptime() + READ_US;
	bool has_more;

	if (next_record == 0)
		n_pending++; /* until all is read */
	has_more = open_file(&reading) && (next_record > 0 || read_header(&reading));
	while (has_more && read_record(&reading))
	{
		CHECK_FOR_INTERRUPTS();
		next_record = reading.end - reading.left;
		if (reading.left > 0 && clock_uptime() >= enough)
		{
			CloseTransientFile(reading.fd);
			is_reading = true;
			return false;
		}
	}
	is_reading = false;
	n_pending--;
	if (reading.fd < 0)
		return true;
	CloseTransientFile(reading.fd);
	if (reading.fault != NULL)
		set_spool_aside(&reading);
	else if (n_pending == 0)
		(void) unlink(reading.path);
	return true;
}

/*
 * spill.c
 *		Answers in files: those that stand still while others wait for memory.
 *
 * What has come of them has been paid for.  So it goes into a file, what comes after it follows, and it is read back
 * when all is there and there is memory for it.  The file has no name, so nothing is left of it by any crash; a server
 * that falls silent again and again fills files up to a bound and no further.
 *
 * Nothing here raises an error: libcurl's callbacks append.  PostgreSQL's own temporary files do.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "http/transfer.h"
#include "base/memory.h"

#define MAX_FILES 64
#define MAX_TIMES_MEMORY 4 /* what the files take together, as a multiple of genjob.max_memory */

static int n_files = 0;
static uint64 spilled = 0; /* bytes in all of them */

static int
create_file(void)
{
	static uint32 number = 0;
	char path[MAXPGPATH];
	int fd;

	snprintf(path, sizeof(path), "base/%s/%s%d.genjob%u", PG_TEMP_FILES_DIR, PG_TEMP_FILE_PREFIX,
			 MyProcPid, ++number);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, pg_file_create_mode);
	if (fd < 0 && errno == ENOENT && mkdir("base/" PG_TEMP_FILES_DIR, pg_dir_create_mode) == 0)
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, pg_file_create_mode);
	if (fd >= 0)
		(void) unlink(path);
	return fd;
}

static bool
write_all(int fd, const char *data, size_t len, size_t offset)
{
	while (len > 0)
	{
		ssize_t written = pwrite(fd, data, len, (off_t) offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		data += written;
		offset += written;
		len -= written;
	}
	return true;
}

static bool
read_all(int fd, char *data, size_t len)
{
	size_t done = 0;

	while (done < len)
	{
		ssize_t got = pread(fd, data + done, len - done, (off_t) done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		done += got;
	}
	return true;
}

/*
 * Whether the files may take so many bytes more.
 */
bool
spill_has_room(size_t bytes)
{
	return spilled + bytes <= MAX_TIMES_MEMORY * (uint64) memory_bound();
}

/*
 * Moves what a transfer has received out of memory.  False, with nothing changed, where that cannot be.
 */
bool
spill_begin(HttpTransfer *transfer)
{
	Bytes *body = transfer->reply->body;
	int fd;

	if (n_files >= MAX_FILES || !spill_has_room(body->len))
		return false;
	fd = create_file();
	if (fd < 0)
		return false;
	if (!write_all(fd, body->data, body->len, 0))
	{
		close(fd);
		return false;
	}
	n_files++;
	transfer->is_spilled = true;
	transfer->spill_fd = fd;
	transfer->spilled = body->len;
	spilled += body->len;
	bytes_clear(body);
	return true;
}

/*
 * Appends to what is in the file.  False where that cannot be now.
 */
bool
spill_append(HttpTransfer *transfer, const char *data, size_t len)
{
	if (!spill_has_room(len) || !write_all(transfer->spill_fd, data, len, transfer->spilled))
		return false;
	transfer->spilled += len;
	spilled += len;
	return true;
}

/*
 * Lets go of a transfer's file, if it has one.
 */
void
spill_end(HttpTransfer *transfer)
{
	if (!transfer->is_spilled)
		return;
	close(transfer->spill_fd);
	spilled -= transfer->spilled;
	n_files--;
	transfer->is_spilled = false;
	transfer->spilled = 0;
}

/*
 * Reads the file back into memory, and lets go of it.  False where memory is short or the file cannot be read.
 */
bool
spill_take_back(HttpTransfer *transfer)
{
	Bytes *body = transfer->reply->body;
	size_t len = transfer->spilled;
	bool is_read = bytes_reserve(body, len + 1) && read_all(transfer->spill_fd, body->data, len);

	body->len = is_read ? len : 0;
	spill_end(transfer);
	return is_read;
}

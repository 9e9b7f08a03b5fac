/*
 * spill.c
 *		Answers in files while memory is full: those that stand still, and the
 *		one that goes on (memory_favour()).
 *
 * What has come of them has been paid for.  So it goes into a file, and what
 * comes later follows.  It is read back when all is there and there is memory
 * for it.  The file has no name, so no crash leaves anything of it.  A server
 * that falls silent again and again fills files up to a limit and no further.
 *
 * An answer of hundreds of megabytes is moved there and back one piece
 * (PIECE_BYTES) at each turn of the loop.  While it is moved, its first
 * body->len bytes are still in memory; what comes meanwhile is behind them in
 * the file already.
 *
 * Nothing here raises an error, because libcurl's callbacks append.
 * PostgreSQL's own temporary files would.
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
#define MAX_TIMES_MEMORY 4 /* limit of all files together, as a multiple of genjob.max_memory */

#define PIECE_BYTES ((size_t) 4 * 1024 * 1024) /* written or read at a time: some ms */

static int n_files = 0;
static uint64 spilled = 0; /* bytes in all of them */
static dlist_head moving = DLIST_STATIC_INIT(moving);

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
write_at_offset(int fd, const char *data, size_t len, size_t offset)
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
read_at_offset(int fd, char *data, size_t len, size_t offset)
{
	while (len > 0)
	{
		ssize_t got = pread(fd, data, len, (off_t) offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return false;
		data += got;
		offset += got;
		len -= got;
	}
	return true;
}

/*
 * True if the files may take bytes more.
 */
bool
spill_has_room(size_t bytes)
{
	return spilled + bytes <= MAX_TIMES_MEMORY * (uint64) memory_limit();
}

/*
 * Returns how many bytes of its answer a transfer has, in memory and in its file.
 */
size_t
spill_received(const HttpTransfer *transfer)
{
	if (transfer->is_pouring)
		return transfer->request->pour->received;
	return transfer->is_spilled ? transfer->spilled : transfer->reply->body->len;
}

static void
stop_moving(HttpTransfer *transfer)
{
	if (transfer->is_moving)
		dlist_delete(&transfer->moving_node);
	transfer->is_moving = false;
}

/*
 * Writes the next piece of what is in memory.  False if it cannot.
 */
static bool
move_piece(HttpTransfer *transfer)
{
	Bytes *body = transfer->reply->body;
	size_t len = Min(body->len - transfer->moved, PIECE_BYTES);

	if (!write_at_offset(transfer->spill_fd, body->data + transfer->moved, len, transfer->moved))
		return false;
	transfer->moved += len;
	if (transfer->moved == body->len)
	{
		stop_moving(transfer);
		bytes_clear(body);
	}
	return true;
}

/*
 * Begins to move a transfer's answer into a file.  False, with nothing changed, if it cannot.
 */
bool
spill_begin(HttpTransfer *transfer)
{
	Bytes *body = transfer->reply->body;
	int fd;

	if (transfer->is_spilled || n_files >= MAX_FILES || !spill_has_room(body->len))
		return false;
	fd = create_file();
	if (fd < 0)
		return false;
	n_files++;
	transfer->is_spilled = true;
	transfer->spill_fd = fd;
	transfer->spilled = body->len;
	transfer->moved = 0;
	transfer->is_moving = true;
	spilled += body->len;
	dlist_push_tail(&moving, &transfer->moving_node);
	if (move_piece(transfer))
		return true;
	spill_end(transfer);
	return false;
}

/*
 * Moves the next piece into a file.  If the disk is full, what is in memory
 * stays there; if no more has come since, the file is closed.
 */
void
spill_work(void)
{
	HttpTransfer *transfer;

	if (dlist_is_empty(&moving))
		return;
	transfer = dlist_container(HttpTransfer, moving_node, dlist_head_node(&moving));
	if (move_piece(transfer))
		return;
	stop_moving(transfer);
	if (transfer->spilled == transfer->reply->body->len)
		spill_end(transfer);
}

bool
spill_is_moving(void)
{
	return !dlist_is_empty(&moving);
}

/*
 * Appends to the file.  False if it cannot.
 */
bool
spill_append(HttpTransfer *transfer, const char *data, size_t len)
{
	if (!spill_has_room(len) || !write_at_offset(transfer->spill_fd, data, len, transfer->spilled))
		return false;
	transfer->spilled += len;
	spilled += len;
	return true;
}

/*
 * Closes a transfer's file, if it has one.
 */
void
spill_end(HttpTransfer *transfer)
{
	if (!transfer->is_spilled)
		return;
	stop_moving(transfer);
	close(transfer->spill_fd);
	spilled -= transfer->spilled;
	n_files--;
	transfer->is_spilled = false;
	transfer->spilled = 0;
}

/*
 * Reads a piece of the file back into memory, and closes the file after the last one.
 */
SpillResult
spill_take_back(HttpTransfer *transfer)
{
	Bytes *body = transfer->reply->body;
	size_t len;

	stop_moving(transfer);
	/* the answer never left memory */
	if (!transfer->is_spilled)
		return SPILL_BACK;
	len = Min(transfer->spilled - body->len, PIECE_BYTES);
	if (!bytes_reserve(body, transfer->spilled + 1) ||
		!read_at_offset(transfer->spill_fd, body->data + body->len, len, body->len))
	{
		body->len = 0;
		spill_end(transfer);
		return SPILL_FAILED;
	}
	body->len += len;
	if (body->len < transfer->spilled)
		return SPILL_MORE;
	spill_end(transfer);
	return SPILL_BACK;
}

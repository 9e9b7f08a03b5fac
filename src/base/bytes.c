/*
 * bytes.c
 *		A growing buffer with a ceiling.
 *
 * libcurl's callbacks collect here what a server sends.  They must not raise
 * an error, and must not trust a length.  The memory is malloc()ed, so that a
 * large body grows by moving pages, not bytes.  A memory context owns the
 * buffer and frees it.  memory.c counts the memory.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "base/bytes.h"
#include "base/memory.h"

static void
bytes_reset_callback(void *arg)
{
	bytes_clear((Bytes *) arg);
}

/*
 * Returns an empty buffer.  owner frees it when it is reset or deleted.
 */
Bytes *
bytes_create(MemoryContext owner, size_t limit)
{
	Bytes *bytes = MemoryContextAllocZero(owner, sizeof(Bytes));
	MemoryContextCallback *callback = MemoryContextAlloc(owner, sizeof(MemoryContextCallback));

	bytes->limit = limit;
	callback->func = bytes_reset_callback;
	callback->arg = bytes;
	MemoryContextRegisterResetCallback(owner, callback);
	return bytes;
}

/*
 * Returns a buffer in the current memory context that takes over palloc'd
 * data; NULL: an empty one.
 */
Bytes *
bytes_of_palloced(char *data, size_t len)
{
	Bytes *bytes = palloc0(sizeof(Bytes));

	*bytes = (Bytes){.data = data, .len = len, .capacity = len, .limit = len, .is_palloced = true};
	return bytes;
}

/*
 * Returns the capacity for len bytes more, which must be within the limit.
 * Doubles.  But once expected is at most two doublings away, takes that at
 * once, and a NUL byte: moving a megabyte takes as long as receiving it.
 */
size_t
bytes_capacity_for(const Bytes *bytes, size_t len)
{
	size_t needed = bytes->len + len;
	size_t wanted = Max(Max(needed, 1024), bytes->capacity * 2);

	if (len <= bytes->capacity - bytes->len)
		return bytes->capacity;
	if (needed <= bytes->expected && wanted >= bytes->expected / 2)
		wanted = bytes->expected + 1;
	return Max(Min(wanted, bytes->limit), needed);
}

/*
 * Makes room for at least capacity bytes in all.  False, with nothing changed,
 * if that is over the limit or memory is short.
 */
bool
bytes_reserve(Bytes *bytes, size_t capacity)
{
	char *grown;

	if (capacity <= bytes->capacity)
		return true;
	grown = capacity > bytes->limit ? NULL : realloc(bytes->data, capacity);
	if (grown == NULL)
		return false;
	memory_resize(MEMORY_ANSWERS, bytes->account, bytes->capacity, capacity);
	bytes->data = grown;
	bytes->capacity = capacity;
	return true;
}

/*
 * Appends a copy of data.  False, with nothing changed, if that would pass the
 * limit or memory is short.  Never raises an error: libcurl's callbacks call
 * it.
 */
bool
bytes_append(Bytes *bytes, const void *data, size_t len)
{
	if (len > bytes->limit - bytes->len)
		return false;
	if (!bytes_reserve(bytes, bytes_capacity_for(bytes, len)))
		return false;
	if (len > 0)
		memcpy(bytes->data + bytes->len, data, len);
	bytes->len += len;
	return true;
}

/*
 * Frees the contents, and takes over malloc()ed data.  capacity is within the
 * limit.
 */
void
bytes_take(Bytes *bytes, char *data, size_t len, size_t capacity)
{
	bytes_clear(bytes);
	memory_resize(MEMORY_ANSWERS, bytes->account, 0, capacity);
	bytes->data = data;
	bytes->len = len;
	bytes->capacity = capacity;
}

/*
 * Moves the contents of from to to, and frees what to had.  from is empty
 * then.
 */
void
bytes_move(Bytes *to, Bytes *from)
{
	size_t limit = from->limit;
	MemoryAccount *account = from->account;

	bytes_clear(to);
	*to = *from;
	*from = (Bytes){.limit = limit, .account = account};
}

void
bytes_clear(Bytes *bytes)
{
	if (!bytes->is_palloced)
	{
		free(bytes->data);
		memory_resize(MEMORY_ANSWERS, bytes->account, bytes->capacity, 0);
	}
	else if (bytes->data != NULL)
		pfree(bytes->data);
	bytes->data = NULL;
	bytes->len = bytes->capacity = 0;
}

/*
 * Returns the value of a hexadecimal digit; -1 if digit is none.
 */
int
bytes_hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

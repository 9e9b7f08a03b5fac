/*
 * bytes.c
 *		A growing buffer with a ceiling.
 *
 * What a server sends is collected here by libcurl's callbacks, which must neither raise an error
 * nor trust a length.  The memory is malloc()ed, so that growing a large body moves pages rather
 * than bytes, but it belongs to a memory context and goes with it.  What it takes is counted (memory.c).
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
 * An empty buffer that is freed when owner is reset or deleted.
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
 * Makes a buffer of palloc'd data, which it owns from now on, in the current memory context; NULL: an empty one.
 */
Bytes *
bytes_of_palloced(char *data, size_t len)
{
	Bytes *bytes = palloc0(sizeof(Bytes));

	*bytes = (Bytes){.data = data, .len = len, .capacity = len, .limit = len, .is_palloced = true};
	return bytes;
}

/*
 * Returns the capacity that the buffer needs for len bytes more; they must be within the limit.  It doubles, and is what is
 * expected, and a NUL byte, as soon as that is no more than to double twice: a megabyte that is moved takes as long as one
 * that is received.
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
 * Makes room for at least that many bytes, within the limit.  False, with nothing changed, when memory is short.
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
 * Appends a copy of data.  False, with nothing changed, when that would pass the limit or memory is
 * short.  Never raises an error: it is called from libcurl's callbacks.
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
 * Replaces the contents, which are freed, by malloc()ed data.  capacity is within the limit.
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
 * Has one buffer take over what another one has, which is empty then.  What it had is freed.
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
 * The value of a hexadecimal digit; -1: it is none.
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

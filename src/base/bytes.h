/*
 * bytes.h
 *		A growing buffer with a ceiling.
 */
#ifndef GENJOB_BYTES_H
#define GENJOB_BYTES_H

#include "utils/palloc.h"

struct MemoryAccount;

typedef struct Bytes
{
	char *data; /* NULL while empty; not NUL-terminated */
	size_t len;
	size_t capacity;
	size_t limit;                  /* len never exceeds it */
	size_t expected;               /* the final len; 0: unknown */
	struct MemoryAccount *account; /* also counts the memory; or NULL */
	bool is_palloced;              /* data was palloc'd: it cannot grow, and is not counted */
} Bytes;

extern Bytes *bytes_create(MemoryContext owner, size_t limit);
extern Bytes *bytes_of_palloced(char *data, size_t len);
extern size_t bytes_capacity_for(const Bytes *bytes, size_t len);
extern bool bytes_reserve(Bytes *bytes, size_t capacity);
extern bool bytes_append(Bytes *bytes, const void *data, size_t len);
extern void bytes_take(Bytes *bytes, char *data, size_t len, size_t capacity);
extern void bytes_move(Bytes *to, Bytes *from);
extern void bytes_clear(Bytes *bytes);

extern int bytes_hex_value(char digit);

#endif /* GENJOB_BYTES_H */

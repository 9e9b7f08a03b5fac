/*
 * hash.c
 *		Hash tables as the server has them: an entry stays where it is until it is removed.
 *
 * Each entry is a palloc() of its own, so AddressSanitizer sees whoever uses one that is removed.  The
 * buckets double as there are more entries.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#define FEW_BUCKETS 64

typedef struct Entry
{
	struct Entry *next;
	uint32 hash;
	uint64 data[FLEXIBLE_ARRAY_MEMBER]; /* what the caller sees: it begins with the key */
} Entry;

struct HTAB
{
	HASHCTL control;
	MemoryContext context;
	Entry **buckets;
	size_t n_buckets; /* a power of two */
	size_t n;
};

HTAB *
hash_create(const char *name, long size, const HASHCTL *control, int flags)
{
	MemoryContext parent = (flags & HASH_CONTEXT) ? control->hcxt : TopMemoryContext;
	MemoryContext context = AllocSetContextCreate(parent, "hash table", ALLOCSET_DEFAULT_SIZES);
	HTAB *table = MemoryContextAllocZero(context, sizeof(HTAB));

	if ((flags & HASH_ELEM) == 0 || (flags & (HASH_BLOBS | HASH_FUNCTION)) == 0)
		elog(ERROR, "the stand-in has no such hash table as %s", name);
	table->control = *control;
	if ((flags & HASH_FUNCTION) == 0)
		table->control.hash = tag_hash;
	if ((flags & HASH_COMPARE) == 0)
		table->control.match = memcmp;
	table->context = context;
	table->n_buckets = FEW_BUCKETS;
	table->buckets = MemoryContextAllocZero(context, FEW_BUCKETS * sizeof(Entry *));
	return table;
}

/*
 * The place of the pointer to a key's entry, or to NULL.
 */
static Entry **
find(HTAB *table, const void *key, uint32 hash)
{
	Entry **place = &table->buckets[hash & (table->n_buckets - 1)];

	while (*place != NULL &&
		   ((*place)->hash != hash ||
			table->control.match((*place)->data, key, table->control.keysize) != 0))
		place = &(*place)->next;
	return place;
}

static void
grow(HTAB *table)
{
	Entry **old = table->buckets;
	size_t n_old = table->n_buckets;
	size_t i;

	table->n_buckets *= 2;
	table->buckets = MemoryContextAllocZero(table->context, table->n_buckets * sizeof(Entry *));
	for (i = 0; i < n_old; i++)
	{
		while (old[i] != NULL)
		{
			Entry *entry = old[i];
			Entry **bucket = &table->buckets[entry->hash & (table->n_buckets - 1)];

			old[i] = entry->next;
			entry->next = *bucket;
			*bucket = entry;
		}
	}
	pfree(old);
}

static void *
enter(HTAB *table, const void *key, uint32 hash)
{
	Entry *entry =
		MemoryContextAlloc(table->context, offsetof(Entry, data) + table->control.entrysize);
	Entry **bucket;

	if (++table->n > table->n_buckets)
		grow(table);
	bucket = &table->buckets[hash & (table->n_buckets - 1)];
	entry->hash = hash;
	memcpy(entry->data, key, table->control.keysize);
	entry->next = *bucket;
	*bucket = entry;
	return entry->data;
}

/*
 * A removed entry is freed: what is returned for it says only that it was there.
 */
void *
hash_search(HTAB *table, const void *key, HASHACTION action, bool *found)
{
	uint32 hash = table->control.hash(key, table->control.keysize);
	Entry **place = find(table, key, hash);
	Entry *entry = *place;

	if (found != NULL)
		*found = entry != NULL;
	if (entry == NULL)
		return action == HASH_ENTER ? enter(table, key, hash) : NULL;
	if (action == HASH_REMOVE)
	{
		*place = entry->next;
		table->n--;
		pfree(entry);
	}
	return entry->data;
}

/*
 * kept.c
 *		The members of many objects, the later over the earlier: what remains of a stream's events.
 *
 * They are found by a hash, and held as text, so that what is replaced is freed.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "protocol/kept.h"

#define MAX_KEPT 1000 /* names; a hostile stream has a new one in each event */
#define SLOTS 2048    /* a power of two */

typedef struct Member
{
	char *name;
	char *json;
} Member;

struct Kept
{
	MemoryContext context;
	int n;
	Member members[MAX_KEPT]; /* in the order in which they came */
	int16 slots[SLOTS];       /* number of a member, from 1; 0: free */
};

/*
 * An empty collection in the current memory context.
 */
Kept *
kept_create(void)
{
	Kept *kept = palloc0(sizeof(Kept));

	kept->context = CurrentMemoryContext;
	return kept;
}

/*
 * The slot of that name: where it is, or a free one.
 */
static int
find_slot(const Kept *kept, const char *name)
{
	uint32 slot = hash_bytes((const unsigned char *) name, (int) strlen(name)) % SLOTS;

	while (kept->slots[slot] != 0 && strcmp(kept->members[kept->slots[slot] - 1].name, name) != 0)
		slot = (slot + 1) % SLOTS;
	return (int) slot;
}

/*
 * Whether kept_put() would keep a member of that name.
 */
bool
kept_takes(const Kept *kept, const char *name)
{
	return kept->n < MAX_KEPT || kept->slots[find_slot(kept, name)] != 0;
}

/*
 * Keeps a member, whose JSON is copied, in place of one of the same name, if there is room.
 */
void
kept_put(Kept *kept, const char *name, char *json)
{
	int slot = find_slot(kept, name);
	Member *member;

	if (kept->slots[slot] == 0)
	{
		if (kept->n == MAX_KEPT)
			return;
		kept->members[kept->n].name = MemoryContextStrdup(kept->context, name);
		kept->slots[slot] = (int16) ++kept->n;
	}
	member = &kept->members[kept->slots[slot] - 1];
	if (member->json != NULL)
		pfree(member->json);
	member->json = MemoryContextStrdup(kept->context, json);
}

/*
 * An object of them all, which takes their texts.
 */
cJSON *
kept_object(const Kept *kept)
{
	cJSON *object = json_create(cJSON_Object);
	int i;

	for (i = 0; i < kept->n; i++)
	{
		const Member *member = &kept->members[i];
		const char *reason;
		cJSON *value = json_parse(member->json, strlen(member->json), &reason);

		if (value == NULL)
			continue; /* it was printed from a tree: cannot be */
		value->string = member->name;
		json_append(object, value);
	}
	return object;
}

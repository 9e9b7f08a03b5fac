/*
 * parts.c
 *		The tree of parts that a stream becomes: finds a part, makes one, and
 *		sets its text.
 *
 * A hash finds parts, and texts grow by a factor: the time is linear in what
 * comes.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/memutils.h"

#include "protocol/parts.h"

/*
 * A stream may have a new name, or index, in each event.  With more parts than
 * this, the stream is kept as it came.
 */
#define MAX_PARTS 30000

#define SMALL_TEXT 32
#define MIN_SLOTS 64 /* a power of two */

static Part *
new_part(Assembly *assembly)
{
	assembly->n_parts++;
	return MemoryContextAllocZero(assembly->context, sizeof(Part));
}

/*
 * Returns an empty assembly, in the current memory context.
 */
Assembly *
assembly_create(const StreamPlace *places)
{
	Assembly *assembly = palloc0(sizeof(Assembly));

	assembly->context = CurrentMemoryContext;
	assembly->places = places;
	assembly->n_slots = MIN_SLOTS;
	assembly->slots = palloc0(MIN_SLOTS * sizeof(Part *));
	assembly->root = new_part(assembly);
	assembly->root->kind = PART_OBJECT;
	return assembly;
}

/*
 * Calls listener for each piece of text that comes from now on.
 */
void
assembly_listen(Assembly *assembly, AssemblyListener listener, void *arg)
{
	assembly->listener = listener;
	assembly->arg = arg;
}

/*
 * True if there were more parts than can be kept; later ones were left out.
 */
bool
assembly_is_full(const Assembly *assembly)
{
	return assembly->is_full;
}

int
assembly_limit(void)
{
	return MAX_PARTS;
}

bool
assembly_is_empty(const Assembly *assembly)
{
	return assembly->root->first == NULL;
}

/*
 * Salted with an address that no server knows: it cannot send names that
 * collide.
 */
static uint32
hash_of(const Part *parent, const char *name)
{
	return (uint32) DatumGetUInt64(
		hash_bytes_extended((const unsigned char *) name, (int) strlen(name), (uintptr_t) parent));
}

/*
 * Returns the slot of a part's child of that name: the child's own, or a free
 * one.
 */
static Part **
find_slot(Assembly *assembly, const Part *parent, const char *name, uint32 hash)
{
	uint32 mask = assembly->n_slots - 1;
	uint32 slot = hash & mask;
	Part *part;

	while ((part = assembly->slots[slot]) != NULL &&
		   (part->hash != hash || part->parent != parent || strcmp(part->name, name) != 0))
		slot = (slot + 1) & mask;
	return &assembly->slots[slot];
}

static void
grow_slots(Assembly *assembly)
{
	Part **old = assembly->slots;
	int n_old = assembly->n_slots;
	int i;

	assembly->n_slots *= 2;
	assembly->slots = MemoryContextAllocZero(assembly->context, assembly->n_slots * sizeof(Part *));
	for (i = 0; i < n_old; i++)
	{
		if (old[i] != NULL)
			*find_slot(assembly, old[i]->parent, old[i]->name, old[i]->hash) = old[i];
	}
	pfree(old);
}

static void
add_child(Part *parent, Part *child)
{
	child->parent = parent;
	if (parent->last != NULL)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->n_children++;
}

/*
 * True if another part may be made; else the assembly is full.
 */
static bool
has_room(Assembly *assembly)
{
	assembly->is_full |= assembly->n_parts >= MAX_PARTS;
	return !assembly->is_full;
}

/*
 * Returns a part's child of that name.  If there is none, makes it if make is
 * true and there is room; else returns NULL.
 */
Part *
parts_child(Assembly *assembly, Part *parent, const char *name, bool make)
{
	uint32 hash = hash_of(parent, name);
	Part **slot = find_slot(assembly, parent, name, hash);
	Part *child = *slot;

	if (child != NULL || !make || !has_room(assembly))
		return child;
	child = new_part(assembly);
	child->name = MemoryContextStrdup(assembly->context, name);
	child->hash = hash;
	add_child(parent, child);
	*slot = child;
	if (assembly->n_parts > assembly->n_slots / 2)
		grow_slots(assembly);
	return child;
}

/*
 * Adds an element without a key to a list; returns NULL if there is no room.
 */
Part *
parts_add(Assembly *assembly, Part *list)
{
	Part *element = has_room(assembly) ? new_part(assembly) : NULL;

	if (element != NULL)
		add_child(list, element);
	return element;
}

/* ---------- text ---------- */

void
parts_append(Assembly *assembly, Part *part, const char *text, size_t len)
{
	if (part->len + len + 1 > part->size)
	{
		size_t size = Max(part->len + len + 1, part->size + part->size / 2);

		size = Max(size, part->size == 0 ? 0 : SMALL_TEXT);
		part->text = part->text ? repalloc_huge(part->text, size)
								: MemoryContextAllocHuge(assembly->context, size);
		part->size = size;
	}
	memcpy(part->text + part->len, text, len);
	part->len += len;
	part->text[part->len] = '\0';
}

void
parts_set(Assembly *assembly, Part *part, PartKind kind, const char *text)
{
	part->kind = kind;
	part->len = 0;
	parts_append(assembly, part, text, strlen(text));
}

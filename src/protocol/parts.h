/*
 * parts.h
 *		The tree of parts that a stream becomes; for assembly.c and parts.c
 *		only.
 */
#ifndef GENJOB_PARTS_H
#define GENJOB_PARTS_H

#include "protocol/assembly.h"

typedef enum PartKind
{
	PART_EMPTY,
	PART_VALUE, /* text is JSON */
	PART_TEXT,  /* text is a string, which may have halves of surrogate pairs */
	PART_OBJECT,
	PART_LIST /* text: JSON of the first elements, with commas; parts: the others */
} PartKind;

typedef struct Part
{
	struct Part *parent;
	struct Part *next;
	struct Part *first;
	struct Part *last;
	int n_children;
	PartKind kind;
	bool is_json; /* the text of a PART_TEXT is JSON, if it is valid */
	char *name;   /* of a member; or the key of an element; NULL: none */
	uint32 hash;
	char *text;
	size_t len;
	size_t size;
} Part;

struct Assembly
{
	MemoryContext context; /* of all that stays */
	const StreamPlace *places;
	Part *root;
	int n_parts;
	bool is_full;
	bool has_half; /* strings of the current event are not valid UTF-8 */
	Part **slots;
	int n_slots;
	AssemblyListener listener;
	void *arg;
};

extern Part *parts_child(Assembly *assembly, Part *parent, const char *name, bool make);
extern Part *parts_add(Assembly *assembly, Part *list);
extern void parts_append(Assembly *assembly, Part *part, const char *text, size_t len);
extern void parts_set(Assembly *assembly, Part *part, PartKind kind, const char *text);

#endif /* GENJOB_PARTS_H */

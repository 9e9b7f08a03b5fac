/*
 * memory.h
 *		How much of the dispatcher's memory bodies take, and whether they may
 *		take more.
 */
#ifndef GENJOB_MEMORY_H
#define GENJOB_MEMORY_H

#include "utils/palloc.h"

#define MEMORY_SMALL (64 * 1024) /* bytes; a body of no more is not counted and never waits */

typedef enum MemoryUse
{
	MEMORY_REQUESTS, /* inputs, what they refer to, and the requests built from them */
	MEMORY_ANSWERS,
	MEMORY_USES
} MemoryUse;

/*
 * How much memory the requests, or the answers, of one server take; all 0 at
 * first.
 */
typedef struct MemoryAccount
{
	size_t held;
	size_t usual;                /* bytes of an answer, by the latest ones */
	struct MemoryAccount *whole; /* of all servers of one role, this one included; or NULL */
} MemoryAccount;

/*
 * How many bytes of bodies a memory context has, until it is reset or deleted.
 */
typedef struct MemoryShare
{
	MemoryUse use;
	MemoryAccount *account; /* outlives the context; or NULL */
	size_t bytes;
	MemoryContextCallback end;
} MemoryShare;

extern void memory_init(void);

/* Counting */
extern void memory_resize(MemoryUse use, MemoryAccount *account, size_t from, size_t to);
extern void memory_hold(MemoryShare **share, MemoryContext context, MemoryUse use,
						MemoryAccount *account, size_t bytes);
extern void memory_set_whole(MemoryAccount *account, MemoryAccount *whole);
extern size_t memory_held(void);

/* Whether there is room */
extern size_t memory_body_size(size_t request, size_t inputs);
extern bool memory_may_claim(const MemoryAccount *account, size_t bytes);
extern bool memory_is_first(const MemoryAccount *account, size_t bytes);
extern bool memory_has_its_share(const MemoryAccount *account);
extern bool memory_waits_for_others(const MemoryAccount *account, size_t bytes);
extern size_t memory_room_for_claims(bool *any_size);
extern bool memory_may_read(size_t bytes, const MemoryShare *own);
extern size_t memory_room_for_answers(void);
extern void memory_expect_answer(size_t bytes);
extern void memory_expect_no_more(void);
extern void memory_note_usual(MemoryAccount *account, size_t bytes);
extern bool memory_may_receive(const MemoryAccount *account, size_t bytes);
extern size_t memory_limit(void);

/* The job that need not ask */
extern bool memory_favour(const void *owner);
extern bool memory_could_favour(const void *owner);
extern void memory_unfavour(const void *owner);

#endif /* GENJOB_MEMORY_H */

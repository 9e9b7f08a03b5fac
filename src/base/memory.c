/*
 * memory.c
 *		What bodies take of the dispatcher's memory: counted, and limited by genjob.max_memory.
 *
 * A process that takes all memory is killed by the kernel, and then PostgreSQL restarts for everybody.  So jobs
 * are left in the table while the requests of those in memory take half of the limit, and answers are left
 * with their servers while all bodies together take the whole.
 *
 * Jobs that have memory must not wait for each other for ever.  So a job of any size is claimed when nothing else is in
 * memory, and one job at a time is favoured: until its answer is written, it may receive whatever it is sent.  So one
 * request and one answer at most pass the limit.  An answer that does not move while others wait gives back its memory
 * and the favour (http/pauses.c).
 *
 * Small bodies are not counted: they never wait, and genjob.max_in_flight limits their number.
 */
#include "postgres.h"

#include <malloc.h>

#include "base/memory.h"
#include "base/settings.h"

#define MMAP_THRESHOLD (2 * 1024 * 1024)
#define TRIM_THRESHOLD (32 * 1024 * 1024)
#define SHARE 3 /* times the room that is left is what the answers of one server may take */

/*
 * Copies of an answer that exist while it is judged and written, on top of the answer itself.  Measured: a picture of
 * 10 MB in base64 takes 2, 10 MB of JSON 12; most answers of that size are pictures, and only one is written at a time.
 */
#define WRITE_COPIES 6

static size_t held[MEMORY_USES];
static size_t largest_answer = 0; /* of late */
static const void *favoured = NULL;

/*
 * Has large bodies given back to the system as soon as they are freed.  glibc does so at first, but raises the size
 * from which on it does with each that was freed, up to 32 MB.  What is set here is set for good: so the end of the
 * heap is kept, too, as glibc would, or each turn would take it from the system again.  http.c gives it back in time.
 */
void
memory_init(void)
{
#ifdef __GLIBC__
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
#endif
}

/* ---------- counting ---------- */

static size_t
counted(size_t bytes)
{
	return bytes > MEMORY_SMALL ? bytes : 0;
}

/*
 * Keeps in mind how large the largest answer is.  When one like it goes, others that are smaller are likely to be the
 * largest, but nobody knows them: it is forgotten little by little.
 */
static void
note_answer(size_t from, size_t to)
{
	if (to >= from)
		largest_answer = Max(largest_answer, counted(to));
	else if (from > largest_answer / 2)
		largest_answer -= largest_answer / 4;
	if (largest_answer <= MEMORY_SMALL)
		largest_answer = 0;
}

/*
 * An answer is going to be so large: room for writing it is reserved before it is read.
 */
void
memory_expect_answer(size_t bytes)
{
	note_answer(0, Min(bytes, memory_limit()));
}

/*
 * An answer that was expected has not come: room is reserved for what there is, and nobody lays a claim to more by a
 * header alone.
 */
void
memory_expect_no_more(void)
{
	largest_answer = Min(largest_answer, held[MEMORY_ANSWERS]);
}

/*
 * Notes that an answer of this many bytes has come: the next ones are likely to be like it.
 */
void
memory_note_usual(MemoryAccount *account, size_t bytes)
{
	if (account != NULL)
		account->usual = account->usual - account->usual / 4 + bytes / 4;
}

/*
 * Notes the new size of a body; account is that of its server, or NULL.  Never raises an
 * error: it is called from libcurl's callbacks.
 */
void
memory_resize(MemoryUse use, MemoryAccount *account, size_t from, size_t to)
{
	if (use == MEMORY_ANSWERS)
		note_answer(from, to);
	held[use] += counted(to);
	held[use] -= counted(from);
	if (account == NULL)
		return;
	account->held += counted(to);
	account->held -= counted(from);
}

static void
end_share(void *arg)
{
	MemoryShare *share = arg;

	memory_resize(share->use, share->account, share->bytes, 0);
}

/*
 * Counts what a share has on another account than before.
 */
static void
charge(MemoryShare *share, MemoryAccount *account)
{
	if (share->account != NULL)
		share->account->held -= counted(share->bytes);
	if (account != NULL)
		account->held += counted(share->bytes);
	share->account = account;
}

/*
 * Counts that a context holds bytes of bodies, in *share, which lives in it and is NULL before the first time; also on
 * the account, unless that is NULL.
 */
void
memory_hold(MemoryShare **share, MemoryContext context, MemoryUse use, MemoryAccount *account,
			size_t bytes)
{
	if (*share == NULL)
	{
		if (counted(bytes) == 0)
			return;
		*share = MemoryContextAllocZero(context, sizeof(MemoryShare));
		(*share)->use = use;
		(*share)->end.func = end_share;
		(*share)->end.arg = *share;
		MemoryContextRegisterResetCallback(context, &(*share)->end);
	}
	charge(*share, account);
	memory_resize(use, account, (*share)->bytes, bytes);
	(*share)->bytes = bytes;
}

/*
 * Bytes of all bodies that are counted.
 */
size_t
memory_held(void)
{
	return held[MEMORY_REQUESTS] + held[MEMORY_ANSWERS];
}

/* ---------- room ---------- */

/*
 * How many bytes there may be of all bodies.
 */
size_t
memory_limit(void)
{
	return (size_t) genjob_max_memory * 1024 * 1024;
}

/*
 * Returns how many bytes a job takes at most, from the bytes of its request (text) and of its inputs (as base64).
 */
size_t
memory_body_size(size_t request, size_t inputs)
{
	return request + inputs / 3 * 4;
}

/*
 * How many bytes may be claimed now, in bodies that are not small; *any_size: the first of these may be larger.
 */
size_t
memory_room_for_claims(bool *any_size)
{
	size_t share = memory_limit() / 2;
	size_t claimed = held[MEMORY_REQUESTS];
	size_t all = memory_held();

	*any_size = claimed == 0;
	if (claimed >= share || all >= memory_limit())
		return 0;
	return Min(share - claimed, memory_limit() - all);
}

/*
 * Whether a body of that size may be claimed now.
 */
bool
memory_may_claim(size_t bytes)
{
	bool any_size;
	size_t room = memory_room_for_claims(&any_size);

	return any_size || counted(bytes) <= room;
}

/*
 * Whether a body of that size may be claimed when all other bodies but own have gone.
 */
bool
memory_has_room_beside(size_t bytes, size_t own)
{
	return own == 0 || own + counted(bytes) <= memory_limit() / 2;
}

/*
 * Whether a claimed job may read bytes more; own, or NULL, is what it has in memory already.  The claim reserved room by
 * stored size.  This checks the true size, which compression hid.
 */
bool
memory_may_read(size_t bytes, const MemoryShare *own)
{
	size_t mine = own ? counted(own->bytes) : 0;

	/* the table's sizes have headers of a few bytes */
	return counted(bytes) == 0 || held[MEMORY_REQUESTS] == mine ||
		   memory_held() + bytes <= memory_limit() + MEMORY_SMALL;
}

/*
 * How many bytes more answers may take, and leave room to write one: at most half of the limit, so that as much is left
 * for those that are read meanwhile.
 */
size_t
memory_room_for_answers(void)
{
	size_t reserved = Min(WRITE_COPIES * largest_answer, memory_limit() / 2);

	return memory_limit() - Min(memory_held() + reserved, memory_limit());
}

/*
 * True if answers of a server (account; NULL: of no server) may take bytes more.  The more a server has, the more must
 * stay free beside it: so the next server finds room, and need not wait for the end of an answer.
 */
bool
memory_may_receive(const MemoryAccount *account, size_t bytes)
{
	size_t room = memory_room_for_answers();

	if (bytes > room)
		return false;
	return account == NULL || account->held + bytes <= SHARE * (room - bytes);
}

/* ---------- the one that goes on ---------- */

/*
 * Whether owner is the one whose answers may pass the limit, or can be.
 */
bool
memory_could_favour(const void *owner)
{
	return favoured == NULL || favoured == owner;
}

/*
 * Favours owner until memory_unfavour(), if nobody else is.  True when it is favoured.
 */
bool
memory_favour(const void *owner)
{
	if (favoured == NULL)
		favoured = owner;
	return favoured == owner;
}

/*
 * Notes that owner holds no answer any more.
 */
void
memory_unfavour(const void *owner)
{
	if (favoured == owner)
		favoured = NULL;
}

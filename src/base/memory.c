/*
 * memory.c
 *		Counts the memory that bodies take, and limits it by genjob.max_memory.
 *
 * The kernel kills a process that takes all memory, and then PostgreSQL
 * restarts for everybody.  So jobs stay in the table while the requests in
 * memory take half of the limit, and answers stay with their servers while all
 * bodies together take the whole limit.
 *
 * Jobs that have memory must not wait for each other for ever.  So a job of
 * any size is claimed when no other request is in memory, and one job at a
 * time is favoured: until its answer is written, it may receive whatever it is
 * sent.  So at most one request and one answer pass the limit.  An answer that
 * does not move while others wait gives back its memory and the favour
 * (http/pauses.c).
 *
 * Small bodies are not counted: they never wait, and genjob.max_in_flight
 * limits their number.
 */
#include "postgres.h"

#include <malloc.h>

#include "base/memory.h"
#include "base/settings.h"

#define MMAP_THRESHOLD (2 * 1024 * 1024)
#define TRIM_THRESHOLD (32 * 1024 * 1024)
#define SHARE 3 /* what one server has may take this many times the room that is left */

/*
 * Copies of an answer that exist while it is judged and written, on top of the
 * answer itself.  Measured: a picture of 10 MB in base64 takes 2, 10 MB of
 * JSON 12.  Most answers of that size are pictures, and only one is written at
 * a time.
 */
#define WRITE_COPIES 6

static size_t held[MEMORY_USES];
static size_t largest_answer = 0;       /* lately */
static const MemoryAccount *hog = NULL; /* the server whose requests take more than their half */
static const void *favoured = NULL;

/*
 * Makes free() give large bodies back to the system at once.  glibc does so at
 * first, but raises its threshold with each large block that is freed, up to
 * 32 MB; a threshold that is set stays.  But then glibc does not raise the
 * other one either, and each turn would take the end of the heap from the
 * system again: so that is set, too.  http/idle.c gives the heap back in time.
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
counted_bytes(size_t bytes)
{
	return bytes > MEMORY_SMALL ? bytes : 0;
}

/*
 * Remembers the size of the largest answer.  When one of about that size goes,
 * a smaller one is likely to be the largest, but nobody knows which: so the
 * size is forgotten little by little.
 */
static void
note_answer(size_t from, size_t to)
{
	if (to >= from)
		largest_answer = Max(largest_answer, counted_bytes(to));
	else if (from > largest_answer / 2)
		largest_answer -= largest_answer / 4;
	if (largest_answer <= MEMORY_SMALL)
		largest_answer = 0;
}

/*
 * Notes that an answer of this many bytes is coming: room for writing it is
 * reserved before it is read.
 */
void
memory_expect_answer(size_t bytes)
{
	note_answer(0, Min(bytes, memory_limit()));
}

/*
 * Notes that an expected answer has not come.  Reserves room only for the
 * answers that are there, so that nobody claims more by a header alone.
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

static void
add_to_account(MemoryAccount *account, size_t from, size_t to)
{
	for (; account != NULL; account = account->whole)
	{
		account->held += to;
		account->held -= from;
	}
}

static void
note_hog(const MemoryAccount *account)
{
	if (account != NULL && account->held > memory_limit() / 2)
		hog = account;
	else if (account == hog)
		hog = NULL;
}

/*
 * Counts what an account has also on whole, or, if that is NULL, on no other.
 * whole must last as long.
 */
void
memory_set_whole(MemoryAccount *account, MemoryAccount *whole)
{
	if (account->whole == whole)
		return;
	add_to_account(account->whole, account->held, 0);
	account->whole = whole;
	add_to_account(whole, 0, account->held);
}

/*
 * Notes the new size of a body.  account is its server's, or NULL.  Never
 * raises an error: libcurl's callbacks call it.
 */
void
memory_resize(MemoryUse use, MemoryAccount *account, size_t from, size_t to)
{
	if (use == MEMORY_ANSWERS)
		note_answer(from, to);
	held[use] += counted_bytes(to);
	held[use] -= counted_bytes(from);
	add_to_account(account, counted_bytes(from), counted_bytes(to));
	if (use == MEMORY_REQUESTS)
		note_hog(account);
}

static void
end_share(void *arg)
{
	MemoryShare *share = arg;

	memory_resize(share->use, share->account, share->bytes, 0);
}

/*
 * Moves what a share counts to another account.
 */
static void
charge_account(MemoryShare *share, MemoryAccount *account)
{
	add_to_account(share->account, counted_bytes(share->bytes), 0);
	add_to_account(account, 0, counted_bytes(share->bytes));
	if (share->use == MEMORY_REQUESTS)
	{
		note_hog(share->account);
		note_hog(account);
	}
	share->account = account;
}

/*
 * Counts that context has this many bytes of bodies; also on account, unless
 * that is NULL.  *share keeps the count: it lives in context, and is NULL at
 * first.
 */
void
memory_hold(MemoryShare **share, MemoryContext context, MemoryUse use, MemoryAccount *account,
			size_t bytes)
{
	if (*share == NULL)
	{
		if (counted_bytes(bytes) == 0)
			return;
		*share = MemoryContextAllocZero(context, sizeof(MemoryShare));
		(*share)->use = use;
		(*share)->end.func = end_share;
		(*share)->end.arg = *share;
		MemoryContextRegisterResetCallback(context, &(*share)->end);
	}
	charge_account(*share, account);
	memory_resize(use, account, (*share)->bytes, bytes);
	(*share)->bytes = bytes;
}

/*
 * Returns the bytes of all bodies that are counted.
 */
size_t
memory_held(void)
{
	return held[MEMORY_REQUESTS] + held[MEMORY_ANSWERS];
}

/* ---------- room ---------- */

/*
 * Returns how many bytes all bodies may take.
 */
size_t
memory_limit(void)
{
	return (size_t) genjob_max_memory * 1024 * 1024;
}

/*
 * Returns how many bytes a job takes at most.  request: bytes of its request,
 * as text.  inputs: bytes of its inputs, which become base64.
 */
size_t
memory_body_size(size_t request, size_t inputs)
{
	return request + inputs / 3 * 4;
}

/*
 * Returns how many bytes of bodies that are not small are free for claims.
 */
static size_t
free_for_claims(void)
{
	size_t share = memory_limit() / 2;
	size_t claimed = held[MEMORY_REQUESTS];
	size_t all = memory_held();

	return claimed >= share || all >= memory_limit() ? 0
													 : Min(share - claimed, memory_limit() - all);
}

/*
 * Returns how many bytes may be claimed now, in bodies that are not small.
 * That leaves a part of what is free, for servers whose jobs come later.
 * *any_size: the first of them may be larger.
 */
size_t
memory_room_for_claims(bool *any_size)
{
	*any_size = held[MEMORY_REQUESTS] == 0;
	return free_for_claims() / (SHARE + 1) * SHARE;
}

/*
 * Returns how many bytes all bodies take, without what one huge request takes
 * beyond the half.
 */
static size_t
held_beside_excess(void)
{
	size_t half = memory_limit() / 2;

	return memory_held() - (hog != NULL ? hog->held - Min(hog->held, half) : 0);
}

static bool
has_nothing(const MemoryAccount *account)
{
	for (; account != NULL; account = account->whole)
	{
		if (account->held > 0)
			return false;
	}
	return true;
}

/*
 * True if bytes more do not make more of what an account has, or what it is
 * part of, than its share of room.  A first body may be of any size.
 */
static bool
is_within_share(const MemoryAccount *account, size_t bytes, size_t room)
{
	for (; account != NULL; account = account->whole)
	{
		if (account->held > 0 && (bytes > room || account->held + bytes > SHARE * (room - bytes)))
			return false;
	}
	return true;
}

/*
 * True if a body of that size may be claimed now for a server with these
 * requests (account; NULL: of any server).
 */
bool
memory_may_claim(const MemoryAccount *account, size_t bytes)
{
	bool any_size;
	size_t room = memory_room_for_claims(&any_size);

	bytes = counted_bytes(bytes);
	return any_size || (bytes <= room && is_within_share(account, bytes, free_for_claims())) ||
		   memory_is_first(account, bytes);
}

/*
 * True if a body of that size may be claimed although requests take their half
 * of the memory, and others wait: its server (and all servers of a role, if
 * that counts) has no other request in memory, and this one leaves most of what
 * is free to answers.  So a server that holds its requests for long, because it
 * does not read them or does not answer, keeps others' large ones from
 * nothing.  What one huge request takes beyond the half does not count here.
 */
bool
memory_is_first(const MemoryAccount *account, size_t bytes)
{
	size_t all = held_beside_excess();

	return account != NULL && has_nothing(account) &&
		   counted_bytes(bytes) <= (memory_limit() - Min(all, memory_limit())) / (SHARE + 1);
}

/*
 * True if a server has no room for another body that is not small until some
 * of its own have gone.
 */
bool
memory_has_its_share(const MemoryAccount *account)
{
	return !is_within_share(account, MEMORY_SMALL + 1, free_for_claims());
}

/*
 * True if a body of that size may be claimed once all bodies but those of its
 * server have gone.
 */
bool
memory_waits_for_others(const MemoryAccount *account, size_t bytes)
{
	const MemoryAccount *level;

	for (level = account; level != NULL; level = level->whole)
	{
		size_t rest = memory_limit() / 2 - Min(level->held, memory_limit() / 2);

		if (level->held > 0 && (bytes > rest || level->held + bytes > SHARE * (rest - bytes)))
			return false;
	}
	return true;
}

/*
 * True if a claimed job may read bytes more.  own: what it has in memory
 * already; or NULL.  The claim reserved room by stored size.  This checks the
 * true size, which compression hid.
 */
bool
memory_may_read(size_t bytes, const MemoryShare *own)
{
	size_t mine = own ? counted_bytes(own->bytes) : 0;
	size_t all = own != NULL && own->account == hog ? memory_held() : held_beside_excess();

	/* the table's sizes have headers of a few bytes */
	return counted_bytes(bytes) == 0 || held[MEMORY_REQUESTS] == mine ||
		   all + bytes <= memory_limit() + MEMORY_SMALL;
}

/*
 * Returns how many bytes more answers may take so that there is still room to
 * write one.  That room is at most half of the limit, so that answers which
 * are read meanwhile have as much.
 */
size_t
memory_room_for_answers(void)
{
	size_t reserved = Min(WRITE_COPIES * largest_answer, memory_limit() / 2);

	return memory_limit() - Min(memory_held() + reserved, memory_limit());
}

/*
 * True if answers of a server (account; NULL: of no server) may take bytes more.  The more a server has, or all servers of
 * its role, the more must stay free beside it: so the next server finds room, and need not wait for the end of an answer.
 */
bool
memory_may_receive(const MemoryAccount *account, size_t bytes)
{
	size_t room = memory_room_for_answers();

	if (bytes > room)
		return false;
	for (; account != NULL; account = account->whole)
	{
		if (account->held + bytes > SHARE * (room - bytes))
			return false;
	}
	return true;
}

/* ---------- the favoured job ---------- */

/*
 * True if owner is favoured (its answers may pass the limit), or can be.
 */
bool
memory_could_favour(const void *owner)
{
	return favoured == NULL || favoured == owner;
}

/*
 * Favours owner until memory_unfavour(), unless another one is favoured.  True
 * if owner is favoured.
 */
bool
memory_favour(const void *owner)
{
	if (favoured == NULL)
		favoured = owner;
	return favoured == owner;
}

/*
 * Notes that owner has no answer in memory any more.
 */
void
memory_unfavour(const void *owner)
{
	if (favoured == owner)
		favoured = NULL;
}

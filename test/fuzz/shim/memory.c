/*
 * memory.c
 *		Memory contexts as the server has them, made so that AddressSanitizer sees every byte.
 *
 * Each palloc() is a malloc() of its own, of just the size asked for: one byte too far, or a chunk that
 * is used after its context was reset, is a report.  The limit of 1 GB, the "huge" and "no error" kinds
 * and reset callbacks are the server's.
 *
 * What is held is counted as an AllocSet would count it.  An input has a budget: the allocation that
 * passes it ends the process, so that the report shows who asked for it.
 */
#include "postgres.h"

#include <sanitizer/asan_interface.h>

#include "lib/ilist.h"
#include "nodes/memnodes.h"
#include "utils/memutils.h"

#include "shim.h"

#define CHUNK_OVERHEAD 16    /* bytes that an AllocSet adds */
#define LARGEST_ROUNDED 8192 /* up to here an AllocSet rounds up to a power of two */
#define FRESH 0x7f           /* what new memory is filled with, as in a server with assertions */
#define FRESH_BYTES 4096     /* of a chunk, at most */

typedef struct ShimContext
{
	MemoryContextData head; /* of which parent, children, name and reset_cbs are used */
	dlist_head chunks;
} ShimContext;

/* In front of each chunk, and poisoned while nobody here looks at it. */
typedef struct ShimChunk
{
	dlist_node node;
	ShimContext *context;
	size_t size; /* as it was asked for */
} ShimChunk;

static ShimContext top_context = {.head.name = "TopMemoryContext",
								  .chunks = DLIST_STATIC_INIT(top_context.chunks)};
static ShimContext error_context = {.head.name = "ErrorContext",
									.chunks = DLIST_STATIC_INIT(error_context.chunks)};

MemoryContext CurrentMemoryContext = &top_context.head;
MemoryContext TopMemoryContext = &top_context.head;
MemoryContext ErrorContext = &error_context.head;

static size_t held;
static size_t peak;
static size_t budget = SIZE_MAX;
static long until_failure; /* allocations; 0: none fails */

/*
 * Begins an input: it may hold budget bytes, and its failing-th allocation fails, if that is not 0.
 */
void
shim_memory_begin(size_t new_budget, long failing)
{
	budget = new_budget;
	until_failure = failing;
	peak = held = 0;
}

/*
 * Ends an input: all contexts go.
 */
void
shim_memory_end(void)
{
	until_failure = 0;
	CurrentMemoryContext = TopMemoryContext;
	MemoryContextReset(ErrorContext);
	MemoryContextReset(TopMemoryContext);
	budget = SIZE_MAX;
}

size_t
shim_memory_peak(void)
{
	return peak;
}

/* ---------- chunks ---------- */

static size_t
counted(size_t size)
{
	size_t rounded = 8;

	if (size > LARGEST_ROUNDED)
		return MAXALIGN(size) + CHUNK_OVERHEAD;
	while (rounded < size)
		rounded *= 2;
	return rounded + CHUNK_OVERHEAD;
}

static void
count(size_t size)
{
	held += counted(size);
	peak = Max(peak, held);
	if (held <= budget)
		return;
	fprintf(stderr, "memory out of proportion: %zu bytes are held, and the input may hold %zu\n",
			held, budget);
	abort();
}

static bool
is_to_fail(void)
{
	return until_failure > 0 && --until_failure == 0;
}

static ShimChunk *
chunk_of(void *pointer)
{
	ShimChunk *chunk = (ShimChunk *) pointer - 1;

	ASAN_UNPOISON_MEMORY_REGION(chunk, sizeof(ShimChunk));
	return chunk;
}

static void *
pointer_of(ShimChunk *chunk)
{
	ASAN_POISON_MEMORY_REGION(chunk, sizeof(ShimChunk));
	return chunk + 1;
}

static void
link_chunk(ShimContext *context, ShimChunk *chunk)
{
	if (!dlist_is_empty(&context->chunks))
		(void) chunk_of(dlist_container(ShimChunk, node, context->chunks.head.next) + 1);
	dlist_push_head(&context->chunks, &chunk->node);
	if (dlist_has_next(&context->chunks, &chunk->node))
		(void) pointer_of(dlist_container(ShimChunk, node, chunk->node.next));
}

/*
 * Takes a chunk out of its context; its neighbours, which may be the list's head, are written to.
 */
static void
unlink_chunk(ShimChunk *chunk)
{
	dlist_head *list = &chunk->context->chunks;
	dlist_node *next = chunk->node.next;
	dlist_node *prev = chunk->node.prev;

	ASAN_UNPOISON_MEMORY_REGION(next, sizeof(dlist_node));
	ASAN_UNPOISON_MEMORY_REGION(prev, sizeof(dlist_node));
	dlist_delete(&chunk->node);
	if (next != &list->head)
		(void) pointer_of(dlist_container(ShimChunk, node, next));
	if (prev != &list->head)
		(void) pointer_of(dlist_container(ShimChunk, node, prev));
	held -= counted(chunk->size);
}

static void *
allocate(MemoryContext context, size_t size, int flags)
{
	bool valid = (flags & MCXT_ALLOC_HUGE) ? AllocHugeSizeIsValid(size) : AllocSizeIsValid(size);
	ShimChunk *chunk;

	if (!valid)
		elog(ERROR, "invalid memory alloc request size %zu", size);
	if (is_to_fail())
	{
		if (flags & MCXT_ALLOC_NO_OOM)
			return NULL;
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	count(size);
	chunk = malloc(sizeof(ShimChunk) + size);
	if (chunk == NULL)
		abort();
	chunk->context = (ShimContext *) context;
	chunk->size = size;
	link_chunk(chunk->context, chunk);
	if (flags & MCXT_ALLOC_ZERO)
		memset(chunk + 1, 0, size);
	else
		memset(chunk + 1, FRESH, Min(size, FRESH_BYTES));
	return pointer_of(chunk);
}

static void *
reallocate(void *pointer, size_t size, int flags)
{
	ShimChunk *chunk = chunk_of(pointer);
	size_t old = chunk->size;
	MemoryContext context = &chunk->context->head;
	void *grown;

	(void) pointer_of(chunk);
	grown = allocate(context, size, flags);
	memcpy(grown, pointer, Min(old, size));
	pfree(pointer);
	return grown;
}

/* ---------- what the server exports ---------- */

void *
palloc(Size size)
{
	return allocate(CurrentMemoryContext, size, 0);
}

void *
palloc0(Size size)
{
	return allocate(CurrentMemoryContext, size, MCXT_ALLOC_ZERO);
}

void *
palloc_extended(Size size, int flags)
{
	return allocate(CurrentMemoryContext, size, flags);
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return allocate(context, size, 0);
}

void *
MemoryContextAllocZero(MemoryContext context, Size size)
{
	return allocate(context, size, MCXT_ALLOC_ZERO);
}

void *
MemoryContextAllocZeroAligned(MemoryContext context, Size size)
{
	return allocate(context, size, MCXT_ALLOC_ZERO);
}

void *
MemoryContextAllocExtended(MemoryContext context, Size size, int flags)
{
	return allocate(context, size, flags);
}

void *
MemoryContextAllocHuge(MemoryContext context, Size size)
{
	return allocate(context, size, MCXT_ALLOC_HUGE);
}

void *
repalloc(void *pointer, Size size)
{
	return reallocate(pointer, size, 0);
}

void *
repalloc_huge(void *pointer, Size size)
{
	return reallocate(pointer, size, MCXT_ALLOC_HUGE);
}

void
pfree(void *pointer)
{
	ShimChunk *chunk = chunk_of(pointer);

	unlink_chunk(chunk);
	free(chunk);
}

Size
GetMemoryChunkSpace(void *pointer)
{
	ShimChunk *chunk = chunk_of(pointer);
	size_t size = chunk->size;

	(void) pointer_of(chunk);
	return counted(size);
}

char *
MemoryContextStrdup(MemoryContext context, const char *text)
{
	size_t size = strlen(text) + 1;

	return memcpy(MemoryContextAlloc(context, size), text, size);
}

char *
pstrdup(const char *text)
{
	return MemoryContextStrdup(CurrentMemoryContext, text);
}

char *
pnstrdup(const char *text, Size len)
{
	char *copy;

	len = strnlen(text, len);
	copy = palloc(len + 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	return copy;
}

/* ---------- contexts ---------- */

MemoryContext
AllocSetContextCreateInternal(MemoryContext parent, const char *name, Size minContextSize,
							  Size initBlockSize, Size maxBlockSize)
{
	ShimContext *context = calloc(1, sizeof(ShimContext));

	if (context == NULL)
		abort();
	dlist_init(&context->chunks);
	context->head.name = name;
	MemoryContextSetParent(&context->head, parent);
	return &context->head;
}

void
MemoryContextSetParent(MemoryContext context, MemoryContext new_parent)
{
	MemoryContext *link;

	if (context->parent != NULL)
	{
		for (link = &context->parent->firstchild; *link != context; link = &(*link)->nextchild)
			;
		*link = context->nextchild;
	}
	context->parent = new_parent;
	context->nextchild = NULL;
	if (new_parent != NULL)
	{
		context->nextchild = new_parent->firstchild;
		new_parent->firstchild = context;
	}
}

void
MemoryContextRegisterResetCallback(MemoryContext context, MemoryContextCallback *callback)
{
	callback->next = context->reset_cbs;
	context->reset_cbs = callback;
}

static void
free_chunks(ShimContext *context)
{
	MemoryContextCallback *callback;

	while ((callback = context->head.reset_cbs) != NULL)
	{
		context->head.reset_cbs = callback->next;
		callback->func(callback->arg);
	}
	while (!dlist_is_empty(&context->chunks))
		pfree(dlist_container(ShimChunk, node, context->chunks.head.next) + 1);
}

void
MemoryContextDeleteChildren(MemoryContext context)
{
	while (context->firstchild != NULL)
		MemoryContextDelete(context->firstchild);
}

void
MemoryContextReset(MemoryContext context)
{
	MemoryContextDeleteChildren(context);
	free_chunks((ShimContext *) context);
}

void
MemoryContextDelete(MemoryContext context)
{
	Assert(context != CurrentMemoryContext);
	if (context == CurrentMemoryContext)
		abort();
	MemoryContextReset(context);
	MemoryContextSetParent(context, NULL);
	free(context);
}

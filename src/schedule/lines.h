/*
 * lines.h
 *		Who waits, at each server, for a call of one kind.
 */
#ifndef GENJOB_LINES_H
#define GENJOB_LINES_H

#include "base/clock.h"
#include "lib/ilist.h"

struct ServerQueue;

/* Those who wait at one server. */
typedef struct Line
{
	struct ServerQueue *queue; /* the server's */
	dlist_head waiters;        /* first come, first served */
	int n_calls;               /* under way */
	dlist_node node;           /* among the lines that have waiters, while is_listed */
	bool is_listed;
} Line;

/* The lines of all servers for one kind of call. */
typedef struct Lines
{
	dlist_head
		waiting; /* lines that have, or lately had, waiters: the one that was served last is last */
	int n_calls; /* under way */
} Lines;

/* Part of the struct of whoever waits; all 0 at first. */
typedef struct LineWaiter
{
	dlist_node node;
	Line *line;        /* where it waits for a call; or NULL */
	Lines *counted_by; /* the lines that count its call; or NULL */
	Line *counted_in;
} LineWaiter;

/* True if the first waiter of a line may have its call now. */
typedef bool (*LineMayGo)(const Line *line, MonoTime now);

extern bool line_has_waiters(const Line *line);
extern void lines_join(Lines *lines, Line *line, LineWaiter *waiter);
extern void lines_forget(Line *line);
extern void lines_leave(LineWaiter *waiter);
extern LineWaiter *lines_take(Lines *lines, LineMayGo may_go, MonoTime now);
extern void lines_begin_call(Lines *lines, Line *line, LineWaiter *waiter);
extern void lines_end_call(LineWaiter *waiter);

#endif /* GENJOB_LINES_H */

/*
 * lines.h
 *		Jobs of each server that wait for a call of one kind.
 */
#ifndef GENJOB_LINES_H
#define GENJOB_LINES_H

#include "base/clock.h"
#include "lib/ilist.h"

struct Job;
struct ServerQueue;

/* The jobs of one server. */
typedef struct Line
{
	struct ServerQueue *queue; /* the server's */
	dlist_head jobs;           /* first come, first served */
	int n_calls;               /* under way */
	dlist_node node;           /* among the lines that have jobs, while is_listed */
	bool is_listed;
} Line;

/* The lines of all servers for one kind of call. */
typedef struct Lines
{
	dlist_head
		waiting; /* lines that have, or lately had, jobs: the one that was served last is last */
	int n_calls; /* under way */
} Lines;

/* Whether the first job of a line may have its call now. */
typedef bool (*LineMayGo)(const Line *line, MonoTime now);

extern void lines_join(Lines *lines, Line *line, struct Job *job);
extern void lines_forget(Line *line);
extern void lines_leave(struct Job *job);
extern struct Job *lines_take(Lines *lines, LineMayGo may_go, MonoTime now);
extern void lines_begin_call(Lines *lines, Line *line, struct Job *job);
extern void lines_end_call(struct Job *job);

#endif /* GENJOB_LINES_H */

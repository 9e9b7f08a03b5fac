/*
 * marker.h
 *		Notes which jobs' bytes a process handles, for the next dispatcher
 *		after a crash.
 */
#ifndef GENJOB_MARKER_H
#define GENJOB_MARKER_H

#define MARKER_MAX 200    /* jobs that are handled together */
#define MARKER_WRITERS 8  /* processes of a database besides its dispatcher */
#define MARKER_CRASHES 2  /* after which a job is put aside */
#define MARKER_CALLS 4096 /* calls that are noted at a time */

/* A job that a process handled when it came to its end. */
typedef struct Suspect
{
	int64 job;
	int32 attempt;
	int32 crashes;
} Suspect;

extern void marker_init(void);
extern bool marker_is_free(int writer);
extern void marker_join(int writer);
extern void marker_begin(int64 job, int attempt);
extern void marker_begin_add(int64 job, int attempt);
extern void marker_end(void);

extern int marker_begin_call(int64 job, int attempt, int step);
extern void marker_end_call(int noted);
extern int marker_count_cuts(int64 job, int attempt, int step);
extern void marker_forget_cuts(int64 job, int attempt, int step);

extern bool marker_is_suspect(int64 job);
extern bool marker_is_condemned(int64 job);
extern bool marker_next_condemned(int *i, Suspect *suspect);
extern void marker_acquit(int64 job);

#endif /* GENJOB_MARKER_H */

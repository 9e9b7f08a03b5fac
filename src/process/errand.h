/*
 * errand.h
 *		What writers do for their dispatcher.
 */
#ifndef GENJOB_ERRAND_H
#define GENJOB_ERRAND_H

#include "life/job.h"
#include "process/parcels.h"
#include "shared/pipe.h"

typedef struct Errand
{
	dlist_node node; /* while is_waiting */
	bool is_waiting; /* no writer has it */
	bool is_void;    /* a job of it has gone */
	ParcelKind kind;
	MemoryContext context;
	List *ties;     /* to the memory contexts that it ends with */
	Pipe *pipe;     /* to the writer that has it; or NULL */
	size_t counted; /* of memory, while a writer has it */
	Parcel parcel;  /* what is sent */

	/* PARCEL_JUDGE */
	Call *call; /* for life_answered() */
	HttpReply *reply;

	/* PARCEL_JUDGE, PARCEL_BUILD */
	MemoryContext call_context; /* of that call */
	bool is_building;           /* PARCEL_BUILD: a writer has it */

	/* PARCEL_SAVE, PARCEL_REPORT */
	size_t bytes;
	bool is_full; /* no other job may come along */
	bool has_large;
	JobBatch batch; /* PARCEL_JUDGE, PARCEL_RESUME, PARCEL_BUILD: one job */
	JobStep *steps; /* of these jobs, when the errand was created */
} Errand;

extern void errand_judge(Call *call, HttpReply *reply);
extern void errand_resume(Job *job);
extern void errand_build(Job *job, size_t bytes);
extern void errands_close(void);
extern void errand_write(Job *job, size_t bytes, bool alone, bool is_large);
extern Errand *errand_next(void);
extern bool errand_begin(Errand *errand, Pipe *pipe);
extern bool errand_take(Errand *errand, const Parcel *parcel, MemoryContext inbox);
extern void errand_do_here(Errand *errand);
extern void errand_free(Errand *errand);

#endif /* GENJOB_ERRAND_H */

/*
 * stride.h
 *		Who of several is served next, in proportion to their weights.
 */
#ifndef GENJOB_STRIDE_H
#define GENJOB_STRIDE_H

#include "lib/pairingheap.h"

/* One of those who share. */
typedef struct Share
{
	pairingheap_node node; /* in its heap while is_waiting */
	bool is_waiting;
	double weight;
	double pass;
	uint64 served_at; /* the number of its last turn */
} Share;

/* Those who share. */
typedef struct Stride
{
	pairingheap *waiting; /* shares whose turn can come: next on top */
	double time;          /* the pass of the share that was served last */
	uint64 served;        /* turns so far */
} Stride;

extern void stride_init(Stride *stride);
extern void stride_free(Stride *stride);
extern void stride_add(const Stride *stride, Share *share, double weight);
extern void stride_set_waiting(Stride *stride, Share *share, bool is_waiting);
extern Share *stride_next(const Stride *stride);
extern void stride_serve(Stride *stride, Share *share);
extern void stride_give_back(Stride *stride, Share *share);
extern void stride_set_weight(Stride *stride, Share *share, double weight);
extern bool stride_is_even(const Stride *stride, const Share *share);

#endif /* GENJOB_STRIDE_H */

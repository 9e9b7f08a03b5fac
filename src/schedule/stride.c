/*
 * stride.c
 *		Who of several is served next, in proportion to their weights.  Pure.
 *
 * Each share has a pass, and the share with the smallest pass is next.  A turn
 * adds the inverse of the weight to the pass.  A new share starts at the pass
 * of the others.  So the next turn goes to the share that had least, in
 * proportion.  (Waldspurger and Weihl, "Stride Scheduling", 1995: deficit
 * round robin without its bursts.)
 */
#include "postgres.h"

#include "schedule/stride.h"

/* The largest is on top of a heap: so the better one must be the larger. */
static int
compare_shares(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Share *left = pairingheap_const_container(Share, node, a);
	const Share *right = pairingheap_const_container(Share, node, b);

	if (left->pass != right->pass)
		return left->pass < right->pass ? 1 : -1;
	return left->served_at < right->served_at ? 1 : -1;
}

/*
 * Initializes, in the current memory context.
 */
void
stride_init(Stride *stride)
{
	memset(stride, 0, sizeof(*stride));
	stride->waiting = pairingheap_allocate(compare_shares, NULL);
}

void
stride_free(Stride *stride)
{
	pairingheap_free(stride->waiting);
	stride->waiting = NULL;
}

/*
 * Adds a share.  It does not wait for a turn yet.
 */
void
stride_add(const Stride *stride, Share *share, double weight)
{
	Assert(weight > 0);
	memset(share, 0, sizeof(*share));
	share->weight = weight;
	share->pass = stride->time;
}

/*
 * Sets whether a share waits for a turn.  A share that was away saves nothing
 * up.
 */
void
stride_set_waiting(Stride *stride, Share *share, bool is_waiting)
{
	if (is_waiting && !share->is_waiting)
	{
		share->pass = Max(share->pass, stride->time);
		pairingheap_add(stride->waiting, &share->node);
	}
	else if (!is_waiting && share->is_waiting)
		pairingheap_remove(stride->waiting, &share->node);
	share->is_waiting = is_waiting;
}

/*
 * Returns whose turn it is, or NULL.
 */
Share *
stride_next(const Stride *stride)
{
	if (pairingheap_is_empty(stride->waiting))
		return NULL;
	return pairingheap_container(Share, node, pairingheap_first(stride->waiting));
}

/*
 * Charges a turn to the share whose turn it is.  It does not wait any more, until stride_set_waiting().
 */
void
stride_serve(Stride *stride, Share *share)
{
	Assert(share == stride_next(stride));
	stride_set_waiting(stride, share, false);
	stride->time = share->pass;
	share->pass += 1 / share->weight;
	share->served_at = ++stride->served;
}

/*
 * Gives back a turn that was not used.
 */
void
stride_give_back(Stride *stride, Share *share)
{
	if (share->is_waiting)
		pairingheap_remove(stride->waiting, &share->node);
	share->pass -= 1 / share->weight;
	if (share->is_waiting)
		pairingheap_add(stride->waiting, &share->node);
}

/*
 * Changes the weight of a share.  If it is ahead of the others, it pays that
 * off at the new weight.
 */
void
stride_set_weight(Stride *stride, Share *share, double weight)
{
	Assert(weight > 0);
	if (weight == share->weight)
		return;
	if (share->is_waiting)
		pairingheap_remove(stride->waiting, &share->node);
	if (share->pass > stride->time)
		share->pass = stride->time + (share->pass - stride->time) * share->weight / weight;
	share->weight = weight;
	if (share->is_waiting)
		pairingheap_add(stride->waiting, &share->node);
}

/*
 * True if a share may be forgotten: it waits for nothing, and is not ahead of
 * the others.
 */
bool
stride_is_even(const Stride *stride, const Share *share)
{
	return !share->is_waiting && share->pass <= stride->time;
}

/*
 * settle.h
 *		Waits until the catalog caches show what a snapshot shows.
 */
#ifndef GENJOB_SETTLE_H
#define GENJOB_SETTLE_H

extern void settle_caches(void);

#endif /* GENJOB_SETTLE_H */

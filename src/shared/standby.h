/*
 * standby.h
 *		Synchronous standbys: checks if they have what a dispatcher has
 *		committed.
 */
#ifndef GENJOB_STANDBY_H
#define GENJOB_STANDBY_H

#define STANDBY_LOOK_MS 100 /* between two checks if a standby has caught up */

extern void standby_end_wait(void);
extern void standby_begin(void);
extern void standby_committed(void);
extern bool standby_has_all(void);

#endif /* GENJOB_STANDBY_H */

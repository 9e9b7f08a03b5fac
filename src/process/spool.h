/*
 * spool.h
 *		Results that outlive the dispatcher which could not write them.
 */
#ifndef GENJOB_SPOOL_H
#define GENJOB_SPOOL_H


extern void spool_init(void);
extern void spool_write(void);
extern void spool_discard(void);
extern bool spool_load(void);


#endif /* GENJOB_SPOOL_H */

/*
 * plans.h
 *		Plans that do not depend on statistics.
 */
#ifndef GENJOB_PLANS_H
#define GENJOB_PLANS_H

extern void plans_init(void);
extern void plans_set_tables(Oid jobs, Oid outputs);

#endif /* GENJOB_PLANS_H */

/*
 * overdue.h
 *		Failing jobs whose server has refused for too long.
 */
#ifndef GENJOB_OVERDUE_H
#define GENJOB_OVERDUE_H

extern void overdue_fail(void);
extern bool overdue_is_due(void);

#endif /* GENJOB_OVERDUE_H */

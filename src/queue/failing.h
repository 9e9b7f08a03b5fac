/*
 * failing.h
 *		Jobs that are failed without being started; for the files of this folder only.
 */
#ifndef GENJOB_FAILING_H
#define GENJOB_FAILING_H

extern void failing_forget(void);

#endif /* GENJOB_FAILING_H */

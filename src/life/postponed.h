/*
 * postponed.h
 *		How often jobs were put off because another one has not ended yet.
 */
#ifndef GENJOB_POSTPONED_H
#define GENJOB_POSTPONED_H

extern int postponed_count(int64 id);
extern void postponed_forget(int64 id);

#endif /* GENJOB_POSTPONED_H */

/*
 * printable.h
 *		Checks whether the value of a column can be shown at all; for the files
 *		of this folder only.
 */
#ifndef GENJOB_PRINTABLE_H
#define GENJOB_PRINTABLE_H

extern void printable_check(int64 job, const char *column, Datum datum);

#endif /* GENJOB_PRINTABLE_H */

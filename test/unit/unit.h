/*
 * unit.h
 *		What a unit test is, and what it compares.
 *
 * Each file here is a program of its own: it defines unit_run(), which calls its tests one after another.
 * They run without a server, so they can test only files that use none (PURE in the Makefile).
 */
#ifndef UNIT_H
#define UNIT_H

#include "postgres.h"

/* Runs the tests of the file, in a memory context that is thrown away afterwards. */
extern void unit_run(void);

/* Each is one assertion; what is a format, as of printf(), and names the case. */
extern void unit_ok(bool holds, const char *what, ...) pg_attribute_printf(2, 3);
extern void unit_is_int(int64 got, int64 expected, const char *what, ...) pg_attribute_printf(3, 4);
extern void unit_is_text(const char *got, const char *expected, const char *what, ...)
	pg_attribute_printf(3, 4);
extern void unit_is_near(double got, double expected, double tolerance, const char *what, ...)
	pg_attribute_printf(4, 5);

/* The message of the error that a function raises; NULL if it raises none. */
extern const char *unit_error_of(void (*function)(void *arg), void *arg);

#endif /* UNIT_H */

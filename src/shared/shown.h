/*
 * shown.h
 *		Texts that processes show each other.
 */
#ifndef GENJOB_SHOWN_H
#define GENJOB_SHOWN_H

extern void shown_keep(char *kept, const char *utf8, size_t size);
extern void shown_keep_local(char *kept, const char *string, size_t size);
extern char *shown_read(const char *kept, size_t size);
extern char *shown_from_utf8(char *utf8);

#endif /* GENJOB_SHOWN_H */

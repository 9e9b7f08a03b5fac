/*
 * multipart.h
 *		Bodies of the type multipart/form-data.
 */
#ifndef GENJOB_MULTIPART_H
#define GENJOB_MULTIPART_H

#include "lib/stringinfo.h"

/* A body that is being written: parts go to the end of text. */
typedef struct Multipart
{
	StringInfoData text;
	const char *boundary;
} Multipart;

extern void multipart_begin(Multipart *body, const char *boundary);
extern void multipart_add_field(Multipart *body, const char *name, const char *value);
extern void multipart_add_file(Multipart *body, const char *name, const char *file,
							   const char *content_type, const char *data, size_t len);
extern void multipart_end(Multipart *body);

#endif /* GENJOB_MULTIPART_H */

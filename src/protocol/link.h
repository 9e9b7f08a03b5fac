/*
 * link.h
 *		Links to objects, for whoever has no keys.
 */
#ifndef GENJOB_LINK_H
#define GENJOB_LINK_H

#include "protocol/request.h"
#include "protocol/sigv4.h"

extern bool link_is_possible(const char *key);
extern char *link_to_read(const RequestSource *source, const char *key, int expires,
						  char **signature);
extern char *link_to_write(const RequestSource *source, const char *key, const char *content_type,
						   int expires, char **signature);

#endif /* GENJOB_LINK_H */

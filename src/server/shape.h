/*
 * shape.h
 *		The options that determine the body of a request, saved as text.
 */
#ifndef GENJOB_SHAPE_H
#define GENJOB_SHAPE_H

#include "server/options.h"

extern char *shape_print(const char *server, const ServerOptions *options, const char *sha256);
extern uint32 shape_digest(const char *server, const ServerOptions *options);
extern const ServerOptions *shape_apply(const char *text, const char *server,
										const ServerOptions *options, char **sha256);

#endif /* GENJOB_SHAPE_H */

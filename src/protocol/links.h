/*
 * links.h
 *		Links to objects in a request.
 */
#ifndef GENJOB_LINKS_H
#define GENJOB_LINKS_H

#include "base/json.h"
#include "protocol/request.h"

extern bool links_is_url(const cJSON *node, const char **url);
extern bool links_is_object(const char *url);
extern void links_settle(const RequestSource *source, cJSON *parent);
extern void links_show(Reference *reference);
extern void links_resolve(const RequestSource *source, cJSON *params);
extern void links_note_secrets(HttpRequest *http, const RequestSource *source);

#endif /* GENJOB_LINKS_H */

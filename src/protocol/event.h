/*
 * event.h
 *		What one event of a stream says, by a protocol's rules.
 */
#ifndef GENJOB_EVENT_H
#define GENJOB_EVENT_H

#include "protocol/assembly.h"

/* An event that is being read; in a memory context of its own. */
typedef struct Event
{
	const char *data;     /* the data, if it is no JSON object; else NULL */
	cJSON *json;          /* the data, if it is one; else NULL */
	const char *types[2]; /* from the stream's event field, and from its data; or NULL */
	bool has_half;        /* strings of it are no valid UTF-8 */
} Event;

extern bool event_holds(const Event *event, const StreamConditions *conditions);
extern void event_take_parts(Event *event, const StreamRules *rules, Assembly *assembly);

#endif /* GENJOB_EVENT_H */

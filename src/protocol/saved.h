/*
 * saved.h
 *		A verdict as JSON, kept in the table until its outputs are in their
 *		object store.
 */
#ifndef GENJOB_SAVED_H
#define GENJOB_SAVED_H

#include "lib/stringinfo.h"

#include "base/json.h"
#include "protocol/reply.h"

/* A value of jsonb has at most 256 MB, and numbers take more there than as text. */
#define SAVED_MOST (128 * 1024 * 1024)      /* bytes of outputs */
#define SAVED_MOST_TEXT (200 * 1024 * 1024) /* bytes of all, as text */

extern bool saved_fits(const Verdict *verdict);
extern size_t saved_size(const Verdict *verdict);
extern void saved_write(StringInfo out, const Verdict *verdict);
extern bool saved_is(const cJSON *json);
extern bool saved_is_text(const char *text);
extern Verdict *saved_read(cJSON *json);

#endif /* GENJOB_SAVED_H */

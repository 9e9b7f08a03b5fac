/*
 * delay.h
 *		How long a server asks to wait.
 */
#ifndef GENJOB_DELAY_H
#define GENJOB_DELAY_H

#include "http/http.h"
#include "base/json.h"

extern int64 delay_read(const HttpReply *reply, cJSON *json, const char *places, const char *words,
						int64 now_unix);

#endif /* GENJOB_DELAY_H */

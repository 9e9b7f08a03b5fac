/*
 * disguise.h
 *		The forms in which an answer may repeat a secret.
 */
#ifndef GENJOB_DISGUISE_H
#define GENJOB_DISGUISE_H

#include "nodes/pg_list.h"

#define MIN_SECRET 6 /* bytes; shorter ones would mask ordinary text */

extern List *disguise_list(List *disguises, const char *secret);
extern void disguise_overwrite(char *text, size_t len, const List *secrets, const List *disguises);
extern void disguise_overwrite_plain(char *text, size_t len, const List *secrets);
extern size_t disguise_prefix(const char *text, size_t len, const List *disguises, size_t shortest);

#endif /* GENJOB_DISGUISE_H */

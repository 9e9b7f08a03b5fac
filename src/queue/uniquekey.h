/*
 * uniquekey.h
 *		Whether a unique_key is taken.
 */
#ifndef GENJOB_UNIQUEKEY_H
#define GENJOB_UNIQUEKEY_H

extern bool uniquekey_is_free(Oid owner, const char *server, const char *key);

#endif /* GENJOB_UNIQUEKEY_H */

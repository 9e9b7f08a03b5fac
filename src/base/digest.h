/*
 * digest.h
 *		SHA-256 and HMAC-SHA-256.
 */
#ifndef GENJOB_DIGEST_H
#define GENJOB_DIGEST_H

#include "utils/palloc.h"

#define DIGEST_BYTES 32

/* A SHA-256 of bytes that arrive in parts. */
typedef struct Digest Digest;

extern Digest *digest_begin(MemoryContext owner);
extern bool digest_add(Digest *digest, const void *data, size_t len);
extern bool digest_end(Digest *digest, uint8 *result);

extern void digest_sha256(const void *data, size_t len, uint8 *digest);
extern void digest_hmac(const void *key, size_t key_len, const void *data, size_t len,
						uint8 *digest);
extern char *digest_hex(const uint8 *digest);
extern char *digest_sha256_hex(const void *data, size_t len);

#endif /* GENJOB_DIGEST_H */

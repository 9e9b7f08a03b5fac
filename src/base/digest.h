/*
 * digest.h
 *		SHA-256 and HMAC-SHA-256.
 */
#ifndef GENJOB_DIGEST_H
#define GENJOB_DIGEST_H

#define DIGEST_BYTES 32

extern void digest_sha256(const void *data, size_t len, uint8 *digest);
extern void digest_hmac(const void *key, size_t key_len, const void *data, size_t len,
						uint8 *digest);
extern char *digest_hex(const uint8 *digest);
extern char *digest_sha256_hex(const void *data, size_t len);

#endif /* GENJOB_DIGEST_H */

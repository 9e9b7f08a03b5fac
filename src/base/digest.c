/*
 * digest.c
 *		SHA-256 and HMAC-SHA-256, by PostgreSQL's own code for them.
 *
 * PostgreSQL ties an unfinished digest to the current resource owner.  A
 * dispatcher outside a transaction has none, so this file sets one meanwhile.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "utils/resowner.h"

#include "base/digest.h"

static ResourceOwner own = NULL;

/*
 * Makes sure that there is a resource owner.  Returns the previous one, which
 * the caller must restore.
 */
static ResourceOwner
take_owner(void)
{
	ResourceOwner caller = CurrentResourceOwner;

	if (caller != NULL)
		return caller;
	if (own == NULL)
		own = ResourceOwnerCreate(NULL, "genjob digest");
	CurrentResourceOwner = own;
	return NULL;
}

static void
check_success(bool is_done)
{
	if (!is_done)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a SHA-256")));
}

/*
 * Writes the SHA-256 of data to digest, of DIGEST_BYTES bytes.
 */
void
digest_sha256(const void *data, size_t len, uint8 *digest)
{
	ResourceOwner caller = take_owner();
	pg_cryptohash_ctx *volatile hash = NULL;

	PG_TRY();
	{
		hash = pg_cryptohash_create(PG_SHA256);
		check_success(hash != NULL && pg_cryptohash_init(hash) == 0 &&
					  pg_cryptohash_update(hash, data, len) == 0 &&
					  pg_cryptohash_final(hash, digest, DIGEST_BYTES) == 0);
	}
	PG_FINALLY();
	{
		if (hash != NULL)
			pg_cryptohash_free(hash);
		CurrentResourceOwner = caller;
	}
	PG_END_TRY();
}

/* ---------- bytes that arrive in parts ---------- */

struct Digest
{
	pg_cryptohash_ctx *hash;
	bool has_failed;
	MemoryContextCallback end;
};

static void
free_hash(void *arg)
{
	Digest *digest = arg;

	if (digest->hash != NULL)
		pg_cryptohash_free(digest->hash);
	digest->hash = NULL;
}

/*
 * Begins a digest, which owner frees.  It belongs to the process, not to an
 * open transaction.
 */
Digest *
digest_begin(MemoryContext owner)
{
	Digest *digest = MemoryContextAllocZero(owner, sizeof(Digest));
	ResourceOwner caller = CurrentResourceOwner;

	if (own == NULL)
		own = ResourceOwnerCreate(NULL, "genjob digest");
	digest->end.func = free_hash;
	digest->end.arg = digest;
	MemoryContextRegisterResetCallback(owner, &digest->end);
	CurrentResourceOwner = own;
	PG_TRY();
	{
		digest->hash = pg_cryptohash_create(PG_SHA256);
		check_success(digest->hash != NULL && pg_cryptohash_init(digest->hash) == 0);
	}
	PG_FINALLY();
	{
		CurrentResourceOwner = caller;
	}
	PG_END_TRY();
	return digest;
}

/*
 * Adds bytes.  Never raises an error: libcurl's callbacks call it.  False if it failed; then digest_end() fails, too.
 */
bool
digest_add(Digest *digest, const void *data, size_t len)
{
	if (digest->has_failed || pg_cryptohash_update(digest->hash, data, len) != 0)
		digest->has_failed = true;
	return !digest->has_failed;
}

/*
 * Writes the digest of what was added to result, of DIGEST_BYTES bytes, and
 * starts another one.  False if something failed.
 */
bool
digest_end(Digest *digest, uint8 *result)
{
	bool is_done =
		!digest->has_failed && pg_cryptohash_final(digest->hash, result, DIGEST_BYTES) == 0;

	digest->has_failed = pg_cryptohash_init(digest->hash) != 0;
	return is_done;
}

/*
 * Writes the HMAC-SHA-256 of data to digest, of DIGEST_BYTES bytes.
 */
void
digest_hmac(const void *key, size_t key_len, const void *data, size_t len, uint8 *digest)
{
	ResourceOwner caller = take_owner();
	pg_hmac_ctx *volatile hmac = NULL;

	PG_TRY();
	{
		hmac = pg_hmac_create(PG_SHA256);
		check_success(hmac != NULL && pg_hmac_init(hmac, key, key_len) == 0 &&
					  pg_hmac_update(hmac, data, len) == 0 &&
					  pg_hmac_final(hmac, digest, DIGEST_BYTES) == 0);
	}
	PG_FINALLY();
	{
		if (hmac != NULL)
			pg_hmac_free(hmac);
		CurrentResourceOwner = caller;
	}
	PG_END_TRY();
}

/*
 * Returns a digest in hexadecimal, lower case, palloc'd.
 */
char *
digest_hex(const uint8 *digest)
{
	static const char digits[] = "0123456789abcdef";
	char *hex = palloc(2 * DIGEST_BYTES + 1);
	int i;

	for (i = 0; i < DIGEST_BYTES; i++)
	{
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	hex[2 * DIGEST_BYTES] = '\0';
	return hex;
}

/*
 * Returns the SHA-256 of data in hexadecimal, lower case, palloc'd.
 */
char *
digest_sha256_hex(const void *data, size_t len)
{
	uint8 digest[DIGEST_BYTES];

	digest_sha256(data, len, digest);
	return digest_hex(digest);
}

/*
 * link.c
 *		Links to objects, for whoever has no keys: presigned URLs of an object
 *		store.
 *
 * They are made without a call to the store.  Anyone who has a link can use it
 * until it expires, so its signature is a secret like a key.
 */
#include "postgres.h"

#include "protocol/building.h"
#include "protocol/link.h"

/*
 * True if a link can lead to a key: it has no segment "." or "..", which
 * clients take out of a URL (RFC 3986, section 5.2.4).
 */
bool
link_is_possible(const char *key)
{
	while (key != NULL)
	{
		size_t len = strcspn(key, "/");

		if (len > 0 && len <= 2 && strspn(key, ".") == len)
			return false;
		key = key[len] == '/' ? key + len + 1 : NULL;
	}
	return true;
}

/*
 * Returns a link to read an object, palloc'd, and in *signature the signature
 * in it.  expires: seconds.
 */
char *
link_to_read(const RequestSource *source, const char *key, int expires, char **signature)
{
	return signing_presign(source, "GET", s3_url_of(source->options, key), NULL, expires,
						   signature);
}

/*
 * Returns a link to write an object, likewise.
 */
char *
link_to_write(const RequestSource *source, const char *key, const char *content_type, int expires,
			  char **signature)
{
	return signing_presign(source, "PUT", s3_url_of(source->options, key), content_type, expires,
						   signature);
}

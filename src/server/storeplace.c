/*
 * storeplace.c
 *		Where an object store has a bucket.
 *
 * An administrator may change the options bucket, url, addressing and region
 * at any time.  What was begun or put before is still where it was, so calls
 * about that need the options of then.
 */
#include "postgres.h"

#include "server/addressing.h"
#include "server/storeplace.h"

/*
 * Returns the place that the options name; it points into them.
 */
StorePlace
storeplace_of(const ServerOptions *options)
{
	return (StorePlace){options->url, options->bucket, options->protocol.region,
						options->addressing};
}

static const char *
copy_text(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

/*
 * Returns a palloc'd copy.
 */
StorePlace
storeplace_copy(const StorePlace *place)
{
	return (StorePlace){copy_text(place->url), copy_text(place->bucket), copy_text(place->region),
						copy_text(place->addressing)};
}

/*
 * True if the server's present options lead to the place, or if no place is
 * known.  How a call is addressed and signed may have changed: the present
 * options know better.
 */
bool
storeplace_is_of(const StorePlace *place, const Server *server)
{
	int i;

	if (place->bucket == NULL)
		return true;
	if (server->options.bucket == NULL || strcmp(server->options.bucket, place->bucket) != 0)
		return false;
	for (i = 0; i < server->n_backends; i++)
	{
		if (strcmp(server->backends[i].url, place->url) == 0)
			return true;
	}
	return false;
}

/*
 * Returns present, palloc'd, with the place in place of its own.
 */
const ServerOptions *
storeplace_options(const ServerOptions *present, const StorePlace *place)
{
	ServerOptions *options = palloc(sizeof(ServerOptions));

	*options = *present;
	options->url = pstrdup(place->url);
	options->bucket = pstrdup(place->bucket);
	options->addressing = pstrdup(place->addressing);
	options->addressing_kind =
		strcmp(place->addressing, "virtual") == 0 ? ADDRESSING_VIRTUAL : ADDRESSING_PATH;
	options->protocol.region = pstrdup(place->region);
	return options;
}

/*
 * Returns present, palloc'd if need be, for another bucket of the same store.
 */
const ServerOptions *
storeplace_bucket(const ServerOptions *present, const char *bucket)
{
	StorePlace place = storeplace_of(present);

	if (strcmp(present->bucket, bucket) == 0)
		return present;
	place.bucket = bucket;
	place.addressing = addressing_of(present->url, bucket, present->addressing);
	return storeplace_options(present, &place);
}

/*
 * storeplace.h
 *		Where an object store has a bucket.
 */
#ifndef GENJOB_STOREPLACE_H
#define GENJOB_STOREPLACE_H

#include "server/server.h"

/* All that names a bucket, and what signs a call to it.  bucket is NULL: no place is known. */
typedef struct StorePlace
{
	const char *url;
	const char *bucket;
	const char *region;
	const char *addressing; /* path | virtual */
} StorePlace;

extern StorePlace storeplace_of(const ServerOptions *options);
extern StorePlace storeplace_copy(const StorePlace *place);
extern bool storeplace_is_of(const StorePlace *place, const Server *server);
extern const ServerOptions *storeplace_options(const ServerOptions *present,
											   const StorePlace *place);
extern const ServerOptions *storeplace_bucket(const ServerOptions *present, const char *bucket);

#endif /* GENJOB_STOREPLACE_H */

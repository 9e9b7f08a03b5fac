/*
 * stores.h
 *		Finds the server for "s3://bucket/key".
 */
#ifndef GENJOB_STORES_H
#define GENJOB_STORES_H

#include "nodes/pg_list.h"

#include "server/server.h"

extern bool stores_split_url(const char *url, char **bucket, char **key);
extern List *stores_list_servers(void);
extern Server *stores_of(const Server *server, Oid role, ServerComplaint *complaint);
extern Server *stores_find(const char *bucket, const char *name, Oid role,
						   ServerComplaint *complaint);
extern Server *stores_find_intended(const char *bucket, const char *name, Oid intended, Oid owner,
									Oid role, ServerComplaint *complaint);

#endif /* GENJOB_STORES_H */

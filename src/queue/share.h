/*
 * share.h
 *		What a session may know about the shares of owners and tenants at a
 *		server.
 */
#ifndef GENJOB_SHARE_H
#define GENJOB_SHARE_H

#include "fmgr.h"

extern PGDLLEXPORT Datum genjob_tenant_weight(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_owner_weight(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum genjob_ahead(PG_FUNCTION_ARGS);

#endif /* GENJOB_SHARE_H */

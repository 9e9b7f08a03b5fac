/*
 * share.c
 *		What a session may know about the shares of owners and tenants at a
 *		server.
 *
 * Row-level security hides the rows of other owners from a role, and numbers
 * must not reveal them.  So a role learns about the jobs that it may see, and
 * about all others only in a sum without names; genjob.servers shows the total
 * to everyone.  Members of pg_read_all_stats, of the server's owner and of the
 * owner of gen_jobs learn about each tenant.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "queue/session.h"
#include "queue/share.h"

/*
 * True if a role may know each tenant of a server.
 */
static bool
may_know_all(Oid role, Oid table_owner, const char *server)
{
	ForeignServer *catalog;

	if (has_privs_of_role(role, ROLE_PG_READ_ALL_STATS) || has_privs_of_role(role, table_owner))
		return true;
	catalog = GetForeignServerByName(server, true);
	return catalog != NULL && has_privs_of_role(role, catalog->owner);
}

/*
 * Reads one row as the owner of gen_jobs; "@" stands for the table.  $1 is the server, $2 the tenant, $3 the calling
 * role, $4 whether it may know all.  The columns are copied into the caller's memory context.
 */
static void
read_as_owner(const char *query, Datum server, Datum tenant, Datum *values, bool *nulls, int n)
{
	static Oid types[] = {NAMEOID, TEXTOID, OIDOID, BOOLOID};
	Datum args[lengthof(types)] = {server, tenant};
	Oid caller;
	int context;
	int level;
	Oid table;
	Oid owner;
	char *name;
	int i;

	SPI_connect();
	name = session_find_table("gen_jobs", &table);
	owner = session_table_owner(table);
	GetUserIdAndSecContext(&caller, &context);
	args[2] = ObjectIdGetDatum(caller);
	args[3] = BoolGetDatum(may_know_all(caller, owner, NameStr(*DatumGetName(server))));
	level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(owner,
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	if (SPI_execute_with_args(session_name_table(query, name), lengthof(types), types, args, NULL,
							  true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not read the shares of a server");
	SetUserIdAndSecContext(caller, context);
	AtEOXact_GUC(false, level);
	for (i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(SPI_tuptable->tupdesc, i);

		values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &nulls[i]);
		if (!nulls[i])
			values[i] = SPI_datumTransfer(values[i], attribute->attbyval, attribute->attlen);
	}
	SPI_finish();
}

/* True if the role may see a job j. */
#define IS_SEEN "($4 OR pg_catalog.pg_has_role($3, j.owner::oid, 'USAGE'))"

/*
 * True if the role may know the tenant's weight: the tenant is the role, or
 * has a job that the role may see.
 */
#define KNOWS_WEIGHT \
	"($4 OR $2 = pg_catalog.pg_get_userbyid($3)::text" \
	"  OR EXISTS (SELECT FROM @ j WHERE j.state = 'queued' AND j.server = $1 AND j.tenant = $2 AND " IS_SEEN \
	")" \
	"  OR EXISTS (SELECT FROM @ j WHERE j.state = 'running' AND j.server = $1 AND j.tenant = $2 AND " IS_SEEN \
	"))"

#define WEIGHT \
	"CASE WHEN " KNOWS_WEIGHT " THEN coalesce((SELECT w.weight FROM genjob.tenant_weights w" \
	"  WHERE w.server = $1 AND w.tenant = $2), 1) END"

PG_FUNCTION_INFO_V1(genjob_tenant_weight);

/*
 * Returns the weight of a tenant at a server; null if the role may not know
 * it.
 */
Datum
genjob_tenant_weight(PG_FUNCTION_ARGS)
{
	Datum value;
	bool isnull;

	read_as_owner("SELECT " WEIGHT, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), &value, &isnull, 1);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}

PG_FUNCTION_INFO_V1(genjob_owner_weight);

/*
 * Returns the weight of an owner at a server; null if the role is not a member
 * of the owner and may not know all.
 */
Datum
genjob_owner_weight(PG_FUNCTION_ARGS)
{
	char *owner = psprintf("%u", PG_GETARG_OID(1));
	Datum value;
	bool isnull;

	read_as_owner("SELECT CASE WHEN $4 OR pg_catalog.pg_has_role($3, $2::oid, 'USAGE') THEN"
				  " coalesce((SELECT w.weight FROM genjob.owner_weights w"
				  "  WHERE w.server = $1 AND w.owner = $2::oid), 1) END FROM (SELECT 1) one",
				  PG_GETARG_DATUM(0), CStringGetTextDatum(owner), &value, &isnull, 1);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}

PG_FUNCTION_INFO_V1(genjob_ahead);

/*
 * Returns how many jobs would get their turns at a server before a new one of a tenant: those of the tenant, of the
 * other tenants of its owner, and of the other owners, as many as the shares allow.  The owner is the calling role,
 * unless the tenant has jobs of another owner that the role may see.
 */
Datum
genjob_ahead(PG_FUNCTION_ARGS)
{
	Datum value;
	bool isnull;

	read_as_owner("WITH due AS (SELECT q.owner::oid AS owner, q.tenant, pg_catalog.count(*) AS n FROM @ q"
				  "  WHERE q.state = 'queued' AND q.server = $1 AND q.run_at <= pg_catalog.now() GROUP BY 1, 2),"
				  " me AS (SELECT coalesce((SELECT j.owner FROM due j WHERE j.tenant = $2 AND " IS_SEEN
				  "  ORDER BY j.owner = $3 DESC, j.n DESC LIMIT 1), $3) AS owner),"
				  " mine AS (SELECT me.owner, coalesce(d.n, 0) AS n, coalesce((" WEIGHT
				  "), 1) AS weight"
				  "  FROM me LEFT JOIN due d ON d.owner = me.owner AND d.tenant = $2),"
				  " own AS (SELECT pg_catalog.min(m.n) + coalesce(pg_catalog.sum(CASE WHEN d.n > 0 THEN"
				  "   least(d.n, pg_catalog.ceil((m.n + 1) * coalesce(w.weight, 1) / m.weight)) END), 0) AS n"
				  "  FROM mine m LEFT JOIN due d ON d.owner = m.owner AND d.tenant <> $2"
				  "  LEFT JOIN genjob.tenant_weights w ON w.server = $1 AND w.tenant = d.tenant),"
				  " others AS (SELECT d.n, coalesce(w.weight, 1) AS weight"
				  "  FROM (SELECT d.owner, pg_catalog.sum(d.n) AS n FROM due d GROUP BY 1) d"
				  "  LEFT JOIN genjob.owner_weights w ON w.server = $1 AND w.owner = d.owner"
				  "  WHERE d.owner <> (SELECT owner FROM me))"
				  " SELECT (pg_catalog.min(o.n) + coalesce(pg_catalog.sum(least(d.n, pg_catalog.ceil((o.n + 1) * d.weight"
				  "   / coalesce(w.weight, 1)))), 0))::float8"
				  " FROM own o CROSS JOIN me LEFT JOIN others d ON true"
				  " LEFT JOIN genjob.owner_weights w ON w.server = $1 AND w.owner = me.owner",
				  PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), &value, &isnull, 1);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(value);
}

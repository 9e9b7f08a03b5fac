/*
 * stores.c
 *		Finds the server for "s3://bucket/key": a server with that bucket that
 *		the role may use.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_foreign_server.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "server/keytemplate.h"
#include "server/stores.h"

/*
 * Splits "s3://bucket/key", palloc'd; false if url is not of that form.
 */
bool
stores_split_url(const char *url, char **bucket, char **key)
{
	const char *slash;

	if (strncmp(url, "s3://", 5) != 0)
		return false;
	slash = strchr(url + 5, '/');
	if (slash == NULL || slash == url + 5 || slash[1] == '\0' || strlen(slash + 1) > KEY_MAX)
		return false;
	*bucket = pnstrdup(url + 5, slash - url - 5);
	*key = pstrdup(slash + 1);
	return true;
}

static bool
has_bucket(const Server *server, const char *bucket)
{
	return server->options.preset->is_store && strcmp(server->options.bucket, bucket) == 0;
}

/*
 * Returns the names of all foreign servers, sorted.
 */
List *
stores_list_servers(void)
{
	Relation relation = table_open(ForeignServerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(relation, ForeignServerNameIndexId, true, NULL, 0, NULL);
	List *names = NIL;
	HeapTuple tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		names =
			lappend(names, pstrdup(NameStr(((Form_pg_foreign_server) GETSTRUCT(tuple))->srvname)));
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return names;
}

static Server *
set_complaint(ServerComplaint *complaint, int sqlerrcode, char *message, char *hint)
{
	complaint->sqlerrcode = sqlerrcode;
	complaint->message = message;
	complaint->hint = hint;
	return NULL;
}

/*
 * True if both servers have the same bucket.  Anyone can create a server with
 * the same URL, so untrusted servers must also have the same owner.
 */
static bool
are_same(const Server *a, const Server *b, bool are_trusted)
{
	return strcmp(a->options.url, b->options.url) == 0 && (are_trusted || a->owner == b->owner);
}

/*
 * Returns the first server that has the bucket and that role may use, among
 * the servers that role trusts (is_trusted) or among all others; NULL: none.
 * *other is a second, different one, or NULL.
 */
static Server *
find_by_bucket(const char *bucket, Oid role, bool is_trusted, Server **other)
{
	ServerComplaint ignored;
	Server *found = NULL;
	ListCell *cell;

	*other = NULL;
	foreach(cell, stores_list_servers())
	{
		Server *server = server_get(lfirst(cell), &ignored);

		if (server == NULL || !has_bucket(server, bucket) ||
			server_is_trusted_by(server, role) != is_trusted ||
			!server_check_role(server, role, &ignored))
			continue;
		if (found == NULL)
			found = server;
		else if (!are_same(found, server, is_trusted))
			*other = server;
	}
	return found;
}

/*
 * Returns the server that has the bucket and that role may use, by name if
 * name is not NULL.  NULL and a complaint if there is none, or if two match.
 * Servers that role trusts come first (server_is_trusted_by()).  So nobody can
 * take over a bucket's name by creating a server and granting it to all.
 */
Server *
stores_find(const char *bucket, const char *name, Oid role, ServerComplaint *complaint)
{
	Server *found;
	Server *other;

	if (name != NULL)
	{
		found = server_get(name, complaint);
		if (found == NULL || !server_check_role(found, role, complaint))
			return NULL;
		return has_bucket(found, bucket)
				   ? found
				   : set_complaint(complaint, ERRCODE_WRONG_OBJECT_TYPE,
								   psprintf("server \"%s\" does not have the bucket \"%s\"", name,
											bucket),
								   "Name a server with api 's3' and that bucket.");
	}
	found = find_by_bucket(bucket, role, true, &other);
	if (found == NULL)
		found = find_by_bucket(bucket, role, false, &other);
	if (other != NULL)
		return set_complaint(complaint, ERRCODE_AMBIGUOUS_PARAMETER,
							 psprintf("servers \"%s\" and \"%s\" each have a bucket \"%s\"",
									  NameStr(found->name), NameStr(other->name), bucket),
							 "Name the server, or REVOKE USAGE on the other one.");
	if (found == NULL)
		return set_complaint(complaint, ERRCODE_UNDEFINED_OBJECT,
							 psprintf("no server that you may use has the bucket \"%s\"", bucket),
							 "CREATE SERVER ... OPTIONS (api 's3', bucket ...), GRANT USAGE on it, and CREATE USER MAPPING with the keys.");
	return found;
}

/*
 * Returns the store of that name, if it is the one that an output was sent to
 * and role may use it; else NULL.  Its option bucket may have changed since.
 */
static Server *
find_sent(const char *name, Oid intended, Oid role)
{
	ServerComplaint ignored;
	Server *server = server_get(name, &ignored);

	return server != NULL && server->oid == intended && server->options.preset->is_store &&
				   server_check_role(server, role, &ignored)
			   ? server
			   : NULL;
}

/*
 * As stores_find(), for an output of a job of owner.  intended is the server
 * to which the output was sent (InvalidOid: not known).  If another server has
 * its name now, ask that only if owner trusts it.  The server may have another
 * bucket now: call it with storeplace_bucket().
 */
Server *
stores_find_intended(const char *bucket, const char *name, Oid intended, Oid owner, Oid role,
					 ServerComplaint *complaint)
{
	Server *found = find_sent(name, intended, role);

	if (found != NULL)
		return found;
	found = stores_find(bucket, name, role, complaint);
	if (found == NULL || found->oid == intended || server_is_trusted_by(found, owner))
		return found;
	return set_complaint(complaint, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						 psprintf("server \"%s\" of role \"%s\" is not the one that the output was sent to",
								  NameStr(found->name), server_role_name(found->owner)),
						 "If this server has the object, UPDATE gen_outputs SET store_oid = (SELECT oid FROM pg_foreign_server WHERE srvname = store) WHERE (job_id, ordinal) = (..., ...).");
}

/*
 * Returns the object store for the outputs of a server's jobs that role owns;
 * valid until the transaction's end.  NULL and a complaint if it cannot be
 * used.  The server must have the option store.
 */
Server *
stores_of(const Server *server, Oid role, ServerComplaint *complaint)
{
	const char *name = server->options.store;
	Server *store = server_get(name, complaint);

	if (store == NULL && complaint->problem == SERVER_MISSING)
	{
		complaint->message =
			psprintf("server \"%s\", which the option store of server \"%s\" names, does not exist",
					 name, NameStr(server->name));
		complaint->hint =
			psprintf("Create it with CREATE SERVER %s FOREIGN DATA WRAPPER genjob OPTIONS (api 's3', url ..., bucket ...), or look in genjob.servers for the name that is meant.",
					 quote_identifier(name));
	}
	if (store == NULL)
		return NULL;
	if (!store->options.preset->is_store)
		return set_complaint(complaint, ERRCODE_WRONG_OBJECT_TYPE,
							 psprintf("server \"%s\", which the option store of server \"%s\" names, is not an object store",
									  name, NameStr(server->name)),
							 "Name one with api 's3'.");
	if (!server_may_stand_in(server, store))
		return set_complaint(complaint, ERRCODE_INSUFFICIENT_PRIVILEGE,
							 psprintf("server \"%s\", which the option store of server \"%s\" names, belongs to another role",
									  name, NameStr(server->name)),
							 psprintf("ALTER SERVER %s OWNER TO the owner of server \"%s\", or a superuser.",
									  quote_identifier(name), NameStr(server->name)));
	return server_check_role(store, role, complaint) ? store : NULL;
}

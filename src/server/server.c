/*
 * server.c
 *		A foreign server of the wrapper genjob, and what a role may do with
 *		it.  Only this file reads user mappings.
 *
 * Parsed options are kept until the catalogs change: then a syscache callback
 * increments the generation, and the next server_get() reads them again.
 * Secrets are never kept, but read for each call.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "server/server.h"
#include "server/validator.h"

/* A name, and the server that it had in that generation. */
typedef struct CacheEntry
{
	NameData name; /* key */
	uint64 generation;
	Server *server; /* NULL when there was a problem */
} CacheEntry;

static HTAB *cache = NULL;
static uint64 generation = 1;

static void
server_invalidate(Datum arg, int cacheid, uint32 hashvalue)
{
	generation++;
}

static void
cache_create(void)
{
	HASHCTL control = {.keysize = NAMEDATALEN, .entrysize = sizeof(CacheEntry)};

	control.hcxt = CacheMemoryContext;
	cache = hash_create("genjob servers", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(FOREIGNDATAWRAPPEROID, server_invalidate, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, server_invalidate, (Datum) 0);
}

/*
 * Returns a number that changes whenever a server, a wrapper or a user mapping
 * changes.
 */
uint64
server_generation(void)
{
	if (cache == NULL)
		cache_create();
	return generation;
}

static bool
set_complaint(ServerComplaint *complaint, ServerProblem problem, int sqlerrcode, char *message,
			  char *hint)
{
	complaint->problem = problem;
	complaint->sqlerrcode = sqlerrcode;
	complaint->message = message;
	complaint->hint = hint;
	return false;
}

static void
fill_backends(Server *server)
{
	int i;

	server->n_backends = list_length(server->options.urls);
	server->backends = palloc(server->n_backends * sizeof(ServerOptions));
	for (i = 0; i < server->n_backends; i++)
	{
		server->backends[i] = server->options;
		server->backends[i].url = list_nth(server->options.urls, i);
	}
}

/*
 * Returns the options for calling url; the options for the server's first
 * address if url is not one of its addresses.
 */
const ServerOptions *
server_backend(const Server *server, const char *url)
{
	int i;

	for (i = 0; i < server->n_backends; i++)
	{
		if (strcmp(server->backends[i].url, url) == 0)
			return &server->backends[i];
	}
	return &server->options;
}

/*
 * Parses the options of a server into a new object; raises the validator's
 * error if they are wrong.
 */
static void *
server_parse(const void *arg)
{
	const ForeignServer *catalog = arg;
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "genjob server", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Server *server = palloc0(sizeof(Server));

	server->oid = catalog->serverid;
	server->owner = catalog->owner;
	server->owner_is_superuser = superuser_arg(catalog->owner);
	namestrcpy(&server->name, catalog->servername);
	server->context = context;
	server->references = 1;
	options_parse_server(catalog->options, &server->options);
	server->options.defs = copyObject(catalog->options);
	fill_backends(server);
	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(context, CacheMemoryContext);
	return server;
}

static void *
mapping_parse(const void *defs)
{
	MappingOptions *secrets = palloc(sizeof(MappingOptions));

	options_parse_mapping((List *) defs, secrets);
	return secrets;
}

/*
 * Returns the result of a parser; NULL and a complaint if it raises an error.
 * Another version of genjob may have accepted options that the validator now
 * refuses: these must not fail other jobs in the transaction.  The parsers
 * touch only memory, so no subtransaction is needed.
 */
static void *
parse_guarded(void *(*parse)(const void *), const void *arg, const char *server_name,
			  ServerComplaint *complaint)
{
	MemoryContext caller = CurrentMemoryContext;
	void *volatile parsed = NULL;

	PG_TRY();
	{
		parsed = parse(arg);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		/* out of memory or the like: not the fault of the options */
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
			ReThrowError(error);
		set_complaint(complaint, SERVER_INVALID, error->sqlerrcode,
					  psprintf("server \"%s\" cannot be used: %s", server_name, error->message),
					  error->hint ? error->hint
								  : pstrdup("Fix it with ALTER SERVER or ALTER USER MAPPING."));
	}
	PG_END_TRY();
	return parsed;
}

static Server *
server_find(const char *name, ServerComplaint *complaint)
{
	ForeignServer *catalog = GetForeignServerByName(name, true);

	if (catalog == NULL)
	{
		set_complaint(complaint, SERVER_MISSING, ERRCODE_UNDEFINED_OBJECT,
					  psprintf("server \"%s\" does not exist", name),
					  psprintf("Create it with CREATE SERVER %s FOREIGN DATA WRAPPER genjob OPTIONS (api ..., url ...), or look in genjob.servers for the name that is meant.",
							   quote_identifier(name)));
		return NULL;
	}
	if (strcmp(GetForeignDataWrapper(catalog->fdwid)->fdwname, "genjob") != 0)
	{
		set_complaint(complaint, SERVER_FOREIGN, ERRCODE_WRONG_OBJECT_TYPE,
					  psprintf("server \"%s\" is not a GenAI server", name),
					  psprintf("It belongs to the foreign-data wrapper \"%s\"; a job needs a server of the wrapper genjob.",
							   GetForeignDataWrapper(catalog->fdwid)->fdwname));
		return NULL;
	}
	return parse_guarded(server_parse, catalog, name, complaint);
}

/*
 * Returns the server of that name, or NULL and a complaint.  Call it in a
 * transaction.  The result is valid until the transaction's end, or longer
 * after server_hold().
 */
Server *
server_get(const char *name, ServerComplaint *complaint)
{
	CacheEntry *entry;
	Server *server;
	uint64 started;
	bool found;

	if (cache == NULL)
		cache_create();
	entry = hash_search(cache, name, HASH_FIND, NULL);
	if (entry != NULL && entry->generation == generation)
		return entry->server;

	started = generation;
	server = server_find(name, complaint);
	if (server == NULL)
		return NULL;
	entry = hash_search(cache, name, HASH_ENTER, &found);
	if (found)
		server_release(entry->server);
	entry->server = server;
	entry->generation = started;
	return server;
}

/*
 * True if a foreign server has that OID.
 */
bool
server_exists(Oid server)
{
	return SearchSysCacheExists1(FOREIGNSERVEROID, ObjectIdGetDatum(server));
}

/*
 * Locks the row of a server so that this transaction can change it.  False if
 * another open transaction has changed or locked the row: a wait for that
 * could block the dispatcher for ever.
 */
static bool
lock_row(Oid server)
{
	Relation relation = table_open(ForeignServerRelationId, RowExclusiveLock);
	HeapTuple tuple = SearchSysCacheCopy1(FOREIGNSERVEROID, ObjectIdGetDatum(server));
	TM_Result result = TM_Deleted;
	TM_FailureData failure;
	Buffer buffer;

	if (HeapTupleIsValid(tuple))
	{
		result = heap_lock_tuple(relation, tuple, GetCurrentCommandId(true), LockTupleExclusive,
								 LockWaitSkip, false, &buffer, &failure);
		ReleaseBuffer(buffer);
		heap_freetuple(tuple);
	}
	table_close(relation, NoLock);
	return result == TM_Ok;
}

/*
 * Sets a server's option paused, with its owner's rights.  False if it is
 * already set, the server does not exist, or another transaction is changing
 * it: then the next job that gets the same answer tries again.
 */
bool
server_pause(const char *name)
{
	ForeignServer *catalog = GetForeignServerByName(name, true);
	AlterForeignServerStmt *statement = makeNode(AlterForeignServerStmt);
	ServerComplaint complaint;
	const Server *server = server_get(name, &complaint);
	const List *altered;
	bool is_given = false;
	ListCell *cell;
	Oid role;
	int context;

	if (catalog == NULL || server == NULL || server->options.paused || !lock_row(catalog->serverid))
		return false;
	foreach(cell, catalog->options)
		is_given |= strcmp(lfirst_node(DefElem, cell)->defname, "paused") == 0;
	statement->servername = pstrdup(name);
	statement->options = list_make1(makeDefElemExtended(NULL, "paused", (Node *) makeString("on"),
														is_given ? DEFELEM_SET : DEFELEM_ADD, -1));
	GetUserIdAndSecContext(&role, &context);
	SetUserIdAndSecContext(catalog->owner, context | SECURITY_LOCAL_USERID_CHANGE);
	altered = validator_note_altered(statement->options);
	PG_TRY();
	{
		(void) AlterForeignServer(statement);
	}
	PG_FINALLY();
	{
		(void) validator_note_altered(altered);
	}
	PG_END_TRY();
	SetUserIdAndSecContext(role, context);
	return true;
}

Server *
server_hold(Server *server)
{
	server->references++;
	return server;
}

void
server_release(Server *server)
{
	if (server != NULL && --server->references == 0)
		MemoryContextDelete(server->context);
}

/*
 * Finds the options of the mapping for role, or else for PUBLIC; false if
 * there is neither.  GetUserMapping() would raise an error instead.
 */
static bool
mapping_find(Oid server, Oid role, List **defs)
{
	Oid roles[] = {role, InvalidOid};
	int i;

	for (i = 0; i < lengthof(roles); i++)
	{
		HeapTuple tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(roles[i]),
										  ObjectIdGetDatum(server));
		Datum options;
		bool isnull;

		if (!HeapTupleIsValid(tuple))
			continue;
		options =
			SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
		*defs = isnull ? NIL : untransformRelOptions(options);
		ReleaseSysCache(tuple);
		return true;
	}
	return false;
}

static bool
has_option(const List *defs, const char *name)
{
	ListCell *cell;

	foreach(cell, defs)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	}
	return false;
}

/*
 * True if role has the secrets that calls to the server need; else a complaint.
 */
static bool
check_mapping(const Server *server, Oid role, const char *role_name, ServerComplaint *complaint)
{
	const char *name = NameStr(server->name);
	AuthKind auth = server->options.protocol.kind.auth;
	bool signs = auth == AUTH_SIGV4;
	List *defs = NIL;

	if (!signs && (!server->options.preset->needs_secret || auth == AUTH_NONE))
		return true;
	if (!mapping_find(server->oid, role, &defs))
		return set_complaint(complaint, SERVER_NO_MAPPING, ERRCODE_UNDEFINED_OBJECT,
							 psprintf("user mapping not found for user \"%s\", server \"%s\"",
									  role_name, name),
							 signs
								 ? psprintf("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (access_key_id '...', secret_access_key '...').",
											quote_identifier(role_name), quote_identifier(name))
								 : psprintf("CREATE USER MAPPING FOR %s SERVER %s OPTIONS (api_key '...'); or, for a server that asks for no key, ALTER SERVER %s OPTIONS (ADD auth 'none').",
											quote_identifier(role_name), quote_identifier(name),
											quote_identifier(name)));
	if (signs && !has_option(defs, "access_key_id"))
		return set_complaint(complaint, SERVER_NO_MAPPING, ERRCODE_FDW_OPTION_NAME_NOT_FOUND,
							 psprintf("the user mapping for user \"%s\", server \"%s\" has no access key",
									  role_name, name),
							 "The server signs its requests (auth 'sigv4'): ALTER USER MAPPING ... OPTIONS (ADD access_key_id '...', ADD secret_access_key '...').");
	return true;
}

/*
 * The name of a role, for messages; "?" if it was dropped.
 */
const char *
server_role_name(Oid role)
{
	const char *name = GetUserNameFromId(role, true);

	return name != NULL ? name : "?";
}

/*
 * True if role may send jobs to server and has what that takes; else a complaint.
 */
bool
server_check_role(const Server *server, Oid role, ServerComplaint *complaint)
{
	const char *name = NameStr(server->name);
	char *role_name = GetUserNameFromId(role, true);

	if (role_name == NULL)
		return set_complaint(complaint, SERVER_DENIED, ERRCODE_UNDEFINED_OBJECT,
							 psprintf("the role with OID %u, which owned this job, does not exist",
									  role),
							 "Insert the job again as another role.");
	if (!compat_may_use_server(server->oid, role))
		return set_complaint(complaint, SERVER_DENIED, ERRCODE_INSUFFICIENT_PRIVILEGE,
							 psprintf("permission denied for foreign server %s", name),
							 psprintf("GRANT USAGE ON FOREIGN SERVER %s TO %s.",
									  quote_identifier(name), quote_identifier(role_name)));
	if (!check_mapping(server, role, role_name, complaint))
		return false;
	pfree(role_name);
	return true;
}

/*
 * True if the jobs of role may go to this server although they were inserted
 * for another server of its name.  Everyone with USAGE on the wrapper can
 * create a server under a free name.
 */
bool
server_is_trusted_by(const Server *server, Oid role)
{
	return superuser_arg(server->owner) || has_privs_of_role(server->owner, role);
}

/*
 * True if server may run a job that was inserted for the server intended (InvalidOid: not known); else a complaint.
 */
bool
server_check_intended(const Server *server, Oid intended, Oid job_owner, Oid table_owner,
					  ServerComplaint *complaint)
{
	const char *name = NameStr(server->name);

	if (intended == server->oid || server_is_trusted_by(server, job_owner) ||
		server_is_trusted_by(server, table_owner))
		return true;
	return set_complaint(
		complaint, SERVER_OTHER, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		psprintf(OidIsValid(intended)
					 ? "server \"%s\" was dropped after this job was inserted, and role \"%s\" created another one with that name"
					 : "server \"%s\" was created by role \"%s\" after this job was inserted",
				 name, server_role_name(server->owner)),
		"To run the job there, UPDATE gen_jobs SET server = server, state = 'queued' WHERE id = ...; or insert the job again.");
}

/*
 * True if fallback may take the jobs of server.  Otherwise anyone could get
 * them by creating a server with the fallback's name.
 */
bool
server_may_stand_in(const Server *server, const Server *fallback)
{
	return fallback->owner == server->owner || server_is_trusted_by(fallback, server->owner);
}

static char *
copy_secret(const char *secret)
{
	return secret ? pstrdup(secret) : NULL;
}

/*
 * Reads the secrets with which role calls server, in the current memory context; all NULL without a mapping.  False,
 * with a complaint, if the mapping's options are wrong.
 */
bool
server_read_secrets(const Server *server, Oid role, MappingOptions *secrets,
					ServerComplaint *complaint)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext scratch = AllocSetContextCreate(caller, "genjob mapping", ALLOCSET_SMALL_SIZES);
	List *defs = NIL;
	MappingOptions *parsed;

	MemoryContextSwitchTo(scratch);
	(void) mapping_find(server->oid, role, &defs);
	parsed = parse_guarded(mapping_parse, defs, NameStr(server->name), complaint);
	MemoryContextSwitchTo(caller);
	if (parsed == NULL)
		return false; /* the complaint is in scratch */
	secrets->api_key = copy_secret(parsed->api_key);
	secrets->headers = copy_secret(parsed->headers);
	secrets->access_key_id = copy_secret(parsed->access_key_id);
	secrets->secret_access_key = copy_secret(parsed->secret_access_key);
	secrets->session_token = copy_secret(parsed->session_token);
	MemoryContextDelete(scratch);
	return true;
}

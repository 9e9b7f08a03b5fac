/*
 * compat.h
 *		What differs between the PostgreSQL versions that genjob is built for
 *		(15 to 18).
 *
 * The only file that looks at PG_VERSION_NUM.  Each name below means the same
 * on every version.  Code uses the newer spelling, and this file teaches it to
 * older servers.
 */
#ifndef GENJOB_COMPAT_H
#define GENJOB_COMPAT_H

#include "access/genam.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "common/base64.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "genjob needs PostgreSQL 15 or later"
#endif

/* PostgreSQL 16 moved what reads varlena headers out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18 says of a function that it does not return in another way. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn _Noreturn
#endif

/* Custom wait events came with 17; before, every extension waits as "Extension". */
#if PG_VERSION_NUM >= 170000
#define compat_wait_event(name) WaitEventExtensionNew(name)
#else
#define compat_wait_event(name) ((uint32) PG_WAIT_EXTENSION)
#endif

/* 17 ties a wait event set to a resource owner; a set that lives as long as the process has none. */
static inline WaitEventSet *
compat_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

static inline bool
compat_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

static inline bool
compat_owns_relation(Oid relation, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relation, role);
#else
	return pg_class_ownercheck(relation, role);
#endif
}

static inline bool
compat_owns_schema(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(NamespaceRelationId, schema, role);
#else
	return pg_namespace_ownercheck(schema, role);
#endif
}

static inline bool
compat_may_use_server(Oid server, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_foreign_server_aclcheck(server, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

static inline bool
compat_may_execute(Oid function, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
	return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

static inline bool
compat_may_use_schema(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

static inline bool
compat_may_connect(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, database, role, ACL_CONNECT) == ACLCHECK_OK;
#else
	return pg_database_aclcheck(database, role, ACL_CONNECT) == ACLCHECK_OK;
#endif
}

/* Returns the parts of a qualified name; raises an error if name is none. */
static inline List *
compat_name_list(const char *name)
{
#if PG_VERSION_NUM >= 160000
	return stringToQualifiedNameList(name, NULL);
#else
	return stringToQualifiedNameList(name);
#endif
}

/*
 * What a statement may do with a table: before 16 it stands in the table's
 * entry of the range table, since 16 in a list of its own.
 */
#if PG_VERSION_NUM >= 160000
typedef RTEPermissionInfo CompatPermissions;
#define COMPAT_CHECK_PERMISSIONS_PARAMETERS List *tables, List *permissions, bool complains
#define COMPAT_CHECK_PERMISSIONS_ARGUMENTS tables, permissions, complains
#define COMPAT_PERMISSIONS_LIST permissions
#else
typedef RangeTblEntry CompatPermissions;
#define COMPAT_CHECK_PERMISSIONS_PARAMETERS List *tables, bool complains
#define COMPAT_CHECK_PERMISSIONS_ARGUMENTS tables, complains
#define COMPAT_PERMISSIONS_LIST tables
#endif

/* Returns the sequence of an identity column, or InvalidOid. */
static inline Oid
compat_identity_sequence(Relation relation, AttrNumber column)
{
#if PG_VERSION_NUM >= 170000
	return getIdentitySequence(relation, column, true);
#else
	return getIdentitySequence(RelationGetRelid(relation), column, true);
#endif
}

/* Since 18 an index scan takes a struct in which it counts; NULL: none. */
static inline IndexScanDesc
compat_index_beginscan(Relation table, Relation index, Snapshot snapshot, int n_keys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(table, index, snapshot, NULL, n_keys, 0);
#else
	return index_beginscan(table, index, snapshot, n_keys, 0);
#endif
}

/*
 * Which indexes an update of a row must change.  Since 16: all, none, or only
 * summarizing ones.
 */
#if PG_VERSION_NUM >= 160000
typedef TU_UpdateIndexes CompatIndexes;
#else
typedef bool CompatIndexes;
#endif

/* Adds a row's new version to its indexes. */
static inline void
compat_insert_index_entries(ResultRelInfo *result, TupleTableSlot *slot, EState *estate,
							CompatIndexes indexes)
{
#if PG_VERSION_NUM >= 160000
	if (indexes != TU_None)
		list_free(ExecInsertIndexTuples(result, slot, estate, true, false, NULL, NIL,
										indexes == TU_Summarizing));
#else
	if (indexes)
		list_free(ExecInsertIndexTuples(result, slot, estate, true, false, NULL, NIL));
#endif
}

/* 18 counts bytes as uint8. */
static inline int
compat_b64_encode(const char *src, int len, char *dst, int dstlen)
{
#if PG_VERSION_NUM >= 180000
	return pg_b64_encode((const uint8 *) src, len, dst, dstlen);
#else
	return pg_b64_encode(src, len, dst, dstlen);
#endif
}

/* 18 shows an extension's name and version in pg_get_loaded_modules(). */
#if PG_VERSION_NUM >= 180000
#define COMPAT_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "genjob", .version = GENJOB_VERSION)
#else
#define COMPAT_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/* For qsort() and bsearch() of int64; PostgreSQL has one from 17 on. */
static inline int
compat_compare_int64(const void *a, const void *b)
{
	int64 left = *(const int64 *) a;
	int64 right = *(const int64 *) b;

	return (left > right) - (left < right);
}

#endif /* GENJOB_COMPAT_H */

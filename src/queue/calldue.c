/*
 * calldue.c
 *		The dispatcher's side of genjob.callbacks: which calls of on_done are
 *		due, and as which role.
 *
 * Processes connected as the jobs' owners make the calls (callback.c).  The
 * dispatcher first checks whether a role could connect, so that the role's
 * rows can say what is in the way.
 */
#include "postgres.h"

#include <limits.h>

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/settings.h"
#include "queue/calldue.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "queue/trouble.h"

#define MAX_ROLES 1000
#define FULL_RETRY_US (5 * USECS_PER_SEC)
#define LOCKED_RETRY_US USECS_PER_SEC

/* What keeps a role from connecting. */
typedef struct Obstacle
{
	char *words;
	bool passes;   /* it goes away by itself: do not count a failure */
	bool is_final; /* retries do not help */
} Obstacle;

/*
 * Returns the role's connection limit less its client sessions.  Background
 * workers do not count.
 */
static int
room_of(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	int most = -1;

	if (!HeapTupleIsValid(tuple))
		return 0;
	if (!((Form_pg_authid) GETSTRUCT(tuple))->rolsuper)
		most = ((Form_pg_authid) GETSTRUCT(tuple))->rolconnlimit;
	ReleaseSysCache(tuple);
	return most < 0 ? INT_MAX : most - CountUserBackends(role);
}

static bool
database_accepts_connections(void)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool accepts = HeapTupleIsValid(tuple) && ((Form_pg_database) GETSTRUCT(tuple))->datallowconn;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return accepts;
}

/*
 * Returns why a role cannot connect to this database; words NULL: it can.
 */
static Obstacle
find_obstacle(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	Form_pg_authid form;
	const char *name;
	bool can_login;

	if (!HeapTupleIsValid(tuple))
		return (
			Obstacle){psprintf("the role with OID %u, which owned the job, does not exist", role),
					  .is_final = true};
	form = (Form_pg_authid) GETSTRUCT(tuple);
	name = pstrdup(NameStr(form->rolname));
	can_login = form->rolcanlogin;
	ReleaseSysCache(tuple);
	if (!can_login)
		return (Obstacle){
			psprintf("role \"%s\" is not permitted to log in, and its functions are called by a process that is connected as that role: ALTER ROLE %s LOGIN",
					 name, quote_identifier(name))};
	if (!compat_may_connect(MyDatabaseId, role))
		return (Obstacle){
			psprintf("role \"%s\" may not connect to this database: GRANT CONNECT ON DATABASE %s TO %s",
					 name, quote_identifier(get_database_name(MyDatabaseId)),
					 quote_identifier(name))};
	if (!database_accepts_connections())
		return (
			Obstacle){psprintf("this database does not accept connections: ALTER DATABASE %s ALLOW_CONNECTIONS true",
							   quote_identifier(get_database_name(MyDatabaseId))),
					  .passes = true};
	if (room_of(role) <= 0)
		return (
			Obstacle){psprintf("role \"%s\" has as many connections as its CONNECTION LIMIT allows",
							   name),
					  .passes = true};
	return (Obstacle){NULL};
}

/*
 * Delays the role's due calls, and writes the obstacle into their rows.
 * Returns how many.  Calls whose rows are locked stay due.
 */
static uint64
block_calls(Oid role, const Obstacle *obstacle, TimestampTz now)
{
	Datum args[6] = {ObjectIdGetDatum(role),
					 CStringGetTextDatum(obstacle->words),
					 TimestampTzGetDatum(now),
					 Int32GetDatum(obstacle->is_final ? 0 : genjob_callback_attempts),
					 Int32GetDatum(obstacle->passes ? 0 : 1),
					 TimestampTzGetDatum(now + FULL_RETRY_US)};
	uint64 blocked = 0;
	uint64 n;

	while ((n = statement_run(BLOCK_CALLBACKS, args, NULL)) > 0)
	{
		blocked += n;
		CHECK_FOR_INTERRUPTS();
	}
	return blocked;
}

/*
 * Counts a failure for each due call of a role that cannot connect or lacks a
 * right.
 */
void
queue_block_callbacks(Oid role, const char *error, TimestampTz now)
{
	Obstacle obstacle = {pstrdup(error)};

	(void) block_calls(role, &obstacle, now);
}

/*
 * Counts a failure for a call whose process crashed.  If somebody has locked
 * the row, writes nothing and returns false.
 */
bool
queue_fail_callback(int64 callback, const char *error, TimestampTz now)
{
	Datum args[4] = {Int64GetDatum(callback), CStringGetTextDatum(error), TimestampTzGetDatum(now),
					 Int32GetDatum(genjob_callback_attempts)};

	statement_run(FAIL_CALLBACK, args, NULL);
	return !DatumGetBool(statement_not_null(0, 1));
}

/* ---------- a look at the table ---------- */

/* A role that is looked at. */
typedef struct Visit
{
	CallbackRole *role;
	TimestampTz now;
	uint64 blocked;   /* calls */
	bool is_obstacle; /* it cannot connect */
} Visit;

static void
visit_role(void *arg)
{
	Visit *self = arg;
	Obstacle obstacle = find_obstacle(self->role->role);

	if (obstacle.words == NULL)
		return;
	self->is_obstacle = true;
	self->blocked = block_calls(self->role->role, &obstacle, self->now);
}

/*
 * Delays the due calls of roles that cannot connect; returns how many.  Sets
 * due LOCKED_RETRY_US later for roles that cannot connect or whose rows raise
 * an error.
 */
static uint64
block_roles(CallbackRole *roles, int n, TimestampTz now)
{
	uint64 blocked = 0;
	int i;

	for (i = 0; i < n && roles[i].due <= now; i++)
	{
		Visit self = {&roles[i], now};
		ErrorData *error;
		bool succeeded = queue_guard(visit_role, &self, &error);

		if (!succeeded)
			trouble_show(TROUBLE_FOLLOW, error);
		if (!succeeded || self.is_obstacle)
			roles[i].due = now + LOCKED_RETRY_US;
		blocked += succeeded ? self.blocked : 0;
	}
	return blocked;
}

static int
compare_due(const void *a, const void *b)
{
	TimestampTz due_a = ((const CallbackRole *) a)->due;
	TimestampTz due_b = ((const CallbackRole *) b)->due;

	return (due_a > due_b) - (due_a < due_b);
}

static int
read_roles(CallbackRole **roles)
{
	Datum args[1] = {Int32GetDatum(MAX_ROLES)};
	uint64 rows = statement_run(FIND_CALLBACKS, args, NULL);
	uint64 row;

	*roles = SPI_palloc(Max(rows, 1) * sizeof(CallbackRole));
	for (row = 0; row < rows; row++)
	{
		(*roles)[row].role = DatumGetObjectId(statement_not_null(row, 1));
		(*roles)[row].due = DatumGetTimestampTz(statement_not_null(row, 2));
		(*roles)[row].room = room_of((*roles)[row].role);
	}
	return (int) rows;
}

/*
 * Lists the roles that have calls to make, now or later, sorted by due;
 * returns their number.  *roles is palloc'd in the caller's memory context.
 * Delays the calls of roles that cannot connect, and writes why into the rows.
 */
int
queue_find_callbacks(TimestampTz now, CallbackRole **roles)
{
	int n = read_roles(roles);

	/* delayed calls are due at another time now */
	while (block_roles(*roles, n, now) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		n = read_roles(roles);
	}
	qsort(*roles, n, sizeof(CallbackRole), compare_due);
	return n;
}

/*
 * leftout.c
 *		Reads the lanes that had no room in memory (schedule/crowd.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "queue/queue.h"
#include "queue/statement.h"
#include "schedule/schedule.h"

#define LEFT_OUT_LANES 500 /* lanes found by one statement */

static bool
is_in_crowd(const Crowd *crowd, uint64 row)
{
	return strcmp(statement_name(row, 1), crowd->server) == 0 &&
		   DatumGetObjectId(statement_not_null(row, 2)) == crowd->role;
}

/*
 * True if there is room now for lanes that were left out.
 */
bool
queue_must_read_left_out(void)
{
	return crowd_next() != NULL;
}

/*
 * Marks the next left-out lanes for reading.  Lanes in memory stay as they
 * are.
 */
void
queue_read_left_out(TimestampTz now)
{
	Crowd *crowd = crowd_next();
	Datum args[7];
	uint64 rows;
	uint64 row;

	if (crowd == NULL)
		return;
	args[0] = CStringGetTextDatum(crowd->server);
	args[1] = ObjectIdGetDatum(crowd->role);
	args[2] = CStringGetTextDatum(crowd->tenant ? crowd->tenant : "");
	args[3] = Int32GetDatum(crowd->tenant ? crowd->priority : PG_INT32_MIN);
	args[4] = Int32GetDatum(LEFT_OUT_LANES);
	args[5] = TimestampTzGetDatum(DT_NOBEGIN);
	args[6] = TimestampTzGetDatum(now);
	rows = statement_run(FIND_LANES, args, NULL);
	for (row = 0; row < rows && is_in_crowd(crowd, row); row++)
	{
		char *tenant = TextDatumGetCString(statement_not_null(row, 3));
		int priority = DatumGetInt32(statement_not_null(row, 4));

		if (!turns_read_left_out(crowd, tenant, priority,
								 DatumGetTimestampTz(statement_not_null(row, 5)),
								 DatumGetInt64(statement_not_null(row, 6))))
			return;
		crowd_passed(crowd, tenant, priority);
	}
	if (row < LEFT_OUT_LANES)
		crowd_round_ends(crowd);
}

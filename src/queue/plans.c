/*
 * plans.c
 *		Makes the planner treat genjob's tables as large, whatever their
 *		statistics say.
 *
 * Statistics of a queue are true for a moment.  Those of an empty queue make a
 * full scan of a partial index look cheaper than a lookup by key.  PostgreSQL
 * then keeps such a plan while a million jobs come in.  In a dispatcher, plans
 * depend only on the statements and the indexes.
 */
#include "postgres.h"

#include "nodes/pathnodes.h"
#include "optimizer/plancat.h"
#include "utils/selfuncs.h"

#include "queue/plans.h"

#define ASSUMED_ROWS 1e8
#define ASSUMED_PAGES 5000000
#define ASSUMED_INDEX_PAGES 500000
#define ASSUMED_INDEX_HEIGHT 3

static Oid tables[2];
static get_relation_info_hook_type next_relation_info_hook = NULL;
static get_relation_stats_hook_type next_relation_stats_hook = NULL;

static bool
is_known_table(Oid table)
{
	return OidIsValid(table) && (table == tables[0] || table == tables[1]);
}

static void
assume_size(PlannerInfo *root, Oid table, bool inhparent, RelOptInfo *rel)
{
	ListCell *cell;

	if (next_relation_info_hook != NULL)
		next_relation_info_hook(root, table, inhparent, rel);
	if (!is_known_table(table))
		return;
	rel->tuples = ASSUMED_ROWS;
	rel->pages = ASSUMED_PAGES;
	rel->allvisfrac = 0;
	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

		index->tuples = ASSUMED_ROWS;
		index->pages = ASSUMED_INDEX_PAGES;
		index->tree_height = ASSUMED_INDEX_HEIGHT;
	}
}

/*
 * Hides the statistics of columns: every state, server and time counts as equally frequent.
 */
static bool
assume_nothing(PlannerInfo *root, RangeTblEntry *entry, AttrNumber column, VariableStatData *found)
{
	if (entry->rtekind == RTE_RELATION && is_known_table(entry->relid))
	{
		found->statsTuple = NULL;
		return true;
	}
	return next_relation_stats_hook != NULL && next_relation_stats_hook(root, entry, column, found);
}

/*
 * Installs the planner hooks.  Call it once per process.
 */
void
plans_init(void)
{
	next_relation_info_hook = get_relation_info_hook;
	get_relation_info_hook = assume_size;
	next_relation_stats_hook = get_relation_stats_hook;
	get_relation_stats_hook = assume_nothing;
}

/*
 * Sets the tables for which statistics are hidden; they may be invalid.
 */
void
plans_set_tables(Oid jobs, Oid outputs)
{
	tables[0] = jobs;
	tables[1] = outputs;
}

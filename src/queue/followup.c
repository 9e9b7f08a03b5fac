/*
 * followup.c
 *		Does the follow-ups of jobs that have ended, in the dispatcher's
 *		transaction: notifications, hand-overs, rows of genjob.callbacks.
 *
 * No failure here may lose a result that the same transaction writes.  Inserts
 * that may raise an error run in a subtransaction.  If a hand-over fails
 * because of the job, its error says so; what may succeed later stays in
 * follow_up.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "queue/ended.h"
#include "queue/followup.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/tables.h"
#include "queue/trouble.h"

#define MAX_DEPTH 16 /* hand-overs in a row */

/* A job that has ended, and its follow-ups. */
typedef struct Ending
{
	int64 id;
	RowState state;
	const char *server;
	Oid server_oid; /* the server it was inserted for; InvalidOid: not known */
	Oid owner;
	int depth;
	int follow_ups;      /* bits of FollowUp */
	int left;            /* of these, to be done later */
	const char *channel; /* of FOLLOW_NOTIFY */
	const char *target;  /* of FOLLOW_HAND_OVER */
	const char *note;    /* for the job's error; or NULL */
} Ending;

static bool has_notified = false; /* in the present transaction */

void
followup_begin(void)
{
	has_notified = false;
	ended_is_handing_over = false;
}

bool
followup_has_notified(void)
{
	return has_notified;
}

/* ---------- what is to be done ---------- */

static const char *
target_option(const Ending *ending)
{
	return ending->state == ROW_SUCCEEDED ? "on_success" : "on_failure";
}

static void
note_missed_hand_over(Ending *ending, const char *message, const char *hint)
{
	ending->note =
		psprintf("%s: %s.%s%s", target_option(ending), message, hint ? " " : "", hint ? hint : "");
}

/*
 * True if the job may be handed over to its target; else notes why not.
 */
static bool
may_hand_over(Ending *ending, const Server *server)
{
	ServerComplaint complaint;
	const Server *target;

	if (strcmp(ending->target, ending->server) == 0)
	{
		note_missed_hand_over(ending, psprintf("server \"%s\" names itself", ending->server),
							  psprintf("ALTER SERVER %s OPTIONS (SET %s ...) to another server.",
									   quote_identifier(ending->server), target_option(ending)));
		return false;
	}
	if (ending->depth >= MAX_DEPTH)
	{
		note_missed_hand_over(ending,
							  psprintf("%d hand-overs led to this job, and the chain ends here",
									   MAX_DEPTH),
							  "Look for servers that hand jobs over in a cycle.");
		return false;
	}
	target = server_get(ending->target, &complaint);
	if (target != NULL && !server_may_stand_in(server, target))
	{
		note_missed_hand_over(ending,
							  psprintf("server \"%s\" belongs to another role than server \"%s\"",
									   ending->target, ending->server),
							  "Name a server that belongs to a superuser or to the same role.");
		return false;
	}
	if (target == NULL || !server_check_role(target, ending->owner, &complaint))
	{
		note_missed_hand_over(ending, complaint.message, complaint.hint);
		return false;
	}
	return true;
}

/*
 * Sets the follow-ups that the job and its server's options ask for, as far as
 * they are wanted.
 */
static void
plan_follow_ups(Ending *ending, bool has_on_done, int wanted)
{
	ServerComplaint complaint;
	const Server *server = server_get(ending->server, &complaint);

	ending->follow_ups = wanted & ended_follow_ups(ending->server, ending->state, has_on_done);
	if (server == NULL)
		return;
	/* another server of the same name has no say in the job's follow-ups */
	if (!server_check_intended(server, ending->server_oid, ending->owner, tables_owner(),
							   &complaint))
	{
		ending->follow_ups &= FOLLOW_ON_DONE;
		return;
	}
	ending->channel = server->options.notify;
	ending->target =
		ending->state == ROW_SUCCEEDED ? server->options.on_success : server->options.on_failure;
	if ((ending->follow_ups & FOLLOW_HAND_OVER) != 0 && !may_hand_over(ending, server))
		ending->follow_ups &= ~FOLLOW_HAND_OVER;
}

/*
 * Returns which follow-ups of a job are wanted; follow_ups NULL: all.
 */
static int
wanted_of(int64 id, const int64 *ids, const int *follow_ups, int n)
{
	int i;

	for (i = 0; i < n && follow_ups != NULL; i++)
	{
		if (ids[i] == id)
			return follow_ups[i];
	}
	return FOLLOW_ALL;
}

/*
 * Reads the jobs, which have ended, and sets *endings, palloc'd; returns their number.
 */
static int
read_endings(const int64 *ids, const int *follow_ups, int n, Ending **endings)
{
	Datum args[1] = {PointerGetDatum(statement_int8_array(ids, n))};
	int rows = (int) statement_run(FIND_ENDED, args, NULL);
	bool *has_on_done = palloc(Max(rows, 1) * sizeof(bool));
	bool isnull;
	int row;

	*endings = palloc0(Max(rows, 1) * sizeof(Ending));
	for (row = 0; row < rows; row++)
	{
		Ending *ending = &(*endings)[row];

		ending->id = DatumGetInt64(statement_not_null(row, 1));
		ending->state = rowstate_parse(TextDatumGetCString(statement_not_null(row, 2)));
		ending->server = pstrdup(statement_name(row, 3));
		ending->owner = DatumGetObjectId(statement_not_null(row, 4));
		ending->depth = DatumGetInt32(statement_not_null(row, 5));
		has_on_done[row] = DatumGetBool(statement_not_null(row, 6));
		ending->server_oid = DatumGetObjectId(statement_value(row, 7, &isnull));
		if (isnull)
			ending->server_oid = InvalidOid;
	}
	for (row = 0; row < rows; row++)
		plan_follow_ups(&(*endings)[row], has_on_done[row],
						wanted_of((*endings)[row].id, ids, follow_ups, n));
	return rows;
}

/* ---------- doing it ---------- */

/* Some of the endings, for one statement. */
typedef struct EndGroup
{
	int n;
	Ending **endings;
	StatementId statement;
} EndGroup;

static EndGroup
select_endings(Ending *endings, int n, FollowUp follow_up, StatementId statement)
{
	EndGroup group = {0, palloc(Max(n, 1) * sizeof(Ending *)), statement};
	int i;

	for (i = 0; i < n; i++)
	{
		if ((endings[i].follow_ups & follow_up) != 0)
			group.endings[group.n++] = &endings[i];
	}
	return group;
}

static Datum
group_ids(const EndGroup *group)
{
	int64 *ids = palloc(Max(group->n, 1) * sizeof(int64));
	int i;

	for (i = 0; i < group->n; i++)
		ids[i] = group->endings[i]->id;
	return PointerGetDatum(statement_int8_array(ids, group->n));
}

/*
 * Returns the array of texts that get() returns; null where it returns NULL.
 */
static Datum
group_texts(const EndGroup *group, const char *(*get)(const Ending *ending))
{
	Datum *texts = palloc(Max(group->n, 1) * sizeof(Datum));
	bool *nulls = palloc(Max(group->n, 1) * sizeof(bool));
	int dims[1] = {group->n};
	int bounds[1] = {1};
	int i;

	for (i = 0; i < group->n; i++)
	{
		const char *text = get(group->endings[i]);

		nulls[i] = text == NULL;
		texts[i] = text ? CStringGetTextDatum(text) : (Datum) 0;
	}
	return PointerGetDatum(
		construct_md_array(texts, nulls, 1, dims, bounds, TEXTOID, -1, false, TYPALIGN_INT));
}

static const char *
get_channel(const Ending *ending)
{
	return ending->channel;
}

static const char *
get_target(const Ending *ending)
{
	return ending->target;
}

static const char *
get_note(const Ending *ending)
{
	return ending->note;
}

/* Returns the value of follow_up for what is left, as text; NULL: nothing. */
static const char *
get_left(const Ending *ending)
{
	if (ending->left == 0)
		return NULL;
	return OidOutputFunctionCall(F_ARRAY_OUT, ended_words(ending->left));
}

/*
 * Notifies the channels; PostgreSQL sends the notifications at the commit.
 */
static void
notify_channels(Ending *endings, int n)
{
	EndGroup group = select_endings(endings, n, FOLLOW_NOTIFY, NOTIFY_ENDS);
	bool may_notify = group.n > 0 && ended_may_notify();
	Datum args[2];
	int i;

	for (i = 0; i < group.n && !may_notify; i++)
		group.endings[i]->left |= FOLLOW_NOTIFY;
	if (!may_notify)
		return;
	args[0] = group_ids(&group);
	args[1] = group_texts(&group, get_channel);
	has_notified = true;
	statement_run(NOTIFY_ENDS, args, NULL);
}

static void
insert_group(void *arg)
{
	const EndGroup *group = arg;
	Datum args[3] = {group_ids(group), TimestampTzGetDatum(clock_now()),
					 group_texts(group, get_target)};

	statement_run(group->statement, args, NULL);
}

/*
 * Inserts the rows of a group with one statement; if that raises an error, one
 * by one.  Calls failed() for each row that cannot be inserted.
 */
static void
insert_each(EndGroup *group, void (*failed)(Ending *ending, const ErrorData *error))
{
	ErrorData *error;
	int i;

	if (group->n == 0 || queue_guard(insert_group, group, &error))
		return;
	for (i = 0; i < group->n; i++)
	{
		EndGroup one = {1, &group->endings[i], group->statement};

		if (group->n == 1 || !queue_guard(insert_group, &one, &error))
			failed(group->endings[i], error);
	}
}

/*
 * Notes on the job an error that a row may have caused.  After any other
 * error, shows it and leaves the hand-over for later.
 */
static void
hand_over_failed(Ending *ending, const ErrorData *error)
{
	if (trouble_is_of_row(error))
		note_missed_hand_over(ending, error->message, error->hint);
	else
	{
		ending->left |= FOLLOW_HAND_OVER;
		trouble_show_job(TROUBLE_FOLLOW, ending->id, NULL, error);
	}
}

static void
refuse_hand_over(Ending *ending, const char *stranger)
{
	note_missed_hand_over(ending, psprintf("%s would run in the dispatcher", stranger),
						  "Give it to the owner of gen_jobs, or drop it.");
}

/*
 * Hands the jobs over to their targets.
 */
static void
hand_over(Ending *endings, int n)
{
	EndGroup group = select_endings(endings, n, FOLLOW_HAND_OVER, HAND_OVER);
	const char *stranger = group.n > 0 ? tables_find_insert_stranger() : NULL;
	int i;

	for (i = 0; i < group.n && stranger != NULL; i++)
		refuse_hand_over(group.endings[i], stranger);
	if (stranger != NULL)
		return;
	ended_is_handing_over = true;
	insert_each(&group, hand_over_failed);
	ended_is_handing_over = false;
}

static void
call_failed(Ending *ending, const ErrorData *error)
{
	ending->left |= FOLLOW_ON_DONE;
	trouble_show_job(TROUBLE_FOLLOW, ending->id, NULL, error);
}

/*
 * Adds rows of genjob.callbacks for the jobs' on_done.
 */
static void
add_callbacks(Ending *endings, int n)
{
	EndGroup group = select_endings(endings, n, FOLLOW_ON_DONE, ADD_CALLBACKS);

	insert_each(&group, call_failed);
}

/*
 * Writes notes on jobs, and what is left to do later; true if anything is
 * left.
 */
static bool
write_notes(Ending *endings, int n)
{
	EndGroup group = {0, palloc(Max(n, 1) * sizeof(Ending *)), NOTE_ENDS};
	Datum args[3];
	bool any_left = false;
	int i;

	for (i = 0; i < n; i++)
	{
		if (endings[i].note != NULL || endings[i].left != 0)
			group.endings[group.n++] = &endings[i];
		any_left |= endings[i].left != 0;
	}
	if (group.n == 0)
		return false;
	args[0] = group_ids(&group);
	args[1] = group_texts(&group, get_note);
	args[2] = group_texts(&group, get_left);
	statement_run(NOTE_ENDS, args, NULL);
	return any_left;
}

/*
 * Does the follow-ups of n jobs.  follow_ups has the bits of FollowUp for each
 * job; NULL: all.  True if something is left for later.
 */
bool
followup_write(const int64 *ids, const int *follow_ups, int n)
{
	Ending *endings;

	n = read_endings(ids, follow_ups, n, &endings);
	notify_channels(endings, n);
	hand_over(endings, n);
	add_callbacks(endings, n);
	return write_notes(endings, n);
}

/*
 * reasons.c
 *		Why and when the claimer looks at the tables.  One table answers both
 *		questions; asking changes nothing.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "process/reasons.h"
#include "process/retention.h"
#include "process/unstarted.h"
#include "queue/dependency.h"
#include "queue/ended.h"
#include "queue/queue.h"
#include "schedule/putoff.h"
#include "schedule/memoryline.h"
#include "schedule/schedule.h"
#include "shared/standby.h"

static const Claimer *const known = &claimer;

/* Why a claim transaction begins, or the dispatcher wakes up. */
typedef struct Reason
{
	const char *what;
	MonoTime (*comes)(
		MonoTime now);  /* returns since when it is there, or when it will be; 0: unknown */
	bool only_wakes;    /* leads to no claim transaction: the loop deals with it */
	bool has_no_tables; /* counts also if the extension has another version */
	bool is_in_memory;  /* counts also while the tables are in trouble */
} Reason;

static MonoTime
at_once_if(bool is_there, MonoTime now)
{
	return is_there ? now : 0;
}

static MonoTime
news_come(MonoTime now)
{
	return at_once_if(known->news.n_ids > 0 || known->news.bulk.since != DT_NOEND ||
						  known->news.recheck,
					  now);
}

static MonoTime
extension_changes(MonoTime now)
{
	return at_once_if(known->is_unknown, now);
}

static MonoTime
orphans_come(MonoTime now)
{
	return known->orphans_at == DT_NOEND ? 0 : Max(known->orphans_at, 1);
}

static MonoTime
cancels_come(MonoTime now)
{
	return at_once_if(queue_must_read_cancels(), now);
}

static MonoTime
scan_goes_on(MonoTime now)
{
	return at_once_if(known->scan_since != DT_NOEND || known->scanning, now);
}

static MonoTime
left_out_go_on(MonoTime now)
{
	return at_once_if(queue_must_read_left_out(), now);
}

static MonoTime
put_off_ends(MonoTime now)
{
	return putoff_next();
}

static MonoTime
memory_is_back(MonoTime now)
{
	return at_once_if(memoryline_has_room_again(now), now);
}

static MonoTime
run_at_comes(MonoTime now)
{
	return schedule_times.due != 0 ? clock_mono_at(schedule_times.due) : 0;
}

static MonoTime
calendar_is_set_back(MonoTime now)
{
	return at_once_if(known->set_back_from != 0 || clock_now() < known->due_read, now);
}

static MonoTime
unstarted_come(MonoTime now)
{
	return unstarted_next();
}

static MonoTime
room_is_there(MonoTime now)
{
	return at_once_if(schedule_can_take(claimer_room(), now), now);
}

static MonoTime
room_comes(MonoTime now)
{
	return schedule_next_change(now);
}

static MonoTime
forgotten_rows_come(MonoTime now)
{
	return schedule_times.rescan;
}

static MonoTime
rescan_comes(MonoTime now)
{
	return known->next_rescan;
}

static MonoTime
sweep_goes_on(MonoTime now)
{
	return queue_sweep_next();
}

static MonoTime
ends_are_followed(MonoTime now)
{
	return ended_next();
}

static MonoTime
dependencies_go_on(MonoTime now)
{
	return dependency_next();
}

static MonoTime
standby_is_looked_at(MonoTime now)
{
	return standby_has_all() ? 0 : now + STANDBY_LOOK_MS * INT64CONST(1000);
}

static MonoTime
retention_is_over(MonoTime now)
{
	return retention_next();
}

static MonoTime
saved_answers_go_on(MonoTime now)
{
	return at_once_if(known->has_more_to_start, now);
}

static const Reason reasons[] = {
	{"a commit reported jobs", news_come, .has_no_tables = true},
	{"the extension may have changed", extension_changes},
	{"an earlier dispatcher may have left jobs", orphans_come},
	{"predictions are to be cancelled", cancels_come},
	{"the queue is read again", scan_goes_on},
	{"there is room for lanes that were left out", left_out_go_on},
	{"jobs cannot be run", unstarted_come},
	{"jobs wait for others that have changed", dependencies_go_on},
	{"jobs were postponed until now", put_off_ends},
	{"there is memory for postponed jobs", memory_is_back},
	{"jobs are due", run_at_comes},
	{"the calendar was set back", calendar_is_set_back},
	{"there is room for jobs", room_is_there},
	{"there will be room for jobs", room_comes, .only_wakes = true},
	{"more rows were postponed than memory lists", forgotten_rows_come, .only_wakes = true},
	{"genjob.rescan_interval has passed", rescan_comes, .only_wakes = true, .has_no_tables = true},
	{"ended jobs have follow-ups left", ends_are_followed, .only_wakes = true},
	{"ended jobs were kept long enough", retention_is_over, .only_wakes = true},
	{"the queue is swept", sweep_goes_on, .only_wakes = true},
	{"genjob waits for a standby", standby_is_looked_at, .only_wakes = true, .has_no_tables = true},
	{"saved answers are read", saved_answers_go_on, .only_wakes = true, .has_no_tables = true,
	 .is_in_memory = true},
};

/*
 * Returns the reason for a claim transaction now, in words; NULL: there is none.  While the tables are in trouble there
 * is none.
 */
const char *
reasons_find(MonoTime now)
{
	int i;

	if (known->trouble_until > now)
		return NULL;
	for (i = 0; i < lengthof(reasons); i++)
	{
		const Reason *reason = &reasons[i];
		MonoTime comes;

		if (reason->only_wakes ||
			(known->presence == QUEUE_OTHER_VERSION && !reason->has_no_tables))
			continue;
		comes = reason->comes(now);
		if (comes != 0 && comes <= now)
			return reason->what;
	}
	return NULL;
}

/*
 * Returns when to look at the queue next, unless something is reported before; 0: never.
 */
MonoTime
reasons_next(MonoTime now)
{
	bool is_troubled = known->trouble_until > now;
	MonoTime next = is_troubled ? known->trouble_until : 0;
	int i;

	for (i = 0; i < lengthof(reasons) && (next == 0 || next > now); i++)
	{
		MonoTime comes;

		if ((known->presence == QUEUE_OTHER_VERSION && !reasons[i].has_no_tables) ||
			(is_troubled && !reasons[i].is_in_memory))
			continue;
		comes = reasons[i].comes(now);
		if (comes != 0)
			schedule_note_time(&next, comes);
	}
	return next;
}

/*
 * standby.c
 *		Synchronous standbys: checks if they have what a dispatcher has
 *		committed.
 *
 * A commit waits for a synchronous standby, for ever if the standby is away.
 * A dispatcher that waited for so long would read no answer, obey no cancel
 * and write nothing.  So it waits one second, by the timer of
 * queue_transact().  Until the standby has caught up, the dispatcher commits
 * locally: it reads, writes and reports answers, and obeys cancels.  But it
 * begins no call: after a failover to a standby that does not know the claim,
 * the call would be made a second time, under another Idempotency-Key.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/guc.h"

#include "shared/standby.h"

static volatile sig_atomic_t was_cut = false;    /* the timer ended the present commit's wait */
static bool is_away = false;                     /* as far as is known */
static XLogRecPtr committed = InvalidXLogRecPtr; /* what the standbys must have, while is_away */

/*
 * Ends a commit's wait for a standby.  The transaction is already committed
 * here.  A timer calls it.
 */
void
standby_end_wait(void)
{
	if (MyProc->syncRepState != SYNC_REP_WAITING)
		return;
	was_cut = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

/*
 * Notes that a transaction begins.  It will not wait for a standby that is
 * away.
 */
void
standby_begin(void)
{
	was_cut = false;
	if (!standby_has_all())
		set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_LOCAL, true, 0, false);
}

/*
 * Notes that the transaction has committed.
 */
void
standby_committed(void)
{
	if (was_cut)
	{
		QueryCancelPending = false;
		is_away = true;
	}
	was_cut = false;
	committed = XactLastCommitEnd;
}

/*
 * True if the standbys have all that was committed, or there are no
 * synchronous standbys.
 */
bool
standby_has_all(void)
{
	bool has_all;

	if (!is_away)
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	has_all = committed <= WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH];
	LWLockRelease(SyncRepLock);
	if (has_all || SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0')
		is_away = false;
	return !is_away;
}

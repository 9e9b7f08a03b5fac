/*
 * settle.c
 *		Waits until the catalog caches show what a snapshot shows.
 *
 * Other processes see the rows of a transaction as soon as it has committed.
 * They get its invalidations a moment later, before it releases its locks.  In
 * between, they see a job, but not the server, the privilege or the user
 * mapping of the same transaction.
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/inval.h"

#include "shared/settle.h"

/*
 * Updates the caches: they then show at least all that an earlier snapshot
 * shows.  Call it in a transaction.  Rarely waits, for another process to
 * finish its commit; may raise an error, as any lock.
 */
void
settle_caches(void)
{
	LockData *locks = GetLockStatusData();
	int i;

	for (i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];
		TransactionId xid = lock->locktag.locktag_field1;

		if (lock->locktag.locktag_type == LOCKTAG_TRANSACTION && TransactionIdIsNormal(xid) &&
			!TransactionIdIsInProgress(xid))
			XactLockTableWait(xid, NULL, NULL, XLTW_None);
	}
	AcceptInvalidationMessages();
}

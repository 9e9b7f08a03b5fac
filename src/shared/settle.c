/*
 * settle.c
 *		Waiting until the caches show what a snapshot shows.
 *
 * Others see the rows of a transaction as soon as it has committed, and get its invalidations a moment later; before its
 * locks are released.  In between, a job can be seen and the server, the right or the user mapping that was made
 * together with it cannot.
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/inval.h"

#include "shared/settle.h"

/*
 * Has the caches show at least what all transactions did that a snapshot taken before shows.  Rarely waits, and then
 * for another process to end its commit; may raise an error, as any lock.  In a transaction.
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

/*
 * rowuploads.c
 *		Uploads that the row of a job still names when the job ends.
 *
 * Others may write the row, and the store's options may have changed since.
 * So an upload is aborted where the row says if genjob has proven that.  A
 * look for the job's uploads (leftover.c) finds others; an administrator must
 * abort the rest.
 */
#include "postgres.h"

#include "base/trace.h"
#include "life/leftover.h"
#include "life/rowuploads.h"
#include "life/store.h"
#include "protocol/openupload.h"
#include "server/keytemplate.h"

/*
 * Says that an upload stays open.
 */
void
rowuploads_log_left(int64 job, const char *key, const char *id, const StorePlace *at)
{
	ereport(LOG, (errmsg("genjob cannot abort an upload of job " INT64_FORMAT, job),
				  errhint("Abort it in the store: s3://%s/%s (upload %s).",
						  at->bucket ? at->bucket : "...", trace_name(key), trace_name(id))));
}

/*
 * True if a look for the uploads of a job finds this one.
 */
static bool
may_be_found(const JobStore *store, const OpenUpload *open, const KeyWords *words)
{
	return storeplace_is_of(&open->at, store->server) &&
		   keytemplate_may_be(store->server->options.key, open->key, words);
}

/*
 * Aborts those uploads that the job's row names and that have a proof.  Logs
 * those that nobody can abort.  words: of the job, if a look for its uploads
 * follows; else NULL.
 */
void
rowuploads_abort(const Job *job, const KeyWords *words)
{
	const JobStore *store = job->store;
	bool is_usable = store != NULL && store->server != NULL;
	ListCell *cell;

	foreach(cell, openupload_list(job->remote.uploads))
	{
		const OpenUpload *open = lfirst(cell);

		if (is_usable && openupload_is_proven(job->remote.uploads, open->ordinal,
											  store->secrets.secret_access_key))
			leftover_add(job, open->key, open->id, &open->at);
		else if (!is_usable || words == NULL || !may_be_found(store, open, words))
			rowuploads_log_left(job->id, open->key, open->id, &open->at);
	}
}

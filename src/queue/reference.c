/*
 * reference.c
 *		Reads the outputs of other jobs that a job's request refers to.
 *
 * A job sees the jobs that its owner sees under row-level security: those of
 * the roles that the owner is a member of.
 */
#include "postgres.h"

#include <time.h>

#include "access/detoast.h"
#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "base/clip.h"
#include "base/guard.h"
#include "base/jsonb.h"
#include "base/memory.h"
#include "queue/jobrow.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "life/calls.h"
#include "life/fetch.h"
#include "protocol/building.h"
#include "protocol/link.h"
#include "server/keytemplate.h"
#include "server/storeplace.h"
#include "server/stores.h"

#define MAX_SHOWN 200                 /* bytes of a URL in an error */
#define MAX_BYTES (512 * 1024 * 1024) /* of all outputs that a request refers to */

/*
 * Lists what the request of a claimed job refers to, in the current memory context.  An error in the request is
 * reported when it is built, so that one row's error does not end the transaction of many.
 */
static void
list_references(Job *job)
{
	RequestSource source = calls_request_source(job);
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		if (request_may_refer(&source))
			job->submission.references =
				request_list_references(&source, &job->submission.n_references);
	}
	PG_CATCH();
	{
		(void) guard_take_error(context);
	}
	PG_END_TRY();
}

static size_t
bytes_read(const Job *job)
{
	size_t bytes = 0;
	int i;

	for (i = 0; i < job->submission.n_references; i++)
		bytes += job->submission.references[i].len;
	return bytes;
}

/*
 * Returns the bytes of memory that the job takes with an output of that size.
 */
static size_t
wanted_for(const Job *job, size_t len)
{
	size_t now =
		job->submission.share ? job->submission.share->bytes : memory_body_size(0, bytes_read(job));

	return now + memory_body_size(0, len);
}

/*
 * Reserves memory for an output that the job reads.  False if there is no room.
 */
static bool
hold_output(Job *job, size_t len)
{
	if (!memory_may_read(memory_body_size(0, len), job->submission.share))
		return false;
	memory_hold(&job->submission.share, job->submission.context, MEMORY_REQUESTS,
				&job->queue->requests, wanted_for(job, len));
	return true;
}

/* The store that an output of a job of owner went to; no name: any store. */
typedef struct OutputStore
{
	char *name; /* or NULL */
	Oid intended;
	Oid owner;
} OutputStore;

static Server *
find_store(const char *bucket, const OutputStore *store, Oid owner, MappingOptions *secrets,
		   ServerComplaint *complaint)
{
	Server *server = store->name ? stores_find_intended(bucket, store->name, store->intended,
														store->owner, owner, complaint)
								 : stores_find(bucket, NULL, owner, complaint);

	return server != NULL && server_read_secrets(server, owner, secrets, complaint) ? server : NULL;
}

/*
 * Notes a secret of a link for as long as the job lives, but not twice at the
 * place n of the list: where that of the first store is.
 */
static void
note_secret(Job *job, const char *secret, int n)
{
	MemoryContext caller;

	if (secret == NULL ||
		(n < list_length(job->link_secrets) && strcmp(list_nth(job->link_secrets, n), secret) == 0))
		return;
	caller = MemoryContextSwitchTo(job->context);
	job->link_secrets = lappend(job->link_secrets, pstrdup(secret));
	MemoryContextSwitchTo(caller);
}

/*
 * Makes a link to an object of a server.  It must outlast the job's attempt.
 */
static void
make_link(Job *job, Reference *reference, const Server *server, const MappingOptions *secrets,
		  const char *bucket, const char *key)
{
	int64 seconds = job->options->timeout / 1000 + SECS_PER_HOUR;
	RequestSource source = {.options = storeplace_bucket(&server->options, bucket),
							.secrets = secrets,
							.now_unix = time(NULL)};
	char *signature;

	reference->link = link_to_read(&source, key, (int) Min(seconds, SIGV4_MAX_EXPIRY), &signature);
	/* not the access key: outputs may be links that others have made with it */
	note_secret(job, secrets->session_token, 0);
	note_secret(job, signature, INT_MAX);
}

/*
 * Makes a link to an object in a store, or plans to fetch it, or both, with
 * the keys of the job's owner.
 */
static void
link_stored_object(Job *job, Reference *reference, const OutputStore *store)
{
	MappingOptions secrets = {NULL};
	ServerComplaint complaint;
	Server *server;
	char *bucket;
	char *shown;
	char *key;

	MemoryContextSwitchTo(job->submission.context);
	shown = clip_line(reference->url, strlen(reference->url), MAX_SHOWN);
	if (!stores_split_url(reference->url, &bucket, &key))
	{
		job->complaint =
			psprintf("the request refers to \"%s\", which is not the URL of an object. Write {\"$url\": \"s3://bucket/key\"}, with a key of at most %d bytes.",
					 shown, KEY_MAX);
		return;
	}
	if (reference->wants_link && !link_is_possible(key))
	{
		job->complaint =
			psprintf("no link leads to %s, because clients take \".\" and \"..\" out of a path. Give its bytes: {\"$output\": \"s3://bucket/key\"}.",
					 shown);
		return;
	}
	server = find_store(bucket, store, job->owner, &secrets, &complaint);
	if (server == NULL && jobrow_settle())
		server = find_store(bucket, store, job->owner, &secrets, &complaint);
	if (server == NULL)
	{
		job->complaint = psprintf(reference->wants_link ? "no link to %s can be made: %s. %s"
														: "%s cannot be fetched: %s. %s",
								  shown, complaint.message, complaint.hint);
		return;
	}
	if (reference->wants_link)
		make_link(job, reference, server, &secrets, bucket, key);
	if (reference->wants_data)
		fetch_add(job, reference, server, &secrets, bucket, key);
}

/*
 * Takes the URL of an output that is in an object store; false if it is in the table.
 */
static bool
take_url(Job *job, Reference *reference)
{
	bool in_table;
	bool no_store;
	bool no_oid;
	Datum url = statement_value(0, 5, &in_table);
	Datum name = statement_value(0, 6, &no_store);
	Datum oid = statement_value(0, 7, &no_oid);
	OutputStore store = {0};

	if (in_table)
		return false;
	reference->url = TextDatumGetCString(url);
	store.name = no_store ? NULL : TextDatumGetCString(name);
	store.intended = no_oid ? InvalidOid : DatumGetObjectId(oid);
	store.owner = DatumGetObjectId(statement_not_null(0, 1));
	link_stored_object(job, reference, &store);
	return true;
}

/*
 * Keeps a result as text, and frees the rest: a request may refer to a thousand of them.
 */
static void
take_result(Reference *reference, Datum stored)
{
	Jsonb *result = DatumGetJsonbP(stored);
	char *text = jsonb_print_utf8((struct varlena *) result);

	reference->len = strlen(text);
	reference->data = repalloc(text, reference->len + 1);
	if ((Pointer) result != DatumGetPointer(stored))
		pfree(result);
}

/*
 * Keeps the output's data.  All outputs of a request may have MAX_BYTES.
 */
static void
take_output(Job *job, Reference *reference)
{
	bool isnull;
	Datum type = statement_value(0, 3, &isnull);
	Datum stored;
	bytea *data;

	if (isnull)
		return;
	reference->content_type = TextDatumGetCString(type);
	if (take_url(job, reference))
		return;
	stored = statement_value(0, 4, &isnull);
	if (isnull)
		return; /* it has no result */
	if (bytes_read(job) + toast_raw_datum_size(stored) > MAX_BYTES)
	{
		job->complaint =
			psprintf("the outputs that the request refers to are larger than %d MB together. Split the request into several jobs.",
					 MAX_BYTES / (1024 * 1024));
		return;
	}
	if (!hold_output(job, toast_raw_datum_size(stored)))
	{
		job->waits_for = pstrdup(MEMORY_IS_FULL);
		job->wants_memory = wanted_for(job, toast_raw_datum_size(stored));
		return;
	}
	if (reference->ordinal == 0)
	{
		take_result(reference, stored);
		return;
	}
	data = DatumGetByteaPCopy(stored);
	reference->data = VARDATA_ANY(data);
	reference->len = VARSIZE_ANY_EXHDR(data);
}

static char *
describe_reference(const Reference *reference)
{
	return reference->ordinal == 0 ? "result" : psprintf("output %d", reference->ordinal);
}

/*
 * Handles the row of a job that the request refers to: its owner, whether it
 * has ended, and the output.
 */
static void
take_referred_job(Job *job, Reference *reference)
{
	/* SPI has switched to a memory context of its own */
	MemoryContextSwitchTo(job->submission.context);
	if (!has_privs_of_role(job->owner, DatumGetObjectId(statement_not_null(0, 1))))
		return;
	if (DatumGetBool(statement_not_null(0, 2)))
		take_output(job, reference);
	else
		job->waits_for =
			psprintf("job " INT64_FORMAT ", to whose %s the request refers, has not ended yet. "
					 "Wait, or cancel this job.",
					 reference->job, describe_reference(reference));
}

/*
 * Reads an output that the job refers to.  It stays without data if the job's
 * owner sees none.
 */
static void
read_reference(Job *job, Reference *reference)
{
	Datum args[2] = {Int64GetDatum(reference->job), Int32GetDatum(reference->ordinal)};
	const OutputStore any = {0};

	if (reference->job == 0)
	{
		link_stored_object(job, reference, &any);
		return;
	}
	/* a job would wait for its own output for ever */
	if (reference->job == job->id ||
		statement_run(reference->ordinal == 0 ? READ_RESULT : READ_OUTPUT, args, NULL) == 0)
		return;
	take_referred_job(job, reference);
	SPI_freetuptable(SPI_tuptable);
}

/* The argument of read_work(). */
typedef struct ReferenceReading
{
	Job *job;
	Reference *reference;
} ReferenceReading;

static void
read_work(void *arg)
{
	ReferenceReading *reading = arg;

	read_reference(reading->job, reading->reference);
}

/*
 * Like read_reference().  A reference that cannot be read fails this job, or
 * postpones it if the error may pass.  It affects no other job of the claim.
 */
static void
read_guarded(Job *job, Reference *reference)
{
	ReferenceReading reading = {job, reference};
	ErrorData *error;
	char *words;
	int category;

	if (queue_guard(read_work, &reading, &error))
		return;
	words =
		psprintf("%s of job " INT64_FORMAT
				 ", to which the request refers, cannot be read: %s. Refer to another output or result.",
				 describe_reference(reference), reference->job, error->message);
	category = ERRCODE_TO_CATEGORY(error->sqlerrcode);
	if (category == ERRCODE_INTERNAL_ERROR || category == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		job->complaint = words;
	else
		job->waits_for = words;
}

/*
 * Notes the bucket of an object that a job (arg) deletes, if the store's
 * server had that bucket when it got the object as an output that the job's
 * owner may see.
 */
static void
read_sent_work(void *arg)
{
	Job *job = arg;
	RequestSource source = calls_request_source(job);
	char *url = s3_past_object(&source);
	Datum args[2];
	char *bucket;
	char *key;
	uint64 rows;
	uint64 row;

	if (url == NULL || !stores_split_url(url, &bucket, &key))
		return;
	args[0] = CStringGetTextDatum(pg_any_to_server(url, (int) strlen(url), PG_UTF8));
	args[1] = ObjectIdGetDatum(job->server->oid);
	rows = statement_run(FIND_SENT, args, NULL);
	for (row = 0; row < rows; row++)
	{
		if (has_privs_of_role(job->owner, DatumGetObjectId(statement_not_null(row, 1))))
			job->submission.sent_bucket = bucket;
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
read_sent_bucket(Job *job)
{
	ErrorData *error;

	/* without the bucket, the job fails and says why */
	if (job->server->options.preset->is_store)
		(void) queue_guard(read_sent_work, job, &error);
	MemoryContextSwitchTo(job->submission.context);
}

/*
 * Reads what a claimed job refers to; stops if the job cannot be sent (yet).
 */
void
queue_read_references(Job *job)
{
	MemoryContext caller;
	int i;

	if (job->server == NULL || job->request == NULL || job->complaint != NULL ||
		job->waits_for != NULL)
		return;
	caller = MemoryContextSwitchTo(job->submission.context);
	read_sent_bucket(job);
	list_references(job);
	for (i = 0;
		 i < job->submission.n_references && job->waits_for == NULL && job->complaint == NULL; i++)
		read_guarded(job, &job->submission.references[i]);
	MemoryContextSwitchTo(caller);
}

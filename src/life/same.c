/*
 * same.c
 *		Gives a call that is repeated under its Idempotency-Key the same body.
 *
 * A server that honours the key refuses another body under it, or repeats its
 * first answer.  The row has the request and the inputs, and loses the key
 * when they change.  But the server's options may change, and so may outputs
 * of other jobs that the request refers to.  So for each call whose end is not
 * known, genjob.sent keeps what the options put into the body, and the body's
 * digest (queue/sent.c).  The next attempt builds the body from those options.
 * If the digest then differs, the body cannot be built again, and the next
 * call gets a new key.
 *
 * A crash leaves no time to note anything.  Then the key itself tells whether
 * the options have changed since its claim (queue/claim.c).
 */
#include "postgres.h"

#include "utils/uuid.h"
#include "utils/fmgrprotos.h"

#include "base/digest.h"
#include "life/same.h"
#include "schedule/schedule.h"
#include "server/shape.h"

#define DIGESTED (4 * 1024 * 1024) /* bytes at each end of a body that go into its digest */

#define CHANGED \
	"this job's request has changed since an earlier call with unknown outcome (the server's options, or an " \
	"output that it refers to), so the same body cannot be sent again."

static const char *
server_name(const Job *job)
{
	return NameStr(job->queue->name);
}

static char *
digest_of(const HttpRequest *http)
{
	size_t len = http->body_len;
	size_t n = Min(len, DIGESTED);
	char *text;

	if (len <= 2 * DIGESTED)
		return digest_sha256_hex(http->body, len);
	text = psprintf("%zu %s %s", len, digest_sha256_hex(http->body, n),
					digest_sha256_hex(http->body + len - n, n));
	return digest_sha256_hex(text, strlen(text));
}

/*
 * True if the request has links or a hand-over token.  These differ each time,
 * so the digest of the body cannot be compared.
 */
static bool
has_links(const RequestSource *source)
{
	int i;

	for (i = 0; i < source->n_references; i++)
	{
		if (source->references[i].link != NULL)
			return true;
	}
	return false;
}

/*
 * Makes *source build the same body as the earlier call under the job's key,
 * if that call is known.  Returns false if it cannot.  *sha256: the digest
 * that the body must have; NULL: any.
 */
bool
same_begin(Job *job, RequestSource *source, char **sha256)
{
	*sha256 = NULL;
	job->body_varies = source->options->preset->is_store || has_links(source) ||
					   options_hands_over(source->options);
	if (job->sent == NULL || !job->key_is_kept)
		return true;
	source->options = shape_apply(job->sent, server_name(job), source->options, sha256);
	return source->options != NULL;
}

bool
same_is(const Job *job, const HttpRequest *http, const char *sha256)
{
	return sha256 == NULL || job->body_varies || strcmp(sha256, digest_of(http)) == 0;
}

/*
 * Decides by the option on_unknown about a job whose body cannot be sent again.  Its next call gets a new key in any
 * case.
 */
Next
same_give_up(Job *job)
{
	bool fails = job->options->on_unknown == ON_UNKNOWN_FAIL;
	Verdict *verdict = palloc0(sizeof(Verdict));

	job->key_is_kept = false;
	verdict->progress = -1;
	verdict->kind = fails ? VERDICT_FAIL : VERDICT_POSTPONE;
	verdict->error =
		psprintf("%s %s", CHANGED,
				 fails
					 ? "Check at the provider whether that call was accepted; if not, genjob.retry() sends a new one."
					 : "genjob sends a new call; you may pay for both.");
	return next_verdict(verdict);
}

/*
 * Keeps what the call was built from, because its end is not known.
 */
void
same_note(Job *job, const HttpRequest *http)
{
	char *text;

	if (job->sent != NULL || job->options == NULL || job->options->preset->is_store)
		return;
	text = shape_print(server_name(job), job->options, job->body_varies ? NULL : digest_of(http));
	job->sent = MemoryContextStrdup(job->context, text);
}

/*
 * Reads what the key of a call says about the options at its claim; false if it says nothing.
 */
static bool
read_key(const char *key, uint32 *digest)
{
	pg_uuid_t *uuid;

	if (key == NULL)
		return false;
	uuid = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(key)));
	memcpy(digest, &uuid->data[UUID_LEN - sizeof(uint32)], sizeof(uint32));
	return uuid->data[6] >> 4 == 8;
}

/*
 * Like same_note(), for a call that the end of genjob cut short.  Returns
 * false if the options have changed since, so that nobody knows what it was
 * built from.
 */
bool
same_take_up(Job *job)
{
	uint32 digest;

	if (job->sent != NULL || job->options == NULL || job->options->preset->is_store ||
		!read_key(job->idempotency_key, &digest))
		return true;
	if (digest != shape_digest(server_name(job), job->options))
		return false;
	job->sent =
		MemoryContextStrdup(job->context, shape_print(server_name(job), job->options, NULL));
	return true;
}

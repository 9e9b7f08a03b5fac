/*
 * status.c
 *		What an HTTP status says, at each step of a job: one table for all.
 *
 * Pure.  The providers' own clients retry 408, 409, 429 and all from 500 on
 * (openai-python, anthropic-sdk-python, fal-client).  520 to 527 and 530 are
 * Cloudflare's.  598 and 599 come from proxies whose own time was up.
 */
#include "postgres.h"

#include "base/status.h"

/* Rows: what the status says.  Columns: submit, poll, result, download, cancel, lookup. */
static const StatusAction actions[STATUS_CLASSES][STATUS_STEPS] = {
	[STATUS_DONE] = {ACTION_TAKE, ACTION_TAKE, ACTION_TAKE, ACTION_TAKE, ACTION_TAKE, ACTION_TAKE},
	[STATUS_MOVED] = {ACTION_FAIL, ACTION_AGAIN, ACTION_AGAIN, ACTION_FOLLOW, ACTION_FAIL,
					  ACTION_AGAIN},
	[STATUS_BUSY] = {ACTION_DEFER, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN,
					 ACTION_AGAIN},
	/* cancel: the prediction cannot be cancelled any more */
	[STATUS_CONFLICT] = {ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_FAIL,
						 ACTION_AGAIN},
	[STATUS_FAILED] = {ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN,
					   ACTION_AGAIN},
	[STATUS_UNREACHABLE] = {ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN,
							ACTION_AGAIN},
	[STATUS_CUT] = {ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN, ACTION_AGAIN,
					ACTION_AGAIN},
	/* the next call reads the secrets again; download: the URL has expired */
	[STATUS_DENIED] = {ACTION_FAIL, ACTION_AGAIN, ACTION_AGAIN, ACTION_FAIL, ACTION_AGAIN,
					   ACTION_AGAIN},
	[STATUS_ABSENT] = {ACTION_FAIL, ACTION_MISS, ACTION_MISS, ACTION_MISS, ACTION_FAIL, ACTION_MISS},
	[STATUS_REFUSED] = {ACTION_FAIL, ACTION_AGAIN, ACTION_FAIL, ACTION_FAIL, ACTION_FAIL,
						ACTION_AGAIN},
};

StatusClass
status_class(int status)
{
	switch (status)
	{
		case 401:
		case 403:
			return STATUS_DENIED;
		case 404:
		case 410:
			return STATUS_ABSENT;
		case 409:
			return STATUS_CONFLICT;
		case 408:
		case 425:
			return STATUS_FAILED;
		case 429:
		case 503:
		case 529:
			return STATUS_BUSY;
		case 521: /* refused the connection */
		case 522: /* did not take the connection, or what was sent, in time */
		case 523:
		case 525: /* no TLS */
		case 526:
		case 530: /* its name does not resolve */
			return STATUS_UNREACHABLE;
		case 502:
		case 504:
		case 520:
		case 524:
		case 598:
		case 599:
			return STATUS_CUT;
	}
	if (status >= 500)
		return STATUS_FAILED;
	if (status >= 400)
		return STATUS_REFUSED;
	return status >= 300 ? STATUS_MOVED : STATUS_DONE;
}

/*
 * Returns what to do after a call of that step was answered with status.
 * retried is the option retry_status; NULL: the usual statuses.  For a
 * submission it alone says which refusals are worth a retry.  For other steps,
 * where something may be paid for already, it only adds.
 */
StatusAction
status_action(StatusStep step, int status, const StatusSet *retried)
{
	StatusAction action = actions[status_class(status)][step];
	bool is_repeated = action == ACTION_AGAIN || action == ACTION_DEFER;

	if (retried == NULL || status < 400)
		return action;
	if (status_is_in(retried, status))
		return is_repeated || action == ACTION_MISS ? action : ACTION_AGAIN;
	return is_repeated && step == STATUS_OF_SUBMIT ? ACTION_FAIL : action;
}

/*
 * True if a call with this answer may have been accepted, and must be paid
 * for.
 */
bool
status_may_be_accepted(int status)
{
	return status_class(status) == STATUS_CUT || status == 522;
}

/*
 * True if an answer says nothing about an earlier call with the same Idempotency-Key: it came from something that did
 * not look at the key, or says that this call is still at work.
 */
bool
status_leaves_doubt(int status)
{
	switch (status_class(status))
	{
		case STATUS_BUSY:
		case STATUS_CONFLICT:
		case STATUS_UNREACHABLE:
		case STATUS_DENIED:
			return true;
		default:
			return false;
	}
}

/* ---------- the option retry_status ---------- */

bool
status_is_in(const StatusSet *set, int status)
{
	return status >= 0 && status < 640 && (set->bits[status / 64] >> (status % 64) & 1) != 0;
}

/*
 * Reads one word of retry_status: "429", "500-599" or "5xx".  False if it is
 * none of these.
 */
static bool
read_range(const char *word, int len, int *from, int *to)
{
	if (len == 3 && pg_strncasecmp(word + 1, "xx", 2) == 0 && (word[0] == '4' || word[0] == '5'))
	{
		*from = (word[0] - '0') * 100;
		*to = *from + 99;
		return true;
	}
	if ((len != 3 && len != 7) || strspn(word, "0123456789") != 3)
		return false;
	*from = *to = atoi(word);
	if (len == 7)
	{
		if (word[3] != '-' || strspn(word + 4, "0123456789") < 3)
			return false;
		*to = atoi(pnstrdup(word + 4, 3));
	}
	return *from >= 400 && *to <= 599 && *from <= *to;
}

/*
 * Reads statuses, separated by commas or blanks, into *set.  Returns what is wrong with text; NULL: nothing.
 */
const char *
status_read_set(const char *text, StatusSet *set)
{
	memset(set, 0, sizeof(*set));
	for (text += strspn(text, ", "); *text != '\0'; text += strspn(text, ", "))
	{
		int len = strcspn(text, ", ");
		int from;
		int to;

		if (!read_range(text, len, &from, &to))
			return "Statuses from 400 to 599 are expected, separated by commas, as in \"408, 429, 500-504\" or \"429, 5xx\".";
		for (; from <= to; from++)
			set->bits[from / 64] |= UINT64CONST(1) << (from % 64);
		text += len;
	}
	return NULL;
}

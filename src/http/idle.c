/*
 * idle.c
 *		Connections between two calls: how many are kept, and whether a call
 *		looks for one.
 *
 * Some servers close a connection after each answer without announcing it
 * (llama-server after each stream).  A request that is sent just then is lost,
 * and often nobody can tell whether the server has read it.  So no connection
 * is kept that has brought a stream (callbacks.c), and for a while none of a
 * server that was seen to close one so.  A connection to an unknown server is
 * not used again before connections have rested for a moment and none was
 * closed.  Then one call tries it alone, and the others follow when it has its
 * answer.
 */
#include "postgres.h"

#include <malloc.h>

#include "common/hashfn.h"

#include "http/transfer.h"
#include "http/watch.h"

#define MIN_IDLE_CONNECTIONS 64 /* kept for further calls, however few were needed lately */
#define MAX_IDLE_CONNECTIONS 1000
#define SHRINK_MS 5000 /* after which half of the peak of calls is forgotten */

#define MAX_ORIGINS 256  /* remembered; a power of two */
#define CLOSER_MS 120000 /* without kept connections, after two closings */
#define TWICE_MS 10000   /* two closings within this are a habit; one may be a restart */
#define ONCE_MS 2000     /* without kept connections, after one closing */
#define PROOF_MS 20      /* a server that has closed none by then keeps its connections */

/* What is known of an origin's connections between calls.  Times are of clock_uptime(). */
typedef struct Origin
{
	uint32 origin;
	MonoTime closed;           /* when it last closed one unannounced; 0: never */
	MonoTime until;            /* before then none of its connections is kept */
	MonoTime kept;             /* since when some have rested and none was closed; 0: never */
	const HttpTransfer *trial; /* the first transfer that may use one again, while under way */
	bool is_proven;            /* a connection that was used again brought an answer */
} Origin;

static Origin origins[MAX_ORIGINS];

static int peak_transfers = 0;  /* lately */
static MonoTime shrink_due = 0; /* when to halve it; 0: there are only few */

/*
 * Keeps as many idle connections as there were calls at a time lately, within
 * limits.  libcurl's own limit counts idle and used ones together, and libcurl
 * looks at all of them to find one to close.
 */
void
idle_limit(CURLM *multi, int n_transfers)
{
	long idle = Max(MIN_IDLE_CONNECTIONS, Min(peak_transfers, MAX_IDLE_CONNECTIONS));

	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, n_transfers + idle);
}

/*
 * Notes how many calls there are now.
 */
void
idle_note_peak(int n_transfers)
{
	peak_transfers = Max(peak_transfers, n_transfers);
	if (shrink_due == 0 && peak_transfers > MIN_IDLE_CONNECTIONS)
		shrink_due = clock_uptime() + SHRINK_MS * INT64CONST(1000);
}

/*
 * A few seconds after a peak of calls, forgets half of it, and repeats that
 * until few are left.  The memory of these calls was freed, but between blocks
 * that stay, so malloc() would keep it for ever: this gives it back to the
 * system.
 */
void
idle_shrink(int n_transfers)
{
	MonoTime now = clock_uptime();

	if (shrink_due == 0 || shrink_due > now)
		return;
#ifdef __GLIBC__
	if (n_transfers <= peak_transfers / 2)
		malloc_trim(0);
#endif
	peak_transfers = Max(peak_transfers / 2, n_transfers);
	shrink_due = peak_transfers > MIN_IDLE_CONNECTIONS ? now + SHRINK_MS * INT64CONST(1000) : 0;
}

/*
 * Returns when idle_shrink() has something to do, by clock_uptime(); 0: never.
 */
MonoTime
idle_next_shrink(void)
{
	return shrink_due;
}

/*
 * Returns a number for scheme, host and port of a URL: URLs with the same number may use the same connection.
 */
uint32
idle_origin_of(const char *url)
{
	const char *host = strstr(url, "://");
	size_t len = host ? host + 3 - url : 0;

	len += strcspn(url + len, "/?#");
	return hash_bytes((const unsigned char *) url, (int) len);
}

/*
 * Notes that the server at origin closed a connection soon after an answer that did not announce that.
 */
void
idle_note_closing(uint32 origin)
{
	Origin *known = &origins[origin % MAX_ORIGINS];
	MonoTime now = clock_uptime();
	bool is_habit = known->origin == origin && known->closed > 0 &&
					now - known->closed < TWICE_MS * INT64CONST(1000);

	*known = (Origin){.origin = origin,
					  .closed = now,
					  .until = now + (is_habit ? CLOSER_MS : ONCE_MS) * INT64CONST(1000),
					  .trial = known->origin == origin ? known->trial : NULL};
}

/*
 * Notes that a connection to origin rests now.
 */
void
idle_note_rest(uint32 origin)
{
	Origin *known = &origins[origin % MAX_ORIGINS];
	MonoTime now = clock_uptime();

	if (known->origin != origin && known->until > now)
		return;
	if (known->origin != origin)
		*known = (Origin){origin};
	if (known->kept == 0)
		known->kept = now;
}

static bool
closes_silently(uint32 origin)
{
	const Origin *known = &origins[origin % MAX_ORIGINS];

	return known->origin == origin && known->until > clock_uptime();
}

/*
 * True if a transfer may use a connection again, as far as its server is
 * known.  The first such transfer becomes the server's trial.
 */
static bool
may_use_again(const HttpTransfer *transfer)
{
	Origin *known = &origins[transfer->origin % MAX_ORIGINS];

	if (known->origin != transfer->origin || known->kept == 0 ||
		clock_uptime() - known->kept < PROOF_MS * INT64CONST(1000))
		return false;
	if (known->is_proven)
		return true;
	if (known->trial != NULL)
		return false;
	known->trial = transfer;
	return true;
}

/*
 * Notes that a transfer has ended, or is given up.
 */
void
idle_note_end(const HttpTransfer *transfer)
{
	Origin *known = &origins[transfer->origin % MAX_ORIGINS];

	if (known->origin != transfer->origin)
		return;
	if (known->trial == transfer)
		known->trial = NULL;
	if (transfer->kept_fd >= 0 && transfer->header_lines > 0 && known->until <= clock_uptime())
		known->is_proven = true;
}

/*
 * Decides whether a new transfer looks for an idle connection, and whether its
 * own is kept.  If there can be no idle connection, or no room to keep one,
 * libcurl is spared the search through all of them: its time grows with the
 * square of the calls in flight.
 */
void
idle_choose(const HttpTransfer *transfer, int n_transfers)
{
	bool closes = closes_silently(transfer->origin);

	curl_easy_setopt(transfer->easy, CURLOPT_FRESH_CONNECT,
					 (long) (closes || watch_count_opened() <= n_transfers ||
							 !may_use_again(transfer)));
	curl_easy_setopt(transfer->easy, CURLOPT_FORBID_REUSE,
					 (long) (closes || n_transfers >= MAX_IDLE_CONNECTIONS));
}

/*
 * idle.c
 *		Connections between two calls: how many are kept, and whether a call looks for one.
 */
#include "postgres.h"

#include <malloc.h>

#include "http/transfer.h"
#include "http/watch.h"

#define MIN_IDLE_CONNECTIONS 64 /* that are kept for further calls, whatever was needed of late */
#define MAX_IDLE_CONNECTIONS 1000
#define SETTLE_MS 5000 /* in which half of the peak of calls is forgotten */

static int peak_transfers = 0;  /* of late */
static MonoTime settle_due = 0; /* when that is halved; 0: there are only few */

/*
 * As many idle connections are kept as there were calls at a time of late.  libcurl's own limit is on idle and
 * used ones together, and to find one to close it looks at them all.
 */
void
idle_limit(CURLM *multi, int n_transfers)
{
	long idle = Max(MIN_IDLE_CONNECTIONS, Min(peak_transfers, MAX_IDLE_CONNECTIONS));

	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, n_transfers + idle);
}

/*
 * There are so many calls now.
 */
void
idle_note_peak(int n_transfers)
{
	peak_transfers = Max(peak_transfers, n_transfers);
	if (settle_due == 0 && peak_transfers > MIN_IDLE_CONNECTIONS)
		settle_due = clock_uptime() + SETTLE_MS * INT64CONST(1000);
}

/*
 * A few seconds after many calls at a time forgets half of their number, and again, until few are left.  What they
 * held was freed, but among things that stay, so malloc() would keep it for ever: it is given back.
 */
void
idle_settle(int n_transfers)
{
	MonoTime now = clock_uptime();

	if (settle_due == 0 || settle_due > now)
		return;
#ifdef __GLIBC__
	if (n_transfers <= peak_transfers / 2)
		malloc_trim(0);
#endif
	peak_transfers = Max(peak_transfers / 2, n_transfers);
	settle_due = peak_transfers > MIN_IDLE_CONNECTIONS ? now + SETTLE_MS * INT64CONST(1000) : 0;
}

/*
 * When idle_settle() has something to do, by clock_uptime(); 0: never.
 */
MonoTime
idle_next_settle(void)
{
	return settle_due;
}

/*
 * Whether there can be no idle connection for another transfer, nor room for one after it.  Then libcurl is
 * spared the search through all of them, whose time grows with the square of the calls in flight.
 */
void
idle_choose(CURL *easy, int n_transfers)
{
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, (long) (watch_count_opened() <= n_transfers));
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, (long) (n_transfers >= MAX_IDLE_CONNECTIONS));
}

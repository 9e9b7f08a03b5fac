/*
 * watch.c
 *		The sockets that are waited for, as one descriptor.
 *
 * An epoll set, and what it knows of each socket.  A connection between two calls rests in the set: to take it out
 * and to put it in again would be two system calls a call.
 *
 * Most of this is called from libcurl's callbacks: nothing here raises an error, but for watch_init().
 */
#include "postgres.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "watch.h"

typedef struct Watched
{
	uint32 events;  /* that the set has it for; 0: it is not in the set */
	bool is_opened; /* announced by watch_opened() */
	bool is_made;   /* it was connected when it rested first, so that its end is announced too */
	bool is_resting;
} Watched;

static int set = -1;
static Watched *watched = NULL; /* by descriptor; malloc()ed */
static int n_watched = 0;
static int n_opened = 0;

/*
 * Makes the set; once.
 */
void
watch_init(void)
{
	set = epoll_create1(EPOLL_CLOEXEC);
	if (set < 0)
		ereport(ERROR,
				(errcode_for_socket_access(), errmsg("could not create epoll descriptor: %m")));
}

/*
 * The descriptor that is readable while watch_collect() has something to give.
 */
int
watch_descriptor(void)
{
	return set;
}

/*
 * How many sockets are open that were announced.
 */
int
watch_count_opened(void)
{
	return n_opened;
}

static bool
make_room(int fd)
{
	int wanted = Max(fd + 1, 64);
	Watched *grown;

	if (fd < n_watched)
		return true;
	wanted = Max(wanted, n_watched * 2);
	grown = realloc(watched, wanted * sizeof(Watched));
	if (grown == NULL)
		return false;
	memset(grown + n_watched, 0, (wanted - n_watched) * sizeof(Watched));
	watched = grown;
	n_watched = wanted;
	return true;
}

static void
forget(int fd)
{
	if (watched[fd].is_opened)
		n_opened--;
	watched[fd] = (Watched){0};
}

/*
 * A socket was opened for a connection: once that is made, watch_closed() will tell its end, and it may rest in the
 * set.  False when memory is short.
 */
bool
watch_opened(int fd)
{
	if (!make_room(fd))
		return false;
	forget(fd);
	watched[fd].is_opened = true;
	n_opened++;
	return true;
}

/*
 * A socket that was opened is closed, and with that out of the set.
 */
void
watch_closed(int fd)
{
	if (fd < n_watched)
		forget(fd);
}

static void
take_out(int fd)
{
	epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
	watched[fd].events = 0;
	watched[fd].is_resting = false;
}

/*
 * From now on events (of epoll) of the socket are waited for, and no others.  False when that failed.
 */
bool
watch_for(int fd, uint32 events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};
	bool is_in;

	if (!make_room(fd))
		return false;
	watched[fd].is_resting = false;
	if (watched[fd].events == events && watched[fd].is_opened)
		return true;
	is_in = watched[fd].events != 0;
	/* of a socket whose end nobody told, the contrary may be true */
	if (epoll_ctl(set, is_in ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0 &&
		epoll_ctl(set, is_in ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0)
		return false;
	watched[fd].events = events;
	return true;
}

/*
 * Whether what was opened is still there.  libcurl before 8.2 closes in silence what was never connected; its number
 * may since be another's that nobody announces, such as of the pair of sockets by which a look-up of a name tells its
 * end.
 */
static bool
is_made(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	if (watched[fd].is_opened && !watched[fd].is_made)
		watched[fd].is_made = getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
							  protocol == IPPROTO_TCP;
	return watched[fd].is_made;
}

/*
 * Nobody waits for the socket any more, or for now.
 */
void
watch_rest(int fd)
{
	if (fd >= n_watched || watched[fd].events == 0)
		return;
	if (is_made(fd))
	{
		watched[fd].is_resting = true;
		return;
	}
	take_out(fd);
	forget(fd);
}

/*
 * At most n events that have come, without waiting.  One that rests and has an event, as its server closes it, say,
 * is taken out of the set in silence.
 */
int
watch_collect(struct epoll_event *events, int n)
{
	int found = epoll_wait(set, events, n, 0);
	int kept = 0;
	int i;

	for (i = 0; i < found; i++)
	{
		if (watched[events[i].data.fd].is_resting)
			take_out(events[i].data.fd);
		else
			events[kept++] = events[i];
	}
	return kept;
}

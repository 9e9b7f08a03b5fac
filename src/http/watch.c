/*
 * watch.c
 *		The sockets that are waited for, as one descriptor.
 *
 * An epoll set, and what it knows of each socket.  A connection between two calls rests in the set: to take it out
 * and to put it in again would be two system calls a call.
 *
 * Whoever got least of the loop's time of late comes first: so a server whose connections always have something to
 * read, and bring nothing, keeps no other waiting.
 *
 * Most of this is called from libcurl's callbacks: nothing here raises an error, but for watch_init().
 */
#include "postgres.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "http/watch.h"

#define MAX_UNWANTED_READS 2048 /* more than a socket may hold */
#define FORGET_US 100000        /* in which half of what a socket took is forgotten */

typedef struct Watched
{
	uint32 events;  /* that the set has it for; 0: it is not in the set */
	bool is_opened; /* announced by watch_opened() */
	bool is_made;   /* it was connected when it rested first, so that its end is announced too */
	bool is_resting;

	/* The loop's time */
	int64 used;         /* us, of late */
	MonoTime forgot_at; /* of clock_uptime(): when half of that was forgotten last */
	int n_served;       /* times since it rested */
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
	if (watched[fd].is_resting || watched[fd].events == 0)
		watched[fd].n_served = 0;
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
 * A socket was opened for a connection: once that is made, watch_closed() will tell its end, and it may rest in the
 * set.  False when memory is short.
 *
 * libcurl before 8.2 tells nothing when it closes a socket whose connection failed and opens one of the same number to
 * try the next address: it goes on waiting, as it believes, for the same events.
 */
bool
watch_opened(int fd)
{
	uint32 events;

	if (!make_room(fd))
		return false;
	events = watched[fd].is_resting ? 0 : watched[fd].events;
	forget(fd);
	watched[fd].is_opened = true;
	n_opened++;
	if (events == 0 || watch_for(fd, events))
		return true;
	forget(fd);
	return false;
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
 * Nobody waits for the socket any more, until another call uses its connection.
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
 * Nobody waits for the socket for now, but what comes is somebody's.
 */
void
watch_pause(int fd)
{
	if (fd < n_watched && watched[fd].events != 0)
		take_out(fd);
}

/*
 * A connection between two calls has something to read: it is ending, or what has come would be taken for the answer to
 * the next call.  libcurl uses none again that is at its end.
 */
static void
end_rest(int fd)
{
	char unwanted[4096];
	int reads;

	take_out(fd);
	for (reads = 0; reads < MAX_UNWANTED_READS; reads++)
	{
		if (recv(fd, unwanted, sizeof(unwanted), MSG_DONTWAIT) <= 0)
			break;
	}
	(void) shutdown(fd, SHUT_RDWR);
}

static void
forget_used(Watched *socket, MonoTime now)
{
	int64 halves = (now - socket->forgot_at) / FORGET_US;

	socket->used = halves >= 32 ? 0 : socket->used >> halves;
	socket->forgot_at += halves * FORGET_US;
}

/*
 * Notes that a socket took so much of the loop's time.  Returns how often it was served since it rested; 0: it is not
 * known any more.
 */
int
watch_charge(int fd, int64 us)
{
	if (fd >= n_watched || watched[fd].events == 0 || watched[fd].is_resting)
		return 0;
	watched[fd].used += us;
	return ++watched[fd].n_served;
}

/*
 * How many bytes were read of a socket since it was connected, framing and all, and how many have come that were not;
 * both 0 where the kernel does not tell.
 */
uint64
watch_bytes_read(int fd, int *unread)
{
	struct tcp_info info = {0};
	socklen_t len = sizeof(info);

	*unread = 0;
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || ioctl(fd, FIONREAD, unread) != 0)
		return 0;
	return info.tcpi_bytes_received - Min(info.tcpi_bytes_received, (uint64) *unread);
}

static int
compare_used(const void *a, const void *b)
{
	int64 left = watched[((const struct epoll_event *) a)->data.fd].used;
	int64 right = watched[((const struct epoll_event *) b)->data.fd].used;

	return (left > right) - (left < right);
}

/*
 * At most n events that have come, without waiting: first of those sockets that took least of the loop's time of late.
 * One that rests and has an event is no connection any more.
 */
int
watch_collect(struct epoll_event *events, int n)
{
	int found = epoll_wait(set, events, n, 0);
	MonoTime now = clock_uptime();
	int kept = 0;
	int i;

	for (i = 0; i < found; i++)
	{
		Watched *socket = &watched[events[i].data.fd];

		if (socket->is_resting)
		{
			end_rest(events[i].data.fd);
			continue;
		}
		forget_used(socket, now);
		events[kept++] = events[i];
	}
	qsort(events, kept, sizeof(struct epoll_event), compare_used);
	return kept;
}

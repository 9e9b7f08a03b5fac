/*
 * watch.c
 *		The sockets that libcurl waits for, as one descriptor.
 *
 * An epoll set, and what it knows of each socket.  A connection between two
 * calls rests in the set: taking it out and putting it in again would be two
 * system calls for each call.
 *
 * The socket that got least of the loop's time lately comes first.  So a
 * server whose connections always have something to read, and bring nothing,
 * keeps no other waiting.
 *
 * libcurl's callbacks call most of this: nothing here raises an error except
 * watch_init().
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "http/tcp.h"
#include "http/transfer.h"
#include "http/watch.h"

#define MAX_UNWANTED_READS 2048 /* more than the kernel keeps for a socket */
#define FORGET_US 100000        /* after which half of what a socket took is forgotten */
#define SILENT_CLOSE_MS 1000 /* a server that closes this soon after an answer does so after each */
#define MAX_RESET_WAIT_MS 3
#define N_PORTS 65536

/*
 * The kernel's states of a connection.  linux/tcp.h lacks them; netinet/tcp.h
 * has them, but with an older tcp_info.
 */
#define STATE_CLOSE 7
#define STATE_CLOSE_WAIT 8

typedef struct Watched
{
	uint32 events;     /* that the set waits for; 0: it is not in the set */
	uint64 connection; /* its number; stays after its end */
	bool is_opened;    /* announced by watch_opened() */
	bool is_made;      /* it was connected when it first rested, so its end is announced, too */
	bool is_resting;

	/*
	 * A kept connection; its addresses as libcurl writes them, if local_port
	 * is not 0
	 */
	int port;
	int local_port;
	char ip[INET6_ADDRSTRLEN];
	char local_ip[INET6_ADDRSTRLEN];
	MonoTime rested_at; /* of clock_uptime(), while is_resting */
	uint32 origin;      /* of the last call, while is_resting */
	bool *is_untaken;   /* of the call that uses it again; or NULL */
	uint64 acked;       /* bytes that the server had acknowledged before that call */

	/* The loop's time */
	int64 used;         /* us, lately */
	MonoTime forgot_at; /* when half of it was last forgotten, by clock_uptime() */
	int n_served;       /* times since it rested */
} Watched;

static int set = -1;
static Watched *watched = NULL; /* by descriptor; malloc()ed */
static int n_watched = 0;
static int n_opened = 0;
static uint64 n_connections = 0; /* that were ever announced */
static int fd_by_port[N_PORTS];  /* of the connection that rested last with that local port */

/*
 * Creates the epoll set; once.
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
 * Returns the descriptor that is readable while watch_collect() has events.
 */
int
watch_descriptor(void)
{
	return set;
}

/*
 * Returns how many announced sockets are open.
 */
int
watch_count_opened(void)
{
	return n_opened;
}

static bool
enlarge_watched(int fd)
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
forget_socket(int fd)
{
	if (watched[fd].is_opened)
		n_opened--;
	watched[fd] = (Watched){.connection = watched[fd].connection};
}

/*
 * Forgets a socket that is about to be closed.  Closing takes it out of the
 * set.
 */
void
watch_closed(int fd)
{
	if (fd >= n_watched)
		return;
	if (watched[fd].is_untaken != NULL)
		*watched[fd].is_untaken = watch_is_untaken(fd, watched[fd].is_untaken);
	forget_socket(fd);
}

static void
remove_socket(int fd)
{
	epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
	watched[fd].events = 0;
	watched[fd].is_resting = false;
}

/*
 * Waits from now on for these events (of epoll) of the socket, and for no
 * others.  False when that failed.
 */
bool
watch_for(int fd, uint32 events)
{
	struct epoll_event event = {.events = events, .data.fd = fd};
	bool is_in;

	if (!enlarge_watched(fd))
		return false;
	if (watched[fd].is_resting || watched[fd].events == 0)
		watched[fd].n_served = 0;
	watched[fd].is_resting = false;
	if (watched[fd].events == events && watched[fd].is_opened)
		return true;
	is_in = watched[fd].events != 0;
	/* libcurl may have closed a socket in silence: then is_in is wrong */
	if (epoll_ctl(set, is_in ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0 &&
		epoll_ctl(set, is_in ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0)
		return false;
	watched[fd].events = events;
	return true;
}

/*
 * Announces a socket that was opened.  Once it is connected, watch_closed()
 * will report its end, and it may rest in the set.  False when memory is
 * short.
 *
 * libcurl before 8.2 reports nothing when it closes a socket that failed to
 * connect.  If the socket for the next address has the same number, libcurl
 * still waits for the same events.
 */
bool
watch_opened(int fd)
{
	uint32 events;

	if (!enlarge_watched(fd))
		return false;
	events = watched[fd].is_resting ? 0 : watched[fd].events;
	forget_socket(fd);
	watched[fd].connection = ++n_connections;
	watched[fd].is_opened = true;
	n_opened++;
	if (events == 0 || watch_for(fd, events))
		return true;
	forget_socket(fd);
	return false;
}

/*
 * True if an opened socket still exists.  libcurl before 8.2 closes a socket
 * that was never connected in silence.  Its number may then be another socket
 * that nobody announces, such as one of the pair by which a name look-up
 * reports its end.
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

static int
read_address(const struct sockaddr_storage *address, char *ip)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *) address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) address;
	bool is_v6 = address->ss_family == AF_INET6;

	if (inet_ntop(address->ss_family, is_v6 ? (const void *) &v6->sin6_addr : &v4->sin_addr, ip,
				  INET6_ADDRSTRLEN) == NULL)
		return 0;
	return ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
}

/*
 * Notes the addresses by which libcurl will name the connection when it is used again.
 */
static void
note_addresses(int fd)
{
	Watched *socket = &watched[fd];
	struct sockaddr_storage local = {0};
	struct sockaddr_storage peer = {0};
	socklen_t local_len = sizeof(local);
	socklen_t peer_len = sizeof(peer);

	if (socket->local_port == 0 && getsockname(fd, (struct sockaddr *) &local, &local_len) == 0 &&
		getpeername(fd, (struct sockaddr *) &peer, &peer_len) == 0)
	{
		socket->port = read_address(&peer, socket->ip);
		socket->local_port = read_address(&local, socket->local_ip);
	}
	fd_by_port[socket->local_port] = fd;
}

/*
 * Rests a socket: nobody waits for it until another call uses its connection.  origin: of the call that ended.
 */
void
watch_rest(int fd, uint32 origin)
{
	if (fd >= n_watched || watched[fd].events == 0)
		return;
	if (is_made(fd))
	{
		watched[fd].is_resting = true;
		watched[fd].rested_at = clock_uptime();
		watched[fd].origin = origin;
		idle_note_rest(origin);
		note_addresses(fd);
		return;
	}
	remove_socket(fd);
	forget_socket(fd);
}

/* ---------- connections that are used again ---------- */

/*
 * Returns the resting socket between these two addresses; -1: none.
 */
int
watch_find_resting(const char *ip, int port, const char *local_ip, int local_port)
{
	int fd = local_port > 0 && local_port < N_PORTS ? fd_by_port[local_port] : 0;
	const Watched *socket = &watched[fd];

	if (fd >= n_watched || !socket->is_resting || socket->local_port != local_port ||
		socket->port != port || strcmp(socket->ip, ip) != 0 ||
		strcmp(socket->local_ip, local_ip) != 0)
		return -1;
	return fd;
}

/*
 * Takes a resting socket for a call.  False if its connection has ended, or
 * has something to read, which libcurl would take for the answer.  Until
 * watch_give_back(), sets *is_untaken when the socket is closed.
 */
bool
watch_take(int fd, bool *is_untaken)
{
	struct tcp_info info;
	char byte;

	if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 ||
		(errno != EAGAIN && errno != EWOULDBLOCK) || !tcp_read_info(fd, &info))
		return false;
	watched[fd].is_untaken = is_untaken;
	watched[fd].acked = info.tcpi_bytes_acked;
	return true;
}

/*
 * Notes that the call which used the socket has ended.
 */
void
watch_give_back(int fd, const bool *is_untaken)
{
	if (fd >= 0 && fd < n_watched && watched[fd].is_untaken == is_untaken)
		watched[fd].is_untaken = NULL;
}

/*
 * Waits a moment for the RST with which a closed socket answers what is sent
 * to it.
 */
static void
wait_for_reset(int fd, const struct tcp_info *info)
{
	struct pollfd reset = {.fd = fd};

	(void) poll(&reset, 1, Min((int) (2 * info->tcpi_rtt / 1000) + 1, MAX_RESET_WAIT_MS));
}

/*
 * True if the server closed a connection before it took a byte of the request
 * for which watch_take() was called: an RST came after its FIN, and neither
 * acknowledges a byte.  The kernel's error is then EPIPE, not ECONNRESET.
 *
 * Neither alone proves it.  After a FIN the server, or one behind a proxy, may
 * still read: it closed one half of the connection, and its acknowledgment is
 * on the way.  A server that reads a request and then resets sends only an
 * RST.  is_untaken: the call's, as passed to watch_take().
 */
bool
watch_is_untaken(int fd, const bool *is_untaken)
{
	struct tcp_info info;
	int error = 0;
	socklen_t len = sizeof(error);

	if (watched[fd].is_untaken != is_untaken || !tcp_read_info(fd, &info))
		return false;
	if (info.tcpi_state == STATE_CLOSE_WAIT && info.tcpi_bytes_acked == watched[fd].acked)
	{
		wait_for_reset(fd, &info);
		if (!tcp_read_info(fd, &info))
			return false;
	}
	return info.tcpi_bytes_acked == watched[fd].acked && info.tcpi_state == STATE_CLOSE &&
		   getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == EPIPE;
}

/*
 * Pauses a socket: nobody waits for it now, but what comes belongs to a call.
 */
void
watch_pause(int fd)
{
	if (fd < n_watched && watched[fd].events != 0)
		remove_socket(fd);
}

/*
 * Ends the rest of a connection that has something to read: the server closes
 * it, or the next call would take what came for its answer.  libcurl does not
 * use a connection again whose socket is at its end.
 */
static void
close_stale_connection(int fd)
{
	char unwanted[4096];
	int reads;

	if (clock_uptime() - watched[fd].rested_at < SILENT_CLOSE_MS * INT64CONST(1000))
		idle_note_closing(watched[fd].origin);
	remove_socket(fd);
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
 * Notes how much of the loop's time a socket took.  Returns how often it was
 * served since it rested; 0: it rests, or is forgotten.
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
 * Returns the number of a socket's connection.  The next connection with the
 * same descriptor has another number.
 */
uint64
watch_connection(int fd)
{
	return fd < n_watched ? watched[fd].connection : 0;
}

static int
compare_used(const void *a, const void *b)
{
	int64 left = watched[((const struct epoll_event *) a)->data.fd].used;
	int64 right = watched[((const struct epoll_event *) b)->data.fd].used;

	return (left > right) - (left < right);
}

/*
 * Returns at most n events that have come, without waiting.  Events of sockets
 * that took least of the loop's time lately come first.  Ends the rest of
 * connections that have an event: they are not usable any more.  But if a call
 * has taken one, the event may be its answer, although libcurl has not asked
 * to wait for it yet.
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

		if (socket->is_resting && socket->is_untaken != NULL)
			continue;
		if (socket->is_resting)
		{
			close_stale_connection(events[i].data.fd);
			continue;
		}
		forget_used(socket, now);
		events[kept++] = events[i];
	}
	qsort(events, kept, sizeof(struct epoll_event), compare_used);
	return kept;
}

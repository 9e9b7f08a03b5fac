/*
 * shim.c
 *		A world that tests can move: a calendar that is set, a name that leads elsewhere, an address that is not there,
 *		and a process that stands still at the wrong moment.
 *
 * To be preloaded (LD_PRELOAD) into a server under test.
 *
 *		SHIM_CLOCK	a file with a number: seconds by which the calendar's clock is wrong.  Read again each time.
 *			A timer that is cancelled when the clock is set (timerfd) is, when another file takes that name.
 *		SHIM_HOST	a file with an IPv4 address: that of the name "moving.test".  Likewise.
 *		SHIM_WIRE	a file with three numbers, of connections over IPv4.  Likewise; missing ones are 0.
 *			us that each recv() takes;
 *			bytes: every second FIONREAD waits until that many more are there, for 100 ms at most;
 *			1: each send() waits until the other side has closed, or sent something, for 2 s at most.
 *
 * Connections to 8.8.8.8, which everybody takes for a public address, go to 127.0.0.1 and say that they do not.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 65536

static unsigned char is_far[MAX_FDS];
static int timer_fd = -1; /* watches the folder of SHIM_CLOCK */

static void
read_text(const char *variable, char *text, size_t size)
{
	const char *path = getenv(variable);
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

static long
wrong_by(void)
{
	char text[32];

	read_text("SHIM_CLOCK", text, sizeof(text));
	return atol(text);
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	static int (*real)(clockid_t, struct timespec *);
	int result;

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "clock_gettime");
	result = real(clock, now);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += wrong_by();
	return result;
}

int
gettimeofday(struct timeval *now, void *zone)
{
	struct timespec precise;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &precise);
	now->tv_sec = precise.tv_sec;
	now->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *now)
{
	struct timespec precise;

	clock_gettime(CLOCK_REALTIME, &precise);
	if (now != NULL)
		*now = precise.tv_sec;
	return precise.tv_sec;
}

int
timerfd_create(int clock, int flags)
{
	const char *path = getenv("SHIM_CLOCK");
	char folder[4096];
	char *end;

	(void) clock;
	(void) flags;
	if (path == NULL || getenv("SHIM_NO_TIMER") != NULL)
	{
		errno = ENOSYS;
		return -1;
	}
	snprintf(folder, sizeof(folder), "%s", path);
	if ((end = strrchr(folder, '/')) != NULL)
		*end = '\0';
	timer_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (timer_fd >= 0)
		inotify_add_watch(timer_fd, folder, IN_MOVED_TO);
	return timer_fd;
}

int
timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	(void) flags;
	(void) new;
	(void) old;
	return fd == timer_fd ? 0 : -1;
}

ssize_t
read(int fd, void *buffer, size_t size)
{
	char events[4096];
	ssize_t n;

	if (fd < 0 || fd != timer_fd)
		return syscall(SYS_read, fd, buffer, size);
	n = syscall(SYS_read, fd, events, sizeof(events));
	if (n > 0)
		errno = ECANCELED;
	return -1;
}

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
			struct addrinfo **list)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	char address[64];

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (node != NULL && strcmp(node, "moving.test") == 0)
	{
		read_text("SHIM_HOST", address, sizeof(address));
		node = address;
	}
	return real(node, service, hints, list);
}

int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
	static int (*real)(int, const struct sockaddr *, socklen_t);
	struct sockaddr_in here;

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "connect");
	if (fd >= 0 && fd < MAX_FDS)
		is_far[fd] = 0;
	if (address->sa_family != AF_INET || fd < 0 || fd >= MAX_FDS)
		return real(fd, address, len);
	memcpy(&here, address, sizeof(here));
	if (here.sin_addr.s_addr == inet_addr("8.8.8.8"))
	{
		is_far[fd] = 1;
		here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	}
	return real(fd, (struct sockaddr *) &here, sizeof(here));
}

int
getpeername(int fd, struct sockaddr *address, socklen_t *len)
{
	static int (*real)(int, struct sockaddr *, socklen_t *);
	int result;

	if (real == NULL)
		*(void **) &real = dlsym(RTLD_NEXT, "getpeername");
	result = real(fd, address, len);
	if (result == 0 && fd >= 0 && fd < MAX_FDS && is_far[fd] && address->sa_family == AF_INET)
		((struct sockaddr_in *) address)->sin_addr.s_addr = inet_addr("8.8.8.8");
	return result;
}

/* ---------- standing still while a connection goes on ---------- */

typedef struct Wire
{
	int recv_us;
	int more_unread;
	int waits_to_send;
} Wire;

static Wire
wire_of(int fd)
{
	Wire wire = {0, 0, 0};
	int domain = 0;
	socklen_t len = sizeof(domain);
	char text[64];

	if (getenv("SHIM_WIRE") == NULL || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) != 0 ||
		domain != AF_INET)
		return wire;
	read_text("SHIM_WIRE", text, sizeof(text));
	(void) !sscanf(text, "%d %d %d", &wire.recv_us, &wire.more_unread, &wire.waits_to_send);
	return wire;
}

ssize_t
recv(int fd, void *buffer, size_t size, int flags)
{
	Wire wire = wire_of(fd);

	if (wire.recv_us > 0)
		usleep(wire.recv_us);
	return syscall(SYS_recvfrom, fd, buffer, size, flags, NULL, NULL);
}

ssize_t
send(int fd, const void *buffer, size_t size, int flags)
{
	struct pollfd event = {.fd = fd, .events = POLLIN | POLLRDHUP};

	if (wire_of(fd).waits_to_send)
		(void) poll(&event, 1, 2000);
	return syscall(SYS_sendto, fd, buffer, size, flags, NULL, 0);
}

int
ioctl(int fd, unsigned long request, ...)
{
	static int times = 0;
	va_list args;
	void *arg;
	int tries;
	int unread;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == FIONREAD && syscall(SYS_ioctl, fd, request, &unread) == 0)
	{
		int enough = unread + wire_of(fd).more_unread;

		times++;
		for (tries = 0; unread < enough && times % 2 == 0 && tries < 100; tries++)
		{
			usleep(1000);
			(void) syscall(SYS_ioctl, fd, request, &unread);
		}
	}
	return (int) syscall(SYS_ioctl, fd, request, arg);
}

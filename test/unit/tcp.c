/*
 * tcp.c
 *		What is counted of a connection while more comes between the questions: http/tcp.c.
 */
#include "unit.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "http/tcp.h"

static int here = -1;
static int there = -1;

/* What comes before the next questions to the kernel, in their order */
static size_t before[3];
static int question = -1; /* its number; -1: nothing comes */

static void
send_all(size_t bytes)
{
	static char block[65536];
	int unread;
	int expected;

	(void) syscall(SYS_ioctl, here, FIONREAD, &expected);
	expected += bytes;
	while (bytes > 0)
	{
		ssize_t n = send(there, block, Min(bytes, sizeof(block)), 0);

		Assert(n > 0);
		bytes -= n;
	}
	do
		(void) syscall(SYS_ioctl, here, FIONREAD, &unread);
	while (unread < expected);
}

static void
something_comes(void)
{
	if (question >= 0 && question < 3)
		send_all(before[question++]);
}

/* In place of the C library's: more has come when the kernel answers. */
int
ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (request == FIONREAD)
		something_comes();
	return (int) syscall(SYS_ioctl, fd, request, arg);
}

int
getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (level == IPPROTO_TCP && name == TCP_INFO)
		something_comes();
	return (int) syscall(SYS_getsockopt, fd, level, name, value, len);
}

static void
read_all(size_t bytes)
{
	char block[65536];

	while (bytes > 0)
	{
		ssize_t n = recv(here, block, Min(bytes, sizeof(block)), 0);

		Assert(n > 0);
		bytes -= n;
	}
}

static void
connect_both(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM, 0);
	int room = 200000;

	here = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(here, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(listening, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listening, 1) != 0 ||
		getsockname(listening, (struct sockaddr *) &address, &len) != 0 ||
		connect(here, (struct sockaddr *) &address, sizeof(address)) != 0)
		unit_ok(false, "connect");
	there = accept(listening, NULL, NULL);
	close(listening);
}

static void
test_nothing_comes(void)
{
	TcpBytes bytes;

	unit_ok(tcp_count(here, &bytes), "a new connection is counted");
	unit_is_int(bytes.most, 0, "nothing was read");
	send_all(50000);
	read_all(20000);
	unit_ok(tcp_count(here, &bytes), "one of which some was read is counted");
	unit_is_int(bytes.came, 50000, "what came");
	unit_is_int(bytes.unread, 30000, "what is unread");
	unit_is_int(bytes.least, 20000, "what was read, at least");
	unit_is_int(bytes.most, 20000, "what was read, at most");
}

/*
 * In all 20,000 bytes were read, however much comes between the questions.
 */
static void
test_more_comes(size_t first, size_t second, size_t third)
{
	TcpBytes bytes;

	before[0] = first;
	before[1] = second;
	before[2] = third;
	question = 0;
	unit_ok(tcp_count(here, &bytes), "%zu, %zu, %zu bytes come: it is counted", first, second,
			third);
	unit_is_int(question, 3, "the kernel was asked three times");
	question = -1;
	unit_ok(bytes.least <= 20000, "%zu, %zu, %zu bytes come: at least " UINT64_FORMAT " were read",
			first, second, third, bytes.least);
	unit_ok(bytes.most >= 20000, "%zu, %zu, %zu bytes come: at most " UINT64_FORMAT " were read",
			first, second, third, bytes.most);
	unit_is_int(bytes.most - bytes.least, second + third,
				"what is not certain came between the first question and the last");
}

static void
test_no_connection(void)
{
	int pipes[2];
	TcpBytes bytes;

	if (pipe(pipes) != 0)
		unit_ok(false, "pipe");
	unit_ok(!tcp_count(pipes[0], &bytes), "a pipe is no connection");
	close(pipes[0]);
	unit_ok(!tcp_count(pipes[0], &bytes), "nor is what is closed");
	close(pipes[1]);
}

void
unit_run(void)
{
	connect_both();
	test_nothing_comes();
	test_more_comes(0, 0, 0);
	test_more_comes(1000, 0, 0);
	test_more_comes(0, 1000, 0);
	test_more_comes(0, 0, 5000);
	test_more_comes(10, 5000, 3000);
	test_no_connection();
}

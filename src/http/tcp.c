/*
 * tcp.c
 *		What the kernel says of a TCP connection.
 *
 * Nothing here raises an error: libcurl's callbacks call it.
 */
#include "postgres.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "http/tcp.h"

/*
 * Reads the kernel's figures of a connection.  False if there is none.
 */
bool
tcp_read_info(int fd, struct tcp_info *info)
{
	socklen_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0;
}

/*
 * Counts the bytes that came over a connection, and those that were read.
 * False if the kernel does not say.
 *
 * The kernel says in two answers how much came and how much is unread, and
 * more comes in between.  The difference of the two may be less than the time
 * before, or megabytes too small.  So this asks for the unread bytes before
 * and after.
 */
bool
tcp_count(int fd, TcpBytes *bytes)
{
	struct tcp_info info;
	int before = 0;

	memset(bytes, 0, sizeof(*bytes));
	if (ioctl(fd, FIONREAD, &before) != 0 || !tcp_read_info(fd, &info) ||
		ioctl(fd, FIONREAD, &bytes->unread) != 0)
		return false;
	bytes->came = info.tcpi_bytes_received;
	bytes->most = bytes->came - Min(bytes->came, (uint64) before);
	bytes->least = bytes->came - Min(bytes->came, (uint64) bytes->unread);
	return true;
}

/*
 * tcp.h
 *		What the kernel says of a TCP connection.
 */
#ifndef GENJOB_TCP_H
#define GENJOB_TCP_H

struct tcp_info;

/* Bytes of a connection since it was opened, framing included. */
typedef struct TcpBytes
{
	uint64 came;
	int unread;   /* came, but not read; perhaps also of what came just then */
	uint64 least; /* at least this many were read */
	uint64 most;  /* at most this many were read */
} TcpBytes;

extern bool tcp_read_info(int fd, struct tcp_info *info);
extern bool tcp_count(int fd, TcpBytes *bytes);

#endif /* GENJOB_TCP_H */

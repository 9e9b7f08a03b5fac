/*
 * tcp.h
 *		What the kernel says of a TCP connection.
 */
#ifndef GENJOB_TCP_H
#define GENJOB_TCP_H

struct tcp_info;

/* Bytes of a connection since it was made, framing included. */
typedef struct TcpBytes
{
	uint64 came;
	int unread;   /* of these, and of what came just then */
	uint64 least; /* were read: at least these, */
	uint64 most;  /* and at most these */
} TcpBytes;

extern bool tcp_read_info(int fd, struct tcp_info *info);
extern bool tcp_count(int fd, TcpBytes *bytes);

#endif /* GENJOB_TCP_H */

/*
 * watch.h
 *		The sockets that libcurl waits for, as one descriptor.
 */
#ifndef GENJOB_WATCH_H
#define GENJOB_WATCH_H

#include <sys/epoll.h>

extern void watch_init(void);
extern int watch_descriptor(void);
extern int watch_count_opened(void);
extern bool watch_opened(int fd);
extern void watch_closed(int fd);
extern bool watch_for(int fd, uint32 events);
extern void watch_rest(int fd, uint32 origin);
extern int watch_find_resting(const char *ip, int port, const char *local_ip, int local_port);
extern bool watch_take(int fd, bool *is_untaken);
extern void watch_give_back(int fd, const bool *is_untaken);
extern bool watch_is_untaken(int fd, const bool *is_untaken);
extern void watch_pause(int fd);
extern int watch_collect(struct epoll_event *events, int n);
extern int watch_charge(int fd, int64 us);
extern uint64 watch_connection(int fd);

#endif /* GENJOB_WATCH_H */

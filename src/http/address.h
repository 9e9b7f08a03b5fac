/*
 * address.h
 *		Which network addresses are private.
 */
#ifndef GENJOB_ADDRESS_H
#define GENJOB_ADDRESS_H

#include <sys/socket.h>

extern bool address_is_private(const struct sockaddr *address);
extern bool address_is_private_text(const char *text);

#endif /* GENJOB_ADDRESS_H */

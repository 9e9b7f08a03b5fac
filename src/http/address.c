/*
 * address.c
 *		Which network addresses are private: those that an answer must not lead us to.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "http/address.h"

/*
 * True if an IPv4 address (in host byte order) is one that the internet does not route: RFC 6890.
 */
static bool
is_private_v4(uint32 address)
{
	static const struct
	{
		uint32 network;
		int bits;
	} networks[] = {
		{0x00000000, 8},  {0x0a000000, 8},  {0x64400000, 10}, {0x7f000000, 8},  {0xa9fe0000, 16},
		{0xac100000, 12}, {0xc0000000, 24}, {0xc0000200, 24}, {0xc0586300, 24}, {0xc0a80000, 16},
		{0xc6120000, 15}, {0xc6336400, 24}, {0xcb007100, 24}, {0xe0000000, 3},
	};
	int i;

	for (i = 0; i < lengthof(networks); i++)
	{
		if ((address ^ networks[i].network) >> (32 - networks[i].bits) == 0)
			return true;
	}
	return false;
}

static uint32
read_v4(const uint8 *b)
{
	return (uint32) b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

/*
 * True if a global unicast address is one that the internet does not route:
 * RFC 6890, RFC 9637.  2001::/23 has protocols' own blocks; the internet
 * routes four of them.
 */
static bool
is_special_v6(const uint8 *b)
{
	uint32 high = read_v4(b);

	if (high >> 9 == 0x20010000 >> 9)
		return !(high == 0x20010003 ||                                /* AMT */
				 (high == 0x20010004 && b[4] == 1 && b[5] == 0x12) || /* AS112 */
				 high >> 4 == 0x20010020 >> 4 ||                      /* ORCHID */
				 high >> 4 == 0x20010030 >> 4);                       /* drones */
	return high == 0x20010db8 || high >> 12 == 0x3fff0000 >> 12;      /* documentation */
}

/*
 * As is_private_v4(), for IPv6.  An address that stands for an IPv4 address is
 * as private as that one.
 */
static bool
is_private_v6(const struct in6_addr *address)
{
	static const uint8 nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	const uint8 *b = address->s6_addr;

	if (IN6_IS_ADDR_V4MAPPED(address) || IN6_IS_ADDR_V4COMPAT(address) ||
		memcmp(b, nat64, sizeof(nat64)) == 0)
		return is_private_v4(read_v4(b + 12));
	if ((b[0] & 0xe0) != 0x20) /* global unicast is 2000::/3 */
		return true;
	if (b[0] == 0x20 && b[1] == 0x02 && is_private_v4(read_v4(b + 2))) /* 6to4 */
		return true;
	if (read_v4(b) == 0x20010000) /* Teredo: its server, its client */
		return is_private_v4(read_v4(b + 4)) || is_private_v4(~read_v4(b + 12));
	if ((read_v4(b + 8) & ~0x02000000) == 0x00005efe && is_private_v4(read_v4(b + 12))) /* ISATAP */
		return true;
	return is_special_v6(b);
}

/*
 * True if an address is loopback, link-local or private, or of an unknown kind.
 */
bool
address_is_private(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_private_v4(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return is_private_v6(&((const struct sockaddr_in6 *) address)->sin6_addr);
	return true;
}

/*
 * As address_is_private(), for an address in its usual notation.
 */
bool
address_is_private_text(const char *text)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return is_private_v4(ntohl(v4.s_addr));
	return inet_pton(AF_INET6, text, &v6) != 1 || is_private_v6(&v6);
}

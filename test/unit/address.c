/*
 * address.c
 *		Which addresses are private, in each form that the answer of a resolver can have.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "http/address.h"

static bool
is_private(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return address_is_private((struct sockaddr *) &v4);
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) != 1)
		unit_ok(false, "%s is an address", text);
	return address_is_private((struct sockaddr *) &v6);
}

static void
check_all(const char *const *addresses, bool expected)
{
	for (; *addresses != NULL; addresses++)
	{
		unit_is_int(is_private(*addresses), expected, "%s", *addresses);
		unit_is_int(address_is_private_text(*addresses), expected, "%s as text", *addresses);
	}
}

static void
test_public(void)
{
	static const char *const addresses[] = {"1.1.1.1",
											"8.8.8.8",
											"9.255.255.255",
											"11.0.0.0",
											"100.63.255.255",
											"100.128.0.0",
											"126.255.255.255",
											"128.0.0.0",
											"169.253.255.255",
											"169.255.0.0",
											"172.15.255.255",
											"172.32.0.0",
											"192.0.1.0",
											"192.167.255.255",
											"192.169.0.0",
											"198.17.255.255",
											"198.20.0.0",
											"223.255.255.255",
											"::ffff:8.8.8.8",
											"64:ff9b::808:808",
											"2001:4860:4860::8888",
											"2001:3::1",
											"2001:4:112::1",
											"2001:20::1",
											"2001:30::1",
											"2001:200::1",
											"2606:4700::1111",
											"2002:808:808::1",
											"2a00::5efe:808:808",
											"2a00::200:5efe:808:808",
											"2a00::7f00:1",
											"3ffe::1",
											NULL};

	check_all(addresses, false);
}

static void
test_private_v4(void)
{
	static const char *const addresses[] = {"0.0.0.0",         "0.255.255.255",
											"10.0.0.1",        "100.64.0.1",
											"100.127.255.255", "127.0.0.1",
											"127.255.255.255", "169.254.169.254",
											"172.16.0.1",      "172.31.255.255",
											"192.0.0.170",     "192.0.2.1",
											"192.88.99.1",     "192.168.0.1",
											"198.18.0.1",      "198.19.255.255",
											"198.51.100.1",    "203.0.113.1",
											"224.0.0.1",       "240.0.0.1",
											"255.255.255.255", NULL};

	check_all(addresses, true);
}

static void
test_private_v6(void)
{
	static const char *const addresses[] = {"::",
											"::1",
											"fe80::1",
											"fec0::1",
											"fc00::1",
											"fd00:ec2::254",
											"ff02::1",
											"100::1",
											"64:ff9b:1::808:808",
											"4000::1",
											"5f00::1",
											"2001:1::1",
											"2001:2::1",
											"2001:10::1",
											"2001:1f:ffff::1",
											"2001:1ff::1",
											"2001:db8::1",
											"3fff::1",
											"3fff:fff:ffff::1",
											NULL};

	check_all(addresses, true);
}

/*
 * IPv6 addresses that lead to an IPv4 address.
 */
static void
test_embedded(void)
{
	static const char *const addresses[] = {"::127.0.0.1",          "::ffff:127.0.0.1",
											"::ffff:0.0.0.0",       "::ffff:169.254.169.254",
											"::ffff:0:127.0.0.1",   "64:ff9b::7f00:1",
											"64:ff9b::a9fe:a9fe",   "64:ff9b::10.0.0.1",
											"2002:7f00:1::1",       "2002:a9fe:a9fe::1",
											"2002:c0a8:1::",        "2001::7f00:1",
											"2001:0:7f00:1::1",     "2001:0:808:808::80ff:fffe",
											"2a00::5efe:7f00:1",    "2a00::200:5efe:a00:1",
											"2a00::5efe:a9fe:a9fe", NULL};

	check_all(addresses, true);
}

/*
 * What is no address at all is private.
 */
static void
test_other(void)
{
	static const char *const texts[] = {"",           "127.1",      "0x7f.1",
										"0177.0.0.1", "2130706433", "8.8.8.8 ",
										"8.8.8",      "fe80::1%1",  "[2001:4860:4860::8888]",
										"localhost"};
	struct sockaddr local = {.sa_family = AF_UNIX};
	int i;

	for (i = 0; i < lengthof(texts); i++)
		unit_ok(address_is_private_text(texts[i]), "\"%s\" is private", texts[i]);
	unit_ok(address_is_private(&local), "a local socket is private");
}

void
unit_run(void)
{
	test_public();
	test_private_v4();
	test_private_v6();
	test_embedded();
	test_other();
}

/*
 * address.c
 *		Which network addresses are private:  of text, and of the bytes of both families.
 */
#include "fuzz.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "http/address.h"

/*
 * An IPv4 address is as private in each of its forms.
 */
static void
compare_forms(const struct in_addr *v4)
{
	struct sockaddr_in plain = {.sin_family = AF_INET, .sin_addr = *v4};
	struct sockaddr_in6 mapped = {.sin6_family = AF_INET6};
	bool is_private = address_is_private((struct sockaddr *) &plain);
	char text[INET6_ADDRSTRLEN];

	mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&mapped.sin6_addr.s6_addr[12], v4, sizeof(*v4));
	must_be(address_is_private((struct sockaddr *) &mapped) == is_private,
			"an address is as private in IPv6", NULL);
	must_be(address_is_private_text(inet_ntop(AF_INET, v4, text, sizeof(text))) == is_private,
			"an address is as private in text", text);
	must_be(address_is_private_text(psprintf("::ffff:%s", text)) == is_private,
			"an address is as private in text of IPv6", text);
}

FUZZ_HARNESS(address)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr unknown = {.sa_family = AF_UNIX};
	char text[INET6_ADDRSTRLEN];

	if (input->len >= sizeof(struct in_addr))
		compare_forms((const struct in_addr *) memcpy(palloc(4), input->data, 4));
	if (input->len >= sizeof(struct in6_addr))
	{
		memcpy(&v6.sin6_addr, input->data, sizeof(struct in6_addr));
		must_be(address_is_private((struct sockaddr *) &v6) ==
					address_is_private_text(inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text))),
				"an address is as private in text", text);
	}
	must_be(address_is_private(&unknown), "an unknown kind of address is private", NULL);
	(void) address_is_private_text(input_take_text(input));
}

/*
 * url.c
 *		URLs:  a server's own on the first line, hosts that are allowed on the second, then one that an
 *		answer gave.
 */
#include "fuzz.h"

#include "http/url.h"

static bool
is_web(const char *url)
{
	return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
}

FUZZ_HARNESS(url)
{
	char *base = input_take_line(input);
	char *hosts = input_take_line(input);
	char *given = input_take_text(input);
	char *resolved = url_resolve(base, given);
	char *shown = url_shown(given);
	bool is_server = url_check(base) == NULL;

	must_be(strchr(shown, '@') == NULL || strchr(shown, '@') > strchr(shown + 8, '/'),
			"a URL is shown without a password", shown);
	(void) url_is_same_origin(base, given);
	(void) url_host_is_allowed(given, hosts);
	if (is_server)
		must_be(url_is_same_origin(base, base), "a server's URL has its own origin", base);
	if (resolved != NULL)
		must_be(is_web(resolved), "what is fetched is of http or https", resolved);
}

/*
 * url.c
 *		URLs: which a server may have, where those of answers lead, and whose they are.
 */
#include "unit.h"

#include "http/url.h"

static void
test_check(void)
{
	static const struct
	{
		const char *url;
		bool is_right;
	} cases[] = {
		{"https://api.test", true},
		{"http://127.0.0.1:8080/v1/", true},
		{"https://[::1]:8080", true},
		{"HTTPS://api.test", true},
		{"ftp://api.test", false},
		{"api.test", false},
		{"https://user@api.test", false},
		{"https://user:word@api.test", false},
		{"https://api.test?key=1", false},
		{"https://api.test/#top", false},
		{"https://", false},
		{"https:///api.test", true},
		{"http:////api.test", false},
		{"https://api.test//v1", true},
		{"file:///etc/passwd", false},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_int(url_check(cases[i].url) == NULL, cases[i].is_right, "%s", cases[i].url);
}

static void
test_resolve(void)
{
	static const struct
	{
		const char *url;
		const char *resolved; /* NULL: refused */
	} cases[] = {
		{"https://cdn.test/a.png", "https://cdn.test/a.png"},
		{"//cdn.test/a.png", "https://cdn.test/a.png"},
		{"/a.png?x=1", "https://api.test/a.png?x=1"},
		{"a.png", "https://api.test/v1/a.png"},
		{"../a.png", "https://api.test/a.png"},
		{"file:///etc/passwd", NULL},
		{"ftp://cdn.test/a.png", NULL},
		{"//cdn.test#\xff a", "https://cdn.test/"},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(url_resolve("https://api.test/v1/make", cases[i].url), cases[i].resolved, "%s",
					 cases[i].url);
}

static void
test_origin(void)
{
	static const struct
	{
		const char *url;
		bool is_same;
	} cases[] = {
		{"https://api.test/x", true},     {"https://API.test/", true},
		{"https://api.test:443/", true},  {"https://api.test:444/", false},
		{"http://api.test/", false},      {"https://api.test.evil/", false},
		{"https://evil/api.test", false}, {"https://api.test@evil/", false},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_int(url_is_same_origin("https://api.test/v1", cases[i].url), cases[i].is_same, "%s",
					cases[i].url);
}

static void
test_allowed(void)
{
	static const struct
	{
		const char *url;
		bool is_allowed;
	} cases[] = {
		{"https://a.test/", true},     {"https://A.TEST/", true},       {"https://x.b.test/", true},
		{"https://x.y.b.test/", true}, {"https://b.test/", false},      {"https://xb.test/", false},
		{"https://c.test/", true},     {"https://a.test.evil/", false},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_int(url_host_is_allowed(cases[i].url, "a.test, *.b.test c.test"),
					cases[i].is_allowed, "%s", cases[i].url);
}

void
unit_run(void)
{
	test_check();
	test_resolve();
	test_origin();
	test_allowed();
}

/*
 * grammar.c
 *		The texts that describe a protocol: addresses, states, headers.
 */
#include "unit.h"

#include "server/grammar.h"

static void
test_states(void)
{
	static const char states[] = "ok=DONE,OK;fail=ERR;gone=LOST;partly=CUT";
	static const struct
	{
		const char *states;
		const char *value;
		RemoteState expected;
	} cases[] = {
		{states, "DONE", REMOTE_OK},           {states, "ok", REMOTE_OK},
		{states, "ERR", REMOTE_FAILED},        {states, "LOST", REMOTE_GONE},
		{states, "CUT", REMOTE_PARTLY},        {states, "busy", REMOTE_RUNNING},
		{states, "", REMOTE_RUNNING},          {states, "DON", REMOTE_RUNNING},
		{states, "DONE,OK", REMOTE_RUNNING},   {"ok=DONE;fail=*", "x", REMOTE_FAILED},
		{"ok=DONE;fail=*", "DONE", REMOTE_OK},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_int(grammar_state_of(cases[i].states, cases[i].value), cases[i].expected,
					"\"%s\" in %s", cases[i].value, cases[i].states);
}

static void
test_headers(void)
{
	static const struct
	{
		const char *headers;
		bool is_right;
	} cases[] = {
		{"{\"X-Team\": \"art\"}", true},
		{"{}", true},
		{"{\"host\": \"evil\"}", false},
		{"{\"content-length\": \"1\"}", false},
		{"{\"proxy-authorization\": \"x\"}", false},
		{"{\"X-A\": \"a\\r\\nX-B: b\"}", false},
		{"{\"X A\": \"a\"}", false},
		{"{\"X-A\": 1}", false},
		{"[]", false},
		{"", false},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_int(grammar_check_headers(cases[i].headers) == NULL, cases[i].is_right,
					"headers %s", cases[i].headers);
}

static void
test_addresses(void)
{
	static const struct
	{
		const char *text;
		bool is_right;
	} cases[] = {
		{"GET /v1/jobs/{id}", true},
		{"GET @/urls/get", true},
		{"POST /cancel {\"id\": \"{id}\"}", true},
		{"/v1/jobs", false},
		{"GET", false},
		{"GET v1", false},
		{"", false},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_int(grammar_check_address(cases[i].text) == NULL, cases[i].is_right, "address %s",
					cases[i].text);
}

static void
test_encode(void)
{
	unit_is_text(grammar_percent_encode("a b/c?d#e%\xc3\xa9", ""), "a%20b%2Fc%3Fd%23e%25%C3%A9",
				 "an id cannot leave its place in a path");
	unit_is_text(grammar_percent_encode("a/b c", "/"), "a/b%20c", "... unless it may");
	unit_is_text(grammar_percent_encode("..", ""), "..", "letters, digits and -._~ stay");
}

void
unit_run(void)
{
	test_states();
	test_headers();
	test_addresses();
	test_encode();
}

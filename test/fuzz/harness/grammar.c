/*
 * grammar.c
 *		The texts that describe a protocol:  each way to read one, of the same text.
 */
#include "fuzz.h"

#include "server/grammar.h"

static const char *(*const checks[])(const char *value) = {
	grammar_check_object, grammar_check_headers,  grammar_check_auth,
	grammar_check_path,   grammar_check_place,    grammar_check_remote_id,
	grammar_check_state,  grammar_check_progress, grammar_check_header_value,
	grammar_check_places, grammar_check_address,  grammar_check_lookup,
	grammar_check_states, grammar_check_encoding,
};

/*
 * Addresses of which the check says that they are right.
 */
static void
read_addresses(const char *text)
{
	text = grammar_fit_addresses(text, true);
	while (text != NULL)
	{
		Address address;

		text = grammar_read_address(text, &address);
		must_be(address.method != NULL && (address.path != NULL || address.place != NULL),
				"an address that passed the check can be read", NULL);
	}
}

static void
encode(const char *text)
{
	const char *encoded = grammar_percent_encode(text, "/");
	const char *p;

	for (p = encoded; *p > ' ' && *p < 0x7f; p++)
		;
	must_be(*p == '\0', "what is percent-encoded is plain ASCII", encoded);
	(void) grammar_fill("/a/{id}/b/{id}", "id", encoded);
	(void) grammar_fill(text, "id", encoded);
}

FUZZ_HARNESS(grammar)
{
	char *line = input_take_line(input);
	char *text = input_take_text(input);
	const char *list = text;
	int len;
	int i;

	for (i = 0; i < lengthof(checks); i++)
		(void) checks[i](text);
	if (grammar_check_address(text) == NULL)
		read_addresses(text);
	while (grammar_next_word(&list, &len) != NULL)
		must_be(len > 0, "a word has letters", NULL);
	(void) grammar_state_of(text, line);
	(void) grammar_state_of(text, text);
	encode(text);
}

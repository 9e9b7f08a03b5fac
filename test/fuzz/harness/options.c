/*
 * options.c
 *		The options of a server or a user mapping, as CREATE SERVER gives them.
 *
 *		server | mapping
 *		NAME=VALUE
 *		...
 *
 * What the validator takes, a request can be built with.
 */
#include "fuzz.h"

#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"

#include "http/header.h"
#include "protocol/request.h"

static List *
read_definitions(FuzzInput *input)
{
	List *defs = NIL;

	while (input->len > 0)
	{
		char *name = input_take_line(input);
		char *value = strchr(name, '=');

		if (value == NULL)
			continue;
		*value++ = '\0';
		defs = lappend(defs, makeDefElem(name, (Node *) makeString(value), -1));
	}
	return defs;
}

static void
build(const ServerOptions *server, const MappingOptions *mapping)
{
	RequestSource source = {server, mapping,
							server->preset->is_store ? "{\"get\": \"a\"}" : "{\"prompt\": \"a\"}"};
	HttpRequest *http;
	ListCell *cell;

	source.idempotency_key = "0190a0a0-0000-7000-8000-000000000000";
	http = request_build(&source);
	foreach(cell, http->headers)
	{
		const HttpHeader *header = lfirst(cell);

		must_be(header_is_name(header->name), "a header has a name", header->name);
		must_be(header_is_value(header->value), "a header has no line break", header->value);
	}
	(void) request_describe(http);
}

FUZZ_HARNESS(options)
{
	bool is_mapping = strcmp(input_take_line(input), "mapping") == 0;
	List *defs = read_definitions(input);
	MappingOptions mapping = {NULL};
	ServerOptions server;

	if (is_mapping)
	{
		options_parse_mapping(defs, &mapping);
		defs = lappend(NIL, makeDefElem("api", (Node *) makeString("http"), -1));
		defs = lappend(defs, makeDefElem("url", (Node *) makeString("http://example.com"), -1));
	}
	options_parse_server(defs, &server);
	if (mapping.access_key_id == NULL)
		mapping.access_key_id = mapping.secret_access_key = "AKID";
	build(&server, &mapping);
}

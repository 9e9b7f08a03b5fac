/*
 * options.c
 *		Options that the engine knows as enums: each word is the value of its name.
 */
#include "cases.h"

#define POLL "reply=poll|remote_id=/id|poll=GET /{id}|states=ok=done|"

static const struct
{
	const char *options;
	size_t offset; /* in ServerOptions */
	int expected;
} words[] = {
#define KIND(field) offsetof(ServerOptions, protocol.kind.field)
	{"method=POST", KIND(method), METHOD_POST},
	{"method=PUT", KIND(method), METHOD_PUT},
	{"method=PATCH", KIND(method), METHOD_PATCH},
	{"method=GET", KIND(method), METHOD_GET},
	{"method=HEAD", KIND(method), METHOD_HEAD},
	{"method=DELETE", KIND(method), METHOD_DELETE},
	{"auth=none", KIND(auth), AUTH_NONE},
	{"auth=bearer", KIND(auth), AUTH_BEARER},
	{"auth=basic", KIND(auth), AUTH_BASIC},
	{"auth=header:x-key", KIND(auth), AUTH_HEADER},
	{"auth=header:x-key:Key", KIND(auth), AUTH_HEADER},
	{"auth=query:key", KIND(auth), AUTH_QUERY},
	{"auth=sigv4|region=a|service=b", KIND(auth), AUTH_SIGV4},
	{"auth=webhook", KIND(auth), AUTH_WEBHOOK},
	{"body=json", KIND(body), BODY_JSON},
	{"body=multipart", KIND(body), BODY_MULTIPART},
	{"body=raw", KIND(body), BODY_RAW},
	{"body=raw", KIND(inputs_body), BODY_RAW},
	{"inputs_body=multipart", KIND(inputs_body), BODY_MULTIPART},
	{"inputs_body=multipart", KIND(body), BODY_JSON},
	{"inputs_as=base64", KIND(inputs_as), INPUTS_BASE64},
	{"inputs_as=data-url", KIND(inputs_as), INPUTS_DATA_URL},
	{"reply=body", KIND(reply), REPLY_BODY},
	{"reply=stream", KIND(reply), REPLY_STREAM},
	{POLL "state=/s", KIND(reply), REPLY_POLL},
	{POLL "state=/exists", KIND(state), STATE_AT_PLACE},
	{POLL "state=exists:/s", KIND(state), STATE_EXISTS},
	{POLL "state=bool:/s", KIND(state), STATE_BOOL},
	{POLL "state=http", KIND(state), STATE_HTTP},
	{"reply=hand-over", KIND(reply), REPLY_HAND_OVER},
	{"requires_output=off", KIND(requires_output), REQUIRES_NOTHING},
	{"requires_output=on", KIND(requires_output), REQUIRES_OUTPUT},
	{"requires_output=/on ?/off", KIND(requires_output), REQUIRES_PLACE},
	{"requires_output= /data", KIND(requires_output), REQUIRES_PLACE},
	{"requires_output=?/data", KIND(requires_output), REQUIRES_OPTIONAL_PLACE},
	{"links_as=url", KIND(links_as), LINKS_AS_URL},
	{"links_as=bytes", KIND(links_as), LINKS_AS_BYTES},
	{"any_answer=on", KIND(any_answer), ANSWER_ANY},
	{"any_answer=off", KIND(any_answer), ANSWER_JSON},
	{"encoding=auto", KIND(encoding), ENCODING_AUTO},
	{"encoding=url", KIND(encoding), ENCODING_URL},
	{"encoding=text", KIND(encoding), ENCODING_TEXT},
	{"encoding=file:/v?f={f}", KIND(encoding), ENCODING_FILE},
	{"download_auth=none", KIND(download_auth), DOWNLOAD_WITHOUT_SECRETS},
	{"download_auth=same-origin", KIND(download_auth), DOWNLOAD_SAME_ORIGIN},
};

static void
test_words(void)
{
	int i;

	for (i = 0; i < lengthof(words); i++)
	{
		ServerOptions *options = cases_options("http", words[i].options);

		unit_is_int(*(int *) ((char *) options + words[i].offset), words[i].expected, "%s",
					words[i].options);
	}
}

static const struct
{
	const char *addressing;
	AddressingKind expected;
} addressings[] = {{"", ADDRESSING_PATH},
				   {"|addressing=path", ADDRESSING_PATH},
				   {"|addressing=virtual", ADDRESSING_VIRTUAL}};

static void
test_addressing(void)
{
	int i;

	for (i = 0; i < lengthof(addressings); i++)
		unit_is_int(cases_options("s3", psprintf("bucket=pictures%s", addressings[i].addressing))
						->addressing_kind,
					addressings[i].expected, "s3%s", addressings[i].addressing);
}

/* Every preset says words that the table knows: else a debug build stops here. */
static void
test_presets(void)
{
	char *rest = preset_list();
	char *api;

	while ((api = strsep(&rest, ",")) != NULL)
	{
		const Preset *preset = preset_find(api + strspn(api, " "));
		ServerOptions *options =
			cases_options(preset->api, preset->is_store ? "bucket=pictures" : "region=a|service=b");
		const int *kinds = (const int *) &options->protocol.kind;
		int i;

		for (i = 0; i < (int) (sizeof(ProtocolKinds) / sizeof(int)); i++)
			unit_ok(kinds[i] >= 0, "%s: word %d", preset->api, i);
	}
}

void
unit_run(void)
{
	test_words();
	test_addressing();
	test_presets();
}

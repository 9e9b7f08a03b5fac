/*
 * words.c
 *		What a server says about a failure: found in a body of any kind, made one line, and without secrets.
 */
#include "unit.h"

#include "protocol/disguise.h"
#include "protocol/words.h"
#include "replies.h"

#define KEY "sk-Geheim/9+8~7=xyzQ"
#define SHORT "pass7!" /* of 6 bytes: masked as it is and as URLs, JSON and HTML write it */
#define TOO_SHORT "abc12"

/*
 * A request with these secrets.
 */
static HttpRequest *
request(void)
{
	static const char *const secrets[] = {KEY, SHORT, TOO_SHORT};
	HttpRequest *made = palloc0(sizeof(HttpRequest));
	int i;

	for (i = 0; i < lengthof(secrets); i++)
	{
		made->secrets = lappend(made->secrets, pstrdup(secrets[i]));
		made->disguises = disguise_list(made->disguises, secrets[i]);
	}
	return made;
}

/*
 * A text of n times c, with a text behind it.
 */
static char *
padded(char c, size_t n, const char *behind)
{
	char *text = memset(palloc(n + strlen(behind) + 1), c, n);

	strcpy(text + n, behind);
	return text;
}

/* ---------- bytes ---------- */

static void
test_spellings(void)
{
	static const struct
	{
		const char *bytes;
		const char *expected;
	} cases[] = {
		/* as it is */
		{"bad key " KEY "!", "bad key ********************!"},
		{KEY KEY, "****************************************"},
		{"key=" KEY "&pw=" SHORT, "key=********************&pw=******"},
		/* as URLs write it */
		{"?k=sk-Geheim%2F9%2B8~7%3DxyzQ&x", "?k=**************************&x"},
		{"?k=sk-Geheim%2f9%2b8~7%3dxyzQ&x", "?k=**************************&x"},
		{"?k=sk-Geheim%252F9%252B8~7%253DxyzQ", "?k=********************************"},
		{"?k=%70ass7%21", "?k=**********"},
		/* as JSON writes it */
		{"{\"k\": \"sk-Geheim\\/9+8~7\\u003dxyzQ\"}", "{\"k\": \"**************************\"}"},
		/* as HTML writes it */
		{"<b>sk-Geheim&#x2F;9&plus;8~7&#61;xyzQ</b>", "<b>**********************************</b>"},
		/* in other case, and broken into lines */
		{"SK-GEHEIM/9+8~7=XYZQ", "********************"},
		{"sk-Geheim/\n   9+8~7=xyzQ.", "************************."},
		/* base64: alone, and behind one byte or two; what depends on its neighbours is left */
		{"Basic c2stR2VoZWltLzkrOH43PXh5elE=", "Basic **************************E="},
		{"Basic OnNrLUdlaGVpbS85Kzh+Nz14eXpR", "Basic On**************************"},
		{"Basic dTpzay1HZWhlaW0vOSs4fjc9eHl6UQ==", "Basic dTp**************************Q=="},
		{"c2stR2VoZWltLzkrOH43PXh5elE", "**************************E"},
		{"cGFzczch", "********"},
		/* hexadecimal */
		{"736b2d47656865696d2f392b387e373d78797a51", "****************************************"},
		{"7061737337 21", "*************"},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(words_of_bytes(request(), cases[i].bytes, strlen(cases[i].bytes)),
					 cases[i].expected, "%s", cases[i].bytes);
}

static void
test_not_masked(void)
{
	static const char *const texts[] = {
		"",
		"the key is wrong",
		"key " TOO_SHORT " is too short to be masked",
		"a%62c12, 6162633132 and YWJjMTI=", /* TOO_SHORT */
		"sk-Geheim",
		"sk-Geheim/9+8~7=xyz",
		"k-Geheim/9+8~7=xyzQ",
		"PASS7!",
		"pas s7!",
		"sk-Geheim/9,8~7=xyzQ",
		"100 % of 5 < 6 & \\o/",
	};
	int i;

	for (i = 0; i < lengthof(texts); i++)
		unit_is_text(words_of_bytes(request(), texts[i], strlen(texts[i])), texts[i],
					 "not a secret");
	unit_is_text(words_of_bytes(NULL, KEY, strlen(KEY)), KEY, "without a request none is masked");
	unit_is_text(words_of_bytes(palloc0(sizeof(HttpRequest)), KEY, strlen(KEY)), KEY,
				 "nor with one that has no secrets");
}

/* Words are one line of valid UTF-8, and not long. */
static void
test_line(void)
{
	static const struct
	{
		const char *what;
		const char *bytes;
		size_t len;
		const char *expected;
	} cases[] = {
		{"lines and blanks", " a\r\n\t b \n", 8, "a b"},
		{"control characters", "a\x1b[31mb\x7f", 8, "a?[31mb?"},
		{"a zero", "a\0b", 3, "a?b"},
		{"no UTF-8", "a\xff\xc3.b", 5, "a??.b"},
		{"UTF-8", "\xc3\xa4\xe2\x82\xac", 5, "\xc3\xa4\xe2\x82\xac"},
		{"half a character at the end", "a\xe2\x82", 3, "a??"},
	};
	char *words;
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(words_of_bytes(NULL, cases[i].bytes, cases[i].len), cases[i].expected, "%s",
					 cases[i].what);
	words = words_clip(padded('x', 5000, ""), 5000);
	unit_is_int((int64) strlen(words), 1000, "bytes of long words");
	words = words_clip(padded('x', 999, "\xe2\x82\xac"), 1002);
	unit_is_int((int64) strlen(words), 999, "they end with a whole character");
	words = words_of_bytes(request(), padded('x', 980, KEY KEY), 1020);
	unit_ok(strlen(words) == 1000 && strstr(words, "sk-") == NULL,
			"a secret is masked before words are cut");
}

/* ---------- JSON ---------- */

static cJSON *
parse(const char *text)
{
	const char *reason;

	return json_parse_answer(pstrdup(text), strlen(text), &reason);
}

static void
test_json(void)
{
	static const struct
	{
		const char *what;
		const char *json;
		const char *expected;
	} cases[] = {
		{"a string", "{\"a\":\"" KEY "\"}", "{\"a\":\"********************\"}"},
		{"an escaped one", "[\"sk-Geh\\u0065im\\u002F9+8~7=xyzQ\"]", "[\"********************\"]"},
		{"JSON in JSON", "[\"{\\\"a\\\":\\\"sk-Geh\\\\u0065im/9+8~7=xyzQ\\\"}\"]",
		 "[\"{\\\"a\\\":\\\"*************************\\\"}\"]"},
		{"a key", "{\"" KEY "\":{\"" SHORT "\":[1,\"x\"]}}",
		 "{\"********************\":{\"******\":[1,\"x\"]}}"},
		{"deep inside", "[[[{\"a\":[true,\"c2stR2VoZWltLzkrOH43PXh5elE=\"]}]]]",
		 "[[[{\"a\":[true,\"**************************E=\"]}]]]"},
		{"nothing of all that", "{\"a\":[\"" TOO_SHORT "\",123456,null,\"sk-Geheim\"]}",
		 "{\"a\":[\"" TOO_SHORT "\",123456,null,\"sk-Geheim\"]}"},
		{"halves are no secret", "[\"sk-Geheim/9\",\"+8~7=xyzQ\"]",
		 "[\"sk-Geheim/9\",\"+8~7=xyzQ\"]"},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		cJSON *json = parse(cases[i].json);

		words_mask_json(request(), json);
		unit_is_text(json_print(json), cases[i].expected, "%s", cases[i].what);
	}
	words_mask_json(NULL, parse("[\"" KEY "\"]"));
	words_mask_json(request(), NULL);
	words_mask_rest(NULL, NULL);
}

/* Large strings are mostly outputs: they are searched for encoded secrets only when those are taken out. */
static void
test_large_strings(void)
{
	static const struct
	{
		const char *what;
		size_t before;
		const char *secret;
		bool at_once;
		bool in_the_end;
	} cases[] = {
		{"plain in a small one", 65536 - 20, KEY, true, true},
		{"encoded in a small one", 65536 - 27, "c2stR2VoZWltLzkrOH43PXh5elE", true, true},
		{"plain in a large one", 65536, KEY, true, true},
		{"encoded in a large one", 65536, "c2stR2VoZWltLzkrOH43PXh5elE", false, true},
		{"too short in a large one", 65536, TOO_SHORT, false, false},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		cJSON *json = parse(psprintf("[\"%s\"]", padded('.', cases[i].before, cases[i].secret)));
		char *end = json->child->valuestring + cases[i].before;

		words_mask_json(request(), json);
		unit_ok((*end == '*') == cases[i].at_once, "%s: at once", cases[i].what);
		words_mask_rest(request(), json);
		unit_ok((*end == '*') == cases[i].in_the_end, "%s: in the end", cases[i].what);
	}
}

/* ---------- replies ---------- */

static void
test_headers(void)
{
	HttpReply *reply = replies_make(302,
									"X-Echo: " KEY "\r\n"
									"location: https://a.test/?k=" KEY "\r\n"
									"X-Late: c2stR2VoZWltLzkrOH43PXh5elE=\r\n"
									"X-Short: " TOO_SHORT "\r\n"
									"X-Half: sk-Geheim",
									"");

	reply->error_text = pstrdup("no host " KEY);
	words_mask_reply(request(), reply);
	unit_is_text(pnstrdup(reply->headers->data, reply->headers->len),
				 "X-Echo: ********************\r\n"
				 "location: https://a.test/?k=" KEY "\r\n"
				 "X-Late: **************************E=\r\n"
				 "X-Short: " TOO_SHORT "\r\n"
				 "X-Half: sk-Geheim",
				 "headers: all but Location, which is followed");
	unit_is_text(reply->error_text, "no host ********************", "libcurl's words");
}

static void
test_bodies(void)
{
	static const struct
	{
		const char *what;
		const char *places;
		const char *body;
		const char *expected;
	} cases[] = {
		{"nothing", "/why", "", ""},
		{"a place of the protocol", "/why /error", "{\"error\":\"b\",\"why\":\"a\"}", "a"},
		{"the usual place", "/why", "{\"error\":{\"message\":\"too hot\"}}", "too hot"},
		{"... with details", "/why", "{\"error\":{\"message\":\"no\",\"details\":\"model\"}}",
		 "no: model"},
		{"none of them", "/why", "{\"code\": 7}", "{\"code\":7}"},
		{"a list of errors", "/why", "[{\"error\":{\"message\":\"a\"}},{}]", "a"},
		{"a secret in JSON", "/why", "{\"why\":\"key \\u0073k-Geheim\\/9+8~7=xyzQ?\"}",
		 "key **************************?"},
		{"a secret as a URL has it, escaped in JSON", "/why", "{\"why\":\"pass7\\u002521\"}",
		 "********"},
		{"a secret in JSON that is shown", "/why", "{\"x\":\"sk-Geheim\\u002f9+8~7=xyzQ\"}",
		 "{\"x\":\"*************************\"}"},
		{"XML", "/why",
		 "<?xml version=\"1.0\"?><Error><Code>Denied</Code><Message>no " KEY "</Message></Error>",
		 "Denied: no ********************"},
		{"XML with a code only", "/why", "<Error><Code>Denied</Code></Error>", "Denied"},
		{"a page", "/why", "<html><head><TITLE>502 Bad\n Gateway</TITLE></head></html>",
		 "(an HTML page) 502 Bad Gateway"},
		{"a page without a title", "/why", "<!DOCTYPE html><p>" KEY "</p>", "(an HTML page)"},
		{"text", "/why", "no\nroom for " SHORT, "no room for ******"},
		{"bytes", "/why", "\1\2\3\xff", ""},
	};
	cJSON *json;
	int i;

	for (i = 0; i < lengthof(cases); i++)
		unit_is_text(words_of_body(request(), replies_make(400, "", cases[i].body), cases[i].places,
								   NULL, &json),
					 cases[i].expected, "%s", cases[i].what);
}

static void
test_copy(void)
{
	char *large = padded('x', 65536 - 5, KEY " and more");
	HttpReply *reply = replies_make(400, "", "no\tkey\n" KEY);
	char *copy;

	unit_is_text(words_copy_body(request(), reply), "no\tkey\n********************",
				 "a text stays as it is, but for the secret");
	unit_ok(words_copy_body(request(), replies_make(400, "", "")) == NULL, "nothing is no text");
	unit_ok(words_copy_body(request(), replies_make(400, "", "\1\2\3\xff")) == NULL,
			"nor are bytes");
	reply->undecoded = "compressed";
	unit_ok(words_copy_body(request(), reply) == NULL, "nor is what is still compressed");
	copy = words_copy_body(request(), replies_make(400, "", large));
	unit_is_int((int64) strlen(copy), 65536, "of a large one, the first 64 kB");
	unit_is_text(copy + 65536 - 6, "x*****", "... without the beginning of a secret");
}

void
unit_run(void)
{
	test_spellings();
	test_not_masked();
	test_line();
	test_json();
	test_large_strings();
	test_headers();
	test_bodies();
	test_copy();
}

/*
 * sigv4.c
 *		AWS Signature Version 4: AWS's own test suite, its examples for S3, and what a canonical request is.
 *
 * The suite is "AWS Signature Version 4 Test Suite", Copyright 2019 Amazon.com, Inc. or its affiliates
 * (Apache License 2.0), but for the header over several lines.  The examples are those of "Signature
 * Calculations for the Authorization Header" and "Authenticating Requests: Using Query Parameters" in the
 * reference of the S3 API.
 */
#include "unit.h"

#include "base/digest.h"
#include "http/http.h"
#include "protocol/sigv4.h"

#define SUITE_TIME 1440938160 /* 20150830T123600Z */
#define S3_TIME 1369353600    /* 20130524T000000Z */

typedef struct SuiteCase
{
	const char *name;
	const char *method;
	const char *path;
	const char *headers;
	const char *body;
	const char *signature;
} SuiteCase;

/* clang-format off */
static const SuiteCase suite[] = {
	{"get-header-key-duplicate", "GET", "/", "Host:example.amazonaws.com\nMy-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\nX-Amz-Date:20150830T123600Z", "", "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"},
	{"get-header-value-order", "GET", "/", "Host:example.amazonaws.com\nMy-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2\nX-Amz-Date:20150830T123600Z", "", "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"},
	{"get-header-value-trim", "GET", "/", "Host:example.amazonaws.com\nMy-Header1: value1\nMy-Header2: \"a   b   c\"\nX-Amz-Date:20150830T123600Z", "", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	{"get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"},
	{"get-utf8", "GET", "/\341\210\264", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"},
	{"get-vanilla-empty-query-key", "GET", "/?Param1=value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"},
	{"get-vanilla-query-order-encoded", "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac"},
	{"get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"},
	{"get-vanilla-query-order-key", "GET", "/?Param1=value2&Param1=Value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "eedbc4e291e521cf13422ffca22be7d2eb8146eecf653089df300a15b2382bd1"},
	{"get-vanilla-query-order-value", "GET", "/?Param1=value2&Param1=value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694"},
	{"get-vanilla-query-unreserved", "GET", "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197"},
	{"get-vanilla-query", "GET", "/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-vanilla-utf8-query", "GET", "/?\341\210\264=bar", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"},
	{"get-vanilla", "GET", "/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-relative-relative", "GET", "/example1/example2/../..", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-relative", "GET", "/example/..", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-slash-dot-slash", "GET", "/./", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-slash-pointless-dot", "GET", "/./example", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"},
	{"get-slash", "GET", "//", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
	{"get-slashes", "GET", "//example//", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"},
	{"get-space", "GET", "/example space/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"},
	{"get-special-character", "GET", "/example/$delete", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "a853c9b21b528b19643d00910d35b83a10c366a10833ceefb45edd6c80e40f27"},
	{"post-header-key-case", "POST", "/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-header-key-sort", "POST", "/", "Host:example.amazonaws.com\nMy-Header1:value1\nX-Amz-Date:20150830T123600Z", "", "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"},
	{"post-header-value-case", "POST", "/", "Host:example.amazonaws.com\nMy-Header1:VALUE1\nX-Amz-Date:20150830T123600Z", "", "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"},
	{"post-sts-header-after", "POST", "/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-sts-header-before", "POST", "/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z\nX-Amz-Security-Token:AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==", "", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"},
	{"post-vanilla-empty-query-value", "POST", "/?Param1=value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"post-vanilla-query", "POST", "/?Param1=value1", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11"},
	{"post-vanilla", "POST", "/", "Host:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
	{"post-x-www-form-urlencoded-parameters", "POST", "/", "Content-Type:application/x-www-form-urlencoded; charset=utf8\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "Param1=value1", "1a72ec8f64bd914b0e42e42607c7fbce7fb2c7465f63e3092b3b0d39fa77a6fe"},
	{"post-x-www-form-urlencoded", "POST", "/", "Content-Type:application/x-www-form-urlencoded\nHost:example.amazonaws.com\nX-Amz-Date:20150830T123600Z", "Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"},
};
/* clang-format on */

static const SigV4Scope suite_scope = {"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
									   NULL, "us-east-1", "service"};
static const SigV4Scope s3_scope = {"AKIAIOSFODNN7EXAMPLE",
									"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", NULL, "us-east-1",
									"s3"};

/*
 * Headers of text that has one a line, "Name:value".
 */
static List *
headers_of(const char *text)
{
	List *headers = NIL;

	while (*text != '\0')
	{
		size_t len = strcspn(text, "\n");
		size_t name_len = strcspn(text, ":");
		HttpHeader *header = palloc0(sizeof(HttpHeader));

		header->name = pnstrdup(text, name_len);
		header->value = pnstrdup(text + name_len + 1, len - name_len - 1);
		headers = lappend(headers, header);
		text += len + (text[len] == '\n');
	}
	return headers;
}

static void
test_suite(void)
{
	int i;

	for (i = 0; i < lengthof(suite); i++)
	{
		const SuiteCase *c = &suite[i];
		SigV4Call call = {c->method, psprintf("https://example.amazonaws.com%s", c->path),
						  headers_of(c->headers), digest_sha256_hex(c->body, strlen(c->body)),
						  SUITE_TIME};
		char *signature;
		char *header = sigv4_authorization(&suite_scope, &call, &signature);

		unit_is_text(signature, c->signature, "AWS's suite: %s", c->name);
		unit_ok(strncmp(header,
						"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/"
						"aws4_request, SignedHeaders=",
						95) == 0,
				"... and its header");
	}
}

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct S3Case
{
	const char *method;
	const char *url;
	const char *headers;
	const char *payload_hash;
	const char *signature;
} S3Case;

static const S3Case s3_cases[] = {
	{"GET", "https://examplebucket.s3.amazonaws.com/test.txt",
	 "Host:examplebucket.s3.amazonaws.com\nRange:bytes=0-9\nx-amz-content-sha256:" EMPTY
	 "\nx-amz-date:20130524T000000Z",
	 EMPTY, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
	{"PUT", "https://examplebucket.s3.amazonaws.com/test%24file.text",
	 "Host:examplebucket.s3.amazonaws.com\nDate:Fri, 24 May 2013 00:00:00 GMT\n"
	 "x-amz-date:20130524T000000Z\nx-amz-storage-class:REDUCED_REDUNDANCY\nx-amz-content-sha256:"
	 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
	 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
	 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
	{"GET", "https://examplebucket.s3.amazonaws.com/?lifecycle",
	 "Host:examplebucket.s3.amazonaws.com\nx-amz-content-sha256:" EMPTY
	 "\nx-amz-date:20130524T000000Z",
	 EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
	{"GET", "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
	 "Host:examplebucket.s3.amazonaws.com\nx-amz-content-sha256:" EMPTY
	 "\nx-amz-date:20130524T000000Z",
	 EMPTY, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static void
test_s3(void)
{
	SigV4Call get = {"GET", "https://examplebucket.s3.amazonaws.com/test.txt",
					 headers_of("Host:examplebucket.s3.amazonaws.com"), SIGV4_UNSIGNED, S3_TIME};
	char *signature;
	int i;

	for (i = 0; i < lengthof(s3_cases); i++)
	{
		const S3Case *c = &s3_cases[i];
		SigV4Call call = {c->method, c->url, headers_of(c->headers), c->payload_hash, S3_TIME};

		(void) sigv4_authorization(&s3_scope, &call, &signature);
		unit_is_text(signature, c->signature, "AWS's example: %s %s", c->method, c->url);
	}
	unit_is_text(sigv4_presign(&s3_scope, &get, 86400, &signature),
				 "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-"
				 "Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date="
				 "20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
				 "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
				 "AWS's example of a presigned URL");
}

/*
 * A server that computes the signature from what it received must get the same one.
 */
static void
test_canonical(void)
{
	SigV4Scope s3 = s3_scope;
	SigV4Scope lambda = s3_scope;
	SigV4Call call = {"PUT", "http://h/b/a//b/../c%2Bd%2fe+f:g?b=2&b=1&a&c=%7e%20+&",
					  headers_of("Host:h\nUser-Agent:x\nAccept:y"), SIGV4_UNSIGNED, S3_TIME};

	lambda.service = "lambda";
	unit_is_text(sigv4_canonical_request(&s3, &call),
				 "PUT\n/b/a//b/../c%2Bd/e%2Bf%3Ag\na=&b=1&b=2&c=~%20%20\nhost:h\n\nhost\n"
				 "UNSIGNED-PAYLOAD",
				 "S3: each byte of the path encoded once, no segment gone, the query sorted");
	unit_is_text(sigv4_canonical_request(&lambda, &call),
				 "PUT\n/b/a/c%252Bd%252fe%2Bf%3Ag\na=&b=1&b=2&c=~%20%20\nhost:h\n\nhost\n"
				 "UNSIGNED-PAYLOAD",
				 "other services: the path normalized, and encoded once more");
	call.url = "http://h/a/b/..";
	unit_ok(strncmp(sigv4_canonical_request(&lambda, &call), "PUT\n/a\n\n", 8) == 0,
			"dots at the end leave no slash, as botocore has it");
	call.url = "http://h/a/b/../";
	unit_ok(strncmp(sigv4_canonical_request(&lambda, &call), "PUT\n/a/\n\n", 9) == 0,
			"... but a slash behind them does");
	call.url = "http://h";
	unit_ok(strncmp(sigv4_canonical_request(&s3, &call), "PUT\n/\n\n", 7) == 0,
			"no path is a slash");
	call.url = "http://h/%zz%4";
	unit_ok(strncmp(sigv4_canonical_request(&s3, &call), "PUT\n/%25zz%254\n", 15) == 0,
			"a percent sign that begins nothing is a percent sign");
}

/*
 * What is sent is what is signed: some servers compare the query as it came.
 */
static void
test_url(void)
{
	static const struct
	{
		const char *service;
		const char *url;
		const char *sent;
	} cases[] = {
		{"lambda", "http://h/p+q/%7e?a=b+c&a=%2B", "http://h/p+q/%7E?a=b%20c&a=%2B"},
		{"lambda", "http://h/q?b=x/y~*&a=%7E%2f&&c", "http://h/q?b=x%2Fy~%2A&a=~%2F&c="},
		{"lambda", "http://h/q?a=b=c?d&=e&f=%&g=%zz", "http://h/q?a=b%3Dc%3Fd&=e&f=%25&g=%25zz"},
		{"lambda", "http://h/q?", "http://h/q"},
		{"lambda", "http://h/%c3%bc%2F%zz%a", "http://h/%C3%BC%2F%zz%a"},
		{"s3", "http://h:9/p+q/%7e%2f[?a", "http://h:9/p%2Bq/~/%5B?a="},
		{"s3", "http://h?a+b", "http://h?a%20b="},
	};
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		char *sent = sigv4_url(cases[i].service, cases[i].url);

		unit_is_text(sent, cases[i].sent, "%s for %s", cases[i].url, cases[i].service);
		unit_is_text(sigv4_url(cases[i].service, sent), sent, "... and once more");
	}
}

static void
test_date(void)
{
	char date[SIGV4_DATE_LEN];

	sigv4_date(SUITE_TIME, date);
	unit_is_text(date, "20150830T123600Z", "a date");
	sigv4_date(0, date);
	unit_is_text(date, "19700101T000000Z", "the first one");
}

void
unit_run(void)
{
	test_suite();
	test_s3();
	test_canonical();
	test_url();
	test_date();
}

/*
 * signing.c
 *		What auth 'sigv4' adds to a request: its signature.
 */
#include "postgres.h"

#include "base/digest.h"
#include "http/url.h"
#include "protocol/building.h"
#include "protocol/sigv4.h"

/*
 * True if the requests to a server must be signed.
 */
bool
signing_is_due(const ServerOptions *options)
{
	return options->protocol.kind.auth == AUTH_SIGV4;
}

/*
 * Returns who signs.  Raises an error for the user if the user mapping has no
 * access key.
 */
static SigV4Scope
scope_of(const RequestSource *source)
{
	const MappingOptions *secrets = source->secrets;
	SigV4Scope scope = {
		.access_key_id = secrets->access_key_id,
		.secret_access_key = secrets->secret_access_key,
		.session_token = secrets->session_token,
		.region = source->options->protocol.region,
		.service = source->options->protocol.service,
	};

	if (scope.access_key_id == NULL || scope.secret_access_key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
				 errmsg("there is no access key to sign the request with"),
				 errhint(
					 "CREATE USER MAPPING ... OPTIONS (access_key_id '...', secret_access_key '...')")));
	return scope;
}

/*
 * Adds the headers that a signature needs; they are signed with the others.
 */
static void
add_signed_headers(HttpRequest *http, const SigV4Scope *scope, const SigV4Call *call)
{
	char *host = url_host(http->url);
	char date[SIGV4_DATE_LEN];

	sigv4_date(call->now_unix, date);
	headers_set(http, "Host", host ? host : "", NULL);
	headers_set(http, "X-Amz-Date", pstrdup(date), NULL);
	if (sigv4_is_s3(scope->service))
		headers_set(http, "X-Amz-Content-SHA256", pstrdup(call->payload_hash), NULL);
	if (scope->session_token != NULL)
		headers_set(http, "X-Amz-Security-Token", pstrdup(scope->session_token), "***");
}

/*
 * Sets the URL that is sent and signed.
 */
static void
set_signed_url(HttpRequest *http, const SigV4Scope *scope)
{
	bool is_shown = http->shown_url == http->url;

	http->url = sigv4_url(scope->service, http->url);
	if (is_shown)
		http->shown_url = http->url;
}

/*
 * Signs a request, and encodes its URL as it is signed.  Do not change the
 * request afterwards.
 */
void
signing_sign(HttpRequest *http, const RequestSource *source)
{
	SigV4Scope scope = scope_of(source);
	SigV4Call call = {.method = http->method,
					  .payload_hash = http->body_sha256
										  ? http->body_sha256
										  : digest_sha256_hex(http->body, http->body_len),
					  .now_unix = source->now_unix};
	char *signature;
	char *authorization;

	set_signed_url(http, &scope);
	call.url = http->url;
	add_signed_headers(http, &scope, &call);
	call.headers = http->headers;
	authorization = sigv4_authorization(&scope, &call, &signature);
	headers_set(http, "Authorization", authorization, "AWS4-HMAC-SHA256 ***");
	headers_add_secret(http, signature);
	http->is_signed = true;
}

/*
 * Returns url as every client sends it, palloc'd: browsers change a host with
 * capitals and the port 80 of http, and others send them as they are.
 */
static char *
common_url(const SigV4Scope *scope, const char *url, const char *host)
{
	const char *start = strstr(url, "://");
	const char *rest = start ? start + strlen("://") : url;

	return sigv4_url(scope->service,
					 psprintf("%s://%s%s", pg_strncasecmp(url, "https:", 6) == 0 ? "https" : "http",
							  host, rest + strcspn(rest, "/?")));
}

/*
 * Returns a URL with which anyone can make a call for that many seconds,
 * palloc'd, and in *signature the signature in it, which must not be shown.
 * With a content type, the caller must send exactly that.
 */
char *
signing_presign(const RequestSource *source, const char *method, const char *url,
				const char *content_type, int expires, char **signature)
{
	SigV4Scope scope = scope_of(source);
	HttpHeader host = {"Host", url_host(url)};
	HttpHeader type = {"Content-Type", unconstify(char *, content_type)};
	SigV4Call call = {.method = method,
					  .url = common_url(&scope, url, host.value),
					  .payload_hash = SIGV4_UNSIGNED,
					  .now_unix = source->now_unix};

	call.headers = lappend(NIL, &host);
	if (content_type != NULL)
		call.headers = lappend(call.headers, &type);
	return sigv4_presign(&scope, &call, expires, signature);
}

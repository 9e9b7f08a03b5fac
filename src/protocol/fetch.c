/*
 * fetch.c
 *		The requests that download outputs.
 */
#include "postgres.h"

#include "http/url.h"
#include "protocol/building.h"
#include "protocol/request.h"
#include "protocol/words.h"

/*
 * Returns the request that downloads an output.  Secrets go along only to the
 * server itself, and only if its option download_auth says so.  A URL that
 * leads elsewhere must not lead into a private network, unless the server is
 * in one.  room: the most bytes that the answer may have, at most
 * max_response.
 */
HttpRequest *
request_download(const RequestSource *source, const char *url, bool server_is_private, size_t room)
{
	const ServerOptions *options = source->options;
	bool own = url_is_same_origin(url, options->url);
	HttpRequest *http = request_begin(options, "GET", pstrdup(url), options->timeout);

	headers_note_secrets(http, source->secrets);
	http->max_response = room;
	http->is_download = true;
	http->public_only = !own && !server_is_private;
	if (own && options->protocol.kind.download_auth == DOWNLOAD_SAME_ORIGIN)
	{
		headers_set_server(http, source);
		if (signing_is_due(options))
			signing_sign(http, source);
	}
	headers_set(http, "Accept", pstrdup("*/*"), NULL);
	http->shown_url = url_shown(http->url);
	words_mask(http, http->shown_url, strlen(http->shown_url));
	return http;
}

/*
 * Asks for a download uncompressed.  If some of it has come, asks only for the
 * rest, provided that the file is still the same.
 */
void
request_pour(HttpRequest *http)
{
	const HttpPour *pour = http->pour;

	headers_set(http, "Accept-Encoding", "identity", NULL);
	if (pour->received == 0)
		return;
	headers_set(http, "Range", psprintf("bytes=" UINT64_FORMAT "-", pour->received), NULL);
	if (pour->etag != NULL)
		headers_set(http, "If-Range", pstrdup(pour->etag), NULL);
}

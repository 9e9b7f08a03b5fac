/*
 * handle.c
 *		What libcurl is told of a call: what is the same for all, and what
 *		differs.
 */
#include "postgres.h"

#include "base/memory.h"
#include "http/decode.h"
#include "http/header.h"
#include "http/transfer.h"

#define MAX_SPARE_HANDLES 256
#define MAX_IDLE_SECONDS 30L
/*
 * A submission may wait for minutes, among thousands, so it gets small
 * buffers.  What is large goes by large ones: libcurl fills one buffer, or
 * empties it, each time that it visits a socket, and other calls are visited
 * between.
 */
#define SMALL_RECEIVE_BUFFER 4096L
#define LARGE_RECEIVE_BUFFER 65536L
#define LARGE_ANSWER (256 * 1024)
#define SMALL_SEND_BUFFER \
	16384L /* libcurl's minimum; from version 8.7 on it keeps it until the answer is there */
#define LARGE_SEND_BUFFER 65536L
#define OBJECT_SEND_BUFFER 131072L /* a store answers soon */

static CURL *spare_handles[MAX_SPARE_HANDLES];
static int n_spare_handles = 0;

/*
 * Sets what is the same for every call.  libcurl follows no redirect and uses
 * no proxy of the environment: a paid call goes where the server's url says
 * and nowhere else.  False when memory is short.
 */
static bool
set_policy(CURL *easy)
{
	bool is_set = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
				  curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
				  curl_easy_setopt(easy, CURLOPT_USERAGENT, "genjob/" GENJOB_VERSION) == CURLE_OK;

	/*
	 * libcurl reads the certificates once, not for every connection, only if
	 * it looks at no folder of them
	 */
	if (curl_version_info(CURLVERSION_NOW)->cainfo != NULL)
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, 30L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, 15L);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, MAX_IDLE_SECONDS);
	callbacks_set(easy);
	return is_set;
}

/*
 * Returns a handle with everything that is the same for every call; NULL when memory is short.
 */
CURL *
handle_take(void)
{
	CURL *easy;

	if (n_spare_handles > 0)
		return spare_handles[--n_spare_handles];
	easy = curl_easy_init();
	if (easy == NULL || set_policy(easy))
		return easy;
	curl_easy_cleanup(easy);
	return NULL;
}

/*
 * Keeps a handle for another call, which sets again whatever differs between
 * calls.  A worn handle is reset first: it has something that is not set
 * again.  That is an option of few calls, whose default cannot be set; or what
 * libcurl counts itself, such as how often it sent a request again, which some
 * versions count for all calls together.
 */
void
handle_release(CURL *easy, bool is_worn)
{
	if (is_worn)
		curl_easy_reset(easy);
	if (n_spare_handles >= MAX_SPARE_HANDLES || (is_worn && !set_policy(easy)))
	{
		curl_easy_cleanup(easy);
		return;
	}
	/* libcurl writes there between calls, too, when it refuses an option */
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	spare_handles[n_spare_handles++] = easy;
}

/*
 * True if every header is one line.  Options were checked when they were set,
 * but the catalogs or the row may have changed since.  This is the last check:
 * a line break would begin another header or another request.
 */
bool
handle_headers_are_sound(List *headers)
{
	ListCell *cell;

	foreach(cell, headers)
	{
		const HttpHeader *header = lfirst(cell);

		if (!header_is_name(header->name) || !header_is_value(header->value))
			return false;
	}
	return true;
}

static bool
has_header(List *headers, const char *name)
{
	ListCell *cell;

	foreach(cell, headers)
	{
		if (pg_strcasecmp(((const HttpHeader *) lfirst(cell))->name, name) == 0)
			return true;
	}
	return false;
}

/*
 * Returns a header as libcurl wants it, palloc'd.  libcurl leaves out a header
 * whose value is empty or blank, unless it is written "Name;".
 */
static char *
header_line(const HttpHeader *header)
{
	if (header->value[strspn(header->value, " \t")] == '\0')
		return psprintf("%s;", header->name);
	return psprintf("%s: %s", header->name, header->value);
}

struct curl_slist *
handle_copy_headers(const HttpRequest *request)
{
	/* never wait for a "100 Continue": many servers do not send one */
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	bool asks = !request->is_signed && !has_header(request->headers, "Accept-Encoding");
	ListCell *cell;

	if (asks && list != NULL)
	{
		struct curl_slist *longer = curl_slist_append(list, "Accept-Encoding: " DECODE_ACCEPTED);

		if (longer == NULL)
			curl_slist_free_all(list);
		list = longer;
	}
	foreach(cell, request->headers)
	{
		const HttpHeader *header = lfirst(cell);
		char *line = header_line(header);
		struct curl_slist *longer = list ? curl_slist_append(list, line) : NULL;

		pfree(line);
		if (longer == NULL)
		{
			curl_slist_free_all(list);
			return NULL;
		}
		list = longer;
	}
	return list;
}

/*
 * True if a request has no body, and no header about one.
 */
static bool
has_no_body(const HttpRequest *request)
{
	return request->body_len == 0 &&
		   (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0 ||
			strcmp(request->method, "DELETE") == 0);
}

/*
 * Returns the size of the buffer for the answer to a request.
 */
static long
receive_buffer(const HttpRequest *request)
{
	if (request->is_download ||
		(request->account != NULL && request->account->usual >= LARGE_ANSWER))
		return LARGE_RECEIVE_BUFFER;
	return has_no_body(request) ? (long) CURL_MAX_WRITE_SIZE : SMALL_RECEIVE_BUFFER;
}

static long
send_buffer(const HttpRequest *request, bool has_small_body)
{
	if (has_small_body)
		return SMALL_SEND_BUFFER;
	return request->object != NULL ? OBJECT_SEND_BUFFER : LARGE_SEND_BUFFER;
}

/*
 * Sets the method and the body, and resets what a request of the other kind may have left in the handle.
 */
static CURLcode
set_method(CURL *easy, const HttpRequest *request, bool has_small_body)
{
	/* each of these two makes libcurl POST */
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, has_small_body ? request->body : NULL);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_len);
	curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, send_buffer(request, has_small_body));
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, receive_buffer(request));
	if (has_no_body(request))
	{
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		curl_easy_setopt(easy, CURLOPT_NOBODY, strcmp(request->method, "HEAD") == 0 ? 1L : 0L);
		return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	}
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	return curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
}

/*
 * Sets in a transfer's handle what differs between calls.  If the result is
 * not CURLE_OK, the call must not be made: in some versions (8.22) a refused
 * option keeps the last call's value, so that the call would go to another
 * server.
 */
CURLcode
handle_set_request(HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	CURL *easy = transfer->easy;
	CURLcode url = curl_easy_setopt(easy, CURLOPT_URL, request->url);
	CURLcode method = set_method(easy, request, transfer->has_small_body);
	CURLcode ca_file = CURLE_OK;

	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) request->connect_timeout);
	if (request->ca_file != NULL)
		ca_file = curl_easy_setopt(easy, CURLOPT_CAINFO, request->ca_file);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, request->is_signed || request->keeps_path ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->error_text);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_SEEKDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	return url != CURLE_OK ? url : method != CURLE_OK ? method : ca_file;
}

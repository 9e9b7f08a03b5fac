/*
 * outcome.c
 *		How a call has ended: libcurl's codes in genjob's words.
 */
#include "postgres.h"

#include "base/jsontext.h"
#include "http/transfer.h"

#define LONGEST_LINE (1024 * 1024) /* of headers; libcurl takes less */
#define CODE_TOO_LARGE 100         /* CURLE_TOO_LARGE, since libcurl 8.6 */

#define HTTP_SWITCHES 101 /* a status */

/* For a connection that was kept from an earlier call */
#define CLOSED_BEFORE "the server had closed the kept connection, and read nothing of this call"
#define CLOSED_MEANWHILE \
	"the server closed the kept connection while this call was being sent; " \
	"it may or may not have read the call"

/*
 * True if libcurl's "out of memory" is not true.  Before 8.6 libcurl says so,
 * too, when a header line is too long for it.
 */
static bool
has_memory(void)
{
	void *volatile some = malloc(LONGEST_LINE);

	free(some);
	return some != NULL;
}

/*
 * True if libcurl refused a line of the headers because of its length.
 */
static bool
is_too_long_a_line(const HttpTransfer *transfer, CURLcode code)
{
	if (transfer->n_sendings == 0)
		return false;
	return (int) code == CODE_TOO_LARGE || (code == CURLE_OUT_OF_MEMORY && has_memory());
}

static HttpError
classify_error(const HttpTransfer *transfer, CURLcode code)
{
	if (transfer->refused_address)
		return HTTP_FORBIDDEN;
	if (transfer->refused_resending || transfer->found_dead)
		return HTTP_CUT;
	if (transfer->flood != NULL || is_too_long_a_line(transfer, code))
		return HTTP_GARBLED;
	switch (code)
	{
		case CURLE_OK:
			/* "101 Switching Protocols" is no end of an answer, but libcurl takes it for one */
			return transfer->reply->status == HTTP_SWITCHES ? HTTP_GARBLED : HTTP_OK;
		case CURLE_COULDNT_RESOLVE_HOST:
			return HTTP_RESOLVE;
		case CURLE_COULDNT_CONNECT:
			return HTTP_CONNECT;
		case CURLE_OPERATION_TIMEDOUT:
			return transfer->reply->sent ? HTTP_TIMEOUT : HTTP_CONNECT;
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
			return HTTP_UNTRUSTED;
		case CURLE_SSL_CONNECT_ERROR:
			return HTTP_TLS;
		case CURLE_GOT_NOTHING:
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_PARTIAL_FILE:
		case CURLE_SEND_FAIL_REWIND:
			return HTTP_CUT;
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_BAD_CONTENT_ENCODING:
			return HTTP_GARBLED;
		case CURLE_OUT_OF_MEMORY:
			return HTTP_MEMORY;
		case CURLE_WRITE_ERROR:
			return transfer->out_of_memory ? HTTP_MEMORY
				   : transfer->overflowed  ? HTTP_TOO_LARGE
										   : HTTP_GARBLED;
		default:
			return HTTP_OTHER;
	}
}

static void
describe_error(HttpTransfer *transfer, CURLcode code)
{
	char *text = transfer->error_text;

	if (transfer->reply->error == HTTP_OK)
		text[0] = '\0';
	else if (transfer->flood != NULL)
		strlcpy(text, transfer->flood, CURL_ERROR_SIZE);
	else if (transfer->refused_resending)
		strlcpy(text, CLOSED_MEANWHILE, CURL_ERROR_SIZE);
	else if (transfer->found_dead || transfer->is_untaken)
		strlcpy(text, CLOSED_BEFORE, CURL_ERROR_SIZE);
	else if (transfer->kept_fd >= 0 && transfer->header_lines == 0 &&
			 transfer->reply->error == HTTP_CUT)
		strlcpy(text, CLOSED_MEANWHILE, CURL_ERROR_SIZE);
	else if (is_too_long_a_line(transfer, code))
		strlcpy(text, "a line of its headers is too long", CURL_ERROR_SIZE);
	else if (code == CURLE_OK && transfer->reply->error == HTTP_GARBLED)
		strlcpy(text, "it switched to another protocol (HTTP 101)", CURL_ERROR_SIZE);
	else if (text[0] == '\0')
		strlcpy(text, curl_easy_strerror(code), CURL_ERROR_SIZE);
	/* libcurl quotes names and answers as they came, and cuts them anywhere */
	json_sanitize_text(text, strlen(text));
}

/*
 * True if the server certainly took nothing of the request, because the kept connection was dead.
 */
bool
outcome_is_unsent(const HttpTransfer *transfer)
{
	return transfer->reply->error != HTTP_OK && transfer->header_lines == 0 &&
		   (transfer->found_dead || transfer->is_untaken);
}

/*
 * Fills in a transfer's reply, while libcurl still knows how it ended.
 */
void
outcome_note(HttpTransfer *transfer, CURLcode code)
{
	HttpReply *reply = transfer->reply;
	long request_size = 0;
	long status = 0;

	/*
	 * before the first sending, libcurl may still tell of the handle's last
	 * call
	 */
	if (transfer->n_sendings > 0)
	{
		curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &request_size);
		curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	}
	reply->sent = request_size > 0 && !transfer->is_untaken;
	reply->status = (int) status;
	reply->error = classify_error(transfer, code);
	reply->error_text = transfer->error_text;
	describe_error(transfer, code);
	/* nobody reads them, and each line would be searched for secrets */
	if (transfer->flood != NULL)
		reply->headers->len = 0;
}

/*
 * transfer.h
 *		A call as libcurl has it; for http.c and the files of this folder only.
 */
#ifndef GENJOB_TRANSFER_H
#define GENJOB_TRANSFER_H

#include <curl/curl.h>

#include "datatype/timestamp.h"
#include "lib/ilist.h"

#include "http.h"

struct HttpTransfer
{
	dlist_node node; /* on starting or finished */
	bool is_listed;
	CURL *easy;
	struct curl_slist *headers;
	CURLcode refusal; /* what libcurl said of the request's options */
	const HttpRequest *request;
	size_t body_sent;
	int n_sendings; /* how often libcurl had a connection, and was about to send the request */
	HttpMeter *meter;
	HttpReply *reply;
	void *tag;       /* the caller's */
	bool overflowed; /* the body passed max_response */
	bool out_of_memory;
	bool refused_address; /* by request->public_only */
	bool refused_resending;
	bool has_small_body; /* which libcurl sends together with the headers */

	/* Of one whose answer had to wait for memory */
	dlist_node slow_node; /* on slow, while was_paused */
	bool was_paused;      /* once, and libcurl's timeout does not count any more */
	bool is_paused;
	size_t wanted;         /* bytes of memory, while is_paused */
	TimestampTz paused_at; /* while is_paused */
	TimestampTz due;       /* when the time without pauses is used up */
	char error_text[CURL_ERROR_SIZE];
};

/* callbacks.c */
extern void callbacks_set(CURL *easy);

/* handle.c */
extern CURL *handle_take(void);
extern void handle_release(CURL *easy, bool is_worn);
extern CURLcode handle_set_request(HttpTransfer *transfer);

/* pauses.c */
extern void pauses_begin(HttpTransfer *transfer);
extern void pauses_end(HttpTransfer *transfer);
extern void pauses_forget(HttpTransfer *transfer);
extern int pauses_count(void);
extern HttpTransfer *pauses_next_to_end(void);
extern TimestampTz pauses_next_overdue(void);
extern HttpTransfer *pauses_next_to_cut(TimestampTz now);

#endif /* GENJOB_TRANSFER_H */

/*
 * transfer.h
 *		A call as libcurl has it; for the files of this folder only.
 */
#ifndef GENJOB_TRANSFER_H
#define GENJOB_TRANSFER_H

#include <curl/curl.h>

#include "lib/ilist.h"
#include "lib/pairingheap.h"

#include "base/clock.h"
#include "http/http.h"
#include "http/watch.h"

struct HttpTransfer
{
	dlist_node node; /* on starting, parked or finished */
	bool is_listed;
	CURL *easy;
	int fd; /* of the socket that libcurl waits for; -1: none */
	struct curl_slist *headers;
	CURLcode refusal; /* what libcurl said to the request's options */
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
	bool found_dead;     /* the kept connection that libcurl chose had ended: nothing was sent */
	bool is_untaken;     /* the server had closed it before it took a byte of the request */
	bool is_sent_again;  /* on a new connection, after found_dead or is_untaken */
	uint32 origin;       /* of its URL, for idle.c */
	int kept_fd;         /* of the kept connection that it uses; -1: it uses a new one */
	bool has_small_body; /* libcurl sends it together with the headers */

	/* Its time; all of clock_wire() */
	dlist_node connecting_node; /* while is_connecting */
	bool is_connecting;
	MonoTime stall;              /* clock_stall() when it began */
	pairingheap_node timed_node; /* while is_timed */
	bool is_timed;               /* under way, and not paused */
	MonoTime next_due;           /* while is_timed */
	bool has_rest;               /* its time is over; what had come by then is being read */
	uint64 rest_came;            /* bytes of the connection that had come by then */
	int n_rest;                  /* reads that are left for these, at most */
	MonoTime due;                /* of the whole call; pauses move it */

	dlist_node heavy_node; /* while is_heavy */
	bool is_heavy;         /* waits for its turn to be read */

	/* Its answer */
	dlist_node active_node; /* while is_active: libcurl has it */
	bool is_active;
	bool has_body;           /* some of it has come */
	uint64 expected;         /* bytes of its body for which memory is reserved */
	MonoTime received_at;    /* when the last byte of its body came; at first, when it was sent */
	int header_lines;        /* of all answers, interim ones too, and trailers */
	int answer_lines;        /* those of the present one */
	int folded_lines;        /* header lines that continue another one */
	const char *flood;       /* why it is cut: it brought far more than an answer has; or NULL */
	uint64 flood_connection; /* number of the connection whose bytes are counted; 0: none */
	uint64 flood_bytes;      /* bytes of it that had been read when counting began */
	uint64 flood_received;   /* bytes of the body that had come by then */
	bool is_spilled;         /* the body is in a file */
	int spill_fd;            /* while is_spilled */
	size_t spilled;          /* bytes of the body that are there, or still to be moved there */
	bool is_moving;          /* its body is being moved there */
	size_t moved;            /* bytes of the body that are there */
	dlist_node moving_node;  /* while is_moving */
	size_t decoded;          /* bytes of memory that decoding has taken so far */
	size_t decoding;         /* bytes of memory to wait for before decoding is tried again */

	/* While its answer waits for memory */
	dlist_node paused_node; /* while is_paused */
	bool was_paused;        /* at least once */
	bool is_paused;
	size_t wanted;      /* bytes of memory, while is_paused */
	MonoTime paused_at; /* while is_paused */

	/* For an answer that comes in pieces */
	bool is_considered; /* is_pouring was decided */
	bool is_pouring;
	bool is_full;          /* paused until its piece is taken */
	dlist_head *full_list; /* the list that it is on, while is_full; or NULL */
	dlist_node full_node;

	/* For an answer that is a stream */
	bool is_stream;
	bool is_fresh;         /* it has brought something that was not shown */
	dlist_node fresh_node; /* while is_fresh */

	char error_text[CURL_ERROR_SIZE];
};

/* http.c */
extern CURLM *http_multi;
extern dlist_head http_active;  /* the transfers that libcurl has */
extern MonoTime http_timer_due; /* of clock_uptime(), as libcurl's own clock; 0: it has no timer */
extern void http_finish(HttpTransfer *transfer, CURLcode code);
extern void http_take_done(void);
extern void http_complete(HttpTransfer *transfer);

/* parked.c */
extern void parked_take(HttpTransfer *transfer);
extern void parked_take_back(void);
extern bool parked_exist(void);
extern bool parked_is_due(void);
extern void parked_forget(HttpTransfer *transfer);

/* callbacks.c */
extern void callbacks_set(CURL *easy);

/* handle.c */
extern CURL *handle_take(void);
extern void handle_release(CURL *easy, bool is_worn);
extern bool handle_headers_are_sound(List *headers);
extern struct curl_slist *handle_copy_headers(const HttpRequest *request);
extern CURLcode handle_set_request(HttpTransfer *transfer);

/* heavy.c */
#define HEAVY_US 250 /* a visit that took longer may not have read all there is */
extern void heavy_wait(HttpTransfer *transfer);
extern void heavy_note(HttpTransfer *transfer, int64 us);
extern HttpTransfer *heavy_next(void);
extern void heavy_forget(HttpTransfer *transfer);
extern int heavy_count(void);

/* idle.c */
extern void idle_limit(CURLM *multi, int n_transfers);
extern void idle_note_peak(int n_transfers);
extern void idle_shrink(int n_transfers);
extern MonoTime idle_next_shrink(void);
extern uint32 idle_origin_of(const char *url);
extern void idle_choose(const HttpTransfer *transfer, int n_transfers);
extern void idle_note_closing(uint32 origin);
extern void idle_note_rest(uint32 origin);
extern void idle_note_end(const HttpTransfer *transfer);

/* sluice.c */
extern bool sluice_consider(HttpTransfer *transfer);
extern bool sluice_is_too_large(const HttpTransfer *transfer);
extern size_t sluice_room(const HttpTransfer *transfer);
extern bool sluice_may_be_favoured(const HttpTransfer *transfer);
extern bool sluice_is_full(const HttpTransfer *transfer);
extern bool sluice_append(HttpTransfer *transfer, const char *data, size_t len);
extern void sluice_wait(HttpTransfer *transfer);
extern void sluice_forget(HttpTransfer *transfer);
extern HttpTransfer *sluice_next(void);
extern bool sluice_is_due(void);

/* streams.c */
extern void streams_note(HttpTransfer *transfer);
extern void streams_forget(HttpTransfer *transfer);
extern MonoTime streams_next_pass(void);

/* outcome.c */
extern void outcome_note(HttpTransfer *transfer, CURLcode code);
extern bool outcome_is_unsent(const HttpTransfer *transfer);

/* pauses.c */
extern void pauses_begin(HttpTransfer *transfer);
extern void pauses_end(HttpTransfer *transfer);
extern void pauses_forget(HttpTransfer *transfer);
extern int pauses_count(void);
extern HttpTransfer *pauses_next_to_end(void);
extern HttpTransfer *pauses_relieve(const dlist_head *active, MonoTime now);

/* deadlines.c */
extern void deadlines_init(void);
extern void deadlines_begin(HttpTransfer *transfer);
extern void deadlines_connected(HttpTransfer *transfer);
extern void deadlines_pause(HttpTransfer *transfer);
extern void deadlines_resume(HttpTransfer *transfer);
extern void deadlines_end(HttpTransfer *transfer);
extern MonoTime deadlines_next(void);
extern void deadlines_read_on(HttpTransfer *transfer);
extern HttpTransfer *deadlines_next_over(MonoTime now);
extern void deadlines_excuse_stall(void);

/* visits.c */
extern void visits_serve(const struct epoll_event *events, int n, MonoTime enough);
extern bool visits_take_long(void);
extern void visits_run_timer(void);
extern void visits_heavy(MonoTime enough);
extern bool visits_read_rest(HttpTransfer *transfer, MonoTime enough);

/* spill.c */
extern bool spill_begin(HttpTransfer *transfer);
extern bool spill_append(HttpTransfer *transfer, const char *data, size_t len);
extern bool spill_has_room(size_t bytes);
extern void spill_end(HttpTransfer *transfer);
extern size_t spill_received(const HttpTransfer *transfer);
extern void spill_work(void);
extern bool spill_is_moving(void);

typedef enum SpillResult
{
	SPILL_MORE,  /* there is another piece */
	SPILL_BACK,  /* all of it is in memory */
	SPILL_FAILED /* memory is short, or the file cannot be read */
} SpillResult;

extern SpillResult spill_take_back(HttpTransfer *transfer);

#endif /* GENJOB_TRANSFER_H */

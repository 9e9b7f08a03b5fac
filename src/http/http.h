/*
 * http.h
 *		HTTP calls that wait without blocking.
 */
#ifndef GENJOB_HTTP_H
#define GENJOB_HTTP_H

#include "nodes/pg_list.h"
#include "port/atomics.h"

#include "base/bytes.h"

/* Bytes that went over the wire so far; may lie in shared memory. */
typedef struct HttpMeter
{
	pg_atomic_uint64 sent;
	pg_atomic_uint64 received;
	pg_atomic_uint64 expected; /* all bytes to be received, as the server says; 0: unknown */
} HttpMeter;

typedef struct HttpHeader
{
	const char *name;
	char *value;
	const char *shown; /* what people see, if value is a secret; else NULL */
} HttpHeader;

#define HTTP_PIECE ((size_t) 8 * 1024 * 1024) /* bytes of an answer that comes in pieces */

struct Digest;

/*
 * How to receive an answer that may be too large for memory.  Lives as long as
 * the calls that bring it.
 */
typedef struct HttpPour
{
	size_t max;           /* bytes that the answer may have in pieces */
	uint64 received;      /* bytes that have come, by this call and earlier ones */
	int64 total;          /* the answer's bytes; -1: unknown */
	bool is_alone;        /* only its present piece is in memory: it may pass the limit */
	const char *etag;     /* that the answer must have, as it stood in the header; or NULL */
	Bytes *begun;         /* what an earlier call brought of the present piece */
	struct Digest *whole; /* of all that has come */
	struct Digest *piece; /* of the present piece */
} HttpPour;

/*
 * What to send.  Everything it points to must live as long as the transfer.
 */
typedef struct HttpRequest
{
	const char *method;
	char *url;
	char *shown_url; /* as url, without secrets */
	List *headers;   /* of HttpHeader */
	List *secrets;   /* of char *: the answer must not give them away again */
	List *disguises; /* of char *: other forms of the secrets to look for (disguise.c) */
	char *body;
	size_t body_len;
	const char *body_sha256; /* hexadecimal, where it is known; or NULL */
	char *object;            /* "s3://bucket/key", for whoever reads the answer; or NULL */
	bool is_signed;
	bool is_sent_once; /* libcurl must not repeat it, even if it has no body */
	bool keeps_path;   /* send "." and ".." in the URL's path as they are, as if it was signed */

	int64 timeout;                 /* ms, from start to last byte */
	int64 connect_timeout;         /* ms */
	size_t max_response;           /* bytes of body */
	struct MemoryAccount *account; /* its server's, which counts the answer; or NULL */
	const char *ca_file;           /* or NULL */
	bool names_model;              /* what it asks for says itself of which model */
	bool public_only;              /* never connects to a loopback or private address */
	bool is_download;              /* fetches an output */
	HttpPour *pour;                /* its answer may come in pieces; or NULL */
	bool is_dispensable;           /* when memory is full, cut it rather than wait */
} HttpRequest;

/* How a transfer ended, and why it got no complete answer. */
typedef enum HttpError
{
	HTTP_OK,        /* it got a complete answer, of any status */
	HTTP_RESOLVE,   /* the name has no address */
	HTTP_CONNECT,   /* nobody listens, or nobody answers, there */
	HTTP_FORBIDDEN, /* the address is a private one, and only public ones are allowed */
	HTTP_TLS,       /* the handshake failed */
	HTTP_UNTRUSTED, /* the certificate does not verify */
	HTTP_TIMEOUT,   /* connected, but no complete answer in time */
	HTTP_CUT,       /* the connection ended before the answer did */
	HTTP_GARBLED,   /* what came is not HTTP */
	HTTP_TOO_LARGE, /* more than max_response */
	HTTP_MEMORY,    /* no memory for the answer */
	HTTP_OTHER
} HttpError;

/*
 * What came back.  Lives in the memory context given to http_start().
 */
typedef struct HttpReply
{
	HttpError error;
	char *error_text;     /* libcurl's words; empty when error is HTTP_OK */
	bool sent;            /* bytes of the request have left; if not, nobody can have acted on it */
	bool peer_is_private; /* the address that was tried last is private */
	bool peer_is_public;  /* it is connected to a public address */
	int status;           /* 0 when none came */
	bool is_poured;       /* complete pieces were there: body is what came behind them */
	bool is_pieces;       /* the answer comes in pieces, or is the rest that was asked for */
	bool is_elsewhere;    /* the answer is not the rest that was asked for */
	int n_decoded;        /* encodings that were taken off the body */
	bool is_decoded;      /* all its encodings were taken off */
	const char *
		undecoded; /* why the body is as it came although it is compressed, behind "it is"; or NULL */
	Bytes *headers; /* as they came, of the last answer */
	Bytes *body;    /* followed by a NUL byte that len does not count, once complete */
} HttpReply;

typedef struct HttpTransfer HttpTransfer;

/* The dispatcher's event loop */
extern void http_init(void);
extern void http_meter_init(HttpMeter *meter);
extern int http_wait_fd(void);
extern long http_wait_ms(void);
extern void http_work(void);
extern void http_send_started(void);

extern HttpTransfer *http_start(const HttpRequest *request, HttpMeter *meter, MemoryContext owner,
								void *tag);
extern bool http_take_finished(void **tag, HttpReply **reply);
extern bool http_take_stream(void **tag, const char **body, size_t *len);
extern bool http_take_full(void **tag);
extern bool http_is_full(const HttpTransfer *transfer);
extern HttpReply *http_so_far(const HttpTransfer *transfer);
extern Bytes *http_take_piece(HttpTransfer *transfer, MemoryContext owner, uint8 *digest);
extern void http_keep_whole(HttpTransfer *transfer);
extern void http_abort(HttpTransfer *transfer);
extern bool http_peer_is_public(const HttpTransfer *transfer);

#endif /* GENJOB_HTTP_H */

/*
 * standin.h
 *		What the files of the stand-in GenAI server share.
 *
 * The stand-in is one single-threaded process that plays GenAI servers for
 * tests and benchmarks.  Layers, top to bottom:
 *
 *	standin.c	the process: options, listening, TLS, signals
 *	admin.c		/_standin/...: what tests ask about what arrived
 *	call.c		the life of one call, from its arrival to its end
 *	deliver.c	how an answer goes out: whole, in pieces, cut, stalled
 *	spoil.c		what a fault makes of an answer
 *	answer.c, stream.c
 *				what dialects write answers with
 *	openai.c, replicate.c, ...
 *				dialects: each a table of routes; a new provider is one more file
 *	files.c		downloads, of our own and of a foreign host
 *	prediction.c
 *				what was submitted and is asked for later
 *	auth.c		keys: those that must come, those that must not
 *	script.c, fault.c
 *				what a request asked for, and what shall go wrong
 *	counts.c	how often what arrived, and the last requests
 *	picture.c, body.c, json.c
 *				drawing PNGs, reading request bodies, writing JSON
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <cjson/cJSON.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

typedef struct Call Call;
typedef struct Body Body;
typedef struct Prediction Prediction;
typedef struct Script Script;

/* What a call is for */
typedef enum Errand
{
	ERRAND_SUBMIT, /* work: counted by key and id, and told by its script */
	ERRAND_POLL,   /* these four are about a prediction, and told by that one's script */
	ERRAND_RESULT,
	ERRAND_DOWNLOAD,
	ERRAND_CANCEL,
	ERRAND_ASK /* about the server: no script */
} Errand;

/*
 * One address that a dialect answers.  "accept" reads the request while its
 * body is still there: it keeps in the call what the answer needs (small: ten
 * thousand calls may be waiting), or refuses with call_refuse().  "answer"
 * writes the answer when the latency is over.  Either may be NULL, when the
 * other does it all.
 */
typedef struct Route
{
	const char *method; /* NULL: any */
	const char *path;   /* "{id}" and the like: what has no '/'; '*' at its end: any rest */
	void (*accept)(Call *call, const Body *body);
	void (*answer)(Call *call);
	Errand errand;
} Route;

/* How a provider speaks */
typedef struct Dialect
{
	const Route *routes; /* ends with a row whose path is NULL */
	const char *auth;    /* header and what is before the key in it; NULL: takes no key */
	int unauthorized;    /* status for a wrong key */
	const char *unauthorized_message;
	const char *busy_message; /* with 429; NULL: none of its own */
	const char *ids;          /* ids of its predictions; each x becomes a digit */
	bool foreign_files;       /* URLs of its files lead to the foreign host */
	bool own_endings; /* sees to the script's "outcome" of calls that are answered at once */
	void (*write_error)(Call *call, int status, const char *code, const char *message);
} Dialect;

/* Where calls come in: the server itself, or the foreign host of its files */
typedef struct Listener
{
	const Dialect *const *dialects; /* ends with NULL */
	bool counted;                   /* are its connections? */
	bool foreign;
} Listener;

extern const Dialect openai_dialect;
extern const Dialect openai_text_dialect;
extern const Dialect openai_responses_dialect;
extern const Dialect anthropic_dialect;
extern const Dialect sdapi_dialect;
extern const Dialect sdcpp_dialect;
extern const Dialect replicate_dialect;
extern const Dialect fal_dialect;
extern const Dialect bfl_dialect;
extern const Dialect comfyui_dialect;
extern const Dialect runpod_dialect;
extern const Dialect huggingface_dialect;
extern const Dialect ollama_dialect;
extern const Dialect gemini_dialect;
extern const Dialect stability_dialect;
extern const Dialect kserve_dialect;
extern const Dialect files_dialect;
extern const Dialect foreign_dialect;
extern const Dialect plain_dialect;

/* One part of a multipart/form-data body */
typedef struct Part
{
	char *name;
	char *filename;     /* NULL: a plain field */
	char *content_type; /* NULL: none given */
	char *text;         /* a plain field's value; NULL for a file */
	const char *data;   /* points into the body */
	size_t len;
} Part;

/* A request's body, as long as the request is being accepted */
struct Body
{
	const char *data;
	size_t len;
	cJSON *json; /* NULL: it is not JSON */
	bool multipart;
	Part *parts;
	int nparts;
};

/* What to draw; pictures of equal descriptions are equal byte for byte */
typedef struct Picture
{
	uint32_t seed; /* of prompt, seed and inputs */
	int width;
	int height;
	int n;
	size_t prompt_bytes;
	size_t input_bytes;
} Picture;

typedef enum Cut
{
	CUT_NONE,
	CUT_ACCEPT,  /* before the first byte of an answer */
	CUT_HEADERS, /* after the headers */
	CUT_BODY     /* after half the body */
} Cut;

typedef enum Stall
{
	STALL_NONE,
	STALL_ALL, /* not one byte of an answer */
	STALL_BODY /* headers and half the body, then nothing */
} Stall;

typedef enum Garbage
{
	GARBAGE_NONE,
	GARBAGE_NOT_JSON,
	GARBAGE_TRUNCATED_JSON,
	GARBAGE_EMPTY,
	GARBAGE_NUL,        /* a NUL byte inside a JSON string */
	GARBAGE_NUL_ESCAPE, /* \u0000 inside a JSON string */
	GARBAGE_INVALID_UTF8,
	GARBAGE_NESTED,
	GARBAGE_BAD_BASE64,
	GARBAGE_ERROR_200,
	GARBAGE_HTML,
	GARBAGE_NO_HTTP
} Garbage;

/*
 * What is to go wrong with one answer.  The pointers lead into "script", which
 * the fault owns; all is zero when nothing is to go wrong.
 */
typedef struct Fault
{
	cJSON *script;
	int status;
	Cut cut;
	Stall stall;
	Garbage garbage;
	bool reset;
	bool chunked;
	bool close;
	bool hang_up;      /* after the answer, which did not say so */
	double hang_up_ms; /* so long after a chunked one */
	bool has_latency;
	double latency_ms;
	bool has_retry_date;
	double retry_date_in_s;
	double retry_in_s; /* said in the body, as the dialect says it */
	bool stream_error; /* an error in mid-stream */
	const char *redirect;
	double drip_bytes;
	double drip_every_ms;
	double huge;
	double interim; /* so many answers 103 before */
	const char *retry_after;
	const char *message;
	const char *content_type;
	const cJSON *headers;
	const cJSON *body;
} Fault;

/*
 * The answer to a call.  Its body is "body", then "padding" bytes that are not
 * held in memory, then "tail".
 */
typedef struct Answer
{
	int status; /* 0: not written yet */
	const char *content_type;
	struct evbuffer *body;
	size_t padding;
	char padding_byte;
	struct evbuffer *tail;
	const char *delimiter; /* ends each event of a stream; NULL: no stream */
} Answer;

/* How far the delivery of an answer in pieces is (deliver.c) */
typedef struct Stream
{
	size_t sent;
	size_t limit; /* stop here, of the whole body */
	size_t piece;
	double every_ms; /* 0: as fast as the client takes it */
	bool ended;      /* its last chunk is out; what is left is to hang up */
} Stream;

/* How a call ended */
typedef enum Outcome
{
	OUTCOME_ANSWERED, /* the answer was written to its last byte */
	OUTCOME_ABORTED,  /* the client closed before that */
	OUTCOME_CUT       /* we closed before that, because a fault says so */
} Outcome;

/* How the work is to end */
typedef enum Ending
{
	ENDING_SUCCEED,
	ENDING_FAIL,
	ENDING_MODERATED,
	ENDING_CANCELLED, /* by the provider */
	ENDING_GONE,      /* forgotten by the provider */
	ENDING_NEVER
} Ending;

/* What happens to predictions, beside their calls */
typedef enum Event
{
	EVENT_SUBMITTED, /* a prediction was made: money is spent */
	EVENT_REPEATED,  /* submitted again, and known again: nothing is spent */
	EVENT_POLL,
	EVENT_RESULT,
	EVENT_DOWNLOAD,
	EVENT_CANCEL,    /* asked for */
	EVENT_CANCELLED, /* done */
	EVENT_LEAK,      /* a secret was sent to a foreign host */
	NEVENTS
} Event;

/* Where a call is counted (counts.c) */
typedef struct CountRef
{
	uint32_t epoch;
	uint32_t key;
	uint32_t id;
} CountRef;

/* One call, from the arrival of its request until the connection is done with it */
/* Whether a call is one of those that are worked on (capacity.c) */
typedef enum Place
{
	PLACE_NONE, /* it brings no work, or is refused */
	PLACE_WAITING,
	PLACE_WORKING,
	PLACE_CANCELLING
} Place;

struct Call
{
	TAILQ_ENTRY(Call) link;
	TAILQ_ENTRY(Call) line; /* while PLACE_WAITING */
	Place place;
	struct evhttp_request *req;
	struct evhttp_connection *evcon;
	const Listener *listener;
	const Dialect *dialect; /* NULL: nobody answers this address */
	const Route *route;     /* NULL: the same */
	char *about;            /* what the address has for {id}; NULL: nothing */
	Prediction *prediction; /* referred to; NULL: none */
	struct event *timer;
	double arrived_s;
	double work_ms;    /* how long the work takes */
	double latency_ms; /* how long the answer takes: the work, unless it is a prediction's */
	double chunk_ms;   /* between the events of a stream */
	Ending ending;
	Script *script;  /* while it is being accepted */
	bool delivering; /* the latency is over */
	bool cutting;    /* we close the connection, not the client */
	bool interrupted;
	CountRef count;
	Fault fault;
	char *usage; /* JSON text; NULL: the dialect's own */
	Answer answer;
	Stream stream;
	Picture picture;
	char *note; /* JSON text that the dialect keeps for its answer */
};

/* What the script of a request says */
struct Script
{
	cJSON *json;    /* owned; NULL: no script */
	const char *id; /* NULL: not given */
};

/* A member of a script: its name and the types its value may have */
typedef struct Member
{
	const char *name;
	int types;
} Member;

#define TYPE_BOOL (cJSON_True | cJSON_False)
#define TYPE_ANY 0xFF

/* standin.c */
extern const char *own_scheme;
extern char *own_base;     /* "http://host:port" */
extern char *foreign_base; /* "http://host:port" of the host of files */

/* call.c */
extern struct event_base *call_base;
extern double call_default_latency_ms;
extern void call_handle_request(struct evhttp_request *req, void *listener);
extern void call_arm(Call *call, double ms);

/* capacity.c */
extern void capacity_set(unsigned n, bool refuse);
extern void capacity_refuse_all(int status, const char *retry_after);
extern void capacity_set_cancels(unsigned n);
extern void capacity_enter(Call *call);
extern void capacity_enter_cancel(Call *call);
extern void capacity_leave(Call *call);

extern void call_on_event(struct bufferevent *bev, short what, void *arg);
extern void call_hang_up(Call *call, bool reset);
extern void call_hurry(Call *call);
extern Call *call_oldest(const Route *routes);
extern double clock_now_s(void);

/* answer.c */
extern struct evbuffer *call_begin_answer(Call *call, int status, const char *content_type);
extern struct evbuffer *call_begin_stream(Call *call, const char *content_type,
										  const char *delimiter);
extern void call_add_header(Call *call, const char *name, const char *value);
extern const char *call_header(const Call *call, const char *name);
extern char *call_query(const Call *call, const char *name);
extern char *call_own_url(const Call *call, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
extern char *text_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
extern void call_refuse(Call *call, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
extern void call_write_error(Call *call, int status, const char *code, const char *message);
extern void call_write_fault(Call *call);
extern bool call_describe(Call *call, const Body *body, int status);
extern void call_apply_ending(Call *call);

/* stream.c */
extern char *call_said(const Call *call, const char *prompt);
extern size_t text_piece_bytes(const char *text);
extern size_t text_pieces(const char *text);

/* spoil.c */
extern void answer_apply_fault(Call *call);

/* deliver.c */
extern size_t answer_bytes(const Answer *answer);
extern void deliver_answer(Call *call);
extern void deliver_next(Call *call);

/* openai.c */
extern void openai_write_error(Call *call, int status, const char *code, const char *message);

/* auth.c */
extern const char *auth_key;
extern bool auth_is_valid(const Call *call);
extern bool auth_has_secret(const Call *call);

/* script.c */
extern bool script_read(Script *script, struct evhttp_request *req, const Body *body, char **why);
extern bool script_choose(Script *script, Call *call, uint32_t nth, char **why);
extern const char *script_text(const cJSON *script, const char *name);
extern double script_number(const cJSON *script, const char *name, double otherwise);
extern bool script_bool(const cJSON *script, const char *name);
extern bool script_complain(char **why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
extern bool script_check_members(const cJSON *object, const Member *members, const char *where,
								 char **why);
extern bool script_read_name(const cJSON *object, const char *name, const char *const *names,
							 int *value, char **why);
extern void script_free(Script *script);

/* fault.c */
extern bool fault_check_list(const cJSON *script, const char *list, char **why);
extern bool fault_choose(Fault *fault, const cJSON *script, const char *list, uint32_t nth,
						 char **why);

/* counts.c */
extern void counts_add_connection(void);
extern void counts_remove_connection(void);
extern uint32_t counts_arrive(CountRef *ref, const char *key, const char *id, const char *path);
extern void counts_end(const CountRef *ref, Outcome outcome);
extern void counts_add(const CountRef *ref, Event event);
extern void counts_add_leak(void);
extern void counts_add_refused(void);
extern void counts_write(struct evbuffer *out, bool summary);
extern void counts_log_request(struct evhttp_request *req, const Body *body, const char *id);
extern void counts_write_requests(struct evbuffer *out, int limit);
extern void counts_reset(void);

/* admin.c */
extern bool admin_handle_request(struct evhttp_request *req, const char *path, bool counted);

/* body.c */
extern void body_read(Body *body, struct evhttp_request *req);
extern void body_free(Body *body);
extern const char *body_text(const Body *body, const char *name);
extern bool body_number(const Body *body, const char *name, double *number);
extern Body body_inside(const Body *body, const char *name);
extern const char *body_prompt(const Body *body);
extern const char *json_last_text(const cJSON *messages);
extern const char *request_method(const struct evhttp_request *req);

/* json.c */
extern size_t utf8_bytes(const unsigned char *text, size_t len);
extern void json_add_text(struct evbuffer *out, const char *text, size_t len);
extern void json_add_string(struct evbuffer *out, const char *string);
extern void json_add_base64(struct evbuffer *out, const void *data, size_t len);
extern unsigned char *base64_decode(const char *text, size_t *len);
extern void json_add_headers(struct evbuffer *out, struct evhttp_request *req);

/* picture.c */
extern bool picture_describe(Picture *picture, const Body *body, char **why);
extern void picture_mix_input(Picture *picture, const void *data, size_t len);
extern void picture_mix_member(Picture *picture, const cJSON *object, const char *name);
extern const void *picture_draw(const Picture *picture, int index, size_t *len);
extern void picture_add_base64(Call *call, struct evbuffer *out, int index);
extern void picture_free_buffers(void);

#endif /* STANDIN_H */

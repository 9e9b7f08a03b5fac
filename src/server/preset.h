/*
 * preset.h
 *		What each value of the option "api" means.
 */
#ifndef GENJOB_PRESET_H
#define GENJOB_PRESET_H

/*
 * Options that are one of a few words.  Each enum has the order of the words
 * in the table of options.c.
 */
typedef enum MethodKind
{
	METHOD_POST,
	METHOD_PUT,
	METHOD_PATCH,
	METHOD_GET, /* this and the methods below have no body */
	METHOD_HEAD,
	METHOD_DELETE
} MethodKind;

typedef enum AuthKind
{
	AUTH_NONE,
	AUTH_BEARER,
	AUTH_BASIC,
	AUTH_HEADER,
	AUTH_QUERY,
	AUTH_SIGV4,
	AUTH_WEBHOOK
} AuthKind;

typedef enum BodyKind
{
	BODY_JSON,
	BODY_MULTIPART,
	BODY_RAW,
	BODY_IN_URL /* no word of the option: for methods without a body */
} BodyKind;

typedef enum InputsKind
{
	INPUTS_BASE64,
	INPUTS_DATA_URL
} InputsKind;

typedef enum LinksKind
{
	LINKS_AS_URL,
	LINKS_AS_BYTES
} LinksKind;

typedef enum ReplyKind
{
	REPLY_BODY,
	REPLY_STREAM,
	REPLY_POLL,
	REPLY_HAND_OVER
} ReplyKind;

typedef enum StateKind
{
	STATE_AT_PLACE,
	STATE_EXISTS,
	STATE_BOOL,
	STATE_HTTP
} StateKind;

typedef enum AnswerKind
{
	ANSWER_ANY,
	ANSWER_JSON
} AnswerKind;

typedef enum RequirementKind
{
	REQUIRES_NOTHING,
	REQUIRES_OUTPUT,
	REQUIRES_PLACE,         /* something at one of the places, or an output */
	REQUIRES_OPTIONAL_PLACE /* the same; the first place need not be there */
} RequirementKind;

typedef enum EncodingKind
{
	ENCODING_AUTO,
	ENCODING_URL,
	ENCODING_TEXT,
	ENCODING_FILE
} EncodingKind;

typedef enum DownloadAuth
{
	DOWNLOAD_WITHOUT_SECRETS,
	DOWNLOAD_SAME_ORIGIN
} DownloadAuth;

/* The same options of one server, as enums. */
typedef struct ProtocolKinds
{
	MethodKind method;
	AuthKind auth;
	BodyKind body;
	BodyKind inputs_body;
	InputsKind inputs_as;
	LinksKind links_as;
	ReplyKind reply;
	StateKind state; /* only valid if the protocol has a state */
	RequirementKind requires_output;
	AnswerKind any_answer;
	EncodingKind encoding;
	DownloadAuth download_auth;
} ProtocolKinds;

/*
 * A wire protocol, as data.  Each field is a server option of the same name; a preset is a set of
 * defaults for them.  NULL means "has none".
 *
 * Places are JSON Pointers in which "*" is every element and "{id}" the remote id; lists of them are
 * separated by spaces and tried in order.  Addresses are "METHOD path", the path below the server's
 * url with {model} and {id} filled in, or "METHOD @place": the URL that an answer gave there.
 */
typedef struct Protocol
{
	/* Submitting */
	const char *method; /* POST | PUT | PATCH, with a body; GET | HEAD | DELETE, without one */
	const char *auth; /* none | bearer | basic | header:NAME[:PREFIX] | query:NAME | sigv4 | webhook */
	const char *region;      /* for sigv4; NULL: taken from an AWS host's name */
	const char *service;     /* the same */
	const char *path;        /* below url */
	const char *body;        /* json | multipart | raw */
	const char *wrap;        /* where the request's members go; everything else stays beside them */
	const char *model_at;    /* where the option "model" goes */
	const char *accept;      /* the header Accept */
	const char *allow_hosts; /* hosts that may get the server's secrets, besides its own */

	/* Submitting a job that has inputs, or refers to outputs */
	const char *inputs_path;
	const char *inputs_body;
	const char *inputs_as; /* base64 | data-url: how a JSON request contains them */
	const char *links_as;  /* url | bytes: what to send for a link to a stored object */
	const char *inputs_at; /* for inputs that the request does not name: a place of an array
							* (json), or a file's field (multipart); for raw: the place of the
							* binary's name */

	/* The answer, or the way to it */
	const char *reply;     /* body | stream | poll | hand-over: somebody else calls
							* genjob.complete() */
	const char *token_at;  /* for hand-over: where to put the job's id and the token for
							* genjob.complete() */
	const char *remote_id; /* place of the prediction's id in the answer; "=place": where we put
							* it in the request */
	const char *lookup;    /* addresses that tell if the prediction with our id exists;
							* "#places": in the answer */
	const char *poll;      /* address that tells the state of the prediction */
	const char *state;     /* place | http | exists:place | bool:place */
	const char *states;    /* "ok=A,B;fail=C;gone=D;partly=E": values of state; others mean running,
						 * unless a group has "*" */
	const char *result;    /* address of the answer when it is ready; NULL: the poll has it */

	/* An answer in pieces (streamrules.h) */
	const char *stream_type;   /* place of the type in an event's data */
	const char *stream_end;    /* conditions: the event is the last */
	const char *stream_error;  /* conditions: it is an error */
	const char *stream_parts;  /* rules: which part of which event goes where in the result */
	const char *stream_places; /* how to join parts there */

	/* What is in the answer */
	const char *output;          /* places of outputs */
	const char *requires_output; /* on | off | places: what an answer must have to be a success */
	const char *any_answer;      /* on | off: what is not JSON is an output, not an error */
	const char *reason;          /* places of the reason why an answer has no output */
	const char *warning;         /* places of what went wrong although the answer is a success */
	const char *encoding;        /* auto | url | text | file:PATH */
	const char *download_auth;   /* none | same-origin */
	const char *error;       /* places of the server's error message; a place with "+" adds to it */
	const char *retry_after; /* places of how long to wait */
	const char *usage;       /* places of what was used */
	const char *progress;    /* place[*factor], in the answer to a poll; or an address#place */
	const char *cancel;      /* address, with a JSON body if it takes one; NULL: disconnect */

	ProtocolKinds kind; /* of a server's options only; unset in a preset */
} Protocol;

typedef struct Preset
{
	const char *api;
	bool needs_secret;       /* a user mapping is required */
	bool output_may_be_text; /* text at a place of outputs that is not base64 of a picture or the
							  * like stays there */
	const char *bare_in; /* names of objects, separated by spaces, whose member "data" takes only bare
				  * base64 */
	const char *
		preview; /* "member=value" of files that are outputs only if there are no others; or NULL */
	bool list_is_stream;       /* an answer that is a list has the events of a stream */
	int gone_after;            /* ms for which a new prediction may still be unknown */
	bool is_store;             /* speaks S3: s3.c makes its calls, s3answer.c reads the answers */
	const char *fails_by;      /* header that marks an answer as a failure, whatever its status */
	const char *worth_a_retry; /* header in which a refusal says "true" or "false" */
	const char *error_type;    /* header that names the kind of the error */
	const char *unended;    /* "address#places" of the ids of all unfinished predictions; only if a
						  * poll cannot tell queued from unknown */
	bool gone_pauses;       /* a 410 means "send no more": pause the server */
	bool is_receipt;        /* a 2xx is a success, whatever its body is or claims to be */
	const char *hands_over; /* header that makes a call a hand-over, as "Name: value"; or NULL */
	/* AWS's JSON protocol (awsjson.c) */
	const char
		*target; /* header X-Amz-Target of a submission, "Service.Action"; NULL: another protocol */
	const char *text_at;        /* where the request goes, as JSON in a string */
	bool text_is_json;          /* that string must be JSON */
	const char *key_at;         /* where the Idempotency-Key goes; or NULL */
	bool has_groups;            /* a FIFO queue has groups */
	const char *known_by;       /* type of the error that says "already started"; or NULL */
	const char *answer_text_at; /* where the answer is, as JSON in a string; or NULL */

	const char *settings; /* defaults of other options, as "NAME=VALUE;..."; or NULL */
	const int *schedule;  /* seconds to wait between attempts, ended by 0; or NULL */
	const char *defaults; /* JSON merged under the server's defaults; or NULL */
	const char *headers;  /* for every call, under the server's, as JSON; or NULL */
	Protocol protocol;
} Preset;

extern const Preset *preset_find(const char *api);
extern char *preset_list(void);

/* modelpresets.c and servicepresets.c, for preset.c */
extern const Preset preset_models[];
extern const int preset_n_models;
extern const Preset preset_services[];
extern const int preset_n_services;

#endif /* GENJOB_PRESET_H */

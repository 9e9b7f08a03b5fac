/*
 * store.h
 *		Where a job's outputs go, if that is an object store.
 */
#ifndef GENJOB_STORE_H
#define GENJOB_STORE_H

#include "life/job.h"

struct ServerQueue;
struct Upload;
struct Digest;
struct Pour;

/* Where a job waits for a place at an object store (storeline.c). */
typedef struct StoreTurn
{
	struct ServerQueue *queue; /* of the store's server */
	Job *job;                  /* while is_in_line */
	dlist_node node;           /* in the line, while is_in_line */
	bool is_in_line;
	MonoTime waiting_since; /* while is_in_line */
} StoreTurn;

/* Why an upload begins again */
#define STORE_FORGETS "the store does not know the upload any more."

typedef struct JobStore
{
	struct ServerQueue *queue; /* of the store's server */
	Server *server;            /* referenced; NULL: it cannot be used, see trouble */
	MappingOptions secrets;    /* the job owner's */
	char *trouble;             /* why it cannot be used, as a sentence; else NULL */
	Place place;               /* of the call under way */
	int failures;              /* in a row */
	MonoTime failing_since;    /* the first of them */
	int losses;                /* uploads that the store has forgotten, since it took an output */
	MonoTime losing_since;     /* the first of them */
	StoreTurn turn;            /* its wait for a place */
	bool is_counted;           /* in Limits.n_unstored of the job's own server */
	bool is_saved;             /* the verdict is in the table, or cannot be */
	bool gave_up;              /* the outputs stay in the table */
	struct Upload *upload;     /* of an output that goes to the store in parts; or NULL */
	bool is_resumed;           /* an earlier process may have begun uploads */
	int unnamed;               /* > 0: the store may have uploads open whose ids we do not know */
	struct Pour *pour;         /* of an output that goes to the store while it arrives; or NULL */
	Output *whole;             /* must not be poured, because the store fails; or NULL */
	Output *pours;             /* must be poured, because it is too large for memory; or NULL */
	HttpReply *ended;          /* of a download that ended while the row was written; or NULL */
	struct Digest *digest;     /* of the large output to store, as far as it is read */
	size_t digested;           /* bytes of it that are in the digest */

	/* Words for the keys of outputs, in UTF-8 */
	char *server_name; /* of the server that brought the outputs */
	char *owner_name;
	char *database_name;
} JobStore;

/* What became of a call to the store. */
typedef struct StoreAnswer
{
	bool is_done;    /* the store has done what it was asked */
	bool is_refused; /* it will refuse until somebody changes something */
	bool is_missing; /* because there is no such object */
	char *error;     /* a sentence, in the memory context of the call; or NULL */
	char *etag;      /* of the answer, in the same memory context; or NULL */
	Output *object;  /* that was read, in the same memory context; or NULL */
} StoreAnswer;

extern void store_open(Job *job);
extern void store_read(Job *job);
extern void store_leave_place(Job *job);
extern void store_close(Job *job);
extern bool store_holds_unsaved(const Job *job);
extern bool store_may_finish(const Job *job);
extern StoreAnswer store_judge(Job *job, Place *place, Call *call, HttpReply *reply);
extern StoreAnswer store_judge_at(Job *job, struct ServerQueue *queue, const Server *server,
								  Place *place, Call *call, HttpReply *reply);
extern ReplySource store_source(const struct ServerQueue *queue, const Server *server,
								const Place *place, const Call *call);
extern bool store_is_worth_a_try(int failures, int64 us, bool is_refused);
extern bool store_bears(Job *job, const char *why, bool is_refused);
extern int64 store_note_loss(Job *job, const char *why);
extern int64 store_pause(const Job *job);
extern char *store_describe_refusal(const Job *job, const char *why);
extern const char *store_describe_left_parts(const Job *job);
extern void store_note_success(Job *job);
extern char *store_key(const Job *job, const Output *output);
extern int store_ordinal(const Job *job, const Output *output);
extern void store_take_object(Job *job, Output *output, const char *object, const char *etag);

#endif /* GENJOB_STORE_H */

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

typedef struct JobStore
{
	struct ServerQueue *queue; /* of the store's server */
	Server *server;            /* held; NULL: it cannot be used, see trouble */
	MappingOptions secrets;    /* the job owner's */
	char *trouble;             /* why it cannot be used, as a sentence; else NULL */
	Place place;               /* of the call under way */
	int failures;              /* in a row */
	MonoTime failing_since;    /* the first of them */
	StoreTurn turn;            /* where it waits for one */
	bool is_counted;           /* in Limits.n_unstored of the job's own server */
	bool is_saved;             /* the verdict is in the table, or cannot be */
	bool gave_up;              /* the outputs stay in the table */
	struct Upload *upload;     /* of an output that goes there in parts; or NULL */
	struct Pour *pour;         /* of one that goes there while it comes; or NULL */
	Output *whole;             /* that must not: it comes whole, since the store fails; or NULL */
	Output *pours;             /* that must, since it is too large; or NULL */
	HttpReply *ended;      /* of a download that ended while the row was being written; or NULL */
	struct Digest *digest; /* of the large output that is to be stored, as far as it is read */
	size_t digested;       /* bytes of it that are in the digest */

	/* The words of the keys of outputs, in UTF-8 */
	char *server_name; /* of the server that brought it */
	char *owner_name;
	char *database_name;
} JobStore;

/* What became of a call to the store. */
typedef struct StoreAnswer
{
	bool is_done;    /* the store has done what it was asked */
	bool is_refused; /* it will not, as long as nothing is mended */
	bool is_missing; /* because there is no such object */
	char *error;     /* a sentence, in the memory context of the call; or NULL */
	char *etag;      /* that the answer has, there, too; or NULL */
} StoreAnswer;

extern void store_open(Job *job);
extern void store_read(Job *job);
extern void store_leave_place(Job *job);
extern void store_close(Job *job);
extern bool store_holds_unsaved(const Job *job);
extern StoreAnswer store_judge(Job *job, Place *place, Call *call, HttpReply *reply);
extern StoreAnswer store_judge_at(Job *job, struct ServerQueue *queue, const Server *server,
								  Place *place, Call *call, HttpReply *reply);
extern bool store_is_worth_a_try(int failures, int64 us, bool is_refused);
extern bool store_bears(Job *job, const char *why, bool is_refused);
extern int64 store_pause(const Job *job);
extern char *store_describe_refusal(const Job *job, const char *why);
extern void store_note_success(Job *job);
extern char *store_key(const Job *job, const Output *output);
extern int store_ordinal(const Job *job, const Output *output);
extern void store_take_object(Job *job, Output *output, const char *object, const char *etag);

#endif /* GENJOB_STORE_H */

/*
 * calls.h
 *		A job's calls, one after another, and the memory of each.
 */
#ifndef GENJOB_CALLS_H
#define GENJOB_CALLS_H

#include "life/job.h"

/* Runs read(arg) in a transaction. */
typedef void (*CallsReadSecrets)(void (*read)(void *arg), void *arg);

/* A call to an address that may come from a provider or from the row. */
typedef struct AddressedCall
{
	const char *rest; /* of the text: further addresses */
	Address address;
	HttpRequest *http; /* NULL: no address is known */
	bool is_trusted;   /* may have the server's secrets; if false, do not begin it */
} AddressedCall;

extern void calls_init(CallsReadSecrets read);
extern void calls_transact(void (*read)(void *arg), void *arg);
extern void calls_refresh(Job *job);
extern void calls_doubt_secrets(Job *job);

/* Building */
extern RequestSource calls_request_source(const Job *job);
extern AddressedCall calls_build(const Job *job, const char *text);
extern void calls_forget_input(Job *job);
extern void calls_hold_request(Job *job);

/* Work on a call, in its memory context */
extern bool calls_prepare(Call *call, JobStep step);
extern void calls_read_status(Call *call, HttpReply *reply);
extern bool calls_run(Call *call, void (*work)(void *arg), void *arg, ErrorData **error);
extern bool calls_run_apart(Call *call, void (*work)(void *arg), void *arg, ErrorData **error);
extern bool calls_begin(Call *call, HttpRequest *http);
extern void calls_end(Call *call);
extern void calls_hold_answer(Job *job);
extern void calls_forget(Job *job);
extern void calls_keep(Job *job, MemoryContext owner);

/* What genjob.activity shows */
extern void calls_appear(Job *job);
extern void calls_show(Job *job, ActivityPhase phase);
extern void calls_show_progress(Job *job, double progress);
extern void calls_show_streams(void);

#endif /* GENJOB_CALLS_H */

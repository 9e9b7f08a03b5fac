/*
 * judge.h
 *		A reply that is being judged; for the files that do so.
 */
#ifndef GENJOB_JUDGE_H
#define GENJOB_JUDGE_H

#include "json.h"
#include "protocol/reply.h"

typedef struct Judge
{
	const ReplySource *source;
	const Protocol *protocol;
	HttpReply *reply;
	Verdict *verdict;
	const char *id; /* of the prediction; or NULL */
	char *fault;    /* the first output that cannot be read, as a sentence */
	MemoryContext
		scratch; /* holds the trees of JSON; gone when the verdict is there; NULL: there are none yet */
} Judge;

/* reply.c */
extern MemoryContext judge_scratch(Judge *judge);

/* failure.c: an answer that is none, or a refusal */
extern void failure_judge(Judge *judge);
extern void failure_apply_on_unknown(const ServerOptions *options, Verdict *verdict);
extern char *failure_describe(const ReplySource *source, const HttpReply *reply);
extern bool failure_is_worth_a_retry(const Judge *judge);
extern char *failure_of_refusal(Judge *judge, int64 *after);

/* answer.c: what a success contains */
extern void answer_judge_json(Judge *judge, cJSON *json);
extern void answer_judge_body(Judge *judge);
extern void answer_judge_unread(Judge *judge, const char *reason);
extern char *answer_read_usage(Judge *judge, cJSON *json);
extern void answer_keep_json(Judge *judge, const cJSON *json);
extern cJSON *answer_read_json(Judge *judge, const char **reason);
extern char *answer_describe_words(const Judge *judge, const char *words);
extern const char *answer_body_type(const HttpReply *reply);

#endif /* GENJOB_JUDGE_H */

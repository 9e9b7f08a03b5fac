/*
 * judge.h
 *		For the files that judge a reply.
 */
#ifndef GENJOB_JUDGE_H
#define GENJOB_JUDGE_H

#include "base/json.h"
#include "base/status.h"
#include "protocol/reply.h"

typedef struct Judge
{
	const ReplySource *source;
	const Protocol *protocol;
	HttpReply *reply;
	Verdict *verdict;
	const char *id;        /* of the prediction; or NULL */
	bool is_of_the_moment; /* a refusal's own words say that it will pass */
	bool is_for_good;      /* ... that it will not, whatever its status says */
	char *faults;          /* places of unreadable outputs, the first few; or NULL */
	int n_faults;
	bool skips_previews;   /* preview files are no outputs: there are others */
	MemoryContext scratch; /* for trees of JSON; judge_end() frees it; NULL: none yet */
} Judge;

/* reply.c */
extern Judge judge_begin(const ReplySource *source, HttpReply *reply);
extern MemoryContext judge_scratch(Judge *judge);
extern Verdict *judge_end(Judge *judge);
extern bool reply_is_success(const HttpReply *reply);
extern char *reply_read_urls(const Judge *judge, cJSON *json, const char *earlier);

/* prediction.c: what an answer says about a prediction */
extern void prediction_judge_state(Judge *judge, cJSON *json);

/* failure.c: no answer, or a refusal */
extern void failure_judge(Judge *judge);
extern char *failure_describe(const ReplySource *source, const HttpReply *reply);
extern bool failure_is_of_prediction(const Judge *judge);
extern StatusAction failure_action(const Judge *judge, StatusStep step);
extern char *failure_of_refusal(Judge *judge, int64 *after);

/* answer.c: what a success contains */
extern char *answer_describe_warning(const Judge *judge, cJSON *json);
extern char *answer_text_of(const cJSON *node);
extern char *answer_state(const Judge *judge, cJSON *json);
extern void answer_judge_json(Judge *judge, cJSON *json);
extern void answer_judge_body(Judge *judge);
extern void answer_judge_unread(Judge *judge, const char *reason);
extern char *answer_read_usage(Judge *judge, cJSON *json);
extern void answer_keep_json(Judge *judge, const cJSON *json);
extern cJSON *answer_read_json(Judge *judge, const char **reason);
extern char *answer_describe_words(const Judge *judge, const char *words);
extern const char *answer_body_type(const HttpReply *reply);

/* output.c: its outputs */
extern Output *output_add(Verdict *verdict);
extern void output_mask(const Judge *judge, const char *type, char *data, size_t len);
extern void output_take_all(Judge *judge, cJSON *json);
extern char *output_describe_faults(const Judge *judge);
extern bool output_may_be_download(const Judge *judge, cJSON *json);
extern void output_leave_body(Verdict *verdict, Bytes *body);
extern bool output_has_downloads(const Verdict *verdict);

#endif /* GENJOB_JUDGE_H */

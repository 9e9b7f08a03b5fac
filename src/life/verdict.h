/*
 * verdict.h
 *		What the end of a job's call means.
 */
#ifndef GENJOB_VERDICT_H
#define GENJOB_VERDICT_H

#include "life/job.h"

/* Judges a reply; may raise an error, and add to *remote. */
typedef Verdict *(*VerdictJudge)(const ReplySource *source, HttpReply *reply, Remote *remote);

extern Verdict *verdict_read(Job *job, HttpReply *reply, VerdictJudge judge, bool asks);
extern Verdict *verdict_read_unended(Job *job, HttpReply *reply, const char *places);
extern ReplySource verdict_source(const Job *job, const HttpRequest *request);
extern bool verdict_names_prediction(const Job *job);

#endif /* GENJOB_VERDICT_H */

/*
 * cases.h
 *		Answers as a server sends them, and what genjob makes of each.
 *
 * A case's server is described as by CREATE SERVER, its answer by status, headers and body.  What comes of it is compared
 * as one line:
 *
 *		KIND[ error=SENTENCE][ note=SENTENCE][ result=JSON][ outputs=TYPE:BYTES ?URL ...]
 */
#ifndef CASES_H
#define CASES_H

#include "unit.h"

#include "protocol/reply.h"

#define SECRET "sk-unit-secret"
#define KEY "0190a0a0-0000-7000-8000-000000000000"

typedef enum CaseStep
{
	STEP_JUDGE,
	STEP_POLL,
	STEP_RESULT,
	STEP_UNDECODED /* the submission's answer, compressed in some other way */
} CaseStep;

typedef struct Case
{
	const char *what;
	const char *api;
	const char *options; /* "name=value|name=value" */
	CaseStep step;
	int status;
	const char *headers;
	const char *body;
	size_t len; /* of body; 0: as text */
	const char *expected;
	int forgotten; /* answers before this one that the prediction is not known */
	int age;       /* of the prediction, in s */
} Case;

extern ServerOptions *cases_options(const char *api, const char *text);
extern Verdict *cases_judge(const Case *test, Remote *remote);
extern void cases_run(const Case *cases, int n, bool with_answer);

#endif /* CASES_H */

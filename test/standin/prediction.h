/*
 * prediction.h
 *		Work that was submitted, and is asked for later by its id.
 *
 * A prediction is made by the call that submits it and then only ages: what
 * state it is in follows from the clock and its script, unless it is cancelled.
 */
#ifndef STANDIN_PREDICTION_H
#define STANDIN_PREDICTION_H

#include "standin.h"

typedef enum PredictionState
{
	PREDICTION_QUEUED,
	PREDICTION_RUNNING,
	PREDICTION_SUCCEEDED, /* from here on it has ended */
	PREDICTION_FAILED,
	PREDICTION_MODERATED,
	PREDICTION_CANCELLED,
	PREDICTION_GONE /* the provider knows it no more */
} PredictionState;

struct Prediction
{
	TAILQ_ENTRY(Prediction) link;
	int references; /* by the list, and by calls */
	const Dialect *dialect;
	char *id;
	char *key; /* its Idempotency-Key; NULL: none */
	CountRef count;
	Picture picture;
	uint32_t number; /* how many were made before it */

	/* When it does what; seconds of clock_now_s(), or since then */
	double submitted_s;
	double queue_s;
	double run_s;
	double kept_s;        /* after its end; below 0: for ever */
	double cancelled_s;   /* 0: not cancelled */
	bool cancelled_early; /* while it was queued */

	Ending ending;
	cJSON *script;                /* owned; NULL: none */
	double expires_ms;            /* URLs of its files; 0: never */
	char *note;                   /* text that the dialect keeps for its answers; owned */
	uint32_t arrived[ERRAND_ASK]; /* calls about it, for their faults */
};

TAILQ_HEAD(PredictionList, Prediction);

extern bool prediction_idempotent;
extern struct PredictionList predictions; /* oldest first */

extern Prediction *prediction_submit(Call *call, const char *id);
extern Prediction *prediction_find(const char *id);
extern void prediction_attend(Call *call, Prediction *prediction);
extern void prediction_release(Prediction *prediction);
extern PredictionState prediction_state(const Prediction *prediction);
extern double prediction_ended_s(const Prediction *prediction);
extern double prediction_progress(const Prediction *prediction);
extern unsigned prediction_queue_position(const Prediction *prediction);
extern bool prediction_cancel(Call *call, Prediction *prediction);
extern const char *prediction_message(const Prediction *prediction);
extern bool prediction_add_script_output(const Prediction *prediction, struct evbuffer *out);
extern void prediction_add_usage(const Prediction *prediction, struct evbuffer *out,
								 const char *otherwise);
extern unsigned prediction_finish_all(void);
extern void prediction_reset(void);

/* files.c */
extern void files_add_url(const Call *call, struct evbuffer *out, int index);
extern void files_add_urls(const Call *call, struct evbuffer *out);

#endif /* STANDIN_PREDICTION_H */

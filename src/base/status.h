/*
 * status.h
 *		What an HTTP status says, at each step of a job.
 */
#ifndef GENJOB_STATUS_H
#define GENJOB_STATUS_H

/* What a status says, whatever was asked. */
typedef enum StatusClass
{
	STATUS_DONE,
	STATUS_MOVED,       /* 3xx */
	STATUS_BUSY,        /* the server takes nothing now, whoever asks */
	STATUS_CONFLICT,    /* 409: a call with the same key is under way, or two calls collided */
	STATUS_FAILED,      /* the call failed, and had not been accepted */
	STATUS_UNREACHABLE, /* a gateway did not reach the server */
	STATUS_CUT,         /* a gateway got no answer: the server may have accepted the call */
	STATUS_DENIED,      /* the secrets are refused */
	STATUS_ABSENT,      /* there is nothing of that name */
	STATUS_REFUSED,     /* anything else: this call is refused */
	STATUS_CLASSES
} StatusClass;

/* The calls of a job. */
typedef enum StatusStep
{
	STATUS_OF_SUBMIT,
	STATUS_OF_POLL,
	STATUS_OF_RESULT,
	STATUS_OF_DOWNLOAD,
	STATUS_OF_CANCEL,
	STATUS_OF_LOOKUP,
	STATUS_STEPS
} StatusStep;

/* What to do then. */
typedef enum StatusAction
{
	ACTION_TAKE,   /* read the answer */
	ACTION_AGAIN,  /* make the same call again, later */
	ACTION_DEFER,  /* the same; the server gets no other call before; costs no attempt */
	ACTION_FOLLOW, /* follow where the answer leads */
	ACTION_MISS,   /* what was asked for is not there: believe it if said several times */
	ACTION_FAIL    /* another call would end the same */
} StatusAction;

/* A bit for each status, for the option retry_status. */
typedef struct StatusSet
{
	uint64 bits[10]; /* of 0 to 639 */
} StatusSet;

extern StatusClass status_class(int status);
extern StatusAction status_action(StatusStep step, int status, const StatusSet *retried);
extern bool status_may_be_accepted(int status);
extern bool status_leaves_doubt(int status);

extern const char *status_read_set(const char *text, StatusSet *set);
extern bool status_is_in(const StatusSet *set, int status);

#endif /* GENJOB_STATUS_H */

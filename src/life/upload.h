/*
 * upload.h
 *		An output on its way to an object store, in parts.
 */
#ifndef GENJOB_UPLOAD_H
#define GENJOB_UPLOAD_H

#include "life/job.h"
#include "protocol/s3upload.h"
#include "server/storeplace.h"

#define UPLOAD_PART ((size_t) 8 * 1024 * 1024) /* bytes of each part but the last */
#define UPLOAD_SLOTS 4 /* parts that are in memory, or under way, at a time */

/* What a call of an upload asks of the store. */
typedef enum UploadAsk
{
	UPLOAD_BEGIN,
	UPLOAD_LIST, /* which parts an earlier process has stored */
	UPLOAD_PUT_PART,
	UPLOAD_COMPLETE,
	UPLOAD_HEAD, /* whether an upload that the store no longer knows was completed */
} UploadAsk;

/* One of its calls, beside that of the job's step. */
typedef struct UploadCall
{
	Call call; /* its memory context lives as long as the call */
	Place place;
	HttpMeter meter;
	UploadAsk ask;

	/* UPLOAD_PUT_PART */
	int number;            /* from 1; 0: there is none */
	MemoryContext context; /* owns data; NULL: data outlives the upload */
	const char *data;
	size_t len;
	char *sha256; /* hexadecimal */
} UploadCall;

typedef struct Upload
{
	MemoryContext context; /* owns this and all below */
	Output *output;
	int ordinal;
	char *key;
	char *content_type;
	char *mark; /* as in OpenUpload */

	/* As the store knows it */
	StorePlace at;     /* where it was begun; no bucket: not known */
	int failures_away; /* in a row, while at is not the server's own place any more */
	char *id;          /* NULL: not begun */
	bool is_saved;     /* the id is in the table, or is being written */
	bool is_listed;    /* no UPLOAD_LIST is needed */
	int listed_after;  /* the last part that was listed; the next list begins after it */
	bool in_doubt;     /* UPLOAD_COMPLETE found no upload: an earlier one may have worked */
	bool is_gone;      /* the store does not know it: begin again */
	bool is_left;      /* its place does not take it any more: abort it, and begin again */
	bool is_done;
	char *object;       /* its name, as s3://bucket/key; once it is_done */
	char *etag;         /* of the object; or NULL */
	MonoTime opened_at; /* by this process */

	/* What has been taken of the output */
	int n_taken;     /* parts */
	uint64 bytes;    /* in them */
	bool is_whole;   /* no more will come */
	S3Part *parts;   /* by number - 1; etag is NULL where the store has not confirmed it */
	int n_parts_max; /* for which there is room */

	UploadCall slots[UPLOAD_SLOTS];
	UploadCall control; /* all calls but parts */

	/* After a failure */
	char *trouble; /* a sentence that the step has not read yet; or NULL */
	bool is_refused;
	MonoTime again_at; /* no call begins before */
} Upload;

/* What the owner of an upload must do. */
typedef enum UploadNews
{
	UPLOAD_BUSY,     /* nothing: calls are under way, or more parts will come */
	UPLOAD_SAVES,    /* have job->remote saved */
	UPLOAD_NO_PLACE, /* look again soon whether the store has a place */
	UPLOAD_WAITS,    /* look again at again_at */
	UPLOAD_FAILED,   /* deal with trouble, set again_at */
	UPLOAD_GONE,     /* drop it, and begin again */
	UPLOAD_DONE      /* take what it has brought, and drop it */
} UploadNews;

/* upload.c */
extern void upload_open(Job *job, Output *output, int ordinal, const char *key,
						const char *content_type, const char *mark);
extern bool upload_is_away(const Job *job);
extern bool upload_holds_parts(const Upload *upload);
extern bool upload_has_room(const Upload *upload);
extern void upload_add(Upload *upload, MemoryContext context, const char *data, size_t len,
					   const char *sha256);
extern void upload_end_calls(Job *job);
extern void upload_drop(Job *job, bool aborts);

/* uploadcall.c */
extern UploadNews upload_work(Job *job);

/* uploadanswer.c */
extern void upload_answered(Call *call, HttpReply *reply);

/* upload.c, for uploadcall.c and uploadanswer.c */
extern bool upload_is_open(const Upload *upload);
extern S3Part *upload_part(Upload *upload, int number);
extern void upload_free_part(UploadCall *slot);
extern void upload_note_trouble(Upload *upload, const char *why, bool is_refused);
extern void upload_end_call(UploadCall *ask);

#endif /* GENJOB_UPLOAD_H */

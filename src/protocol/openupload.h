/*
 * openupload.h
 *		The uploads that a job has open, as its row keeps them.
 */
#ifndef GENJOB_OPENUPLOAD_H
#define GENJOB_OPENUPLOAD_H

#include "nodes/pg_list.h"

#include "server/storeplace.h"

/* The upload of one output.  Text is UTF-8. */
typedef struct OpenUpload
{
	int ordinal; /* of the output */
	char *key;
	char *id;      /* the store's */
	char *mark;    /* says which bytes the parts are of; or NULL */
	StorePlace at; /* where it was begun; no bucket: not known */
} OpenUpload;

extern char *openupload_set(const char *uploads, const OpenUpload *upload, const char *secret);
extern char *openupload_remove(const char *uploads, int ordinal);
extern OpenUpload *openupload_find(const char *uploads, int ordinal);
extern List *openupload_list(const char *uploads);
extern bool openupload_is_proven(const char *uploads, int ordinal, const char *secret);
extern char *openupload_describe(const char *uploads);

#endif /* GENJOB_OPENUPLOAD_H */

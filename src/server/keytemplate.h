/*
 * keytemplate.h
 *		The keys under which outputs are stored.
 */
#ifndef GENJOB_KEYTEMPLATE_H
#define GENJOB_KEYTEMPLATE_H

#define KEY_MAX 1024 /* bytes; the limit of S3 */

/* What the words of a template stand for.  Strings are valid UTF-8; none may be NULL. */
typedef struct KeyWords
{
	const char *server;
	const char *database;
	const char *owner;
	const char *tenant;
	int64 job;
	int attempt;
	int ordinal;
	const char *sha256;    /* hexadecimal */
	const char *extension; /* without a dot */
	int64 started_unix;    /* of the attempt */
	bool of_job; /* which keys of a job are meant: server, database, owner, tenant, and job must fit */
} KeyWords;

extern const char *keytemplate_check(const char *value);
extern char *keytemplate_prefix(const char *pattern, const KeyWords *words);
extern bool keytemplate_may_be(const char *pattern, const char *key, const KeyWords *words);
extern bool keytemplate_names_job(const char *pattern);
extern bool keytemplate_needs_digest(const char *pattern);
extern char *keytemplate_fill(const char *pattern, const KeyWords *words);

#endif /* GENJOB_KEYTEMPLATE_H */

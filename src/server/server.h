/*
 * server.h
 *		A foreign server of the wrapper genjob, and what a role may do with it.
 */
#ifndef GENJOB_SERVER_H
#define GENJOB_SERVER_H

#include "server/options.h"

/*
 * Never changes once read.  To keep one over transactions, take a reference
 * with server_hold(); its options stay as they were.
 */
typedef struct Server
{
	Oid oid;
	Oid owner;
	bool owner_is_superuser;
	NameData name;
	ServerOptions options;
	int n_backends;
	ServerOptions *backends; /* options, with each of the urls in turn */

	/* Private to server.c */
	int references;
	MemoryContext context;
} Server;

/* The result of a search: SERVER_OK, or why the server cannot be used. */
typedef enum ServerProblem
{
	SERVER_OK,
	SERVER_MISSING,   /* no such server */
	SERVER_FOREIGN,   /* of another wrapper */
	SERVER_INVALID,   /* the validator would refuse the server's or the mapping's options today */
	SERVER_DENIED,    /* the role lacks USAGE */
	SERVER_OTHER,     /* the name has another server than when the job was inserted */
	SERVER_NO_MAPPING /* the api needs a user mapping, and the role has none */
} ServerProblem;

/* What to tell the user about a problem. */
typedef struct ServerComplaint
{
	ServerProblem problem;
	int sqlerrcode;
	char *message;
	char *hint;
} ServerComplaint;

extern Server *server_get(const char *name, ServerComplaint *complaint);
extern bool server_check_role(const Server *server, Oid role, ServerComplaint *complaint);
extern bool server_check_intended(const Server *server, Oid intended, Oid job_owner,
								  Oid table_owner, ServerComplaint *complaint);
extern bool server_is_trusted_by(const Server *server, Oid role);
extern bool server_may_stand_in(const Server *server, const Server *fallback);
extern bool server_read_secrets(const Server *server, Oid role, MappingOptions *secrets,
								ServerComplaint *complaint);

extern const ServerOptions *server_backend(const Server *server, const char *url);
extern Server *server_hold(Server *server);
extern void server_release(Server *server);
extern bool server_exists(Oid server);
extern const char *server_role_name(Oid role);
extern bool server_pause(const char *name);
extern uint64 server_generation(void);

#endif /* GENJOB_SERVER_H */

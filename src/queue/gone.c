/*
 * gone.c
 *		Pauses servers that want no more calls: receivers of webhooks that
 *		answer 410.  The transaction that ends the job pauses the server.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "queue/gone.h"
#include "queue/queue.h"
#include "queue/statement.h"
#include "queue/trouble.h"
#include "server/server.h"

/* A server to pause. */
typedef struct Gone
{
	int64 job; /* that got the answer */
	NameData server;
} Gone;

static List *servers = NIL; /* of Gone, of the present transaction */

void
gone_begin(void)
{
	list_free_deep(servers);
	servers = NIL;
}

/*
 * Notes a server whose answer says that it wants no more calls.
 */
void
gone_note(int64 job, const char *server)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	Gone *gone = palloc(sizeof(Gone));

	gone->job = job;
	namestrcpy(&gone->server, server);
	servers = lappend(servers, gone);
	MemoryContextSwitchTo(caller);
}

static void
say_on_job(const Gone *gone)
{
	char *words =
		psprintf("The server is paused, because it answered 410 (Gone). SELECT genjob.resume(%s) when it accepts calls again.",
				 quote_literal_cstr(NameStr(gone->server)));
	Datum text = CStringGetTextDatum(words);
	Datum args[2] = {Int64GetDatum(gone->job), text};

	statement_run(NOTE_END, args, NULL);
}

static void
pause_server(void *arg)
{
	const Gone *gone = arg;

	if (server_pause(NameStr(gone->server)))
		say_on_job(gone);
}

/*
 * Pauses the noted servers, each once.  If that fails, the job still ends.
 */
void
gone_pause(void)
{
	ListCell *cell;

	foreach(cell, servers)
	{
		Gone *gone = lfirst(cell);
		ErrorData *error;

		if (!queue_guard(pause_server, gone, &error))
			trouble_show_job(TROUBLE_FOLLOW, gone->job, NULL, error);
	}
	gone_begin();
}

/*
 * call.c
 *		The life of one call: it arrives, waits its latency, is answered or goes
 *		wrong as its script says, and ends when the connection is done with it.
 *
 * evhttp stops reading a connection while a request is being answered and so
 * would not see the client close it.  Therefore a waiting call has its own
 * callbacks on the connection's bufferevent.  Whatever ends a connection goes
 * through evhttp_connection_free(), whose close callback ends the call; an
 * answer that was sent whole ends it through the request's completion callback.
 */
#include "prediction.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>

struct event_base *call_base;
double call_default_latency_ms;

static TAILQ_HEAD(, Call) calls = TAILQ_HEAD_INITIALIZER(calls); /* in flight, oldest first */

/* Seconds on a clock that only goes forward. */
double
clock_now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/*
 * Does the path fit the pattern?  Sets "id" to where the text for {id} begins,
 * and "len" to its length.
 */
static bool
pattern_matches(const char *pattern, const char *path, const char **id, size_t *len)
{
	while (*pattern && strcmp(pattern, "*") != 0)
	{
		if (*pattern == '{')
		{
			const char *after = strchr(pattern, '}') + 1;
			char stop[] = {'/', *after, '\0'};
			size_t n = strcspn(path, stop);

			if (n == 0)
				return false;
			if (strncmp(pattern, "{id}", 4) == 0)
			{
				*id = path;
				*len = n;
			}
			pattern = after;
			path += n;
		}
		else if (*pattern++ != *path++)
			return false;
	}
	return *pattern == '*' || *path == '\0';
}

/* Finds who answers the call's address, and what it has for {id}. */
static void
call_find_route(Call *call, const char *method, const char *path)
{
	for (const Dialect *const *dialect = call->listener->dialects; *dialect; dialect++)
	{
		for (const Route *route = (*dialect)->routes; route->path; route++)
		{
			const char *id = NULL;
			size_t len = 0;

			if ((route->method && strcmp(route->method, method) != 0) ||
				!pattern_matches(route->path, path, &id, &len))
				continue;
			call->dialect = *dialect;
			call->route = route;
			if (id)
			{
				char *text = strndup(id, len);

				call->about = evhttp_uridecode(text, 0, NULL);
				free(text);
			}
			return;
		}
	}
}

static Call *
call_new(struct evhttp_request *req, const Listener *listener)
{
	Call *call = calloc(1, sizeof(Call));

	if (call == NULL)
		errx(1, "out of memory");
	call->req = req;
	call->listener = listener;
	call->evcon = evhttp_request_get_connection(req);
	call->arrived_s = clock_now_s();
	TAILQ_INSERT_TAIL(&calls, call, link);
	return call;
}

/* The call is over: counts it and frees it.  The request belongs to evhttp. */
static void
call_end(Call *call, Outcome outcome)
{
	counts_end(&call->count, outcome);
	capacity_leave(call);
	TAILQ_REMOVE(&calls, call, link);
	if (call->timer)
		event_free(call->timer);
	if (call->answer.body)
		evbuffer_free(call->answer.body);
	if (call->answer.tail)
		evbuffer_free(call->answer.tail);
	if (call->prediction)
		prediction_release(call->prediction);
	cJSON_Delete(call->fault.script);
	free(call->about);
	free(call->usage);
	free(call->note);
	free(call);
}

/* evhttp has written the answer to its last byte. */
static void
call_on_complete(struct evhttp_request *req, void *arg)
{
	Call *call = arg;

	(void) req;
	evhttp_connection_set_closecb(call->evcon, NULL, NULL);
	call_end(call, OUTCOME_ANSWERED);
}

/* The connection is about to be freed, by evhttp or by call_hang_up(). */
static void
call_on_close(struct evhttp_connection *evcon, void *arg)
{
	Call *call = arg;

	(void) evcon;
	/* evhttp lets go of a request that is not yet answered: then it is ours to free */
	if (evhttp_request_get_connection(call->req) == NULL)
		evhttp_request_free(call->req);
	call_end(call, call->stream.ended ? OUTCOME_ANSWERED
				   : call->cutting    ? OUTCOME_CUT
									  : OUTCOME_ABORTED);
}

/* A bufferevent's event callback while the call waits or streams: the client has gone. */
void
call_on_event(struct bufferevent *bev, short what, void *arg)
{
	Call *call = arg;

	(void) bev;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))
		evhttp_connection_free(call->evcon);
}

/*
 * Closes the connection, because the script says so; the call is gone
 * afterwards.  With "reset" the client gets RST: evhttp would shut the socket
 * down first, so the socket is closed by putting another file in its place.
 */
void
call_hang_up(Call *call, bool reset)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(call->evcon);
	struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	int fd = bufferevent_getfd(bev);
	int null;

	if (reset && (null = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0)
	{
		bufferevent_disable(bev, EV_READ | EV_WRITE);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		dup2(null, fd);
		close(null);
	}
	call->cutting = true;
	evhttp_connection_free(call->evcon);
}

static void
call_answer(Call *call)
{
	if (call->answer.status == 0 && call->fault.status >= 400)
		call_write_fault(call);
	else if (call->answer.status == 0)
		call->route->answer(call);
	deliver_answer(call);
}

static void
call_on_timer(evutil_socket_t fd, short what, void *arg)
{
	Call *call = arg;

	(void) fd;
	(void) what;
	if (call->delivering)
		deliver_next(call);
	else
		call_answer(call);
}

/* Wakes the call in "ms" milliseconds: to be answered, or for the next piece of its answer. */
void
call_arm(Call *call, double ms)
{
	struct timeval delay = {(time_t) (ms / 1000), 0};

	delay.tv_usec = (suseconds_t) ((ms - (double) delay.tv_sec * 1000) * 1000);
	if (call->timer == NULL)
		call->timer = evtimer_new(call_base, call_on_timer, call);
	if (call->timer == NULL || evtimer_add(call->timer, &delay) != 0)
		errx(1, "out of memory");
}

/* Ends the latency of a call now; it is answered next. */
void
call_hurry(Call *call)
{
	call->interrupted = true;
	if (call->timer && !call->delivering)
		call_arm(call, 0);
}

/* The call that has waited longest of those of one dialect that draw pictures; NULL: none. */
Call *
call_oldest(const Route *routes)
{
	Call *call;

	TAILQ_FOREACH(call, &calls, link)
	{
		for (const Route *route = routes; route->path; route++)
			if (call->route == route && call->picture.n > 0)
				return call;
	}
	return NULL;
}

/* Lets the call wait for its latency, with an eye on the client; never, if that is its fault. */
static void
call_wait(Call *call)
{
	struct bufferevent *bev = evhttp_connection_get_bufferevent(call->evcon);

	bufferevent_setcb(bev, NULL, NULL, call_on_event, call);
	bufferevent_enable(bev, EV_READ);
	if (call->fault.stall != STALL_ALL && call->place != PLACE_WAITING)
		call_arm(call, call->latency_ms);
}

/* Lets the dialect see the request, unless it must not. */
static void
call_dispatch(Call *call, const Body *body, const char *path)
{
	if (call->route == NULL)
		call_refuse(call, 404, "unknown_url", "Invalid URL (%s %s)", request_method(call->req),
					path);
	else if (!auth_is_valid(call))
	{
		if (strstr(call->dialect->auth, "Basic"))
			call_add_header(call, "WWW-Authenticate", "Basic");
		call_write_error(call, call->dialect->unauthorized ? call->dialect->unauthorized : 401,
						 "invalid_api_key",
						 call->dialect->unauthorized_message ? call->dialect->unauthorized_message
															 : "Incorrect API key provided.");
	}
	else if (call->route->accept)
		call->route->accept(call, body);
}

/* A call that brings work: counts it, and lets its script and its dialect see it. */
static void
call_accept(Call *call, const Body *body, const char *path)
{
	const char *key = call_header(call, "Idempotency-Key");
	Script script;
	char *why = NULL;
	bool valid = script_read(&script, call->req, body, &why);
	const char *id = script.id ? script.id : key ? key : body_prompt(body);
	uint32_t nth;

	if (id == NULL)
		id = body_text(body, "prompt_id");
	if (id == NULL && script.json)
		id = path;
	nth = counts_arrive(&call->count, key, id, path);
	counts_log_request(call->req, body, id);
	if (valid && script_choose(&script, call, nth, &why))
	{
		call->script = &script;
		call_dispatch(call, body, path);
		if (call->dialect)
			call_apply_ending(call);
		call->script = NULL;
	}
	else
	{
		warnx("%s: %s", path, why);
		cJSON_Delete(call->fault.script);
		memset(&call->fault, 0, sizeof(Fault));
		call_write_error(call, 400, "bad_standin_script", why);
	}
	script_free(&script);
	free(why);
}

/*
 * A call about a prediction, or about the server: counted among the paths, all
 * predictions of a dialect as one.  The id may be in the query instead.
 */
static void
call_accept_errand(Call *call, const Body *body, const char *path)
{
	bool named = call->about != NULL;
	Prediction *prediction;

	if (!named && call->route->errand != ERRAND_ASK)
		call->about = call_query(call, "id");
	prediction = call->about ? prediction_find(call->about) : NULL;
	counts_arrive(&call->count, NULL, NULL, named ? call->route->path : path);
	counts_log_request(call->req, body, call->about);
	if (prediction)
		prediction_attend(call, prediction);
	call_dispatch(call, body, path);
}

/* evhttp's callback for each request of a listener. */
void
call_handle_request(struct evhttp_request *req, void *arg)
{
	const Listener *listener = arg;
	const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
	struct evbuffer *input = evhttp_request_get_input_buffer(req);
	Call *call;
	Body body;

	if (admin_handle_request(req, path, listener->counted))
		return;
	call = call_new(req, listener);
	call_find_route(call, request_method(req), path);
	evhttp_request_set_on_complete_cb(req, call_on_complete, call);
	evhttp_connection_set_closecb(call->evcon, call_on_close, call);
	body_read(&body, req);
	if (call->route && call->route->errand != ERRAND_SUBMIT)
		call_accept_errand(call, &body, path);
	else
		call_accept(call, &body, path);
	body_free(&body);
	evbuffer_drain(input, evbuffer_get_length(input));

	if (call->route && call->route->errand == ERRAND_SUBMIT)
		capacity_enter(call);
	else if (call->route && call->route->errand == ERRAND_CANCEL)
		capacity_enter_cancel(call);
	if (call->place != PLACE_WAITING && call->fault.script == NULL &&
		call->fault.stall == STALL_NONE && call->latency_ms <= 0)
		call_answer(call);
	else
		call_wait(call);
}

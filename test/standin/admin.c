/*
 * admin.c
 *		/_standin/...: what tests ask the stand-in about itself.  Never counted.
 */
#include "prediction.h"

#include <stdlib.h>
#include <string.h>

#include <event2/keyvalq_struct.h>

static void
admin_write_counts(struct evbuffer *out, struct evkeyvalq *query)
{
	const char *summary = evhttp_find_header(query, "summary");

	counts_write(out, summary && strcmp(summary, "0") != 0);
}

static void
admin_write_requests(struct evbuffer *out, struct evkeyvalq *query)
{
	const char *limit = evhttp_find_header(query, "limit");

	counts_write_requests(out, limit ? abs(atoi(limit)) : 100);
}

static void
admin_reset(struct evbuffer *out, struct evkeyvalq *query)
{
	(void) query;
	counts_reset();
	prediction_reset();
	evbuffer_add_printf(out, "{\"ok\":true}");
}

static void
admin_finish(struct evbuffer *out, struct evkeyvalq *query)
{
	(void) query;
	evbuffer_add_printf(out, "{\"finished\":%u}", prediction_finish_all());
}

static void
admin_write_health(struct evbuffer *out, struct evkeyvalq *query)
{
	(void) query;
	evbuffer_add_printf(out, "{\"ok\":true}");
}

static void
admin_set_capacity(struct evbuffer *out, struct evkeyvalq *query)
{
	const char *calls = evhttp_find_header(query, "calls");
	const char *beyond = evhttp_find_header(query, "beyond");
	const char *cancels = evhttp_find_header(query, "cancels");

	if (cancels)
		capacity_set_cancels((unsigned) atoi(cancels));
	else
		capacity_set(calls ? (unsigned) atoi(calls) : 0, beyond && strcmp(beyond, "refuse") == 0);
	evbuffer_add_printf(out, "{\"ok\":true}");
}

static void
admin_refuse(struct evbuffer *out, struct evkeyvalq *query)
{
	const char *status = evhttp_find_header(query, "status");

	capacity_refuse_all(status ? atoi(status) : 0, evhttp_find_header(query, "retry_after"));
	evbuffer_add_printf(out, "{\"ok\":true}");
}

static const struct
{
	const char *path;
	const char *method;
	void (*write)(struct evbuffer *out, struct evkeyvalq *query);
} admin_pages[] = {
	{"/_standin/counts", "GET", admin_write_counts},
	{"/_standin/requests", "GET", admin_write_requests},
	{"/_standin/health", "GET", admin_write_health},
	{"/_standin/finish", "POST", admin_finish},
	{"/_standin/capacity", "POST", admin_set_capacity},
	{"/_standin/refuse", "POST", admin_refuse},
	{"/_standin/reset", "POST", admin_reset},
};

/*
 * Answers when "path" is one of the stand-in's own; false when it is not.  The
 * connection serves this one request and is taken out of the counts, if it is
 * of a listener whose connections are "counted".
 */
bool
admin_handle_request(struct evhttp_request *req, const char *path, bool counted)
{
	const char *query_text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
	struct evkeyvalq query;
	struct evbuffer *out;
	int status = 404;

	if (strncmp(path, "/_standin/", 10) != 0)
		return false;
	if (counted)
		counts_remove_connection();
	out = evbuffer_new();
	if (evhttp_parse_query_str(query_text ? query_text : "", &query) != 0)
		TAILQ_INIT(&query);
	for (size_t i = 0; i < sizeof(admin_pages) / sizeof(admin_pages[0]); i++)
	{
		if (strcmp(path, admin_pages[i].path) != 0)
			continue;
		status = strcmp(request_method(req), admin_pages[i].method) == 0 ? 200 : 405;
		if (status == 200)
			admin_pages[i].write(out, &query);
	}
	if (status != 200)
		evbuffer_add_printf(out,
							"{\"error\":{\"message\":\"GET /_standin/counts, requests or health; "
							"POST /_standin/finish, capacity, refuse or reset\"}}");
	evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", "application/json");
	evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
	evhttp_send_reply(req, status, NULL, out);
	evhttp_clear_headers(&query);
	evbuffer_free(out);
	return true;
}

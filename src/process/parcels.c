/*
 * parcels.c
 *		Packs and unpacks what a dispatcher and its writers send each other.
 *		One list of fields does both.
 *
 * Both processes run the same build, so fields are passed as they are in
 * memory.  Unpacked fields are in the current memory context; large ones stay
 * where the parcel was received.
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "nodes/makefuncs.h"

#include "base/bytes.h"
#include "process/parcels.h"

static bool
is_unpacking(const SpoolStream *stream)
{
	return stream->use == STREAM_UNPACKS;
}

/* ---------- an answer ---------- */

static void
pass_texts(SpoolStream *stream, List **texts)
{
	int32 n = list_length(*texts);
	int32 i;

	SPOOL_PASS(stream, n);
	for (i = 0; i < n && !stream->failed; i++)
	{
		char *text = is_unpacking(stream) ? NULL : list_nth(*texts, i);

		spool_pass_text(stream, &text);
		if (is_unpacking(stream))
			*texts = lappend(*texts, text);
	}
}

/*
 * Passes the options of a server as text.  Unpacking parses them again.
 */
static void
pass_options(SpoolStream *stream, ServerOptions *options)
{
	List *defs = is_unpacking(stream) ? NIL : options->defs;
	char *url = is_unpacking(stream) ? NULL : options->url;
	int32 n = list_length(defs);
	int32 i;

	spool_pass_text(stream, &url);
	SPOOL_PASS(stream, n);
	for (i = 0; i < n && !stream->failed; i++)
	{
		DefElem *def = is_unpacking(stream) ? NULL : list_nth(defs, i);
		char *name = def ? def->defname : NULL;
		char *value = def ? defGetString(def) : NULL;

		spool_pass_text(stream, &name);
		spool_pass_text(stream, &value);
		if (is_unpacking(stream) && name != NULL && value != NULL)
			defs = lappend(defs, makeDefElem(name, (Node *) makeString(value), -1));
	}
	if (!is_unpacking(stream) || stream->failed)
		return;
	options_parse_server(defs, options);
	options->url = url;
}

static void
pass_request(SpoolStream *stream, HttpRequest *request)
{
	spool_pass_text(stream, (char **) &request->method);
	spool_pass_text(stream, &request->url);
	spool_pass_text(stream, &request->shown_url);
	spool_pass_text(stream, &request->object);
	SPOOL_PASS(stream, request->body_len);
	pass_texts(stream, &request->secrets);
	pass_texts(stream, &request->disguises);
	SPOOL_PASS(stream, request->timeout);
	SPOOL_PASS(stream, request->connect_timeout);
	SPOOL_PASS(stream, request->public_only);
	SPOOL_PASS(stream, request->names_model);
}

static void
pass_source(SpoolStream *stream, Question *question)
{
	ReplySource *source = &question->source;
	bool has_remote = source->remote != NULL;
	bool has_request = source->request != NULL;

	SPOOL_PASS(stream, has_request);
	if (is_unpacking(stream))
	{
		source->options = palloc0(sizeof(ServerOptions));
		source->request = has_request ? palloc0(sizeof(HttpRequest)) : NULL;
	}
	spool_pass_text(stream, (char **) &source->server_name);
	pass_options(stream, (ServerOptions *) source->options);
	if (has_request)
		pass_request(stream, (HttpRequest *) source->request);
	spool_pass_text(stream, (char **) &source->idempotency_key);
	spool_pass_remote(stream, &question->remote);
	SPOOL_PASS(stream, has_remote);
	SPOOL_PASS(stream, source->failures);
	SPOOL_PASS(stream, source->forgotten);
	SPOOL_PASS(stream, source->age);
	SPOOL_PASS(stream, source->now_unix);
	if (is_unpacking(stream))
		source->remote = has_remote ? &question->remote : NULL;
}

static void
pass_body(SpoolStream *stream, Bytes **body)
{
	char *data = is_unpacking(stream) || (*body)->len == 0 ? NULL : (*body)->data;
	size_t len = is_unpacking(stream) ? 0 : (*body)->len;

	spool_pass_bytes(stream, &data, &len);
	if (is_unpacking(stream))
		*body = bytes_of_palloced(data, len);
}

static void
pass_reply(SpoolStream *stream, HttpReply *reply)
{
	SPOOL_PASS(stream, reply->error);
	spool_pass_text(stream, &reply->error_text);
	SPOOL_PASS(stream, reply->sent);
	SPOOL_PASS(stream, reply->peer_is_private);
	SPOOL_PASS(stream, reply->peer_is_public);
	SPOOL_PASS(stream, reply->status);
	SPOOL_PASS(stream, reply->is_poured);
	SPOOL_PASS(stream, reply->is_pieces);
	SPOOL_PASS(stream, reply->is_elsewhere);
	SPOOL_PASS(stream, reply->n_decoded);
	SPOOL_PASS(stream, reply->is_decoded);
	spool_pass_text(stream, (char **) &reply->undecoded);
	pass_body(stream, &reply->headers);
	pass_body(stream, &reply->body);
}

StaticAssertDecl(sizeof(void *) != 8 || sizeof(ReplySource) == 64,
				 "pass the new field of ReplySource, and then say how large it is");
StaticAssertDecl(sizeof(void *) != 8 || sizeof(HttpReply) == 64,
				 "pass the new field of HttpReply, and then say how large it is");

void
parcel_pass_question(SpoolStream *stream, Question *question)
{
	SPOOL_PASS(stream, question->job);
	SPOOL_PASS(stream, question->attempt);
	SPOOL_PASS(stream, question->step);
	spool_pass_text(stream, &question->places);
	spool_pass_text(stream, &question->lookup);
	pass_source(stream, question);
	if (is_unpacking(stream))
		question->reply = palloc0(sizeof(HttpReply));
	pass_reply(stream, question->reply);
}

static void
pass_verdict(SpoolStream *stream, Verdict **verdict)
{
	bool has_verdict = *verdict != NULL;

	SPOOL_PASS(stream, has_verdict);
	if (!has_verdict)
		return;
	if (is_unpacking(stream))
		*verdict = palloc0(sizeof(Verdict));
	spool_pass_verdict(stream, *verdict);
	SPOOL_PASS(stream, (*verdict)->after);
	SPOOL_PASS(stream, (*verdict)->stuck);
	SPOOL_PASS(stream, (*verdict)->of_job);
	SPOOL_PASS(stream, (*verdict)->forgotten);
	SPOOL_PASS(stream, (*verdict)->absent);
	SPOOL_PASS(stream, (*verdict)->has_answer);
	SPOOL_PASS(stream, (*verdict)->progress);
}

/*
 * Passes how an answer was judged.
 */
void
parcel_pass_judged(SpoolStream *stream, Judged *judged)
{
	spool_pass_text(stream, &judged->why);
	if (judged->why != NULL)
		return;
	SPOOL_PASS(stream, judged->found);
	pass_verdict(stream, &judged->verdict);
	if (judged->verdict == NULL)
		return;
	spool_pass_remote(stream, &judged->remote);
	spool_pass_text(stream, (char **) &judged->output.content_type);
	spool_pass_bytes(stream, (char **) &judged->output.data, &judged->output.len);
	spool_pass_text(stream, &judged->redirect);
}

/* ---------- an answer that was saved ---------- */

void
parcel_pass_recall(SpoolStream *stream, Recall *recall)
{
	SPOOL_PASS(stream, recall->looks);
	SPOOL_PASS(stream, recall->question.job);
	SPOOL_PASS(stream, recall->question.attempt);
	pass_source(stream, &recall->question);
}

/*
 * Passes how a saved answer was judged.  If it could not be judged, its text
 * is in remote.
 */
void
parcel_pass_recalled(SpoolStream *stream, Recalled *recalled)
{
	SPOOL_PASS(stream, recalled->is_read);
	if (!recalled->is_read)
		return;
	spool_pass_text(stream, &recalled->judged.why);
	spool_pass_remote(stream, &recalled->judged.remote);
	pass_verdict(stream, &recalled->judged.verdict);
}

/* ---------- an error ---------- */

static void
pass_error(SpoolStream *stream, ErrorData **error)
{
	bool any = !is_unpacking(stream) && *error != NULL;

	SPOOL_PASS(stream, any);
	if (!any)
		return;
	if (is_unpacking(stream))
		*error = palloc0(sizeof(ErrorData));
	(*error)->elevel = ERROR;
	SPOOL_PASS(stream, (*error)->sqlerrcode);
	spool_pass_text(stream, &(*error)->message);
	spool_pass_text(stream, &(*error)->detail);
	spool_pass_text(stream, &(*error)->hint);
	spool_pass_text(stream, &(*error)->context);
}

/* ---------- a request to be built ---------- */

StaticAssertDecl(sizeof(void *) != 8 || sizeof(RequestSource) == 120,
				 "pass the new field of RequestSource, and then say how large it is");
StaticAssertDecl(sizeof(void *) != 8 || sizeof(Reference) == 64,
				 "pass the new field of Reference, and then say how large it is");
StaticAssertDecl(sizeof(void *) != 8 || sizeof(HttpRequest) == 152,
				 "pass the new field of HttpRequest, and then say how large it is");

static void
pass_inputs(SpoolStream *stream, RequestSource *source)
{
	Input *inputs = (Input *) source->inputs;
	int32 i;

	SPOOL_PASS(stream, source->n_inputs);
	if (is_unpacking(stream))
		inputs = palloc0((source->n_inputs + 1) * sizeof(Input));
	for (i = 0; i < source->n_inputs && !stream->failed; i++)
	{
		size_t len = inputs[i].len;

		SPOOL_PASS(stream, len);
		spool_pass_bytes(stream, (char **) &inputs[i].data, &inputs[i].len);
		if (inputs[i].data == NULL)
			inputs[i].data = "";
	}
	source->inputs = inputs;
}

/*
 * Passes what the request takes from other jobs and from stores.
 */
static void
pass_references(SpoolStream *stream, RequestSource *source)
{
	int32 i;

	SPOOL_PASS(stream, source->n_references);
	if (is_unpacking(stream))
		source->references = palloc0((source->n_references + 1) * sizeof(Reference));
	for (i = 0; i < source->n_references && !stream->failed; i++)
	{
		Reference *reference = &source->references[i];

		SPOOL_PASS(stream, reference->job);
		SPOOL_PASS(stream, reference->ordinal);
		spool_pass_text(stream, (char **) &reference->content_type);
		spool_pass_bytes(stream, (char **) &reference->data, &reference->len);
		SPOOL_PASS(stream, reference->wants_data);
		SPOOL_PASS(stream, reference->wants_link);
		spool_pass_text(stream, (char **) &reference->url);
		spool_pass_text(stream, &reference->link);
	}
}

static void
pass_secrets(SpoolStream *stream, MappingOptions *secrets)
{
	spool_pass_text(stream, &secrets->api_key);
	spool_pass_text(stream, &secrets->headers);
	spool_pass_text(stream, &secrets->access_key_id);
	spool_pass_text(stream, &secrets->secret_access_key);
	spool_pass_text(stream, &secrets->session_token);
}

void
parcel_pass_order(SpoolStream *stream, Order *order)
{
	RequestSource *source = &order->source;

	SPOOL_PASS(stream, order->job);
	SPOOL_PASS(stream, order->attempt);
	pass_secrets(stream, &order->secrets);
	if (is_unpacking(stream))
		source->options = palloc0(sizeof(ServerOptions));
	pass_options(stream, (ServerOptions *) source->options);
	spool_pass_text(stream, (char **) &source->request);
	pass_inputs(stream, source);
	pass_references(stream, source);
	pass_texts(stream, &source->link_secrets);
	spool_pass_text(stream, (char **) &source->idempotency_key);
	spool_pass_text(stream, (char **) &source->tenant);
	spool_pass_text(stream, (char **) &source->token);
	spool_pass_text(stream, (char **) &source->sent_bucket);
	SPOOL_PASS(stream, source->job);
	SPOOL_PASS(stream, source->is_literal);
	SPOOL_PASS(stream, source->now_unix);
	source->secrets = &order->secrets;
}

static void
pass_headers(SpoolStream *stream, List **headers)
{
	int32 n = list_length(*headers);
	int32 i;

	SPOOL_PASS(stream, n);
	for (i = 0; i < n && !stream->failed; i++)
	{
		HttpHeader *header =
			is_unpacking(stream) ? palloc0(sizeof(HttpHeader)) : list_nth(*headers, i);

		spool_pass_text(stream, (char **) &header->name);
		spool_pass_text(stream, &header->value);
		spool_pass_text(stream, (char **) &header->shown);
		if (is_unpacking(stream))
			*headers = lappend(*headers, header);
	}
}

/*
 * Passes a request as request_build() makes it: without pour and without
 * account.
 */
static void
pass_built_request(SpoolStream *stream, HttpRequest *http)
{
	pass_request(stream, http);
	pass_headers(stream, &http->headers);
	spool_pass_bytes(stream, &http->body, &http->body_len);
	spool_pass_text(stream, (char **) &http->body_sha256);
	spool_pass_text(stream, (char **) &http->ca_file);
	SPOOL_PASS(stream, http->is_signed);
	SPOOL_PASS(stream, http->keeps_path);
	SPOOL_PASS(stream, http->max_response);
	SPOOL_PASS(stream, http->is_download);
	SPOOL_PASS(stream, http->is_dispensable);
}

void
parcel_pass_built(SpoolStream *stream, Built *built)
{
	bool is_built = !is_unpacking(stream) && built->http != NULL;

	SPOOL_PASS(stream, is_built);
	if (!is_built)
	{
		pass_error(stream, &built->error);
		return;
	}
	if (is_unpacking(stream))
		built->http = palloc0(sizeof(HttpRequest));
	pass_built_request(stream, built->http);
}

/* ---------- verdicts to be written ---------- */

static void
pass_job(SpoolStream *stream, Job **job, JobState state)
{
	SpooledJob spooled = {0};

	if (!is_unpacking(stream))
	{
		spooled.id = (*job)->id;
		spooled.is_save = state == JOB_SAVING;
		spooled.backend = (*job)->options ? (*job)->options->url : NULL;
	}
	SPOOL_PASS(stream, spooled.id);
	if (is_unpacking(stream))
	{
		*job = job_create(spooled.id);
		(*job)->verdict = palloc0(sizeof(Verdict));
	}
	spool_pass_job(stream, *job, &spooled);
	SPOOL_PASS(stream, (*job)->step);
	SPOOL_PASS(stream, (*job)->write.failures);
	SPOOL_PASS(stream, (*job)->write.begins_errors);
	if (is_unpacking(stream) && spooled.backend != NULL)
	{
		ServerOptions *options = palloc0(sizeof(ServerOptions));

		options->url = spooled.backend;
		(*job)->options = options;
	}
}

/*
 * Unpacking creates Jobs with what a report or a save needs.  The caller
 * destroys them.
 */
void
parcel_pass_batch(SpoolStream *stream, JobBatch *batch, JobState state)
{
	int i;

	SPOOL_PASS(stream, batch->looks);
	SPOOL_PASS(stream, batch->n);
	if (is_unpacking(stream))
		batch->jobs = palloc0((batch->n + 1) * sizeof(Job *));
	for (i = 0; i < batch->n && !stream->failed; i++)
		pass_job(stream, &batch->jobs[i], state);
}

/*
 * Passes what became of n jobs.
 */
void
parcel_pass_written(SpoolStream *stream, Written *written, int n)
{
	int i;

	for (i = 0; i < n && !stream->failed; i++)
	{
		SPOOL_PASS(stream, written[i].outcome);
		SPOOL_PASS(stream, written[i].refuses_result);
		SPOOL_PASS(stream, written[i].refuses_usage);
		SPOOL_PASS(stream, written[i].refuses_errors);
		pass_error(stream, &written[i].error);
	}
}

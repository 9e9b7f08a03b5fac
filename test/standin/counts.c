/*
 * counts.c
 *		How often what arrived, and the last requests word for word.
 *
 * Calls are counted as a whole and for each Idempotency-Key, id and path, in
 * tables that stay quick with a million names.  Of every call that has arrived,
 * exactly one of in flight, answered, aborted and cut holds.
 */
#include "standin.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOT_COUNTED UINT32_MAX
#define LOG_REQUESTS 1000
#define LOG_BODY 4096

/* How often the calls of one name arrived, and how they ended */
typedef struct Tally
{
	char *name;
	uint32_t hash;
	uint32_t arrived;
	uint32_t ended[OUTCOME_CUT + 1];
	uint32_t events[NEVENTS];
} Tally;

/* Tallies in the order their names first came, with an open-addressing index of their names */
typedef struct TallyTable
{
	Tally *rows;
	uint32_t nrows;
	uint32_t room;
	uint32_t *slots; /* number of a row plus one; 0: empty */
	uint32_t nslots; /* a power of two */
} TallyTable;

/* What the enum Event is called, of a name and of all */
static const char *const event_names[NEVENTS] = {"submitted", "repeated", "polls",     "results",
												 "downloads", "cancels",  "cancelled", "leaks"};
static const char *const event_totals[NEVENTS] = {"predictions", "repeated", "polls",     "results",
												  "downloads",   "cancels",  "cancelled", "leaks"};

static TallyTable keys;
static TallyTable ids;
static TallyTable paths;
static uint64_t total;
static uint64_t ended[OUTCOME_CUT + 1];
static uint64_t events[NEVENTS];
static uint64_t in_flight;
static uint64_t max_in_flight;
static uint64_t
	refused; /* requests that bring work and were refused: no place was free, or all are refused */
static uint64_t connections;
static uint32_t epoch; /* grows with each reset: calls of before are not counted after */
static char *log_requests[LOG_REQUESTS]; /* a ring of JSON texts */
static uint64_t log_count;

static void *
memory_grow(void *memory, size_t size)
{
	memory = realloc(memory, size);
	if (memory == NULL)
		errx(1, "out of memory");
	return memory;
}

/* FNV-1a. */
static uint32_t
name_hash(const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name; name++)
		hash = (hash ^ (unsigned char) *name) * 16777619u;
	return hash ^ hash >> 15;
}

static void
tally_rebuild_index(TallyTable *table)
{
	table->nslots = table->nslots ? table->nslots * 2 : 256;
	free(table->slots);
	table->slots = memory_grow(NULL, table->nslots * sizeof(uint32_t));
	memset(table->slots, 0, table->nslots * sizeof(uint32_t));
	for (uint32_t i = 0; i < table->nrows; i++)
	{
		uint32_t slot = table->rows[i].hash & (table->nslots - 1);

		while (table->slots[slot] != 0)
			slot = (slot + 1) & (table->nslots - 1);
		table->slots[slot] = i + 1;
	}
}

/* The number of the row of "name", which is added when it is new. */
static uint32_t
tally_find(TallyTable *table, const char *name)
{
	uint32_t hash = name_hash(name);
	uint32_t slot;
	Tally *row;

	if (table->nrows >= table->nslots / 2)
		tally_rebuild_index(table);
	for (slot = hash & (table->nslots - 1); table->slots[slot] != 0;
		 slot = (slot + 1) & (table->nslots - 1))
	{
		row = &table->rows[table->slots[slot] - 1];
		if (row->hash == hash && strcmp(row->name, name) == 0)
			return table->slots[slot] - 1;
	}
	if (table->nrows == table->room)
	{
		table->room = table->room ? table->room * 2 : 128;
		table->rows = memory_grow(table->rows, table->room * sizeof(Tally));
	}
	row = &table->rows[table->nrows];
	memset(row, 0, sizeof(Tally));
	row->name = memory_grow(NULL, strlen(name) + 1);
	strcpy(row->name, name);
	row->hash = hash;
	table->slots[slot] = ++table->nrows;
	return table->nrows - 1;
}

static void
tally_clear(TallyTable *table)
{
	for (uint32_t i = 0; i < table->nrows; i++)
		free(table->rows[i].name);
	free(table->rows);
	free(table->slots);
	memset(table, 0, sizeof(TallyTable));
}

void
counts_add_connection(void)
{
	connections++;
}

/* For a connection that turns out to carry no calls but a question of a test. */
void
counts_remove_connection(void)
{
	if (connections > 0)
		connections--;
}

/*
 * Counts a call that has arrived; "key" and "id" may be NULL.  Sets "ref" for
 * counts_end().  Returns how many calls of the same id came before this one.
 */
uint32_t
counts_arrive(CountRef *ref, const char *key, const char *id, const char *path)
{
	uint32_t row = tally_find(&paths, path);

	ref->epoch = epoch;
	ref->key = key ? tally_find(&keys, key) : NOT_COUNTED;
	ref->id = id ? tally_find(&ids, id) : NOT_COUNTED;
	total++;
	if (++in_flight > max_in_flight)
		max_in_flight = in_flight;
	paths.rows[row].arrived++;
	if (key)
		keys.rows[ref->key].arrived++;
	return id ? ids.rows[ref->id].arrived++ : 0;
}

void
counts_end(const CountRef *ref, Outcome outcome)
{
	in_flight--;
	if (ref->epoch != epoch)
		return;
	ended[outcome]++;
	if (ref->key != NOT_COUNTED)
		keys.rows[ref->key].ended[outcome]++;
	if (ref->id != NOT_COUNTED)
		ids.rows[ref->id].ended[outcome]++;
}

/* Counts what happened to a prediction, for the key and the id that it was submitted with. */
void
counts_add(const CountRef *ref, Event event)
{
	if (ref->epoch != epoch)
		return;
	events[event]++;
	if (ref->key != NOT_COUNTED)
		keys.rows[ref->key].events[event]++;
	if (ref->id != NOT_COUNTED)
		ids.rows[ref->id].events[event]++;
}

/* Counts a secret that came with a call about no prediction that is known. */
void
counts_add_leak(void)
{
	events[EVENT_LEAK]++;
}

static void
tally_write(struct evbuffer *out, const char *member, const TallyTable *table)
{
	evbuffer_add_printf(out, ",\"%s\":{", member);
	for (uint32_t i = 0; i < table->nrows; i++)
	{
		const Tally *row = &table->rows[i];

		evbuffer_add(out, ",", i > 0);
		json_add_string(out, row->name);
		evbuffer_add_printf(out, ":{\"arrived\":%u,\"answered\":%u,\"aborted\":%u,\"cut\":%u",
							row->arrived, row->ended[OUTCOME_ANSWERED], row->ended[OUTCOME_ABORTED],
							row->ended[OUTCOME_CUT]);
		for (int event = 0; event < NEVENTS; event++)
			evbuffer_add_printf(out, ",\"%s\":%u", event_names[event], row->events[event]);
		evbuffer_add(out, "}", 1);
	}
	evbuffer_add(out, "}", 1);
}

static void
tally_write_summary(struct evbuffer *out, const char *name, const TallyTable *table)
{
	uint32_t arrived = 0;
	uint32_t answered = 0;
	uint32_t submitted = 0;

	for (uint32_t i = 0; i < table->nrows; i++)
	{
		const Tally *row = &table->rows[i];

		if (row->arrived > arrived)
			arrived = row->arrived;
		if (row->ended[OUTCOME_ANSWERED] > answered)
			answered = row->ended[OUTCOME_ANSWERED];
		if (row->events[EVENT_SUBMITTED] > submitted)
			submitted = row->events[EVENT_SUBMITTED];
	}
	evbuffer_add_printf(out, ",\"distinct_%ss\":%u,\"max_per_%s\":%u,\"max_answered_per_%s\":%u",
						name, table->nrows, name, arrived, name, answered);
	evbuffer_add_printf(out, ",\"max_submitted_per_%s\":%u", name, submitted);
}

/* A call that brings work is turned away by the capacity, or because all are. */
void
counts_add_refused(void)
{
	refused++;
}

/* Writes all counts as a JSON object; the summary leaves out the single keys and ids. */
void
counts_write(struct evbuffer *out, bool summary)
{
	evbuffer_add_printf(out,
						"{\"total\":%llu,\"in_flight\":%llu,\"max_in_flight\":%llu,"
						"\"answered\":%llu,\"refused\":%llu,\"aborted\":%llu,\"cut\":%llu,\"connections\":%llu",
						(unsigned long long) total, (unsigned long long) in_flight,
						(unsigned long long) max_in_flight,
						(unsigned long long) ended[OUTCOME_ANSWERED], (unsigned long long) refused,
						(unsigned long long) ended[OUTCOME_ABORTED],
						(unsigned long long) ended[OUTCOME_CUT], (unsigned long long) connections);
	for (int event = 0; event < NEVENTS; event++)
		evbuffer_add_printf(out, ",\"%s\":%llu", event_totals[event],
							(unsigned long long) events[event]);
	if (summary)
	{
		tally_write_summary(out, "key", &keys);
		tally_write_summary(out, "id", &ids);
	}
	else
	{
		tally_write(out, "keys", &keys);
		tally_write(out, "ids", &ids);
	}
	evbuffer_add_printf(out, ",\"paths\":{");
	for (uint32_t i = 0; i < paths.nrows; i++)
	{
		evbuffer_add(out, ",", i > 0);
		json_add_string(out, paths.rows[i].name);
		evbuffer_add_printf(out, ":%u", paths.rows[i].arrived);
	}
	evbuffer_add(out, "}}", 2);
}

/* Keeps the request, its body up to 4 kB, among the last thousand. */
void
counts_log_request(struct evhttp_request *req, const Body *body, const char *id)
{
	struct evbuffer *line = evbuffer_new();
	char **place = &log_requests[log_count++ % LOG_REQUESTS];
	struct timespec now;
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	evbuffer_add_printf(line,
						"{\"time\":%lld.%03ld,\"method\":\"%s\",\"uri\":", (long long) now.tv_sec,
						now.tv_nsec / 1000000, request_method(req));
	json_add_string(line, evhttp_request_get_uri(req));
	evbuffer_add(line, ",\"headers\":", 11);
	json_add_headers(line, req);
	evbuffer_add(line, ",\"id\":", 6);
	json_add_string(line, id);
	evbuffer_add_printf(line, ",\"bytes\":%zu,\"body\":", body->len);
	json_add_text(line, body->data, body->len < LOG_BODY ? body->len : LOG_BODY);
	evbuffer_add(line, "}", 2); /* with the NUL that ends it */

	len = evbuffer_get_length(line);
	*place = memory_grow(*place, len);
	evbuffer_remove(line, *place, len);
	evbuffer_free(line);
}

/* Writes the last requests, "limit" at most, as a JSON array, the oldest first. */
void
counts_write_requests(struct evbuffer *out, int limit)
{
	uint64_t kept = log_count < LOG_REQUESTS ? log_count : LOG_REQUESTS;
	uint64_t first = log_count - (kept < (uint64_t) limit ? kept : (uint64_t) limit);

	evbuffer_add(out, "[", 1);
	for (uint64_t i = first; i < log_count; i++)
	{
		const char *line = log_requests[i % LOG_REQUESTS];

		evbuffer_add(out, ",", i > first);
		evbuffer_add(out, line, strlen(line));
	}
	evbuffer_add(out, "]", 1);
}

/* Forgets all that was counted and logged; calls now in flight end uncounted. */
void
counts_reset(void)
{
	tally_clear(&keys);
	tally_clear(&ids);
	tally_clear(&paths);
	total = connections = refused = 0;
	memset(ended, 0, sizeof(ended));
	memset(events, 0, sizeof(events));
	max_in_flight = in_flight;
	epoch++;
	for (int i = 0; i < LOG_REQUESTS; i++)
	{
		free(log_requests[i]);
		log_requests[i] = NULL;
	}
	log_count = 0;
}

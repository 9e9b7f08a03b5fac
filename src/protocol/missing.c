/*
 * missing.c
 *		Outputs of an answer that could not be fetched: puts back what the
 *		answer had in their places.
 *
 * While outputs are downloaded, the answer is kept as text with a reference in
 * the place of each.  The server may have written something that looks like a
 * reference.  So a reference is known by its number among all nodes that look
 * like one.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "base/guard.h"
#include "base/json.h"
#include "protocol/missing.h"

#define MAX_NAMED 5 /* outputs that an error names; then it says "(and so on)" */

static bool
is_reference(const cJSON *node)
{
	const cJSON *member = cJSON_IsObject(node) ? node->child : NULL;

	return member != NULL && member->next == NULL && json_is_number(member) &&
		   strcmp(member->string, "$output") == 0;
}

/*
 * Calls visit for each node of a tree that looks like a reference, in the document's order.
 */
static void
each_reference(cJSON *node, void (*visit)(cJSON *node, void *arg), void *arg)
{
	for (; node != NULL; node = node->next)
	{
		if (is_reference(node))
			visit(node, arg);
		else
			each_reference(node->child, visit, arg);
	}
}

/* The references of a tree that are counted. */
typedef struct Count
{
	const List *outputs;
	int n;
} Count;

static void
note_reference(cJSON *node, void *arg)
{
	Count *count = arg;
	int ordinal = (int) json_double(node->child);
	Output *output;

	count->n++;
	if (ordinal < 1 || ordinal > list_length(count->outputs))
		return;
	output = list_nth(count->outputs, ordinal - 1);
	if (output->node == node)
		output->reference = count->n;
}

/*
 * Notes which reference in the tree stands for each output that is still to be
 * fetched.  Call it before the tree is printed as the verdict's result.
 */
void
missing_note(Verdict *verdict, cJSON *json)
{
	Count count = {verdict->outputs, 0};
	ListCell *cell;

	each_reference(json, note_reference, &count);
	foreach(cell, verdict->outputs)
		((Output *) lfirst(cell))->node = NULL; /* the tree will be freed */
}

/*
 * True if an output did not come, and a reference stands for it in the answer.
 */
static bool
is_missing(const Output *output)
{
	return !OUTPUT_IS_THERE(output) && output->original != NULL && output->reference > 0;
}

/* References that are replaced. */
typedef struct Restoring
{
	Output **missing; /* by number of the reference; NULL: not ours */
	int most;
	int n;
} Restoring;

static void
restore_original(cJSON *node, void *arg)
{
	Restoring *restoring = arg;
	const Output *output =
		++restoring->n <= restoring->most ? restoring->missing[restoring->n] : NULL;
	cJSON *original = output ? json_parse_trusted(output->original) : NULL;

	if (original == NULL)
		return;
	node->type = original->type;
	node->valuestring = original->valuestring;
	node->valuedouble = original->valuedouble;
	node->child = original->child;
}

static int
last_reference(const List *outputs)
{
	const ListCell *cell;
	int most = 0;

	foreach(cell, outputs)
	{
		const Output *output = lfirst(cell);

		if (is_missing(output))
			most = Max(most, output->reference);
	}
	return most;
}

/* A result in which references are replaced. */
typedef struct Rewriting
{
	Verdict *verdict;
	MemoryContext caller;
	int most;
} Rewriting;

static void
rewrite_result(void *arg)
{
	Rewriting *rewriting = arg;
	Verdict *verdict = rewriting->verdict;
	MemoryContext scratch =
		AllocSetContextCreate(rewriting->caller, "genjob answer", ALLOCSET_DEFAULT_SIZES);
	Restoring restoring = {.most = rewriting->most};
	ListCell *cell;
	cJSON *json;

	MemoryContextSwitchTo(scratch);
	restoring.missing = palloc0((restoring.most + 1) * sizeof(Output *));
	foreach(cell, verdict->outputs)
	{
		Output *output = lfirst(cell);

		if (is_missing(output))
			restoring.missing[output->reference] = output;
	}
	json = json_parse_trusted(verdict->result);
	each_reference(json, restore_original, &restoring);
	MemoryContextSwitchTo(rewriting->caller);
	verdict->result = json_print(json);
	MemoryContextDelete(scratch);
}

/*
 * In the verdict's result, puts back what the answer had in the places of
 * outputs that did not come.  Allocates in the current memory context; if
 * memory runs out, the references stay.
 */
void
missing_restore(Verdict *verdict)
{
	Rewriting rewriting = {verdict, CurrentMemoryContext, last_reference(verdict->outputs)};
	ListCell *cell;
	char *error;

	if (rewriting.most == 0 || verdict->result == NULL)
		return;
	(void) guard_run(rewrite_result, &rewriting, &error);
	foreach(cell, verdict->outputs)
		((Output *) lfirst(cell))->reference = 0;
}

/*
 * Describes the outputs that did not come, or cannot be read: a sentence, palloc'd, or NULL if there is none.
 */
char *
missing_describe(const Verdict *verdict)
{
	int n_outputs = list_length(verdict->outputs);
	const ListCell *cell;
	StringInfoData text;
	int n_missing = 0;
	int n = 0;

	initStringInfo(&text);
	foreach(cell, verdict->outputs)
	{
		const Output *output = lfirst(cell);

		if (output->fault == NULL)
			continue;
		n_missing += !OUTPUT_IS_THERE(output);
		if (n++ < MAX_NAMED)
			appendStringInfo(&text, "%s%s", text.len > 0 ? " " : "", output->fault);
	}
	if (n == 0)
		return NULL;
	if (n > MAX_NAMED)
		appendStringInfo(&text, " (and %d more)", n - MAX_NAMED);
	if (n_outputs == 1 || n_missing == 0)
		return text.data;
	return psprintf("%d of %d outputs could not be fetched; the column result has them as the server sent them. %s",
					n_missing, n_outputs, text.data);
}

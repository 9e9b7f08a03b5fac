/*
 * server.c
 *		The rest that pure files use of the server: lists, options as DefElems, the values of settings,
 *		the depth of the stack, interrupts.
 */
#include "postgres.h"

#include <math.h>

#include "access/reloptions.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "base/settings.h"
#include "shim.h"

#define STACK_DEPTH (2 * 1024 * 1024) /* max_stack_depth is 2 MB */

volatile sig_atomic_t InterruptPending = false;
int genjob_max_memory = 1024;

/* PostgreSQL: off while a dump is restored */
bool check_function_bodies = true;

static const char *stack_base;

/* ---------- lists ---------- */

static List *
new_list(int max_length)
{
	List *list = palloc0(offsetof(List, initial_elements));

	list->type = T_List;
	list->max_length = max_length;
	list->elements = palloc(max_length * sizeof(ListCell));
	return list;
}

List *
lappend(List *list, void *datum)
{
	if (list == NIL)
		list = new_list(1);
	if (list->length == list->max_length)
	{
		list->max_length *= 2;
		list->elements = repalloc(list->elements, list->max_length * sizeof(ListCell));
	}
	list->elements[list->length++].ptr_value = datum;
	return list;
}

void
list_sort(List *list, list_sort_comparator compare)
{
	if (list != NIL)
		qsort(list->elements, list->length, sizeof(ListCell),
			  (int (*)(const void *, const void *)) compare);
}

/* ---------- options ---------- */

DefElem *
makeDefElem(char *name, Node *arg, int location)
{
	DefElem *def = palloc0(sizeof(DefElem));

	def->type = T_DefElem;
	def->defname = name;
	def->arg = arg;
	def->location = location;
	return def;
}

String *
makeString(char *text)
{
	String *node = palloc0(sizeof(String));

	node->type = T_String;
	node->sval = text;
	return node;
}

char *
defGetString(DefElem *def)
{
	if (def->arg == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s requires a parameter", def->defname)));
	return strVal(def->arg);
}

/*
 * Only the validator calls it, which no harness does.
 */
List *
untransformRelOptions(Datum options)
{
	abort();
}

bool
parse_bool(const char *value, bool *result)
{
	static const struct
	{
		const char *word;
		int least; /* letters that it may be cut to */
		bool value;
	} words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false},
				 {"on", 2, true},   {"off", 2, false},   {"1", 1, true},   {"0", 1, false}};
	int len = (int) strlen(value);
	int i;

	for (i = 0; i < lengthof(words); i++)
	{
		if (len >= words[i].least && len <= (int) strlen(words[i].word) &&
			pg_strncasecmp(value, words[i].word, len) == 0)
		{
			*result = words[i].value;
			return true;
		}
	}
	return false;
}

/*
 * A number with a unit as settings have it, for GUC_UNIT_MS and GUC_UNIT_KB.
 */
bool
parse_real(const char *value, double *result, int flags, const char **hint)
{
	static const struct
	{
		int flag;
		const char *unit;
		double factor;
	} units[] = {{GUC_UNIT_MS, "us", 0.001},
				 {GUC_UNIT_MS, "ms", 1},
				 {GUC_UNIT_MS, "s", 1000},
				 {GUC_UNIT_MS, "min", 60000},
				 {GUC_UNIT_MS, "h", 3600000},
				 {GUC_UNIT_MS, "d", 86400000},
				 {GUC_UNIT_KB, "B", 1.0 / 1024},
				 {GUC_UNIT_KB, "kB", 1},
				 {GUC_UNIT_KB, "MB", 1024},
				 {GUC_UNIT_KB, "GB", 1024.0 * 1024},
				 {GUC_UNIT_KB, "TB", 1024.0 * 1024 * 1024}};
	char *end;
	double number;
	int i;

	errno = 0;
	number = strtod(value, &end);
	if (end == value || errno == ERANGE || isnan(number))
		return false;
	while (isspace((unsigned char) *end))
		end++;
	for (i = 0; *end != '\0' && i < lengthof(units); i++)
	{
		size_t len = strlen(units[i].unit);

		if (units[i].flag == (flags & GUC_UNIT) && strncmp(end, units[i].unit, len) == 0 &&
			end[len + strspn(end + len, " \t\n\v\f\r")] == '\0')
			break;
	}
	if (*end != '\0' && i == lengthof(units))
		return false;
	*result = *end == '\0' ? number : number * units[i].factor;
	return true;
}

/* ---------- the process ---------- */

/*
 * Where the stack is when an input begins.
 */
void
shim_stack_begin(void)
{
	stack_base = __builtin_frame_address(0);
}

bool
stack_is_too_deep(void)
{
	const char *here = __builtin_frame_address(0);

	return stack_base - here > STACK_DEPTH || here - stack_base > STACK_DEPTH;
}

void
check_stack_depth(void)
{
	if (stack_is_too_deep())
		ereport(ERROR,
				(errcode(ERRCODE_STATEMENT_TOO_COMPLEX), errmsg("stack depth limit exceeded")));
}

/* Outside of a transaction there is none. */
ResourceOwner CurrentResourceOwner = NULL;

ResourceOwner
ResourceOwnerCreate(ResourceOwner parent, const char *name)
{
	static int owner;

	return (ResourceOwner) &owner;
}

void
ProcessInterrupts(void)
{
}

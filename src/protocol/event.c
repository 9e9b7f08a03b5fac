/*
 * event.c
 *		What one event of a stream says, by a protocol's rules: whether it is the last, whether it is an error, and where
 *		its parts go.
 */
#include "postgres.h"

#include "protocol/event.h"

#define MAX_STARS 8 /* in a rule: more are not followed */

static const char *
text_of(const cJSON *node)
{
	if (cJSON_IsString(node) || json_is_number(node))
		return node->valuestring;
	return cJSON_IsTrue(node) ? "true" : cJSON_IsFalse(node) ? "false" : NULL;
}

static bool
is_of_type(const Event *event, const char *types)
{
	int i;

	for (i = 0; i < lengthof(event->types); i++)
	{
		if (event->types[i] != NULL && streamrules_list_has(types, event->types[i]))
			return true;
	}
	return false;
}

static void
note_value(cJSON *node, const PointerPlace *place, void *arg)
{
	const char **values = arg; /* [0]: values that count, NULL: any; [1]: set if found */
	const char *text = text_of(node);

	if (values[0] == NULL ? !json_is_empty(node) && !cJSON_IsFalse(node)
						  : text != NULL && streamrules_list_has(values[0], text))
		values[1] = "";
}

static bool
meets_condition(const StreamCondition *condition, const Event *event)
{
	const char *values[2] = {condition->values, NULL};

	if (condition->type != NULL)
		return is_of_type(event, condition->type);
	if (condition->data != NULL)
		return event->data != NULL && strcmp(condition->data, event->data) == 0;
	if (event->json != NULL)
		pointer_visit(&condition->place, event->json, note_value, values);
	return values[1] != NULL;
}

/*
 * True if one of the conditions is true of an event.
 */
bool
event_holds(const Event *event, const StreamConditions *conditions)
{
	int i;

	for (i = 0; i < conditions->n; i++)
	{
		if (meets_condition(&conditions->all[i], event))
			return true;
	}
	return false;
}

/* ---------- where its parts go ---------- */

/* A rule that is followed through an event. */
typedef struct Walk
{
	Assembly *assembly;
	const StreamRoute *route;
	Event *event;
	AssemblyKey keys[MAX_STARS];
	int n_keys;
} Walk;

/*
 * Takes a part out of its event, and puts it where its rule says; or only shows it.
 */
static void
take_part(Walk *walk, cJSON *node, cJSON *parent)
{
	const StreamRoute *route = walk->route;
	const char *text = text_of(node);
	cJSON constant = {.type = cJSON_String, .valuestring = route->constant};
	cJSON whole = *node;

	if (route->only != NULL && (text == NULL || strcmp(text, route->only) != 0))
		return;
	if (route->target == STREAM_SHOW)
	{
		if (text != NULL)
			assembly_show(walk->assembly, text);
		return;
	}
	if (parent != NULL)
		json_detach(parent, node);
	else
		node->child = NULL;
	whole.string = NULL;
	if (route->target == STREAM_PUT)
		assembly_put(walk->assembly, &route->to, walk->keys, walk->event->json,
					 route->constant ? &constant : &whole, walk->event->has_half);
}

static void
walk_to_parts(Walk *walk, int i, cJSON *node, cJSON *parent)
{
	const JsonPointer *from = &walk->route->from;
	cJSON *child;
	cJSON *next;
	int position = 0;

	if (i == from->n_tokens)
	{
		take_part(walk, node, parent);
		return;
	}
	if (from->tokens[i] != NULL)
	{
		child =
			cJSON_IsObject(node) ? cJSON_GetObjectItemCaseSensitive(node, from->tokens[i]) : NULL;
		if (child != NULL)
			walk_to_parts(walk, i + 1, child, node);
		return;
	}
	if (!cJSON_IsArray(node) || walk->n_keys == MAX_STARS)
		return;
	for (child = node->child; child != NULL && !assembly_is_full(walk->assembly);
		 child = next, position++)
	{
		next = child->next;
		if (!assembly_read_key(child, walk->route->keys[walk->n_keys], walk->keys[walk->n_keys]))
			snprintf(walk->keys[walk->n_keys], ASSEMBLY_KEY, "%d", position);
		walk->n_keys++;
		walk_to_parts(walk, i + 1, child, node);
		walk->n_keys--;
	}
}

/*
 * Takes the parts out of an event, and puts them where the rules for its type
 * say.  If its type has no rule, those without a type apply.
 */
void
event_take_parts(Event *event, const StreamRules *rules, Assembly *assembly)
{
	bool has_own = false;
	int i;

	for (i = 0; i < rules->n_routes; i++)
		has_own |= rules->routes[i].types != NULL && is_of_type(event, rules->routes[i].types);
	for (i = 0; i < rules->n_routes; i++)
	{
		Walk walk = {assembly, &rules->routes[i], event};

		if (has_own ? walk.route->types != NULL && is_of_type(event, walk.route->types)
					: walk.route->types == NULL)
			walk_to_parts(&walk, 0, event->json, NULL);
	}
}

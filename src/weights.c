/*
 * weights.c
 *		How many turns each tenant gets in the time in which others have one: genjob.tenant_weights, in
 *		memory.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "weights.h"

typedef struct WeightKey
{
	const char *server_name;
	const char *tenant;
} WeightKey;

typedef struct Weight
{
	WeightKey key;
	double weight;
} Weight;

static MemoryContext context = NULL; /* holds all below */
static HTAB *weights = NULL;

static uint32
hash_key(const void *key, Size size)
{
	const WeightKey *weight = key;

	return hash_combine(string_hash(weight->server_name, strlen(weight->server_name) + 1),
						string_hash(weight->tenant, strlen(weight->tenant) + 1));
}

static int
match_keys(const void *a, const void *b, Size size)
{
	const WeightKey *left = a;
	const WeightKey *right = b;
	int order = strcmp(left->server_name, right->server_name);

	return order != 0 ? order : strcmp(left->tenant, right->tenant);
}

/*
 * Begins anew: all have the weight 1.
 */
void
weights_forget(void)
{
	HASHCTL control = {
		.keysize = sizeof(WeightKey),
		.entrysize = sizeof(Weight),
		.hash = hash_key,
		.match = match_keys,
	};

	weights = NULL;
	if (context != NULL)
		MemoryContextDelete(context);
	context =
		AllocSetContextCreate(TopMemoryContext, "genjob tenant weights", ALLOCSET_SMALL_SIZES);
	control.hcxt = context;
	weights = hash_create("genjob tenant weights", 64, &control,
						  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/*
 * Sets a weight, once for each tenant after weights_forget().
 */
void
weights_set(const char *server_name, const char *tenant, double weight)
{
	WeightKey key = {MemoryContextStrdup(context, server_name),
					 MemoryContextStrdup(context, tenant)};
	Weight *entry = hash_search(weights, &key, HASH_ENTER, NULL);

	entry->weight = weight;
}

double
weights_get(const char *server_name, const char *tenant)
{
	WeightKey key = {server_name, tenant};
	const Weight *entry = weights ? hash_search(weights, &key, HASH_FIND, NULL) : NULL;

	return entry ? entry->weight : 1;
}

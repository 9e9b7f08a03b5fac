/*
 * weights.c
 *		How many turns each owner and each tenant gets while others get one:
 *		genjob.owner_weights and genjob.tenant_weights, in memory.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "schedule/weights.h"

typedef struct WeightKey
{
	const char *server_name;
	Oid owner;          /* invalid: it is a tenant's weight */
	const char *tenant; /* empty: it is an owner's weight */
} WeightKey;

typedef struct Weight
{
	WeightKey key;
	double weight;
} Weight;

static MemoryContext context = NULL; /* of all below */
static HTAB *weights = NULL;

static uint32
hash_key(const void *key, Size size)
{
	const WeightKey *weight = key;

	return hash_combine(hash_combine(string_hash(weight->server_name,
												 strlen(weight->server_name) + 1),
									 string_hash(weight->tenant, strlen(weight->tenant) + 1)),
						murmurhash32(weight->owner));
}

static int
match_keys(const void *a, const void *b, Size size)
{
	const WeightKey *left = a;
	const WeightKey *right = b;
	int order = strcmp(left->server_name, right->server_name);

	if (left->owner != right->owner)
		return left->owner < right->owner ? -1 : 1;
	return order != 0 ? order : strcmp(left->tenant, right->tenant);
}

/*
 * Forgets all weights: everyone has the weight 1.
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
	context = AllocSetContextCreate(TopMemoryContext, "genjob weights", ALLOCSET_SMALL_SIZES);
	control.hcxt = context;
	weights = hash_create("genjob weights", 64, &control,
						  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static void
set_weight(const char *server_name, Oid owner, const char *tenant, double weight)
{
	WeightKey key = {MemoryContextStrdup(context, server_name), owner,
					 MemoryContextStrdup(context, tenant)};
	Weight *entry = hash_search(weights, &key, HASH_ENTER, NULL);

	entry->weight = weight;
}

static double
get_weight(const char *server_name, Oid owner, const char *tenant)
{
	WeightKey key = {server_name, owner, tenant};
	const Weight *entry = weights ? hash_search(weights, &key, HASH_FIND, NULL) : NULL;

	return entry ? entry->weight : 1;
}

/*
 * Sets a weight, once for each tenant after weights_forget().
 */
void
weights_set_tenant(const char *server_name, const char *tenant, double weight)
{
	set_weight(server_name, InvalidOid, tenant, weight);
}

double
weights_get_tenant(const char *server_name, const char *tenant)
{
	return get_weight(server_name, InvalidOid, tenant);
}

/*
 * As weights_set_tenant(), for an owner.
 */
void
weights_set_owner(const char *server_name, Oid owner, double weight)
{
	set_weight(server_name, owner, "", weight);
}

double
weights_get_owner(const char *server_name, Oid owner)
{
	return get_weight(server_name, owner, "");
}

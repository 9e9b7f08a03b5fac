/*
 * weights.c
 *		Each owner and each tenant has its own weight at each server; all others have 1.
 */
#include "unit.h"

#include "schedule/weights.h"

typedef struct WeightCase
{
	const char *server;
	Oid owner; /* invalid: the tenant's */
	const char *tenant;
	double weight;
} WeightCase;

static double
get(const WeightCase *at)
{
	return OidIsValid(at->owner) ? weights_get_owner(at->server, at->owner)
								 : weights_get_tenant(at->server, at->tenant);
}

static const WeightCase set[] = {
	{"s", 10, NULL, 3},
	{"s", 11, NULL, 0.5},
	{"t", 10, NULL, 7},
	{"s", InvalidOid, "acme", 4},
	{"t", InvalidOid, "acme", 1000},
	{"s", InvalidOid, "", 0.25},
	{"", InvalidOid, "acme", 9},
	{"s", InvalidOid, "10", 6},
};

static void
set_all(void)
{
	int i;

	for (i = 0; i < lengthof(set); i++)
	{
		char server[NAMEDATALEN];
		char tenant[NAMEDATALEN];

		/* names that do not stay */
		strlcpy(server, set[i].server, sizeof(server));
		strlcpy(tenant, set[i].tenant ? set[i].tenant : "", sizeof(tenant));
		if (OidIsValid(set[i].owner))
			weights_set_owner(server, set[i].owner, set[i].weight);
		else
			weights_set_tenant(server, tenant, set[i].weight);
	}
}

static void
test_set(void)
{
	static const WeightCase others[] = {
		{"s", 12, NULL, 1},           {"u", 10, NULL, 1},
		{"t", 11, NULL, 1},           {"s", InvalidOid, "acme2", 1},
		{"s", InvalidOid, "Acme", 1}, {"u", InvalidOid, "acme", 1},
		{"t", InvalidOid, "", 1},     {"sacme", InvalidOid, "", 1},
	};
	int i;

	unit_is_near(weights_get_owner("s", 10), 1, 0, "before anything was set");
	weights_forget();
	set_all();
	for (i = 0; i < lengthof(set); i++)
		unit_is_near(get(&set[i]), set[i].weight, 0, "set weight %d", i);
	for (i = 0; i < lengthof(others); i++)
		unit_is_near(get(&others[i]), 1, 0, "weight %d that was not set", i);
	weights_forget();
	for (i = 0; i < lengthof(set); i++)
		unit_is_near(get(&set[i]), 1, 0, "forgotten weight %d", i);
}

static void
test_many(void)
{
	int wrong = 0;
	int i;

	weights_forget();
	for (i = 1; i <= 5000; i++)
		weights_set_tenant("s", psprintf("tenant %d", i), i);
	for (i = 1; i <= 5000; i++)
		wrong += weights_get_tenant("s", psprintf("tenant %d", i)) != i;
	unit_is_int(wrong, 0, "of 5,000 tenants, so many have another weight");
}

void
unit_run(void)
{
	test_set();
	test_many();
}

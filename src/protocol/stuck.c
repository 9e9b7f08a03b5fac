/*
 * stuck.c
 *		Refusals that waiting alone does not mend: the quota is used up, there
 *		is no money left, a limit is 0, the account may not use the model.
 *
 * Pure.  Providers give such refusals statuses that also mean "in a moment"
 * (429) or "never" (400, 403).  So the error's code decides, the provider's
 * own sentence, or a limit of 0.  Only members with the names of error types
 * are read for codes, and only the error's words for sentences: a request that
 * an answer repeats must not count.
 */
#include "postgres.h"

#include "http/header.h"
#include "protocol/stuck.h"

#define MAX_DEPTH 8
#define MAX_NODES 2000

/* A text that names a kind. */
typedef struct StuckSign
{
	const char *text;
	StuckKind kind;
} StuckSign;

/* Values of the members that name the type of an error. */
static const StuckSign codes[] = {
	{"insufficient_quota", STUCK_QUOTA}, /* OpenAI, Azure */
	{"quota_exceeded", STUCK_QUOTA},     /* ElevenLabs */
	{"billing_hard_limit_reached", STUCK_BILLING},
	{"billing_limit_user_error", STUCK_BILLING},
	{"billing_not_active", STUCK_BILLING},
	{"billing_error", STUCK_BILLING},    /* Anthropic */
	{"billing_disabled", STUCK_BILLING}, /* Google */
	{"account_deactivated", STUCK_BILLING},
	{"consumer_suspended", STUCK_BILLING}, /* Google */
	{"access_terminated", STUCK_BILLING},
	{"payment_required", STUCK_BILLING}, /* Stability */
	{"insufficient_credits", STUCK_BILLING},
	{"insufficient_credit", STUCK_BILLING},
	{"insufficient_balance", STUCK_BILLING},
	{"insufficient_funds", STUCK_BILLING},
	{"out_of_credits", STUCK_BILLING},
	{"spending_limit_exceeded", STUCK_BILLING},
	{"model_not_allowed", STUCK_MODEL},
	{"model_access_denied", STUCK_MODEL},
};

/* Parts of the providers' sentences, in lower case. */
static const StuckSign phrases[] = {
	{"credit balance is too low", STUCK_BILLING}, /* Anthropic, with 400 */
	{"specified api usage limits", STUCK_QUOTA},  /* Anthropic, with 400 */
	{"insufficient credit", STUCK_BILLING},       /* Replicate, OpenRouter, BFL */
	{"insufficient balance", STUCK_BILLING},      /* DeepSeek */
	{"insufficient funds", STUCK_BILLING},
	{"insufficient quota", STUCK_QUOTA},
	{"exhausted balance", STUCK_BILLING},       /* fal, with 403 */
	{"lack sufficient credits", STUCK_BILLING}, /* Stability */
	{"not enough credits", STUCK_BILLING},
	{"out of credits", STUCK_BILLING},
	{"no credits left", STUCK_BILLING},
	{"used all available credits", STUCK_BILLING}, /* xAI, with 429 */
	{"monthly spending limit", STUCK_BILLING},
	{"monthly included credits", STUCK_BILLING},       /* Hugging Face */
	{"billing hard limit", STUCK_BILLING},             /* OpenAI, with 400 */
	{"account is not active", STUCK_BILLING},          /* OpenAI, with 429 */
	{"requires billing to be enabled", STUCK_BILLING}, /* Google */
	{"billing is disabled", STUCK_BILLING},
	{"quota is used up", STUCK_QUOTA},
	{"quota has been used up", STUCK_QUOTA},
	{"must be reduced in order to run", STUCK_SIZE},    /* OpenAI, with 429 */
	{"have a free quota tier", STUCK_LIMIT},            /* Google, with 429 */
	{"must be verified to use the model", STUCK_MODEL}, /* OpenAI, with 403 */
	{"not have access to model", STUCK_MODEL},
	{"not have access to the model", STUCK_MODEL},
	{"no access to model", STUCK_MODEL},
	{"model is not allowed", STUCK_MODEL},
	{"model not allowed", STUCK_MODEL},
	{"not allowed to use this model", STUCK_MODEL},
	{"not allowed to use the model", STUCK_MODEL},
	{"not allowed to access model", STUCK_MODEL},
	{"not available on your plan", STUCK_MODEL},
	{"not available in your plan", STUCK_MODEL},
};

/* The headers in which a refusal says what a limit allows. */
static const char *const limit_headers[] = {
	"x-ratelimit-limit-requests",
	"x-ratelimit-limit-tokens",
	"anthropic-ratelimit-requests-limit",
	"RateLimit-Limit",
	"X-RateLimit-Limit",
};

static bool
is_zero(const char *number)
{
	size_t digits = strspn(number, "0");

	if (digits == 0)
		return false;
	if (number[digits] == '.')
		digits += 1 + strspn(number + digits + 1, "0");
	/* not zero: "0.5", "0,5" */
	return !isdigit((unsigned char) number[digits]) &&
		   !(number[digits] == ',' && isdigit((unsigned char) number[digits + 1]));
}

/*
 * True if a sentence, in lower case, says that a limit is 0, like Google's
 * "limit: 0".
 */
static bool
tells_limit_of_zero(const char *words)
{
	const char *p = words;

	while ((p = strstr(p, "limit")) != NULL)
	{
		p += strlen("limit");
		if (strncmp(p, " is", 3) == 0 || strncmp(p, " of", 3) == 0)
			p += 3;
		p += strspn(p, " :=");
		if (is_zero(p))
			return true;
	}
	return false;
}

static StuckKind
find_in_words(const char *words)
{
	char *lower = pstrdup(words);
	char *p;
	int i;

	for (p = lower; *p != '\0'; p++)
		*p = pg_ascii_tolower((unsigned char) *p);
	for (i = 0; i < lengthof(phrases); i++)
	{
		if (strstr(lower, phrases[i].text) != NULL)
			return phrases[i].kind;
	}
	return tells_limit_of_zero(lower) ? STUCK_LIMIT : STUCK_NOT;
}

static StuckKind
find_in_headers(const HttpReply *reply)
{
	int i;

	for (i = 0; i < lengthof(limit_headers); i++)
	{
		char *value = header_find(reply, limit_headers[i]);

		if (value != NULL && is_zero(value))
			return STUCK_LIMIT;
	}
	return STUCK_NOT;
}

/*
 * True if members of that name may have the type of an error.
 */
static bool
names_kind(const char *name)
{
	static const char *const names[] = {"code", "type",  "reason",     "status",
										"name", "error", "error_type", "error_code"};
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		if (pg_strcasecmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

static StuckKind
find_in_member(const cJSON *node)
{
	const char *text = node->valuestring;
	int i;

	if (pg_strcasecmp(node->string, "quotaValue") == 0)
		return is_zero(text) ? STUCK_LIMIT : STUCK_NOT;
	for (i = 0; i < lengthof(codes) && names_kind(node->string); i++)
	{
		if (pg_strcasecmp(text, codes[i].text) == 0)
			return codes[i].kind;
	}
	return STUCK_NOT;
}

/*
 * Looks for a code in an answer. *n counts the nodes.
 */
static StuckKind
find_in_json(const cJSON *node, int depth, int *n)
{
	StuckKind kind = STUCK_NOT;
	const cJSON *child;

	if (cJSON_IsString(node) && node->string != NULL)
		return find_in_member(node);
	if (depth > MAX_DEPTH)
		return STUCK_NOT;
	for (child = node->child; child != NULL && kind == STUCK_NOT && (*n)++ < MAX_NODES;
		 child = child->next)
		kind = find_in_json(child, depth + 1, n);
	return kind;
}

/*
 * Returns why waiting alone does not mend a refusal, by its status, its JSON
 * (or NULL) and its words; STUCK_NOT if waiting may.  Changes neither JSON nor
 * words.
 */
StuckKind
stuck_find(const HttpReply *reply, cJSON *json, const char *words)
{
	StuckKind kind = STUCK_NOT;
	int n = 0;

	if (reply->status != 400 && reply->status != 402 && reply->status != 403 && reply->status != 429)
		return STUCK_NOT;
	if (json != NULL)
		kind = find_in_json(json, 0, &n);
	if (kind == STUCK_NOT)
		kind = find_in_words(words);
	if (kind == STUCK_NOT && reply->status == 429)
		kind = find_in_headers(reply);
	/* with 400, a limit is mostly about this request */
	if (reply->status == 400 && kind != STUCK_QUOTA && kind != STUCK_BILLING)
		return STUCK_NOT;
	return reply->status == 402 && kind == STUCK_NOT ? STUCK_BILLING : kind;
}

/*
 * Returns what the provider says, as the beginning of a sentence.
 */
const char *
stuck_describe(StuckKind kind)
{
	switch (kind)
	{
		case STUCK_QUOTA:
			return "the provider says that the quota is used up";
		case STUCK_BILLING:
			return "the provider says that the account has no money left, or billing is not set up";
		case STUCK_LIMIT:
			return "the provider says that the account's limit for this is 0";
		case STUCK_MODEL:
			return "the provider says that the account may not use this model";
		case STUCK_SIZE:
			return "the provider says that this request alone exceeds the account's limit";
		case STUCK_NOT:
		case STUCK_KINDS:
			break;
	}
	return "the provider refuses";
}

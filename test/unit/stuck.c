/*
 * stuck.c
 *		Which refusals waiting alone does not fix, in the providers' own words; and which it does.
 */
#include "unit.h"

#include "base/bytes.h"
#include "protocol/stuck.h"

typedef struct Case
{
	int status;
	const char *json; /* or NULL: it is none */
	const char *words;
	const char *headers;
	StuckKind kind;
} Case;

static const Case cases[] = {
	/* OpenAI */
	{429,
	 "{\"error\":{\"message\":\"You exceeded your current quota, please check your plan and billing details.\",\"type\":\"insufficient_quota\",\"param\":null,\"code\":\"insufficient_quota\"}}",
	 "You exceeded your current quota, please check your plan and billing details.", "",
	 STUCK_QUOTA},
	{429,
	 "{\"error\":{\"message\":\"Rate limit reached for gpt-image-1 on images per min: Limit 5, Used 5, Requested 1. Please try again in 12s.\",\"type\":\"input-images\",\"code\":\"rate_limit_exceeded\"}}",
	 "Rate limit reached for gpt-image-1 on images per min: Limit 5, Used 5, Requested 1. Please try again in 12s.",
	 "", STUCK_NOT},
	{429, NULL,
	 "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 50000. The input or output tokens must be reduced in order to run successfully.",
	 "", STUCK_SIZE},
	{400,
	 "{\"error\":{\"code\":\"billing_hard_limit_reached\",\"message\":\"Billing hard limit has been reached\"}}",
	 "Billing hard limit has been reached", "", STUCK_BILLING},
	{429, NULL, "Your account is not active, please check your billing details on our website.", "",
	 STUCK_BILLING},
	{403, NULL, "Your organization must be verified to use the model `gpt-image-1`.", "",
	 STUCK_MODEL},
	{403, "{\"error\":{\"code\":\"model_not_found\"}}",
	 "Project `p` does not have access to model `gpt-image-1`", "", STUCK_MODEL},
	{404, "{\"error\":{\"code\":\"model_not_found\"}}",
	 "The model `x` does not exist or you do not have access to it.", "", STUCK_NOT},
	{429, NULL, "", "x-ratelimit-limit-requests: 0\r\n", STUCK_LIMIT},
	{429, NULL, "", "x-ratelimit-limit-requests: 500\r\nx-ratelimit-remaining-requests: 0\r\n",
	 STUCK_NOT},
	/* Anthropic */
	{400,
	 "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit balance is too low to access the Anthropic API.\"}}",
	 "Your credit balance is too low to access the Anthropic API.", "", STUCK_BILLING},
	{400, NULL,
	 "You have reached your specified API usage limits. You will regain access on 2026-12-01.", "",
	 STUCK_QUOTA},
	{429, "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\"}}",
	 "This request would exceed your organization's rate limit of 50 requests per minute", "",
	 STUCK_NOT},
	/* Google says the same sentence of any limit: what it is tells the number */
	{429, "{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}",
	 "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generate_content_free_tier_requests, limit: 0, model: gemini-3-pro\nPlease retry in 20.04466179s.",
	 "", STUCK_LIMIT},
	{429, "{\"error\":{\"code\":429,\"status\":\"RESOURCE_EXHAUSTED\"}}",
	 "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generate_content_free_tier_requests, limit: 10, model: gemini-3-pro\nPlease retry in 20.04466179s.",
	 "", STUCK_NOT},
	{429,
	 "{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"violations\":[{\"quotaId\":\"x\",\"quotaValue\":\"0\"}]}]}}",
	 "Resource has been exhausted (e.g. check quota).", "", STUCK_LIMIT},
	{429,
	 "{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"violations\":[{\"quotaId\":\"x\",\"quotaValue\":\"20\"}]}]}}",
	 "Resource has been exhausted (e.g. check quota).", "", STUCK_NOT},
	{429, NULL, "Gemini 2.5 Pro Preview doesn't have a free quota tier.", "", STUCK_LIMIT},
	{403, "{\"error\":{\"details\":[{\"reason\":\"BILLING_DISABLED\"}]}}",
	 "This API method requires billing to be enabled.", "", STUCK_BILLING},
	/* others */
	{402, NULL, "", "", STUCK_BILLING},
	{402, NULL, "402 Insufficient Balance", "", STUCK_BILLING},
	{402, NULL, "You have insufficient credit to run this model.", "", STUCK_BILLING},
	{403, NULL, "User is locked. Reason: Exhausted balance. Top up your balance.", "",
	 STUCK_BILLING},
	{429, NULL,
	 "Your team has either used all available credits or reached its monthly spending limit.", "",
	 STUCK_BILLING},
	{402, NULL, "You have exceeded your monthly included credits for Inference Providers.", "",
	 STUCK_BILLING},
	{429, "{\"detail\":{\"status\":\"quota_exceeded\"}}", "", "", STUCK_QUOTA},
	{403, NULL, "This model is not available on your plan.", "", STUCK_MODEL},
	/* what waiting mends, or what is of the job */
	{429, NULL, "Request was throttled. Your rate limit resets in ~30s.", "", STUCK_NOT},
	{429, NULL, "", "", STUCK_NOT},
	{403, NULL, "content_moderation", "", STUCK_NOT},
	{403, "{\"error\":{\"type\":\"forbidden\"}}", "Forbidden", "", STUCK_NOT},
	{401, "{\"error\":{\"code\":\"invalid_api_key\"}}", "Incorrect API key provided", "", STUCK_NOT},
	{400, NULL, "guidance is below the lower limit: 0", "", STUCK_NOT},
	{422, NULL, "limit: 0", "", STUCK_NOT},
	{503, "{\"error\":{\"code\":\"insufficient_quota\"}}", "", "", STUCK_NOT},
	{429, NULL, "limit 0.5 per minute", "", STUCK_NOT},
	{429, NULL, "limit: 0,5", "", STUCK_NOT},
	{429, NULL, "limit: 0.0", "", STUCK_LIMIT},
	{429, NULL, "a limit of 0 requests per day", "", STUCK_LIMIT},
	{429, NULL, "limit", "", STUCK_NOT},
	/* a request that is repeated in the answer says nothing */
	{429, "{\"error\":{\"message\":\"slow down\"},\"request\":{\"prompt\":\"insufficient_quota\"}}",
	 "slow down", "", STUCK_NOT},
};

void
unit_run(void)
{
	int i;

	for (i = 0; i < lengthof(cases); i++)
	{
		const Case *c = &cases[i];
		Bytes headers = {0};
		HttpReply reply = {.status = c->status, .headers = &headers};
		const char *reason;
		cJSON *json =
			c->json ? json_parse_answer(pstrdup(c->json), strlen(c->json), &reason) : NULL;

		headers.data = pstrdup(c->headers);
		headers.len = strlen(c->headers);
		unit_is_int(stuck_find(&reply, json, c->words), c->kind, "case %d: %d %s", i, c->status,
					c->words);
	}
}

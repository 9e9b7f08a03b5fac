/*
 * delay.c
 *		How long a server asks to wait:  an answer as in the harness "reply", but for its first line.
 */
#include "fuzz.h"

#include "protocol/delay.h"
#include "protocol/duration.h"

FUZZ_HARNESS(delay)
{
	HttpReply *reply = input_take_reply(input);
	char *body = pnstrdup(reply->body->data, reply->body->len);
	char *copy = pstrdup(body);
	const char *reason;
	cJSON *json = json_parse(copy, strlen(copy), &reason);
	int64 ms = delay_read(reply, json, "/error/details/*/retryDelay /estimated_time /retry_after",
						  body, 1700000000);

	must_be(ms >= -1 && ms <= DURATION_MAX_MS, "a delay is a day at most", NULL);
	ms = duration_of_value(body, 1700000000);
	must_be(ms >= -1 && ms <= DURATION_MAX_MS, "a duration is a day at most", NULL);
	ms = duration_of_number(strtod(body, NULL), 1700000000);
	must_be(ms >= -1 && ms <= DURATION_MAX_MS, "a number of seconds is a day at most", NULL);
}

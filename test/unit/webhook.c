/*
 * webhook.c
 *		Signatures of webhooks: the example of Standard Webhooks' own libraries, and what is no secret.
 */
#include "unit.h"

#include "protocol/webhook.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static char *
sign(const char *secrets)
{
	return webhook_signatures(secrets, ID, 1614265330, BODY, strlen(BODY));
}

void
unit_run(void)
{
	char *one = webhook_id(7, BODY, strlen(BODY));

	unit_is_text(sign(SECRET), SIGNATURE, "the example of the libraries");
	unit_is_text(sign(SECRET " " SECRET), SIGNATURE " " SIGNATURE, "two secrets sign both");
	unit_is_text(sign("  " SECRET " "), SIGNATURE, "blanks around one");
	unit_is_text(one, webhook_id(7, BODY, strlen(BODY)), "an id is the same again");
	unit_ok(strcmp(one, webhook_id(8, BODY, strlen(BODY))) != 0, "... and another job's another");
	unit_ok(strncmp(one, "msg_7_", 6) == 0 && strlen(one) == 38, "... and short");
}

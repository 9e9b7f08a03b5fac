/*
 * handover.c
 *		What the request of a handed-over job has in addition, so that the
 *		receiver can call genjob.complete().
 */
#include "postgres.h"

#include "base/json.h"
#include "protocol/building.h"
#include "server/pointer.h"

/*
 * Puts the job and its token, which genjob.complete() takes, at the option
 * token_at.  Without a token, for a preview, it is "***".
 */
void
handover_add_token(const RequestSource *source, cJSON *params)
{
	cJSON *object = json_create(cJSON_Object);
	cJSON *number = json_create(cJSON_Number);

	number->valuestring = psprintf(INT64_FORMAT, source->job);
	json_attach(object, "job", number);
	json_attach(object, "token",
				json_create_string(pstrdup(source->token ? source->token : "***")));
	pointer_set(params, source->options->protocol.token_at, object);
}

/*
 * Sets the preset's header for a call that only hands the job over, and notes
 * the token as a secret.
 */
void
handover_set_header(HttpRequest *http, const RequestSource *source)
{
	const char *header = source->options->preset->hands_over;
	const char *colon = header ? strchr(header, ':') : NULL;

	if (colon != NULL)
		headers_set(http, pnstrdup(header, colon - header), pstrdup(colon + 2), NULL);
	if (source->token != NULL)
		headers_add_secret(http, pstrdup(source->token));
}

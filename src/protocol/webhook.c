/*
 * webhook.c
 *		Signatures of webhooks, as Standard Webhooks has them (auth 'webhook').
 *
 * A secret is "whsec_" and a key of 24 to 64 bytes in base64.  It signs the
 * id, the time in seconds and the body, joined by dots
 * (https://github.com/standard-webhooks/standard-webhooks,
 * spec/standard-webhooks.md).  If there are several secrets, separated by
 * blanks, each signs: a receiver can change from one secret to the next at any
 * time.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "base/base64.h"
#include "base/digest.h"
#include "protocol/building.h"
#include "protocol/webhook.h"

#define PREFIX "whsec_"
#define KEY_MIN 24
#define KEY_MAX 64
#define ID_DIGITS 32

/*
 * Returns the key of a secret of len bytes, palloc'd, and its length in
 * *key_len.  Raises an error for the user if it is no secret of a webhook.
 */
static char *
read_key(const char *secret, size_t len, size_t *key_len)
{
	size_t prefix = strlen(PREFIX);
	char *key;
	ssize_t n = -1;

	if (len > prefix && strncmp(secret, PREFIX, prefix) == 0)
	{
		key = pnstrdup(secret + prefix, len - prefix);
		n = base64_decode_in_place(key, len - prefix);
	}
	if (n < KEY_MIN || n > KEY_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
				 errmsg("the api_key of the user mapping is not the secret of a webhook"),
				 errhint("ALTER USER MAPPING ... OPTIONS (SET api_key 'whsec_...'): write whsec_ and then %d to %d random bytes in base64, for example encode(gen_random_bytes(32), 'base64') with pgcrypto.",
						 KEY_MIN, KEY_MAX)));
	*key_len = n;
	return key;
}

/*
 * Returns the value of the header webhook-signature, palloc'd: a signature for
 * each of the secrets.
 */
char *
webhook_signatures(const char *secrets, const char *id, int64 timestamp, const char *body,
				   size_t len)
{
	char *before = psprintf("%s." INT64_FORMAT ".", id, timestamp);
	size_t before_len = strlen(before);
	char *content = MemoryContextAllocHuge(CurrentMemoryContext, before_len + len + 1);
	StringInfoData value;

	memcpy(content, before, before_len);
	if (len > 0)
		memcpy(content + before_len, body, len);
	initStringInfo(&value);
	for (secrets += strspn(secrets, " "); *secrets != '\0'; secrets += strspn(secrets, " "))
	{
		size_t secret_len = strcspn(secrets, " ");
		uint8 digest[DIGEST_BYTES];
		size_t key_len;
		char *key = read_key(secrets, secret_len, &key_len);

		digest_hmac(key, key_len, content, before_len + len, digest);
		appendStringInfo(&value, "%sv1,%s", value.len > 0 ? " " : "",
						 base64_encode((char *) digest, DIGEST_BYTES));
		secrets += secret_len;
	}
	pfree(content);
	return value.data;
}

/*
 * Returns the id of a message, palloc'd: the same for each attempt of the job
 * with the same body, and for no other message.
 */
char *
webhook_id(int64 job, const char *body, size_t len)
{
	char *id = psprintf("msg_" INT64_FORMAT "_%s", job, digest_sha256_hex(body, len));

	id[strlen(id) - 2 * DIGEST_BYTES + ID_DIGITS] = '\0';
	return id;
}

/*
 * Adds the headers that sign a request.  Do not change the request afterwards.
 */
void
signing_sign_webhook(HttpRequest *http, const RequestSource *source)
{
	const char *secrets = source->secrets->api_key;
	char *id = webhook_id(source->job, http->body, http->body_len);
	char *signatures;
	char *p;

	if (secrets == NULL)
		ereport(ERROR, (errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
						errmsg("there is no secret to sign the webhook with"),
						errhint("CREATE USER MAPPING ... OPTIONS (api_key 'whsec_...')")));
	signatures = webhook_signatures(secrets, id, source->now_unix, http->body, http->body_len);
	headers_set(http, "webhook-id", id, NULL);
	headers_set(http, "webhook-timestamp", psprintf(INT64_FORMAT, source->now_unix), NULL);
	headers_set(http, "webhook-signature", signatures, "v1,***");
	for (p = pstrdup(secrets); p != NULL && *p != '\0';)
	{
		char *end = strchr(p, ' ');

		if (end != NULL)
			*end++ = '\0';
		if (*p != '\0')
			headers_add_secret(http, p);
		p = end;
	}
}

/*
 * webhook.h
 *		Signatures of webhooks, as Standard Webhooks has them.
 */
#ifndef GENJOB_WEBHOOK_H
#define GENJOB_WEBHOOK_H

extern char *webhook_signatures(const char *secrets, const char *id, int64 timestamp,
								const char *body, size_t len);
extern char *webhook_id(int64 job, const char *body, size_t len);

#endif /* GENJOB_WEBHOOK_H */

/*
 * harm.h
 *		The kinds of harm that hostile does to whoever calls.
 */
#ifndef HARM_H
#define HARM_H

#include <stdbool.h>

#include <openssl/ssl.h>

typedef struct HarmKind
{
	const char *name;
	bool refuses; /* nobody accepts */
	bool reads;   /* the request first */

	/* What is sent: opening, then flood without end as fast as it is taken, or drops one by one; else silence */
	const char *opening;
	const char *flood;
	const char *drops;
	void (*serve)(int fd); /* instead of these; until it returns */
} HarmKind;

#define HARM_KINDS 38
extern const HarmKind harm_kinds[HARM_KINDS];

/* For the kinds that speak TLS. */
extern void harm_use_tls(SSL_CTX *context);
extern bool harm_read_request(int fd);
extern void harm_serve(const HarmKind *kind, int fd);

#endif /* HARM_H */

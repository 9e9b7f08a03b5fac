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
	void (*serve)(int fd); /* until it returns; NULL: nobody accepts */
	bool reads;            /* the request first */
} HarmKind;

#define HARM_KINDS 38
extern const HarmKind harm_kinds[HARM_KINDS];

/* For the kinds that speak TLS. */
extern void harm_use_tls(SSL_CTX *context);
extern bool harm_read_request(int fd);

#endif /* HARM_H */

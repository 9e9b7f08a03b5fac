/*
 * decode.h
 *		Bodies that came compressed.
 */
#ifndef GENJOB_DECODE_H
#define GENJOB_DECODE_H

#include "http/http.h"

#ifdef GENJOB_BROTLI
#define DECODE_BROTLI ", br"
#else
#define DECODE_BROTLI ""
#endif
#ifdef GENJOB_ZSTD
#define DECODE_ZSTD ", zstd"
#else
#define DECODE_ZSTD ""
#endif

#define DECODE_ACCEPTED "gzip, deflate" DECODE_BROTLI DECODE_ZSTD /* what genjob asks for */

/* True if the decoded body may take this many bytes of the memory in all. */
typedef bool (*DecodeMayGrow)(void *arg, size_t bytes);

/* A body that is partly decoded */
typedef struct Decoding Decoding;

typedef enum DecodeEnd
{
	DECODE_DONE,     /* the body is decoded, or stays as it came, and reply->undecoded says why */
	DECODE_GOES_ON,  /* some of it is decoded; the body is as it came */
	DECODE_NO_MEMORY /* the body is as it came; try again later */
} DecodeEnd;

extern bool decode_is_due(const HttpReply *reply);
extern DecodeEnd decode_body(HttpReply *reply, Decoding **begun, size_t budget, size_t most,
							 DecodeMayGrow may_grow, void *arg);
extern void decode_forget(Decoding *decoding);

#endif /* GENJOB_DECODE_H */

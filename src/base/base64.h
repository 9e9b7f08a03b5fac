/*
 * base64.h
 *		Bytes as text of 64 characters, and back.
 */
#ifndef GENJOB_BASE64_H
#define GENJOB_BASE64_H

extern ssize_t base64_decode_in_place(char *text, size_t len);
extern char *base64_encode(const char *data, size_t len);

#endif /* GENJOB_BASE64_H */

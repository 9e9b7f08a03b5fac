/*
 * base64.c
 *		Base64 of servers and for servers:  the bytes as text to be decoded, and as data to be encoded.
 */
#include "fuzz.h"

#include "base/base64.h"

FUZZ_HARNESS(base64)
{
	size_t len;
	char *text = input_take_bytes(input, &len);
	char *data = memcpy(palloc(len), text, len);
	char *encoded = base64_encode(data, len);
	ssize_t decoded = base64_decode_in_place(encoded, strlen(encoded));

	must_be(decoded == (ssize_t) len && memcmp(encoded, data, len) == 0,
			"what is encoded can be decoded", NULL);
	decoded = base64_decode_in_place(text, len);
	must_be(decoded >= -1 && decoded <= (ssize_t) (len / 4 * 3 + 2), "base64 shrinks", NULL);
	if (decoded < 0)
		must_be(memcmp(text, data, len) == 0, "what is not base64 is left as it is", NULL);
}

/*
 * media.c
 *		What kind of content some bytes are.
 */
#include "fuzz.h"

#include "base/media.h"

FUZZ_HARNESS(media)
{
	size_t len;
	char *data = input_take_bytes(input, &len);
	const char *type = media_type_of(data, len);

	must_be(strchr(type, '/') != NULL, "a content type has a slash", type);
	(void) media_is_playable(type);
	must_be(*media_extension_of(type) != '\0', "a content type has an extension", type);
	(void) media_extension_of(pnstrdup(data, len));
}

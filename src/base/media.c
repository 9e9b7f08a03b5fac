/*
 * media.c
 *		What kind of content some bytes are, judged by the bytes.
 *
 * A server's Content-Type is often wrong (PNG for a WebP, octet-stream for
 * anything).  So the first bytes of outputs and uploaded inputs decide, as in
 * the WHATWG's MIME Sniffing standard, for the types that generative servers
 * use.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "base/media.h"

typedef struct Signature
{
	const char *content_type;
	const char *extension;
	int offset; /* of magic in the data */
	int len;    /* of magic; 0: known by other means */
	const char *magic;
} Signature;

static const Signature signatures[] = {
	{"image/png", "png", 0, 8, "\x89PNG\r\n\x1a\n"},
	{"image/jpeg", "jpg", 0, 3, "\xff\xd8\xff"},
	{"image/webp", "webp", 8, 6, "WEBPVP"},
	{"image/gif", "gif", 0, 4, "GIF8"},
	{"image/avif", "avif", 4, 8, "ftypavif"},
	{"image/heic", "heic", 4, 8, "ftypheic"},
	{"image/bmp", "bmp", 0, 2, "BM"},
	{"image/tiff", "tiff", 0, 4, "II*\0"},
	{"image/tiff", "tiff", 0, 4, "MM\0*"},
	{"image/jxl", "jxl", 0, 12, "\0\0\0\x0cJXL \r\n\x87\n"},
	{"image/x-exr", "exr", 0, 4, "\x76\x2f\x31\x01"},
	{"video/quicktime", "mov", 4, 8, "ftypqt  "},
	{"audio/mp4", "m4a", 4, 8, "ftypM4A "},
	{"video/mp4", "mp4", 4, 4, "ftyp"},
	{"video/webm", "webm", 0, 4, "\x1a\x45\xdf\xa3"},
	{"video/x-msvideo", "avi", 8, 4, "AVI "},
	{"audio/wav", "wav", 8, 4, "WAVE"},
	{"audio/mpeg", "mp3", 0, 3, "ID3"},
	{"audio/mpeg", "mp3", 0, 2, "\xff\xfb"},
	{"audio/mpeg", "mp3", 0, 2, "\xff\xf3"},
	{"audio/aac", "aac", 0, 2, "\xff\xf1"},
	{"audio/flac", "flac", 0, 4, "fLaC"},
	{"audio/ogg", "ogg", 0, 4, "OggS"},
	{"model/gltf-binary", "glb", 0, 4, "glTF"},
	{"application/pdf", "pdf", 0, 5, "%PDF-"},
	{"application/zip", "zip", 0, 4, "PK\x03\x04"},
	{"application/gzip", "gz", 0, 2, "\x1f\x8b"},
	{"image/svg+xml", "svg", 0, 0, NULL},
	{"text/html", "html", 0, 0, NULL},
	{"application/json", "json", 0, 0, NULL},
	{"text/plain", "txt", 0, 0, NULL},
};

static bool
starts_with(const char *data, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len >= n && pg_strncasecmp(data, word, n) == 0;
}

/*
 * True if data is UTF-8 without control characters, as far as the first 4 kB
 * tell.
 */
static bool
is_text(const char *data, size_t len)
{
	size_t seen = Min(len, 4096);
	size_t i;

	for (i = 0; i < seen; i++)
	{
		unsigned char c = (unsigned char) data[i];

		if (c < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f')
			return false;
	}
	i = pg_encoding_verifymbstr(PG_UTF8, data, (int) seen);
	return i == seen || (seen < len && seen - i < 4);
}

static const char *
text_type_of(const char *data, size_t len)
{
	while (len > 0 && (*data == ' ' || *data == '\t' || *data == '\r' || *data == '\n'))
		data++, len--;
	if (starts_with(data, len, "<svg") || (starts_with(data, len, "<?xml") && len > 60 &&
										   memmem(data, Min(len, 512), "<svg", 4) != NULL))
		return "image/svg+xml";
	if (starts_with(data, len, "<!doctype html") || starts_with(data, len, "<html"))
		return "text/html";
	if (len > 0 && (*data == '{' || *data == '['))
		return "application/json";
	return "text/plain";
}

/*
 * Returns the content type of data, a constant; application/octet-stream if
 * nothing is recognized.
 */
const char *
media_type_of(const char *data, size_t len)
{
	int i;

	for (i = 0; i < lengthof(signatures); i++)
	{
		const Signature *s = &signatures[i];

		if (s->len > 0 && len >= s->offset + s->len &&
			memcmp(data + s->offset, s->magic, s->len) == 0)
			return s->content_type;
	}
	if (len > 0 && is_text(data, len))
		return text_type_of(data, len);
	return "application/octet-stream";
}

/*
 * True if a content type is a picture, a sound or a film.
 */
bool
media_is_playable(const char *content_type)
{
	return strncmp(content_type, "image/", 6) == 0 || strncmp(content_type, "audio/", 6) == 0 ||
		   strncmp(content_type, "video/", 6) == 0;
}

/*
 * True if data of that content type may have readable text, and so perhaps a
 * secret: it is no picture, sound or film, or it is a drawing in XML.
 */
bool
media_has_text(const char *content_type)
{
	return !media_is_playable(content_type) || strncmp(content_type, "image/svg", 9) == 0;
}

/*
 * Returns the usual file name extension of a content type of media_type_of();
 * "bin" for others.
 */
const char *
media_extension_of(const char *content_type)
{
	int i;

	for (i = 0; i < lengthof(signatures); i++)
	{
		if (strcmp(signatures[i].content_type, content_type) == 0)
			return signatures[i].extension;
	}
	return "bin";
}

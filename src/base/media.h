/*
 * media.h
 *		What kind of content some bytes are.
 */
#ifndef GENJOB_MEDIA_H
#define GENJOB_MEDIA_H

extern const char *media_type_of(const char *data, size_t len);
extern bool media_is_playable(const char *content_type);
extern bool media_has_text(const char *content_type);
extern const char *media_extension_of(const char *content_type);

#endif /* GENJOB_MEDIA_H */

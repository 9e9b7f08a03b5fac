/*
 * jsontext.h
 *		The text of JSON: its strings and numbers.
 */
#ifndef GENJOB_JSONTEXT_H
#define GENJOB_JSONTEXT_H

extern void json_sanitize_text(char *text, size_t len);
extern void json_sanitize_line(char *text, size_t len);
extern const char *jsontext_skip_plain(const char *text, const char *end);
extern bool jsontext_is_plain(const char *text, const char *end);
extern const char *jsontext_find_special(const char *text, const char *end);
extern const char *jsontext_scan_string(const char *text, const char *end, bool *valid);
extern const char *jsontext_scan_number(const char *text, const char *end);
extern char *jsontext_unescape(char *text, char *end, bool keeps_halves, bool *has_half);
extern void jsontext_join_halves(char *text, size_t len);
extern size_t jsontext_plain_length(const char *number, size_t len);

#endif /* GENJOB_JSONTEXT_H */

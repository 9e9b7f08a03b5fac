/*
 * url.h
 *		URLs: a server's own, and those that its answers give.
 */
#ifndef GENJOB_URL_H
#define GENJOB_URL_H

extern const char *url_check(const char *url);
extern char *url_host(const char *url);
extern char *url_shown(const char *url);
extern char *url_resolve(const char *base, const char *url);
extern bool url_is_same_origin(const char *url, const char *other);
extern bool url_host_is_allowed(const char *url, const char *hosts);

#endif /* GENJOB_URL_H */

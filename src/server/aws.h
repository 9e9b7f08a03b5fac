/*
 * aws.h
 *		Reads the names of AWS's hosts.
 */
#ifndef GENJOB_AWS_H
#define GENJOB_AWS_H

extern bool aws_is_host(const char *url);
extern bool aws_read_host(const char *url, char **region, char **service);

#endif /* GENJOB_AWS_H */

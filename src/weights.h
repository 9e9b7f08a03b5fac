/*
 * weights.h
 *		How many turns each tenant gets.
 */
#ifndef GENJOB_WEIGHTS_H
#define GENJOB_WEIGHTS_H

extern void weights_forget(void);
extern void weights_set(const char *server_name, const char *tenant, double weight);
extern double weights_get(const char *server_name, const char *tenant);

#endif /* GENJOB_WEIGHTS_H */

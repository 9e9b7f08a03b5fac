/*
 * weights.h
 *		How many turns each owner and each tenant gets.
 */
#ifndef GENJOB_WEIGHTS_H
#define GENJOB_WEIGHTS_H

extern void weights_forget(void);
extern void weights_set_tenant(const char *server_name, const char *tenant, double weight);
extern double weights_get_tenant(const char *server_name, const char *tenant);
extern void weights_set_owner(const char *server_name, Oid owner, double weight);
extern double weights_get_owner(const char *server_name, Oid owner);

#endif /* GENJOB_WEIGHTS_H */

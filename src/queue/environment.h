/*
 * environment.h
 *		What a dispatcher's session is like, whatever is set for its database or role.
 */
#ifndef GENJOB_ENVIRONMENT_H
#define GENJOB_ENVIRONMENT_H

extern void environment_fix_settings(void);
extern void environment_fix_session(void);
extern void environment_reread(void);

#endif /* GENJOB_ENVIRONMENT_H */

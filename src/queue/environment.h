/*
 * environment.h
 *		The settings of a dispatcher's session.
 */
#ifndef GENJOB_ENVIRONMENT_H
#define GENJOB_ENVIRONMENT_H

extern void environment_fix_settings(void);
extern void environment_fix_session(void);
extern void environment_reread(void);

#endif /* GENJOB_ENVIRONMENT_H */

/*
 * gone.h
 *		Pauses servers that want no more calls.
 */
#ifndef GENJOB_GONE_H
#define GENJOB_GONE_H

extern void gone_begin(void);
extern void gone_note(int64 job, const char *server);
extern void gone_pause(void);

#endif /* GENJOB_GONE_H */

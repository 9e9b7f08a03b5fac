/*
 * launcher.h
 *		The process that keeps a dispatcher alive in every database that has the extension.
 */
#ifndef GENJOB_LAUNCHER_H
#define GENJOB_LAUNCHER_H

extern void launcher_register(void);
extern PGDLLEXPORT void genjob_launcher_main(Datum arg);

#endif /* GENJOB_LAUNCHER_H */

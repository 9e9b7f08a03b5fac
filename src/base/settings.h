/*
 * settings.h
 *		genjob's configuration parameters.
 */
#ifndef GENJOB_SETTINGS_H
#define GENJOB_SETTINGS_H

extern bool genjob_enabled;
extern int genjob_max_in_flight;        /* calls, of one database */
extern int genjob_max_memory;           /* MB of bodies, of one database */
extern int genjob_rescan_interval;      /* seconds */
extern int genjob_shutdown_grace;       /* seconds */
extern int genjob_max_writers;          /* processes, of one database */
extern double genjob_debug_clock_speed; /* seconds of the dispatchers in one of the system */

#define SETTINGS_MAX_WRITERS 8

extern void settings_define(void);

#endif /* GENJOB_SETTINGS_H */

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
extern int genjob_callback_workers;     /* processes that call on_done, of one database */
extern int genjob_callback_timeout;     /* ms, of one call */
extern int genjob_callback_attempts;    /* calls that may fail */
extern double genjob_debug_clock_speed; /* seconds of the dispatchers in one of the system */

#define SETTINGS_MAX_WRITERS 8
#define SETTINGS_MAX_CALLBACK_WORKERS 16

extern void settings_define(void);

#endif /* GENJOB_SETTINGS_H */

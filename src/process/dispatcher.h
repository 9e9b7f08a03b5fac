/*
 * dispatcher.h
 *		The process that runs the jobs of one database.
 */
#ifndef GENJOB_DISPATCHER_H
#define GENJOB_DISPATCHER_H

extern PGDLLEXPORT void genjob_dispatcher_main(Datum slot);

#endif /* GENJOB_DISPATCHER_H */

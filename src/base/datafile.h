/*
 * datafile.h
 *		genjob's own files in the data directory.
 */
#ifndef GENJOB_DATAFILE_H
#define GENJOB_DATAFILE_H

#include "nodes/pg_list.h"

#define DATAFILE_FOLDER "pg_genjob"

extern void datafile_path(char *path, Oid database, const char *suffix);
extern bool datafile_make_folder(void);
extern void datafile_remove_others(const List *databases);

#endif /* GENJOB_DATAFILE_H */

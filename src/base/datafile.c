/*
 * datafile.c
 *		genjob's own files in the data directory: in the folder pg_genjob,
 *		named after the database's OID.
 *
 * A base backup copies these files, and WAL does not cover them: whoever reads
 * one must check that it was written here.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "storage/fd.h"

#include "base/datafile.h"

/*
 * Writes the path of a database's file to path, of MAXPGPATH bytes.
 */
void
datafile_path(char *path, Oid database, const char *suffix)
{
	snprintf(path, MAXPGPATH, DATAFILE_FOLDER "/%u%s", database, suffix);
}

/*
 * Creates the folder if it is missing.  False, with errno set, if it cannot.
 */
bool
datafile_make_folder(void)
{
	if (MakePGDirectory(DATAFILE_FOLDER) != 0)
		return errno == EEXIST;
	fsync_fname(DATAFILE_FOLDER, true);
	fsync_fname(".", true);
	return true;
}

/*
 * Removes the files of dropped databases: those whose OID is not in databases.
 */
void
datafile_remove_others(const List *databases)
{
	DIR *folder = AllocateDir(DATAFILE_FOLDER);
	struct dirent *entry;

	if (folder == NULL)
		return; /* nothing was ever written */
	while ((entry = ReadDirExtended(folder, DATAFILE_FOLDER, LOG)) != NULL)
	{
		char path[MAXPGPATH];
		char *end;
		unsigned long oid = strtoul(entry->d_name, &end, 10);

		if (end == entry->d_name || (*end != '\0' && *end != '.') ||
			list_member_oid(databases, (Oid) oid))
			continue;
		snprintf(path, sizeof(path), DATAFILE_FOLDER "/%s", entry->d_name);
		(void) unlink(path);
	}
	FreeDir(folder);
}

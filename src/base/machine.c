/*
 * machine.c
 *		How much memory the machine, or the container, has.
 */
#include "postgres.h"

#include <unistd.h>

#include "base/machine.h"

#define CGROUPS "/sys/fs/cgroup"

/*
 * Returns the number in a file; PG_UINT64_MAX if there is none ("max").
 */
static uint64
read_limit(const char *path)
{
	FILE *file = fopen(path, "r");
	unsigned long long limit;
	int n;

	if (file == NULL)
		return PG_UINT64_MAX;
	n = fscanf(file, "%llu", &limit);
	fclose(file);
	return n == 1 ? (uint64) limit : PG_UINT64_MAX;
}

/*
 * Returns the least limit of a cgroup and its parents.  Changes group.
 */
static uint64
least_limit(const char *root, char *group, const char *name)
{
	uint64 least = PG_UINT64_MAX;
	char *slash;

	do
	{
		char path[MAXPGPATH * 2];
		uint64 limit;

		snprintf(path, sizeof(path), "%s%s/%s", root, group, name);
		limit = read_limit(path);
		least = Min(least, limit);
		slash = strrchr(group, '/');
		if (slash == group && group[1] != '\0')
			group[1] = '\0';
		else if (slash != NULL)
			*slash = '\0';
	} while (slash != NULL);
	return least;
}

/*
 * Returns how much memory the cgroups of this process may have, of version 1
 * or 2; PG_UINT64_MAX if they have no limit.
 */
static uint64
cgroup_memory(void)
{
	FILE *file = fopen("/proc/self/cgroup", "r");
	uint64 least = PG_UINT64_MAX;
	char line[MAXPGPATH];

	if (file == NULL)
		return least;
	/*
	 * number:controllers:group; version 2 has the number 0 and no controllers
	 */
	while (fgets(line, sizeof(line), file) != NULL)
	{
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		uint64 limit = PG_UINT64_MAX;

		if (group == NULL)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (strcmp(controllers, ":") == 0)
			limit = least_limit(CGROUPS, group, "memory.max");
		else if (strstr(controllers + 1, "memory") != NULL)
			limit = least_limit(CGROUPS "/memory", group, "memory.limit_in_bytes");
		least = Min(least, limit);
	}
	fclose(file);
	return least;
}

/*
 * Returns how many bytes of memory this process and its kin may have: the
 * machine's, or the limit of its cgroups if that is less.
 */
uint64
machine_memory(void)
{
	uint64 pages = (uint64) sysconf(_SC_PHYS_PAGES) * (uint64) sysconf(_SC_PAGESIZE);
	uint64 limit = cgroup_memory();

	return Min(pages, limit);
}

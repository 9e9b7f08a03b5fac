/*
 * machine.c
 *		How much memory the machine, or the container, has.
 */
#include "postgres.h"

#include <unistd.h>

#include "base/machine.h"

/* Where the cgroups are: of version 2, of version 2 beside version 1, of version 1 */
#define CGROUPS "/sys/fs/cgroup"
#define CGROUPS_BESIDE "/sys/fs/cgroup/unified"
#define CGROUPS_V1 "/sys/fs/cgroup/memory"

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
 * Returns the least limit of a cgroup and its parents.  name: the file with
 * the limit.
 */
static uint64
least_limit(const char *root, const char *cgroups, const char *group, const char *name)
{
	uint64 least = PG_UINT64_MAX;
	char *parent = pstrdup(group);
	char *slash;

	do
	{
		char *path = psprintf("%s%s%s/%s", root, cgroups, parent, name);
		uint64 limit = read_limit(path);

		least = Min(least, limit);
		pfree(path);
		slash = strrchr(parent, '/');
		if (slash != NULL)
			*slash = '\0';
	} while (slash != NULL);
	pfree(parent);
	return least;
}

/*
 * As least_limit(), for a cgroup of version 2.  Beyond memory.high the kernel
 * slows processes down until they stand still, beyond memory.max it kills them.
 */
static uint64
least_limit_v2(const char *root, const char *group)
{
	static const char *const names[] = {"memory.max", "memory.high"};
	uint64 least = PG_UINT64_MAX;
	int i;

	for (i = 0; i < lengthof(names); i++)
	{
		uint64 plain = least_limit(root, CGROUPS, group, names[i]);
		uint64 beside = least_limit(root, CGROUPS_BESIDE, group, names[i]);

		least = Min(least, Min(plain, beside));
	}
	return least;
}

/*
 * Returns how much memory the cgroups of this process may have, of version 1
 * or 2; PG_UINT64_MAX if they have no limit.  root stands before /proc and
 * /sys: "" except in tests.
 */
uint64
machine_cgroup_memory(const char *root)
{
	char *path = psprintf("%s/proc/self/cgroup", root);
	FILE *file = fopen(path, "r");
	uint64 least = PG_UINT64_MAX;
	char *line = NULL;
	size_t size = 0;

	pfree(path);
	if (file == NULL)
		return least;
	/*
	 * number:controllers:group; version 2 has the number 0 and no controllers
	 */
	while (getline(&line, &size, file) >= 0)
	{
		char *controllers = strchr(line, ':');
		char *group = controllers ? strchr(controllers + 1, ':') : NULL;
		uint64 limit = PG_UINT64_MAX;

		if (group == NULL)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		if (strcmp(controllers, ":") == 0)
			limit = least_limit_v2(root, group);
		else if (strstr(controllers + 1, "memory") != NULL)
			limit = least_limit(root, CGROUPS_V1, group, "memory.limit_in_bytes");
		least = Min(least, limit);
	}
	free(line);
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
	uint64 limit = machine_cgroup_memory("");

	return Min(pages, limit);
}

/*
 * machine.c
 *		How much memory the cgroups of a process leave it, of both versions, nested, and as odd as containers have them.
 */
#include "unit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/machine.h"

static char *root; /* stands for "/" */

/*
 * Writes a file below root, and makes its folders.
 */
static void
write_file(const char *name, const char *text)
{
	char *path = psprintf("%s/%s", root, name);
	char *slash = path + strlen(root) + 1;
	FILE *file;

	while ((slash = strchr(slash, '/')) != NULL)
	{
		*slash = '\0';
		(void) mkdir(path, 0700);
		*slash++ = '/';
	}
	file = fopen(path, "w");
	if (file == NULL)
	{
		unit_ok(false, "%s can be written", path);
		return;
	}
	fputs(text, file);
	fclose(file);
}

/* A file of /sys/fs/cgroup. */
typedef struct Limit
{
	const char *name;
	const char *text;
} Limit;

/*
 * Checks what is read of the lines of /proc/self/cgroup and of some limits.
 */
static void
check(const char *what, const char *lines, const Limit *limits, uint64 expected)
{
	uint64 got;

	if (system(psprintf("rm -rf %s/*", root)) != 0)
		unit_ok(false, "%s is empty", root);
	write_file("proc/self/cgroup", lines);
	for (; limits->name != NULL; limits++)
		write_file(psprintf("sys/fs/cgroup/%s", limits->name), limits->text);
	got = machine_cgroup_memory(root);
	unit_is_int((int64) got, (int64) expected, "%s", what);
}

#define NO_LIMIT PG_UINT64_MAX
#define LIMITS(...) ((const Limit[]){__VA_ARGS__, {NULL, NULL}})

static void
test_version_2(void)
{
	check("no limit at all", "0::/a\n", LIMITS({"a/other", ""}), NO_LIMIT);
	check("the root of a container", "0::/\n", LIMITS({"memory.max", "700\n"}), 700);
	check("\"max\"", "0::/a\n", LIMITS({"a/memory.max", "max\n"}), NO_LIMIT);
	check("a parent's limit", "0::/a/b/c\n",
		  LIMITS({"a/memory.max", "500\n"}, {"a/b/memory.max", "max\n"},
				 {"a/b/c/memory.max", "900\n"}),
		  500);
	check("a cgroup that cannot be seen", "0::/a/b\n", LIMITS({"memory.max", "600\n"}), 600);
	check("a cgroup above the container", "0::/../../a\n", LIMITS({"memory.max", "600\n"}), 600);
	check("a cgroup that was removed", "0::/a (deleted)\n", LIMITS({"memory.max", "600\n"}), 600);
	check("a colon in its name", "0::/a:b\n", LIMITS({"a:b/memory.max", "700\n"}), 700);
	check("a space in its name", "0::/a b\n", LIMITS({"a b/memory.max", "700\n"}), 700);
	check("no name", "0::\n", LIMITS({"memory.max", "700\n"}), 700);
	check("a limit beyond any number", "0::/a\n",
		  LIMITS({"a/memory.max", "99999999999999999999999999\n"}), NO_LIMIT);
	check("an empty file", "0::/a\n", LIMITS({"a/memory.max", ""}), NO_LIMIT);
	check("where processes slow down", "0::/a\n",
		  LIMITS({"a/memory.max", "700\n"}, {"a/memory.high", "400\n"}), 400);
	check("where those of a parent do", "0::/a/b\n",
		  LIMITS({"a/memory.high", "400\n"}, {"a/b/memory.high", "max\n"}), 400);
}

static void
test_version_1(void)
{
	check("among other controllers", "5:cpu,memory:/docker/a\n4:pids:/x\n0::/x\n",
		  LIMITS({"memory/docker/a/memory.limit_in_bytes", "700\n"},
				 {"memory/memory.limit_in_bytes", "9223372036854771712\n"}),
		  700);
	check("a cgroup that cannot be seen, of version 1", "5:memory:/docker/a\n",
		  LIMITS({"memory/memory.limit_in_bytes", "700\n"}), 700);
	check("version 2 beside version 1", "1:name=systemd:/a\n0::/a\n",
		  LIMITS({"unified/a/memory.max", "400\n"}), 400);
}

static void
test_long_line(void)
{
	char name[251];
	char *group = "";
	int i;

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (i = 0; i < 8; i++)
		group = psprintf("%s/%s", group, name);
	check("a name of 2 kB", psprintf("0::%s\n", group),
		  LIMITS({psprintf("%s/memory.max", group + 1), "400\n"}), 400);
}

void
unit_run(void)
{
	root = psprintf("%s/genjob-machine-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(root) == NULL)
	{
		unit_ok(false, "a folder can be made");
		return;
	}
	test_version_2();
	test_version_1();
	test_long_line();
	if (system(psprintf("rm -rf %s", root)) != 0)
		unit_ok(false, "the folder is removed");
}

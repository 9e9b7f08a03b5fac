/*
 * replay.c
 *		Runs inputs through a harness, without a fuzzer:  replay HARNESS FILE...
 */
#include "postgres.h"

#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

extern const FuzzHarness fuzz_address, fuzz_base64, fuzz_delay, fuzz_grammar, fuzz_header,
	fuzz_json, fuzz_media, fuzz_options, fuzz_pointer, fuzz_reply, fuzz_request, fuzz_stream,
	fuzz_uploads, fuzz_url, fuzz_xml;

static const FuzzHarness *const harnesses[] = {
	&fuzz_address, &fuzz_base64, &fuzz_delay,   &fuzz_grammar, &fuzz_header,
	&fuzz_json,    &fuzz_media,  &fuzz_options, &fuzz_pointer, &fuzz_reply,
	&fuzz_request, &fuzz_stream, &fuzz_uploads, &fuzz_url,     &fuzz_xml,
};

/*
 * The whole file in memory of just its size, so that a byte too far is seen.
 */
static char *
read_file(const char *path, size_t *len)
{
	FILE *file = fopen(path, "rb");
	char *data = NULL;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
	{
		fprintf(stderr, "replay: could not read %s: %m\n", path);
		exit(2);
	}
	rewind(file);
	data = malloc(size);
	*len = fread(data, 1, size, file);
	fclose(file);
	return data;
}

/*
 * Runs one input in a process of its own, so that all are run.
 */
static bool
replay_file(const FuzzHarness *harness, const char *path)
{
	pid_t child = fork();
	int status;

	if (child < 0)
	{
		fprintf(stderr, "replay: could not fork: %m\n");
		exit(2);
	}
	if (child == 0)
	{
		size_t len;
		char *data = read_file(path, &len);

		fuzz_run(harness, data, len);
		free(data);
		exit(0);
	}
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	fprintf(stderr, "replay: %s: this is where it ended\n", path);
	return false;
}

/*
 * Exits with 0 if nothing is found in any of the files.
 */
static int
replay_files(const FuzzHarness *harness, char **files, int n)
{
	int found = 0;
	int i;

	for (i = 0; i < n; i++)
		found += !replay_file(harness, files[i]);
	printf("%s: %d inputs, %d findings\n", harness->name, n, found);
	return found > 0;
}

int
main(int argc, char **argv)
{
	int i;

	for (i = 0; argc > 2 && i < lengthof(harnesses); i++)
	{
		if (strcmp(harnesses[i]->name, argv[1]) == 0)
			return replay_files(harnesses[i], argv + 2, argc - 2);
	}
	fprintf(stderr, "usage: replay HARNESS FILE...\n");
	return 2;
}

/* Gives a fuzz target the files and directories it is called with: what the fuzzer found once stays
 * found, with any compiler. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

static void die(const char *path)
{
	perror(path);
	exit(1);
}

static void replay_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(size); /* of just that size: the sanitizer sees overreads */
	if (!file || (size > 0 && (!data || fread(data, 1, size, file) != size)))
		die(path);
	fclose(file);
	fprintf(stderr, "%s\n", path); /* the last one before a crash is the one */
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	replayed++;
}

static void replay(const char *path)
{
	struct stat info;
	if (stat(path, &info) != 0)
		die(path);
	if (!S_ISDIR(info.st_mode)) {
		replay_file(path, (size_t)info.st_size);
		return;
	}
	struct dirent **entries;
	int n = scandir(path, &entries, NULL, alphasort);
	if (n < 0)
		die(path);
	for (int i = 0; i < n; i++) {
		char *below;
		if (entries[i]->d_name[0] != '.') {
			if (asprintf(&below, "%s/%s", path, entries[i]->d_name) < 0)
				die(path);
			replay(below);
			free(below);
		}
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u inputs\n", replayed);
	return replayed > 0 ? 0 : 1; /* an empty corpus is a mistake */
}

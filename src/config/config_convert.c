/* `mapmux convert`: which program's configuration it is, and where the YAML goes. */
#include "config/config_convert.h"

#include <stdlib.h>
#include <string.h>

#include "config/config_parts.h"

void convert_put(FILE *out, const char *key, const char *value)
{
	fprintf(out, "%s: ", key);
	config_write_scalar(out, str_of(value), true);
	fputc('\n', out);
}

static bool convert(int argc, char **argv, FILE *out, struct error *error)
{
	const char *peer = argc > 0 ? argv[0] : "";
	if (strcmp(peer, "podop") == 0)
		return convert_podop(argc - 1, argv + 1, out, error);
	if (strcmp(peer, "userli") == 0 && argc == 1)
		return convert_userli(out, error);
	if (strcmp(peer, "rest-connector") == 0 && argc == 2)
		return convert_connector(argv[1], out, error);
	return error_set(error, "write mapmux convert podop ARGS, mapmux convert userli, or "
				"mapmux convert rest-connector FILE");
}

int convert_main(int argc, char **argv)
{
	struct error error;
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	if (!out) {
		fputs("mapmux convert: out of memory\n", stderr);
		return 1;
	}
	bool good = convert(argc, argv, out, &error);
	bool whole = fclose(out) == 0;
	if (!good)
		fprintf(stderr, "mapmux convert: %s\n", error.text);
	else if (whole)
		fwrite(text, 1, len, stdout);
	free(text);
	return good && whole && fflush(stdout) == 0 ? 0 : 1;
}

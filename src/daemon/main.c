/* mapmux: the command line's first word, and the exit code. */
#include <stdio.h>
#include <string.h>

#include "client/client.h"
#include "config/config.h"
#include "config/config_convert.h"
#include "daemon/control.h"

static int check(int argc, char **argv)
{
	struct config config;
	struct error error;
	if (!config_load(&config, argc, argv, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	config_print(&config);
	config_free(&config);
	return 0;
}

static int help(int argc, char **argv)
{
	const char *topic = argc > 0 ? argv[0] : NULL;
	if (config_help(topic) || !topic)
		return 0;
	fprintf(stderr, "mapmux: help: no such table type or protocol: %s\n", topic);
	return 1;
}

static int version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("mapmux " MAPMUX_VERSION);
	return 0;
}

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* the arguments behind the name */
} commands[] = {
	{"serve", control_run},
	{"check", check},
	{"query", client_main},
	{"convert", convert_main},
	{"help", help},
	{"--help", help},
	{"-h", help},
	{"version", version},
	{"--version", version},
};

int main(int argc, char **argv)
{
	if (argc < 2)
		return control_run(0, NULL);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 2, argv + 2);
	if (argv[1][0] == '-')
		return control_run(argc - 1, argv + 1);
	fprintf(stderr, "mapmux: no such command: %s (serve, check, query, convert, help)\n",
		argv[1]);
	return 1;
}

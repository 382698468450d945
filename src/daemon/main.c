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

static bool is_among(const char *word, const char *const words[])
{
	while (*words && strcmp(word, *words) != 0)
		words++;
	return *words;
}

/* What the text on everything tells of. `query` has one of its own. */
static const char *const helped[] = {"serve", "check", "convert", "help", "version", NULL};

static int help(int argc, char **argv)
{
	static char option[] = "--help";
	char *of_query[] = {option};
	const char *topic = argc > 0 ? argv[0] : NULL;
	if (topic && strcmp(topic, "query") == 0)
		return client_main(1, of_query);
	if (topic && is_among(topic, helped))
		topic = NULL;
	if (config_help(topic) || !topic)
		return 0;
	fprintf(stderr,
		"mapmux: help: there is no command, protocol or type of table \"%s\"; mapmux "
		"help lists them\n",
		topic);
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

/* `mapmux check --help` and the like. */
static bool asks_for_help(int argc, char **argv)
{
	static const char *const words[] = {"--help", "-h", NULL};
	return argc > 2 && is_among(argv[1], helped) && is_among(argv[2], words);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return control_run(0, NULL);
	if (asks_for_help(argc, argv))
		return help(0, NULL);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 2, argv + 2);
	if (argv[1][0] == '-')
		return control_run(argc - 1, argv + 1);
	fprintf(stderr,
		"mapmux: there is no command \"%s\"; allowed: serve, check, query, convert, "
		"help, version\n",
		argv[1]);
	return 1;
}

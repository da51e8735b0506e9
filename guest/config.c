/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the configuration of a guest's init. */
#include "guest/config.h"

/* What follows "KEY=", or NULL if the string does not begin so. */
static char *value_of(char *string, const char *key)
{
	while (*key)
		if (*string++ != *key++)
			return NULL;
	return *string == '=' ? string + 1 : NULL;
}

static size_t length(const char *string)
{
	size_t n = 0;

	while (string[n])
		n++;
	return n;
}

size_t config_pointers(const char *text, size_t bytes)
{
	size_t strings = 0;

	for (size_t i = 0; i < bytes; i++)
		strings += !text[i];
	return strings + 2;
}

static const char *parse_terminal(struct config *config, const char *value)
{
	if (value[0] < '0' || value[0] > '7' || value[1])
		return "terminal: is no digit from 0 to 7";
	config->terminal = (unsigned)(value[0] - '0');
	return NULL;
}

static const char *parse_string(struct config *config, char *string)
{
	char *value;

	if ((value = value_of(string, "arg")) || (value = value_of(string, "env")))
		return NULL; /* already stored */
	if ((value = value_of(string, "program")))
		config->program = value;
	else if ((value = value_of(string, "workdir")))
		config->workdir = value;
	else if ((value = value_of(string, "hostname")))
		config->hostname = value;
	else if ((value = value_of(string, "terminal")))
		return parse_terminal(config, value);
	else
		return "a key is unknown";
	return NULL;
}

/* Stores the values of one key, followed by a NULL; returns the next free place. */
static char **collect(char *text, size_t bytes, const char *key, char **to, size_t *count)
{
	*count = 0;
	for (size_t at = 0; at < bytes; at += length(text + at) + 1) {
		char *value = value_of(text + at, key);

		if (value)
			to[(*count)++] = value;
	}
	to[*count] = NULL;
	return to + *count + 1;
}

const char *config_parse(struct config *config, char *text, size_t bytes, char **pointers)
{
	static const char format[] = CONFIG_FORMAT;
	const char *problem = NULL;

	*config = (struct config){0};
	if (!bytes || text[bytes - 1])
		return "does not end with a NUL";
	for (size_t i = 0; i < sizeof format; i++)
		if (i == bytes || text[i] != format[i])
			return "is not of a format this init knows";
	config->argv = pointers;
	config->environment = collect(text, bytes, "arg", pointers, &config->argc);
	collect(text, bytes, "env", config->environment, &config->environment_count);
	for (size_t at = sizeof format; at < bytes && !problem; at += length(text + at) + 1)
		problem = parse_string(config, text + at);
	if (!problem && !config->argc)
		problem = "has no arg";
	return problem;
}

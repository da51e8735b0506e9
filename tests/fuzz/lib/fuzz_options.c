/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the command line of `riffle run` and the guest command line in it. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands/run_config.h"
#include "cli/commands/run_options.h"
#include "machine/cmdline.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);

/* The values of device options are never freed, as they live as long as the process. */
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* Configuration files have their own fuzz target. */
bool run_config_apply(struct machine_config *config, const char *path)
{
	(void)config;
	(void)path;
	return false;
}

const char *run_config_stock(void)
{
	return NULL;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* discards the parser's messages; the fuzzer's own reports keep the real descriptor 2 */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	stderr = fopen("/dev/null", "w");
	stdout = fopen("/dev/null", "w");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *argv[34];
	struct run_options options;
	int argc = 0;

	memcpy(text, data, size);
	text[size] = 0;
	argv[argc++] = (char[]){"run"};
	for (size_t at = 0; at < size && argc < 33; at += strlen(text + at) + 1)
		argv[argc++] = text + at;
	argv[argc] = NULL;
	if (run_options_parse(&options, argc, argv) == RUN_GO) {
		const struct machine_config *m = &options.machine;
		struct riffle_range ranges[8];
		size_t count = cmdline_reserved(m->command_line, ranges, 8);

		fuzz_accepted++;
		if (strnlen(m->command_line, sizeof m->command_line) == sizeof m->command_line || m->vcpus < 1 ||
		    m->vcpus > 32 || m->memory_bytes % (2 << 20) || !m->memory_bytes ||
		    (!m->kernel && !options.from_stock))
			abort();
		for (size_t i = 0; i < count; i++)
			if (ranges[i].bytes > UINT64_MAX - ranges[i].address)
				abort();
	}
	free(text);
	return 0;
}

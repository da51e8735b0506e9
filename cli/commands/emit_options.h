/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `riffle emit`, checked. */
#ifndef RIFFLE_CLI_COMMANDS_EMIT_OPTIONS_H
#define RIFFLE_CLI_COMMANDS_EMIT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/layout.h>

/* Monitors put an initrd below this address, however large the memory: a kernel is never placed above it. */
#define EMIT_TOP_MAX (UINT64_C(2) << 30)

struct emit_options {
	const char *kernel;
	const char *relocs;          /* NULL: none */
	const char *output;          /* NULL with a monitor */
	const char *layout_out;      /* NULL: none */
	const char *cache_directory; /* NULL: the default */
	bool no_cache;
	uint64_t memory_bytes;
	uint64_t reserve_top;
	bool randomize_auto;        /* the strongest mode that the kernel allows, never below kaslr */
	enum riffle_mode randomize; /* otherwise */
	bool slide;                 /* with kaslr or fgkaslr */
	char **monitor;             /* its argv, NULL-terminated, with each @ not yet replaced; NULL: none */
};

enum emit_parsed { EMIT_GO, EMIT_HELPED, EMIT_WRONG };

/* Parses and checks; prints help to stdout and errors to stderr. Strings in *options point into argv. */
enum emit_parsed emit_options_parse(struct emit_options *options, int argc, char **argv);

/* Whether a monitor's argument names the kernel, as "@" or "…=@": the length of what precedes the @, or -1. */
int emit_place_of_kernel(const char *argument);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of `riffle run`, checked. */
#ifndef RIFFLE_CLI_RUN_OPTIONS_H
#define RIFFLE_CLI_RUN_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/layout.h>

/* What the guest gets when neither --cmdline nor --append says otherwise. */
#define DEFAULT_COMMAND_LINE "console=ttyS0 reboot=k panic=-1 pci=off i8042.noaux i8042.nomux i8042.dumbkbd"

enum run_boot { BOOT_DIRECT, BOOT_BOOTSTRAP };

struct run_options {
	const char *kernel;
	const char *relocs;             /* NULL: none */
	const char *initrd;             /* NULL: none */
	char command_line[4096];
	uint64_t memory_bytes;
	unsigned cpus;
	bool randomize_auto;            /* the best the kernel allows, never below kaslr */
	enum riffle_mode randomize;     /* otherwise */
	bool lazy_tables;
	bool nokaslr;                   /* the command line says so, and --randomize does not */
	enum run_boot boot;
	bool has_seed;
	uint8_t seed[32];
	const char *layout;             /* replay from this file */
	const char *layout_out;
	const char *cache_directory;    /* NULL: the default */
	bool no_cache;
	bool boot_timer;
	uint64_t start_time;            /* CLOCK_MONOTONIC in ns when riffle was started; 0: not told */
	bool accept_emulation;
	bool huge_pages;
};

/* What to do after parsing. */
enum run_parsed { RUN_GO, RUN_HELPED, RUN_WRONG };

/* Parses and checks; prints help to stdout, and what is wrong to stderr. Strings in *options point into argv. */
enum run_parsed run_options_parse(struct run_options *options, int argc, char **argv);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* riffle-vmm's command line, which is Firecracker's. */
#ifndef RIFFLE_API_ARGUMENTS_H
#define RIFFLE_API_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NULL and false: not given. Strings are argv's own. Values are checked where they are used, except files. */
struct arguments {
	const char *api_sock, *id, *config_file, *metadata;
	const char *log_path, *level, *module, *metrics_path;
	const char *seccomp_filter, *describe_snapshot;
	const char *start_time_us, *start_time_cpu_us, *parent_cpu_time_us;
	const char *payload_size, *mmds_size;
	bool no_api, no_seccomp, boot_timer, enable_pci, show_level, show_log_origin;
	bool version, snapshot_version, help;
	bool accept_emulation, one_time_snapshots; /* our own */
};

/*
 * False: the command line is invalid, and `problem` says why. --help, and after it --version, takes precedence over all
 * errors.
 */
bool arguments_parse(struct arguments *arguments, int argc, char **argv, char *problem, size_t room);

/* Parses an unsigned decimal number of at most `max`; false: it is not one, also for NULL. */
bool arguments_number(const char *text, uint64_t max, uint64_t *number);

/* 1 to 64 letters, digits and minus signs. */
bool arguments_id_is_valid(const char *id);

/* All options, one or more lines each, to stdout. */
void arguments_print_help(void);

#endif

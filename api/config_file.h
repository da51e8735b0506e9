/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: the bodies of requests in one JSON object, applied as if they had been sent. */
#ifndef RIFFLE_API_CONFIG_FILE_H
#define RIFFLE_API_CONFIG_FILE_H

#include "api/vmm.h"

/*
 * Applies a configuration file's text in Firecracker's order: logger, metrics, machine, CPU, boot source, drives,
 * networks, vsock, balloon, then what `metadata` does, the metadata service's configuration, entropy, pmem, hotplug.
 * False: `problem` says what is wrong, with line and column for JSON errors. Nothing is undone.
 */
bool config_file_apply(struct vmm *vmm, const char *text, bool (*metadata)(void *opaque), void *opaque, char *problem,
		       size_t room);

/* The text of the file that "cpu-config" names, malloc()ed; NULL: errno says why, as input_open_problem() has it. */
char *config_file_read_cpu(const char *path, size_t *bytes);

/* Reads it without doing anything. */
bool config_file_check(const char *text, char *problem, size_t room);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Serves the API, or a configuration file, until the machine has ended. */
#ifndef RIFFLE_API_SERVE_H
#define RIFFLE_API_SERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "api/firecracker.h"

struct serve_options {
	const char *id;
	int listener;            /* a unix socket that listens, owned from now on; -1: no API */
	const char *socket_path; /* for the log's "Listening on API socket" */
	size_t payload_max, mmds_max;
	const char *config;   /* the text of a configuration file, ended by NUL: start it at once; NULL: none */
	const char *metadata; /* JSON for the metadata service, likewise; process_panic() if it is none */
	bool boot_timer, unconfined, accept_emulation, one_time_snapshots;
};

/*
 * Returns the exit code. When the VMM itself failed, `problem` says why, in a sentence ("Failed to build MicroVM from
 * Json: Configuration for VMM from one single json failed: ..."); it is empty when it was the machine that ended.
 */
enum firecracker_exit serve_run(const struct serve_options *options, char *problem, size_t room);

/* The version of a snapshot's state file, "vX.Y.Z"; false: why there is none, in a sentence. */
bool serve_describe_snapshot(const char *path, char *text, size_t room);

#endif

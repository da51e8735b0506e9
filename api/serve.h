/* SPDX-License-Identifier: Apache-2.0 */
/* A riffle-vmm from its settings to its exit code: requests before the start, the start, requests while it runs. */
#ifndef RIFFLE_API_SERVE_H
#define RIFFLE_API_SERVE_H

#include "api/firecracker.h"
#include "api/vmm.h"

struct server;

struct serve_settings {
	struct vmm_settings vmm;
	struct server *server; /* opened and not started; NULL: no API */
	const char *socket;    /* its path */
	const char *config;    /* the text of a configuration file, ended by NUL: started at once; NULL: none */
	const char *metadata;  /* the same for the metadata service; NULL: none */
};

/*
 * Returns the exit code, which is 0 when the guest reset its machine or switched it off. `problem` says in a sentence
 * why it is another.
 */
enum firecracker_exit serve(const struct serve_settings *settings, char *problem, size_t room);

/* The version of a snapshot's state file, "vX.Y.Z"; false: why there is none, in a sentence. */
bool serve_describe_snapshot(const char *path, char *text, size_t room);

#endif

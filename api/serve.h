/* SPDX-License-Identifier: Apache-2.0 */
/* A riffle-vmm from its settings to its exit code: requests before the start, the start, requests while it runs. */
#ifndef RIFFLE_API_SERVE_H
#define RIFFLE_API_SERVE_H

#include "api/vmm.h"

struct serve_settings {
	struct vmm_settings vmm;
	const char *socket;      /* NULL: no API */
	const char *config_file; /* started at once; NULL: by the API */
	uint64_t body_bytes;     /* of requests at most; 0: the usual */
};

/* After log_start(). Returns the exit code; what is wrong is in the log. */
int serve(const struct serve_settings *settings);

#endif

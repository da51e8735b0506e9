/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the start of `riffle run` as a process. */
#ifndef RIFFLE_BENCH_LOAD_START_H
#define RIFFLE_BENCH_LOAD_START_H

#include <stdbool.h>
#include <stdint.h>

#include <riffle/error.h>

struct start_figures {
	double start_ms;    /* exec to first KVM_RUN */
	double cpu_ms;      /* processor time of all threads until then */
	double load_cpu_ms; /* of that, copying and relocating the kernel */
};

/* what is started */
struct start_request {
	const char *kernel;
	const char *relocs; /* or NULL */
	const char *mode;   /* of --randomize */
	bool huge_pages;
};

/*
 * `runs` rounds, each a copy of load_bytes and a start of the riffle in this program's directory with 256 MiB on any
 * /dev/kvm. Errors: IO, MEMORY; riffle's own last message is valid until the next call.
 */
int bench_start(struct start_figures *figures, double *floor_ms, unsigned runs, const struct start_request *request,
		uint64_t load_bytes, struct riffle_error *error);

#endif

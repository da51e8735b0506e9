/* SPDX-License-Identifier: Apache-2.0 */
/* Measures which storage method boots a kernel fastest, as a function of the bandwidth at which its file is read. */
#ifndef RIFFLE_BENCH_LOAD_STORAGE_H
#define RIFFLE_BENCH_LOAD_STORAGE_H

#include <stdbool.h>

#include <riffle/layout.h>

#include "kernel/spawn.h"

/* How the kernel may be stored. */
enum storage {
	STORAGE_NONE,
	STORAGE_LZ4,
	STORAGE_ZSTD,
	STORAGE_BZIMAGE, /* not a prepared kernel: decompressed by the kernel's own bootstrap loader */
	STORAGE_COUNT,
};

/* How it is loaded. */
enum load_method {
	METHOD_KASLR,
	METHOD_FGKASLR,
	METHOD_COUNT,
};

/* What was measured. */
struct storage_figures {
	const char *kernel;
	char version[192];
	const char *bzimage_compression;
	unsigned runs;
	uint64_t extent_bytes;                            /* what a load writes, decompressed */
	uint64_t read_bytes[STORAGE_COUNT][METHOD_COUNT]; /* what must be read from the file for it */
	uint64_t decompressed[STORAGE_COUNT][METHOD_COUNT];
	double *ms[STORAGE_COUNT][METHOD_COUNT]; /* processor time of each run; NULL: not applicable */
};

struct storage_request {
	const char *kernel, *relocs;
	unsigned runs;
	bool huge_pages;
};

/*
 * Prepares the kernel in memory by each method and measures. Release *figures with bench_storage_free(), also after a
 * failure; the error's texts may point into *words.
 */
int bench_storage(struct storage_figures *figures, const struct storage_request *request, struct spawn_words *words,
		  struct riffle_error *error);
void bench_storage_free(struct storage_figures *figures);

/*
 * Prints the results; reads are modelled as bytes / bandwidth, done before the processor's work and not overlapping it.
 */
void bench_storage_text(const struct storage_figures *figures);
void bench_storage_csv(const struct storage_figures *figures);
void bench_storage_json(const struct storage_figures *figures);

#endif

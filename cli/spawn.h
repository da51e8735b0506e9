/* SPDX-License-Identifier: Apache-2.0 */
/* Prepares a kernel in a child process that has nothing but four descriptors. */
#ifndef RIFFLE_CLI_SPAWN_H
#define RIFFLE_CLI_SPAWN_H

#include <stdbool.h>
#include <stddef.h>

#include <riffle/error.h>

/* The first argument of riffle-prepare that makes it a worker; three or four descriptors' numbers follow. */
#define WORKER_OPTION "--worker"

/* The words of an error that came from another process: struct riffle_error can only point to them. */
struct spawn_words {
	char field[64];
	char problem[256];
};

/*
 * Finds the program riffle-prepare: beside the running one, else where it was installed. Writes its path, with NUL,
 * and returns true; false when there is none.
 */
bool find_prepare_program(char *path, size_t bytes);

/*
 * Runs `riffle-prepare --worker` on open descriptors and waits for it. `relocs_fd` is -1 when there is none; `out_fd`
 * is an empty regular file that gets the prepared kernel. The child has no environment and no other descriptors, and
 * drops what it can before it reads a byte. On failure error->field and ->problem may point into *words, which must
 * live as long as they are used. Errors: whatever preparing gives, and IO.
 */
int spawn_worker(struct spawn_words *words, int kernel_fd, int relocs_fd, int out_fd, struct riffle_error *error);

/* The line that a worker sends when it fails, and how it is read. */
void spawn_format_error(const struct riffle_error *error, char *line, size_t bytes);
bool spawn_parse_error(const char *line, struct spawn_words *words, struct riffle_error *error);

#endif

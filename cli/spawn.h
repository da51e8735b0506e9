/* SPDX-License-Identifier: Apache-2.0 */
/* Prepares a kernel in a child process that has nothing but the descriptors of its files. */
#ifndef RIFFLE_CLI_SPAWN_H
#define RIFFLE_CLI_SPAWN_H

#include <stdbool.h>
#include <stddef.h>

#include <riffle/error.h>
#include <riffle/format.h>

/*
 * The first argument of riffle-prepare that makes it a worker; five descriptors' numbers follow, -1 for none, the
 * number of a compression, and possibly the reason why the kernel is not to be analysed for a shuffle.
 */
#define WORKER_OPTION "--worker"

/* What a worker works on, open; -1 where there is none. */
struct spawn_files {
	int kernel;
	int relocs;                      /* vmlinux.relocs of a stripped vmlinux */
	int debug;                       /* debug vmlinux of the same build */
	int out;                         /* empty regular file that gets the prepared kernel */
	enum riffle_compression storage; /* how it is stored: NONE, LZ4 or ZSTD */
};

/* The field of errors that are about the debug vmlinux and not about the kernel. */
#define SPAWN_DEBUG_FIELD "--debug-vmlinux"

/* Which of a worker's files an error is about; relocs and debug may be NULL. */
const char *spawn_blame(const struct riffle_error *error, const char *kernel, const char *relocs, const char *debug);

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
 * Has a descriptor of a program, which is a worker too when its first argument is WORKER_OPTION, used where
 * riffle-prepare is not found: in a jail there is no other file, no /dev/null and no /proc. It stays the caller's. For
 * the whole process; before any thread.
 */
void spawn_set_program(int fd);

/*
 * Runs `riffle-prepare --worker` on open descriptors and waits for it. The child has no environment and no other
 * descriptors, and drops what it can before it reads a byte. With a debug vmlinux a kernel that cannot be shuffled all
 * the same is an error (UNSUPPORTED), without one it is prepared as it is. When the child crashes or
 * computes for too long, a second one prepares the kernel without analysing it. On failure error->field and ->problem
 * may point into *words, which must live as long as they are used. Errors: whatever preparing gives, and IO.
 */
int spawn_worker(struct spawn_words *words, const struct spawn_files *files, struct riffle_error *error);

/* The line that a worker sends when it fails, and how it is read. */
void spawn_format_error(const struct riffle_error *error, char *line, size_t bytes);
bool spawn_parse_error(const char *line, struct spawn_words *words, struct riffle_error *error);

#endif

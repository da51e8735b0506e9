/* SPDX-License-Identifier: Apache-2.0 */
/* Prepares a kernel in a child process that has only the descriptors of its files. */
#ifndef RIFFLE_KERNEL_SPAWN_H
#define RIFFLE_KERNEL_SPAWN_H

#include <stdbool.h>
#include <stddef.h>

#include <riffle/error.h>
#include <riffle/format.h>

/*
 * The first argument of riffle-prepare that makes it a worker; it is followed by five descriptor numbers, -1 for none,
 * a compression number, and optionally the reason why the kernel is not analysed for a shuffle.
 */
#define WORKER_OPTION "--worker"

/* A worker's open files; -1: none. */
struct spawn_files {
	int kernel;
	int relocs;                      /* vmlinux.relocs of a stripped vmlinux */
	int debug;                       /* debug vmlinux of the same build */
	int out;                         /* empty regular file that gets the prepared kernel */
	enum riffle_compression storage; /* how it is stored: NONE, LZ4 or ZSTD */
};

/* The field of errors that concern the debug vmlinux and not the kernel. */
#define SPAWN_DEBUG_FIELD "--debug-vmlinux"

/* Which of a worker's files an error concerns; relocs and debug may be NULL. */
const char *spawn_blame(const struct riffle_error *error, const char *kernel, const char *relocs, const char *debug);

/* The texts of an error from another process, to which struct riffle_error points. */
struct spawn_words {
	char field[64];
	char problem[256];
};

/*
 * Finds the program riffle-prepare: in the running program's directory, else where it was installed. Writes its path,
 * with NUL, and returns true; false if there is none.
 */
bool find_prepare_program(char *path, size_t bytes);

/*
 * Sets a descriptor of a program that also acts as a worker if its first argument is WORKER_OPTION, to be used if
 * riffle-prepare is not found: a jail has no other file, no /dev/null and no /proc. The caller keeps it. Applies to the
 * whole process; call before starting threads.
 */
void spawn_set_program(int fd);

/*
 * Runs `riffle-prepare --worker` on open descriptors and waits for it. The child has no environment and no other
 * descriptors, and drops its privileges before it reads a byte. With a debug vmlinux, a kernel that still cannot be
 * shuffled is an error (UNSUPPORTED); without one it is prepared unshuffled. If the child crashes or exceeds its time
 * limit, a second one prepares the kernel without analysing it. On failure error->field and ->problem may point into
 * *words, which must live as long as they are used. Errors: those of preparing, and IO.
 */
int spawn_worker(struct spawn_words *words, const struct spawn_files *files, struct riffle_error *error);

/* The line that a worker sends when it fails, and how it is read. */
void spawn_format_error(const struct riffle_error *error, char *line, size_t bytes);
bool spawn_parse_error(const char *line, struct spawn_words *words, struct riffle_error *error);

#endif

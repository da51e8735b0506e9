/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel in a directory of its own, opened as a request says, with the worker's program that a test chooses. */
#ifndef RIFFLE_TEST_KERNEL_FIXTURE_H
#define RIFFLE_TEST_KERNEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernel/kernel.h"
#include "tests/unit/kernel/test_directory.h"

struct fixture {
	char base[64], kernel[96], cache[96];
	struct kernel_request request;
	struct opened_kernel k;
	struct riffle_error error;
};

int set_up(void **state);
int tear_down(void **state);

/* The smallest kernel there is: one segment, no relocations. */
void write_kernel(const char *path, uint8_t fill);

/* Both also find that no descriptor is left open. */
void must_open(struct fixture *f, enum kernel_way way);
void must_fail(struct fixture *f, enum riffle_status status, const char *field, const char *problem);

/* Counts the directory's files; the path of the last one is put into `path`. */
int entries(const char *directory, char *path, size_t bytes);

/* Puts a shell script in the place of riffle-prepare. */
void fake_program(struct fixture *f, const char *script);

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif

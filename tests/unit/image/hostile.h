/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by tests of refused files: a good kernel to corrupt, and checks that it is refused correctly. */
#ifndef RIFFLE_TESTS_UNIT_IMAGE_HOSTILE_H
#define RIFFLE_TESTS_UNIT_IMAGE_HOSTILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "prepare/image/image.h"
#include "tests/lib/kernels.h"

/* A good kernel with .rela, its list as a separate file, and room for a bzImage of it. */
struct input {
	struct test_kernel k;
	struct test_bytes list;
	struct test_bytes bzimage;
	bool with_list;
};

void make_input(struct input *in);
void free_input(struct input *in);

/* Opens a kernel (and a list unless relocs_fd is -1), closes everything again and gives the status. */
int try_open(int fd, int relocs_fd, struct riffle_error *error);
/* Fails the test unless `status` is `wanted` and the error names `field`, in one line. */
void expect(const char *what, int status, const struct riffle_error *error, int wanted, const char *field);
/* Runs the tests; also returns 1 if one of them left a descriptor open. */
int run_clean(const struct CMUnitTest *tests, size_t count);

#endif

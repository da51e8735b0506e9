/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel image that randomises itself: setup header or ELF headers, the loader stage, a prepared kernel. */
#ifndef RIFFLE_KERNEL_BOOTSTRAP_IMAGE_H
#define RIFFLE_KERNEL_BOOTSTRAP_IMAGE_H

#include <stdbool.h>

#include <riffle/error.h>

/*
 * Appends the prepared kernel open at `prepared_fd` to the stage and writes the image to `out_fd`, an empty regular
 * file: a bzImage's 64-bit part, or with `elf` an ELF that is entered in 64-bit mode or by PVH. Errors: those of
 * riffle_plan_open(), SPACE (larger than init_size can express), UNSUPPORTED (built without the stage), IO.
 */
int bootstrap_image_write(int out_fd, int prepared_fd, bool elf, struct riffle_error *error);

#endif

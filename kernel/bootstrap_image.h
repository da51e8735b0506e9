/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel image that randomises itself: setup header or ELF headers, the loader stage, a prepared kernel. */
#ifndef RIFFLE_KERNEL_BOOTSTRAP_IMAGE_H
#define RIFFLE_KERNEL_BOOTSTRAP_IMAGE_H

#include <stdbool.h>

#include "host/mode.h"

struct bootstrap_request {
	int out_fd;      /* an empty regular file */
	int prepared_fd; /* the prepared kernel */
	bool elf;        /* an ELF that is entered in 64-bit mode or by PVH; otherwise a bzImage's 64-bit part */
	bool automatic;  /* the stage takes the most that its guest's memory allows; otherwise mode and slide */
	enum riffle_mode mode;
	bool slide;
	/* results: why "automatic" does not come to more for this kernel, what else to know of it, and an error's text
	 */
	unsigned reason_count;
	char reasons[2][MODE_REASON_BYTES];
	const char *open_kallsyms; /* NULL: the shuffled guest closes it */
	char words[MODE_REASON_BYTES];
};

/*
 * Appends the prepared kernel to the stage and writes the image. The error may point into *request. Errors: those of
 * riffle_plan_open(), SPACE (larger than init_size can express), UNSUPPORTED (built without the stage; a mode that this
 * kernel does not allow), IO.
 */
int bootstrap_image_write(struct bootstrap_request *request, struct riffle_error *error);

#endif

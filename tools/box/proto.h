/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frames that the two ends of kvmbox exchange over one virtio-serial port: as there is a single ordered channel,
 * the exit status cannot overtake the last byte of output.
 */
#ifndef RIFFLE_TOOLS_BOX_PROTO_H
#define RIFFLE_TOOLS_BOX_PROTO_H

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

enum box_frame {
	BOX_CONFIG = 1, /* to the guest, once, first: KEY=VALUE strings, each ended by NUL */
	BOX_STDIN,      /* to the guest; a length of 0 is the end of input */
	BOX_WINDOW,     /* to the guest: uint16_t rows, columns of the terminal */
	BOX_WAKE,       /* to the guest: only for its interrupt */
	BOX_STDOUT,     /* from the guest */
	BOX_STDERR,     /* from the guest */
	BOX_EXIT,       /* from the guest, last: uint32_t exit status as a shell has it */
};

struct box_header {
	uint32_t type;
	uint32_t length; /* of what follows, in bytes */
};

enum {
	BOX_DATA_MAX = 32 * 1024, /* payload of a data frame; virtio_console transfers no more at once */
	BOX_CONFIG_MAX = 4 * 1024 * 1024,
};

#endif

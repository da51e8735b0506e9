/* SPDX-License-Identifier: Apache-2.0 */
/* A layout as a JSON file: written for later replay and debugging, read back by run, symbolize and gdb-script. */
#ifndef RIFFLE_CLI_LAYOUT_JSON_H
#define RIFFLE_CLI_LAYOUT_JSON_H

#include <stdint.h>

#include <riffle/layout.h>

/*
 * {"riffle_layout": 1, "mode": "kaslr", "physical_base": "0x…", "virtual_base": "0x…", "link_physical": "0x…",
 *  "link_virtual": "0x…", "image_bytes": N,
 *  "kernel": {"version": "…", "build_id": "hex", "content_digest": "hex"}}
 */
struct layout_file {
	struct riffle_layout layout;
	uint64_t link_physical;
	uint64_t link_virtual;
	uint64_t image_bytes;
	char kernel_version[192];
	char build_id[65];        /* lower-case hex, empty when the kernel has none */
	char content_digest[65];
};

const char *mode_name(enum riffle_mode mode);

/* Fills *file from a layout and the kernel it is for. */
void layout_file_describe(struct layout_file *file, const struct riffle_layout *layout,
			  const struct riffle_header *header);

/* Writes to a new file of mode 0600; refuses links and files that exist; leaves nothing behind when it fails. */
int layout_file_write(const char *path, const struct layout_file *file, struct riffle_error *error);

/* Reads and checks a layout file. */
int layout_file_read(const char *path, struct layout_file *file, struct riffle_error *error);

#endif

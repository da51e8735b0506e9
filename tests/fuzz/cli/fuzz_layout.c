/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the reader of layout files; a layout it accepts must map each address to one place and back. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host/layout_json.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct layout_file *file, uint64_t offset)
{
	uint64_t link = file->link_virtual + offset, address, back;

	if (offset >= file->image_bytes)
		return;
	if (!layout_file_from_link(file, link, &address) || !layout_file_to_link(file, address, &back) || back != link)
		abort();
	if (!layout_file_to_link(file, file->layout.virtual_base + offset, &link) ||
	    !layout_file_from_link(file, link, &back) || back != file->layout.virtual_base + offset)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char path[40];
	static int fd = -1;
	struct riffle_error error;
	struct layout_file file;

	if (fd < 0) {
		fd = memfd_create("layout", MFD_CLOEXEC);
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	}
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	if (layout_file_read(path, &file, &error))
		return 0;
	check(&file, 0);
	check(&file, file.image_bytes - 1);
	for (uint32_t i = 0; i < file.chunk_count; i++) {
		const struct layout_chunk *c = &file.chunk[i];

		if (!c->bytes || c->offset + (uint64_t)c->bytes > file.image_bytes)
			abort();
		check(&file, c->offset);
		check(&file, c->offset + c->bytes - 1);
		check(&file, c->offset + (uint64_t)c->bytes);
	}
	fuzz_accepted++;
	layout_file_free(&file);
	return 0;
}

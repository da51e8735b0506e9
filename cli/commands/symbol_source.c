/* SPDX-License-Identifier: Apache-2.0 */
/* Opens what has a kernel's symbols, checks that it is the layout's kernel, and reads them. */
#include "cli/commands/symbol_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/fail.h"
#include "host/input.h"

#define SYSTEM_MAP_MAX (256 << 20)

int symbol_source_open(struct symbol_source *source, struct riffle_error *error)
{
	struct kernel_request request = {.kernel = source->name};
	struct stat st;

	if (source->kind == SYMBOLS_KERNEL)
		return kernel_open(&source->kernel, &request, error);
	if (source->kind == SYMBOLS_NONE)
		return RIFFLE_OK;
	return input_open(&source->fd, &st, source->name, error);
}

void symbol_source_close(struct symbol_source *source)
{
	if (source->kind == SYMBOLS_KERNEL)
		kernel_close(&source->kernel);
	else if (source->kind != SYMBOLS_NONE)
		close(source->fd);
}

/* true when `bytes` spelt as lower-case hexadecimal digits are `text` */
static bool same_hex(const char *text, const uint8_t *bytes, size_t count)
{
	char digits[3];

	for (size_t i = 0; i < count; i++) {
		snprintf(digits, sizeof digits, "%02x", bytes[i]);
		if (strncmp(text + 2 * i, digits, 2))
			return false;
	}
	return !text[2 * count];
}

int symbol_source_check_elf(const struct symbols_elf *elf, const struct layout_file *layout, struct riffle_error *error)
{
	if (elf->build_id_bytes && layout->build_id[0] &&
	    !same_hex(layout->build_id, elf->build_id, elf->build_id_bytes))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "build id", "is another than the layout's kernel has");
	if (elf->link_physical != layout->link_physical)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "p_paddr",
					    "the file was linked to another address than the layout's kernel",
					    elf->link_physical, layout->link_physical);
	return RIFFLE_OK;
}

static int read_vmlinux(struct symbols *symbols, int fd, const struct layout_file *layout, struct riffle_error *error)
{
	struct symbols_elf elf;
	int status = symbols_from_elf(NULL, &elf, fd, error);

	if (!status)
		status = symbol_source_check_elf(&elf, layout, error);
	return status ? status : symbols_from_elf(symbols, &elf, fd, error);
}

static int read_system_map(struct symbols *symbols, int fd, struct riffle_error *error)
{
	off_t bytes = lseek(fd, 0, SEEK_END);
	size_t got = 0;
	char *text;
	int status;

	if (bytes < 0)
		return riffle_fail_system(error, errno, "System.map", "cannot be read");
	if (bytes > SYSTEM_MAP_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "System.map", "is absurdly large",
					    (uint64_t)bytes, SYSTEM_MAP_MAX);
	text = malloc((size_t)bytes + 1);
	if (!text)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "System.map", "cannot be held");
	while (got < (size_t)bytes) {
		ssize_t n = pread(fd, text + got, (size_t)bytes - got, (off_t)got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			status = n < 0 ? riffle_fail_system(error, errno, "System.map", "cannot be read")
				       : riffle_fail(error, RIFFLE_ERR_CHANGED, "System.map", "became shorter");
			free(text);
			return status;
		}
		got += (size_t)n;
	}
	status = symbols_from_system_map(symbols, text, got, error);
	free(text);
	return status;
}

/* What the file leaves out stays zero. */
int symbol_source_map_kernel(uint8_t **result, const struct opened_kernel *kernel, const struct layout_file *layout,
			     struct riffle_error *error)
{
	const struct riffle_header *header = kernel->plan.header;
	int status = RIFFLE_OK;
	uint8_t *image;

	if (layout->content_digest[0] && !layout_file_is_for(layout, header))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "content_digest",
				   "is another than the layout's kernel has");
	if (header->link_virt != layout->link_virtual || header->image_bytes != layout->image_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "image_bytes",
					    "or link address is another than the layout's kernel has",
					    header->image_bytes, layout->image_bytes);
	image =
	    mmap(NULL, header->image_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (image == MAP_FAILED)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, "image_bytes", "cannot be held",
					 header->image_bytes);
	for (uint32_t i = 0; !status && i < kernel->plan.extent_count; i++) {
		const struct riffle_extent *e = &kernel->plan.extents[i];

		status = riffle_plan_read(&kernel->plan, &kernel->source, e->image_offset, image + e->image_offset,
					  e->bytes, error);
	}
	if (status)
		munmap(image, header->image_bytes);
	else
		*result = image;
	return status;
}

static int read_kernel(struct symbols *symbols, const struct opened_kernel *kernel, const struct layout_file *layout,
		       struct riffle_error *error)
{
	uint8_t *image;
	int status = symbol_source_map_kernel(&image, kernel, layout, error);

	if (status)
		return status;
	status = symbols_from_kallsyms(symbols, image, layout->image_bytes, error);
	munmap(image, layout->image_bytes);
	return status;
}

int symbol_source_read(struct symbols *symbols, const struct symbol_source *source, const struct layout_file *layout,
		       struct riffle_error *error)
{
	switch (source->kind) {
	case SYMBOLS_SYSTEM_MAP:
		return read_system_map(symbols, source->fd, error);
	case SYMBOLS_VMLINUX:
		return read_vmlinux(symbols, source->fd, layout, error);
	case SYMBOLS_KERNEL:
		return read_kernel(symbols, &source->kernel, layout, error);
	default:
		return RIFFLE_OK;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a fuzzed kernel and stops the fuzzer when an accepted image breaks a promise of prepare/image/image.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "prepare/image/image.h"
#include "tests/fuzz/accepted.h"
#include "tests/fuzz/image/fuzz_image.h"

static void promise(int holds)
{
	if (!holds)
		abort();
}

static int in_file_bytes(const struct riffle_image *image, uint64_t offset, uint64_t bytes)
{
	unsigned i;

	for (i = 0; i < image->segment_count; i++) {
		const struct image_segment *s = &image->segment[i];
		uint64_t start = s->phys - image->link_phys;

		if (offset >= start && offset - start <= s->file_bytes && bytes <= s->file_bytes - (offset - start))
			return 1;
	}
	return 0;
}

static void check_relocs(const struct riffle_image *image, const struct image_relocs *relocs, unsigned bytes)
{
	uint32_t i;

	for (i = 0; i < relocs->count; i++) {
		promise(!i || relocs->offset[i] > relocs->offset[i - 1]);
		promise(in_file_bytes(image, relocs->offset[i], bytes));
	}
}

static void check(const struct riffle_image *image)
{
	uint64_t end = 0, sum = 0, i;
	unsigned n;

	promise(image->segment_count > 0);
	promise(image->link_phys % (2u << 20) == 0);
	promise(image->link_virt == UINT64_C(0xffffffff80000000) + image->link_phys);
	promise(image->image_bytes <= RIFFLE_IMAGE_MAX);
	for (n = 0; n < image->segment_count; n++) {
		const struct image_segment *s = &image->segment[n];

		promise(s->phys >= image->link_phys && s->phys - image->link_phys >= end);
		promise(s->file_bytes <= s->memory_bytes);
		end = s->phys - image->link_phys + s->memory_bytes;
		for (i = 0; i < s->file_bytes; i++)
			sum += s->bytes[i];
	}
	promise(end == image->image_bytes);
	promise(in_file_bytes(image, image->entry_offset, 1));
	check_relocs(image, &image->reloc64, 8);
	check_relocs(image, &image->reloc32, 4);
	check_relocs(image, &image->reloc32_inverse, 4);
	promise(image->relocatable || !(image->reloc64.count | image->reloc32.count | image->reloc32_inverse.count));
	for (n = 0; n < image->section_count; n++)
		sum += strlen(image->section[n].name);
	promise(memchr(image->kernel_version, 0, sizeof image->kernel_version) != NULL);
	promise(image->build_id_bytes <= sizeof image->build_id);
	promise(sum < UINT64_MAX); /* uses the result, so that the reads are not optimised away */
}

void fuzz_open(int kernel_fd, int relocs_fd)
{
	struct riffle_error error = {0};
	struct riffle_image *image;
	int status = riffle_image_open(&image, kernel_fd, relocs_fd, &error);

	if (status) {
		promise(!image && (int)error.status == status && error.field && error.problem);
	} else {
		check(image);
		fuzz_accepted++;
		riffle_image_close(image);
	}
	close(kernel_fd);
	if (relocs_fd >= 0)
		close(relocs_fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's own words on its version: from a bzImage's setup code, or from the banner in the image. */
#include "prepare/image/internal.h"

#define BANNER "Linux version "

void image_set_version(struct riffle_image *image, const uint8_t *text, uint64_t bytes)
{
	size_t i;

	memset(image->kernel_version, 0, sizeof image->kernel_version);
	for (i = 0; i < bytes && i + 1 < sizeof image->kernel_version; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			break;
		image->kernel_version[i] = (char)text[i];
	}
}

/* init/version-timestamp.c: linux_banner, "Linux version RELEASE (BUILDER) (COMPILER) #1 SMP DATE\n" */
void image_find_version(struct riffle_image *image)
{
	const size_t banner = sizeof BANNER - 1;
	unsigned i;

	for (i = 0; i < image->segment_count; i++) {
		const uint8_t *at = image->segment[i].bytes;

		if (!at)
			continue;
		const uint8_t *end = at + image->segment[i].file_bytes;

		while ((at = memmem(at, (size_t)(end - at), BANNER, banner))) {
			at += banner;
			if (at < end && *at >= '0' && *at <= '9') {
				image_set_version(image, at, (uint64_t)(end - at));
				return;
			}
		}
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Unmaps the program's own code, of which running a guest needs a small part. */
#include "machine/drop_code.h"

#include <link.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static int drop_segments(struct dl_phdr_info *info, size_t bytes, void *opaque)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)bytes, (void)opaque;
	if (info->dlpi_name && *info->dlpi_name)
		return 0; /* a shared object */
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t begin = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
		uintptr_t end = (info->dlpi_addr + segment->p_vaddr + segment->p_memsz) & ~(page - 1);

		/* what is never written is the same in the file */
		if (segment->p_type == PT_LOAD && !(segment->p_flags & PF_W) && begin < end)
			madvise((void *)begin, end - begin, MADV_DONTNEED);
	}
	return 0;
}

void machine_drop_code(void)
{
	dl_iterate_phdr(drop_segments, NULL);
}

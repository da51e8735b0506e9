/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes what symbolize reads in addition to kallsyms: System.map, the symbols of an ELF, and logs cut into pieces. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "prepare/symbols/annotate.h"
#include "tests/fuzz/accepted.h"

#define LINK UINT64_C(0xffffffff81000000)
#define BYTES UINT64_C(0x200000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_elf(struct symbols *symbols, const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct symbols_elf elf;
	struct riffle_error error;

	if (fd < 0)
		fd = memfd_create("vmlinux", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	fuzz_accepted += !symbols_from_elf(symbols, &elf, fd, &error);
}

static int discard(void *opaque, const char *text, size_t bytes)
{
	size_t *total = opaque;

	for (size_t i = 0; i < bytes; i++)
		*total += (unsigned char)text[i] != 0;
	return 0;
}

static bool to_link(const void *map, uint64_t address, uint64_t *link)
{
	(void)map;
	*link = address;
	return address - LINK < BYTES;
}

static void annotate_log(const char *log, size_t size, size_t piece)
{
	size_t total = 0;
	struct annotator annotator = {.to_link = to_link, .write = discard, .opaque = &total};

	for (size_t at = 0; at < size; at += piece)
		annotate(&annotator, log + at, size - at < piece ? size - at : piece);
	annotate_end(&annotator);
	fuzz_accepted += total > 0;
}

/* the first byte selects what the rest is */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct riffle_error error;
	struct symbols symbols;
	char *exact;

	if (!size)
		return 0;
	exact = malloc(size);
	memcpy(exact, data + 1, size - 1);
	symbols_init(&symbols, LINK, LINK + BYTES);
	if (data[0] == 0)
		fuzz_accepted += !symbols_from_system_map(&symbols, exact, size - 1, &error);
	else if (data[0] == 0x7f)
		read_elf(&symbols, data, size);
	else
		annotate_log(exact, size - 1, data[0]);
	symbols_free(&symbols);
	free(exact);
	return 0;
}

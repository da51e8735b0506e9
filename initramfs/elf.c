/* SPDX-License-Identifier: Apache-2.0 */
/* What an ELF file requires from its loader: interpreter, libraries, and where to look for them. */
#include "initramfs/elf.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

#define DYNAMIC_MAX 65536u /* entries; real files have about thirty */
#define NEEDED_MAX 4096u

struct elf_file {
	int fd;
	Elf64_Ehdr header;
	Elf64_Phdr *segments;
	Elf64_Dyn *dynamic;
	size_t dynamic_count;
	uint64_t strings; /* file offset of DT_STRTAB */
	uint64_t strings_bytes;
	struct riffle_error *error;
};

bool elf_is(const void *start, size_t bytes)
{
	return bytes >= SELFMAG && !memcmp(start, ELFMAG, SELFMAG);
}

static int fail_format(const struct elf_file *file, const char *field, const char *problem)
{
	return riffle_fail(file->error, RIFFLE_ERR_FORMAT, field, problem);
}

/* Reads all of [from, from + bytes), or fails. */
static int read_at(const struct elf_file *file, uint64_t from, void *to, size_t bytes, const char *field)
{
	size_t have = 0;

	if (!riffle_inside(from, bytes, INT64_MAX))
		return fail_format(file, field, "reaches past the end of the file");
	while (have < bytes) {
		ssize_t n = pread(file->fd, (uint8_t *)to + have, bytes - have, (off_t)(from + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return riffle_fail_system(file->error, errno, "read", "failed");
		if (!n)
			return fail_format(file, field, "reaches past the end of the file");
		have += (size_t)n;
	}
	return RIFFLE_OK;
}

/* Reads the string at a file offset, shorter than PATH_MAX and ending before `limit`. */
static int read_string(const struct elf_file *file, uint64_t from, uint64_t limit, char **string, const char *field)
{
	char text[PATH_MAX];
	size_t bytes = limit < sizeof text ? (size_t)limit : sizeof text, end;
	ssize_t n = pread(file->fd, text, bytes, (off_t)from);

	if (n < 0)
		return riffle_fail_system(file->error, errno, "read", "failed");
	end = strnlen(text, (size_t)n);
	if (end == (size_t)n)
		return fail_format(file, field, "is a string without an end");
	*string = strdup(text);
	return *string ? RIFFLE_OK : riffle_fail(file->error, RIFFLE_ERR_MEMORY, field, "out of memory");
}

static int read_segments(struct elf_file *file)
{
	int status = read_at(file, 0, &file->header, sizeof file->header, "ELF header");
	const Elf64_Ehdr *h = &file->header;

	if (status)
		return status;
	if (!elf_is(h, sizeof *h))
		return fail_format(file, "e_ident", "is not an ELF file's");
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
		return riffle_fail_expected(file->error, RIFFLE_ERR_UNSUPPORTED, "e_machine",
					    "is not that of a 64-bit x86 program", h->e_machine, EM_X86_64);
	if (!h->e_phnum)
		return RIFFLE_OK;
	if (h->e_phentsize != sizeof *file->segments)
		return riffle_fail_expected(file->error, RIFFLE_ERR_FORMAT, "e_phentsize",
					    "is not the size of a program header", h->e_phentsize,
					    sizeof *file->segments);
	file->segments = calloc(h->e_phnum, sizeof *file->segments);
	if (!file->segments)
		return riffle_fail(file->error, RIFFLE_ERR_MEMORY, "program headers", "out of memory");
	return read_at(file, h->e_phoff, file->segments, h->e_phnum * sizeof *file->segments, "program headers");
}

static const Elf64_Phdr *find_segment(const struct elf_file *file, uint32_t type)
{
	for (unsigned i = 0; file->segments && i < file->header.e_phnum; i++)
		if (file->segments[i].p_type == type)
			return &file->segments[i];
	return NULL;
}

/* The file offset of an address, and how many bytes of its segment the file has from there. */
static bool offset_of(const struct elf_file *file, uint64_t address, uint64_t *offset, uint64_t *bytes)
{
	for (unsigned i = 0; i < file->header.e_phnum; i++) {
		const Elf64_Phdr *s = &file->segments[i];

		if (s->p_type != PT_LOAD || address < s->p_vaddr || address - s->p_vaddr >= s->p_filesz)
			continue;
		*bytes = s->p_filesz - (address - s->p_vaddr);
		return !__builtin_add_overflow(s->p_offset, address - s->p_vaddr, offset) && *offset <= INT64_MAX;
	}
	return false;
}

static int read_dynamic(struct elf_file *file, const Elf64_Phdr *segment)
{
	size_t count = segment->p_filesz / sizeof *file->dynamic;
	int status;

	if (count > DYNAMIC_MAX)
		return fail_format(file, "PT_DYNAMIC", "is longer than any program's");
	file->dynamic = calloc(count + 1, sizeof *file->dynamic);
	if (!file->dynamic)
		return riffle_fail(file->error, RIFFLE_ERR_MEMORY, "PT_DYNAMIC", "out of memory");
	status = read_at(file, segment->p_offset, file->dynamic, count * sizeof *file->dynamic, "PT_DYNAMIC");
	if (status)
		return status;
	while (file->dynamic_count < count && file->dynamic[file->dynamic_count].d_tag != DT_NULL)
		file->dynamic_count++;
	return RIFFLE_OK;
}

static int find_strings(struct elf_file *file)
{
	uint64_t address = 0, bytes = 0, most = 0;

	for (size_t i = 0; i < file->dynamic_count; i++) {
		if (file->dynamic[i].d_tag == DT_STRTAB)
			address = file->dynamic[i].d_un.d_ptr;
		else if (file->dynamic[i].d_tag == DT_STRSZ)
			bytes = file->dynamic[i].d_un.d_val;
	}
	if (!offset_of(file, address, &file->strings, &most) || bytes > most)
		return fail_format(file, "DT_STRTAB", "is not in the file");
	file->strings_bytes = bytes;
	return RIFFLE_OK;
}

static int take_string(const struct elf_file *file, uint64_t at, char **string, const char *field)
{
	if (at >= file->strings_bytes)
		return fail_format(file, field, "is not in the string table");
	free(*string);
	*string = NULL;
	return read_string(file, file->strings + at, file->strings_bytes - at, string, field);
}

static int take_needed(struct elf_needs *needs, const struct elf_file *file, uint64_t at)
{
	char **more = reallocarray(needs->needed, needs->count + 1, sizeof *more);
	int status;

	if (!more)
		return riffle_fail(file->error, RIFFLE_ERR_MEMORY, "DT_NEEDED", "out of memory");
	needs->needed = more;
	more[needs->count] = NULL;
	status = take_string(file, at, &more[needs->count], "DT_NEEDED");
	needs->count += !status;
	return status;
}

static int take_entry(struct elf_needs *needs, const struct elf_file *file, const Elf64_Dyn *entry)
{
	switch (entry->d_tag) {
	case DT_NEEDED:
		if (needs->count == NEEDED_MAX)
			return fail_format(file, "DT_NEEDED", "is there more often than in any program");
		return take_needed(needs, file, entry->d_un.d_val);
	case DT_RPATH:
		return take_string(file, entry->d_un.d_val, &needs->rpath, "DT_RPATH");
	case DT_RUNPATH:
		return take_string(file, entry->d_un.d_val, &needs->runpath, "DT_RUNPATH");
	case DT_FLAGS_1:
		needs->no_default = entry->d_un.d_val & DF_1_NODEFLIB;
		return RIFFLE_OK;
	default:
		return RIFFLE_OK;
	}
}

static int read_needs(struct elf_needs *needs, struct elf_file *file)
{
	const Elf64_Phdr *segment;
	int status = read_segments(file);

	if (status)
		return status;
	segment = find_segment(file, PT_INTERP);
	if (segment) {
		if (segment->p_offset > INT64_MAX)
			return fail_format(file, "PT_INTERP", "reaches past the end of the file");
		status = read_string(file, segment->p_offset, segment->p_filesz, &needs->interpreter, "PT_INTERP");
	}
	segment = find_segment(file, PT_DYNAMIC);
	if (status || !segment)
		return status;
	status = read_dynamic(file, segment);
	if (!status && file->dynamic_count)
		status = find_strings(file);
	for (size_t i = 0; i < file->dynamic_count && !status; i++)
		status = take_entry(needs, file, &file->dynamic[i]);
	return status;
}

int elf_read_needs(struct elf_needs *needs, int fd, struct riffle_error *error)
{
	struct elf_file file = {.fd = fd, .error = error};
	int status;

	memset(needs, 0, sizeof *needs);
	status = read_needs(needs, &file);
	free(file.segments);
	free(file.dynamic);
	if (status)
		elf_free_needs(needs);
	return status;
}

void elf_free_needs(struct elf_needs *needs)
{
	for (size_t i = 0; i < needs->count; i++)
		free(needs->needed[i]);
	free(needs->needed);
	free(needs->interpreter);
	free(needs->rpath);
	free(needs->runpath);
	memset(needs, 0, sizeof *needs);
}

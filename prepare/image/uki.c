/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the section table of a PE file, as far as a unified kernel image needs it. */
#include "prepare/image/uki.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"

/* "PE Format" (Microsoft), and the UAPI group's "Unified Kernel Image" */
#define DOS_HEADER_BYTES 64u
#define DOS_PE_OFFSET 0x3cu
#define COFF_BYTES 24u /* with the signature before it */
#define COFF_MACHINE 4u
#define COFF_SECTIONS 6u
#define COFF_OPTIONAL_BYTES 20u
#define SECTION_BYTES 40u
#define SECTION_MEMORY_BYTES 8u
#define SECTION_FILE_BYTES 16u
#define SECTION_OFFSET 20u
#define SECTIONS_MAX 512u

static int read_at(int fd, uint64_t offset, void *buffer, size_t bytes, struct riffle_error *error)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = pread(fd, (uint8_t *)buffer + done, bytes - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return riffle_fail_system(error, errno, "PE file", "cannot be read");
		if (!n)
			return riffle_fail(error, RIFFLE_ERR_CHANGED, "PE file", "became shorter while it was read");
		done += (size_t)n;
	}
	return RIFFLE_OK;
}

/* What a section's header says it holds; the rest of its last sector in the file is padding. */
static int take_section(struct uki *uki, const uint8_t *header, uint64_t file_bytes, struct riffle_error *error)
{
	const struct {
		const char name[8];
		struct uki_part *part;
	} known[] = {{".linux", &uki->kernel}, {".initrd", &uki->initrd}, {".cmdline", &uki->command_line}};
	uint64_t memory = riffle_get32(header + SECTION_MEMORY_BYTES),
		 bytes = riffle_get32(header + SECTION_FILE_BYTES);
	uint64_t offset = riffle_get32(header + SECTION_OFFSET);

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (memcmp(header, known[i].name, sizeof known[i].name) || known[i].part->bytes)
			continue;
		if (memory && memory < bytes)
			bytes = memory;
		if (!riffle_inside(offset, bytes, file_bytes))
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "PE section",
						    "leads past the end of the file", offset + bytes, file_bytes);
		*known[i].part = (struct uki_part){offset, bytes};
	}
	return RIFFLE_OK;
}

int uki_read(struct uki *uki, int fd, uint64_t file_bytes, struct riffle_error *error)
{
	uint8_t dos[DOS_HEADER_BYTES], coff[COFF_BYTES], section[SECTION_BYTES];
	uint64_t at, sections;
	int status;

	*uki = (struct uki){0};
	if (file_bytes < sizeof dos)
		return RIFFLE_OK;
	status = read_at(fd, 0, dos, sizeof dos, error);
	if (status || memcmp(dos, "MZ", 2))
		return status;
	at = riffle_get32(dos + DOS_PE_OFFSET);
	if (!riffle_inside(at, sizeof coff, file_bytes)) /* a program for DOS */
		return RIFFLE_OK;
	status = read_at(fd, at, coff, sizeof coff, error);
	if (status || memcmp(coff, "PE\0", 4))
		return status;
	uki->is_pe = true;
	uki->machine = riffle_get16(coff + COFF_MACHINE);
	sections = riffle_get16(coff + COFF_SECTIONS);
	at += sizeof coff + riffle_get16(coff + COFF_OPTIONAL_BYTES);
	if (sections > SECTIONS_MAX || !riffle_inside(at, sections * sizeof section, file_bytes))
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "PE section table",
					    "is longer than any, or leads past the end of the file", sections,
					    SECTIONS_MAX);
	for (uint64_t i = 0; i < sections && !status; i++) {
		status = read_at(fd, at + i * sizeof section, section, sizeof section, error);
		if (!status)
			status = take_section(uki, section, file_bytes, error);
	}
	return status;
}

int uki_command_line(char *text, const struct uki *uki, int fd, struct riffle_error *error)
{
	size_t bytes = (size_t)uki->command_line.bytes;
	int status;

	text[0] = 0;
	if (uki->command_line.bytes >= UKI_COMMAND_LINE_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, ".cmdline", "is too long",
					    uki->command_line.bytes, UKI_COMMAND_LINE_MAX - 1);
	status = read_at(fd, uki->command_line.offset, text, bytes, error);
	if (status)
		return status;
	while (bytes && ((unsigned char)text[bytes - 1] <= ' '))
		bytes--;
	text[bytes] = 0;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '\n' || text[i] == '\t')
			text[i] = ' ';
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, ".cmdline", "holds a control character",
						 (unsigned char)text[i]);
	}
	return RIFFLE_OK;
}

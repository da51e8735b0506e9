/* SPDX-License-Identifier: Apache-2.0 */
/* Writes ELF headers as every monitor that boots a vmlinux takes them. */
#include "kernel/boot_elf.h"

#include <elf.h>
#include <string.h>

#include "common/setup_header.h"

#define NOTE_NAME "Xen"
#define NOTE_PHYS32_ENTRY 18u /* XEN_ELFNOTE_PHYS32_ENTRY */
#define NOTE_ALIGN 4u         /* by which loaders pad the name */

/* Eight bytes of value, although the address has four: QEMU reads them all. */
struct note {
	Elf64_Nhdr head;
	char name[sizeof NOTE_NAME];
	uint8_t entry[8];
};

_Static_assert(sizeof(Elf64_Ehdr) + (1 + BOOT_ELF_SEGMENTS_MAX) * sizeof(Elf64_Phdr) + sizeof(struct note) <=
		   BOOT_ELF_HEADERS_BYTES,
	       "headers fit");

void boot_elf_headers(uint8_t headers[BOOT_ELF_HEADERS_BYTES], const struct boot_elf_segment *segments, unsigned count)
{
	const uint64_t entry_pvh = STAGE_ELF_BASE + STAGE_ENTRY_PVH;
	Elf64_Ehdr elf = {
	    .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE},
	    .e_type = ET_EXEC,
	    .e_machine = EM_X86_64,
	    .e_version = EV_CURRENT,
	    .e_entry = STAGE_ELF_BASE + STAGE_ENTRY_64,
	    .e_phoff = sizeof elf,
	    .e_ehsize = sizeof elf,
	    .e_phentsize = sizeof(Elf64_Phdr),
	    .e_phnum = (Elf64_Half)(count + 1),
	    .e_shentsize = sizeof(Elf64_Shdr),
	};
	struct note note = {.head = {sizeof note.name, sizeof note.entry, NOTE_PHYS32_ENTRY}, .name = NOTE_NAME};
	const uint64_t note_offset = sizeof elf + (count + 1) * sizeof(Elf64_Phdr);
	Elf64_Phdr program = {.p_type = PT_NOTE,
			      .p_flags = PF_R,
			      .p_offset = note_offset,
			      .p_filesz = sizeof note,
			      .p_memsz = sizeof note,
			      .p_align = NOTE_ALIGN};

	memset(headers, 0, BOOT_ELF_HEADERS_BYTES);
	memcpy(note.entry, &entry_pvh, sizeof note.entry);
	memcpy(headers, &elf, sizeof elf);
	memcpy(headers + note_offset, &note, sizeof note);
	for (unsigned i = 0; i < count; i++) {
		const Elf64_Phdr load = {.p_type = PT_LOAD,
					 .p_flags = PF_R | PF_W | PF_X,
					 .p_offset = segments[i].file_offset,
					 .p_vaddr = segments[i].address,
					 .p_paddr = segments[i].address,
					 .p_filesz = segments[i].file_bytes,
					 .p_memsz = segments[i].memory_bytes,
					 .p_align = STAGE_PAGE};

		memcpy(headers + sizeof elf + i * sizeof load, &load, sizeof load);
	}
	memcpy(headers + sizeof elf + count * sizeof program, &program, sizeof program);
}

/* Nothing here may depend on a layout: a guest's users can read it. */
int boot_elf_zero_page(uint8_t page[STAGE_PAGE], const struct riffle_plan *plan, struct riffle_error *error)
{
	struct riffle_boot_setup setup;
	int status = riffle_boot_setup_from_plan(&setup, plan, error);

	if (status)
		return status;
	memset(page, 0, STAGE_PAGE);
	memcpy(page + RBOOT_HDR_START, setup.bytes, sizeof setup.bytes);
	/* the other flags speak of real-mode code, and nothing follows the header */
	page[RBOOT_LOADFLAGS] = RBOOT_LOADED_HIGH;
	memset(page + RBOOT_SETUP_DATA_PTR, 0, 8);
	return RIFFLE_OK;
}

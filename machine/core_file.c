/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's memory and registers as an ELF core file, for gdb, crash and drgn. */
#include "machine/core_file.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/write_all.h"
#include "machine/core_mappings.h"

#define PAGE UINT64_C(4096)
#define MAPPINGS_MAX 60000u /* segments that e_phnum can count, with room for the others */
#define VMCOREINFO_NAME "VMCOREINFO"
#define VMCOREINFO_BYTES_MAX (16u * PAGE)

struct notes {
	uint8_t *bytes;
	size_t count, room;
};

static bool add_note(struct notes *notes, const char *name, uint32_t type, const void *data, size_t bytes)
{
	size_t name_bytes = strlen(name) + 1, name_room = (name_bytes + 3) & ~(size_t)3,
	       room = (bytes + 3) & ~(size_t)3;
	size_t needed = notes->count + sizeof(Elf64_Nhdr) + name_room + room;
	const Elf64_Nhdr header = {.n_namesz = (Elf64_Word)name_bytes, .n_descsz = (Elf64_Word)bytes, .n_type = type};
	uint8_t *more = realloc(notes->bytes, needed);

	if (!more)
		return false;
	notes->bytes = more;
	memset(more + notes->count, 0, needed - notes->count);
	memcpy(more + notes->count, &header, sizeof header);
	memcpy(more + notes->count + sizeof header, name, name_bytes);
	memcpy(more + notes->count + sizeof header + name_room, data, bytes);
	notes->count = needed;
	return true;
}

/* The general registers in the order of struct user_regs_struct. */
static bool add_vcpu(struct notes *notes, const struct core_vcpu *vcpu, unsigned number)
{
	const struct kvm_regs *r = &vcpu->regs;
	const struct kvm_sregs *s = &vcpu->sregs;
	const uint64_t registers[] = {
	    r->r15,     r->r14,     r->r13,         r->r12,         r->rbp,         r->rbx,        r->r11,
	    r->r10,     r->r9,      r->r8,          r->rax,         r->rcx,         r->rdx,        r->rsi,
	    r->rdi,     UINT64_MAX, r->rip,         s->cs.selector, r->rflags,      r->rsp,        s->ss.selector,
	    s->fs.base, s->gs.base, s->ds.selector, s->es.selector, s->fs.selector, s->gs.selector};
	struct elf_prstatus status = {.pr_pid = (pid_t)number + 1};

	_Static_assert(sizeof registers == sizeof status.pr_reg, "general registers");
	memcpy(status.pr_reg, registers, sizeof registers);
	return add_note(notes, "CORE", NT_PRSTATUS, &status, sizeof status);
}

/* The kernel keeps its note ready for a crash kernel, in the form that it has in a core file. */
static const char *find_vmcoreinfo(const struct riffle_ram *ram, size_t *bytes)
{
	const char *at = ram->host, *end = at + ram->bytes, *found;

	while ((found = memmem(at, (size_t)(end - at), VMCOREINFO_NAME, sizeof VMCOREINFO_NAME))) {
		size_t offset = (size_t)(found - (const char *)ram->host);
		Elf64_Nhdr header;

		at = found + 1;
		if (offset < sizeof header || offset % 4)
			continue;
		memcpy(&header, found - sizeof header, sizeof header);
		const char *text = found + ((sizeof VMCOREINFO_NAME + 3) & ~(size_t)3);

		if (header.n_namesz != sizeof VMCOREINFO_NAME || header.n_type || !header.n_descsz ||
		    header.n_descsz > VMCOREINFO_BYTES_MAX || (size_t)(end - text) < header.n_descsz ||
		    strncmp(text, "OSRELEASE=", 10) != 0)
			continue;
		*bytes = header.n_descsz;
		return text;
	}
	return NULL;
}

static int put_at(int fd, const void *data, size_t bytes, uint64_t offset, struct riffle_error *error)
{
	if (!riffle_write_at(fd, data, bytes, offset))
		return riffle_fail_system(error, errno, "output", "cannot be written");
	return 0;
}

/* Pages of zeros stay holes; others go out in runs. */
static int put_ram(int fd, const struct riffle_ram *ram, uint64_t offset, struct riffle_error *error)
{
	const uint8_t *from = ram->host;

	for (uint64_t at = 0; at < ram->bytes;) {
		uint64_t end = at;

		if (guest_page_is_zero(from + at)) {
			at += PAGE;
			continue;
		}
		while (end < ram->bytes && end - at < (1 << 20) && !guest_page_is_zero(from + end))
			end += PAGE;
		int status = put_at(fd, from + at, end - at, offset + at, error);

		if (status)
			return status;
		at = end;
	}
	return 0;
}

/* Where a physical address lies in the file, whose RAM follows at `ram_at`. */
static uint64_t offset_of(const struct guest_memory *memory, uint64_t ram_at, uint64_t physical)
{
	for (size_t i = 0; i < memory->count; i++) {
		if (physical - memory->ram[i].address < memory->ram[i].bytes)
			return ram_at + (physical - memory->ram[i].address);
		ram_at += memory->ram[i].bytes;
	}
	return ram_at;
}

/* The first vCPU that has page tables: one that was never started has none. */
static size_t find_mappings(const struct core_source *source, struct core_mapping *found)
{
	size_t count = 0;

	for (unsigned i = 0; !count && i < source->vcpu_count; i++)
		count = core_mappings_find(&source->memory, &source->vcpus[i].sregs, found, MAPPINGS_MAX);
	return count;
}

static int put_headers(int fd, const struct core_source *source, const struct notes *notes,
		       const struct core_mapping *mapping, size_t mappings, uint64_t *ram_at,
		       struct riffle_error *error)
{
	size_t count = 1 + source->memory.count + mappings;
	Elf64_Phdr *segments = calloc(count, sizeof *segments), *next = segments;
	const Elf64_Ehdr header = {
	    .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
	    .e_type = ET_CORE,
	    .e_machine = EM_X86_64,
	    .e_version = EV_CURRENT,
	    .e_phoff = sizeof header,
	    .e_ehsize = sizeof header,
	    .e_phentsize = sizeof *segments,
	    .e_phnum = (Elf64_Half)count,
	};
	uint64_t notes_at = sizeof header + count * sizeof *segments, at;

	if (!segments)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "segments", "need more memory than there is");
	at = *ram_at = (notes_at + notes->count + PAGE - 1) & ~(PAGE - 1);
	*next++ = (Elf64_Phdr){.p_type = PT_NOTE, .p_offset = notes_at, .p_filesz = notes->count, .p_align = 4};
	for (size_t i = 0; i < source->memory.count; i++) {
		const struct riffle_ram *ram = &source->memory.ram[i];

		*next++ = (Elf64_Phdr){.p_type = PT_LOAD,
				       .p_flags = PF_R | PF_W | PF_X,
				       .p_offset = at,
				       .p_vaddr = ram->address,
				       .p_paddr = ram->address,
				       .p_filesz = ram->bytes,
				       .p_memsz = ram->bytes};
		at += ram->bytes;
	}
	for (size_t i = 0; i < mappings; i++)
		*next++ = (Elf64_Phdr){.p_type = PT_LOAD,
				       .p_flags = PF_R | PF_W | PF_X,
				       .p_offset = offset_of(&source->memory, *ram_at, mapping[i].physical),
				       .p_vaddr = mapping[i].address,
				       .p_paddr = mapping[i].physical,
				       .p_filesz = mapping[i].bytes,
				       .p_memsz = mapping[i].bytes};
	int status = put_at(fd, &header, sizeof header, 0, error);

	if (!status)
		status = put_at(fd, segments, count * sizeof *segments, sizeof header, error);
	if (!status)
		status = put_at(fd, notes->bytes, notes->count, notes_at, error);
	free(segments);
	return status;
}

static bool make_notes(struct notes *notes, const struct core_source *source, struct core_result *result)
{
	const char *text = NULL;
	size_t bytes = 0;

	for (unsigned i = 0; i < source->vcpu_count; i++)
		if (!add_vcpu(notes, &source->vcpus[i], i))
			return false;
	for (size_t i = 0; !text && i < source->memory.count; i++)
		text = find_vmcoreinfo(&source->memory.ram[i], &bytes);
	result->vmcoreinfo = text != NULL;
	return !text || add_note(notes, VMCOREINFO_NAME, 0, text, bytes);
}

int core_file_write(int fd, const struct core_source *source, struct core_result *result, struct riffle_error *error)
{
	struct core_mapping *mapping = malloc(MAPPINGS_MAX * sizeof *mapping);
	struct notes notes = {0};
	uint64_t at = 0;
	int status = 0;

	if (!mapping || !make_notes(&notes, source, result))
		status = riffle_fail(error, RIFFLE_ERR_MEMORY, "notes", "need more memory than there is");
	if (!status) {
		result->mappings = (unsigned)find_mappings(source, mapping);
		status = put_headers(fd, source, &notes, mapping, result->mappings, &at, error);
	}
	for (size_t i = 0; !status && i < source->memory.count; i++) {
		status = put_ram(fd, &source->memory.ram[i], at, error);
		at += source->memory.ram[i].bytes;
	}
	/* also where the memory ends with zeros */
	if (!status && ftruncate(fd, (off_t)at) < 0)
		status = riffle_fail_system(error, errno, "output", "cannot be extended");
	free(mapping);
	free(notes.bytes);
	return status;
}

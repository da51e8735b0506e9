/* SPDX-License-Identifier: Apache-2.0 */
/* All code of a kernel through objdump, once: an ELF of the code alone goes in, references and instruction starts come
 * out. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "prepare/verify/internal.h"

static int out_of_memory(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
}

/* Where the next bytes like those of LKGS with a register are (f2 0f 00 /6), in [bytes, end); NULL: nowhere. */
static const uint8_t *find_lkgs(const uint8_t *bytes, const uint8_t *end)
{
	while ((bytes = memmem(bytes, (size_t)(end - bytes), "\xf2\x0f\x00", 3)) && end - bytes > 3) {
		if (bytes[3] >> 3 == 0x1e)
			return bytes;
		bytes++;
	}
	return NULL;
}

static bool is_no_lkgs(const struct verify *v, const uint8_t *hit)
{
	for (uint32_t i = 0; i < v->no_lkgs_count; i++)
		if (v->no_lkgs[i] == hit - v->bytes)
			return true;
	return false;
}

/*
 * LKGS is newer than binutils 2.40, which loses step over it: to objdump it is a nop of its length. Where that turns
 * out to be part of other instructions (a distance and a lock prefix), it is left alone in the next pass.
 */
static void write_code(const struct verify *v, const struct code *c, FILE *out)
{
	static const uint8_t nop4[] = {0x0f, 0x1f, 0x40, 0x00};
	const uint8_t *bytes = v->bytes + c->offset, *end = bytes + c->bytes, *hit;

	while ((hit = find_lkgs(bytes, end))) {
		fwrite(bytes, 1, (size_t)(hit - bytes), out);
		fwrite(is_no_lkgs(v, hit) ? hit : nop4, 1, 4, out);
		bytes = hit + 4;
	}
	fwrite(bytes, 1, (size_t)(end - bytes), out);
}

/* Adds those that no instruction began at, of what objdump has shown. True if there is one. */
static bool find_no_lkgs(struct verify *v)
{
	uint32_t before = v->no_lkgs_count;

	for (unsigned i = 0; i < v->code_count; i++) {
		const uint8_t *end = v->bytes + v->code[i].offset + v->code[i].bytes;
		const uint8_t *hit = v->bytes + v->code[i].offset;

		for (; (hit = find_lkgs(hit, end)); hit += 4) {
			uint32_t at = (uint32_t)(hit - v->bytes);

			if (at >= v->shown[i] || bit_get(v->start, at) || is_no_lkgs(v, hit))
				continue;
			if (v->no_lkgs_count < sizeof v->no_lkgs / sizeof *v->no_lkgs)
				v->no_lkgs[v->no_lkgs_count++] = at;
		}
	}
	return v->no_lkgs_count != before;
}

/*
 * objdump begins anew at each symbol, so that data between functions cannot put it out of step. Names would only make
 * its output longer: all are called "s".
 */
static int write_elf(const struct verify *v, FILE *out, struct riffle_error *error)
{
	static const char names[] = "\0s\0.c\0.symtab\0.strtab";
	unsigned sections = v->code_count + 3;
	Elf64_Ehdr header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			     .e_type = ET_EXEC,
			     .e_machine = EM_X86_64,
			     .e_version = EV_CURRENT,
			     .e_ehsize = sizeof header,
			     .e_shentsize = sizeof(Elf64_Shdr),
			     .e_shnum = (uint16_t)sections,
			     .e_shstrndx = (uint16_t)(sections - 1)};
	Elf64_Shdr section[CODE_MAX + 3] = {0};
	Elf64_Sym none = {0};
	uint64_t at = sizeof header;
	uint32_t symbols = 1;

	for (unsigned i = 0; i < v->code_count; i++) {
		section[i + 1] = (Elf64_Shdr){.sh_name = 3,
					      .sh_type = SHT_PROGBITS,
					      .sh_flags = SHF_ALLOC | SHF_EXECINSTR,
					      .sh_addr = v->code[i].address,
					      .sh_offset = at,
					      .sh_size = v->code[i].bytes,
					      .sh_addralign = 1};
		at += v->code[i].bytes;
	}
	fseek(out, (long)sizeof header, SEEK_SET);
	for (unsigned i = 0; i < v->code_count; i++)
		write_code(v, &v->code[i], out);
	fwrite(&none, sizeof none, 1, out);
	for (unsigned i = 0; i < v->code_count; i++) {
		const struct code *c = &v->code[i];

		for (uint32_t k = 0; k < v->symbol_count + v->restart_count; k++) {
			uint32_t offset = k < v->symbol_count ? v->symbol[k].offset : v->restart[k - v->symbol_count];
			Elf64_Sym symbol = {.st_name = 1,
					    .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE),
					    .st_shndx = (uint16_t)(i + 1),
					    .st_value = v->link_virt + offset};

			if (offset - c->offset >= c->bytes)
				continue;
			fwrite(&symbol, sizeof symbol, 1, out);
			symbols++;
		}
	}
	section[sections - 2] = (Elf64_Shdr){.sh_name = 6,
					     .sh_type = SHT_SYMTAB,
					     .sh_offset = at,
					     .sh_size = symbols * sizeof none,
					     .sh_link = sections - 1,
					     .sh_info = 1,
					     .sh_addralign = 1,
					     .sh_entsize = sizeof none};
	at += section[sections - 2].sh_size;
	section[sections - 1] = (Elf64_Shdr){
	    .sh_name = 14, .sh_type = SHT_STRTAB, .sh_offset = at, .sh_size = sizeof names, .sh_addralign = 1};
	fwrite(names, 1, sizeof names, out);
	header.e_shoff = at + sizeof names;
	fwrite(section, sizeof *section, sections, out);
	fseek(out, 0, SEEK_SET);
	fwrite(&header, sizeof header, 1, out);
	return fflush(out) || ferror(out) ? riffle_fail_system(error, errno, "objdump", "cannot be given its input")
					  : 0;
}

static int start_objdump(pid_t *child, int in, FILE **from, struct riffle_error *error)
{
	char name[] = "objdump", all[] = "-dzw", bare[] = "--no-show-raw-insn", path[] = "/proc/self/fd/3";
	char *const argv[] = {name, all, bare, path, NULL};
	char where[] = "PATH=/usr/local/bin:/usr/bin:/bin", words[] = "LC_ALL=C";
	char *const environment[] = {where, words, NULL};
	posix_spawn_file_actions_t actions;
	int pipe_fd[2], rc;

	if (pipe2(pipe_fd, O_CLOEXEC))
		return riffle_fail_system(error, errno, "objdump", "cannot be given a pipe");
	rc = posix_spawn_file_actions_init(&actions);
	if (!rc) {
		if (!(rc = posix_spawn_file_actions_adddup2(&actions, pipe_fd[1], 1)) &&
		    !(rc = posix_spawn_file_actions_adddup2(&actions, in, 3)))
			rc = posix_spawnp(child, name, &actions, NULL, argv, environment);
		posix_spawn_file_actions_destroy(&actions);
	}
	close(pipe_fd[1]);
	if (rc) {
		close(pipe_fd[0]);
		return riffle_fail_system(error, rc, "objdump", "could not be started; is binutils installed?");
	}
	*from = fdopen(pipe_fd[0], "r");
	return *from ? 0 : out_of_memory(error);
}

static uint32_t target_of(const struct verify *v, uint64_t address, uint32_t field)
{
	uint32_t target;

	if (verify_offset(v, address, &target))
		return target;
	return verify_is_inverse(v, field) ? TARGET_STAYS : TARGET_IMAGE;
}

static bool field_of_branch(const uint8_t *bytes, uint32_t length, int64_t distance, struct ref *ref)
{
	if (length >= 5 && (int32_t)riffle_get32(bytes + length - 4) == distance) {
		ref->field += length - 4;
		ref->kind = REF_PC32;
		return true;
	}
	if (length < 2 || (int8_t)bytes[length - 1] != distance)
		return false;
	ref->field += length - 1;
	ref->kind = REF_PC8;
	return true;
}

/* The 32-bit displacement stands behind a ModRM byte for %rip, and only an immediate may follow it. */
static bool field_of_rip(const uint8_t *bytes, uint32_t length, int64_t displacement, struct ref *ref)
{
	for (uint32_t at = 2; at + 4 <= length; at++) {
		uint32_t behind = length - at - 4;

		if ((bytes[at - 1] & 0xc7) == 5 && (int32_t)riffle_get32(bytes + at) == displacement &&
		    (behind <= 2 || behind == 4)) {
			ref->field += at;
			ref->kind = REF_PC32;
			return true;
		}
	}
	return false;
}

/* asm/emulate_prefix.h: ud2 and three letters before an instruction that a hypervisor is to emulate. */
static bool is_emulate_prefix(const struct verify *v, uint32_t offset)
{
	const uint8_t *bytes = v->bytes + offset;

	return offset >= 2 && v->image_bytes - offset >= 3 && bytes[-2] == 0x0f && bytes[-1] == 0x0b &&
	       (!memcmp(bytes, "xen", 3) || !memcmp(bytes, "kvm", 3));
}

/* One instruction from `offset` to `end`. */
static int take(struct verify *v, const struct objdump_line *line, uint32_t offset, uint32_t end, uint8_t part,
		struct riffle_error *error)
{
	struct ref ref = {.field = offset, .part = part, .rank = RANK_OBJDUMP};
	uint64_t next = v->link_virt + end;
	bool found;

	bit_set(v->start, offset);
	if (line->stops)
		bit_set(v->stop, offset);
	if (line->padding)
		bit_set(v->padding, offset);
	if ((!line->branch && !line->rip) || is_emulate_prefix(v, offset))
		return 0;
	if (line->branch)
		found = field_of_branch(v->bytes + offset, end - offset, (int64_t)(line->target - next), &ref);
	else
		found = line->target == next + (uint64_t)line->displacement &&
			field_of_rip(v->bytes + offset, end - offset, line->displacement, &ref);
	if (!found)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "objdump",
					 "shows an instruction whose operand is not among its bytes",
					 v->link_virt + offset);
	ref.target = target_of(v, line->target, ref.field);
	return verify_add_ref(v, &ref, error);
}

/* The length of an instruction is known when the next line comes. */
static int read_lines(struct verify *v, FILE *from, uint8_t part, verify_progress *progress, void *opaque,
		      struct riffle_error *error)
{
	struct objdump_line line = {0}, next;
	uint64_t all = 0, done = 0;
	const struct code *code = NULL;
	uint32_t offset = 0;
	size_t room = 0;
	char *text = NULL;
	int status = 0;

	for (unsigned i = 0; i < v->code_count; i++)
		all += v->code[i].bytes;
	while (!status) {
		bool more = getline(&text, &room, from) > 0;
		uint32_t at = 0;

		if (more && !verify_parse_line(&next, text))
			continue;
		if (more && !verify_offset(v, next.address, &at))
			status = riffle_fail_found(error, RIFFLE_ERR_FORMAT, "objdump",
						   "names a place outside the image", next.address);
		if (code && !status) {
			bool same = more && at > offset && at - code->offset < code->bytes;
			uint32_t end = same ? at : code->offset + code->bytes;

			status = take(v, &line, offset, end, part, error);
			v->shown[code - v->code] = end;
			if (progress && (done ^ (done + end - offset)) >> 18)
				progress(opaque, done, all);
			done += end - offset;
		}
		if (!more)
			break;
		if (!code || at - code->offset >= code->bytes)
			for (unsigned i = 0; i < v->code_count; i++)
				if (at - v->code[i].offset < v->code[i].bytes)
					code = &v->code[i];
		line = next;
		offset = at;
	}
	free(text);
	if (!status && done != all)
		status =
		    riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "objdump", "did not decode all code", done, all);
	if (progress)
		progress(opaque, all, all);
	return status;
}

static int run_objdump(struct verify *v, uint8_t part, verify_progress *progress, void *opaque,
		       struct riffle_error *error)
{
	int fd = memfd_create("riffle-code", MFD_CLOEXEC), copy, status, ended = 0;
	FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL, *from = NULL;
	pid_t child;

	if (!out) {
		if (fd >= 0)
			close(fd);
		return out_of_memory(error);
	}
	status = write_elf(v, out, error);
	/* posix_spawn clears close-on-exec by a dup2 to another number only */
	copy = status ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 10);
	if (!status && copy < 0)
		status = riffle_fail_system(error, errno, "objdump", "cannot be given its input");
	if (!status)
		status = start_objdump(&child, copy, &from, error);
	fclose(out);
	if (copy >= 0)
		close(copy);
	if (status)
		return status;
	status = read_lines(v, from, part, progress, opaque, error);
	fclose(from);
	while (waitpid(child, &ended, 0) < 0 && errno == EINTR)
		;
	if (!status && (!WIFEXITED(ended) || WEXITSTATUS(ended)))
		status = riffle_fail(error, RIFFLE_ERR_IO, "objdump", "failed");
	return status;
}

/*
 * lld fills holes between input sections with zeros among int3. objdump reads two zeros as one instruction, and where
 * they are of an odd number it falls out of step with what follows, which may be code without a name: a weak function
 * that was overridden. A hole lies behind an instruction that control does not run past, and ends at a multiple of 16.
 * Adds a restart for each that objdump stepped across.
 */
static int restart_behind_holes(struct verify *v, struct riffle_error *error)
{
	for (unsigned i = 0; i < v->code_count; i++) {
		uint32_t at = v->code[i].offset, end = at + v->code[i].bytes;
		uint32_t next, behind, *more;

		for (; at < end; at = next) {
			for (next = at + 1; next < end && !bit_get(v->start, next);)
				next++;
			if (!bit_get(v->stop, at))
				continue;
			for (behind = next; behind < end && verify_is_hole(v->bytes[behind]);)
				behind++;
			behind = behind / RIFFLE_CHUNK_ALIGN * RIFFLE_CHUNK_ALIGN;
			if (behind <= next)
				continue;
			next = behind;
			if (behind == end || bit_get(v->start, behind))
				continue;
			more = reallocarray(v->restart, (size_t)v->restart_count + 1, sizeof *more);
			if (!more)
				return out_of_memory(error);
			v->restart = more;
			v->restart[v->restart_count++] = behind;
		}
	}
	return 0;
}

/* Out of step behind one hole it may not have seen the next, so it reads all again, as often as there are holes to
 * mend, or LKGS that is none. */
#define PASSES_MAX 8

int verify_disassemble(struct verify *v, verify_progress *progress, void *opaque, struct riffle_error *error)
{
	size_t known = v->ref_count, bits = v->image_bytes / 8 + 1;
	bool again = true;
	uint32_t restarts;
	uint8_t part;
	int status = verify_new_part(v, "code", 0, 0, &part, error);

	v->start = malloc(bits);
	v->stop = malloc(bits);
	v->padding = malloc(bits);
	if (!v->start || !v->stop || !v->padding)
		return out_of_memory(error);
	for (unsigned pass = 0; pass < PASSES_MAX && !status && again; pass++) {
		memset(v->start, 0, bits);
		memset(v->stop, 0, bits);
		memset(v->padding, 0, bits);
		memset(v->shown, 0, sizeof v->shown);
		v->ref_count = known;
		v->part[part].fields = 0;
		restarts = v->restart_count;
		status = run_objdump(v, part, progress, opaque, error);
		again = find_no_lkgs(v);
		if (again && pass + 1 < PASSES_MAX) /* whatever the error, it may be due to that */
			status = 0;
		else if (!status)
			status = restart_behind_holes(v, error);
		again |= restarts != v->restart_count;
	}
	return status;
}

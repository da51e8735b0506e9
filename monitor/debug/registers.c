/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's registers as gdb knows them: one file of bytes, its description, and the way from and to KVM's structures.
 */
#include "monitor/debug/registers.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define GENERAL 16u
#define SEGMENTS 6u
#define FPU_WORDS 8u
#define VECTORS 16u
#define BASES 3u
#define CONTROLS 6u
#define REGISTERS (GENERAL + 2 + SEGMENTS + 8 + FPU_WORDS + VECTORS + 1 + BASES + CONTROLS)

#define EFLAGS_AT (17u * 8)
#define FPU_AT (EFLAGS_AT + 7 * 4)
#define FPU_WORDS_AT (FPU_AT + 8 * 10)
#define VECTORS_AT (FPU_WORDS_AT + FPU_WORDS * 4)
#define MXCSR_AT (VECTORS_AT + VECTORS * 16)
#define BASES_AT (MXCSR_AT + 4)

static const char *const general_names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
					    "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const segment_names[] = {"cs", "ss", "ds", "es", "fs", "gs"};
static const char *const fpu_names[] = {"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"};
static const char *const base_names[] = {"fs_base", "gs_base", "k_gs_base"};
static const char *const control_names[] = {"cr0", "cr2", "cr3", "cr4", "cr8", "efer"};

static void general_pointers(struct kvm_regs *regs, __u64 *pointers[GENERAL])
{
	__u64 *const in_order[GENERAL] = {&regs->rax, &regs->rbx, &regs->rcx, &regs->rdx, &regs->rsi, &regs->rdi,
					  &regs->rbp, &regs->rsp, &regs->r8,  &regs->r9,  &regs->r10, &regs->r11,
					  &regs->r12, &regs->r13, &regs->r14, &regs->r15};

	memcpy(pointers, in_order, sizeof in_order);
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof value);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof value);
	return value;
}

/* FXSAVE keeps a bit for each register of the stack that is in use; gdb wants two, 3 for empty. */
static uint32_t full_tags(uint8_t in_use)
{
	uint32_t tags = 0;

	for (unsigned i = 0; i < 8; i++)
		tags |= in_use >> i & 1 ? 0 : 3u << 2 * i;
	return tags;
}

static uint8_t short_tags(uint32_t tags)
{
	uint8_t in_use = 0;

	for (unsigned i = 0; i < 8; i++)
		in_use = (uint8_t)(in_use | ((tags >> 2 * i & 3) != 3) << i);
	return in_use;
}

void registers_collect(struct register_file *file, const struct register_sources *sources)
{
	const struct kvm_sregs *s = &sources->sregs;
	const struct kvm_fpu *fpu = &sources->fpu;
	const uint16_t selectors[SEGMENTS] = {s->cs.selector, s->ss.selector, s->ds.selector,
					      s->es.selector, s->fs.selector, s->gs.selector};
	const uint32_t words[FPU_WORDS] = {fpu->fcw,
					   fpu->fsw,
					   full_tags(fpu->ftwx),
					   (uint32_t)(fpu->last_ip >> 32),
					   (uint32_t)fpu->last_ip,
					   (uint32_t)(fpu->last_dp >> 32),
					   (uint32_t)fpu->last_dp,
					   fpu->last_opcode};
	const uint64_t wide[BASES + CONTROLS] = {
	    s->fs.base, s->gs.base, sources->kernel_gs_base, s->cr0, s->cr2, s->cr3, s->cr4, s->cr8, s->efer};
	struct kvm_regs regs = sources->regs;
	__u64 *general[GENERAL];

	general_pointers(&regs, general);
	for (unsigned i = 0; i < GENERAL; i++)
		memcpy(file->bytes + 8 * i, general[i], 8);
	memcpy(file->bytes + 8 * GENERAL, &regs.rip, 8);
	put32(file->bytes + EFLAGS_AT, (uint32_t)regs.rflags);
	for (unsigned i = 0; i < SEGMENTS; i++)
		put32(file->bytes + EFLAGS_AT + 4 + 4 * i, selectors[i]);
	for (unsigned i = 0; i < 8; i++)
		memcpy(file->bytes + FPU_AT + 10 * i, fpu->fpr[i], 10);
	for (unsigned i = 0; i < FPU_WORDS; i++)
		put32(file->bytes + FPU_WORDS_AT + 4 * i, words[i]);
	memcpy(file->bytes + VECTORS_AT, fpu->xmm, sizeof fpu->xmm);
	put32(file->bytes + MXCSR_AT, fpu->mxcsr);
	memcpy(file->bytes + BASES_AT, wide, sizeof wide);
}

void registers_spread(const struct register_file *file, struct register_sources *sources)
{
	struct kvm_fpu *fpu = &sources->fpu;
	__u64 *general[GENERAL];

	general_pointers(&sources->regs, general);
	for (unsigned i = 0; i < GENERAL; i++)
		memcpy(general[i], file->bytes + 8 * i, 8);
	memcpy(&sources->regs.rip, file->bytes + 8 * GENERAL, 8);
	sources->regs.rflags = get32(file->bytes + EFLAGS_AT);
	for (unsigned i = 0; i < 8; i++)
		memcpy(fpu->fpr[i], file->bytes + FPU_AT + 10 * i, 10);
	fpu->fcw = (uint16_t)get32(file->bytes + FPU_WORDS_AT);
	fpu->fsw = (uint16_t)get32(file->bytes + FPU_WORDS_AT + 4);
	fpu->ftwx = short_tags(get32(file->bytes + FPU_WORDS_AT + 8));
	memcpy(fpu->xmm, file->bytes + VECTORS_AT, sizeof fpu->xmm);
	fpu->mxcsr = get32(file->bytes + MXCSR_AT);
}

bool registers_find(unsigned number, size_t *offset, size_t *bytes)
{
	static const struct {
		unsigned count;
		size_t bytes;
	} runs[] = {{GENERAL + 1, 8}, {1 + SEGMENTS, 4},    {8, 10}, {FPU_WORDS, 4}, {VECTORS, 16},
		    {1, 4},           {BASES + CONTROLS, 8}};

	*offset = 0;
	for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
		if (number < runs[i].count) {
			*offset += number * runs[i].bytes;
			*bytes = runs[i].bytes;
			return true;
		}
		number -= runs[i].count;
		*offset += runs[i].count * runs[i].bytes;
	}
	return false;
}

/* A text that grows in a buffer that is large enough for all of it. */
struct text {
	char *at, *end;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int bytes = vsnprintf(text->at, (size_t)(text->end - text->at), format, arguments);

	va_end(arguments);
	text->at += bytes < text->end - text->at ? bytes : text->end - text->at - 1;
}

static void add_registers(struct text *text, const char *const *names, size_t count, unsigned bits, const char *type,
			  const char *group)
{
	for (size_t i = 0; i < count; i++)
		add(text, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"%s%s%s/>", names[i], bits, type,
		    group ? " group=\"" : "", group ? group : "", group ? "\"" : "");
}

static void add_numbered(struct text *text, const char *name, unsigned count, unsigned bits, const char *type)
{
	for (unsigned i = 0; i < count; i++)
		add(text, "<reg name=\"%s%u\" bitsize=\"%u\" type=\"%s\"/>", name, i, bits, type);
}

const char *registers_description(void)
{
	static char description[8192];
	struct text text = {description, description + sizeof description};

	if (description[0])
		return description;
	add(&text, "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
		   "<architecture>i386:x86-64</architecture>");
	add(&text, "<feature name=\"org.gnu.gdb.i386.core\">");
	add_registers(&text, general_names, 6, 64, "int64", NULL);
	add_registers(&text, general_names + 6, 2, 64, "data_ptr", NULL);
	add_registers(&text, general_names + 8, 8, 64, "int64", NULL);
	add(&text,
	    "<reg name=\"rip\" bitsize=\"64\" type=\"code_ptr\"/><reg name=\"eflags\" bitsize=\"32\" type=\"int32\"/>");
	add_registers(&text, segment_names, SEGMENTS, 32, "int32", NULL);
	add_numbered(&text, "st", 8, 80, "i387_ext");
	add_registers(&text, fpu_names, FPU_WORDS, 32, "int32", "float");
	add(&text, "</feature><feature name=\"org.gnu.gdb.i386.sse\">"
		   "<vector id=\"v16\" type=\"uint8\" count=\"16\"/>");
	add_numbered(&text, "xmm", VECTORS, 128, "v16");
	add(&text, "<reg name=\"mxcsr\" bitsize=\"32\" type=\"int32\" group=\"vector\"/>"
		   "</feature><feature name=\"org.gnu.gdb.i386.segments\">");
	add_registers(&text, base_names, 2, 64, "int64", NULL);
	add(&text, "</feature><feature name=\"org.riffle.system\">");
	add_registers(&text, base_names + 2, 1, 64, "int64", "system");
	add_registers(&text, control_names, CONTROLS, 64, "int64", "system");
	add(&text, "</feature></target>");
	return description;
}

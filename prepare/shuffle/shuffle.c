/* SPDX-License-Identifier: Apache-2.0 */
/* Analyses a kernel step by step: flat image, symbols, sections; code, tables, chunks, references and their proof. */
#include <elf.h>
#include <stdlib.h>

#include "prepare/shuffle/debug.h"
#include "prepare/shuffle/internal.h"
#include "prepare/shuffle/slides.h"
#include "prepare/symbols/kallsyms.h"

#define CODE_SECTIONS_MAX 32u

static int out_of_memory(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_MEMORY, "analysis", "out of memory");
}

static int make_flat(struct work *work, struct riffle_error *error)
{
	const struct riffle_image *image = work->image;

	if (!image->image_bytes || image->image_bytes > RIFFLE_IMAGE_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "image", "is empty or too large",
					    image->image_bytes, RIFFLE_IMAGE_MAX);
	work->image_bytes = (uint32_t)image->image_bytes;
	work->link_virt = image->link_virt;
	work->bytes = calloc(work->image_bytes, 1);
	work->start = calloc(work->image_bytes / 8 + 1, 1);
	if (!work->bytes || !work->start)
		return out_of_memory(error);
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *segment = &image->segment[i];
		uint64_t offset = segment->phys - image->link_phys;

		if (!riffle_inside(offset, segment->file_bytes, work->image_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "segment", "lies outside the image", i);
		memcpy(work->bytes + offset, segment->bytes, segment->file_bytes);
	}
	return 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct work_symbol *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : strcmp(x->name, y->name);
}

static int make_symbol_room(struct work *work, uint32_t count, struct riffle_error *error)
{
	work->symbol = calloc((size_t)count + 1, sizeof *work->symbol);
	return work->symbol ? 0 : out_of_memory(error);
}

/* Numbers and percpu offsets are no places; all else in the image is. */
static void add_symbol(struct work *work, uint64_t address, uint64_t bytes, char type, const char *name)
{
	uint32_t offset;

	if (type == 'a' || type == 'A' || !work_offset(work, address, &offset))
		return;
	work->symbol[work->symbol_count++] =
	    (struct work_symbol){offset, bytes > work->image_bytes ? 0 : (uint32_t)bytes, type, name};
}

static int symbols_of_debug(struct work *work, struct riffle_error *error)
{
	const struct shuffle_debug *debug = work->debug;
	int status = make_symbol_room(work, debug->symbol_count, error);

	for (uint32_t i = 0; i < debug->symbol_count && !status; i++) {
		const struct debug_symbol *symbol = &debug->symbol[i];

		if (symbol->type != STT_SECTION && symbol->type != STT_FILE && symbol->section != SHN_UNDEF &&
		    symbol->name[0])
			add_symbol(work, symbol->address, symbol->bytes, symbol->letter, symbol->name);
	}
	return status;
}

/* Finds kallsyms, which is also to be put right; a kernel that has none is no error. */
static int find_kallsyms(struct work *work, struct kallsyms_place *place, struct riffle_error *error)
{
	struct shuffle_kallsyms *k = &work->result->kallsyms;
	struct riffle_error why;
	int status = kallsyms_find(place, work->bytes, work->image_bytes, work->link_virt, &why);

	if (status == RIFFLE_ERR_MEMORY)
		*error = why;
	if (status)
		return status == RIFFLE_ERR_MEMORY ? status : RIFFLE_OK;
	*k = (struct shuffle_kallsyms){
	    .present = true,
	    .self_relative = place->self_relative,
	    .absolute_percpu = place->absolute_percpu,
	    .count = place->count,
	    .offsets = (uint32_t)place->offsets,
	    .names = (uint32_t)place->names,
	    .names_bytes = (uint32_t)place->names_bytes,
	    .markers = (uint32_t)place->markers,
	    .seqs = (uint32_t)place->seqs,
	    .relative_base = place->relative_base,
	};
	return RIFFLE_OK;
}

static void add_kallsyms_symbol(void *opaque, uint64_t address, char type, const char *name)
{
	add_symbol(opaque, address, 0, type, name);
}

static int symbols_of_kallsyms(struct work *work, const struct kallsyms_place *place, struct riffle_error *error)
{
	int status = make_symbol_room(work, place->count, error);

	return status ? status
		      : kallsyms_read(&work->kallsyms_names, place, work->bytes, work->image_bytes, work->link_virt,
				      add_kallsyms_symbol, work, error);
}

/* A sort takes as much memory again, and kallsyms is sorted but for aliases. */
static void sort_symbols(struct work *work)
{
	for (uint32_t i = 1; i < work->symbol_count; i++)
		if (by_offset(&work->symbol[i - 1], &work->symbol[i]) > 0) {
			qsort(work->symbol, work->symbol_count, sizeof *work->symbol, by_offset);
			return;
		}
}

static int read_symbols(struct work *work, struct riffle_error *error)
{
	struct kallsyms_place place;
	int status = find_kallsyms(work, &place, error);

	if (status)
		return status;
	if (work->debug)
		status = symbols_of_debug(work, error);
	else if (work->result->kallsyms.present)
		status = symbols_of_kallsyms(work, &place, error);
	else
		status = riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "symbols",
				     "are missing: this kernel has no kallsyms and no debug vmlinux was given");
	if (!status)
		sort_symbols(work);
	return status;
}

static int add_code(struct work *work, const struct image_section *section, struct riffle_error *error)
{
	struct work_code *code = &work->code[work->code_count];
	uint32_t offset;

	if (!work_offset(work, section->address, &offset) || !riffle_inside(offset, section->bytes, work->image_bytes))
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "code section", "lies outside the image",
					 section->address);
	if (work->code_count == CODE_SECTIONS_MAX)
		return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "code sections", "are too many",
					 CODE_SECTIONS_MAX);
	for (unsigned i = 0; i < work->code_count; i++)
		if (offset < work->code[i].offset + work->code[i].bytes &&
		    work->code[i].offset < offset + section->bytes)
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "code section", "overlaps another",
						 section->address);
	*code = (struct work_code){section->name, offset, (uint32_t)section->bytes,
				   !strcmp(section->name, ".text") && !work->text_bytes};
	if (code->movable) {
		work->text = code->offset;
		work->text_bytes = code->bytes;
	}
	work->code_count++;
	return 0;
}

static int find_code(struct work *work, struct riffle_error *error)
{
	const struct riffle_image *image = work->image;
	int status = 0;

	work->code = calloc(CODE_SECTIONS_MAX + 1, sizeof *work->code);
	if (!work->code)
		return out_of_memory(error);
	for (unsigned i = 0; i < image->section_count && !status; i++) {
		const struct image_section *section = &image->section[i];

		if (IMAGE_IS_CODE(section->flags) && section->type == SHT_PROGBITS && section->bytes)
			status = add_code(work, section, error);
	}
	if (!status && !work->text_bytes)
		status = riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "section headers",
				     "name no .text: where the functions lie is not known");
	return status;
}

/* A function with such room in front of it that has no name of its own. */
static bool has_room(const struct work *work, uint32_t symbol)
{
	uint32_t offset = work->symbol[symbol].offset, at = offset;

	if (offset % SHUFFLE_ALIGN || !work_in_text(work, offset) || offset - work->text < WORK_ROOM_BYTES ||
	    (symbol && work->symbol[symbol - 1].offset >= offset - WORK_ROOM_BYTES))
		return false;
	while (at > offset - WORK_ROOM_BYTES && work->bytes[at - 1] == 0x90)
		at--;
	return at == offset - WORK_ROOM_BYTES;
}

/*
 * objtool names the room before a function __pfx_…, but not in kernels with kCFI, where compilers name it __cfi_… if
 * the function's address is taken. The kernel writes to the others' as well: poison_cfi() for each function whose ENDBR
 * it seals, whatever lies there (arch/x86/kernel/alternative.c). So that it goes with its function, it gets a name
 * here.
 */
int room_name(struct work *work, struct riffle_error *error)
{
	uint32_t count = 0, old = work->symbol_count;
	struct work_symbol *more;
	size_t bytes = 0;
	bool kcfi = false;
	char *name;

	for (uint32_t i = 0; i < old && !kcfi; i++)
		kcfi = !strncmp(work->symbol[i].name, "__cfi_", 6);
	if (!kcfi)
		return 0;
	for (uint32_t i = 0; i < old; i++)
		if (has_room(work, i)) {
			bytes += strlen(work->symbol[i].name) + sizeof "__pfx_";
			count++;
		}
	more = reallocarray(work->symbol, (size_t)old + count + 1, sizeof *more);
	if (!more)
		return out_of_memory(error);
	work->symbol = more;
	name = work->room_names = malloc(bytes + 1);
	if (!name)
		return out_of_memory(error);
	for (uint32_t i = 0; i < old; i++)
		if (has_room(work, i)) {
			more[work->symbol_count++] =
			    (struct work_symbol){more[i].offset - WORK_ROOM_BYTES, WORK_ROOM_BYTES, WORK_ROOM, name};
			name = stpcpy(stpcpy(name, "__pfx_"), more[i].name) + 1;
		}
	qsort(more, work->symbol_count, sizeof *more, by_offset);
	return 0;
}

/* kallsyms without CONFIG_KALLSYMS_ALL has hardly more than functions, with it a third is data; so are the ends of
 * tables. */
static bool knows_data(const struct work *work)
{
	uint32_t data = 0;

	for (uint32_t i = 0; i < work->symbol_count; i++)
		data += strchr("bBdDrR", work->symbol[i].type) != NULL;
	return data > work->symbol_count / 32;
}

static int run_steps(struct work *work, struct riffle_error *error)
{
	static int (*const step[])(struct work *, struct riffle_error *) = {
	    find_code,    room_name,      slides_find_blocks, code_decode, kallsyms_mode_find, tables_read,
	    chunks_build, judge_add_refs, refs_finish,        census_take, judge_by_rela,      slides_finish,
	};
	int status = make_flat(work, error);

	if (!status)
		status = read_symbols(work, error);
	for (unsigned i = 0; i < sizeof step / sizeof *step && !status; i++)
		status = step[i](work, error);
	/* what was found missing first would lead nobody to the cause */
	if (status == RIFFLE_ERR_UNSUPPORTED && !work->debug && work->symbol_count && !knows_data(work))
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "symbols",
				   "of data are missing: this kernel was built without CONFIG_KALLSYMS_ALL, and no "
				   "debug vmlinux was given");
	return status;
}

static int analyse(struct shuffle **shuffle, struct work *work, struct riffle_error *error)
{
	int status;

	*shuffle = NULL;
	work->result = calloc(1, sizeof *work->result);
	if (!work->result)
		return out_of_memory(error);
	status = run_steps(work, error);
	work->result->owned = work->range_names;
	free(work->kallsyms_names);
	free(work->bytes);
	free(work->start);
	free(work->symbol);
	free(work->room_names);
	free(work->code);
	free(work->unit);
	free(work->tie);
	free(work->ref);
	if (status)
		shuffle_free(work->result);
	else
		*shuffle = work->result;
	return status;
}

int shuffle_analyse(struct shuffle **shuffle, const struct riffle_image *image, const struct shuffle_debug *debug,
		    struct riffle_error *error)
{
	return shuffle_analyse_without(shuffle, image, debug, 0, error);
}

int shuffle_analyse_without(struct shuffle **shuffle, const struct riffle_image *image,
			    const struct shuffle_debug *debug, uint64_t tables, struct riffle_error *error)
{
	struct work work = {.image = image, .debug = debug, .tables_ignored = tables};

	return analyse(shuffle, &work, error);
}

int shuffle_probe_slides(struct shuffle **shuffle, const struct riffle_image *image, slides_told tell, void *opaque,
			 struct riffle_error *error)
{
	struct work work = {.image = image, .slides_tell = tell, .slides_opaque = opaque};

	return analyse(shuffle, &work, error);
}

void shuffle_free(struct shuffle *shuffle)
{
	if (!shuffle)
		return;
	free(shuffle->range);
	free(shuffle->ref);
	free(shuffle->slides.cross);
	free(shuffle->owned);
	free(shuffle);
}

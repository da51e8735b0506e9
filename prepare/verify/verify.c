/* SPDX-License-Identifier: Apache-2.0 */
/* Gathers what is known of a kernel, step by step: image, symbols, tables, its own list, objdump, .rela; then merged.
 */
#include <elf.h>
#include <stdlib.h>

#include "prepare/verify/internal.h"

static int make_flat(struct verify *v, struct riffle_error *error)
{
	const struct riffle_image *image = v->image;

	if (!image->image_bytes || image->image_bytes > RIFFLE_IMAGE_MAX)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "image", "is empty or too large",
					 image->image_bytes);
	v->image_bytes = (uint32_t)image->image_bytes;
	v->link_virt = image->link_virt;
	v->bytes = calloc((size_t)v->image_bytes + 8, 1); /* no field ends further behind */
	if (!v->bytes)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	for (unsigned i = 0; i < image->segment_count; i++) {
		const struct image_segment *s = &image->segment[i];
		uint64_t offset = s->phys - image->link_phys;

		if (!riffle_inside(offset, s->file_bytes, v->image_bytes))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "segment", "lies outside the image", i);
		memcpy(v->bytes + offset, s->bytes, s->file_bytes);
	}
	return 0;
}

static int find_code(struct verify *v, struct riffle_error *error)
{
	for (unsigned i = 0; i < v->image->section_count; i++) {
		const struct image_section *s = &v->image->section[i];
		uint32_t offset;

		if (!IMAGE_IS_CODE(s->flags) || s->type != SHT_PROGBITS || !s->bytes)
			continue;
		if (!verify_offset(v, s->address, &offset) || !riffle_inside(offset, s->bytes, v->image_bytes) ||
		    v->code_count == CODE_MAX)
			return riffle_fail_found(error, RIFFLE_ERR_UNSUPPORTED, "code section",
						 "lies outside the image, or is one too many", s->address);
		v->code[v->code_count++] = (struct code){s->name, offset, (uint32_t)s->bytes, s->address};
	}
	return v->code_count ? 0
			     : riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "section headers",
					   "are needed to find the code, and this kernel file has none");
}

/* Replacements of alternatives follow each other without symbols; each begins where its entry says. */
static int find_restarts(struct verify *v, struct riffle_error *error)
{
	v->restart = calloc(v->ref_count + 1, sizeof *v->restart);
	if (!v->restart)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	for (size_t i = 0; i < v->ref_count; i++)
		if (!strcmp(v->part[v->ref[i].part].name, ".altinstructions") && v->ref[i].target < TARGET_IMAGE)
			v->restart[v->restart_count++] = v->ref[i].target;
	return 0;
}

static int gather(struct verify *v, int debug_fd, verify_progress *progress, void *opaque, struct riffle_error *error)
{
	int status = make_flat(v, error);

	if (!status)
		status = find_code(v, error);
	if (!status)
		status = verify_find_names(v, error);
	if (!status)
		status = verify_read_tables(v, error);
	if (!status)
		status = find_restarts(v, error);
	if (!status)
		status = verify_add_list(v, error);
	if (!status)
		status = verify_disassemble(v, progress, opaque, error);
	if (!status)
		status = verify_find_mode(v, error);
	if (!status && debug_fd >= 0)
		status = verify_read_rela(v, debug_fd, error);
	return status ? status : verify_merge_refs(v, error);
}

int verify_open(struct verify **verify, const struct riffle_image *image, int debug_fd, verify_progress *progress,
		void *opaque, struct riffle_error *error)
{
	struct verify *v = calloc(1, sizeof *v);
	int status;

	*verify = NULL;
	if (!v)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	v->image = image;
	status = gather(v, debug_fd, progress, opaque, error);
	if (status)
		verify_close(v);
	else
		*verify = v;
	return status;
}

void verify_close(struct verify *v)
{
	if (!v)
		return;
	free(v->bytes);
	free(v->names.name);
	free(v->names.address);
	free(v->symbol);
	free(v->symbol_names);
	free(v->ref);
	free(v->start);
	free(v->stop);
	free(v->padding);
	free(v->restart);
	free(v);
}

unsigned verify_part_count(const struct verify *verify)
{
	return verify->part_count;
}

struct verify_part verify_part(const struct verify *verify, unsigned index)
{
	return (struct verify_part){verify->part[index].name, verify->part[index].fields};
}

struct verify_rela verify_rela(const struct verify *verify)
{
	return verify->rela;
}

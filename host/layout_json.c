/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and reads layout files (JSON by jansson). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "common/fail.h"
#include "common/hex.h"
#include "common/kernel_map.h"
#include "common/search.h"
#include "common/write_all.h"
#include "host/layout_json.h"

#define LAYOUT_FILE_MAX (8 << 20) /* 65,535 chunks at up to 40 bytes, and room */

static int take_memory(struct layout_file *file, uint32_t chunks, struct riffle_error *error)
{
	file->chunk = calloc(chunks, sizeof *file->chunk);
	file->by_place = calloc(chunks, sizeof *file->by_place);
	if (!file->chunk || !file->by_place) {
		layout_file_free(file);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout", "no memory for its chunks");
	}
	file->chunk_count = chunks;
	return RIFFLE_OK;
}

static int describe_chunks(struct layout_file *file, const struct riffle_layout *layout, const struct riffle_plan *plan,
			   struct riffle_error *error)
{
	int status = take_memory(file, plan->chunk_count, error);

	if (status)
		return status;
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		uint32_t at = r->image_offset;

		for (uint32_t k = r->first_chunk; k < r->first_chunk + r->chunk_count; k++) {
			const struct riffle_chunk *c = &plan->chunks[layout->order[k]];

			file->chunk[layout->order[k]] = (struct layout_chunk){c->image_offset, riffle_chunk_bytes(c),
									      (int32_t)(at - c->image_offset)};
			file->by_place[k] = layout->order[k];
			at += riffle_chunk_bytes(c);
		}
	}
	return RIFFLE_OK;
}

static void spell_digests(struct layout_file *file, const struct riffle_header *header)
{
	riffle_hex(file->content_digest, header->content_digest, sizeof header->content_digest);
	riffle_hex(file->source_digest, header->source_digest, sizeof header->source_digest);
	snprintf(file->shuffle_checksum, sizeof file->shuffle_checksum, "%016" PRIx64, header->shuffle_checksum);
}

int layout_file_describe(struct layout_file *file, const struct riffle_layout *layout, const struct riffle_plan *plan,
			 struct riffle_error *error)
{
	const struct riffle_header *header = plan->header;

	memset(file, 0, sizeof *file);
	file->layout = *layout;
	file->link_physical = header->link_phys;
	file->link_virtual = header->link_virt;
	file->image_bytes = header->image_bytes;
	memcpy(file->kernel_version, header->kernel_version, sizeof file->kernel_version);
	riffle_hex(file->build_id, header->build_id, header->build_id_bytes);
	spell_digests(file, header);
	for (uint32_t i = 0; i < layout->slide_count; i++)
		file->block[i] = plan->blocks[i].image_offset;
	return layout->mode == RIFFLE_MODE_FGKASLR ? describe_chunks(file, layout, plan, error) : RIFFLE_OK;
}

void layout_file_free(struct layout_file *file)
{
	free(file->chunk);
	free(file->by_place);
	file->chunk = NULL;
	file->by_place = NULL;
	file->chunk_count = 0;
}

bool layout_file_is_for(const struct layout_file *file, const struct riffle_header *header)
{
	struct layout_file ours;

	spell_digests(&ours, header);
	return !strcmp(file->content_digest, ours.content_digest) ||
	       (!strcmp(file->source_digest, ours.source_digest) &&
		!strcmp(file->shuffle_checksum, ours.shuffle_checksum));
}

int layout_file_check(const struct layout_file *file, const struct riffle_header *header, struct riffle_error *error)
{
	return layout_file_is_for(file, header)
		   ? RIFFLE_OK
		   : riffle_fail(
			 error, RIFFLE_ERR_FORMAT, "content_digest",
			 "is not this kernel's: the layout belongs to another one, or it was prepared otherwise");
}

/* Where a chunk is while the guest runs: an image offset. */
static uint32_t place_of(const struct layout_file *file, uint32_t chunk)
{
	return file->chunk[chunk].offset + (uint32_t)file->chunk[chunk].shift;
}

int layout_file_order(const struct layout_file *file, const struct riffle_plan *plan, uint16_t *order,
		      struct riffle_error *error)
{
	if (file->chunk_count != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "chunks", "are not as many as the kernel has",
					    file->chunk_count, plan->chunk_count);
	for (uint32_t i = 0; i < file->chunk_count; i++)
		if (file->chunk[i].offset != plan->chunks[i].image_offset ||
		    file->chunk[i].bytes != riffle_chunk_bytes(&plan->chunks[i]))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks", "are not the kernel's (number)",
						 i);
	/* whether this is a permutation of each region is riffle_layout_check()'s to say */
	for (uint32_t i = 0; i < file->chunk_count; i++)
		order[i] = (uint16_t)file->by_place[i];
	return RIFFLE_OK;
}

uint32_t layout_file_slide(const struct layout_file *file, uint64_t offset)
{
	uint32_t i = file->layout.slide_count;

	while (i && offset < file->block[i - 1])
		i--;
	return i ? file->layout.slide[i - 1] : 0;
}

/* Makes an offset from the virtual base one as linked; false if it lies outside the image, or in a gap. */
static bool slide_back(const struct layout_file *file, uint64_t *offset)
{
	uint32_t i = file->layout.slide_count;
	uint64_t end = file->image_bytes;

	while (i && *offset < (uint64_t)file->block[i - 1] + file->layout.slide[i - 1])
		end = file->block[--i];
	if (i)
		*offset -= file->layout.slide[i - 1];
	return *offset < end;
}

int layout_file_slides(const struct layout_file *file, const struct riffle_plan *plan, struct riffle_layout *layout,
		       struct riffle_error *error)
{
	if (file->layout.slide_count && file->layout.slide_count != plan->block_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "slides", "are not as many as the kernel has",
					    file->layout.slide_count, plan->block_count);
	for (uint32_t i = 0; i < file->layout.slide_count; i++)
		if (file->block[i] != plan->blocks[i].image_offset)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "slides", "are not the kernel's (number)",
						 i);
	layout->slide_count = file->layout.slide_count;
	memcpy(layout->slide, file->layout.slide, sizeof layout->slide);
	return RIFFLE_OK;
}

bool layout_file_to_link(const struct layout_file *file, uint64_t address, uint64_t *link)
{
	uint64_t offset = address - file->layout.virtual_base;
	uint32_t i;

	if (!slide_back(file, &offset))
		return false;
	RIFFLE_FIRST_WHERE(i, file->chunk_count,
			   place_of(file, file->by_place[i]) + (uint64_t)file->chunk[file->by_place[i]].bytes > offset);
	if (i < file->chunk_count && offset >= place_of(file, file->by_place[i]))
		offset -= (uint64_t)(int64_t)file->chunk[file->by_place[i]].shift;
	*link = file->link_virtual + offset;
	return true;
}

bool layout_file_from_link(const struct layout_file *file, uint64_t link, uint64_t *address)
{
	uint64_t offset = link - file->link_virtual;
	uint32_t i;

	if (offset >= file->image_bytes)
		return false;
	RIFFLE_FIRST_WHERE(i, file->chunk_count, file->chunk[i].offset + (uint64_t)file->chunk[i].bytes > offset);
	if (i < file->chunk_count && offset >= file->chunk[i].offset)
		offset += (uint64_t)(int64_t)file->chunk[i].shift;
	*address = file->layout.virtual_base + offset + layout_file_slide(file, link - file->link_virtual);
	return true;
}

static json_t *hex_number(uint64_t number)
{
	char text[24];

	snprintf(text, sizeof text, "0x%" PRIx64, number);
	return json_string(text);
}

static int add_chunks(json_t *root, const struct layout_file *file)
{
	json_t *chunks = json_array();

	if (json_object_set_new(root, "chunks", chunks))
		return -1;
	for (uint32_t i = 0; i < file->chunk_count; i++) {
		const struct layout_chunk *c = &file->chunk[i];

		if (json_array_append_new(chunks, json_pack("[I, I, I]", (json_int_t)c->offset, (json_int_t)c->bytes,
							    (json_int_t)c->shift)))
			return -1;
	}
	return 0;
}

static int add_slides(json_t *root, const struct layout_file *file)
{
	json_t *slides = json_array();

	if (json_object_set_new(root, "slides", slides))
		return -1;
	for (uint32_t i = 0; i < file->layout.slide_count; i++)
		if (json_array_append_new(
			slides, json_pack("[I, I]", (json_int_t)file->block[i], (json_int_t)file->layout.slide[i])))
			return -1;
	return 0;
}

int layout_file_write(const char *path, const struct layout_file *file, struct riffle_error *error)
{
	json_t *root;
	char *text;
	int fd, failed;

	root = json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:I, s:{s:s, s:s, s:s, s:s, s:s}}", "riffle_layout", 1, "mode",
			 mode_name(&file->layout), "physical_base", hex_number(file->layout.physical_base),
			 "virtual_base", hex_number(file->layout.virtual_base), "link_physical",
			 hex_number(file->link_physical), "link_virtual", hex_number(file->link_virtual), "image_bytes",
			 (json_int_t)file->image_bytes, "kernel", "version", file->kernel_version, "build_id",
			 file->build_id, "content_digest", file->content_digest, "source_digest", file->source_digest,
			 "shuffle_checksum", file->shuffle_checksum);
	if (root && ((file->layout.slide_count && add_slides(root, file)) || (file->chunk && add_chunks(root, file)))) {
		json_decref(root);
		root = NULL;
	}
	text = root ? json_dumps(root, file->chunk ? JSON_COMPACT : JSON_INDENT(2)) : NULL;
	json_decref(root);
	if (!text)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout", "cannot be put into words");
	/* O_EXCL also refuses a symbolic link, even a dangling one */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		int saved = errno;

		free(text);
		return riffle_fail_system(error, saved, "layout file", "cannot be created");
	}
	failed = !riffle_write_all(fd, text, strlen(text)) || !riffle_write_all(fd, "\n", 1) || close(fd);
	free(text);
	if (failed) {
		int saved = errno;

		unlink(path);
		return riffle_fail_system(error, saved, "layout file", "cannot be written");
	}
	return RIFFLE_OK;
}

static int read_hex(const json_t *root, const char *key, uint64_t *number, struct riffle_error *error)
{
	const char *text = json_string_value(json_object_get(root, key));
	char *end;

	if (!text || strncmp(text, "0x", 2) || !text[2])
		return riffle_fail(error, RIFFLE_ERR_FORMAT, key, "is missing or not a string \"0x…\"");
	errno = 0;
	*number = strtoull(text, &end, 16);
	if (*end || errno)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, key, "is not a hexadecimal number of 64 bits");
	return RIFFLE_OK;
}

static void read_text(const json_t *object, const char *key, char *text, size_t bytes)
{
	const char *value = json_string_value(json_object_get(object, key));

	snprintf(text, bytes, "%s", value ? value : "");
}

/* Rows in link order, each of three numbers; where they go is for order_chunks() to judge. */
static int read_row(const json_t *row, struct layout_file *file, uint32_t number, uint64_t end,
		    struct riffle_error *error)
{
	const json_int_t image = (json_int_t)file->image_bytes;
	json_int_t value[3];

	for (size_t i = 0; i < 3; i++) {
		const json_t *item = json_array_get(row, i);

		if (json_array_size(row) != 3 || !json_is_integer(item))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks", "are not all three numbers (row)",
						 number);
		value[i] = json_integer_value(item);
	}
	if (value[0] < (json_int_t)end || value[1] <= 0 || value[0] > image || value[1] > image - value[0] ||
	    value[2] < -value[0] || value[2] > image - value[0] - value[1])
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks", "overlap, or lead outside the image (row)",
					 number);
	file->chunk[number] = (struct layout_chunk){(uint32_t)value[0], (uint32_t)value[1], (int32_t)value[2]};
	return RIFFLE_OK;
}

static int by_place(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/*
 * The next stretch without gaps of what the chunks cover, from chunk `*i` on: as they were linked, or as they lie while
 * the guest runs.
 */
static bool next_stretch(const struct layout_file *file, bool running, uint32_t *i, uint64_t *start, uint64_t *end)
{
	if (*i == file->chunk_count)
		return false;
	for (bool first = true; *i < file->chunk_count; first = false, ++*i) {
		uint32_t chunk = running ? file->by_place[*i] : *i;
		uint32_t at = running ? place_of(file, chunk) : file->chunk[chunk].offset;

		if (first)
			*start = *end = at;
		if (at != *end)
			break;
		*end += file->chunk[chunk].bytes;
	}
	return true;
}

/* Sorts the chunks by place. They must fill just the places that they left: then every address has one origin. */
static int order_chunks(struct layout_file *file, struct riffle_error *error)
{
	uint64_t *key = calloc(file->chunk_count, sizeof *key), start[2] = {0}, end[2] = {0};
	uint32_t linked = 0, running = 0;

	if (!key)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout file", "no memory for its order");
	for (uint32_t i = 0; i < file->chunk_count; i++)
		key[i] = (uint64_t)place_of(file, i) << 32 | i;
	qsort(key, file->chunk_count, sizeof *key, by_place);
	for (uint32_t i = 0; i < file->chunk_count; i++)
		file->by_place[i] = (uint32_t)key[i];
	free(key);
	while (next_stretch(file, false, &linked, &start[0], &end[0])) {
		uint32_t from = running;

		if (!next_stretch(file, true, &running, &start[1], &end[1]) || start[0] != start[1] || end[0] != end[1])
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks",
						 "do not fill the places that they left (row)",
						 file->by_place[from < file->chunk_count ? from : from - 1]);
	}
	return RIFFLE_OK;
}

static int read_chunks(const json_t *root, struct layout_file *file, struct riffle_error *error)
{
	const json_t *chunks = json_object_get(root, "chunks");
	size_t count = json_array_size(chunks);
	uint64_t end = 0;
	int status;

	if (!count || count >= RIFFLE_CHUNKS_MAX)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks", "are missing or too many", count);
	status = take_memory(file, (uint32_t)count, error);
	for (uint32_t i = 0; !status && i < count; i++) {
		status = read_row(json_array_get(chunks, i), file, i, end, error);
		end = (uint64_t)file->chunk[i].offset + file->chunk[i].bytes;
	}
	return status ? status : order_chunks(file, error);
}

static uint32_t last_slide(const struct layout_file *file)
{
	return file->layout.slide_count ? file->layout.slide[file->layout.slide_count - 1] : 0;
}

/* Addresses that wrap would lie at both ends of memory, and no kernel lies outside its mapping. */
static int check_image(const struct layout_file *file, struct riffle_error *error)
{
	uint64_t end;

	if (__builtin_add_overflow(file->link_virtual, file->image_bytes, &end) ||
	    __builtin_add_overflow(file->layout.virtual_base, file->image_bytes + last_slide(file), &end))
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "image_bytes",
					 "reaches past the end of the address space", file->image_bytes);
	if (file->link_virtual != START_KERNEL_MAP + file->link_physical)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "link_virtual",
					    "does not belong to link_physical", file->link_virtual,
					    START_KERNEL_MAP + file->link_physical);
	if (file->layout.virtual_base % RIFFLE_SLOT_BYTES || file->layout.virtual_base < START_KERNEL_MAP)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "virtual_base",
					 "is not a multiple of 2 MiB where kernels lie", file->layout.virtual_base);
	if (file->layout.physical_base % RIFFLE_SLOT_BYTES)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "physical_base", "is not a multiple of 2 MiB",
					 file->layout.physical_base);
	return RIFFLE_OK;
}

/* Pairs in link order, the first at 0; blocks keep their order. Whether a load could have drawn them, a plan tells. */
static int read_slides(const json_t *root, struct layout_file *file, struct riffle_error *error)
{
	const json_t *slides = json_object_get(root, "slides");
	size_t count = json_array_size(slides);

	if (count < 2 || count > RIFFLE_BLOCKS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "slides", "are missing, too few or too many",
					    count, RIFFLE_BLOCKS_MAX);
	for (size_t i = 0; i < count; i++) {
		const json_t *row = json_array_get(slides, i);
		json_int_t offset = json_integer_value(json_array_get(row, 0));
		json_int_t slide = json_integer_value(json_array_get(row, 1));

		if (json_array_size(row) != 2 || !json_is_integer(json_array_get(row, 0)) ||
		    !json_is_integer(json_array_get(row, 1)) || offset < 0 || slide < 0 ||
		    offset >= (json_int_t)file->image_bytes || slide > (json_int_t)RIFFLE_SLIDE_MAX ||
		    (i ? offset <= file->block[i - 1] || slide < file->layout.slide[i - 1] : offset || slide))
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "slides",
						 "overlap, or are not pairs of numbers (row)", i);
		file->block[i] = (uint32_t)offset;
		file->layout.slide[i] = (uint32_t)slide;
	}
	file->layout.slide_count = (uint32_t)count;
	return RIFFLE_OK;
}

static int read_layout(const json_t *root, struct layout_file *file, struct riffle_error *error)
{
	const char *mode = json_string_value(json_object_get(root, "mode"));
	const json_t *kernel = json_object_get(root, "kernel");
	bool slid = false;
	int status;

	if (json_integer_value(json_object_get(root, "riffle_layout")) != 1)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "riffle_layout",
				   "is not 1: this is no layout file, or one of a later version");
	if (!mode || !mode_parse(mode, &file->layout.mode, &slid))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "mode", "is missing or not known");
	if ((status = read_hex(root, "physical_base", &file->layout.physical_base, error)) ||
	    (status = read_hex(root, "virtual_base", &file->layout.virtual_base, error)) ||
	    (status = read_hex(root, "link_physical", &file->link_physical, error)) ||
	    (status = read_hex(root, "link_virtual", &file->link_virtual, error)))
		return status;
	if (json_integer_value(json_object_get(root, "image_bytes")) <= 0 ||
	    json_integer_value(json_object_get(root, "image_bytes")) > (json_int_t)RIFFLE_IMAGE_MAX)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "image_bytes",
				   "is missing or not a positive number up to 1 GiB");
	file->image_bytes = (uint64_t)json_integer_value(json_object_get(root, "image_bytes"));
	if (slid && (status = read_slides(root, file, error)))
		return status;
	status = check_image(file, error);
	if (status)
		return status;
	read_text(kernel, "version", file->kernel_version, sizeof file->kernel_version);
	read_text(kernel, "build_id", file->build_id, sizeof file->build_id);
	read_text(kernel, "content_digest", file->content_digest, sizeof file->content_digest);
	read_text(kernel, "source_digest", file->source_digest, sizeof file->source_digest);
	read_text(kernel, "shuffle_checksum", file->shuffle_checksum, sizeof file->shuffle_checksum);
	return file->layout.mode == RIFFLE_MODE_FGKASLR ? read_chunks(root, file, error) : RIFFLE_OK;
}

#define PATIENCE_MS 10000 /* with whoever writes to a pipe */

int layout_file_read(const char *path, struct layout_file *file, struct riffle_error *error)
{
	char *text = malloc(LAYOUT_FILE_MAX);
	size_t got = 0;
	struct stat st = {0};
	json_error_t at;
	json_t *root;
	int fd, status;

	memset(file, 0, sizeof *file);
	if (!text)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout file", "cannot be held");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		status = riffle_fail_system(error, errno, "layout file", "cannot be opened");
		free(text);
		return status;
	}
	/* a pipe is a shell's process substitution; one that nobody writes to is at its end at once */
	if (fstat(fd, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))) {
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "layout file", "is not a regular file");
		goto out;
	}
	while (got < LAYOUT_FILE_MAX) {
		ssize_t n = read(fd, text + got, LAYOUT_FILE_MAX - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, PATIENCE_MS) != 0)
			continue;
		if (n < 0) {
			status = riffle_fail_system(error, errno, "layout file", "cannot be read");
			goto out;
		}
		if (!n)
			break;
		got += (size_t)n;
	}
	if (!got && S_ISFIFO(st.st_mode)) {
		status = riffle_fail(error, RIFFLE_ERR_FORMAT, "layout file", "is not a regular file");
		goto out;
	}
	root = json_loadb(text, got, JSON_REJECT_DUPLICATES, &at);
	if (root) {
		status = read_layout(root, file, error);
		json_decref(root);
	} else {
		status =
		    riffle_fail_found(error, RIFFLE_ERR_FORMAT, "layout file", "is not JSON (line)", (uint64_t)at.line);
	}
out:
	close(fd);
	free(text);
	if (status)
		layout_file_free(file);
	return status;
}

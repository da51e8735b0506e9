/* SPDX-License-Identifier: Apache-2.0 */
/* Writes and reads layout files (JSON by jansson). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "cli/layout_json.h"
#include "common/fail.h"

#define LAYOUT_FILE_MAX (8 << 20) /* 65,535 chunks at up to 40 bytes, and room */

static const char *const mode_names[] = {"off", "physical", "kaslr", "fgkaslr"};

const char *mode_name(enum riffle_mode mode)
{
	return mode_names[mode];
}

static void to_hex(char *text, const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	text[2 * count] = 0;
}

static int describe_chunks(struct layout_file *file, const struct riffle_layout *layout,
			   const struct riffle_plan *plan, struct riffle_error *error)
{
	file->chunk = calloc(plan->chunk_count, sizeof *file->chunk);
	if (!file->chunk)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout", "no memory for its chunks");
	file->chunk_count = plan->chunk_count;
	for (uint32_t i = 0; i < plan->region_count; i++) {
		const struct riffle_region *r = &plan->regions[i];
		uint32_t at = r->image_offset;

		for (uint32_t k = r->first_chunk; k < r->first_chunk + r->chunk_count; k++) {
			const struct riffle_chunk *c = &plan->chunks[layout->order[k]];

			file->chunk[layout->order[k]] =
				(struct layout_chunk){c->image_offset, c->bytes, (int32_t)(at - c->image_offset)};
			at += c->bytes;
		}
	}
	return RIFFLE_OK;
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
	to_hex(file->build_id, header->build_id, header->build_id_bytes);
	to_hex(file->content_digest, header->content_digest, sizeof header->content_digest);
	return layout->mode == RIFFLE_MODE_FGKASLR ? describe_chunks(file, layout, plan, error) : RIFFLE_OK;
}

void layout_file_free(struct layout_file *file)
{
	free(file->chunk);
	file->chunk = NULL;
	file->chunk_count = 0;
}

/* Chunks by where they are, with the number each has in link order. */
struct placed {
	uint64_t at;
	uint32_t chunk;
};

static int by_place(const void *a, const void *b)
{
	const struct placed *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

int layout_file_order(const struct layout_file *file, const struct riffle_plan *plan, uint16_t *order,
		      struct riffle_error *error)
{
	struct placed *placed;

	if (file->chunk_count != plan->chunk_count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "chunks", "are not as many as the kernel has",
					    file->chunk_count, plan->chunk_count);
	placed = calloc(file->chunk_count, sizeof *placed);
	if (!placed)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout", "no memory for its order");
	for (uint32_t i = 0; i < file->chunk_count; i++) {
		if (file->chunk[i].offset != plan->chunks[i].image_offset ||
		    file->chunk[i].bytes != plan->chunks[i].bytes) {
			free(placed);
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks", "are not the kernel's (number)",
						 i);
		}
		placed[i] = (struct placed){(uint64_t)file->chunk[i].offset + (uint64_t)(int64_t)file->chunk[i].shift,
					    i};
	}
	qsort(placed, file->chunk_count, sizeof *placed, by_place);
	/* whether this is a permutation of each region is riffle_layout_check()'s to say */
	for (uint32_t i = 0; i < file->chunk_count; i++)
		order[i] = (uint16_t)placed[i].chunk;
	free(placed);
	return RIFFLE_OK;
}

bool layout_file_to_link(const struct layout_file *file, uint64_t address, uint64_t *link)
{
	uint64_t offset = address - file->layout.virtual_base;

	if (offset >= file->image_bytes)
		return false;
	/* a person reads a handful of addresses: no second index for this way round */
	for (uint32_t i = 0; i < file->chunk_count; i++) {
		const struct layout_chunk *c = &file->chunk[i];
		uint64_t start = (uint64_t)c->offset + (uint64_t)(int64_t)c->shift;

		if (offset - start < c->bytes) {
			offset -= (uint64_t)(int64_t)c->shift;
			break;
		}
	}
	*link = file->link_virtual + offset;
	return true;
}

static json_t *hex_number(uint64_t number)
{
	char text[24];

	snprintf(text, sizeof text, "0x%" PRIx64, number);
	return json_string(text);
}

/* a kernel's version is bytes of its file: whatever is no plain text in it would not be JSON either */
static void plain_text(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}

static int write_all(int fd, const char *text, size_t bytes)
{
	while (bytes) {
		ssize_t put = write(fd, text, bytes);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -1;
		text += put;
		bytes -= (size_t)put;
	}
	return 0;
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

int layout_file_write(const char *path, const struct layout_file *file, struct riffle_error *error)
{
	char version[sizeof file->kernel_version];
	json_t *root;
	char *text;
	int fd, failed;

	memcpy(version, file->kernel_version, sizeof version);
	plain_text(version);
	root = json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:I, s:{s:s, s:s, s:s}}", "riffle_layout", 1, "mode",
			 mode_name(file->layout.mode), "physical_base", hex_number(file->layout.physical_base),
			 "virtual_base", hex_number(file->layout.virtual_base), "link_physical",
			 hex_number(file->link_physical), "link_virtual", hex_number(file->link_virtual), "image_bytes",
			 (json_int_t)file->image_bytes, "kernel", "version", version, "build_id", file->build_id,
			 "content_digest", file->content_digest);
	if (root && file->chunk && add_chunks(root, file)) {
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
	failed = write_all(fd, text, strlen(text)) || write_all(fd, "\n", 1) || close(fd);
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

static int read_chunks(const json_t *root, struct layout_file *file, struct riffle_error *error)
{
	const json_t *chunks = json_object_get(root, "chunks");
	size_t count = json_array_size(chunks);
	uint64_t end = 0;

	if (!count || count >= RIFFLE_CHUNKS_MAX)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks", "are missing or too many", count);
	file->chunk = calloc(count, sizeof *file->chunk);
	if (!file->chunk)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout file", "no memory for its chunks");
	for (size_t i = 0; i < count; i++) {
		const json_t *row = json_array_get(chunks, i);
		json_int_t offset = json_integer_value(json_array_get(row, 0));
		json_int_t bytes = json_integer_value(json_array_get(row, 1));
		json_int_t shift = json_integer_value(json_array_get(row, 2));

		if (json_array_size(row) != 3 || offset < (json_int_t)end || bytes <= 0 ||
		    offset > (json_int_t)file->image_bytes || bytes > (json_int_t)file->image_bytes - offset ||
		    shift < -offset || shift > (json_int_t)file->image_bytes - offset - bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "chunks",
						 "overlap, or lead outside the image (row)", i);
		file->chunk[i] = (struct layout_chunk){(uint32_t)offset, (uint32_t)bytes, (int32_t)shift};
		end = (uint64_t)offset + (uint64_t)bytes;
	}
	file->chunk_count = (uint32_t)count;
	return RIFFLE_OK;
}

static int read_layout(const json_t *root, struct layout_file *file, struct riffle_error *error)
{
	const char *mode = json_string_value(json_object_get(root, "mode"));
	const json_t *kernel = json_object_get(root, "kernel");
	unsigned i;
	int status;

	if (json_integer_value(json_object_get(root, "riffle_layout")) != 1)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "riffle_layout",
				   "is not 1: this is no layout file, or one of a later version");
	for (i = 0; i < sizeof mode_names / sizeof *mode_names; i++)
		if (mode && !strcmp(mode, mode_names[i]))
			break;
	if (i == sizeof mode_names / sizeof *mode_names)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "mode", "is missing or not known");
	file->layout.mode = (enum riffle_mode)i;
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
	read_text(kernel, "version", file->kernel_version, sizeof file->kernel_version);
	read_text(kernel, "build_id", file->build_id, sizeof file->build_id);
	read_text(kernel, "content_digest", file->content_digest, sizeof file->content_digest);
	return file->layout.mode == RIFFLE_MODE_FGKASLR ? read_chunks(root, file, error) : RIFFLE_OK;
}

int layout_file_read(const char *path, struct layout_file *file, struct riffle_error *error)
{
	char *text = malloc(LAYOUT_FILE_MAX);
	size_t got = 0;
	json_error_t at;
	json_t *root;
	int fd, status;

	memset(file, 0, sizeof *file);
	if (!text)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "layout file", "cannot be held");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		status = riffle_fail_system(error, errno, "layout file", "cannot be opened");
		free(text);
		return status;
	}
	while (got < LAYOUT_FILE_MAX) {
		ssize_t n = read(fd, text + got, LAYOUT_FILE_MAX - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			status = riffle_fail_system(error, errno, "layout file", "cannot be read");
			goto out;
		}
		if (!n)
			break;
		got += (size_t)n;
	}
	root = json_loadb(text, got, JSON_REJECT_DUPLICATES, &at);
	if (root) {
		status = read_layout(root, file, error);
		json_decref(root);
	} else {
		status = riffle_fail_found(error, RIFFLE_ERR_FORMAT, "layout file", "is not JSON (line)",
					   (uint64_t)at.line);
	}
out:
	close(fd);
	free(text);
	if (status)
		layout_file_free(file);
	return status;
}

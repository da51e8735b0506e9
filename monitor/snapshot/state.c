/* SPDX-License-Identifier: Apache-2.0 */
/* The state file of a snapshot: a header and checksummed sections, written whole and read with nothing trusted. */
#include "monitor/snapshot/state.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checksum.h"
#include "common/fail.h"

static const char magic[8] = {'R', 'I', 'F', 'F', 'L', 'S', 'N', 'P'};

enum { VERSION_AT = 8, BYTES_AT = 12, CHECKSUM_AT = 16, RESERVED_AT = 32 };
enum { SECTION_INSTANCE = 4, SECTION_VERSION = 8, SECTION_SIZE = 12 };

/* What this version reads: a section of a later version is refused, since what it adds would be lost. */
static const struct {
	uint32_t id, version, instances;
} known[] = {
    {STATE_MACHINE, 1, 1}, {STATE_CONFIG, 1, 1},  {STATE_CHIPS, 1, 1}, {STATE_VCPU, 1, 32},
    {STATE_SERIAL, 1, 1},  {STATE_I8042, 1, 1},   {STATE_CMOS, 1, 1},  {STATE_POWER, 1, 1},
    {STATE_INPUT, 1, 1},   {STATE_VIRTIO, 1, 64}, {STATE_SAVE, 1, 1},  {STATE_EXTENTS, 1, 1},
};

static size_t padded(size_t bytes)
{
	return (bytes + 7) & ~(size_t)7;
}

/* ---- writing ---- */

void state_writer_free(struct state_writer *writer)
{
	free(writer->data);
	*writer = (struct state_writer){0};
}

static uint8_t *grow(struct state_writer *writer, size_t bytes)
{
	if (writer->failed || bytes > STATE_BYTES_MAX - writer->bytes) {
		writer->failed = true;
		return NULL;
	}
	if (bytes > writer->room - writer->bytes) {
		size_t room = 2 * writer->room + bytes + 4096;
		uint8_t *data = malloc(room); /* not realloc(), whose mremap() is not among a confined loop's calls */

		if (!data) {
			writer->failed = true;
			return NULL;
		}
		if (writer->bytes)
			memcpy(data, writer->data, writer->bytes);
		free(writer->data);
		writer->data = data;
		writer->room = room;
	}
	writer->bytes += bytes;
	return writer->data + writer->bytes - bytes;
}

void state_put(struct state_writer *writer, const void *data, size_t bytes)
{
	uint8_t *at = bytes ? grow(writer, bytes) : NULL;

	if (at)
		memcpy(at, data, bytes);
}

void state_put_block(struct state_writer *writer, const void *data, size_t bytes)
{
	if (bytes > STATE_BYTES_MAX)
		writer->failed = true;
	state_put32(writer, (uint32_t)bytes);
	state_put(writer, data, bytes);
}

void state_put8(struct state_writer *writer, uint8_t value)
{
	state_put(writer, &value, sizeof value);
}

void state_put16(struct state_writer *writer, uint16_t value)
{
	state_put(writer, &value, sizeof value);
}

void state_put32(struct state_writer *writer, uint32_t value)
{
	state_put(writer, &value, sizeof value);
}

void state_put64(struct state_writer *writer, uint64_t value)
{
	state_put(writer, &value, sizeof value);
}

void state_begin(struct state_writer *writer, uint32_t id, uint32_t instance, uint32_t version)
{
	static const uint8_t header[STATE_HEADER_BYTES];

	if (!writer->bytes)
		state_put(writer, header, sizeof header);
	uint8_t *at = grow(writer, STATE_SECTION_BYTES);

	if (!at)
		return;
	writer->section = (size_t)(at - writer->data);
	riffle_put32(at, id);
	riffle_put32(at + SECTION_INSTANCE, instance);
	riffle_put32(at + SECTION_VERSION, version);
	riffle_put32(at + SECTION_SIZE, 0);
}

void state_end(struct state_writer *writer)
{
	static const uint8_t zeros[8];

	if (writer->failed || !writer->section)
		return;
	size_t bytes = writer->bytes - writer->section - STATE_SECTION_BYTES;

	state_put(writer, zeros, padded(bytes) - bytes);
	if (!writer->failed)
		riffle_put32(writer->data + writer->section + SECTION_SIZE, (uint32_t)bytes);
	writer->section = 0;
}

int state_finish(struct state_writer *writer, struct riffle_error *error)
{
	if (writer->failed || writer->bytes < STATE_HEADER_BYTES)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "snapshot", "its state does not fit into memory");
	memcpy(writer->data, magic, sizeof magic);
	riffle_put32(writer->data + VERSION_AT, STATE_VERSION);
	riffle_put32(writer->data + BYTES_AT, (uint32_t)writer->bytes);
	riffle_put64(writer->data + CHECKSUM_AT,
		     riffle_checksum(writer->data + STATE_HEADER_BYTES, writer->bytes - STATE_HEADER_BYTES));
	return 0;
}

/* ---- reading ---- */

static int check_header(const struct state_file *file, struct riffle_error *error)
{
	static const uint8_t zeros[STATE_HEADER_BYTES - RESERVED_AT];
	const uint8_t *at = file->data;

	if (file->bytes < STATE_HEADER_BYTES)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "header", "the file is too short", file->bytes,
					    STATE_HEADER_BYTES);
	if (memcmp(at, magic, sizeof magic) != 0)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "magic", "this is not the state of a snapshot");
	if (riffle_get32(at + VERSION_AT) != STATE_VERSION)
		return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "version",
					    riffle_get32(at + VERSION_AT) < STATE_VERSION
						? "an older riffle wrote this, in a format that is no longer read"
						: "a newer riffle wrote this",
					    riffle_get32(at + VERSION_AT), STATE_VERSION);
	if (riffle_get32(at + BYTES_AT) != file->bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "bytes", "the file has another size", file->bytes,
					    riffle_get32(at + BYTES_AT));
	if (memcmp(at + RESERVED_AT, zeros, sizeof zeros) != 0)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "reserved", "is not zero");
	uint64_t checksum = riffle_checksum(at + STATE_HEADER_BYTES, file->bytes - STATE_HEADER_BYTES);

	if (riffle_get64(at + CHECKSUM_AT) != checksum)
		return riffle_fail_expected_as(error, RIFFLE_ERR_CHECKSUM, RIFFLE_SHOW_HEX, "checksum",
					       "the state was changed or cut", checksum,
					       riffle_get64(at + CHECKSUM_AT));
	return 0;
}

/* The next section at `at`, which the list's check has found good. */
static size_t section_end(const struct state_file *file, size_t at)
{
	return at + STATE_SECTION_BYTES + padded(riffle_get32(file->data + at + SECTION_SIZE));
}

static int check_section(const struct state_file *file, size_t at, uint64_t seen[], struct riffle_error *error)
{
	size_t left = file->bytes - at;

	if (left < STATE_SECTION_BYTES || riffle_get32(file->data + at + SECTION_SIZE) > left - STATE_SECTION_BYTES ||
	    padded(riffle_get32(file->data + at + SECTION_SIZE)) > left - STATE_SECTION_BYTES)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "section", "reaches past the end of the file", at);
	uint32_t id = riffle_get32(file->data + at), instance = riffle_get32(file->data + at + SECTION_INSTANCE);
	uint32_t version = riffle_get32(file->data + at + SECTION_VERSION);

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (known[i].id != id)
			continue;
		if (version != known[i].version)
			return riffle_fail_expected(error, RIFFLE_ERR_UNSUPPORTED, "section version",
						    version < known[i].version ? "is an older riffle's"
									       : "is a newer riffle's",
						    version, known[i].version);
		if (instance >= known[i].instances)
			return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "section instance", "too large", instance,
						    known[i].instances - 1);
		if (seen[i] >> instance & 1)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "section", "is there twice", at);
		seen[i] |= UINT64_C(1) << instance;
		return 0;
	}
	return riffle_fail_found_as(error, RIFFLE_ERR_UNSUPPORTED, RIFFLE_SHOW_HEX, "section id",
				    "is not known to this version of riffle", id);
}

int state_open(struct state_file *file, const void *data, size_t bytes, struct riffle_error *error)
{
	uint64_t seen[sizeof known / sizeof *known] = {0};

	*file = (struct state_file){.data = data, .bytes = bytes};
	if (bytes > STATE_BYTES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "bytes", "the file is too large", bytes,
					    STATE_BYTES_MAX);
	int status = check_header(file, error);

	for (size_t at = STATE_HEADER_BYTES; !status && at < bytes;) {
		status = check_section(file, at, seen, error);
		if (!status)
			at = section_end(file, at);
	}
	return status;
}

bool state_section(const struct state_file *file, uint32_t id, uint32_t instance, struct state_reader *reader)
{
	*reader = (struct state_reader){0};
	for (size_t at = STATE_HEADER_BYTES; at < file->bytes; at = section_end(file, at)) {
		const uint8_t *section = file->data + at;

		if (riffle_get32(section) != id || riffle_get32(section + SECTION_INSTANCE) != instance)
			continue;
		reader->at = section + STATE_SECTION_BYTES;
		reader->left = riffle_get32(section + SECTION_SIZE);
		return true;
	}
	return false;
}

unsigned state_count(const struct state_file *file, uint32_t id)
{
	unsigned count = 0;

	for (size_t at = STATE_HEADER_BYTES; at < file->bytes; at = section_end(file, at))
		count += riffle_get32(file->data + at) == id;
	return count;
}

void state_refuse(struct state_reader *reader, const char *field, const char *problem, uint64_t found)
{
	if (reader->problem)
		return;
	reader->field = field;
	reader->problem = problem;
	reader->found = found;
	reader->left = 0;
}

void state_get(struct state_reader *reader, const char *field, void *data, size_t bytes)
{
	if (reader->problem || bytes > reader->left) {
		state_refuse(reader, field, "the section ends before it", reader->left);
		memset(data, 0, bytes);
		return;
	}
	memcpy(data, reader->at, bytes);
	reader->at += bytes;
	reader->left -= bytes;
}

const void *state_get_block_at(struct state_reader *reader, const char *field, size_t *bytes)
{
	const void *at;

	*bytes = state_get32(reader, field);
	if (*bytes > reader->left)
		state_refuse(reader, field, "reaches past the end of its section", *bytes);
	if (reader->problem) {
		*bytes = 0;
		return "";
	}
	at = reader->at;
	reader->at += *bytes;
	reader->left -= *bytes;
	return at;
}

size_t state_get_block(struct state_reader *reader, const char *field, void *data, size_t room)
{
	size_t bytes;
	const void *at = state_get_block_at(reader, field, &bytes);

	if (bytes > room) {
		state_refuse(reader, field, "is too long", bytes);
		return 0;
	}
	memcpy(data, at, bytes);
	return bytes;
}

uint8_t state_get8(struct state_reader *reader, const char *field)
{
	uint8_t value;

	state_get(reader, field, &value, sizeof value);
	return value;
}

uint16_t state_get16(struct state_reader *reader, const char *field)
{
	uint16_t value;

	state_get(reader, field, &value, sizeof value);
	return value;
}

uint32_t state_get32(struct state_reader *reader, const char *field)
{
	uint32_t value;

	state_get(reader, field, &value, sizeof value);
	return value;
}

uint64_t state_get64(struct state_reader *reader, const char *field)
{
	uint64_t value;

	state_get(reader, field, &value, sizeof value);
	return value;
}

bool state_get_bool(struct state_reader *reader, const char *field)
{
	uint8_t value = state_get8(reader, field);

	if (value > 1)
		state_refuse(reader, field, "is neither 0 nor 1", value);
	return value == 1;
}

uint32_t state_get_limited(struct state_reader *reader, const char *field, uint32_t most)
{
	uint32_t value = state_get32(reader, field);

	if (value <= most)
		return value;
	state_refuse(reader, field, "is out of range", value);
	return 0;
}

int state_close_section(const struct state_reader *reader, struct riffle_error *error)
{
	if (reader->problem)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, reader->field, reader->problem, reader->found);
	if (reader->left)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "section", "has bytes after its last field",
					 reader->left);
	return 0;
}

int state_missing(const char *section, struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_FORMAT, section, "the state has no such section");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The state file of a snapshot: a header and checksummed sections, written as a whole and read without trust. */
#ifndef RIFFLE_MONITOR_SNAPSHOT_STATE_H
#define RIFFLE_MONITOR_SNAPSHOT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <riffle/error.h>

/*
 * The layout is documented in riffle-snapshot(5). All integers are little-endian.
 *
 *	header   magic[8] "RIFFLSNP", version u32, bytes u32 (of the file), checksum u64 (XXH3, 64 bits, no seed, of
 *	         what follows the header), uses u64 (restores so far; the only field not covered), reserved[32] zero
 *	sections id u32, instance u32, version u32, bytes u32, data, zeros up to a multiple of 8
 */
#define STATE_HEADER_BYTES 64u
#define STATE_SECTION_BYTES 16u
#define STATE_VERSION 1u
#define STATE_BYTES_MAX (16u << 20)
#define STATE_USES_OFFSET 24u

#define STATE_ID(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define STATE_MACHINE STATE_ID('M', 'A', 'C', 'H') /* what was saved, when, and its memory */
#define STATE_SAVE STATE_ID('S', 'A', 'V', 'E')    /* identifies the save; may be missing */
#define STATE_CONFIG STATE_ID('C', 'O', 'N', 'F')  /* the machine's description, as JSON */
#define STATE_CHIPS STATE_ID('C', 'H', 'I', 'P')   /* interrupt controllers, timer, clock */
#define STATE_VCPU STATE_ID('V', 'C', 'P', 'U')    /* instance: the vCPU's number */
#define STATE_SERIAL STATE_ID('S', 'E', 'R', 'L')
#define STATE_I8042 STATE_ID('K', 'B', 'D', 'C')
#define STATE_CMOS STATE_ID('C', 'M', 'O', 'S')
#define STATE_POWER STATE_ID('P', 'O', 'W', 'R')
#define STATE_INPUT STATE_ID('C', 'I', 'N', 'P')   /* console input that the guest has not taken */
#define STATE_VIRTIO STATE_ID('V', 'I', 'R', 'T')  /* instance: the device's slot */
#define STATE_EXTENTS STATE_ID('E', 'X', 'T', 'N') /* where the memory file has data; may be missing */

struct state_writer {
	uint8_t *data;
	size_t bytes, room;
	size_t section; /* where the open section begins, 0: none */
	bool failed;    /* out of memory, or too large */
};

void state_writer_free(struct state_writer *writer);
void state_begin(struct state_writer *writer, uint32_t id, uint32_t instance, uint32_t version);
void state_end(struct state_writer *writer);
void state_put(struct state_writer *writer, const void *data, size_t bytes);
/* A count of bytes (u32), then the bytes. */
void state_put_block(struct state_writer *writer, const void *data, size_t bytes);
void state_put8(struct state_writer *writer, uint8_t value);
void state_put16(struct state_writer *writer, uint16_t value);
void state_put32(struct state_writer *writer, uint32_t value);
void state_put64(struct state_writer *writer, uint64_t value);
/* Completes header and checksum. Errors: MEMORY. */
int state_finish(struct state_writer *writer, struct riffle_error *error);

struct state_file {
	const uint8_t *data;
	size_t bytes;
};

/*
 * Checks magic, version, size, checksum and the list of sections: each within the file, with a known id and version,
 * none twice. *data must outlive *file. Errors: FORMAT, UNSUPPORTED (another version, a section that this version does
 * not know), CHECKSUM.
 */
int state_open(struct state_file *file, const void *data, size_t bytes, struct riffle_error *error);

/*
 * Reads a section's fields in their order. After a read past its end, or an out-of-range value, everything reads as
 * zero and state_close_section() reports the field.
 */
struct state_reader {
	const uint8_t *at;
	size_t left;
	const char *field, *problem;
	uint64_t found;
};

/* False: the file has no such section. */
bool state_section(const struct state_file *file, uint32_t id, uint32_t instance, struct state_reader *reader);
/* How many sections have this id. */
unsigned state_count(const struct state_file *file, uint32_t id);
void state_get(struct state_reader *reader, const char *field, void *data, size_t bytes);
/* Reads a block of at most `room` bytes; returns its length. */
size_t state_get_block(struct state_reader *reader, const char *field, void *data, size_t room);
/* Returns a block in place. */
const void *state_get_block_at(struct state_reader *reader, const char *field, size_t *bytes);
uint8_t state_get8(struct state_reader *reader, const char *field);
uint16_t state_get16(struct state_reader *reader, const char *field);
uint32_t state_get32(struct state_reader *reader, const char *field);
uint64_t state_get64(struct state_reader *reader, const char *field);
/* One of 0 and 1. */
bool state_get_bool(struct state_reader *reader, const char *field);
/* At most `most`. */
uint32_t state_get_limited(struct state_reader *reader, const char *field, uint32_t most);
void state_refuse(struct state_reader *reader, const char *field, const char *problem, uint64_t found);
/* Checks that all of the section was read and every value was valid. Errors: FORMAT. */
int state_close_section(const struct state_reader *reader, struct riffle_error *error);
/* The same for a section that is missing. */
int state_missing(const char *section, struct riffle_error *error);

#endif

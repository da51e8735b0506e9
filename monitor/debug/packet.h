/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of the GDB remote serial protocol: parsed from a byte stream, and framed for one. */
#ifndef RIFFLE_MONITOR_DEBUG_PACKET_H
#define RIFFLE_MONITOR_DEBUG_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest content of a packet in either direction; reported to gdb as PacketSize. */
#define PACKET_BYTES_MAX 4096u

enum packet_event {
	PACKET_NOTHING,   /* more bytes are needed */
	PACKET_WHOLE,     /* reader->content holds one */
	PACKET_DAMAGED,   /* its checksum is wrong or it was too long: request it again */
	PACKET_INTERRUPT, /* a 0x03 between packets: Ctrl-C */
	PACKET_REFUSED,   /* a '-': send the last answer again */
};

/* Zeroed before use. */
struct packet_reader {
	enum { PACKET_BETWEEN, PACKET_INSIDE, PACKET_CHECK_HIGH, PACKET_CHECK_LOW } state;
	bool escaped, too_long;
	uint8_t sum, check;
	size_t bytes;                          /* of content */
	uint8_t content[PACKET_BYTES_MAX + 1]; /* unescaped, followed by a NUL */
};

enum packet_event packet_take(struct packet_reader *reader, uint8_t byte);

/* An answer under construction. What does not fit is dropped and `overflown` set. */
struct packet_writer {
	size_t bytes;
	bool overflown;
	char content[PACKET_BYTES_MAX];
};

void packet_text(struct packet_writer *writer, const char *text);
void packet_hex(struct packet_writer *writer, const void *data, size_t bytes);
/* Hexadecimal digits, most significant first, without leading zeros. */
void packet_number(struct packet_writer *writer, uint64_t number);
/* Any bytes, escaped as the protocol requires. */
void packet_binary(struct packet_writer *writer, const void *data, size_t bytes);

/* $content#checksum. Returns its length; `room` must be PACKET_BYTES_MAX + 4. */
size_t packet_frame(const struct packet_writer *writer, char *framed, size_t room);

/* Parses the digits at *text, which is moved past them. False: there are none, or the value exceeds 64 bits. */
bool packet_parse_number(const char **text, uint64_t *number);
/* Exactly 2 * bytes digits at *text. */
bool packet_parse_hex(const char **text, void *data, size_t bytes);

#endif

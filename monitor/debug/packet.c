/* SPDX-License-Identifier: Apache-2.0 */
/* Packets of the GDB remote serial protocol: taken out of a stream of bytes, and framed for one. */
#include "monitor/debug/packet.h"

#include <string.h>

#define INTERRUPT 0x03u
#define ESCAPE '}'
#define ESCAPE_MASK 0x20u

static const char digits[] = "0123456789abcdef";

static int digit_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum packet_event begin(struct packet_reader *reader, uint8_t byte)
{
	switch (byte) {
	case '$':
		reader->state = PACKET_INSIDE;
		reader->bytes = 0;
		reader->sum = 0;
		reader->escaped = reader->too_long = false;
		return PACKET_NOTHING;
	case '-':
		return PACKET_REFUSED;
	case INTERRUPT:
		return PACKET_INTERRUPT;
	default: /* '+', and noise */
		return PACKET_NOTHING;
	}
}

static enum packet_event collect(struct packet_reader *reader, uint8_t byte)
{
	if (byte == '$') /* the sender began anew */
		return begin(reader, byte);
	if (byte == '#') {
		reader->state = PACKET_CHECK_HIGH;
		return PACKET_NOTHING;
	}
	reader->sum = (uint8_t)(reader->sum + byte);
	if (byte == ESCAPE && !reader->escaped) {
		reader->escaped = true;
		return PACKET_NOTHING;
	}
	if (reader->bytes == PACKET_BYTES_MAX)
		reader->too_long = true;
	else
		reader->content[reader->bytes++] = reader->escaped ? byte ^ ESCAPE_MASK : byte;
	reader->escaped = false;
	return PACKET_NOTHING;
}

enum packet_event packet_take(struct packet_reader *reader, uint8_t byte)
{
	int value = digit_value(byte);

	switch (reader->state) {
	case PACKET_BETWEEN:
		return begin(reader, byte);
	case PACKET_INSIDE:
		return collect(reader, byte);
	case PACKET_CHECK_HIGH:
		reader->too_long |= value < 0;
		reader->check = (uint8_t)(value << 4);
		reader->state = PACKET_CHECK_LOW;
		return PACKET_NOTHING;
	case PACKET_CHECK_LOW:
		reader->state = PACKET_BETWEEN;
		reader->content[reader->bytes] = 0;
		return value < 0 || reader->too_long || (reader->check | value) != reader->sum ? PACKET_DAMAGED
											       : PACKET_WHOLE;
	}
	return PACKET_NOTHING;
}

static void put(struct packet_writer *writer, char c)
{
	if (writer->bytes == sizeof writer->content)
		writer->overflown = true;
	else
		writer->content[writer->bytes++] = c;
}

void packet_text(struct packet_writer *writer, const char *text)
{
	for (; *text; text++)
		put(writer, *text);
}

void packet_hex(struct packet_writer *writer, const void *data, size_t bytes)
{
	const uint8_t *from = data;

	for (; bytes; bytes--, from++) {
		put(writer, digits[*from >> 4]);
		put(writer, digits[*from & 15]);
	}
}

void packet_number(struct packet_writer *writer, uint64_t number)
{
	unsigned shift = 60;

	while (shift && !(number >> shift))
		shift -= 4;
	for (;; shift -= 4) {
		put(writer, digits[number >> shift & 15]);
		if (!shift)
			return;
	}
}

void packet_binary(struct packet_writer *writer, const void *data, size_t bytes)
{
	const uint8_t *from = data;

	for (; bytes; bytes--, from++) {
		/* '*' would be taken for a repeat count */
		bool escaped = *from == '$' || *from == '#' || *from == ESCAPE || *from == '*';

		if (escaped)
			put(writer, ESCAPE);
		put(writer, (char)(escaped ? *from ^ ESCAPE_MASK : *from));
	}
}

size_t packet_frame(const struct packet_writer *writer, char *framed, size_t room)
{
	uint8_t sum = 0;

	if (room < writer->bytes + 4)
		return 0;
	framed[0] = '$';
	memcpy(framed + 1, writer->content, writer->bytes);
	for (size_t i = 0; i < writer->bytes; i++)
		sum = (uint8_t)(sum + (uint8_t)writer->content[i]);
	framed[writer->bytes + 1] = '#';
	framed[writer->bytes + 2] = digits[sum >> 4];
	framed[writer->bytes + 3] = digits[sum & 15];
	return writer->bytes + 4;
}

bool packet_parse_number(const char **text, uint64_t *number)
{
	const char *at = *text;
	int value;

	*number = 0;
	for (; (value = digit_value((uint8_t)*at)) >= 0; at++) {
		if (*number >> 60)
			return false;
		*number = *number << 4 | (unsigned)value;
	}
	if (at == *text)
		return false;
	*text = at;
	return true;
}

bool packet_parse_hex(const char **text, void *data, size_t bytes)
{
	uint8_t *to = data;

	for (; bytes; bytes--, to++) {
		int high = digit_value((uint8_t)(*text)[0]), low = high < 0 ? -1 : digit_value((uint8_t)(*text)[1]);

		if (low < 0)
			return false;
		*to = (uint8_t)(high << 4 | low);
		*text += 2;
	}
	return true;
}

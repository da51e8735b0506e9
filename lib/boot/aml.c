/* SPDX-License-Identifier: Apache-2.0 */
/* The AML encoder: bytes are appended, and a term's length is inserted when the term is closed. */
#include "boot/aml.h"

#include "common/bytes.h"

enum {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_QWORD = 0x0e,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_METHOD_SERIALISED = 0x08,
	AML_DUAL_NAME = 0x2e,
	AML_EXTENDED = 0x5b,
	AML_EXTENDED_DEVICE = 0x82,
	AML_NOTIFY = 0x86,
};

void riffle_boot_aml_put(struct riffle_boot_aml *aml, const void *bytes, size_t count)
{
	if (aml->full || count > aml->limit - aml->used) {
		aml->full = true;
		return;
	}
	memcpy(aml->bytes + aml->used, bytes, count);
	aml->used += count;
}

void riffle_boot_aml_byte(struct riffle_boot_aml *aml, uint8_t byte)
{
	riffle_boot_aml_put(aml, &byte, 1);
}

void riffle_boot_aml_integer(struct riffle_boot_aml *aml, uint64_t value)
{
	if (value <= 1) {
		riffle_boot_aml_byte(aml, value ? AML_ONE : AML_ZERO);
		return;
	}
	if (value <= UINT8_MAX) {
		riffle_boot_aml_byte(aml, AML_BYTE);
		riffle_boot_aml_put(aml, &value, 1);
	} else if (value <= UINT16_MAX) {
		riffle_boot_aml_byte(aml, AML_WORD);
		riffle_boot_aml_put(aml, &value, 2);
	} else if (value <= UINT32_MAX) {
		riffle_boot_aml_byte(aml, AML_DWORD);
		riffle_boot_aml_put(aml, &value, 4);
	} else {
		riffle_boot_aml_byte(aml, AML_QWORD);
		riffle_boot_aml_put(aml, &value, 8);
	}
}

void riffle_boot_aml_string(struct riffle_boot_aml *aml, const char *text)
{
	riffle_boot_aml_byte(aml, AML_STRING);
	riffle_boot_aml_put(aml, text, strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* five bits per letter, four per digit, most significant byte first (ACPI 6.5, 19.3.4) */
void riffle_boot_aml_eisa_id(struct riffle_boot_aml *aml, const char id[7])
{
	uint32_t v = 0;

	for (int i = 0; i < 3; i++)
		v = v << 5 | (unsigned)(id[i] - '@');
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex_digit(id[i]);
	v = __builtin_bswap32(v);
	riffle_boot_aml_byte(aml, AML_DWORD);
	riffle_boot_aml_put(aml, &v, 4);
}

void riffle_boot_aml_name(struct riffle_boot_aml *aml, const char name[4])
{
	riffle_boot_aml_byte(aml, AML_NAME);
	riffle_boot_aml_put(aml, name, 4);
}

size_t riffle_boot_aml_open_scope(struct riffle_boot_aml *aml, const char name[4])
{
	size_t opened;

	riffle_boot_aml_byte(aml, AML_SCOPE);
	opened = aml->used;
	riffle_boot_aml_byte(aml, '\\');
	riffle_boot_aml_put(aml, name, 4);
	return opened;
}

size_t riffle_boot_aml_open_device(struct riffle_boot_aml *aml, const char name[4])
{
	size_t opened;

	riffle_boot_aml_byte(aml, AML_EXTENDED);
	riffle_boot_aml_byte(aml, AML_EXTENDED_DEVICE);
	opened = aml->used;
	riffle_boot_aml_put(aml, name, 4);
	return opened;
}

size_t riffle_boot_aml_open_method(struct riffle_boot_aml *aml, const char name[4], unsigned arguments)
{
	size_t opened;

	riffle_boot_aml_byte(aml, AML_METHOD);
	opened = aml->used;
	riffle_boot_aml_put(aml, name, 4);
	riffle_boot_aml_byte(aml, (uint8_t)(arguments | AML_METHOD_SERIALISED));
	return opened;
}

void riffle_boot_aml_notify(struct riffle_boot_aml *aml, const char scope[4], const char name[4], uint8_t value)
{
	static const uint8_t dual_path[2] = {'\\', AML_DUAL_NAME};

	riffle_boot_aml_byte(aml, AML_NOTIFY);
	riffle_boot_aml_put(aml, dual_path, sizeof dual_path);
	riffle_boot_aml_put(aml, scope, 4);
	riffle_boot_aml_put(aml, name, 4);
	riffle_boot_aml_integer(aml, value);
}

size_t riffle_boot_aml_open_package(struct riffle_boot_aml *aml, uint8_t elements)
{
	size_t opened;

	riffle_boot_aml_byte(aml, AML_PACKAGE);
	opened = aml->used;
	riffle_boot_aml_byte(aml, elements);
	return opened;
}

size_t riffle_boot_aml_open_resources(struct riffle_boot_aml *aml)
{
	size_t opened;

	riffle_boot_aml_byte(aml, AML_BUFFER);
	opened = aml->used;
	riffle_boot_aml_byte(aml, AML_BYTE);
	riffle_boot_aml_byte(aml, 0); /* the buffer's size, known when it is closed */
	return opened;
}

/*
 * PkgLength counts itself and what follows it: one byte up to 63, otherwise the low 4 bits and one or two more bytes.
 */
void riffle_boot_aml_close(struct riffle_boot_aml *aml, size_t opened)
{
	uint8_t length[3];
	size_t inside, bytes, total;

	if (aml->full)
		return;
	inside = aml->used - opened;
	bytes = inside + 1 <= 0x3f ? 1 : inside + 2 <= 0xfff ? 2 : 3;
	total = inside + bytes;
	if (total > 0xfffff || bytes > aml->limit - aml->used) {
		aml->full = true;
		return;
	}
	length[0] = bytes == 1 ? (uint8_t)total : (uint8_t)((bytes - 1) << 6 | (total & 0xf));
	length[1] = (uint8_t)(total >> 4);
	length[2] = (uint8_t)(total >> 12);
	memmove(aml->bytes + opened + bytes, aml->bytes + opened, inside);
	memcpy(aml->bytes + opened, length, bytes);
	aml->used += bytes;
}

void riffle_boot_aml_close_resources(struct riffle_boot_aml *aml, size_t opened)
{
	static const uint8_t end_tag[2] = {0x79, 0};

	riffle_boot_aml_put(aml, end_tag, sizeof end_tag);
	if (aml->full || aml->used - opened - 2 > UINT8_MAX) {
		aml->full = true;
		return;
	}
	aml->bytes[opened + 1] = (uint8_t)(aml->used - opened - 2);
	riffle_boot_aml_close(aml, opened);
}

void riffle_boot_aml_io(struct riffle_boot_aml *aml, uint16_t port, uint8_t count)
{
	uint8_t d[8] = {0x47, 1 /* decodes 16 bits */};

	riffle_put16(d + 2, port);
	riffle_put16(d + 4, port);
	d[6] = 1;
	d[7] = count;
	riffle_boot_aml_put(aml, d, sizeof d);
}

void riffle_boot_aml_memory32(struct riffle_boot_aml *aml, uint32_t address, uint32_t bytes)
{
	uint8_t d[12] = {0x86, 9, 0, 1 /* writable */};

	riffle_put32(d + 4, address);
	riffle_put32(d + 8, bytes);
	riffle_boot_aml_put(aml, d, sizeof d);
}

void riffle_boot_aml_interrupt(struct riffle_boot_aml *aml, uint32_t gsi)
{
	uint8_t d[9] = {0x89, 6, 0, 3 /* consumer, edge-triggered */, 1};

	riffle_put32(d + 5, gsi);
	riffle_boot_aml_put(aml, d, sizeof d);
}

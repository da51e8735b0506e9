/* SPDX-License-Identifier: Apache-2.0 */
/* A small encoder of ACPI machine language (ACPI 6.5, chapter 20), sufficient for a table of fixed devices. */
#ifndef RIFFLE_BOOT_AML_H
#define RIFFLE_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that grow up to a limit; what does not fit sets `full` and is dropped. */
struct riffle_boot_aml {
	uint8_t *bytes;
	size_t used, limit;
	bool full;
};

void riffle_boot_aml_put(struct riffle_boot_aml *aml, const void *bytes, size_t count);
void riffle_boot_aml_byte(struct riffle_boot_aml *aml, uint8_t byte);
void riffle_boot_aml_integer(struct riffle_boot_aml *aml, uint64_t value);  /* the shortest encoding */
void riffle_boot_aml_string(struct riffle_boot_aml *aml, const char *text); /* ASCII */
/* an EISA id such as "PNP0501": three capitals and four hexadecimal digits */
void riffle_boot_aml_eisa_id(struct riffle_boot_aml *aml, const char id[7]);
/* Name(NAME, what the caller encodes next); `name` has four characters, here and below */
void riffle_boot_aml_name(struct riffle_boot_aml *aml, const char name[4]);

/* Notify(\SCOPE.NAME, value) */
void riffle_boot_aml_notify(struct riffle_boot_aml *aml, const char scope[4], const char name[4], uint8_t value);

/*
 * Terms with a length: open returns the position of the term's length, to be passed to close when everything inside has
 * been written. Terms nest.
 */
size_t riffle_boot_aml_open_scope(struct riffle_boot_aml *aml, const char name[4]); /* Scope(\NAME) */
size_t riffle_boot_aml_open_device(struct riffle_boot_aml *aml, const char name[4]);
size_t riffle_boot_aml_open_method(struct riffle_boot_aml *aml, const char name[4],
				   unsigned arguments); /* serialised */
size_t riffle_boot_aml_open_package(struct riffle_boot_aml *aml, uint8_t elements);
size_t riffle_boot_aml_open_resources(struct riffle_boot_aml *aml); /* a ResourceTemplate, up to 255 bytes */
void riffle_boot_aml_close(struct riffle_boot_aml *aml, size_t opened);
void riffle_boot_aml_close_resources(struct riffle_boot_aml *aml, size_t opened);

/* Resource descriptors (ACPI 6.5, 6.4) */
void riffle_boot_aml_io(struct riffle_boot_aml *aml, uint16_t port, uint8_t count);
void riffle_boot_aml_memory32(struct riffle_boot_aml *aml, uint32_t address, uint32_t bytes);
void riffle_boot_aml_interrupt(struct riffle_boot_aml *aml, uint32_t gsi); /* edge-triggered, active high, exclusive */

#endif

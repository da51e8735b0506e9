/* SPDX-License-Identifier: Apache-2.0 */
/* A small encoder of ACPI machine language (ACPI 6.5, chapter 20): as much as a table of fixed devices needs. */
#ifndef RIFFLE_BOOT_AML_H
#define RIFFLE_BOOT_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that grow up to a limit; what does not fit sets `full` and is dropped. */
struct rboot_aml {
	uint8_t *bytes;
	size_t used, limit;
	bool full;
};

void rboot_aml_put(struct rboot_aml *aml, const void *bytes, size_t count);
void rboot_aml_byte(struct rboot_aml *aml, uint8_t byte);
void rboot_aml_integer(struct rboot_aml *aml, uint64_t value);  /* the shortest encoding */
void rboot_aml_string(struct rboot_aml *aml, const char *text); /* ASCII */
/* an EISA id such as "PNP0501": three capitals and four hexadecimal digits */
void rboot_aml_eisa_id(struct rboot_aml *aml, const char id[7]);
/* Name(NAME, what the caller encodes next); `name` has four characters, here and below */
void rboot_aml_name(struct rboot_aml *aml, const char name[4]);

/*
 * Terms with a length: each open returns where the term's length will stand, to be given to close when everything
 * inside has been written. Terms nest.
 */
size_t rboot_aml_open_scope(struct rboot_aml *aml, const char name[4]); /* Scope(\NAME) */
size_t rboot_aml_open_device(struct rboot_aml *aml, const char name[4]);
size_t rboot_aml_open_package(struct rboot_aml *aml, uint8_t elements);
size_t rboot_aml_open_resources(struct rboot_aml *aml); /* a ResourceTemplate, up to 255 bytes */
void rboot_aml_close(struct rboot_aml *aml, size_t opened);
void rboot_aml_close_resources(struct rboot_aml *aml, size_t opened);

/* Resource descriptors (ACPI 6.5, 6.4) */
void rboot_aml_io(struct rboot_aml *aml, uint16_t port, uint8_t count);
void rboot_aml_memory32(struct rboot_aml *aml, uint32_t address, uint32_t bytes);
void rboot_aml_interrupt(struct rboot_aml *aml, uint32_t gsi); /* edge-triggered, active high, exclusive */

#endif

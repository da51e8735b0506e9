/* SPDX-License-Identifier: Apache-2.0 */
/* Guest code in assembler, between labels that C can see. */
#ifndef RIFFLE_TESTS_MONITOR_GUEST_CODE_H
#define RIFFLE_TESTS_MONITOR_GUEST_CODE_H

#include <stdint.h>

/*
 * GUEST_ASM(name, "code") defines name_code[] and name_code_end[]. The code is copied, so it must not depend on where
 * it lies; AT&T syntax, 64-bit unless it says .code16.
 */
#define GUEST_ASM(name, text)                                                                                          \
	__asm__(".pushsection .rodata\n" #name "_code:\n" text "\n" #name "_code_end:\n.popsection\n");                \
	extern const uint8_t name##_code[], name##_code_end[];

#define GUEST(name) .code = name##_code, .code_end = name##_code_end

#define POWER_OFF "mov $0x605, %dx\nmov $0x34, %al\nout %al, (%dx)\n1: jmp 1b\n"
#define PUT(character) "mov $0x3f8, %dx\nmov $'" character "', %al\nout %al, (%dx)\n"

#endif

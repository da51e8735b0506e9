/* SPDX-License-Identifier: Apache-2.0 */
/* Single instructions that C cannot express. */
#ifndef RIFFLE_STAGE_CPU_H
#define RIFFLE_STAGE_CPU_H

#include <stdbool.h>
#include <stdint.h>

static inline void cpu_out(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t cpu_in(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline void cpu_set_cr3(uint64_t value)
{
	__asm__ volatile("movq %0, %%cr3" : : "r"(value) : "memory");
}

static inline uint64_t cpu_cr4(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr4, %0" : "=r"(value));
	return value;
}

/* Raises an exception without an IDT: the processor shuts down, and the machine resets or ends. */
static inline __attribute__((noreturn)) void cpu_triple_fault(void)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) nothing = {0, 0};

	__asm__ volatile("lidt %0\n\tud2" : : "m"(nothing) : "memory");
	__builtin_unreachable();
}

static inline void cpu_cpuid(uint32_t leaf, uint32_t *a, uint32_t *b, uint32_t *c)
{
	uint32_t d;

	*c = 0;
	*a = leaf;
	__asm__ volatile("cpuid" : "+a"(*a), "=b"(*b), "+c"(*c), "=d"(d));
}

static inline bool cpu_rdrand(uint64_t *value)
{
	bool good;

	__asm__ volatile("rdrand %0" : "=r"(*value), "=@ccc"(good));
	return good;
}

static inline bool cpu_rdseed(uint64_t *value)
{
	bool good;

	__asm__ volatile("rdseed %0" : "=r"(*value), "=@ccc"(good));
	return good;
}

#endif

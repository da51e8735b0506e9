/* SPDX-License-Identifier: Apache-2.0 */
/* The mem* functions that the library's code and the compiler ask for, where there is no libc. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

/* By eight bytes: processors with fast strings do these as fast as single ones, and an emulator counts an eighth. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
	void *d = to;
	size_t words = bytes / 8, rest = bytes % 8;

	__asm__ volatile("rep movsq\n\t"
			 "movq %3, %%rcx\n\t"
			 "rep movsb"
			 : "+D"(d), "+S"(from), "+c"(words)
			 : "r"(rest)
			 : "memory");
	return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
	uint8_t *d = (uint8_t *)to + bytes - 1;
	const uint8_t *s = (const uint8_t *)from + bytes - 1;

	if ((uintptr_t)to - (uintptr_t)from >= bytes)
		return memcpy(to, from, bytes);
	__asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(d), "+S"(s), "+c"(bytes) : : "memory");
	return to;
}

void *memset(void *to, int value, size_t bytes)
{
	void *d = to;
	size_t words = bytes / 8, rest = bytes % 8;

	__asm__ volatile("rep stosq\n\t"
			 "movq %2, %%rcx\n\t"
			 "rep stosb"
			 : "+D"(d), "+c"(words)
			 : "r"(rest), "a"((uint8_t)value * UINT64_C(0x0101010101010101))
			 : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
	const uint8_t *x = a, *y = b;

	for (size_t i = 0; i < bytes; i++)
		if (x[i] != y[i])
			return x[i] < y[i] ? -1 : 1;
	return 0;
}

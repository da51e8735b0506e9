/* SPDX-License-Identifier: Apache-2.0 */
/* System calls of x86-64 Linux for a program without libc; each returns a negative errno when it fails. */
#ifndef RIFFLE_GUEST_SYS_H
#define RIFFLE_GUEST_SYS_H

#include <asm/unistd_64.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

#define SYS6(name, a, b, c, d, e, f) sys6(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS4(name, a, b, c, d) SYS6(name, a, b, c, d, 0, 0)
#define SYS3(name, a, b, c) SYS6(name, a, b, c, 0, 0, 0)
#define SYS2(name, a, b) SYS6(name, a, b, 0, 0, 0, 0)
#define SYS1(name, a) SYS6(name, a, 0, 0, 0, 0, 0)
#define SYS0(name) SYS6(name, 0, 0, 0, 0, 0, 0)

#endif

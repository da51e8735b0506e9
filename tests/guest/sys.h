/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest program without libc needs: raw system calls, strings, and output in whole lines. */
#ifndef RIFFLE_TESTS_GUEST_SYS_H
#define RIFFLE_TESTS_GUEST_SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline long sys6(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}
#define SYS(n, a, b, c) sys6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

/* Numbers from arch/x86/entry/syscalls/syscall_64.tbl (Linux 6.1). */
enum {
	NR_read = 0,
	NR_write = 1,
	NR_open = 2,
	NR_close = 3,
	NR_fstat = 5,
	NR_lseek = 8,
	NR_mmap = 9,
	NR_ioctl = 16,
	NR_pause = 34,
	NR_dup2 = 33,
	NR_fork = 57,
	NR_execve = 59,
	NR_exit = 60,
	NR_wait4 = 61,
	NR_uname = 63,
	NR_mkdir = 83,
	NR_setuid = 105,
	NR_setgid = 106,
	NR_syslog = 103,
	NR_setsid = 112,
	NR_mount = 165,
	NR_reboot = 169,
	NR_iopl = 172,
	NR_sync = 162,
	NR_sched_getaffinity = 204,
	NR_getdents64 = 217,
	NR_unshare = 272,
	NR_clock_gettime = 228,
	NR_finit_module = 313,
};
enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_SYNC = 04010000, O_DIRECTORY = 0200000 };

/* The compiler emits calls to these. */
void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

void *memset(void *to, int c, size_t n)
{
	void *start = to;
	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *start = to;
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	return start;
}

static inline size_t length(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	return n;
}

static inline bool begins(const char *s, const char *with)
{
	while (*with)
		if (*s++ != *with++)
			return false;
	return true;
}

static inline bool equal(const char *a, const char *b)
{
	return begins(a, b) && !a[length(b)];
}

static inline const char *find(const char *s, const char *what)
{
	for (; *s; s++)
		if (begins(s, what))
			return s;
	return NULL;
}

/* Reads a file as a string, truncated to size - 1; returns the number of bytes or a negative errno. */
static inline long read_file(const char *path, char *to, size_t size)
{
	long fd = SYS(NR_open, path, O_RDONLY, 0), n = 0;
	size_t have = 0;
	to[0] = '\0';
	if (fd < 0)
		return fd;
	while (have < size - 1 && (n = SYS(NR_read, fd, to + have, size - 1 - have)) > 0)
		have += (size_t)n;
	to[have] = '\0';
	SYS(NR_close, fd, 0, 0);
	return n < 0 ? n : (long)have;
}

/* Buffers a line and writes it at once, so that kernel messages fall between lines and not into them. */
static char line_text[40 * 1024];
static size_t line_size;

static inline void put_char(char c)
{
	if (line_size < sizeof line_text - 1)
		line_text[line_size++] = c;
}

static inline void put(const char *s)
{
	while (*s)
		put_char(*s++);
}

static inline void put_hex(uint64_t v, int digits)
{
	while (digits-- > 0)
		put_char("0123456789abcdef"[v >> (4 * digits) & 15]);
}

static inline void put_dec(uint64_t v)
{
	char digits[20];
	int n = 0;
	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		put_char(digits[--n]);
}

static inline void begin(const char *s)
{
	line_size = 0;
	put("guest: ");
	put(s);
}

static inline void end(void)
{
	line_text[line_size++] = '\n';
	for (size_t at = 0; at < line_size;) {
		long n = SYS(NR_write, 1, line_text + at, line_size - at);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
}

static inline void say(const char *s)
{
	begin(s);
	end();
}

#endif

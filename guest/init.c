/* SPDX-License-Identifier: Apache-2.0 */
/* The first program of a guest that runs one command: sets up the system, runs the command, reports how it ended. */
#include <asm/errno.h>

#include "guest/init.h"
#include "guest/sys.h"

#define SIG_BLOCK 0
#define SIGPIPE 13
#define SIGCHLD 17
#define PROT_READ_WRITE 3
#define MAP_PRIVATE_ANONYMOUS 0x22
#define O_CLOEXEC 02000000

/* The compiler emits calls to these. */
void *memset(void *to, int value, size_t bytes);
void *memcpy(void *to, const void *from, size_t bytes);

void *memset(void *to, int value, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t bytes)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
	return to;
}

static size_t append(char *line, size_t used, size_t room, const char *text)
{
	while (*text && used < room)
		line[used++] = *text++;
	return used;
}

void complain(const char *what, long error)
{
	char line[256], digits[8];
	size_t used = append(line, 0, sizeof line - 1, "riffle-init: "), n = sizeof digits - 1;

	used = append(line, used, sizeof line - 1, what);
	if (error) {
		digits[n] = '\0';
		for (long e = -error; e && n; e /= 10)
			digits[--n] = (char)('0' + e % 10);
		used = append(line, used, sizeof line - 1, ": errno ");
		used = append(line, used, sizeof line - 1, digits + n);
	}
	line[used++] = '\n';
	SYS3(write, 2, line, used);
}

static void *allocate(size_t bytes)
{
	long at = SYS6(mmap, 0, bytes, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0);

	return at < 0 && at > -4096 ? NULL : (void *)at;
}

/* Reads the whole configuration; returns 0 or a negative errno. */
static long read_config(char **text, size_t *bytes)
{
	long fd = SYS3(open, CONFIG_PATH, O_CLOEXEC, 0), size, n;

	if (fd < 0)
		return fd;
	size = SYS3(lseek, fd, 0, 2 /* SEEK_END */);
	SYS3(lseek, fd, 0, 0);
	if (size < 0)
		return size;
	*text = allocate((size_t)size + 1);
	if (!*text)
		return -ENOMEM;
	for (*bytes = 0; *bytes < (size_t)size; *bytes += (size_t)n) {
		n = SYS3(read, fd, *text + *bytes, (size_t)size - *bytes);
		if (n <= 0)
			return n ? n : -EIO;
	}
	SYS1(close, fd);
	return 0;
}

static uint32_t failed(const char *what, long error)
{
	complain(what, error);
	return CHANNEL_STATUS_INIT_FAILED << 16 | (uint32_t)(-error & 0xffff);
}

/* Removes init's files from the file system before the user's command starts. */
static void remove_traces(void)
{
	SYS1(unlink, CONFIG_INIT_PATH);
	SYS1(unlink, CONFIG_PATH);
	SYS1(rmdir, "/.riffle");
}

static uint32_t run(const struct channel *channel)
{
	uint64_t signals = UINT64_C(1) << (SIGCHLD - 1) | UINT64_C(1) << (SIGPIPE - 1);
	struct config config;
	struct child child;
	const char *problem;
	char *text, **pointers;
	size_t bytes;
	long error = read_config(&text, &bytes);
	uint32_t status;

	if (error < 0)
		return failed("cannot read " CONFIG_PATH, error);
	pointers = allocate(config_pointers(text, bytes) * sizeof *pointers);
	if (!pointers)
		return failed("no memory for " CONFIG_PATH, -ENOMEM);
	problem = config_parse(&config, text, bytes, pointers);
	if (problem)
		return failed(problem, -EINVAL);
	remove_traces();
	system_set_up(&config);
	SYS4(rt_sigprocmask, SIG_BLOCK, &signals, NULL, sizeof signals);
	status = child_start(&child, &config, channel);
	if (!status)
		status = pump(&child, channel);
	else if (status >> 16 == CHANNEL_STATUS_INIT_FAILED)
		complain("cannot start the command", -(long)(status & 0xffff));
	return status;
}

__attribute__((used)) static _Noreturn void init_main(void)
{
	struct channel channel;
	long error = channel_open(&channel);
	uint32_t status = 0;

	if (error < 0)
		complain("no way to the command channel", error);
	else
		status = run(&channel);
	SYS0(sync);
	if (error >= 0)
		channel_put(&channel, CHANNEL_STATUS, status);
	/* reached only if the monitor did not end the machine */
	SYS4(reboot, 0xfee1dead, 0x28121969, 0x4321fedc /* POWER_OFF */, 0);
	for (;;)
		SYS0(pause);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall init_main\n\thlt\n");

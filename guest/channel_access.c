/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's side of the command channel: by port instructions, or by /dev/port if the kernel does not permit those.
 */
#include "guest/channel_access.h"

#include <asm/errno.h>

#include "guest/sys.h"

#define PORT_NODE "/.riffle/port"
#define S_IFCHR_600 (0020000 | 0600)
#define O_RDWR_CLOEXEC (2 | 02000000)

/* /dev/port advances to the next port with each byte, so each byte takes its own access. */
static uint8_t get_byte(const struct channel *channel, unsigned port)
{
	uint8_t byte = 0xff;

	SYS4(pread64, channel->port_fd, &byte, 1, port);
	return byte;
}

static void put_byte(const struct channel *channel, unsigned port, uint8_t byte)
{
	SYS4(pwrite64, channel->port_fd, &byte, 1, port);
}

uint32_t channel_get(const struct channel *channel, unsigned reg)
{
	uint16_t port = (uint16_t)(CHANNEL_PORT + reg);
	uint32_t value = 0;

	if (channel->port_fd < 0)
		__asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port));
	else
		for (unsigned i = 0; i < 4; i++)
			value |= (uint32_t)get_byte(channel, port + i) << 8 * i;
	return value;
}

void channel_put(const struct channel *channel, unsigned reg, uint32_t value)
{
	uint16_t port = (uint16_t)(CHANNEL_PORT + reg);

	if (channel->port_fd < 0)
		__asm__ volatile("outl %0, %1" : : "a"(value), "d"(port) : "memory");
	else
		for (unsigned i = 0; i < 4; i++)
			put_byte(channel, port + i, (uint8_t)(value >> 8 * i));
}

/* IN to a register: INS could lose data if storing it faults. */
static uint32_t in_long(void)
{
	uint16_t port = CHANNEL_PORT + CHANNEL_IN_DATA;
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port) : "memory");
	return value;
}

static uint8_t in_byte(void)
{
	uint16_t port = CHANNEL_PORT + CHANNEL_IN_DATA;
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "d"(port) : "memory");
	return value;
}

void channel_read(const struct channel *channel, void *to, size_t bytes)
{
	uint8_t *at = to;

	for (; channel->port_fd < 0 && bytes >= 4; bytes -= 4, at += 4) {
		uint32_t value = in_long();

		for (unsigned i = 0; i < 4; i++)
			at[i] = (uint8_t)(value >> 8 * i);
	}
	for (; bytes; bytes--)
		*at++ = channel->port_fd < 0 ? in_byte() : get_byte(channel, CHANNEL_PORT + CHANNEL_IN_DATA);
}

/* Each element costs an exit, so write four bytes at a time where possible. */
void channel_write(const struct channel *channel, unsigned reg, const void *from, size_t bytes)
{
	uint16_t port = (uint16_t)(CHANNEL_PORT + reg);
	size_t words = bytes / 4, rest = bytes % 4;
	const uint8_t *at = from;

	if (channel->port_fd < 0) {
		__asm__ volatile("rep outsl" : "+S"(at), "+c"(words) : "d"(port) : "memory");
		__asm__ volatile("rep outsb" : "+S"(at), "+c"(rest) : "d"(port) : "memory");
		return;
	}
	while (bytes--)
		put_byte(channel, port, *at++);
}

int channel_open(struct channel *channel)
{
	long result;

	channel->port_fd = -1;
	if (SYS3(ioperm, CHANNEL_PORT, CHANNEL_PORTS, 1) < 0) {
		/* a kernel without CONFIG_X86_IOPL_IOPERM */
		SYS3(mknod, PORT_NODE, S_IFCHR_600, 1 << 8 | 4);
		result = SYS3(open, PORT_NODE, O_RDWR_CLOEXEC, 0);
		SYS1(unlink, PORT_NODE);
		if (result < 0)
			return (int)result;
		channel->port_fd = (int)result;
	}
	return channel_get(channel, CHANNEL_MAGIC) == CHANNEL_MAGIC_VALUE ? 0 : -ENODEV;
}

void channel_drop(const struct channel *channel)
{
	/* the descriptor is close-on-exec, but the port permission would be inherited */
	if (channel->port_fd < 0)
		SYS3(ioperm, CHANNEL_PORT, CHANNEL_PORTS, 0);
}

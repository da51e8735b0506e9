/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the gdb server with a debugger's bytes and a target that stops at once when resumed. */
#include <string.h>

#include "monitor/debug/stub.h"
#include "tests/fuzz/accepted.h"

static struct stub stub;
static uint8_t memory[4096];
static bool running;

static bool read_registers(void *opaque, unsigned thread, struct register_file *file)
{
	(void)opaque;
	memset(file, (int)thread, sizeof *file);
	return true;
}

static bool write_registers(void *opaque, unsigned thread, const struct register_file *file)
{
	(void)opaque;
	(void)file;
	return thread < 3;
}

static size_t room(uint64_t address, size_t bytes)
{
	if (address >= sizeof memory)
		return 0;
	return bytes < sizeof memory - address ? bytes : sizeof memory - (size_t)address;
}

static size_t read_memory(void *opaque, unsigned thread, uint64_t address, void *data, size_t bytes)
{
	(void)opaque;
	(void)thread;
	bytes = room(address, bytes);
	if (bytes)
		memcpy(data, memory + address, bytes);
	return bytes;
}

static size_t write_memory(void *opaque, unsigned thread, uint64_t address, const void *data, size_t bytes)
{
	(void)opaque;
	(void)thread;
	bytes = room(address, bytes);
	if (bytes)
		memcpy(memory + address, data, bytes);
	return bytes;
}

static bool insert(void *opaque, unsigned thread, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	(void)opaque;
	(void)address;
	(void)bytes;
	return thread < 3 && kind < STUB_POINTS;
}

static bool remove_point(void *opaque, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	return insert(opaque, 0, kind, address, bytes);
}

static void resume(void *opaque, const enum stub_go go[STUB_THREADS_MAX])
{
	(void)opaque;
	(void)go;
	running = true;
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static void discard(void *opaque, const char *bytes, size_t count)
{
	(void)opaque;
	(void)bytes;
	if (count > PACKET_BYTES_MAX + 4)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct stub_target target = {.threads = 3,
					   .read_registers = read_registers,
					   .write_registers = write_registers,
					   .read_memory = read_memory,
					   .write_memory = write_memory,
					   .insert = insert,
					   .remove = remove_point,
					   .resume = resume,
					   .interrupt = nothing,
					   .detach = nothing,
					   .kill = nothing};

	stub_begin(&stub, &target, discard, NULL);
	running = false;
	for (size_t i = 0; i < size && stub_take(&stub, data + i, 1); i++)
		if (running) {
			running = false;
			stub_stopped(&stub, (unsigned)i % 3, (enum stub_stop)(i % 7), i);
		}
	if (stub.last_bytes && stub.reader.state == PACKET_BETWEEN)
		fuzz_accepted++;
	return 0;
}

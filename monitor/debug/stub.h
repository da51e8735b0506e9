/* SPDX-License-Identifier: Apache-2.0 */
/* The GDB remote serial protocol: carries out a debugger's commands on a target given as a table of functions. */
#ifndef RIFFLE_MONITOR_DEBUG_STUB_H
#define RIFFLE_MONITOR_DEBUG_STUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "monitor/debug/packet.h"
#include "monitor/debug/registers.h"

#define STUB_THREADS_MAX 32u

/* In the order of the protocol's Z0 to Z4. */
enum stub_point {
	STUB_BREAK_SOFT,
	STUB_BREAK_HARD,
	STUB_WATCH_WRITE,
	STUB_WATCH_READ,
	STUB_WATCH_ACCESS,
	STUB_POINTS,
};

enum stub_go { STUB_STAY, STUB_CONTINUE, STUB_STEP };

/*
 * Threads are vCPUs, counted from 0 here and from 1 in the protocol. Everything except interrupt is called only while
 * the threads are stopped.
 */
struct stub_target {
	unsigned threads;
	bool (*read_registers)(void *opaque, unsigned thread, struct register_file *file);
	bool (*write_registers)(void *opaque, unsigned thread, const struct register_file *file);
	/* Return how many bytes of the thread's address space could be read or written, from the first on. */
	size_t (*read_memory)(void *opaque, unsigned thread, uint64_t address, void *data, size_t bytes);
	size_t (*write_memory)(void *opaque, unsigned thread, uint64_t address, const void *data, size_t bytes);
	bool (*insert)(void *opaque, unsigned thread, enum stub_point kind, uint64_t address, uint64_t bytes);
	bool (*remove)(void *opaque, enum stub_point kind, uint64_t address, uint64_t bytes);
	/* Resumes the threads; stub_stopped() reports when they have stopped again. */
	void (*resume)(void *opaque, const enum stub_go go[STUB_THREADS_MAX]);
	void (*interrupt)(void *opaque);
	void (*detach)(void *opaque); /* every breakpoint is removed and every thread runs */
	void (*kill)(void *opaque);
	void *opaque;
};

/* Why the threads are stopped. */
enum stub_stop {
	STUB_STOP_INTERRUPT,
	STUB_STOP_STEP,
	STUB_STOP_SOFT, /* in the order of enum stub_point from here on */
	STUB_STOP_HARD,
	STUB_STOP_WRITE,
	STUB_STOP_READ,
	STUB_STOP_ACCESS,
};

struct stub {
	const struct stub_target *target;
	void (*send)(void *opaque, const char *bytes, size_t count); /* of a framed packet or an acknowledgement */
	void *opaque;

	struct packet_reader reader;
	bool stopped, no_acks, ended;
	unsigned thread;      /* that g, m, ... are about */
	unsigned next_listed; /* of qsThreadInfo */
	enum stub_stop stop;  /* of the last stop */
	unsigned stop_thread;
	uint64_t stop_address; /* with STUB_STOP_WRITE and those after it */
	char last[PACKET_BYTES_MAX + 4];
	size_t last_bytes;
};

/* A debugger has connected; the threads are stopped. */
void stub_begin(struct stub *stub, const struct stub_target *target,
		void (*send)(void *opaque, const char *bytes, size_t count), void *opaque);
/* Handles received bytes. Returns false after a detach or kill, when the connection is to be closed. */
bool stub_take(struct stub *stub, const uint8_t *bytes, size_t count);
/* The threads have stopped after they were resumed. */
void stub_stopped(struct stub *stub, unsigned thread, enum stub_stop why, uint64_t address);
/* The machine has ended. */
void stub_exited(struct stub *stub);

#endif

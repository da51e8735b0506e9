/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of io-bench, the init of a guest that measures its devices. */
#ifndef RIFFLE_BENCH_IO_H
#define RIFFLE_BENCH_IO_H

#include <stdbool.h>
#include <stdint.h>

struct io_row {
	const char *name;
	void (*run)(unsigned count); /* the number of operations */
	unsigned part;               /* of N: the row does N / part of them */
};

/* Both end with a row without a name. */
extern const struct io_row disk_rows[], net_rows[];

/* False: the guest has no such device. */
bool disk_begin(void);
bool net_begin(void);

/* Busy instead of sleeping: a box that counts instructions may lose the timer of a sleeping guest. */
void pass_ms(unsigned ms);

__attribute__((noreturn)) void die(const char *what);

/* Of the guest's network and the program at the other end of it (peer.c). */
#define IO_GUEST_ADDRESS "192.168.77.2"
#define IO_PEER_ADDRESS "192.168.77.1"
enum {
	IO_UDP_PORT = 7000,
	IO_TCP_PORT = 7001,
	IO_MESSAGE = 64,
	IO_SEGMENT = 1460,
	IO_LARGE = 64 << 10,
	IO_MEGABYTE = 1 << 20
};

/* What the guest asks for, at the head of each run over TCP. */
struct io_order {
	uint32_t what;
	uint32_t reserved;
	uint64_t bytes;
};
enum { IO_ECHO, IO_TAKE, IO_GIVE }; /* messages back; bytes, answered by one; bytes, which the guest answers by one */

#endif

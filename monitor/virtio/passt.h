/* SPDX-License-Identifier: Apache-2.0 */
/* Starts passt, which gives a guest a network through ordinary sockets of the host, without privileges. */
#ifndef RIFFLE_MONITOR_VIRTIO_PASST_H
#define RIFFLE_MONITOR_VIRTIO_PASST_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <riffle/error.h>

#define PASST_FORWARDS_MAX 16

/* A port of the host that is forwarded to a port of the guest. */
struct passt_forward {
	bool udp;
	char address[INET6_ADDRSTRLEN]; /* of the host, numeric; empty: all of its addresses */
	uint16_t host_port, guest_port; /* neither 0 */
};

struct passt_config {
	struct passt_forward forward[PASST_FORWARDS_MAX];
	size_t forwards;
	bool host_loopback; /* the gateway's address leads to the host's loopback */
};

struct passt {
	int fd;         /* riffle's end: frames, each preceded by its length as 4 bytes, big-endian */
	int errors;     /* read end of its stderr, while it starts */
	pid_t starting; /* the process that exits once passt is ready */
};

/*
 * Starts passt without waiting for it, which passt_ready() does. passt runs as long as its peer's end `fd` is open,
 * however this process ends. Frames may be sent at once. Errors: UNSUPPORTED (passt is not installed), ARGUMENT
 * (forwards: a port of the host is taken or not allowed), IO.
 */
int passt_start(struct passt *passt, const struct passt_config *config, struct riffle_error *error);

/*
 * Waits until passt serves its socket. If it ended instead, `said` receives its error output, as one line of printable
 * text. Errors: IO.
 */
int passt_ready(struct passt *passt, char *said, size_t bytes, struct riffle_error *error);

/*
 * "tcp:8080:80", "udp:127.0.0.1:5353:53", "tcp:[::1]:8080:80": what is forwarded, the host's address, if not all of
 * them, the host's port and the guest's.
 */
bool passt_parse_forward(const char *text, struct passt_forward *forward);

/* Closes it, also after a failed start. */
void passt_close(struct passt *passt);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol of a machine's snapshot socket. */
#ifndef RIFFLE_MACHINE_SNAPSHOT_SOCKET_H
#define RIFFLE_MACHINE_SNAPSHOT_SOCKET_H

#include <stdint.h>
#include <sys/un.h>

#include <riffle/error.h>

/*
 * A unix socket of type SOCK_SEQPACKET. Requests are served one after the other, whichever client sends one; a request
 * is one message, and so is its answer. A connection ends after one request to save or to dump, or when its client
 * sends nothing for SNAPSHOT_PATIENCE_S seconds. If too many clients connect, the one that was silent longest is
 * disconnected.
 *
 * "last": asks whether the guest can be saved, and which save the guest's changes are relative to. Answer:
 * "last ID", 32 hexadecimal digits, "last none", or "error TEXT" if the guest cannot be saved. Another request may
 * follow.
 *
 * To save: the words below and two descriptors by SCM_RIGHTS, the state file's and the memory file's, both open for
 * reading and writing, not for appending, of two regular files. Answer: "saved MEMORY_BYTES_WRITTEN
 * NANOSECONDS_PAUSED", or "error TEXT"; " untracked" follows if changes were asked for, but nothing tells what changed,
 * so that all of the memory was written.
 */
#define SNAPSHOT_UNTRACKED " untracked"
#define SNAPSHOT_LAST "last"
#define SNAPSHOT_PATIENCE_S 5u
#define SNAPSHOT_ALL "save all" /* the memory file is empty */
/*
 * Followed by a space and the ID of the save that the memory file holds. If that is not the last save, nothing is
 * written.
 */
#define SNAPSHOT_CHANGED "save changed"
#define SNAPSHOT_AND_END " end" /* optional suffix: end the guest when it is saved */
/* With one descriptor, of an empty file, for an ELF core file. Answer: "dumped VMCOREINFO(0 or 1) MAPPINGS SLID(0 or
 * 1)". */
#define SNAPSHOT_DUMP "dump"
#define SNAPSHOT_MESSAGE_MAX 512u
#define SNAPSHOT_ID_DIGITS 32u

/* Errors: ARGUMENT (too long). */
int snapshot_address(struct sockaddr_un *address, const char *path, struct riffle_error *error);

/*
 * For a client: connects, sends "last" and puts the answer into `words`. Errors: IO, also if nobody answers for
 * SNAPSHOT_WAIT_S seconds; ARGUMENT (too long). On success *fd has no timeout.
 */
#define SNAPSHOT_WAIT_S 30u
int snapshot_connect(int *fd, const char *path, char words[SNAPSHOT_MESSAGE_MAX], struct riffle_error *error);

/*
 * For a client: sends a request with its descriptors and has the answer in `words`, which may tell of an error. Errors:
 * IO, also if the guest ends before.
 */
int snapshot_ask(int fd, const char *request, const int *files, unsigned count, char words[SNAPSHOT_MESSAGE_MAX],
		 struct riffle_error *error);

void snapshot_print_id(char text[SNAPSHOT_ID_DIGITS + 1], const uint8_t id[SNAPSHOT_ID_DIGITS / 2]);

#endif

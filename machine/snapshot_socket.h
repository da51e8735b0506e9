/* SPDX-License-Identifier: Apache-2.0 */
/* What is said on a machine's snapshot socket. */
#ifndef RIFFLE_MACHINE_SNAPSHOT_SOCKET_H
#define RIFFLE_MACHINE_SNAPSHOT_SOCKET_H

#include <sys/un.h>

#include <riffle/error.h>

/*
 * A unix socket of type SOCK_SEQPACKET, one request a connection. The request is one message: a word, and two
 * descriptors by SCM_RIGHTS, the state file's and the memory file's, both open for reading and writing. The answer is
 * one message: "saved MEMORY_BYTES_WRITTEN NANOSECONDS_PAUSED", or "error TEXT".
 */
#define SNAPSHOT_ALL "save all"         /* the memory file is empty */
#define SNAPSHOT_CHANGED "save changed" /* the memory file has an earlier memory of this guest */
#define SNAPSHOT_AND_END " end"         /* may follow: the guest ends when it is saved */
/* With one descriptor, of an empty file: an ELF core file goes there. Answer: "dumped VMCOREINFO(0 or 1) MAPPINGS". */
#define SNAPSHOT_DUMP "dump"
#define SNAPSHOT_MESSAGE_MAX 512u

/* Errors: ARGUMENT (too long). */
int snapshot_address(struct sockaddr_un *address, const char *path, struct riffle_error *error);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Isolates the jail from what neither paths nor namespaces separate: abstract sockets, and signals to other processes.
 */
#ifndef RIFFLE_JAILER_SCOPE_H
#define RIFFLE_JAILER_SCOPE_H

/*
 * By Landlock, since Linux 6.12; on older kernels it does nothing and returns 0. Needs PR_SET_NO_NEW_PRIVS. -1: see
 * errno.
 */
int scope_enter(void);

#endif

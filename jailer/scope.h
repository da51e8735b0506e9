/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts the jail off from what neither paths nor namespaces keep apart: abstract sockets, and signals to others. */
#ifndef RIFFLE_JAILER_SCOPE_H
#define RIFFLE_JAILER_SCOPE_H

/*
 * By Landlock, from Linux 6.12 on; older kernels have nothing for it, and 0 is returned all the same. Needs
 * PR_SET_NO_NEW_PRIVS. -1: see errno.
 */
int scope_enter(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The number that stands for the process's own id in the filter made at build time, and is replaced when it is used. */
#ifndef RIFFLE_MONITOR_SECCOMP_PID_H
#define RIFFLE_MONITOR_SECCOMP_PID_H

#define SECCOMP_OWN_PID 0x7f50494au     /* higher than any process id (PID_MAX_LIMIT) */

#endif

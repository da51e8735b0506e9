/* SPDX-License-Identifier: Apache-2.0 */
/* Placeholder for the process's own id in the filters, which are built in advance; replaced at run time. */
#ifndef RIFFLE_MONITOR_OWN_PID_H
#define RIFFLE_MONITOR_OWN_PID_H

#define CONFINE_OWN_PID 0x7f50494au /* higher than any process id (PID_MAX_LIMIT) */

#endif

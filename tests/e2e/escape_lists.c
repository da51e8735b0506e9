/* SPDX-License-Identifier: Apache-2.0 */
/* What is attempted, and the names of the kinds of threads that attempt it. */
#include <stddef.h>

#include "escape.h"
#include "monitor/confine/confine.h"

pid_t victim, starter;
int port, kvm = -1, tun = -1, disk = -1;

const char *const attempt_kinds[CONFINE_KINDS] = {
    [CONFINE_LOOP] = "loop",
    [CONFINE_LOOP_CONNECTS] = "loop_connects",
    [CONFINE_LOOP_OPENS] = "loop_opens",
    [CONFINE_LOOP_DEBUGS] = "loop_debugs",
    [CONFINE_LOOP_SAVES] = "loop_saves",
    [CONFINE_LOOP_SAVES_CONNECTS] = "loop_saves_connects",
    [CONFINE_VCPU] = "vcpu",
    [CONFINE_WRITER] = "writer",
    [CONFINE_DISK] = "disk",
    [CONFINE_API] = "api",
};

const struct attempt *const attempt_lists[] = {attempts_on_files, attempts_on_processes, attempts_on_network,
					       attempts_on_privileges, NULL};

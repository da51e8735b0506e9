/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Isolates the jail from what neither paths nor namespaces separate: abstract sockets, and signals to other processes.
 */
#include "jailer/scope.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From <linux/landlock.h> of Linux 6.12, which may be newer than the headers at build time. */
#define ABI_WITH_SCOPES 6
#define CREATE_RULESET_VERSION 1
#define SCOPE_ABSTRACT_UNIX_SOCKET 1
#define SCOPE_SIGNAL 2

int scope_enter(void)
{
	const struct {
		uint64_t handled_access_fs, handled_access_net, scoped;
	} ruleset = {0, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL};
	long rules, status;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION) < ABI_WITH_SCOPES)
		return 0;
	rules = syscall(SYS_landlock_create_ruleset, &ruleset, sizeof ruleset, 0);
	if (rules < 0)
		return -1;
	status = syscall(SYS_landlock_restrict_self, rules, 0);
	close((int)rules);
	return (int)status;
}

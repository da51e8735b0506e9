/* SPDX-License-Identifier: Apache-2.0 */
/* Restricts a thread to the system calls its kind needs, with seccomp filters compiled at build time. */
#include "monitor/confine/confine.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/sanitized.h"
#include "monitor/confine/own_pid.h"

#if SANITIZED
int confine_begin(struct riffle_error *error)
{
	(void)error;
	return 0;
}

int confine_thread(enum confine_kind kind, struct riffle_error *error)
{
	(void)kind, (void)error;
	return 0;
}

int confine_works(void)
{
	return 0;
}
#else
#include "monitor/confine_filters.h"

/* This process, once confine_begin() was called in it; otherwise 0. */
static _Atomic pid_t process;

static void forget_process(void)
{
	process = 0;
}

static int give_up_privileges(struct riffle_error *error)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return riffle_fail_system(error, errno, "PR_SET_NO_NEW_PRIVS", "failed");
	return 0;
}

int confine_begin(struct riffle_error *error)
{
	static bool watched;
	int status;

	if (process)
		return 0;
	if (!watched && pthread_atfork(NULL, NULL, forget_process))
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "pthread_atfork", "failed");
	watched = true;
	status = give_up_privileges(error);
	if (!status)
		process = getpid();
	return status;
}

static int install(const struct sock_filter *instructions, size_t count, struct riffle_error *error)
{
	struct sock_filter own[FILTER_INSTRUCTIONS_MAX];
	const struct sock_fprog program = {.len = (unsigned short)count, .filter = own};
	pid_t pid = process;
	int status = pid ? 0 : give_up_privileges(error);

	if (status)
		return status;
	if (!pid)
		pid = getpid();
	memcpy(own, instructions, count * sizeof *own);
	/* signals may only go to threads of this process */
	for (size_t i = 0; i < count; i++)
		if (own[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && own[i].k == CONFINE_OWN_PID)
			own[i].k = (uint32_t)pid;
	if (!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
		return 0;
	/* a thread that was started before confine_begin() has to give them up itself */
	if (errno == EACCES && process) {
		status = give_up_privileges(error);
		if (status || !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
			return status;
	}
	return riffle_fail_system(error, errno, "seccomp", "the system call filter cannot be installed");
}

int confine_thread(enum confine_kind kind, struct riffle_error *error)
{
	return install(filters[kind].instructions, filters[kind].count, error);
}

int confine_works(void)
{
	return 1;
}
#endif

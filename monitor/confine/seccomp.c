/* SPDX-License-Identifier: Apache-2.0 */
/* Confines the process to the system calls of a running microVM, by a filter compiled when riffle was built. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/confine/seccomp_pid.h"
#include "monitor/core/vm.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

int vm_lock_down(struct riffle_error *error)
{
#ifdef SANITIZED
	(void)error;
#else
	static const struct sock_filter instructions[] = {
#include "monitor/confine/seccomp_filter.h"
	};
	enum { COUNT = sizeof instructions / sizeof *instructions };
	struct sock_filter own[COUNT];
	const struct sock_fprog program = {.len = COUNT, .filter = own};
	/* signals only to threads of our own */
	for (unsigned i = 0; i < COUNT; i++) {
		own[i] = instructions[i];
		if (own[i].code == (BPF_JMP | BPF_JEQ | BPF_K) && own[i].k == SECCOMP_OWN_PID)
			own[i].k = (uint32_t)getpid();
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return riffle_fail_system(error, errno, "PR_SET_NO_NEW_PRIVS", "failed");
	long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	if (result < 0)
		return riffle_fail_system(error, errno, "seccomp", "the system call filter cannot be installed");
	if (result > 0)
		return riffle_fail_found(error, RIFFLE_ERR_IO, "seccomp", "a thread could not be confined",
					 (uint64_t)result);
#endif
	return 0;
}

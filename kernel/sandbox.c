/* SPDX-License-Identifier: Apache-2.0 */
/* Gives up privileges, sets limits, and filters system calls. */
#include "kernel/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/sanitized.h"

#define NOBODY 65534u
#define GIB (UINT64_C(1) << 30)

/* never raises a limit that is lower already; the soft limit lies `below` the hard one */
static int limit(int which, uint64_t value, uint64_t below, struct riffle_error *error)
{
	struct rlimit now;

	if (getrlimit((__rlimit_resource_t)which, &now) < 0)
		return riffle_fail_system(error, errno, "sandbox", "cannot read a limit");
	if (now.rlim_max == RLIM_INFINITY || now.rlim_max > value)
		now.rlim_max = value;
	if (now.rlim_cur == RLIM_INFINITY || now.rlim_cur > now.rlim_max)
		now.rlim_cur = now.rlim_max;
	if (now.rlim_cur == now.rlim_max && now.rlim_max > below)
		now.rlim_cur = now.rlim_max - below;
	if (setrlimit((__rlimit_resource_t)which, &now) < 0)
		return riffle_fail_system(error, errno, "sandbox", "cannot set a limit");
	return 0;
}

static int set_limits(unsigned seconds, struct riffle_error *error)
{
	int status = 0;

	/* a kernel of 1 GiB unpacked, what it was unpacked from, and an xz dictionary fit several times over */
	if (!SANITIZED)
		status = limit(RLIMIT_AS, 6 * GIB, 0, error);
	if (!status && seconds)
		/* at the soft limit SIGXCPU says what is the matter, at the hard one SIGKILL does not */
		status = limit(RLIMIT_CPU, (uint64_t)seconds + 1, 1, error);
	if (!status)
		status = limit(RLIMIT_CORE, 0, 0, error);
	if (!status)
		status = limit(RLIMIT_NOFILE, 32, 0, error);
	if (!status)
		status = limit(RLIMIT_FSIZE, 2 * GIB, 0, error);
	return status;
}

/*
 * Root becomes nobody. In a user namespace that maps no such id, or forbids setgroups, it stays what it is there:
 * that root has no more rights outside than the user who made the namespace, and the filter holds all the same.
 */
static int drop_root(struct riffle_error *error)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return riffle_fail_system(error, errno, "sandbox", "cannot give up root's groups");
	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL && errno != EPERM)
		return riffle_fail_system(error, errno, "sandbox", "cannot give up root's group");
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0 && errno != EINVAL && errno != EPERM)
		return riffle_fail_system(error, errno, "sandbox", "cannot give up root");
	return 0;
}

int sandbox_drop(unsigned seconds, struct riffle_error *error)
{
	int status;

	/* a write past a limit is an error to report, not a signal to die of */
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return riffle_fail_system(error, errno, "sandbox", "cannot forbid new privileges");
	status = set_limits(seconds, error);
	if (!status)
		status = drop_root(error);
	return status;
}

static const int plain_calls[] = {
    SCMP_SYS(read),          SCMP_SYS(pread64),         SCMP_SYS(write),          SCMP_SYS(pwrite64),
    SCMP_SYS(lseek),         SCMP_SYS(fstat),           SCMP_SYS(munmap),         SCMP_SYS(mremap),
    SCMP_SYS(brk),           SCMP_SYS(madvise),         SCMP_SYS(futex),          SCMP_SYS(exit),
    SCMP_SYS(exit_group),    SCMP_SYS(rt_sigreturn),    SCMP_SYS(rt_sigprocmask), SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime), SCMP_SYS(close),           SCMP_SYS(ftruncate),      SCMP_SYS(fallocate),
    SCMP_SYS(fadvise64),     SCMP_SYS(restart_syscall), SCMP_SYS(getpid),         SCMP_SYS(gettid),
    SCMP_SYS(sysinfo), /* glibc's qsort() asks how much memory there is */
};

/* what posix_spawn, the dynamic linker, lzop and objdump need on top, and laying the plain filter over this one */
static const int program_calls[] = {
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(memfd_create),
    SCMP_SYS(pipe2),
    SCMP_SYS(pipe),
    SCMP_SYS(clone),
    SCMP_SYS(clone3),
    SCMP_SYS(vfork),
    SCMP_SYS(execve),
    SCMP_SYS(wait4),
    SCMP_SYS(waitid),
    SCMP_SYS(kill),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fcntl),
    SCMP_SYS(close_range),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(openat),
    SCMP_SYS(open),
    SCMP_SYS(access),
    SCMP_SYS(faccessat2),
    SCMP_SYS(newfstatat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(statx),
    SCMP_SYS(readlink),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(prlimit64),
    SCMP_SYS(getrlimit),
    SCMP_SYS(uname),
    SCMP_SYS(seccomp),
    SCMP_SYS(umask),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(time),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(sysinfo),
    SCMP_SYS(times),
    SCMP_SYS(sched_yield),
    SCMP_SYS(getrusage),
};

static int allow(scmp_filter_ctx filter, const int *calls, size_t count)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < count; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	return rc;
}

/* stdio asks whether stdout is a terminal, from glibc 2.42 on by TCGETS2 */
static int allow_isatty(scmp_filter_ctx filter)
{
	static const unsigned asked[] = {TCGETS, 0x802c542a};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof asked / sizeof *asked; i++)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, asked[i]));
	return rc;
}

/* Calls that are allowed only with harmless arguments. */
static int allow_narrowly(scmp_filter_ctx filter)
{
	int rc;

	rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (!rc)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* glibc's fstat() */
	if (!rc)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
				      SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH));
	return rc;
}

int sandbox_filter(enum sandbox_profile profile, struct riffle_error *error)
{
	scmp_filter_ctx filter;
	int rc;

	if (SANITIZED)
		return 0;
	/* a program that we did not write may try harmless calls that are not foreseen: those fail, it goes on */
	filter = seccomp_init(profile == SANDBOX_PLAIN ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return riffle_fail_system(error, ENOMEM, "sandbox", "cannot make a system call filter");
	rc = allow(filter, plain_calls, sizeof plain_calls / sizeof *plain_calls);
	if (!rc)
		rc = allow_isatty(filter);
	if (!rc && profile == SANDBOX_PLAIN)
		rc = allow_narrowly(filter);
	if (!rc && profile == SANDBOX_RUNS_PROGRAM)
		rc = allow(filter, program_calls, sizeof program_calls / sizeof *program_calls);
	/* what libseccomp asks for before it loads a second filter */
	if (!rc && profile == SANDBOX_RUNS_PROGRAM)
		rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				      SCMP_A0(SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS));
	if (!rc)
		rc = seccomp_load(filter);
	seccomp_release(filter);
	if (rc)
		return riffle_fail_system(error, -rc, "sandbox", "cannot filter system calls");
	return 0;
}

int sandbox_confine(struct riffle_error *error)
{
	int status = sandbox_drop(SANDBOX_SECONDS, error);

	return status ? status : sandbox_filter(SANDBOX_PLAIN, error);
}

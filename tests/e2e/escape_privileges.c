/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to get privileges, or code, that the monitor does not have. */
#include "escape.h"

#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* The C library's functions would change all threads of a process, and wait for them. */
static bool become_root(void)
{
	return done(syscall(SYS_setresuid, 0, 0, 0));
}

static bool become_root_group(void)
{
	return done(syscall(SYS_setresgid, 0, 0, 0));
}

static bool take_groups(void)
{
	const gid_t root = 0;

	return done(syscall(SYS_setgroups, 1, &root));
}

static bool take_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{1u << CAP_SYS_ADMIN, 1u << CAP_SYS_ADMIN, 0}, {0, 0, 0}};

	return done(syscall(SYS_capset, &header, data));
}

static bool user_namespace(void)
{
	return done(unshare(CLONE_NEWUSER));
}

static bool join_namespace(void)
{
	return permitted(setns((int)syscall(434, victim, 0), CLONE_NEWNET));
}

static bool filter_listener(void)
{
	return permitted(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, NULL));
}

static bool load_program(void)
{
	union bpf_attr attributes = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER};

	return permitted(syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes));
}

static bool watch_processor(void)
{
	struct perf_event_attr attributes = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attributes};

	return opened(syscall(SYS_perf_event_open, &attributes, -1, 0, -1, 0));
}

static bool catch_faults(void)
{
	return opened(syscall(SYS_userfaultfd, 0));
}

static bool load_module(void)
{
	return permitted(syscall(SYS_init_module, "x", 1, ""));
}

static bool load_kernel(void)
{
	return permitted(syscall(SYS_kexec_load, 0, 0, NULL, 4 /* KEXEC_FILE_UNLOAD */ | 0x8000));
}

static bool restart_host(void)
{
	return permitted(reboot(RB_DISABLE_CAD));
}

static bool set_clock(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return done(clock_settime(CLOCK_REALTIME, &now));
}

static bool name_host(void)
{
	return done(sethostname("escaped", 7));
}

static bool add_key(void)
{
	return opened(syscall(SYS_add_key, "user", "escape", "x", 1, -4 /* KEY_SPEC_USER_KEYRING */));
}

static bool read_log(void)
{
	char buffer[64];

	return syscall(SYS_syslog, 3, buffer, sizeof buffer) >= 0;
}

static bool use_ports(void)
{
	return done(syscall(SYS_iopl, 3)) || permitted(syscall(SYS_ioperm, 0x80, 1, 1));
}

static bool raise_limit(void)
{
	const struct rlimit more = {1 << 20, 1 << 20};

	return done(setrlimit(RLIMIT_NOFILE, &more));
}

static bool be_dumpable(void)
{
	return done(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static bool map_code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool make_code(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0;
}

static bool make_code_with_key(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return page != MAP_FAILED && syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_EXEC, -1) == 0;
}

static bool type_ahead(void)
{
	/* any answer but "no such request for this file" would be one of a terminal */
	return ioctl(0, TIOCSTI, "x") == 0 || errno == ENOTTY;
}

static bool another_machine(void)
{
	return kvm >= 0 && opened(ioctl(kvm, KVM_CREATE_VM, 0));
}

static bool change_personality(void)
{
	return syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */) >= 0;
}

static bool write_ldt(void)
{
	const unsigned descriptor[4] = {0, 0, 0, 0x28 /* empty */};

	return done(syscall(SYS_modify_ldt, 1, descriptor, sizeof descriptor));
}

/* The 32-bit system calls have other numbers: 5 is open there, and fstat here. */
static bool old_system_calls(void)
{
	long result;
	static char path[] = SECRET;
	/* pointers of 32 bits only: the path is copied to where one reaches */
	char *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (low == MAP_FAILED)
		return false;
	memcpy(low, path, sizeof path);
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(5), "b"(low), "c"(0), "d"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return result >= 0;
}

static bool x32_system_calls(void)
{
	return opened(syscall(0x40000000 | SYS_openat, AT_FDCWD, SECRET, O_RDONLY, 0));
}

const struct attempt attempts_on_privileges[] = {
    ATTEMPT(become_root),       ATTEMPT(become_root_group),  ATTEMPT(take_groups),
    ATTEMPT(take_capabilities), ATTEMPT(user_namespace),     ATTEMPT(join_namespace),
    ATTEMPT(filter_listener),   ATTEMPT(load_program),       ATTEMPT(watch_processor),
    ATTEMPT(catch_faults),      ATTEMPT(load_module),        ATTEMPT(load_kernel),
    ATTEMPT(restart_host),      ATTEMPT(set_clock),          ATTEMPT(name_host),
    ATTEMPT(add_key),           ATTEMPT(read_log),           ATTEMPT(use_ports),
    ATTEMPT(raise_limit),       ATTEMPT(be_dumpable),        ATTEMPT(map_code),
    ATTEMPT(make_code),         ATTEMPT(make_code_with_key), ATTEMPT(type_ahead),
    ATTEMPT(another_machine),   ATTEMPT(change_personality), ATTEMPT(write_ldt),
    ATTEMPT(old_system_calls),  ATTEMPT(x32_system_calls),   {NULL, NULL},
};

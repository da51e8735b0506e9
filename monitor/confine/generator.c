/* SPDX-License-Identifier: Apache-2.0 */
/* Build-time program: prints each thread kind's system call filter as initialisers of a BPF program. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "monitor/confine/own_pid.h"

#define END_OF_LIST (-1)

/* TCGETS, TCSETS, and TCSETS2 and TCGETS2 of glibc 2.42 and later: tcsetattr(), which a crash handler calls in any
 * thread, does both */
#define RESTORE_TERMINAL 0x5401, 0x5402, 0x402c542b, 0x802c542a

/* For every thread: locks, clocks, signals, exit, and what a crash handler needs to restore the terminal. */
static const int common_calls[] = {
    SCMP_SYS(read),          SCMP_SYS(write),           SCMP_SYS(futex),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(restart_syscall),
    SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigprocmask),  SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),   SCMP_SYS(getpid),          SCMP_SYS(gettid),
    SCMP_SYS(sched_yield),   SCMP_SYS(munmap),          SCMP_SYS(madvise),
    SCMP_SYS(exit),          SCMP_SYS(exit_group),      END_OF_LIST,
};

/*
 * The event loop also ends the run: it joins threads, reports, and exits. It can open no path and start no program or
 * thread; its sockets are connections to the console and to vsock.
 */
static const int loop_calls[] = {
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(accept4),
    SCMP_SYS(shutdown),
    SCMP_SYS(close),
    SCMP_SYS(writev),
    SCMP_SYS(brk),
    SCMP_SYS(lseek),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(getpgrp),
    SCMP_SYS(getpgid),
    SCMP_SYS(getrusage),
    SCMP_SYS(fsync),
    SCMP_SYS(ppoll),
    SCMP_SYS(poll),
    /* disks (monitor/virtio/block_*.c): an io_uring restricted to its one file; files in memory; resizing */
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(pwritev2),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fallocate),
    /* virtio-rng */
    SCMP_SYS(getrandom),
    /* frames to and from a tap or passt; vsock streams */
    SCMP_SYS(readv),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(recvfrom),
    END_OF_LIST,
};
static const unsigned long loop_ioctls[] = {
    TUNSETOFFLOAD,
    KVM_IRQ_LINE,
    KVM_GET_MP_STATE,
    KVM_KVMCLOCK_CTRL,
    KVM_GET_REGS,
    0x5401 /* TCGETS */,
    0x5402 /* TCSETS */,
    0x540f /* TIOCGPGRP */,
    0x5413 /* TIOCGWINSZ */,
    0x802c542a /* TCGETS2 and */,
    0x402c542b /* TCSETS2: used by glibc 2.42 and later */,
    0,
};

/* Opening a disk's replacement file: open, stat, size, O_DIRECT. */
static const int open_calls[] = {SCMP_SYS(openat),  SCMP_SYS(open),   SCMP_SYS(newfstatat), SCMP_SYS(fstat),
				 SCMP_SYS(fstatfs), SCMP_SYS(mremap), END_OF_LIST};
static const unsigned long open_ioctls[] = {BLKGETSIZE64, BLKSSZGET, 0};

/* Snapshots: read state from KVM, write memory and state to files. */
static const int save_calls[] = {SCMP_SYS(recvmsg), SCMP_SYS(ftruncate), SCMP_SYS(fstat), SCMP_SYS(fstatfs),
				 END_OF_LIST};
static const unsigned long save_ioctls[] = {KVM_GET_SREGS,
					    KVM_GET_DEBUGREGS,
					    KVM_GET_LAPIC,
					    KVM_GET_VCPU_EVENTS,
					    KVM_GET_CPUID2,
					    KVM_GET_MSRS,
					    KVM_GET_FPU,
					    KVM_GET_XSAVE,
					    KVM_GET_XSAVE2,
					    KVM_GET_XCRS,
					    KVM_GET_TSC_KHZ,
					    KVM_GET_IRQCHIP,
					    KVM_GET_PIT2,
					    KVM_GET_CLOCK,
					    KVM_GET_DIRTY_LOG,
					    KVM_KVMCLOCK_CTRL,
					    0};
/* by path, for kinds that may open files */
static const int save_by_path_calls[] = {SCMP_SYS(rename),   SCMP_SYS(unlink),  SCMP_SYS(renameat),
					 SCMP_SYS(unlinkat), SCMP_SYS(geteuid), SCMP_SYS(getdents64),
					 END_OF_LIST};

/*
 * When a driver resets a disk, the vCPU's thread waits for the requests in flight. It serves small requests to a file
 * in memory itself.
 */
static const int vcpu_calls[] = {
    SCMP_SYS(io_uring_enter), SCMP_SYS(pread64),  SCMP_SYS(pwrite64),  SCMP_SYS(preadv),
    SCMP_SYS(pwritev),        SCMP_SYS(pwritev2), SCMP_SYS(fdatasync), END_OF_LIST,
};
static const unsigned long vcpu_ioctls[] = {KVM_RUN, KVM_GET_REGS, KVM_IRQ_LINE, RESTORE_TERMINAL, 0};

/* Disk images through preadv() and pwritev(), if io_uring is unavailable; opens nothing. */
static const int disk_calls[] = {
    SCMP_SYS(pread64),  SCMP_SYS(pwrite64),  SCMP_SYS(preadv),    SCMP_SYS(pwritev),
    SCMP_SYS(pwritev2), SCMP_SYS(fdatasync), SCMP_SYS(fallocate), END_OF_LIST,
};
static const unsigned long disk_ioctls[] = {RESTORE_TERMINAL, 0};

static const int writer_calls[] = {SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(close), END_OF_LIST};
static const unsigned long writer_ioctls[] = {RESTORE_TERMINAL, 0};

/* What a debugger needs from a vCPU, in addition to loop_ioctls. */
static const unsigned long debug_ioctls[] = {
    TUNSETOFFLOAD,
    KVM_IRQ_LINE,
    KVM_GET_MP_STATE,
    KVM_GET_REGS,
    KVM_SET_REGS,
    KVM_GET_SREGS,
    KVM_GET_FPU,
    KVM_SET_FPU,
    KVM_GET_MSRS,
    KVM_SET_GUEST_DEBUG,
    0x5401 /* TCGETS */,
    0x5402 /* TCSETS */,
    0x540f /* TIOCGPGRP */,
    0x5413 /* TIOCGWINSZ */,
    0x402c542b /* TCSETS2 */,
    0,
};

/*
 * Connections to the API's socket; the event loop carries out the requests. One-time initialisation of the thread's
 * libraries must be done before (jansson reads its hash seed from a file).
 */
static const int api_calls[] = {
    SCMP_SYS(accept4),   SCMP_SYS(poll),     SCMP_SYS(ppoll),  SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_ctl), SCMP_SYS(readv),    SCMP_SYS(writev), SCMP_SYS(recvfrom),   SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),   SCMP_SYS(shutdown), SCMP_SYS(close),  SCMP_SYS(brk),        SCMP_SYS(getrandom),
    SCMP_SYS(mremap),    END_OF_LIST,
};
static const unsigned long api_ioctls[] = {RESTORE_TERMINAL, 0};

/* in the order of enum confine_kind */
static const struct kind {
	const char *name;
	const int *calls;
	const unsigned long *ioctls;
	int allocates; /* malloc and stdio: memory may be mapped, never executable */
	int unlocks;   /* has locked files */
	int connects;  /* a guest's vsock reaches unix sockets on the host; no other sockets can be created */
	int saves;     /* snapshots */
	int opens;     /* files, while the guest runs, when its controller asks for it */
} kinds[] = {
    {"loop", loop_calls, loop_ioctls, 1, 1, 0, 0, 0},
    {"loop_connects", loop_calls, loop_ioctls, 1, 1, 1, 0, 0},
    {"loop_opens", loop_calls, loop_ioctls, 1, 1, 1, 1, 1},
    {"loop_debugs", loop_calls, debug_ioctls, 1, 1, 1, 1, 0},
    {"loop_saves", loop_calls, loop_ioctls, 1, 1, 0, 1, 0},
    {"loop_saves_connects", loop_calls, loop_ioctls, 1, 1, 1, 1, 0},
    {"vcpu", vcpu_calls, vcpu_ioctls, 0, 0, 0, 0, 0},
    {"writer", writer_calls, writer_ioctls, 0, 0, 0, 0, 0},
    {"disk", disk_calls, disk_ioctls, 0, 0, 0, 0, 0},
    {"api", api_calls, api_ioctls, 1, 0, 0, 0, 0},
};

static void check(int result)
{
	if (result == 0)
		return;
	fprintf(stderr, "generator: libseccomp error %d\n", result);
	exit(1);
}

static void allow_all(scmp_filter_ctx filter, const int *calls)
{
	for (; *calls != END_OF_LIST; calls++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, *calls, 0));
}

static void allow_ioctls(scmp_filter_ctx filter, const unsigned long *requests)
{
	/* the kernel ignores a request's high bits */
	for (; *requests; requests++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				       SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, *requests)));
}

static scmp_filter_ctx make_filter(const struct kind *kind)
{
	/* SIGSYS instead of a silent kill, so that the handler restores the terminal before the process dies */
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);

	if (!filter)
		check(-1);
	/* 32-bit system calls too: their default would end the thread alone, with its locks, and nobody would notice */
	check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_TRAP));
	allow_all(filter, common_calls);
	allow_all(filter, kind->calls);
	allow_ioctls(filter, kind->ioctls);
	if (kind->saves) {
		allow_all(filter, save_calls);
		allow_ioctls(filter, save_ioctls);
	}
	if (kind->opens && kind->saves) {
		allow_all(filter, save_by_path_calls);
		/* fdopendir() sets FD_CLOEXEC */
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, F_SETFD)));
	}
	/* the files of a snapshot come from a client, and are checked */
	if (kind->opens || kind->saves)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, F_GETFL)));
	if (kind->opens) {
		allow_all(filter, open_calls);
		allow_ioctls(filter, open_ioctls);
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, F_SETFL)));
	}
	/* a disk image is unlocked before it is closed; a snapshot's new files are locked */
	if (kind->unlocks || (kind->opens && kind->saves))
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, F_OFD_SETLK)));
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, SCMP_A0(SCMP_CMP_EQ, CONFINE_OWN_PID)));
	/*
	 * stdio stats its descriptors, through a call that can name any path. It copes with a failure, so the call
	 * always fails.
	 */
	if (!kind->opens) {
		check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(newfstatat), 0));
		if (!kind->saves)
			check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(fstat), 0));
	}
	if (kind->connects) {
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, AF_UNIX)));
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0));
	}
	if (kind->allocates) {
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)));
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)));
	}
	/* a binary tree of comparisons, so that KVM_RUN's ioctl does not walk a long list */
	check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2));
	return filter;
}

static unsigned print_filter(const struct kind *kind)
{
	scmp_filter_ctx filter = make_filter(kind);
	FILE *program = tmpfile();
	unsigned count = 0;

	if (!program) {
		perror("generator: tmpfile");
		exit(1);
	}
	check(seccomp_export_bpf(filter, fileno(program)));
	seccomp_release(filter);
	rewind(program);
	printf("static const struct sock_filter %s_filter[] = {\n", kind->name);
	for (struct sock_filter i; fread(&i, sizeof i, 1, program) == 1; count++)
		printf("\t{0x%04x, %u, %u, 0x%08x},\n", i.code, i.jt, i.jf, i.k);
	puts("};");
	fclose(program);
	return count;
}

int main(void)
{
	enum { KINDS = sizeof kinds / sizeof *kinds };
	unsigned longest = 0;

	puts("/* Generated by monitor/confine/generator.c. */");
	for (unsigned i = 0; i < KINDS; i++) {
		unsigned count = print_filter(&kinds[i]);

		longest = count > longest ? count : longest;
	}
	printf("#define FILTER_INSTRUCTIONS_MAX %u\n", longest);
	puts("static const struct {\n\tconst struct sock_filter *instructions;\n\tsize_t count;\n} "
	     "filters[CONFINE_KINDS] = {");
	for (unsigned i = 0; i < KINDS; i++)
		printf("\t{%s_filter, sizeof %s_filter / sizeof *%s_filter},\n", kinds[i].name, kinds[i].name,
		       kinds[i].name);
	puts("};");
	return ferror(stdout) || fflush(stdout) ? 1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a test guest does to its kernel on request. Each exercise is a file name of this one program, and prints lines
 * "guest: WHAT …" by which runs of a kernel can be compared:
 *
 *   efault   many system calls with bad pointers: prints the result of each
 *   symbols  /proc/kallsyms: count, whether it is sorted, a checksum of the names independent of their order, and one
 *            of the names in order
 *   bpf      loads a BPF program that calls helpers, and runs it
 *   kprobes  sets probes on about a hundred functions all over the kernel, hits them, and removes them
 *   tracer   the function tracer, on and off
 *   tasks    sysrq-t, and the resulting part of the kernel's log
 *   unload   unloads every module that can be unloaded
 *
 * Freestanding, as init is.
 */
#include "sys.h"

enum {
	NR_stat = 4,
	NR_poll = 7,
	NR_rt_sigaction = 13,
	NR_rt_sigprocmask = 14,
	NR_readv = 19,
	NR_writev = 20,
	NR_access = 21,
	NR_pipe = 22,
	NR_select = 23,
	NR_mincore = 27,
	NR_nanosleep = 35,
	NR_getitimer = 36,
	NR_setitimer = 38,
	NR_socket = 41,
	NR_connect = 42,
	NR_sendto = 44,
	NR_recvfrom = 45,
	NR_bind = 49,
	NR_getsockname = 51,
	NR_socketpair = 53,
	NR_setsockopt = 54,
	NR_getsockopt = 55,
	NR_clone = 56,
	NR_truncate = 76,
	NR_getcwd = 79,
	NR_rename = 82,
	NR_link = 86,
	NR_unlink = 87,
	NR_readlink = 89,
	NR_chmod = 90,
	NR_gettimeofday = 96,
	NR_getrlimit = 97,
	NR_getrusage = 98,
	NR_sysinfo = 99,
	NR_times = 100,
	NR_getgroups = 115,
	NR_getresuid = 118,
	NR_capget = 125,
	NR_rt_sigpending = 127,
	NR_sigaltstack = 131,
	NR_utime = 132,
	NR_statfs = 137,
	NR_prctl = 157,
	NR_arch_prctl = 158,
	NR_adjtimex = 159,
	NR_setrlimit = 160,
	NR_sethostname = 170,
	NR_init_module = 175,
	NR_delete_module = 176,
	NR_setxattr = 188,
	NR_getxattr = 191,
	NR_time = 201,
	NR_futex = 202,
	NR_io_setup = 206,
	NR_epoll_create = 213,
	NR_clock_settime = 227,
	NR_clock_getres = 229,
	NR_epoll_wait = 232,
	NR_epoll_ctl = 233,
	NR_waitid = 247,
	NR_openat = 257,
	NR_pselect6 = 270,
	NR_ppoll = 271,
	NR_vmsplice = 278,
	NR_signalfd = 282,
	NR_eventfd = 284,
	NR_timerfd_create = 283,
	NR_timerfd_settime = 286,
	NR_pipe2 = 293,
	NR_preadv = 295,
	NR_prlimit64 = 302,
	NR_sched_setattr = 314,
	NR_getrandom = 318,
	NR_memfd_create = 319,
	NR_bpf = 321,
	NR_execveat = 322,
	NR_statx = 332,
	NR_clone3 = 435,
	NR_openat2 = 437,
	NR_getpid = 39,
	NR_sched_yield = 24,
	NR_process_vm_readv = 310,
};

static char text[1024 * 1024];

static long write_text(const char *path, const char *what)
{
	long fd = SYS(NR_open, path, O_WRONLY | 02000 /* O_APPEND */, 0), n;
	if (fd < 0)
		return fd;
	n = SYS(NR_write, fd, what, length(what));
	SYS(NR_close, fd, 0, 0);
	return n;
}

static void put_errno(long r)
{
	if (r < 0)
		put_char('-');
	put_dec((uint64_t)(r < 0 ? -r : r));
}

/* ---- efault ---- */

/* In an argument's place: one of the bad pointers; FD: a descriptor of /proc/self/status. */
#define BAD (-0x7001L)
#define FD (-0x7002L)
#define SOCKET (-0x7003L)
#define ZERO (-0x7004L) /* a page of zeros */

static const struct call {
	const char *name;
	long number, argument[6];
} calls[] = {
    {"read", NR_read, {FD, BAD, 64}},
    {"write", NR_write, {FD, BAD, 64}},
    {"open", NR_open, {BAD, 0}},
    {"stat", NR_stat, {BAD, ZERO}},
    {"fstat", NR_fstat, {FD, BAD}},
    {"poll", NR_poll, {BAD, 1, 0}},
    {"rt_sigaction", NR_rt_sigaction, {10, BAD, 0, 8}},
    {"rt_sigaction-old", NR_rt_sigaction, {10, 0, BAD, 8}},
    {"rt_sigprocmask", NR_rt_sigprocmask, {0, BAD, 0, 8}},
    {"readv", NR_readv, {FD, BAD, 2}},
    {"writev", NR_writev, {FD, BAD, 2}},
    {"access", NR_access, {BAD, 0}},
    {"pipe", NR_pipe, {BAD}},
    {"select", NR_select, {64, BAD, 0, 0, ZERO}},
    {"mincore", NR_mincore, {ZERO, 4096, BAD}},
    {"nanosleep", NR_nanosleep, {BAD, 0}},
    {"getitimer", NR_getitimer, {0, BAD}},
    {"setitimer", NR_setitimer, {0, BAD, 0}},
    {"connect", NR_connect, {SOCKET, BAD, 16}},
    {"sendto", NR_sendto, {SOCKET, BAD, 16, 0, 0, 0}},
    {"bind", NR_bind, {SOCKET, BAD, 16}},
    {"getsockname", NR_getsockname, {SOCKET, ZERO, BAD}},
    {"socketpair", NR_socketpair, {1, 1, 0, BAD}},
    {"setsockopt", NR_setsockopt, {SOCKET, 1, 2, BAD, 4}},
    {"getsockopt", NR_getsockopt, {SOCKET, 1, 3, BAD, ZERO}},
    {"ioctl-TCGETS", NR_ioctl, {1, 0x5401, BAD}},
    {"ioctl-FIONREAD", NR_ioctl, {1, 0x541b, BAD}},
    {"ioctl-TIOCGWINSZ", NR_ioctl, {1, 0x5413, BAD}},
    {"execve", NR_execve, {BAD, 0, 0}},
    {"wait4", NR_wait4, {-1, BAD, 1, 0}},
    {"uname", NR_uname, {BAD}},
    {"truncate", NR_truncate, {BAD, 0}},
    {"getcwd", NR_getcwd, {BAD, 64}},
    {"rename", NR_rename, {BAD, BAD}},
    {"mkdir", NR_mkdir, {BAD, 0}},
    {"link", NR_link, {BAD, BAD}},
    {"unlink", NR_unlink, {BAD}},
    {"readlink", NR_readlink, {BAD, BAD, 16}},
    {"chmod", NR_chmod, {BAD, 0}},
    {"gettimeofday", NR_gettimeofday, {BAD, 0}},
    {"getrlimit", NR_getrlimit, {3, BAD}},
    {"getrusage", NR_getrusage, {0, BAD}},
    {"sysinfo", NR_sysinfo, {BAD}},
    {"times", NR_times, {BAD}},
    {"getgroups", NR_getgroups, {0, BAD}},
    {"getresuid", NR_getresuid, {BAD, BAD, BAD}},
    {"capget", NR_capget, {BAD, BAD}},
    {"rt_sigpending", NR_rt_sigpending, {BAD, 8}},
    {"sigaltstack", NR_sigaltstack, {BAD, 0}},
    {"utime", NR_utime, {BAD, BAD}},
    {"statfs", NR_statfs, {BAD, BAD}},
    {"prctl-name", NR_prctl, {15, BAD}},
    {"prctl-get-name", NR_prctl, {16, BAD}},
    {"arch_prctl", NR_arch_prctl, {0x1003, BAD}},
    {"adjtimex", NR_adjtimex, {BAD}},
    {"setrlimit", NR_setrlimit, {3, BAD}},
    {"sethostname", NR_sethostname, {BAD, 4}},
    {"mount", NR_mount, {BAD, BAD, BAD, 0, 0}},
    {"setxattr", NR_setxattr, {BAD, BAD, BAD, 4, 0}},
    {"time", NR_time, {BAD}},
    {"futex", NR_futex, {BAD, 0, 0, 0, 0, 0}},
    {"futex-wake-op", NR_futex, {BAD, 5, 1, 1, BAD, 0}},
    {"sched_getaffinity", NR_sched_getaffinity, {0, 128, BAD}},
    {"io_setup", NR_io_setup, {4, BAD}},
    {"getdents64", NR_getdents64, {FD, BAD, 512}},
    {"clock_gettime", NR_clock_gettime, {1, BAD}},
    {"clock_settime", NR_clock_settime, {0, BAD}},
    {"clock_getres", NR_clock_getres, {1, BAD}},
    {"epoll_ctl", NR_epoll_ctl, {FD, 1, FD, BAD}},
    {"waitid", NR_waitid, {0, 0, BAD, 4 | 1, 0}},
    {"openat", NR_openat, {-100, BAD, 0}},
    {"pselect6", NR_pselect6, {64, BAD, 0, 0, 0, 0}},
    {"ppoll", NR_ppoll, {BAD, 1, ZERO, 0, 8}},
    {"vmsplice", NR_vmsplice, {FD, BAD, 1, 0}},
    {"signalfd", NR_signalfd, {-1, BAD, 8}},
    {"pipe2", NR_pipe2, {BAD, 0}},
    {"preadv", NR_preadv, {FD, BAD, 2, 0}},
    {"prlimit64", NR_prlimit64, {0, 3, BAD, 0}},
    {"process_vm_readv", NR_process_vm_readv, {1, BAD, 1, BAD, 1, 0}},
    {"sched_setattr", NR_sched_setattr, {0, BAD, 0}},
    {"getrandom", NR_getrandom, {BAD, 16, 1}},
    {"memfd_create", NR_memfd_create, {BAD, 0}},
    {"bpf", NR_bpf, {5, BAD, 64}},
    {"statx", NR_statx, {-100, BAD, 0, 0, BAD}},
    {"clone3", NR_clone3, {BAD, 88}},
    {"openat2", NR_openat2, {-100, BAD, BAD, 24}},
    /* room for any line: where the log's last one does not fit, nothing is copied, and nothing faults */
    {"syslog", NR_syslog, {3, BAD, 65536}},
    {"finit_module", NR_finit_module, {FD, BAD, 0}},
    {"init_module", NR_init_module, {BAD, 4096, BAD}},
    {"delete_module", NR_delete_module, {BAD, 0}},
    /* parent_tid is bad: the child is created, and exits at once */
    {"clone", NR_clone, {0x00100000 /* PARENT_SETTID */ | 17, 0, BAD, 0, 0}},
};

static void efault(void)
{
	static char zeros[4096] __attribute__((aligned(4096)));
	long page = sys6(NR_mmap, 0, 8192, 3, 0x22, -1, 0);
	long fd = SYS(NR_open, "/proc/self/status", O_RDONLY, 0), socket = SYS(NR_socket, 1, 2, 0);
	const long bad[] = {16, page + 4096, page + 4096 - 3, (long)0xffffffff81000000, (long)0x8000000000001000};
	unsigned faults = 0;

	/* a hole after the first page: copies that start valid and then fault */
	sys6(11 /* munmap */, page + 4096, 4096, 0, 0, 0, 0);
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		begin("efault ");
		put(calls[i].name);
		put("=");
		for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
			long a[6], r;
			for (int n = 0; n < 6; n++) {
				long x = calls[i].argument[n];
				a[n] = x == BAD      ? bad[k]
				       : x == FD     ? fd
				       : x == SOCKET ? socket
				       : x == ZERO   ? (long)zeros
						     : x;
			}
			memset((char *)page, 0, 4096);
			r = sys6(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);
			if (calls[i].number == NR_clone && r == 0)
				SYS(NR_exit, 0, 0, 0);
			if (calls[i].number == NR_clone && r > 0) {
				sys6(NR_wait4, r, 0, 0, 0, 0, 0);
				r = 1;
			}
			faults += r == -14;
			if (k)
				put_char(',');
			put_errno(r > 0 ? 1 : r);
		}
		end();
	}
	begin("efault faults=");
	put_dec(faults);
	end();
}

/* ---- symbols ---- */

static uint64_t last_address, symbol_sum, symbol_order, symbol_count, unsorted;

static uint64_t hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325;
	while (*s)
		h = (h ^ (uint8_t)*s++) * 0x100000001b3;
	return h ^ h >> 29;
}

static uint64_t parse_hex(const char *s)
{
	uint64_t v = 0;
	for (;; s++) {
		if (*s >= '0' && *s <= '9')
			v = v << 4 | (uint64_t)(*s - '0');
		else if (*s >= 'a' && *s <= 'f')
			v = v << 4 | (uint64_t)(*s - 'a' + 10);
		else
			return v;
	}
}

static void take_symbol(char *line)
{
	uint64_t address = parse_hex(line);
	if (length(line) < 19 || find(line, "\t["))
		return;
	unsorted += address < last_address;
	last_address = address;
	symbol_sum += hash(line + 17);
	symbol_order = symbol_order * 31 + hash(line + 17);
	symbol_count++;
}

static void each_line(const char *path, void (*each)(char *line))
{
	static char buffer[65536];
	long fd = SYS(NR_open, path, O_RDONLY, 0), n;
	size_t have = 0;
	while (fd >= 0 && (n = SYS(NR_read, fd, buffer + have, sizeof buffer - 1 - have)) > 0) {
		size_t start = 0;
		have += (size_t)n;
		for (size_t i = 0; i < have; i++)
			if (buffer[i] == '\n') {
				buffer[i] = '\0';
				each(buffer + start);
				start = i + 1;
			}
		memcpy(buffer, buffer + start, have - start);
		have -= start;
	}
	if (fd >= 0)
		SYS(NR_close, fd, 0, 0);
}

static void symbols(void)
{
	each_line("/proc/kallsyms", take_symbol);
	begin("symbols count=");
	put_dec(symbol_count);
	put(" unsorted=");
	put_dec(unsorted);
	put(" sum=");
	put_hex(symbol_sum, 16);
	put(" order=");
	put_hex(symbol_order, 16);
	end();
}

/* ---- bpf ---- */

struct insn {
	uint8_t code, registers;
	int16_t offset;
	int32_t immediate;
};

/* r6 = ktime_get_ns(); r0 = get_prandom_u32(); r0 = get_smp_processor_id(); r0 = 42; exit */
static const struct insn program[] = {
    {0x85, 0, 0, 5}, {0xbf, 0x06, 0, 0}, {0x85, 0, 0, 7}, {0x85, 0, 0, 8}, {0xb7, 0, 0, 42}, {0x95, 0, 0, 0},
};

static void bpf(void)
{
	static char log[4096], packet[64], license[] = "GPL";
	static uint64_t attribute[18];
	long fd, r;

	attribute[0] = 1 /* SOCKET_FILTER */ | (uint64_t)(sizeof program / sizeof *program) << 32;
	attribute[1] = (uint64_t)program;
	attribute[2] = (uint64_t)license;
	attribute[3] = 1 | (uint64_t)sizeof log << 32;
	attribute[4] = (uint64_t)log;
	fd = SYS(NR_bpf, 5 /* PROG_LOAD */, attribute, 48);
	begin("bpf load=");
	put_errno(fd < 0 ? fd : 0);
	end();
	if (fd < 0)
		return;
	memset(attribute, 0, sizeof attribute);
	attribute[0] = (uint64_t)fd;
	attribute[1] = sizeof packet;
	attribute[2] = (uint64_t)packet;
	attribute[4] = 1000; /* repeat */
	r = SYS(NR_bpf, 10 /* PROG_TEST_RUN */, attribute, 48);
	begin("bpf run=");
	put_errno(r);
	put(" returned=");
	put_dec(attribute[0] >> 32);
	end();
}

/* ---- kprobes and the function tracer ---- */

#define TRACING "/sys/kernel/tracing/"

static bool mount_tracing(void)
{
	long r = sys6(NR_mount, (long)"tracefs", (long)"/sys/kernel/tracing", (long)"tracefs", 0, 0, 0);
	return r >= 0 || r == -16 /* mounted already */;
}

static void work(void)
{
	static char names[6][65];
	for (int i = 0; i < 50; i++) {
		int fds[2];
		SYS(NR_uname, names, 0, 0);
		long fd = SYS(NR_open, "/proc/self/stat", O_RDONLY, 0);
		SYS(NR_read, fd, text, 1024);
		SYS(NR_close, fd, 0, 0);
		SYS(NR_pipe, fds, 0, 0);
		SYS(NR_write, fds[1], "x", 1);
		SYS(NR_read, fds[0], text, 1);
		SYS(NR_close, fds[0], 0, 0);
		SYS(NR_close, fds[1], 0, 0);
		SYS(NR_sched_yield, 0, 0, 0);
	}
	long pid = SYS(NR_fork, 0, 0, 0);
	if (pid == 0)
		SYS(NR_exit, 0, 0, 0);
	sys6(NR_wait4, pid, 0, 0, 0, 0, 0);
}

enum { PROBES = 200 };
static unsigned functions, function_step, tried, set;

static void count_function(char *line)
{
	functions += !find(line, " [");
}

static void probe_function(char *line)
{
	static const char letters[] = "0123456789abcdef";
	char command[256] = "p:r000 ";
	size_t n;

	if (find(line, " [") || functions++ % function_step)
		return;
	n = length(line);
	if (n > 200)
		return;
	command[3] = letters[tried >> 8 & 15];
	command[4] = letters[tried >> 4 & 15];
	command[5] = letters[tried & 15];
	memcpy(command + 7, line, n + 1);
	tried++;
	if (write_text(TRACING "kprobe_events", command) > 0)
		set++;
}

static uint64_t hits, probes_hit, misses;

static void count_hits(char *line)
{
	uint64_t n[2] = {0, 0};
	char *s = line;
	while (*s == ' ')
		s++;
	while (*s && *s != ' ')
		s++;
	for (int i = 0; i < 2; i++) {
		while (*s == ' ')
			s++;
		for (; *s >= '0' && *s <= '9'; s++)
			n[i] = n[i] * 10 + (uint64_t)(*s - '0');
	}
	hits += n[0];
	misses += n[1];
	probes_hit += n[0] > 0;
}

static void say_result(const char *what, long r)
{
	begin(what);
	put_errno(r < 0 ? r : 0);
	end();
}

static void kprobes(void)
{
	static const char *const sure[] = {"p:s0 vfs_read", "p:s1 do_sys_openat2", "r:s2 vfs_write", "p:s3 schedule",
					   "r:s4 kernel_clone"};
	if (!mount_tracing()) {
		say("kprobes: no tracefs");
		return;
	}
	each_line(TRACING "available_filter_functions", count_function);
	function_step = functions / PROBES + 1;
	begin("kprobes functions=");
	put_dec(functions);
	end();
	functions = 0;
	each_line(TRACING "available_filter_functions", probe_function);
	for (size_t i = 0; i < sizeof sure / sizeof *sure; i++, tried++)
		set += write_text(TRACING "kprobe_events", sure[i]) > 0;
	say_result("kprobes enable=", write_text(TRACING "events/kprobes/enable", "1"));
	work();
	say_result("kprobes disable=", write_text(TRACING "events/kprobes/enable", "0"));
	each_line(TRACING "kprobe_profile", count_hits);
	begin("kprobes tried=");
	put_dec(tried);
	put(" set=");
	put_dec(set);
	put(" hit=");
	put_dec(probes_hit);
	put(" hits=");
	put_dec(hits);
	put(" missed=");
	put_dec(misses);
	end();
	long fd = SYS(NR_open, TRACING "kprobe_events", O_WRONLY | 01000 /* O_TRUNC */, 0);
	say_result("kprobes remove=", fd < 0 ? fd : SYS(NR_close, fd, 0, 0));
}

/* The number after "entries:" in the statistics of the first CPU's buffer. */
static uint64_t traced(void)
{
	uint64_t n = 0;
	const char *s;

	read_file(TRACING "per_cpu/cpu0/stats", text, 2048);
	for (s = find(text, "entries: "), s = s ? s + 9 : ""; *s >= '0' && *s <= '9'; s++)
		n = n * 10 + (uint64_t)(*s - '0');
	return n;
}

/* On for all functions: each call site that __mcount_loc names is patched, and patched back. */
static void tracer(void)
{
	uint64_t entries;

	if (!mount_tracing()) {
		say("tracer: no tracefs");
		return;
	}
	say_result("tracer on=", write_text(TRACING "current_tracer", "function"));
	work();
	write_text(TRACING "tracing_on", "0");
	entries = traced();
	functions = 0;
	each_line(TRACING "enabled_functions", count_function);
	say_result("tracer off=", write_text(TRACING "current_tracer", "nop"));
	begin("tracer functions=");
	put_dec(functions);
	put(" recorded=");
	put(entries > 1000 ? "many" : "few");
	functions = 0;
	each_line(TRACING "enabled_functions", count_function);
	put(" left=");
	put_dec(functions);
	end();
}

/* ---- sysrq-t ---- */

static void tasks(void)
{
	long n;

	SYS(NR_syslog, 5 /* CLEAR */, 0, 0);
	say_result("tasks sysrq=", write_text("/proc/sysrq-trigger", "t"));
	n = SYS(NR_syslog, 3 /* READ_ALL, since cleared */, text, sizeof text - 1);
	text[n < 0 ? 0 : n] = '\0';
	for (char *s = text, *next; *s; s = next) {
		for (next = s; *next && *next != '\n'; next++)
			;
		if (*next)
			*next++ = '\0';
		if (!find(s, "task:") && !find(s, "+0x"))
			continue;
		begin("log ");
		put(s);
		end();
	}
	say("tasks done");
}

/* ---- modules ---- */

static void unload(void)
{
	unsigned before = 0, left = 0, gone;
	static char name[64];

	do {
		gone = left = 0;
		read_file("/proc/modules", text, sizeof text);
		for (char *s = text; *s;) {
			size_t n = 0;
			while (s[n] && s[n] != ' ' && n < sizeof name - 1) {
				name[n] = s[n];
				n++;
			}
			name[n] = '\0';
			if (SYS(NR_delete_module, name, 04000 /* O_NONBLOCK */, 0) == 0)
				gone++;
			else
				left++;
			while (*s && *s != '\n')
				s++;
			if (*s)
				s++;
		}
		if (!before)
			before = gone + left;
	} while (gone);
	begin("unload loaded=");
	put_dec(before);
	put(" left=");
	put_dec(left);
	end();
}

__attribute__((used)) _Noreturn static void exercise_main(long *stack)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} what[] = {{"efault", efault}, {"symbols", symbols}, {"bpf", bpf},      {"kprobes", kprobes},
		    {"tracer", tracer}, {"tasks", tasks},     {"unload", unload}};
	const char *name = (const char *)stack[1];

	for (size_t i = length(name); i-- > 0;)
		if (name[i] == '/') {
			name += i + 1;
			break;
		}
	for (size_t i = 0; i < sizeof what / sizeof *what; i++)
		if (equal(name, what[i].name)) {
			what[i].run();
			SYS(NR_exit, 0, 0, 0);
		}
	for (;;)
		SYS(NR_exit, 127, 0, 0);
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall exercise_main\n\thlt\n");

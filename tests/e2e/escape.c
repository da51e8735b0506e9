/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a compromised thread of a monitor could try: each attempt is made in a process of its own, confined as a thread
 * of the kind that is asked for, with the descriptors of a monitor open. Prints "KIND NAME RESULT" for each: killed,
 * refused or REACHED.  usage: escape KIND|open VICTIM-PID PORT PARENT-PID [--only NAME]; riffle-jailer's options before
 * are skipped
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "monitor/confine/confine.h"

#define SECRET "/tmp/victim/secret"
#define AWAY "../../../../../../../../tmp/victim/secret"
#define NEW "/tmp/victim/new"

static pid_t victim, starter; /* processes outside, the first of the jail's own user */
static int port;              /* of a TCP server outside */
static int kvm = -1, tun = -1, disk = -1;

static bool opened(long fd)
{
	return fd >= 0;
}

static bool done(long result)
{
	return result == 0;
}

/* Got past the check of privileges: whatever else was wrong with the arguments. */
static bool permitted(long result)
{
	return result >= 0 || (errno != EPERM && errno != EACCES && errno != ENOSYS);
}

/* ---- files ---- */

static bool reads_secret(const char *path)
{
	char byte;
	int fd = open(path, O_RDONLY);

	return fd >= 0 && read(fd, &byte, 1) == 1;
}

static bool open_absolute(void)
{
	return reads_secret(SECRET);
}

static bool open_upwards(void)
{
	return reads_secret(AWAY);
}

static bool open_in_proc(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/root" SECRET, victim);
	return reads_secret(path);
}

static bool open_by_openat2(void)
{
	const unsigned long long how[3] = {O_RDONLY, 0, 0};

	return opened(syscall(437 /* openat2 */, AT_FDCWD, SECRET, how, sizeof how));
}

static bool write_secret(void)
{
	return opened(open(SECRET, O_WRONLY | O_APPEND));
}

static bool leave_chroot(void)
{
	if (mkdir("/tmp/victim/inner", 0700) < 0 && mkdir("/inner", 0700) < 0)
		return false;
	if (chroot("/tmp/victim/inner") < 0 && chroot("/inner") < 0)
		return false;
	for (int i = 0; i < 32; i++)
		if (chdir("..") < 0)
			return false;
	return chroot(".") == 0 && reads_secret(SECRET);
}

static bool change_root(void)
{
	return permitted(syscall(SYS_pivot_root, "/nowhere", "/nowhere"));
}

static bool mount_proc(void)
{
	return permitted(mount("proc", "/nowhere", "proc", 0, NULL));
}

static bool mount_files(void)
{
	return permitted(mount("none", "/nowhere", "tmpfs", 0, NULL));
}

static bool unmount(void)
{
	return permitted(umount2("/nowhere", MNT_DETACH));
}

static bool clone_mount(void)
{
	return permitted(syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
}

static bool open_by_handle(void)
{
	struct {
		struct file_handle handle;
		char bytes[128];
	} name = {.handle.handle_bytes = 8};

	return permitted(open_by_handle_at(disk, &name.handle, O_RDONLY));
}

static bool name_handle(void)
{
	struct {
		struct file_handle handle;
		char bytes[128];
	} name = {.handle.handle_bytes = 128};
	int id;

	return done(name_to_handle_at(AT_FDCWD, SECRET, &name.handle, &id, 0));
}

static bool link_secret(void)
{
	return done(link(SECRET, NEW));
}

static bool rename_secret(void)
{
	return done(rename(SECRET, NEW));
}

static bool unlink_secret(void)
{
	return done(unlink(SECRET));
}

static bool truncate_secret(void)
{
	return done(truncate(SECRET, 0));
}

static bool chmod_secret(void)
{
	return done(chmod(SECRET, 0777));
}

static bool chown_secret(void)
{
	return done(chown(SECRET, 12345, 12345));
}

static bool make_disk(void)
{
	return done(mknod("node", S_IFBLK | 0600, makedev(7, 0)));
}

static bool stat_secret(void)
{
	struct stat st;

	return done(stat(SECRET, &st));
}

static bool statx_secret(void)
{
	char buffer[256];

	return done(syscall(SYS_statx, AT_FDCWD, SECRET, 0, 0x7ff, buffer));
}

static bool access_secret(void)
{
	return done(access(SECRET, R_OK));
}

static bool list_directory(void)
{
	char buffer[1024];
	int fd = open("/tmp/victim", O_RDONLY | O_DIRECTORY);

	return fd >= 0 && syscall(SYS_getdents64, fd, buffer, sizeof buffer) > 0;
}

/* A ring of one's own has operations that no filter sees. */
static bool open_by_ring(void)
{
	struct io_uring_params parameters = {0};
	long ring = syscall(SYS_io_uring_setup, 4, &parameters);
	struct io_uring_sqe *entries;
	char *sq, *cq;

	if (ring < 0)
		return false;
	sq = mmap(NULL, parameters.sq_off.array + parameters.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED,
		  (int)ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, parameters.cq_off.cqes + parameters.cq_entries * 16, PROT_READ | PROT_WRITE, MAP_SHARED,
		  (int)ring, IORING_OFF_CQ_RING);
	entries = mmap(NULL, parameters.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, (int)ring,
		       IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || entries == MAP_FAILED)
		return false;
	entries[0] = (struct io_uring_sqe){.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)SECRET};
	*(unsigned *)(void *)(sq + parameters.sq_off.array) = 0;
	*(unsigned *)(void *)(sq + parameters.sq_off.tail) = 1;
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return false;
	return ((struct io_uring_cqe *)(void *)(cq + parameters.cq_off.cqes))->res >= 0;
}

static bool watch_secret(void)
{
	return opened(syscall(SYS_inotify_add_watch, syscall(SYS_inotify_init1, 0), SECRET, 0xfff));
}

static bool watch_everything(void)
{
	return permitted(syscall(SYS_fanotify_init, 0, 0));
}

/* ---- processes ---- */

static bool kill_victim(void)
{
	return done(kill(victim, SIGCONT));
}

static bool kill_starter(void)
{
	return done(kill(starter, SIGCONT));
}

static bool tgkill_victim(void)
{
	return done(syscall(SYS_tgkill, victim, victim, SIGCONT));
}

static bool tkill_victim(void)
{
	return done(syscall(SYS_tkill, victim, SIGCONT));
}

static bool queue_signal(void)
{
	siginfo_t info = {.si_code = SI_QUEUE};

	return done(syscall(SYS_rt_sigqueueinfo, victim, SIGCONT, &info));
}

static bool signal_by_pidfd(void)
{
	return done(syscall(424 /* pidfd_send_signal */, syscall(434 /* pidfd_open */, victim, 0), SIGCONT, NULL, 0));
}

static bool signal_by_owner(void)
{
	const int pid = victim;

	/* what is written to the descriptor then signals that process */
	return fcntl(disk, F_SETOWN, pid) == 0 && fcntl(disk, F_SETSIG, SIGCONT) == 0;
}

static bool take_descriptor(void)
{
	return opened(syscall(438 /* pidfd_getfd */, syscall(434, victim, 0), 0, 0));
}

static bool trace_victim(void)
{
	return done(ptrace(PTRACE_ATTACH, victim, 0, 0));
}

static bool seize_victim(void)
{
	return done(ptrace(PTRACE_SEIZE, victim, 0, 0));
}

static bool read_memory(void)
{
	char byte;
	struct iovec here = {&byte, 1}, there = {&there, 1};

	return process_vm_readv(victim, &here, 1, &there, 1, 0) >= 0 || permitted(-1);
}

static bool write_memory(void)
{
	char byte = 0;
	struct iovec here = {&byte, 1}, there = {NULL, 1};

	return process_vm_writev(victim, &here, 1, &there, 1, 0) >= 0 || permitted(-1);
}

static bool limit_victim(void)
{
	const struct rlimit limit = {0, RLIM_INFINITY};

	return done(prlimit(victim, RLIMIT_CORE, NULL, (struct rlimit *)(uintptr_t)&limit)) ||
	       done(prlimit(victim, RLIMIT_CORE, &limit, NULL));
}

static bool move_victim(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	return done(sched_setaffinity(victim, sizeof set, &set));
}

static bool slow_victim(void)
{
	return done(setpriority(PRIO_PROCESS, (id_t)victim, 19));
}

static bool compare_victim(void)
{
	return permitted(syscall(SYS_kcmp, victim, victim, 0, 0, 0));
}

static bool fork_process(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	return child > 0;
}

static bool clone_process(void)
{
	long child = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);

	if (child == 0)
		_exit(0);
	return child > 0;
}

static bool clone3_process(void)
{
	const unsigned long long arguments[8] = {[4] = SIGCHLD};
	long child = syscall(435 /* clone3 */, arguments, sizeof arguments);

	if (child == 0)
		_exit(0);
	return child > 0;
}

static bool execute(const char *path)
{
	char *arguments[] = {(char *)(uintptr_t) "escape", NULL};

	/* the program started says so itself, by its exit status */
	execve(path, arguments, arguments + 1);
	return false;
}

static bool execute_itself(void)
{
	return execute("/escape") || execute("/tmp/victim/escape");
}

static bool execute_memory(void)
{
	long fd = syscall(SYS_memfd_create, "x", 0);
	static const char script[] = "#!/tmp/victim/escape\n";
	char *arguments[] = {(char *)(uintptr_t) "escape", NULL};

	if (fd < 0 || write((int)fd, script, sizeof script - 1) < 0)
		return false;
	syscall(SYS_execveat, fd, "", arguments, arguments + 1, AT_EMPTY_PATH);
	return permitted(-1);
}

static bool shared_memory(void)
{
	return opened(shmget(0x71ff1e, 4096, IPC_CREAT | 0600));
}

static bool message_queue(void)
{
	return opened(syscall(SYS_msgget, 0x71ff1e, IPC_CREAT | 0600));
}

static bool posix_queue(void)
{
	return opened(syscall(SYS_mq_open, "riffle-escape", O_CREAT | O_RDWR, 0600, NULL));
}

/* ---- network ---- */

static bool connect_inet(void)
{
	const struct sockaddr_in there = {AF_INET, htons((uint16_t)port), {htonl(INADDR_LOOPBACK)}, {0}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return done(connect(fd, (const struct sockaddr *)&there, sizeof there));
}

static bool socket_inet6(void)
{
	return opened(socket(AF_INET6, SOCK_DGRAM, 0));
}

static bool socket_raw(void)
{
	return opened(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static bool socket_packet(void)
{
	return opened(socket(AF_PACKET, SOCK_RAW, htons(3)));
}

static bool socket_netlink(void)
{
	return opened(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
}

static bool socket_algorithm(void)
{
	return permitted(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0));
}

static bool connect_unix(const char *path, bool abstract)
{
	struct sockaddr_un there = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(there.sun_path + abstract, path);
	return done(connect(fd, (const struct sockaddr *)&there,
			    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + abstract + strlen(path) + !abstract)));
}

static bool connect_path(void)
{
	return connect_unix("/tmp/victim/socket", false);
}

static bool connect_upwards(void)
{
	return connect_unix("../../../../tmp/victim/socket", false);
}

/* Has no path, so no root directory is in the way: only a network namespace or Landlock's scope is. */
static bool connect_abstract(void)
{
	return connect_unix("riffle-victim", true);
}

static bool make_tap(void)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};

	return done(ioctl(tun, TUNSETIFF, &request));
}

static bool listen_inet(void)
{
	const struct sockaddr_in here = {AF_INET, 0, {htonl(INADDR_ANY)}, {0}};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return done(bind(fd, (const struct sockaddr *)&here, sizeof here)) && done(listen(fd, 1));
}

/* ---- privileges ---- */

static bool become_root(void)
{
	return done(setresuid(0, 0, 0));
}

static bool become_root_group(void)
{
	return done(setresgid(0, 0, 0));
}

static bool take_groups(void)
{
	const gid_t root = 0;

	return done(setgroups(1, &root));
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

#define ATTEMPT(name)                                                                                                  \
	{                                                                                                              \
#name, name                                                                                            \
	}
static const struct {
	const char *name;
	bool (*act)(void);
} attempts[] = {
    ATTEMPT(open_absolute),      ATTEMPT(open_upwards),      ATTEMPT(open_in_proc),     ATTEMPT(open_by_openat2),
    ATTEMPT(write_secret),       ATTEMPT(leave_chroot),      ATTEMPT(change_root),      ATTEMPT(mount_proc),
    ATTEMPT(mount_files),        ATTEMPT(unmount),           ATTEMPT(clone_mount),      ATTEMPT(open_by_handle),
    ATTEMPT(name_handle),        ATTEMPT(link_secret),       ATTEMPT(rename_secret),    ATTEMPT(unlink_secret),
    ATTEMPT(truncate_secret),    ATTEMPT(chmod_secret),      ATTEMPT(chown_secret),     ATTEMPT(make_disk),
    ATTEMPT(stat_secret),        ATTEMPT(statx_secret),      ATTEMPT(access_secret),    ATTEMPT(list_directory),
    ATTEMPT(open_by_ring),       ATTEMPT(watch_secret),      ATTEMPT(watch_everything), ATTEMPT(kill_victim),
    ATTEMPT(kill_starter),       ATTEMPT(tgkill_victim),     ATTEMPT(tkill_victim),     ATTEMPT(queue_signal),
    ATTEMPT(signal_by_pidfd),    ATTEMPT(signal_by_owner),   ATTEMPT(take_descriptor),  ATTEMPT(trace_victim),
    ATTEMPT(seize_victim),       ATTEMPT(read_memory),       ATTEMPT(write_memory),     ATTEMPT(limit_victim),
    ATTEMPT(move_victim),        ATTEMPT(slow_victim),       ATTEMPT(compare_victim),   ATTEMPT(fork_process),
    ATTEMPT(clone_process),      ATTEMPT(clone3_process),    ATTEMPT(execute_itself),   ATTEMPT(execute_memory),
    ATTEMPT(shared_memory),      ATTEMPT(message_queue),     ATTEMPT(posix_queue),      ATTEMPT(connect_inet),
    ATTEMPT(socket_inet6),       ATTEMPT(socket_raw),        ATTEMPT(socket_packet),    ATTEMPT(socket_netlink),
    ATTEMPT(socket_algorithm),   ATTEMPT(connect_path),      ATTEMPT(connect_upwards),  ATTEMPT(connect_abstract),
    ATTEMPT(make_tap),           ATTEMPT(listen_inet),       ATTEMPT(become_root),      ATTEMPT(become_root_group),
    ATTEMPT(take_groups),        ATTEMPT(take_capabilities), ATTEMPT(user_namespace),   ATTEMPT(join_namespace),
    ATTEMPT(filter_listener),    ATTEMPT(load_program),      ATTEMPT(watch_processor),  ATTEMPT(catch_faults),
    ATTEMPT(load_module),        ATTEMPT(load_kernel),       ATTEMPT(restart_host),     ATTEMPT(set_clock),
    ATTEMPT(name_host),          ATTEMPT(add_key),           ATTEMPT(read_log),         ATTEMPT(use_ports),
    ATTEMPT(raise_limit),        ATTEMPT(be_dumpable),       ATTEMPT(map_code),         ATTEMPT(make_code),
    ATTEMPT(make_code_with_key), ATTEMPT(type_ahead),        ATTEMPT(another_machine),  ATTEMPT(change_personality),
    ATTEMPT(write_ldt),          ATTEMPT(old_system_calls),  ATTEMPT(x32_system_calls),
};

/* in the order of enum confine_kind */
static const char *const kinds[CONFINE_KINDS] = {"loop",   "loop_connects", "loop_opens", "vcpu",
						 "writer", "disk",          "api"};

/* The file is what it was before each attempt, where it can be made: outside of a jail. */
static void restore(void)
{
	int fd = open(SECRET, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0)
		return;
	(void)!write(fd, "secret", 6);
	close(fd);
	unlink(NEW);
}

static const char *attempt(int kind, bool (*act)(void))
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		struct riffle_error error;

		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		signal(SIGSYS, SIG_DFL);
		alarm(10);
		if (kind >= 0 && confine_thread((enum confine_kind)kind, &error))
			_exit(90);
		errno = 0;
		_exit(act() ? 1 : 0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return "LOST";
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? "killed" : WTERMSIG(status) == SIGSEGV ? "crashed" : "DIED";
	return WEXITSTATUS(status) == 1 ? "REACHED" : WEXITSTATUS(status) ? "UNCONFINED" : "refused";
}

int main(int argc, char **argv)
{
	int kind = -1, at = argc - 4;

	if (argc < 5)
		return 1; /* execute_itself() came here: its attempt's exit status */
	for (int i = 0; i < CONFINE_KINDS; i++)
		if (!strcmp(argv[at], kinds[i]))
			kind = i;
	if (kind < 0 && strcmp(argv[at], "open"))
		return 2;
	victim = (pid_t)atoi(argv[at + 1]);
	port = atoi(argv[at + 2]);
	starter = (pid_t)atoi(argv[at + 3]);
	kvm = open("/dev/kvm", O_RDWR);
	tun = open("/dev/net/tun", O_RDWR);
	disk = open("disk", O_RDWR | O_CREAT, 0600);
	(void)epoll_create1(0);
	(void)syscall(SYS_io_uring_setup, 4, &(struct io_uring_params){0});
	printf("begin %d %d %d\n", kvm >= 0, tun >= 0, disk >= 0);
	for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
		restore();
		printf("%s %s %s\n", argv[at], attempts[i].name, attempt(kind, attempts[i].act));
	}
	puts("end");
	return 0;
}

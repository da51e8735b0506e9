/* SPDX-License-Identifier: Apache-2.0 */
/* Attempts to reach other processes, and the network. */
#include "escape.h"

#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>

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

	/* SIGIO from the descriptor then goes to that process */
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
	long child = syscall(SYS_fork); /* the C library's would keep its locks when it is stopped */

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

/* An abstract socket has no path, so only a network namespace or a Landlock scope blocks it. */
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

const struct attempt attempts_on_processes[] = {
    ATTEMPT(kill_victim),
    ATTEMPT(kill_starter),
    ATTEMPT(tgkill_victim),
    ATTEMPT(tkill_victim),
    ATTEMPT(queue_signal),
    ATTEMPT(signal_by_pidfd),
    ATTEMPT(signal_by_owner),
    ATTEMPT(take_descriptor),
    ATTEMPT(trace_victim),
    ATTEMPT(seize_victim),
    ATTEMPT(read_memory),
    ATTEMPT(write_memory),
    ATTEMPT(limit_victim),
    ATTEMPT(move_victim),
    ATTEMPT(slow_victim),
    ATTEMPT(compare_victim),
    ATTEMPT(fork_process),
    ATTEMPT(clone_process),
    ATTEMPT(clone3_process),
    ATTEMPT(execute_itself),
    ATTEMPT(execute_memory),
    ATTEMPT(shared_memory),
    ATTEMPT(message_queue),
    ATTEMPT(posix_queue),
    {NULL, NULL},
};

const struct attempt attempts_on_network[] = {
    ATTEMPT(connect_inet),     ATTEMPT(socket_inet6),     ATTEMPT(socket_raw),   ATTEMPT(socket_packet),
    ATTEMPT(socket_netlink),   ATTEMPT(socket_algorithm), ATTEMPT(connect_path), ATTEMPT(connect_upwards),
    ATTEMPT(connect_abstract), ATTEMPT(make_tap),         ATTEMPT(listen_inet),  {NULL, NULL},
};

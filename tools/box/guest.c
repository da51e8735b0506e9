/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The init of the kvmbox: it loads the modules, makes the host's shared tree its root, runs one command there and
 * passes its input, output and exit status through a virtio-serial port.
 */
#define _GNU_SOURCE
#include "proto.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct config {
	char *text; /* the strings themselves */
	const char *cwd;
	const char *mount_options;
	char **argv, **envp, **binds, **modules;
	size_t argc, envc, bindc, modulec;
	bool tty, merge;
	struct winsize window;
};

static int channel = -1;

/* Errors before the command runs go to the kernel's console, which the host shows if the box dies. */
static _Noreturn void die(const char *what, const char *about)
{
	fprintf(stderr, "kvmbox: %s %s: %s\n", what, about, strerror(errno));
	fflush(stderr);
	sync();
	reboot(RB_POWER_OFF);
	_exit(1);
}

/* ---- the channel ---- */

static bool read_full(void *to, size_t size)
{
	char *at = to;
	while (size) {
		ssize_t n = read(channel, at, size);
		if (n < 0 && errno != EINTR)
			return false;
		if (n == 0) /* the host's end is not open yet, or closed: then this machine is about to be killed */
			usleep(1000);
		if (n > 0) {
			at += n;
			size -= (size_t)n;
		}
	}
	return true;
}

static void write_full(const void *from, size_t size)
{
	const char *at = from;
	while (size) {
		ssize_t n = write(channel, at, size);
		if (n < 0 && errno != EINTR)
			die("write to", "the channel");
		if (n > 0) {
			at += n;
			size -= (size_t)n;
		}
	}
}

static void send_frame(uint32_t type, const void *data, uint32_t size)
{
	static char frame[sizeof(struct box_header) + BOX_DATA_MAX];
	struct box_header h = {type, size};
	memcpy(frame, &h, sizeof h);
	memcpy(frame + sizeof h, data, size);
	write_full(frame, sizeof h + size);
}

/* The port's device node appears shortly after its driver is loaded. */
static void open_channel(void)
{
	for (int tries = 0; tries < 10000; tries++) {
		DIR *d = opendir("/dev");
		if (!d)
			die("open", "/dev");
		for (struct dirent *e; (e = readdir(d));) {
			if (!strncmp(e->d_name, "vport", 5)) {
				channel = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC);
				break;
			}
		}
		closedir(d);
		if (channel >= 0)
			return;
		usleep(1000);
	}
	errno = ENODEV;
	die("open", "the virtio-serial port");
}

static const char *value_of(const char *string, const char *key)
{
	size_t n = strlen(key);
	return !strncmp(string, key, n) && string[n] == '=' ? string + n + 1 : NULL;
}

static void append(char ***list, size_t *count, const char *value)
{
	char **more = realloc(*list, (*count + 2) * sizeof **list);
	if (!more)
		die("allocate", "memory");
	*list = more;
	more[(*count)++] = (char *)value;
	more[*count] = NULL;
}

static void read_config(struct config *c)
{
	struct box_header h;
	if (!read_full(&h, sizeof h))
		die("read", "the channel");
	if (h.type != BOX_CONFIG || h.length > BOX_CONFIG_MAX || !(c->text = calloc(1, h.length + 1u))) {
		errno = EPROTO;
		die("read", "the configuration");
	}
	if (!read_full(c->text, h.length))
		die("read", "the channel");
	append(&c->envp, &c->envc, NULL);
	c->envc = 0;
	for (char *s = c->text; s < c->text + h.length; s += strlen(s) + 1) {
		const char *v;
		if ((v = value_of(s, "cwd")))
			c->cwd = v;
		else if ((v = value_of(s, "mount")))
			c->mount_options = v;
		else if ((v = value_of(s, "arg")))
			append(&c->argv, &c->argc, v);
		else if ((v = value_of(s, "env")))
			append(&c->envp, &c->envc, v);
		else if ((v = value_of(s, "bind")))
			append(&c->binds, &c->bindc, v);
		else if ((v = value_of(s, "module")))
			append(&c->modules, &c->modulec, v);
		else if ((v = value_of(s, "tty")))
			c->tty = *v == '1';
		else if ((v = value_of(s, "merge")))
			c->merge = *v == '1';
		else if ((v = value_of(s, "rows")))
			c->window.ws_row = (unsigned short)atoi(v);
		else if ((v = value_of(s, "cols")))
			c->window.ws_col = (unsigned short)atoi(v);
	}
	if (!c->cwd || !c->mount_options || !c->argc) {
		errno = EPROTO;
		die("read", "the configuration");
	}
}

/* ---- the machine ---- */

static bool load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		die("load module", path);
	close(fd);
	return true;
}

static void load_boot_modules(void)
{
	char path[32];
	for (unsigned i = 0; snprintf(path, sizeof path, "/modules/%02u.ko", i), load_module(path); i++)
		;
}

static void mount_or_die(const char *source, const char *target, const char *type, unsigned long flags,
			 const char *data)
{
	if (mount(source, target, type, flags, data))
		die("mount", target);
}

/* Binds `path` in the mount `from` to the same path below /root. */
static void bind_path(const char *from, const char *path)
{
	char source[4096 + 8], target[4096 + 8], link[4096];
	struct stat st;
	snprintf(source, sizeof source, "%s%s", from, path);
	snprintf(target, sizeof target, "/root%s", path);
	if (lstat(source, &st))
		return;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(source, link, sizeof link - 1);
		link[n < 0 ? 0 : n] = '\0';
		if (symlink(link, target))
			die("link", target);
		return;
	}
	if (S_ISDIR(st.st_mode))
		mkdir(target, 0755);
	else if (S_ISREG(st.st_mode))
		close(open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	else
		return;
	mount_or_die(source, target, NULL, MS_BIND, NULL);
}

/*
 * Directories with programs, libraries and settings, assumed not to change while the box runs unless the command works
 * there.
 */
static bool is_system(const char *name, const char *cwd)
{
	static const char *const names[] = {"usr", "etc", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32"};
	size_t n = strlen(name);
	if (!strncmp(cwd + 1, name, n) && (cwd[n + 1] == '/' || !cwd[n + 1]))
		return false;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/*
 * The root is a tmpfs with the host's top-level directories bound into it, so that looking up the first component of a
 * path needs no request to the host (half a millisecond). The host's tree is mounted twice: with cache=mmap, where
 * writes reach the host at once and the host's changes are visible; and with cache=loose, which never revalidates, for
 * system files.
 */
static void bind_host(const struct config *c)
{
	static const char own[][5] = {"proc", "sys", "dev", "run", "tmp"};
	char loose[1024], mmapped[1024], path[300];
	snprintf(loose, sizeof loose, "%s,cache=loose", c->mount_options);
	snprintf(mmapped, sizeof mmapped, "%s,cache=mmap", c->mount_options);
	mkdir("/share", 0755);
	mkdir("/system", 0755);
	mkdir("/root", 0755);
	mount_or_die("share", "/share", "9p", 0, mmapped);
	mount_or_die("system", "/system", "9p", 0, loose);
	mount_or_die("root", "/root", "tmpfs", 0, "mode=755");
	DIR *d = opendir("/share");
	if (!d)
		die("open", "/share");
	for (struct dirent *e; (e = readdir(d));) {
		bool skip = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
		for (size_t i = 0; i < sizeof own / sizeof *own; i++)
			skip |= !strcmp(e->d_name, own[i]);
		snprintf(path, sizeof path, "/%s", e->d_name);
		if (!skip)
			bind_path(is_system(e->d_name, c->cwd) ? "/system" : "/share", path);
	}
	closedir(d);
	for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
		snprintf(path, sizeof path, "/root/%s", own[i]);
		mkdir(path, 0755);
	}
}

static void loopback_up(void)
{
	struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s >= 0) {
		ioctl(s, SIOCSIFFLAGS, &r);
		close(s);
	}
}

static void build_root(const struct config *c)
{
	bind_host(c);
	mount_or_die("proc", "/root/proc", "proc", 0, NULL);
	mount_or_die("sys", "/root/sys", "sysfs", 0, NULL);
	mount_or_die("dev", "/root/dev", "devtmpfs", 0, NULL);
	mkdir("/root/dev/pts", 0755);
	mkdir("/root/dev/shm", 01777);
	mount_or_die("devpts", "/root/dev/pts", "devpts", 0, "mode=620,ptmxmode=666");
	mount_or_die("shm", "/root/dev/shm", "tmpfs", 0, "mode=1777");
	mount_or_die("run", "/root/run", "tmpfs", 0, "mode=755");
	mount_or_die("tmp", "/root/tmp", "tmpfs", 0, "mode=1777,size=90%");
	mount("debugfs", "/root/sys/kernel/debug", "debugfs", 0, NULL);
	mount("tracefs", "/root/sys/kernel/tracing", "tracefs", 0, NULL);
	for (size_t i = 0; i < c->bindc; i++)
		bind_path("/share", c->binds[i]);
	if (symlink("/proc/self/fd", "/root/dev/fd") || symlink("/proc/self/fd/0", "/root/dev/stdin") ||
	    symlink("/proc/self/fd/1", "/root/dev/stdout") || symlink("/proc/self/fd/2", "/root/dev/stderr"))
		die("link", "/dev/fd");
	for (size_t i = 0; i < c->modulec; i++) {
		char path[4096 + 8];
		snprintf(path, sizeof path, "/share%s", c->modules[i]);
		if (!load_module(path))
			die("open module", path);
	}
	/* As switch_root does: unlike chroot, a moved root allows pivot_root and user namespaces. */
	if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		die("enter", "the shared root");
	loopback_up();
}

/* ---- the command ---- */

static _Noreturn void run_command(const struct config *c)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (chdir(c->cwd)) {
		fprintf(stderr, "kvmbox: %s: %s\n", c->cwd, strerror(errno));
		_exit(126);
	}
	environ = c->envp;
	execvp(c->argv[0], c->argv);
	fprintf(stderr, "kvmbox: %s: %s\n", c->argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Starts the command with its three streams; pipes[] get this process's ends, -1 for a missing one. */
static pid_t start_command(const struct config *c, int pipes[3])
{
	pid_t pid;
	pipes[0] = pipes[1] = pipes[2] = -1;
	if (c->tty) {
		int master;
		pid = forkpty(&master, NULL, NULL, &c->window);
		if (pid == 0)
			run_command(c);
		if (pid > 0 && (pipes[0] = fcntl(master, F_DUPFD_CLOEXEC, 3)) >= 0)
			pipes[1] = master;
	} else {
		int in[2], out[2], err[2] = {-1, -1};
		if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || (!c->merge && pipe2(err, O_CLOEXEC)))
			die("make", "pipes");
		pid = fork();
		if (pid == 0) {
			setsid();
			dup2(in[0], 0);
			dup2(out[1], 1);
			dup2(c->merge ? out[1] : err[1], 2);
			run_command(c);
		}
		close(in[0]);
		close(out[1]);
		close(err[1]);
		pipes[0] = in[1];
		pipes[1] = out[0];
		pipes[2] = err[0];
	}
	if (pid < 0)
		die("start", c->argv[0]);
	for (int i = 0; i < 3; i++)
		if (pipes[i] >= 0)
			fcntl(pipes[i], F_SETFL, O_NONBLOCK | fcntl(pipes[i], F_GETFL));
	return pid;
}

/* Forwards available output; false if there is none now, or never again (then *fd becomes -1). */
static bool pass_output(int *fd, uint32_t type)
{
	static char data[BOX_DATA_MAX];
	if (*fd < 0)
		return false;
	ssize_t n = read(*fd, data, sizeof data);
	if (n > 0) {
		send_frame(type, data, (uint32_t)n);
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(*fd);
		*fd = -1;
	}
	return false;
}

struct input {
	char data[BOX_DATA_MAX];
	size_t at, size; /* the part of data not yet read by the command */
	bool ended;      /* close once that is read */
};

static void take_frame(struct input *in, const int pipes[3], bool tty)
{
	struct box_header h;
	if (!read_full(&h, sizeof h) || h.length > sizeof in->data || !read_full(in->data, h.length))
		die("read", "the channel");
	if (h.type == BOX_STDIN && h.length) {
		in->at = 0;
		in->size = h.length;
	} else if (h.type == BOX_STDIN) {
		in->ended = !tty;
	} else if (h.type == BOX_WINDOW && tty && h.length == 2 * sizeof(uint16_t)) {
		uint16_t size[2];
		memcpy(size, in->data, sizeof size);
		struct winsize w = {.ws_row = size[0], .ws_col = size[1]};
		ioctl(pipes[0], TIOCSWINSZ, &w);
	}
}

static void give_input(struct input *in, int *fd)
{
	while (*fd >= 0 && in->size) {
		ssize_t n = write(*fd, in->data + in->at, in->size);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) { /* the command has closed its input */
			close(*fd);
			*fd = -1;
			break;
		}
		in->at += (size_t)n;
		in->size -= (size_t)n;
	}
	if (*fd < 0)
		in->size = 0;
	else if (in->ended && !in->size) {
		close(*fd);
		*fd = -1;
	}
}

/* Reaps all ended processes, since init inherits orphans; true if the command is among them. */
static bool reap(pid_t command, int *status)
{
	bool ended = false;
	int s;
	for (pid_t p; (p = waitpid(-1, &s, WNOHANG)) > 0;) {
		if (p == command) {
			*status = s;
			ended = true;
		}
	}
	return ended;
}

static int serve(const struct config *c)
{
	static struct input in;
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	int signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), pipes[3], status = 0;
	if (signals < 0)
		die("make", "a signalfd");
	pid_t command = start_command(c, pipes);
	for (;;) {
		struct pollfd p[5] = {
		    {.fd = signals, .events = POLLIN},
		    {.fd = in.size ? -1 : channel, .events = POLLIN}, /* no more input before this is read */
		    {.fd = in.size ? pipes[0] : -1, .events = POLLOUT},
		    {.fd = pipes[1], .events = POLLIN},
		    {.fd = pipes[2], .events = POLLIN},
		};
		if (poll(p, 5, -1) < 0)
			continue;
		if (p[3].revents)
			pass_output(&pipes[1], BOX_STDOUT);
		if (p[4].revents)
			pass_output(&pipes[2], BOX_STDERR);
		if (p[1].revents & POLLIN)
			take_frame(&in, pipes, c->tty);
		if ((p[1].revents & POLLIN) || p[2].revents)
			give_input(&in, &pipes[0]);
		if (p[0].revents) {
			struct signalfd_siginfo info;
			while (read(signals, &info, sizeof info) > 0)
				;
			if (reap(command, &status))
				break;
		}
	}
	/* Forward what is left in the pipes, but nothing that orphans might write later. */
	while (pass_output(&pipes[1], BOX_STDOUT))
		;
	while (pass_output(&pipes[2], BOX_STDERR))
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
	static struct config c;
	mkdir("/dev", 0755);
	mount_or_die("dev", "/dev", "devtmpfs", 0, NULL);
	signal(SIGPIPE, SIG_IGN);
	load_boot_modules();
	open_channel();
	read_config(&c);
	build_root(&c);
	uint32_t status = (uint32_t)serve(&c);
	sync(); /* the host ends this machine as soon as it has the exit status */
	send_frame(BOX_EXIT, &status, sizeof status);
	for (;;)
		pause();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Starts passt, which gives a guest a network through ordinary sockets of the host, without privileges. */
#include "monitor/virtio/passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fail.h"

#define PROGRAM "passt"
#define CHILD_SOCKET 3

enum { ARGUMENTS_MAX = 16 + 2 * PASST_FORWARDS_MAX, SPEC_BYTES = INET6_ADDRSTRLEN + 16 };

/*
 * passt goes on without a port that it cannot bind. So each is bound here first, for a moment: a port that is taken is
 * told before the guest starts, and by its number.
 */
static int try_port(const struct passt_forward *forward, struct riffle_error *error)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(forward->host_port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(forward->host_port)};
	bool is_v6 = strchr(forward->address, ':') != NULL;
	const struct sockaddr *address = is_v6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
	int one = 1;

	if (*forward->address && inet_pton(is_v6 ? AF_INET6 : AF_INET, forward->address,
					   is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "forward", "is no numeric address");
	int fd = socket(address->sa_family, (forward->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return riffle_fail_system(error, errno, "socket", "failed");
	if (!forward->udp) /* as passt does: connections of the last run in TIME_WAIT do not keep the port */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	int result = bind(fd, address, is_v6 ? sizeof v6 : sizeof v4), saved = errno;

	if (result == 0 && !forward->udp && listen(fd, 1) < 0)
		result = -1, saved = errno;
	close(fd);
	if (result < 0)
		return riffle_fail_full(error, RIFFLE_ERR_ARGUMENT, saved, "forward", "the host's port cannot be bound",
					1, forward->host_port, 0, 0);
	return 0;
}

static void format_forward(char spec[SPEC_BYTES], const struct passt_forward *forward)
{
	snprintf(spec, SPEC_BYTES, "%s%s%u:%u", forward->address, *forward->address ? "/" : "", forward->host_port,
		 forward->guest_port);
}

/* Once it is ready passt goes on in a process that is nobody's child: nothing is left for the monitor to reap. */
static int spawn(struct passt *passt, int socket, int errors, const char *const *argv)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attributes);
	/* the error pipe first: its descriptor may be CHILD_SOCKET */
	posix_spawn_file_actions_adddup2(&files, errors, STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&files, socket, CHILD_SOCKET);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
	posix_spawn_file_actions_addclosefrom_np(&files, CHILD_SOCKET + 1);
	/* a session of its own: Ctrl-C is the guest's or the monitor's */
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	int result =
	    posix_spawnp(&passt->starting, PROGRAM, &files, &attributes, (char *const *)(uintptr_t)argv, environ);

	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return result;
}

static int start(struct passt *passt, const struct passt_config *config, int socket, int errors,
		 struct riffle_error *error)
{
	char specs[PASST_FORWARDS_MAX][SPEC_BYTES];
	const char *argv[ARGUMENTS_MAX];
	bool tcp = false, udp = false;
	size_t n = 0;

	argv[n++] = PROGRAM;
	argv[n++] = "--quiet";
	argv[n++] = "--fd";
	argv[n++] = "3";
	if (!config->host_loopback)
		argv[n++] = "--no-map-gw";
	for (size_t i = 0; i < config->forwards; i++) {
		format_forward(specs[i], &config->forward[i]);
		argv[n++] = config->forward[i].udp ? "-u" : "-t";
		argv[n++] = specs[i];
		*(config->forward[i].udp ? &udp : &tcp) = true;
	}
	if (!tcp) {
		argv[n++] = "-t";
		argv[n++] = "none";
	}
	if (!udp) { /* its default are the TCP ports */
		argv[n++] = "-u";
		argv[n++] = "none";
	}
	argv[n] = NULL;
	int result = spawn(passt, socket, errors, argv);

	if (result == ENOENT)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, PROGRAM,
				   "is not installed (on Debian: apt install passt)");
	return result ? riffle_fail_system(error, result, PROGRAM, "cannot be started") : 0;
}

int passt_start(struct passt *passt, const struct passt_config *config, struct riffle_error *error)
{
	int ends[2], errors[2], status = 0;

	*passt = (struct passt){.fd = -1, .errors = -1};
	if (config->forwards > PASST_FORWARDS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "forward", "too many", config->forwards,
					    PASST_FORWARDS_MAX);
	for (size_t i = 0; i < config->forwards && !status; i++)
		status = try_port(&config->forward[i], error);
	if (status)
		return status;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return riffle_fail_system(error, errno, "socketpair", "failed");
	if (pipe2(errors, O_CLOEXEC) < 0) {
		status = riffle_fail_system(error, errno, "pipe2", "failed");
		close(ends[0]);
		close(ends[1]);
		return status;
	}
	status = start(passt, config, ends[1], errors[1], error);
	close(ends[1]);
	close(errors[1]);
	passt->fd = ends[0];
	passt->errors = errors[0];
	fcntl(passt->fd, F_SETFL, O_NONBLOCK);
	if (status)
		passt_close(passt);
	return status;
}

/* One line of printable text out of whatever it wrote. */
static void read_said(int fd, char *said, size_t bytes)
{
	size_t length = 0;
	ssize_t n;

	if (!bytes)
		return;
	while (length < bytes - 1 && (n = read(fd, said + length, bytes - 1 - length)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		length += n > 0 ? (size_t)n : 0;
	}
	while (length && (said[length - 1] == '\n' || said[length - 1] == ' '))
		length--;
	said[length] = 0;
	for (char *at = said; *at; at++)
		if (*at < ' ' || *at > '~')
			*at = *at == '\n' ? ';' : '?';
}

int passt_ready(struct passt *passt, char *said, size_t bytes, struct riffle_error *error)
{
	int result, state = 0;

	if (bytes)
		*said = 0;
	if (passt->starting <= 0)
		return 0;
	do
		result = waitpid(passt->starting, &state, 0);
	while (result < 0 && errno == EINTR);
	passt->starting = 0;
	if (result < 0)
		return riffle_fail_system(error, errno, "waitpid", "failed");
	bool ready = WIFEXITED(state) && WEXITSTATUS(state) == 0;

	if (!ready)
		read_said(passt->errors, said, bytes);
	close(passt->errors);
	passt->errors = -1;
	if (ready)
		return 0;
	return riffle_fail_found(error, RIFFLE_ERR_IO, PROGRAM, WIFEXITED(state) ? "exited" : "was ended by a signal",
				 (uint64_t)(WIFEXITED(state) ? WEXITSTATUS(state) : WTERMSIG(state)));
}

void passt_close(struct passt *passt)
{
	if (passt->fd >= 0)
		close(passt->fd);
	if (passt->errors >= 0)
		close(passt->errors);
	/* its socket is closed: it has nobody to serve and ends by itself, but it may still be starting */
	if (passt->starting > 0) {
		kill(passt->starting, SIGTERM);
		while (waitpid(passt->starting, NULL, 0) < 0 && errno == EINTR)
			;
	}
	*passt = (struct passt){.fd = -1, .errors = -1};
}

static bool parse_port(const char *text, size_t bytes, uint16_t *port)
{
	unsigned value = 0;

	if (!bytes || bytes > 5)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	*port = (uint16_t)value;
	return value && value <= UINT16_MAX;
}

/* Brackets around an address are for its colons: IPv6 needs them, IPv4 does not have them. */
static bool parse_address(const char *text, size_t bytes, char *address)
{
	struct in6_addr parsed;
	bool v6 = bytes >= 2 && text[0] == '[' && text[bytes - 1] == ']';

	if (v6)
		text++, bytes -= 2;
	if (bytes >= INET6_ADDRSTRLEN)
		return false;
	memcpy(address, text, bytes);
	address[bytes] = 0;
	return inet_pton(v6 ? AF_INET6 : AF_INET, address, &parsed) == 1;
}

bool passt_parse_forward(const char *text, struct passt_forward *forward)
{
	*forward = (struct passt_forward){.udp = !strncmp(text, "udp:", 4)};
	if (!forward->udp && strncmp(text, "tcp:", 4) != 0)
		return false;
	text += 4;
	const char *guest = strrchr(text, ':');

	if (!guest || !parse_port(guest + 1, strlen(guest + 1), &forward->guest_port))
		return false;
	const char *host = memrchr(text, ':', (size_t)(guest - text));

	if (host && !parse_address(text, (size_t)(host - text), forward->address))
		return false;
	host = host ? host + 1 : text;
	return parse_port(host, (size_t)(guest - host), &forward->host_port);
}

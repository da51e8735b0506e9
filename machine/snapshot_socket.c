/* SPDX-License-Identifier: Apache-2.0 */
/* The socket by which a running machine is told to save itself, into files that whoever asks has opened. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/hex.h"
#include "machine/dump.h"
#include "machine/restore.h"
#include "machine/snapshot.h"
#include "machine/snapshot_socket.h"
#include "machine/unix_socket.h"
#include "monitor/event/descriptors.h"

enum { FILES = 2 }; /* state, memory */

struct request {
	char text[SNAPSHOT_MESSAGE_MAX];
	int fds[FILES];
	unsigned count;
};

static void close_files(struct request *request)
{
	for (unsigned i = 0; i < request->count; i++)
		close(request->fds[i]);
	request->count = 0;
}

static ssize_t receive(int fd, struct request *request)
{
	ssize_t bytes = descriptors_receive(fd, request->text, sizeof request->text - 1, request->fds, FILES,
					    &request->count, MSG_DONTWAIT);

	request->text[bytes > 0 ? bytes : 0] = 0;
	return bytes;
}

static void answer(int fd, const char *text)
{
	ssize_t ignored = send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);

	(void)ignored;
}

/*
 * Returns why a file cannot be written as requested, or NULL. The C library's fstat() uses newfstatat(), which confined
 * threads may not call.
 */
static const char *refuse_file(int fd, struct stat *st)
{
	int flags = fcntl(fd, F_GETFL);

	if (syscall(SYS_fstat, fd, st) < 0 || flags < 0)
		return "cannot be examined";
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if ((flags & O_ACCMODE) != O_RDWR)
		return "is not open for reading and writing";
	return flags & O_APPEND ? "is open for appending" : NULL;
}

/* On false, `answer` is the error. */
static bool check_files(const struct request *request, bool fresh, char answer[SNAPSHOT_MESSAGE_MAX])
{
	static const char *const names[FILES] = {"state", "memory"};
	struct stat st[FILES];

	for (unsigned i = 0; i < FILES; i++) {
		const char *problem = refuse_file(request->fds[i], &st[i]);

		if (!problem && i == 1 && st[0].st_dev == st[1].st_dev && st[0].st_ino == st[1].st_ino)
			problem = "is the state file too";
		if (!problem && i == 1 && fresh && st[1].st_size)
			problem = "is not empty";
		if (!problem)
			continue;
		snprintf(answer, SNAPSHOT_MESSAGE_MAX, "error %s file: %s", names[i], problem);
		return false;
	}
	return true;
}

static void dump(struct machine *m, int fd, const struct request *request)
{
	struct stat st;
	const char *problem = refuse_file(request->fds[0], &st);
	char text[SNAPSHOT_MESSAGE_MAX], words[SNAPSHOT_MESSAGE_MAX - 16];
	struct core_result result;
	struct riffle_error error;

	if (!problem && st.st_size)
		problem = "is not empty";
	if (problem) {
		snprintf(text, sizeof text, "error file: %s", problem);
	} else if (machine_dump(m, request->fds[0], &result, &error)) {
		riffle_error_format(&error, words, sizeof words);
		snprintf(text, sizeof text, "error %s", words);
	} else {
		snprintf(text, sizeof text, "dumped %u %u %u", result.vmcoreinfo, result.mappings, result.slid);
	}
	answer(fd, text);
}

static void tell_last(struct machine *m, int fd)
{
	char text[SNAPSHOT_MESSAGE_MAX], words[SNAPSHOT_MESSAGE_MAX - 16], id[SNAPSHOT_ID_DIGITS + 1] = "none";
	struct riffle_error error;

	if (machine_snapshot_may(m, &error)) {
		riffle_error_format(&error, words, sizeof words);
		snprintf(text, sizeof text, "error %s", words);
		answer(fd, text);
		return;
	}
	if (m->has_save)
		snapshot_print_id(id, m->save_id);
	snprintf(text, sizeof text, SNAPSHOT_LAST " %s", id);
	answer(fd, text);
}

/* The rest of a request after the words that it begins with; NULL: it is another. */
static const char *after(const char *text, const char *words)
{
	size_t bytes = strlen(words);

	return strncmp(text, words, bytes) ? NULL : text + bytes;
}

/* NULL: its changes count from another save, or the request names none. */
static const char *after_last(const struct machine *m, const char *text)
{
	char id[SNAPSHOT_ID_DIGITS + 1];

	if (!m->has_save || *text++ != ' ')
		return NULL;
	snapshot_print_id(id, m->save_id);
	return after(text, id);
}

static void save(struct machine *m, int fd, const struct request *request)
{
	const char *changed = after(request->text, SNAPSHOT_CHANGED), *all = after(request->text, SNAPSHOT_ALL);
	const char *rest = changed ? after_last(m, changed) : all;
	struct machine_snapshot snapshot = {.changed = changed, .fresh = all};
	struct riffle_error error;
	char text[SNAPSHOT_MESSAGE_MAX], words[SNAPSHOT_MESSAGE_MAX - 16];

	if (changed && !rest) {
		answer(fd, "error memory file: does not hold this guest's last save");
		return;
	}
	if (!rest || request->count != FILES || (*rest && strcmp(rest, SNAPSHOT_AND_END) != 0)) {
		answer(fd, "error request: is not one for a snapshot");
		return;
	}
	if (!check_files(request, all, text)) {
		answer(fd, text);
		return;
	}
	snapshot.state_fd = request->fds[0];
	snapshot.memory_fd = request->fds[1];
	if (machine_snapshot_write(m, &snapshot, &error)) {
		riffle_error_format(&error, words, sizeof words);
		snprintf(text, sizeof text, "error %s", words);
		answer(fd, text);
		return;
	}
	snprintf(text, sizeof text, "saved %llu %llu%s", (unsigned long long)snapshot.memory_bytes,
		 (unsigned long long)snapshot.paused_ns, snapshot.untracked ? SNAPSHOT_UNTRACKED : "");
	answer(fd, text);
	if (*rest)
		vm_end(m->vm, VM_END_POWEROFF);
}

static void hang_up(void *opaque)
{
	struct snapshot_client *client = opaque;
	struct machine *m = client->machine;

	loop_timer_cancel(&m->loop, &client->patience);
	loop_remove(&m->loop, &client->source);
	close(client->fd);
	client->machine = NULL;
}

static void be_patient(struct snapshot_client *client)
{
	client->heard_at = loop_now();
	loop_timer_set(&client->machine->loop, &client->patience,
		       client->heard_at + SNAPSHOT_PATIENCE_S * UINT64_C(1000000000));
}

static void request_ready(void *opaque, uint32_t events);

/* A request may have arrived while the loop was busy with another client's. */
static void lose_patience(void *opaque)
{
	struct snapshot_client *client = opaque;
	struct pollfd waiting = {.fd = client->fd, .events = POLLIN};

	if (poll(&waiting, 1, 0) > 0)
		request_ready(client, waiting.revents & POLLERR ? EPOLLERR : 0);
	else
		hang_up(client);
}

static void request_ready(void *opaque, uint32_t events)
{
	struct snapshot_client *client = opaque;
	struct request request;
	ssize_t bytes = receive(client->fd, &request);
	bool goes_on = false;

	if (bytes < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* nothing is done for a client that has given up */
	if (bytes > 0 && !(events & (EPOLLHUP | EPOLLERR))) {
		goes_on = !request.count && !strcmp(request.text, SNAPSHOT_LAST);
		if (goes_on)
			tell_last(client->machine, client->fd);
		else if (request.count == 1 && !strcmp(request.text, SNAPSHOT_DUMP))
			dump(client->machine, client->fd, &request);
		else
			save(client->machine, client->fd, &request);
	}
	close_files(&request);
	if (goes_on)
		be_patient(client);
	else
		hang_up(client);
}

/* A free slot; if there is none, disconnects the client that has been silent longest. */
static struct snapshot_client *free_client(struct machine *m)
{
	struct snapshot_client *oldest = m->snapshot.clients;

	for (unsigned i = 0; i < SNAPSHOT_CLIENTS_MAX; i++) {
		struct snapshot_client *client = &m->snapshot.clients[i];

		if (!client->machine)
			return client;
		if (client->heard_at < oldest->heard_at)
			oldest = client;
	}
	hang_up(oldest);
	return oldest;
}

static void connection_ready(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct snapshot_client *client;
	struct riffle_error error;
	int fd = accept4(m->snapshot.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	client = free_client(m);
	*client = (struct snapshot_client){.fd = fd,
					   .source = {.ready = request_ready, .opaque = client},
					   .patience = {.expired = lose_patience, .opaque = client}};
	if (loop_add(&m->loop, &client->source, fd, EPOLLIN, &error)) {
		close(fd);
		return;
	}
	client->machine = m;
	be_patient(client);
}

int snapshot_address(struct sockaddr_un *address, const char *path, struct riffle_error *error)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (!*path || strlen(path) >= sizeof address->sun_path)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "snapshot socket",
					    *path ? "its path is too long" : "needs a path", strlen(path),
					    sizeof address->sun_path - 1);
	strcpy(address->sun_path, path);
	return 0;
}

void snapshot_print_id(char text[SNAPSHOT_ID_DIGITS + 1], const uint8_t id[SNAPSHOT_ID_DIGITS / 2])
{
	riffle_hex(text, id, SNAPSHOT_ID_DIGITS / 2);
}

/* A request and its answer, as recv() returns it. */
static ssize_t exchange(int fd, const char *request, const int *files, unsigned count, char words[SNAPSHOT_MESSAGE_MAX])
{
	ssize_t got = descriptors_send(fd, request, strlen(request), files, count, 0);

	if (got >= 0)
		do
			got = recv(fd, words, SNAPSHOT_MESSAGE_MAX - 1, 0);
		while (got < 0 && errno == EINTR);
	if (got >= 0)
		words[got] = 0;
	return got;
}

static int greet(int fd, char words[SNAPSHOT_MESSAGE_MAX], struct riffle_error *error)
{
	ssize_t got = exchange(fd, SNAPSHOT_LAST, NULL, 0, words);

	if (got < 0 && errno == EAGAIN)
		return riffle_fail(error, RIFFLE_ERR_IO, "guest", "its monitor does not answer");
	if (got < 0)
		return riffle_fail_system(error, errno, "socket", "cannot be used");
	return got ? 0 : riffle_fail(error, RIFFLE_ERR_IO, "guest", "ended before it was asked");
}

int snapshot_ask(int fd, const char *request, const int *files, unsigned count, char words[SNAPSHOT_MESSAGE_MAX],
		 struct riffle_error *error)
{
	ssize_t got = exchange(fd, request, files, count, words);

	if (got < 0)
		return riffle_fail_system(error, errno, "socket", "cannot be used");
	return got ? 0 : riffle_fail(error, RIFFLE_ERR_IO, "guest", "ended before it answered");
}

int snapshot_connect(int *fd, const char *path, char words[SNAPSHOT_MESSAGE_MAX], struct riffle_error *error)
{
	const struct timeval limit = {.tv_sec = SNAPSHOT_WAIT_S}, none = {0};
	struct sockaddr_un address;
	int status = snapshot_address(&address, path, error);

	*fd = status ? -1 : socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (status)
		return status;
	/* connect() waits as long as one may send */
	if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
	    setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
	    connect(*fd, (const struct sockaddr *)&address, sizeof address) < 0)
		status = riffle_fail_system(error, errno, "socket", "cannot be connected to");
	else if (!(status = greet(*fd, words, error)) &&
		 setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none) < 0)
		status = riffle_fail_system(error, errno, "socket", "cannot be set up");
	if (status && *fd >= 0) {
		close(*fd);
		*fd = -1;
	}
	return status;
}

int machine_snapshot_listen(struct machine *m, struct riffle_error *error)
{
	struct sockaddr_un address;
	int status;

	if (!m->config.snapshot_socket)
		return 0;
	m->blame = m->config.snapshot_socket;
	if ((status = snapshot_address(&address, m->config.snapshot_socket, error)))
		return status;
	status = unix_socket_listen(&m->snapshot.listen_fd, SOCK_SEQPACKET, m->config.snapshot_socket,
				    "snapshot socket", 8, error);
	if (status)
		return status;
	m->blame = NULL;
	return 0;
}

int machine_snapshot_start(struct machine *m, struct riffle_error *error)
{
	if (m->snapshot.listen_fd < 0)
		return 0;
	m->snapshot.listener = (struct loop_source){.ready = connection_ready, .opaque = m};
	return loop_add(&m->loop, &m->snapshot.listener, m->snapshot.listen_fd, EPOLLIN, error);
}

void machine_snapshot_close(struct machine *m)
{
	for (unsigned i = 0; i < SNAPSHOT_CLIENTS_MAX; i++)
		if (m->snapshot.clients[i].machine)
			close(m->snapshot.clients[i].fd);
	if (m->snapshot.listen_fd >= 0)
		close(m->snapshot.listen_fd);
	if (m->pagemap_fd >= 0)
		close(m->pagemap_fd);
}

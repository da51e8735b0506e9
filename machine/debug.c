/* SPDX-License-Identifier: Apache-2.0 */
/* A debugger's connection to a machine: a socket of the event loop, and the machine stopped and let go for it. */
#include "machine/debug.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/unix_socket.h"

static int listen_on_port(struct machine_debug *debug, uint16_t port, struct riffle_error *error)
{
	const struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const int on = 1;

	debug->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (debug->listen_fd < 0)
		return riffle_fail_system(error, errno, "gdb", "socket failed");
	setsockopt(debug->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(debug->listen_fd, (const struct sockaddr *)&address, sizeof address) < 0)
		return riffle_fail_system(error, errno, "gdb", "the port cannot be bound");
	if (listen(debug->listen_fd, 1) < 0)
		return riffle_fail_system(error, errno, "gdb", "the port cannot be listened on");
	return 0;
}

int machine_debug_open(struct machine_debug *debug, const struct machine_gdb *config, const char **blame,
		       struct riffle_error *error)
{
	debug->wanted = config->path || config->port;
	if (!debug->wanted)
		return 0;
	pthread_mutex_init(&debug->lock, NULL);
	if (!config->path)
		return listen_on_port(debug, config->port, error);
	*blame = config->path;
	int status = unix_socket_listen(&debug->listen_fd, SOCK_STREAM, config->path, "gdb", 1, error);

	if (!status)
		*blame = NULL;
	return status;
}

static void let_go(struct machine_debug *debug, const enum stub_go go[STUB_THREADS_MAX])
{
	memcpy(debug->go, go, sizeof debug->go);
	debug_prepare(&debug->guest, go);
	vm_resume(debug->guest.vm);
}

static void let_all_go(struct machine_debug *debug)
{
	enum stub_go go[STUB_THREADS_MAX];

	for (unsigned i = 0; i < STUB_THREADS_MAX; i++)
		go[i] = STUB_CONTINUE;
	debug_remove_all(&debug->guest);
	let_go(debug, go);
}

/* A debugger that vanishes leaves a guest that runs, as one that detaches does. */
static void disconnect(struct machine_debug *debug)
{
	loop_remove(debug->loop, &debug->connection);
	close(debug->fd);
	debug->fd = -1;
	loop_watch(debug->loop, &debug->listener, EPOLLIN);
}

static void send_bytes(void *opaque, const char *bytes, size_t count)
{
	struct machine_debug *debug = opaque;

	/* one question, one answer: a socket whose buffer is full has a peer that broke the protocol, and loses a
	 * packet */
	if (debug->fd >= 0)
		(void)!send(debug->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool read_registers(void *opaque, unsigned thread, struct register_file *file)
{
	return debug_read_registers(&((struct machine_debug *)opaque)->guest, thread, file);
}

static bool write_registers(void *opaque, unsigned thread, const struct register_file *file)
{
	return debug_write_registers(&((struct machine_debug *)opaque)->guest, thread, file);
}

static size_t read_memory(void *opaque, unsigned thread, uint64_t address, void *data, size_t bytes)
{
	return debug_read_memory(&((struct machine_debug *)opaque)->guest, thread, address, data, bytes);
}

static size_t write_memory(void *opaque, unsigned thread, uint64_t address, const void *data, size_t bytes)
{
	return debug_write_memory(&((struct machine_debug *)opaque)->guest, thread, address, data, bytes);
}

static bool insert(void *opaque, unsigned thread, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	return debug_insert(&((struct machine_debug *)opaque)->guest, thread, kind, address, bytes);
}

static bool remove_point(void *opaque, enum stub_point kind, uint64_t address, uint64_t bytes)
{
	return debug_remove(&((struct machine_debug *)opaque)->guest, kind, address, bytes);
}

static void resume(void *opaque, const enum stub_go go[STUB_THREADS_MAX])
{
	let_go(opaque, go);
}

static void detach(void *opaque)
{
	let_all_go(opaque);
}

static void kill_machine(void *opaque)
{
	struct machine_debug *debug = opaque;

	vm_end(debug->guest.vm, VM_END_ESCAPE);
}

/*
 * Everybody is parked. Of several vCPUs that stopped at the same time one is reported: the others come to their
 * breakpoints again when they go on, as nothing has moved on from there. A stop that was the guest's own business is
 * given back to it.
 */
static void look_at_stops(struct machine_debug *debug)
{
	bool found = false, guests_own = false;

	pthread_mutex_lock(&debug->lock);
	for (unsigned i = 0; i < debug->target.threads; i++) {
		enum stub_stop why;
		uint64_t address;

		if (!debug->stops[i].waits)
			continue;
		debug->stops[i].waits = false;
		if (!debug_explain(&debug->guest, i, &debug->stops[i].stop, &why, &address)) {
			guests_own = true;
		} else if (!found && !debug->stub.stopped) {
			found = true;
			stub_stopped(&debug->stub, i, why, address);
		}
	}
	pthread_mutex_unlock(&debug->lock);
	if (!found && guests_own && !debug->stub.stopped)
		let_go(debug, debug->go);
}

static void vcpu_stopped(void *opaque)
{
	struct machine_debug *debug = opaque;

	vm_pause(debug->guest.vm);
	if (vm_state(debug->guest.vm) == VM_ENDED)
		return;
	if (debug->fd < 0)
		let_all_go(debug); /* the debugger is gone, and its breakpoints with it */
	else
		look_at_stops(debug);
}

static void interrupt(void *opaque)
{
	struct machine_debug *debug = opaque;

	vm_pause(debug->guest.vm);
	if (vm_state(debug->guest.vm) == VM_ENDED)
		return;
	look_at_stops(debug);
	if (debug->stub.stopped)
		return;
	vm_pause(debug->guest.vm); /* in case a breakpoint of the guest's own let it go on */
	stub_stopped(&debug->stub, debug->stub.thread, STUB_STOP_INTERRUPT, 0);
}

static void connection_ready(void *opaque, uint32_t events)
{
	struct machine_debug *debug = opaque;
	uint8_t bytes[4096];
	ssize_t count = read(debug->fd, bytes, sizeof bytes);

	(void)events;
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count > 0 && stub_take(&debug->stub, bytes, (size_t)count))
		return;
	disconnect(debug);
	if (count <= 0 && vm_state(debug->guest.vm) != VM_ENDED) {
		vm_pause(debug->guest.vm);
		let_all_go(debug);
	}
}

static void listener_ready(void *opaque, uint32_t events)
{
	struct machine_debug *debug = opaque;
	struct riffle_error error;
	int fd = accept4(debug->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	if (loop_add(debug->loop, &debug->connection, fd, EPOLLIN, &error)) {
		close(fd);
		return;
	}
	debug->fd = fd;
	loop_watch(debug->loop, &debug->listener, 0); /* the next one waits its turn */
	vm_pause(debug->guest.vm);
	stub_begin(&debug->stub, &debug->target, send_bytes, debug);
}

void machine_debug_stop(struct machine_debug *debug, unsigned vcpu, const struct kvm_debug_exit_arch *stop)
{
	pthread_mutex_lock(&debug->lock);
	debug->stops[vcpu].waits = true;
	debug->stops[vcpu].stop = *stop;
	pthread_mutex_unlock(&debug->lock);
	loop_post(debug->loop, &debug->stopped);
}

int machine_debug_start(struct machine_debug *debug, struct vm *vm, struct loop *loop, struct riffle_error *error)
{
	if (!debug->wanted)
		return 0;
	debug->loop = loop;
	debug->guest.vm = vm;
	debug->guest.by_port = debug->by_port;
	debug->guest.hard_works = debug->has_registers || !debug->by_port;
	debug->target = (struct stub_target){.threads = vm_vcpus(vm),
					     .read_registers = read_registers,
					     .write_registers = write_registers,
					     .read_memory = read_memory,
					     .write_memory = write_memory,
					     .insert = insert,
					     .remove = remove_point,
					     .resume = resume,
					     .interrupt = interrupt,
					     .detach = detach,
					     .kill = kill_machine,
					     .opaque = debug};
	debug->stopped = (struct loop_task){.run = vcpu_stopped, .opaque = debug};
	debug->listener = (struct loop_source){.ready = listener_ready, .opaque = debug};
	debug->connection = (struct loop_source){.ready = connection_ready, .opaque = debug};
	return loop_add(loop, &debug->listener, debug->listen_fd, EPOLLIN, error);
}

void machine_debug_ended(struct machine_debug *debug)
{
	if (debug->fd >= 0)
		stub_exited(&debug->stub);
}

void machine_debug_close(struct machine_debug *debug)
{
	if (debug->fd >= 0)
		close(debug->fd);
	if (debug->listen_fd >= 0)
		close(debug->listen_fd);
	debug->fd = debug->listen_fd = -1;
	if (debug->wanted)
		pthread_mutex_destroy(&debug->lock);
}

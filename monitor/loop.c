/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that reads signals and console input while vCPUs run. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/fail.h"
#include "monitor/machine.h"
#include "monitor/thread.h"

void loop_wake(struct vm *vm)
{
	uint64_t one = 1;
	ssize_t ignored = write(vm->wake_fd, &one, sizeof one); /* a full counter wakes as well */
	(void)ignored;
}

/* The user wants the process to end: neither the guest nor the reader of its console may hold it up. */
static void end_for_user(struct vm *vm, enum vm_end end)
{
	vm->give_up = true;
	vm_end(vm, end);
}

static void stop_for_job_control(struct vm *vm)
{
	console_leave(&vm->console);
	/* Stops the whole process, vCPUs included, until SIGCONT; sent to this thread, so that it stops right here. */
	raise(SIGSTOP);
	console_enter(&vm->console);
}

static void read_signals(struct vm *vm)
{
	struct signalfd_siginfo info;
	while (read(vm->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		switch (info.ssi_signo) {
		case SIGTSTP:
			stop_for_job_control(vm);
			break;
		case SIGCONT: /* the shell may have changed the terminal, or given it to us */
			console_leave(&vm->console);
			console_enter(&vm->console);
			break;
		default:
			if (!vm->end_signal)
				vm->end_signal = (int)info.ssi_signo;
			end_for_user(vm, VM_END_SIGNAL);
			break;
		}
	}
}

static void feed_guest(struct vm *vm)
{
	if (!vm->input_count)
		return;
	pthread_mutex_lock(&vm->bus.lock);
	unsigned taken = serial_receive(&vm->serial, vm->input, vm->input_count);
	pthread_mutex_unlock(&vm->bus.lock);
	vm->input_count -= taken;
	memmove(vm->input, vm->input + taken, vm->input_count);
}

/*
 * From a pipe or file, reading waits until the guest has taken what was read. A terminal is read all the same, so that
 * the escape works on a guest that does not listen; what is too much is dropped.
 */
static bool wants_input(const struct vm *vm)
{
	return !vm->input_closed && console_readable(&vm->console) &&
	       (vm->console.terminal || vm->input_count == 0);
}

static void read_input(struct vm *vm, short events)
{
	uint8_t raw[256], filtered[sizeof raw + 1];
	bool escape;
	ssize_t count = read(vm->console.fd, raw, sizeof raw);
	if (count < 0 && errno == EIO && vm->console.terminal && !(events & POLLHUP)) {
		console_leave(&vm->console); /* in the background now; SIGCONT brings it back */
		return;
	}
	if (count <= 0) {
		bool again = count < 0 ? errno == EAGAIN || errno == EINTR
				       : vm->console.terminal && !(events & (POLLHUP | POLLERR));
		vm->input_closed = !again;
		return;
	}
	size_t kept = console_filter(&vm->console, raw, (size_t)count, filtered, &escape);
	if (escape)
		end_for_user(vm, VM_END_ESCAPE);
	if (kept > sizeof vm->input - vm->input_count)
		kept = sizeof vm->input - vm->input_count;
	memcpy(vm->input + vm->input_count, filtered, kept);
	vm->input_count += (unsigned)kept;
}

static void *loop_thread(void *argument)
{
	struct vm *vm = argument;
	thread_begin("console-in");
	while (!vm->loop_quit) {
		struct pollfd fds[3] = {
			{.fd = vm->signal_fd, .events = POLLIN},
			{.fd = vm->wake_fd, .events = POLLIN},
			{.fd = wants_input(vm) ? vm->console.fd : -1, .events = POLLIN},
		};
		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[1].revents) {
			uint64_t count;
			ssize_t ignored = read(vm->wake_fd, &count, sizeof count);
			(void)ignored;
		}
		if (fds[0].revents)
			read_signals(vm);
		if (fds[2].revents)
			read_input(vm, fds[2].revents);
		feed_guest(vm);
	}
	return NULL;
}

int loop_start(struct vm *vm, const sigset_t *signals, struct riffle_error *error)
{
	vm->signal_fd = signalfd(-1, signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (vm->signal_fd < 0)
		return riffle_fail_system(error, errno, "signalfd", "failed");
	int status = thread_start(&vm->loop_thread, loop_thread, vm, error);
	if (status) {
		close(vm->signal_fd);
		vm->signal_fd = -1;
		return status;
	}
	vm->loop_started = true;
	return 0;
}

void loop_stop(struct vm *vm)
{
	if (!vm->loop_started)
		return;
	vm->loop_quit = true;
	loop_wake(vm);
	pthread_join(vm->loop_thread, NULL);
	vm->loop_started = false;
	/* a second SIGTERM is for the run that ended, not for what comes after it */
	struct signalfd_siginfo info;
	while (read(vm->signal_fd, &info, sizeof info) > 0)
		;
	close(vm->signal_fd);
	vm->signal_fd = -1;
}

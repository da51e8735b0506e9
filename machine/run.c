/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a machine: the threads, the signals, the event loop, and the orderly end. */
#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/internal.h"
#include "machine/restore.h"
#include "monitor/confine/confine.h"

#define SECOND_NS UINT64_C(1000000000)
/* How long the end of a run waits for a reader of the console that does not read; and when the user wants out. */
#define READER_PATIENCE_NS (10 * SECOND_NS)
#define SHORT_PATIENCE_NS (SECOND_NS / 5)
#define DRAIN_STEP_NS (SECOND_NS / 100)
#define HALT_STEP_NS SECOND_NS
#define RUNNING_NS (SECOND_NS / 10) /* the guest's first exits need code and locks of the start */

/* The user wants the process to end: neither the guest nor the reader of its console may hold it up. */
static void end_for_user(struct machine *m, enum vm_end end)
{
	m->give_up = true;
	vm_end(m->vm, end);
}

static void signal_ready(void *opaque, uint32_t events)
{
	struct machine *m = opaque;
	struct signalfd_siginfo info;

	(void)events;
	while (read(m->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
		if (signals_ignored((int)info.ssi_signo))
			continue;
		switch (info.ssi_signo) {
		case SIGTSTP:
			console_leave(machine_terminal(m));
			/* stops the whole process, vCPUs included, until SIGCONT */
			raise(SIGSTOP);
			console_enter(machine_terminal(m));
			break;
		case SIGCONT: /* the shell may have changed the terminal, or given it to us */
			console_leave(machine_terminal(m));
			console_enter(machine_terminal(m));
			break;
		case SIGWINCH:
			machine_command_resize(m);
			break;
		default:
			if (!m->end_signal)
				m->end_signal = (int)info.ssi_signo;
			end_for_user(m, VM_END_SIGNAL);
			break;
		}
	}
	machine_console_watch(m);
	machine_command_watch(m);
}

/*
 * A guest that halted every vCPU with interrupts off ("System halted") uses no processor time. KVM does not tell of it,
 * so a second in which none was used is reason to look, once: a guest that only sleeps is not disturbed by it, and is
 * not looked at again before it has run.
 */
static void look_for_halt(void *opaque)
{
	struct machine *m = opaque;
	uint64_t used = vm_cpu_ns(m->vm);

	if (used == m->halt_cpu_ns && used != m->halt_checked_ns && vm_state(m->vm) == VM_RUNNING) {
		if (vm_is_halted(m->vm)) {
			vm_end(m->vm, VM_END_HALTED);
			return;
		}
		used = vm_cpu_ns(m->vm); /* with what looking itself took */
		m->halt_checked_ns = used;
	}
	m->halt_cpu_ns = used;
	loop_timer_set(&m->loop, &m->halt_timer, loop_now() + HALT_STEP_NS);
}

/* Console output is written out as long as its reader takes it. */
static void drain(void *opaque)
{
	struct machine *m = opaque;
	uint64_t now = loop_now(), progress = output_progress(&m->output) + machine_command_progress(m);
	uint64_t patience = m->give_up ? SHORT_PATIENCE_NS : READER_PATIENCE_NS;

	if (!m->give_up && !machine_command_finished(m))
		patience = UINT64_MAX; /* a pipeline waits for its slowest part */
	else if (!output_has_reader(&m->output))
		patience = SHORT_PATIENCE_NS;

	if (progress != m->drain_progress || !m->drain_since) {
		m->drain_progress = progress;
		m->drain_since = now;
	}
	if (now - m->drain_since >= patience)
		loop_stop(&m->loop);
	else
		loop_timer_set(&m->loop, &m->drain_timer, now + DRAIN_STEP_NS);
}

/* One of the outputs has written its rest. */
static void output_finished(void *opaque)
{
	struct machine *m = opaque;

	if ((!m->output.started || output_is_gone(&m->output)) && machine_command_finished(m))
		loop_stop(&m->loop);
}

static void run_for_a_while(void *opaque)
{
	struct machine *m = opaque;

	m->observer.running(m->observer.opaque);
}

static void vm_has_ended(void *opaque)
{
	struct machine *m = opaque;

	if (m->draining)
		return;
	m->draining = true;
	loop_timer_cancel(&m->loop, &m->halt_timer);
	loop_timer_cancel(&m->loop, &m->running_timer);
	vm_join(m->vm);
	machine_debug_ended(&m->debug);
	if (m->output.started)
		output_finish(&m->output);
	machine_command_finish(m);
	drain(m);
	output_finished(m);
}

/* Only a guest with vsock has business with sockets of the host. */
static enum confine_kind loop_kind(const struct machine *m)
{
	if (m->config.controlled)
		return CONFINE_LOOP_OPENS;
	if (m->debug.wanted)
		return CONFINE_LOOP_DEBUGS;
	if (m->config.can_save)
		return m->devices.vsock ? CONFINE_LOOP_SAVES_CONNECTS : CONFINE_LOOP_SAVES;
	return m->devices.vsock ? CONFINE_LOOP_CONNECTS : CONFINE_LOOP;
}

static int watch_signals(struct machine *m, struct riffle_error *error)
{
	if (m->config.own_signals)
		return 0;
	m->signal_source = (struct loop_source){.ready = signal_ready, .opaque = m};
	m->signal_fd = signalfd(-1, &m->taken_signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (m->signal_fd < 0)
		return riffle_fail_system(error, errno, "signalfd", "failed");
	return loop_add(&m->loop, &m->signal_source, m->signal_fd, EPOLLIN, error);
}

void machine_prepare_end(struct machine *m)
{
	m->ended = (struct loop_task){.run = vm_has_ended, .opaque = m};
}

static int start(struct machine *m, struct riffle_error *error)
{
	int status;

	m->console.output_finished = (struct loop_task){.run = output_finished, .opaque = m};
	m->halt_timer = (struct loop_timer){.expired = look_for_halt, .opaque = m};
	m->running_timer = (struct loop_timer){.expired = run_for_a_while, .opaque = m};
	m->drain_timer = (struct loop_timer){.expired = drain, .opaque = m};
	/* first, so that the vCPUs confine themselves while the rest is started */
	if ((status = vm_start(m->vm, error)) || (status = watch_signals(m, error)) ||
	    (status = machine_console_start(m, error)) || (status = machine_command_start(m, error)) ||
	    (status = machine_snapshot_start(m, error)) ||
	    (status = machine_debug_start(&m->debug, m->vm, &m->loop, error)))
		return status;
	return m->config.unconfined ? 0 : confine_thread(loop_kind(m), error);
}

static void stop(struct machine *m)
{
	struct signalfd_siginfo info;

	vm_join(m->vm);
	output_stop(&m->output);
	if (m->signal_fd < 0)
		return;
	/* a second SIGTERM is for the run that ended, not for what comes after it */
	while (read(m->signal_fd, &info, sizeof info) > 0)
		;
	close(m->signal_fd);
	m->signal_fd = -1;
}

int machine_run(struct machine *m, enum vm_end *end, struct riffle_error *error)
{
	sigset_t window;
	int status, failed;

	if (m->config.own_signals)
		signals_take_kick(&m->signals);
	else
		signals_take(&m->signals, &m->taken_signals);
	if (m->config.command) {
		sigemptyset(&window);
		sigaddset(&window, SIGWINCH);
		sigaddset(&m->taken_signals, SIGWINCH);
		pthread_sigmask(SIG_BLOCK, &window, NULL);
	}
	console_enter(machine_terminal(m));
	status = start(m, error);
	if (status) {
		vm_end(m->vm, VM_END_ERROR);
	} else {
		machine_console_watch(m);
		machine_command_watch(m);
		if (!m->config.keep_halted)
			loop_timer_set(&m->loop, &m->halt_timer, loop_now() + HALT_STEP_NS);
		if (m->observer.before_run)
			m->observer.before_run(m->observer.opaque);
		if (m->restored && m->console.count)
			loop_post(&m->loop, &m->console.feed);
		/* a debugger lets it go */
		if (!m->start_paused && !m->debug.wanted) {
			if (m->restored)
				machine_devices_resume(&m->devices);
			vm_resume(m->vm);
		}
		if (m->observer.running)
			loop_timer_set(&m->loop, &m->running_timer, loop_now() + RUNNING_NS);
		loop_run(&m->loop);
	}
	stop(m);
	failed = machine_command_stop(m);
	console_leave(machine_terminal(m));
	signals_restore(&m->signals);
	if (status)
		return status;
	*end = vm_how_ended(m->vm);
	if (*end == VM_END_ERROR)
		*error = *vm_error(m->vm);
	else if (failed)
		return riffle_fail_system(error, failed, "stdout or stderr", "output was lost: write failed");
	else if (output_failed(&m->output))
		return riffle_fail_system(error, output_failed(&m->output), "console", "output was lost: write failed");
	return 0;
}

int machine_control(struct machine *m, enum machine_action action, struct riffle_error *error)
{
	if (vm_state(m->vm) == VM_ENDED)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "machine", "has ended");
	switch (action) {
	case MACHINE_PAUSE:
		vm_pause(m->vm);
		vm_tell_paused(m->vm);
		machine_devices_pause(&m->devices);
		break;
	case MACHINE_RESUME:
		machine_devices_resume(&m->devices);
		vm_resume(m->vm);
		break;
	case MACHINE_END:
		vm_end(m->vm, VM_END_POWEROFF);
		break;
	}
	return 0;
}

int machine_end_signal(const struct machine *m)
{
	return m->end_signal;
}

const struct boot_timer *machine_boot_timer(const struct machine *m)
{
	return &m->boot_timer;
}

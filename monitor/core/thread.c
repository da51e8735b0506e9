/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with small stacks, the signals of a running microVM, and the one that interrupts a thread's system call. */
#include "monitor/core/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"

#define THREAD_STACK (96u << 10)
#define EARLY_STACK (128u << 10)

/*
 * Blocked and never read: the system call that raises one also fails (reader gone, file size limit), and restoring the
 * terminal must work from the background too.
 */
static const int seen_by_calls[] = {SIGPIPE, SIGXFSZ, SIGTTOU, SIGTTIN};

/* Set by signals_take(): threads are started with the mask of deaf_mask(). */
static atomic_bool deaf;

void signals_but_faults(sigset_t *mask)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};

	sigfillset(mask);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigdelset(mask, faults[i]);
}

static void deaf_mask(sigset_t *mask)
{
	signals_but_faults(mask);
	sigdelset(mask, KICK_SIGNAL);
}

static void nothing(int number)
{
	(void)number;
}

bool signals_ignored(int number)
{
	struct sigaction now;

	return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

void signals_take(struct signal_state *state, sigset_t *taken)
{
	/* fault signals keep their handlers or default action; the kernel handles stopping and continuing */
	static const int left_alone[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGURG, SIGWINCH};
	struct sigaction kick = {.sa_handler = nothing};
	sigset_t blocked;

	signals_but_faults(&blocked);
	for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++)
		sigdelset(&blocked, left_alone[i]);
	*taken = blocked;
	for (size_t i = 0; i < sizeof seen_by_calls / sizeof *seen_by_calls; i++)
		sigdelset(taken, seen_by_calls[i]);
	sigdelset(taken, KICK_SIGNAL);
	sigemptyset(&kick.sa_mask);
	sigaction(KICK_SIGNAL, &kick, &state->kick);
	pthread_sigmask(SIG_BLOCK, &blocked, &state->mask);
	deaf = true;
}

void signals_take_kick(struct signal_state *state)
{
	struct sigaction kick = {.sa_handler = nothing};
	sigset_t blocked;

	sigemptyset(&kick.sa_mask);
	sigemptyset(&blocked);
	sigaddset(&blocked, KICK_SIGNAL);
	sigaction(KICK_SIGNAL, &kick, &state->kick);
	pthread_sigmask(SIG_BLOCK, &blocked, &state->mask);
}

void signals_restore(const struct signal_state *state)
{
	deaf = false;
	/* discard kicks and SIGPIPE, SIGXFSZ left pending by this run */
	sigset_t ours;
	sigemptyset(&ours);
	sigaddset(&ours, KICK_SIGNAL);
	for (size_t i = 0; i < sizeof seen_by_calls / sizeof *seen_by_calls; i++)
		if (!sigismember(&state->mask, seen_by_calls[i]))
			sigaddset(&ours, seen_by_calls[i]);
	while (sigtimedwait(&ours, NULL, &(struct timespec){0}) > 0)
		;
	sigaction(KICK_SIGNAL, &state->kick, NULL);
	pthread_sigmask(SIG_SETMASK, &state->mask, NULL);
}

/* Without a mask it inherits that of this thread. */
static int start(pthread_t *thread, size_t stack, const sigset_t *mask, void *(*body)(void *), void *argument,
		 struct riffle_error *error)
{
	pthread_attr_t attributes;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, stack);
	if (mask)
		pthread_attr_setsigmask_np(&attributes, mask);
	int result = pthread_create(thread, &attributes, body, argument);
	pthread_attr_destroy(&attributes);
	if (result)
		return riffle_fail_system(error, result, "thread", "cannot be started");
	return 0;
}

int thread_start(pthread_t *thread, void *(*body)(void *), void *argument, struct riffle_error *error)
{
	sigset_t mask;

	deaf_mask(&mask);
	return start(thread, THREAD_STACK, deaf ? &mask : NULL, body, argument, error);
}

int thread_start_masked(pthread_t *thread, const sigset_t *mask, void *(*body)(void *), void *argument,
			struct riffle_error *error)
{
	return start(thread, THREAD_STACK, mask, body, argument, error);
}

int thread_start_early(pthread_t *thread, bool taken, void *(*body)(void *), void *argument, struct riffle_error *error)
{
	sigset_t mask;

	if (taken) {
		deaf_mask(&mask);
	} else {
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		sigdelset(&mask, KICK_SIGNAL);
	}
	return start(thread, EARLY_STACK, &mask, body, argument, error);
}

__attribute__((noinline)) void thread_wipe_stack(void)
{
	char below[16 << 10];

	explicit_bzero(below, sizeof below);
}

static _Thread_local char own_name[16];

const char *thread_name(void)
{
	return own_name[0] ? own_name : "main";
}

void thread_set_name(const char *name)
{
	snprintf(own_name, sizeof own_name, "%s", name);
	prctl(PR_SET_NAME, own_name, 0, 0, 0);
}

void thread_begin_early(const char *name, unsigned number)
{
	char text[sizeof own_name];

	snprintf(text, sizeof text, "%s %u", name, number);
	thread_set_name(text);
}

void thread_begin(const char *name, unsigned number)
{
	sigset_t kick;

	thread_begin_early(name, number);
	if (deaf)
		return;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

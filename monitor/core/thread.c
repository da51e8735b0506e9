/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with small stacks, the signals of a running microVM, and the one that interrupts a thread's system call. */
#include "monitor/core/thread.h"

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"

#define THREAD_STACK (96u << 10)
#define SPARE_STACK (128u << 10)
#define FIRST_STACK (16u << 10) /* a load takes a part of it */

/*
 * Blocked and never read: the system call that raises one also fails (reader gone, file size limit), and restoring the
 * terminal must work from the background too.
 */
static const int seen_by_calls[] = {SIGPIPE, SIGXFSZ, SIGTTOU, SIGTTIN};

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
	static const int left_alone[] = {SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGABRT, SIGSYS,
					 SIGTRAP, SIGKILL, SIGSTOP, SIGCHLD, SIGURG,  SIGWINCH};
	struct sigaction kick = {.sa_handler = nothing};
	sigset_t blocked;

	sigfillset(&blocked);
	for (size_t i = 0; i < sizeof left_alone / sizeof *left_alone; i++)
		sigdelset(&blocked, left_alone[i]);
	*taken = blocked;
	for (size_t i = 0; i < sizeof seen_by_calls / sizeof *seen_by_calls; i++)
		sigdelset(taken, seen_by_calls[i]);
	sigdelset(taken, KICK_SIGNAL);
	sigemptyset(&kick.sa_mask);
	sigaction(KICK_SIGNAL, &kick, &state->kick);
	pthread_sigmask(SIG_BLOCK, &blocked, &state->mask);
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

int thread_start(pthread_t *thread, void *(*body)(void *), void *argument, struct riffle_error *error)
{
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, THREAD_STACK);
	int result = pthread_create(thread, &attributes, body, argument);
	pthread_attr_destroy(&attributes);
	if (result)
		return riffle_fail_system(error, result, "thread", "cannot be started");
	return 0;
}

enum spare_state {
	SPARE_BUSY,   /* with the first */
	SPARE_ASLEEP, /* since then */
	SPARE_CALLED, /* body and argument are set; without a body it ends */
};

/* What the first left on the stack may be secret, and the thread stays. */
static __attribute__((noinline)) void wipe_stack(void)
{
	char below[FIRST_STACK];

	explicit_bzero(below, sizeof below);
}

/* This thread was started with the kick not blocked. */
static _Thread_local bool takes_kick;

static void *spare_thread(void *opaque)
{
	struct thread_spare *spare = opaque;
	uint32_t state = SPARE_BUSY;

	takes_kick = true;
	spare->first(spare->first_argument);
	wipe_stack();
	if (atomic_compare_exchange_strong(&spare->state, &state, SPARE_ASLEEP))
		while (atomic_load(&spare->state) == SPARE_ASLEEP)
			syscall(SYS_futex, &spare->state, FUTEX_WAIT_PRIVATE, SPARE_ASLEEP, NULL, NULL, 0);
	return spare->body ? spare->body(spare->argument) : NULL;
}

int thread_spare_start(struct thread_spare *spare, void (*first)(void *), void *argument, struct riffle_error *error)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
	pthread_attr_t attributes;
	sigset_t others;
	int result;

	*spare = (struct thread_spare){.first = first, .first_argument = argument};
	sigfillset(&others);
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
		sigdelset(&others, faults[i]);
	sigdelset(&others, KICK_SIGNAL);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, SPARE_STACK);
	pthread_attr_setsigmask_np(&attributes, &others);
	result = pthread_create(&spare->thread, &attributes, spare_thread, spare);
	pthread_attr_destroy(&attributes);
	if (result)
		return riffle_fail_system(error, result, "thread", "cannot be started");
	spare->kept = true;
	return 0;
}

static void call(struct thread_spare *spare, void *(*body)(void *), void *argument)
{
	spare->kept = false;
	spare->body = body;
	spare->argument = argument;
	if (atomic_exchange(&spare->state, SPARE_CALLED) == SPARE_ASLEEP)
		syscall(SYS_futex, &spare->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool thread_spare_use(struct thread_spare *spare, pthread_t *thread, void *(*body)(void *), void *argument)
{
	if (!spare->kept)
		return false;
	*thread = spare->thread;
	call(spare, body, argument);
	return true;
}

void thread_spare_end(struct thread_spare *spare)
{
	if (!spare->kept)
		return;
	call(spare, NULL, NULL);
	pthread_join(spare->thread, NULL);
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

void thread_begin(const char *name, unsigned number)
{
	char text[sizeof own_name];
	sigset_t kick;

	snprintf(text, sizeof text, "%s %u", name, number);
	thread_set_name(text);
	if (takes_kick)
		return;
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

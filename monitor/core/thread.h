/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with small stacks, the signals of a running microVM, and the one that interrupts a thread's system call. */
#ifndef RIFFLE_MONITOR_THREAD_H
#define RIFFLE_MONITOR_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include <riffle/error.h>

#define KICK_SIGNAL SIGRTMIN

struct signal_state {
	sigset_t mask;         /* signals blocked by the caller */
	struct sigaction kick; /* the caller's action for KICK_SIGNAL */
};

/*
 * Blocks every signal for which a running microVM has no handler, and installs KICK_SIGNAL, which only interrupts
 * system calls. Fills *taken with the signals that the caller should read through a signalfd: all that would end the
 * process, except fault signals, and those of job control. Among them may be signals that the caller ignores (nohup, a
 * shell's background jobs), which are not to be acted on: signals_ignored(), asked when one was read, since asking for
 * all of them here would cost more than the few that come. Threads started afterwards take only fault signals and the
 * kick. Undone by signals_restore().
 */
void signals_take(struct signal_state *state, sigset_t *taken);
/* Only installs the kick; every other signal is left to the process. */
void signals_take_kick(struct signal_state *state);
void signals_restore(const struct signal_state *state);
/* Every signal but those that a thread's own faults raise. */
void signals_but_faults(sigset_t *mask);
bool signals_ignored(int number);

/* Starts a thread with a stack of THREAD_STACK bytes. Errors: IO. */
int thread_start(pthread_t *thread, void *(*body)(void *), void *argument, struct riffle_error *error);

/* The same with `mask` blocked, before signals_take(), by which threads that leave signals to others are started. */
int thread_start_masked(pthread_t *thread, const sigset_t *mask, void *(*body)(void *), void *argument,
			struct riffle_error *error);

/*
 * The same as thread_start() before signals_take() or signals_take_kick(), as which of the two `taken` tells; with a
 * larger stack. Its body begins with thread_begin_early().
 */
int thread_start_early(pthread_t *thread, bool taken, void *(*body)(void *), void *argument,
		       struct riffle_error *error);

/* Overwrites the 16 KiB of the stack below the caller, which may hold secrets of calls that have returned. */
void thread_wipe_stack(void);

/*
 * To be called first in a thread's body: sets its name in /proc ("NAME NUMBER") and unblocks the kick, where it was not
 * started so.
 */
void thread_begin(const char *name, unsigned number);
/* The name alone. */
void thread_begin_early(const char *name, unsigned number);
/* The calling thread's name, as thread_begin() or thread_set_name() gave it; "main" for one that has none. */
const char *thread_name(void);
void thread_set_name(const char *name);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with small stacks, the signals of a running microVM, and the one that interrupts a thread's system call. */
#ifndef RIFFLE_MONITOR_THREAD_H
#define RIFFLE_MONITOR_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

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
 * all of them here would cost more than the few that come. Threads started afterwards inherit the mask. Undone by
 * signals_restore().
 */
void signals_take(struct signal_state *state, sigset_t *taken);
/* Only installs the kick; every other signal is left to the process. */
void signals_take_kick(struct signal_state *state);
void signals_restore(const struct signal_state *state);
bool signals_ignored(int number);

/* Starts a thread with a stack of THREAD_STACK bytes. Errors: IO. */
int thread_start(pthread_t *thread, void *(*body)(void *), void *argument, struct riffle_error *error);

/*
 * A thread that does something first and then waits to be another one, which that one's thread_start() would cost more
 * than. It takes no signal but those of its own faults and the kick. Not to be moved while it is kept.
 */
struct thread_spare {
	pthread_t thread;
	bool kept;              /* neither used nor ended; for its owner alone */
	_Atomic uint32_t state; /* enum spare_state, in thread.c */
	void (*first)(void *);
	void *first_argument;
	void *(*body)(void *);
	void *argument;
};

/* Starts it with first(argument), of whose stack's upper 16 KiB nothing is left. Errors: IO. */
int thread_spare_start(struct thread_spare *spare, void (*first)(void *), void *argument, struct riffle_error *error);
/*
 * Makes it the thread that runs body(argument), as soon as it is done with the first. False: there is none (a spare
 * that is all zero, used, or ended).
 */
bool thread_spare_use(struct thread_spare *spare, pthread_t *thread, void *(*body)(void *), void *argument);
/* Ends it, if it is kept, and waits for that. */
void thread_spare_end(struct thread_spare *spare);

/* To be called first in a thread's body: sets its name in /proc ("NAME NUMBER") and unblocks the kick. */
void thread_begin(const char *name, unsigned number);
/* The calling thread's name, as thread_begin() or thread_set_name() gave it; "main" for one that has none. */
const char *thread_name(void);
void thread_set_name(const char *name);

#endif

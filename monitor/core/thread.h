/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with small stacks, and the signal that gets one out of a system call. */
#ifndef RIFFLE_MONITOR_THREAD_H
#define RIFFLE_MONITOR_THREAD_H

#include <pthread.h>
#include <signal.h>

#include <riffle/error.h>

struct signal_state {
	sigset_t mask;                  /* what the caller had blocked */
	struct sigaction kick;          /* what SIGRTMIN did */
};

/*
 * Blocks what a running microVM does not take by handlers (terminating and job control signals, SIGPIPE) and makes
 * SIGRTMIN the kick: it interrupts system calls and does nothing else. Fills *ended with the signals that the caller
 * should read through a signalfd. Undone by signals_restore().
 */
void signals_take(struct signal_state *state, sigset_t *taken);
void signals_restore(const struct signal_state *state);

/* Starts a thread with a stack of THREAD_STACK bytes. Errors: IO. */
int thread_start(pthread_t *thread, void *(*body)(void *), void *argument, struct riffle_error *error);

/* To be called first in a thread's body: its name in /proc, and the kick let in. */
void thread_begin(const char *name);

#endif

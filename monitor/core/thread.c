/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with small stacks, and the signal that gets one out of a system call. */
#include "monitor/core/thread.h"

#include <sys/prctl.h>

#include "common/fail.h"

#define THREAD_STACK (96u << 10)

static void nothing(int number)
{
	(void)number;
}

void signals_take(struct signal_state *state, sigset_t *taken)
{
	static const int read_by_descriptor[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXCPU, SIGTSTP, SIGCONT};
	struct sigaction kick = {.sa_handler = nothing};
	sigset_t blocked;

	sigemptyset(taken);
	for (size_t i = 0; i < sizeof read_by_descriptor / sizeof *read_by_descriptor; i++)
		sigaddset(taken, read_by_descriptor[i]);
	blocked = *taken;
	sigaddset(&blocked, SIGPIPE); /* a reader that went away is seen by write() */
	sigaddset(&blocked, SIGXFSZ); /* and so is a file that may not grow */
	sigaddset(&blocked, SIGTTOU); /* putting the terminal right must work from the background too */
	sigaddset(&blocked, SIGTTIN);
	sigaddset(&blocked, SIGRTMIN);
	sigemptyset(&kick.sa_mask);
	sigaction(SIGRTMIN, &kick, &state->kick);
	pthread_sigmask(SIG_BLOCK, &blocked, &state->mask);
}

void signals_restore(const struct signal_state *state)
{
	/* kicks, broken pipes and full files of this run mean nothing after it */
	sigset_t ours;
	sigemptyset(&ours);
	sigaddset(&ours, SIGRTMIN);
	if (!sigismember(&state->mask, SIGPIPE))
		sigaddset(&ours, SIGPIPE);
	if (!sigismember(&state->mask, SIGXFSZ))
		sigaddset(&ours, SIGXFSZ);
	while (sigtimedwait(&ours, NULL, &(struct timespec){0}) > 0)
		;
	sigaction(SIGRTMIN, &state->kick, NULL);
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

void thread_begin(const char *name)
{
	sigset_t kick;
	if (name)
		prctl(PR_SET_NAME, name, 0, 0, 0);
	sigemptyset(&kick);
	sigaddset(&kick, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

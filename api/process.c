/* SPDX-License-Identifier: Apache-2.0 */
/* How the process of riffle-vmm ends: fatal signals and what Firecracker calls a panic, each with its last words. */
#include "api/process.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/firecracker.h"
#include "api/log.h"
#include "api/metrics.h"
#include "common/fail.h"

/* By the time a panic aborts, or a second signal comes, the last words are said. */
static volatile sig_atomic_t ending;

static const struct fatal {
	int number;
	enum firecracker_exit code;
	enum metric metric;
} fatal[] = {
    {SIGBUS, FIRECRACKER_EXIT_SIGBUS, METRIC(signals, sigbus)},
    {SIGSEGV, FIRECRACKER_EXIT_SIGSEGV, METRIC(signals, sigsegv)},
    {SIGXFSZ, FIRECRACKER_EXIT_SIGXFSZ, METRIC(signals, sigxfsz)},
    {SIGXCPU, FIRECRACKER_EXIT_SIGXCPU, METRIC(signals, sigxcpu)},
    {SIGHUP, FIRECRACKER_EXIT_SIGHUP, METRIC(signals, sighup)},
    {SIGILL, FIRECRACKER_EXIT_SIGILL, METRIC(signals, sigill)},
    {SIGSYS, FIRECRACKER_EXIT_BAD_SYSCALL, METRIC(seccomp, num_faults)},
};

/* "TEXT NUMBER END" without the C library's locks. */
static void say(const char *text, int number, const char *end)
{
	char line[128], digits[12];
	size_t at = 0, count = 0;
	unsigned value = number < 0 ? 0u : (unsigned)number;

	while (*text && at < sizeof line - 32)
		line[at++] = *text++;
	do
		digits[count++] = (char)('0' + value % 10);
	while (value /= 10);
	while (count)
		line[at++] = digits[--count];
	while (*end && at < sizeof line - 1)
		line[at++] = *end++;
	line[at] = 0;
	log_from_signal(LOG_ERROR, line);
}

static void end_by_signal(int number, siginfo_t *info, void *context)
{
	const struct fatal *which = fatal;

	(void)context;
	while (which->number != number)
		which++;
	if (ending)
		_exit(which->code);
	ending = true;
	if (which->metric == METRIC(seccomp, num_faults)) {
		metrics_store(which->metric, 1);
		say("Shutting down VM after intercepting a bad syscall (", info->si_syscall, ").");
	} else {
		metrics_store(which->metric, 1);
		say("Shutting down VM after intercepting signal ", number, ".");
	}
	metrics_flush_from_signal();
	_exit(which->code);
}

static void count_broken_pipe(int number)
{
	(void)number;
	metrics_count(METRIC(signals, sigpipe));
}

int process_handle_signals(struct riffle_error *error)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = end_by_signal};
	struct sigaction ignore = {.sa_flags = SA_RESTART, .sa_handler = count_broken_pipe};
	sigset_t ours;

	sigemptyset(&action.sa_mask);
	sigemptyset(&ignore.sa_mask);
	sigemptyset(&ours);
	sigaddset(&ours, SIGPIPE);
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) {
		if (sigaction(fatal[i].number, &action, NULL) < 0)
			return riffle_fail_system(error, errno, "sigaction", "failed");
		sigaddset(&ours, fatal[i].number);
	}
	if (sigaction(SIGPIPE, &ignore, NULL) < 0)
		return riffle_fail_system(error, errno, "sigaction", "failed");
	/* whatever started the process may have had them blocked */
	pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
	return 0;
}

_Noreturn void process_panic(const char *format, ...)
{
	char text[1024];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	ending = true;
	log_always(LOG_ERROR, "firecracker", "Firecracker panicked: %s", text);
	fprintf(stderr, "riffle-vmm: %s\n", text);
	metrics_store(METRIC(vmm, panic_count), 1);
	metrics_flush(NULL);
	abort(); /* whose handler, while the guest has the terminal, restores it */
}

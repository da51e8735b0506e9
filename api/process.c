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

/* What Firecracker wakes its vCPUs by, which whoever sends it does not expect to end a process. */
#define FOREIGN_KICK 35

static pid_t own_pid;

/* A line of text without the C library's locks. */
struct spoken {
	char line[160];
	size_t at;
};

static void add_words(struct spoken *spoken, const char *text)
{
	while (*text && spoken->at < sizeof spoken->line - 16)
		spoken->line[spoken->at++] = *text++;
}

static void add_integer(struct spoken *spoken, int number)
{
	char digits[12];
	size_t count = 0;
	unsigned value = number < 0 ? 0u - (unsigned)number : (unsigned)number;

	add_words(spoken, number < 0 ? "-" : "");
	do
		digits[count++] = (char)('0' + value % 10);
	while (value /= 10);
	while (count && spoken->at < sizeof spoken->line - 4)
		spoken->line[spoken->at++] = digits[--count];
}

static void say(struct spoken *spoken, const char *end)
{
	add_words(spoken, end);
	spoken->line[spoken->at] = 0;
	log_from_signal(LOG_ERROR, spoken->line);
}

static void say_signal(const char *text, const siginfo_t *info)
{
	struct spoken spoken = {.at = 0};

	add_words(&spoken, text);
	add_integer(&spoken, info->si_signo);
	add_words(&spoken, ", code ");
	add_integer(&spoken, info->si_code);
	say(&spoken, ".");
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
		struct spoken spoken = {.at = 0};

		add_words(&spoken, "Shutting down VM after intercepting a bad syscall (");
		add_integer(&spoken, info->si_syscall);
		say(&spoken, ").");
	} else {
		metrics_store(which->metric, 1);
		say_signal("Shutting down VM after intercepting signal ", info);
	}
	metrics_flush_from_signal();
	_exit(which->code);
}

/* One of the process's own is told by nothing else: the log may be the pipe that is broken. */
static void count_broken_pipe(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	metrics_count(METRIC(signals, sigpipe));
	if (info->si_pid != own_pid)
		say_signal("Received signal ", info);
}

int process_handle_signals(struct riffle_error *error)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO, .sa_sigaction = end_by_signal};
	struct sigaction ignore = {.sa_flags = SA_RESTART | SA_SIGINFO, .sa_sigaction = count_broken_pipe};
	sigset_t ours;

	own_pid = getpid();
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
	if (FOREIGN_KICK != SIGRTMIN)
		signal(FOREIGN_KICK, SIG_IGN);
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

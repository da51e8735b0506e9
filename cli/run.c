/* SPDX-License-Identifier: Apache-2.0 */
/* riffle run: a command line becomes a machine's description; the machine runs; how it ended becomes an exit code. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/run_options.h"
#include "machine/machine.h"

/* One run, and the line that shows on a terminal that a kernel is being prepared. */
struct run {
	struct run_options options;
	struct phases phases;
	struct machine *machine;
	struct {
		pthread_t thread;
		pthread_mutex_t lock;
		pthread_cond_t changed;
		bool running, finish;
	} progress;
};

static void notice(void *opaque, const char *text)
{
	(void)opaque;
	fprintf(stderr, "riffle: notice: %s\n", text);
}

static void announce(void *opaque, const char *text)
{
	(void)opaque;
	fprintf(stderr, "riffle: %s\n", text);
}

static void *show_progress(void *opaque)
{
	struct run *run = opaque;
	struct timespec until;
	unsigned tenths = 0;

	pthread_mutex_lock(&run->progress.lock);
	clock_gettime(CLOCK_MONOTONIC, &until);
	while (!run->progress.finish) {
		fprintf(stderr, "\rriffle: preparing the kernel, once for all its starts: %u.%u s", tenths / 10,
			tenths % 10);
		tenths++;
		until.tv_nsec += 100000000;
		if (until.tv_nsec >= 1000000000) {
			until.tv_nsec -= 1000000000;
			until.tv_sec++;
		}
		pthread_cond_clockwait(&run->progress.changed, &run->progress.lock, CLOCK_MONOTONIC, &until);
	}
	pthread_mutex_unlock(&run->progress.lock);
	fputc('\n', stderr);
	return NULL;
}

static void preparing(void *opaque, bool begun)
{
	struct run *run = opaque;

	if (begun && !isatty(STDERR_FILENO)) {
		fputs("riffle: preparing the kernel, once for all its starts\n", stderr);
	} else if (begun) {
		run->progress.finish = false;
		run->progress.running = !pthread_create(&run->progress.thread, NULL, show_progress, run);
	} else if (run->progress.running) {
		pthread_mutex_lock(&run->progress.lock);
		run->progress.finish = true;
		pthread_cond_signal(&run->progress.changed);
		pthread_mutex_unlock(&run->progress.lock);
		pthread_join(run->progress.thread, NULL);
		run->progress.running = false;
	}
}

static void before_run(void *opaque)
{
	struct run *run = opaque;

	phases_end(&run->phases, "first guest instruction");
	phases_add(&run->phases, "CPU, all threads", phases_process_cpu());
	phases_total(&run->phases);
	if (run->options.machine.boot_timer)
		phases_print(&run->phases, stderr);
}

static int exit_code(enum vm_end end, const struct machine *machine)
{
	switch (end) {
	case VM_END_POWEROFF:
		return RUN_EXIT_POWEROFF;
	case VM_END_RESET:
		return RUN_EXIT_RESET;
	case VM_END_TRIPLE_FAULT:
		return RUN_EXIT_TRIPLE_FAULT;
	case VM_END_ESCAPE:
		return RUN_EXIT_ESCAPE;
	case VM_END_HALTED:
		return RUN_EXIT_HALTED;
	case VM_END_PANIC:
		return RUN_EXIT_PANIC;
	case VM_END_SIGNAL:
		return 128 + machine_end_signal(machine);
	case VM_END_COMMAND:
	case VM_END_ERROR:
		break;
	}
	return EXIT_FAILURE;
}

/* What the guest told the boot timer. */
static void print_timer(const struct run *run)
{
	const struct boot_timer *timer = machine_boot_timer(run->machine);

	if (timer->marked_ns)
		phases_print_init(&run->phases, timer->marked_ns, stderr);
	for (unsigned i = 0; i < timer->marks; i++)
		phases_print_mark(&run->phases, timer->mark[i].value, timer->mark[i].ns, stderr);
}

int command_run(int argc, char **argv)
{
	struct run run = {.progress.lock = PTHREAD_MUTEX_INITIALIZER, .progress.changed = PTHREAD_COND_INITIALIZER};
	const struct machine_observer observer = {
	    .notice = notice, .announce = announce, .preparing = preparing, .before_run = before_run, .opaque = &run};
	struct riffle_error error;
	enum vm_end end = VM_END_ERROR;
	const char *blame = NULL;
	int status, code;

	phases_start(&run.phases, 0);
	switch (run_options_parse(&run.options, argc, argv)) {
	case RUN_HELPED:
		return 0;
	case RUN_WRONG:
		return EXIT_USAGE;
	case RUN_GO:
		break;
	}
	if (run.options.start_time)
		phases_start(&run.phases, run.options.start_time);
	/* neither a core file nor another process of this user may show where the guest's kernel lies */
	prctl(PR_SET_DUMPABLE, 0);
	status = machine_build(&run.machine, &run.options.machine, &observer, &run.phases, &blame, &error);
	if (!status)
		status = machine_run(run.machine, &end, &error);
	if (status || end == VM_END_ERROR) {
		report_error(blame, &error);
		code = EXIT_FAILURE;
	} else {
		code = exit_code(end, run.machine);
		if (end == VM_END_HALTED)
			fputs("riffle: the guest halted all its vCPUs with interrupts off\n", stderr);
	}
	if (!status && run.options.machine.boot_timer)
		print_timer(&run);
	machine_destroy(run.machine);
	return code;
}

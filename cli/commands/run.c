/* SPDX-License-Identifier: Apache-2.0 */
/* riffle run: a command line becomes a machine's description; the machine runs; how it ended becomes an exit code. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/commands/run_config.h"
#include "cli/commands/run_end.h"
#include "cli/commands/run_initramfs.h"
#include "cli/commands/run_options.h"
#include "cli/commands/run_saved.h"
#include "host/input.h"
#include "machine/drop_code.h"
#include "machine/machine.h"

/* One run, and the line that shows on a terminal that a kernel is being prepared. */
struct run {
	struct run_options options;
	struct phases phases;
	struct run_initramfs initramfs;
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

	if (begun && isatty(STDERR_FILENO)) {
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
	if (!run->options.machine.boot_timer)
		return;
	phases_add(&run->phases, "CPU, all threads", phases_process_cpu());
	phases_total(&run->phases);
	phases_print(&run->phases, stderr);
}

static void running(void *opaque)
{
	(void)opaque;
	machine_drop_code();
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

/* Builds and runs it; false when that failed, which was reported. */
static bool run_machine(struct run *run, struct run_end *end)
{
	const struct machine_observer observer = {.notice = notice,
						  .announce = announce,
						  .preparing = preparing,
						  .before_run = before_run,
						  .running = running,
						  .opaque = run};
	const char *blame = NULL;
	struct riffle_error error;
	bool building = true;
	int status = run_from_stock(&run->machine, &run->options, &observer, &run->phases, &blame, &error);

	if (status == RUN_NOT_FROM_STOCK)
		status = machine_build(&run->machine, &run->options.machine, &observer, &run->phases, &blame, &error);

	if (!status && run->options.save_to && !run->options.machine.save_at_mark) {
		end->end = VM_END_POWEROFF;
		status = run_saved_now(run->machine, &run->options, &error);
		if (status)
			report_error(run->options.save_to, &error);
		return !status;
	}
	if (!status) {
		building = false;
		/* its files are in the guest's memory */
		run_initramfs_free(&run->initramfs);
		status = run_config_begin(run->machine, &error);
		if (!status)
			status = machine_run(run->machine, &end->end, &error);
		run_config_end();
	}
	if (status || end->end == VM_END_ERROR) {
		if (building && !blame && run->initramfs.blame[0])
			blame = run->initramfs.blame;
		report_error(blame, &error);
		if (!building)
			end->status = machine_command_status(run->machine);
		return false;
	}
	end->signal = machine_end_signal(run->machine);
	end->status = machine_command_status(run->machine);
	if (run->options.machine.boot_timer)
		print_timer(run);
	return true;
}

static int run(struct run *run)
{
	struct run_end end = {.failed = true, .end = VM_END_ERROR};
	int status_fd = -1, code = 0;

	if (run->options.status_out) {
		status_fd = run_end_open(run->options.status_out, &run->options);
		if (status_fd < 0)
			return run_end_report(&end, &run->options, NULL);
	}
	if (run->options.save_to && !run_saved_open(&run->options))
		code = EXIT_FAILURE;
	else if (run_initramfs_make(&run->initramfs, &run->options, &code))
		end.failed = !run_machine(run, &end);
	if (!code)
		code = run_end_report(&end, &run->options, run->machine);
	if (status_fd >= 0 && !run_end_write(status_fd, run->options.status_out, &end, code))
		code = run->options.command ? COMMAND_EXIT_ERROR : EXIT_FAILURE;
	return code;
}

int command_run(int argc, char **argv)
{
	struct run r = {.progress.lock = PTHREAD_MUTEX_INITIALIZER, .progress.changed = PTHREAD_COND_INITIALIZER};
	int code;

	phases_start(&r.phases, 0);
	switch (run_options_parse(&r.options, argc, argv)) {
	case RUN_HELPED:
		return 0;
	case RUN_WRONG:
		return r.options.command ? COMMAND_EXIT_ERROR : EXIT_USAGE;
	case RUN_GO:
		break;
	}
	if (r.options.start_time)
		phases_start(&r.phases, r.options.start_time);
	/* neither a core file nor another process of this user may show where the guest's kernel lies */
	prctl(PR_SET_DUMPABLE, 0);
	code = run(&r);
	machine_destroy(r.machine);
	run_initramfs_free(&r.initramfs);
	return code;
}

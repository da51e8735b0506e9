/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a machine and does to it what a script on standard input says, through machine/control.h, from its event loop.
 *
 * usage: controlled KERNEL INITRD OPTION...
 *   memory=MIB vcpus=N append=TEXT balloon=MIB disk=ID:PATH pmem=ID:PATH pmem-ro=ID:PATH rng
 *
 * Commands, a line each; the first that fails ends the run with exit code 1:
 *   wait TEXT           until a line of the console contains TEXT
 *   disk ID PATH        another file; fail-disk ID PATH: which must be refused
 *   ops ID N MS         N operations in MS milliseconds; 0 0: no limit
 *   balloon MIB         until the guest has given that much; stats SECONDS; state: what is known of the balloon
 *   hint-start, hint-stop, ctrl-alt-del, pause, resume, renew, end
 *   sleep SECONDS, sh COMMAND
 *   mark; passed WORD   prints "WORD: MS ms" since the last mark
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <riffle/error.h>

#include "machine/control.h"

static struct machine *machine;
static FILE *console;
static char verb[32], first[256], second[256];
static struct riffle_error error;
static int status;
static sem_t done;
static struct balloon_state balloon;
static uint64_t marked;

static bool starts(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* In the event loop's thread. */
static void act(void *opaque)
{
	const struct limiter_update limits = {
	    .has_ops = true,
	    .ops = {strtoull(second, NULL, 10), strtoull(strchr(second, ' ') ? strchr(second, ' ') : "0", NULL, 10),
		    0}};

	(void)opaque;
	status = 0;
	if (!strcmp(verb, "disk") || !strcmp(verb, "fail-disk"))
		status = machine_disk_set_file(machine, first, second, &error);
	else if (!strcmp(verb, "ops"))
		status = machine_disk_set_limits(machine, first, &limits, &error);
	else if (!strcmp(verb, "balloon"))
		status = machine_balloon_set_target(machine, strtoull(first, NULL, 10) << 20, &error);
	else if (!strcmp(verb, "stats"))
		status = machine_balloon_set_interval(machine, (uint16_t)atoi(first), &error);
	else if (!strcmp(verb, "hint-start"))
		status = machine_balloon_hint_start(machine, false, &error);
	else if (!strcmp(verb, "hint-stop"))
		status = machine_balloon_hint_stop(machine, &error);
	else if (!strcmp(verb, "ctrl-alt-del"))
		status = machine_ctrl_alt_del(machine, &error);
	else if (!strcmp(verb, "pause"))
		status = machine_control(machine, MACHINE_PAUSE, &error);
	else if (!strcmp(verb, "resume"))
		status = machine_control(machine, MACHINE_RESUME, &error);
	else if (!strcmp(verb, "renew"))
		status = machine_renew_generation(machine, &error);
	else if (!strcmp(verb, "end"))
		status = machine_control(machine, MACHINE_END, &error);
	if (!status && starts(verb, "balloon"))
		status = machine_balloon_state(machine, &balloon, &error);
	else if (!strcmp(verb, "state") || !strcmp(verb, "hint-start"))
		status = machine_balloon_state(machine, &balloon, &error);
	sem_post(&done);
}

static void in_loop(void)
{
	static struct loop_task task = {.run = act};

	machine_post(machine, &task);
	sem_wait(&done);
}

static bool wait_for(const char *text)
{
	char line[1024];

	while (fgets(line, sizeof line, console)) {
		fputs(line, stdout);
		if (strstr(line, text))
			return true;
	}
	printf("controlled: the console ended before '%s'\n", text);
	return false;
}

static bool balloon_reaches(uint64_t bytes)
{
	for (unsigned i = 0; i < 600; i++) {
		strcpy(verb, "state");
		in_loop();
		if (balloon.actual_bytes == bytes)
			return true;
		usleep(100000);
	}
	return false;
}

static bool hinting_ends(void)
{
	uint32_t asked = balloon.hint_host_command;

	for (unsigned i = 0; i < 600; i++) {
		strcpy(verb, "state");
		in_loop();
		/* the list is complete: the guest says "stop" and waits */
		if (balloon.hint_guest_answered && balloon.hint_guest_command != asked)
			return true;
		usleep(100000);
	}
	return false;
}

static bool obey(const char *line)
{
	verb[0] = first[0] = second[0] = 0;
	sscanf(line, "%31s %255s %255[^\n]", verb, first, second);
	const char *rest = line + strlen(verb) + (line[strlen(verb)] == ' ');
	bool must_fail = !strcmp(verb, "fail-disk"), is_balloon = !strcmp(verb, "balloon");
	bool is_hint = !strcmp(verb, "hint-start"), is_state = !strcmp(verb, "state");

	if (!strcmp(verb, "wait"))
		return wait_for(rest);
	if (!strcmp(verb, "sh"))
		return system(rest) == 0;
	if (!strcmp(verb, "sleep")) {
		usleep((useconds_t)(atof(first) * 1e6));
		return true;
	}
	if (!strcmp(verb, "mark")) {
		marked = loop_now();
		return true;
	}
	if (!strcmp(verb, "passed")) {
		printf("%s: %llu ms\n", first, (unsigned long long)(loop_now() - marked) / 1000000);
		return true;
	}
	in_loop();
	if (status && !must_fail) {
		char text[300];

		riffle_error_format(&error, text, sizeof text);
		printf("controlled: %s: %s\n", line, text);
	}
	if (!status && is_balloon)
		return balloon_reaches(strtoull(first, NULL, 10) << 20);
	if (!status && is_hint)
		return hinting_ends();
	if (is_state)
		printf("balloon: target=%llu actual=%llu hinted=%llu reported=%llu stats=%x free=%llu\n",
		       (unsigned long long)balloon.target_bytes, (unsigned long long)balloon.actual_bytes,
		       (unsigned long long)balloon.hinted_bytes, (unsigned long long)balloon.reported_bytes,
		       balloon.stats.there, (unsigned long long)balloon.stats.value[4]);
	return must_fail ? status != 0 : status == 0;
}

static void *follow_script(void *opaque)
{
	char line[600];

	(void)opaque;
	while (vm_state(machine_vm(machine)) == VM_PAUSED)
		usleep(1000);
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!line[0] || line[0] == '#')
			continue;
		if (!obey(line)) {
			printf("controlled: failed: %s\n", line);
			fflush(stdout);
			_exit(1);
		}
		fflush(stdout);
	}
	return NULL;
}

/* ID:PATH; the strings live as long as the program. */
static void split(char *text, const char **id, const char **path)
{
	char *colon = strchr(text, ':');

	if (!colon)
		exit(2);
	*colon = 0;
	*id = text;
	*path = colon + 1;
}

static void parse(struct machine_config *config, char *option)
{
	struct machine_devices_config *devices = &config->devices;
	char *value = strchr(option, '=') ? strchr(option, '=') + 1 : option;

	if (starts(option, "memory=")) {
		config->memory_bytes = strtoull(value, NULL, 10) << 20;
	} else if (starts(option, "vcpus=")) {
		config->vcpus = (unsigned)atoi(value);
	} else if (starts(option, "append=")) {
		if (machine_config_command_line(config, value, true, NULL))
			exit(2);
	} else if (starts(option, "balloon=")) {
		devices->balloon.wanted = true;
		devices->balloon.balloon = (struct balloon_config){
		    .target_bytes = strtoull(value, NULL, 10) << 20, .stats_s = 1, .reporting = true, .hinting = true};
	} else if (starts(option, "disk=")) {
		struct machine_disk *disk = &devices->disks[devices->disk_count++];

		split(value, &disk->id, &disk->path);
	} else if (starts(option, "pmem")) {
		struct machine_pmem *pmem = &devices->pmems[devices->pmem_count++];

		split(value, &pmem->id, &pmem->path);
		pmem->read_only = starts(option, "pmem-ro=");
	} else if (!strcmp(option, "rng")) {
		devices->rng.wanted = true;
	} else {
		exit(2);
	}
}

static void notice(void *opaque, const char *text)
{
	(void)opaque;
	fprintf(stderr, "controlled: %s\n", text);
}

int main(int argc, char **argv)
{
	const struct machine_observer observer = {.notice = notice};
	struct machine_config config;
	struct phases phases;
	enum vm_end end = VM_END_ERROR;
	const char *blame = NULL;
	char text[300];
	sigset_t all, before;
	pthread_t thread;
	int pipe_fds[2];

	if (argc < 3 || pipe(pipe_fds) < 0)
		return 2;
	machine_config_init(&config);
	config.kernel = argv[1];
	config.initrd_path = argv[2];
	for (int i = 3; i < argc; i++)
		parse(&config, argv[i]);
	config.controlled = true;
	config.console.kind = MACHINE_CONSOLE_FD;
	config.console.fd = pipe_fds[1];
	console = fdopen(pipe_fds[0], "r");
	setvbuf(stdout, NULL, _IOLBF, 0);
	sem_init(&done, 0, 0);
	phases_start(&phases, 0);
	int result = machine_build(&machine, &config, &observer, &phases, &blame, &error);

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	if (!result && pthread_create(&thread, NULL, follow_script, NULL))
		return 2;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!result)
		result = machine_run(machine, &end, &error);
	if (result || end == VM_END_ERROR) {
		riffle_error_format(&error, text, sizeof text);
		fprintf(stderr, "controlled: %s: %s\n", blame ? blame : "", text);
		return 3;
	}
	printf("ended: %d\n", (int)end);
	fflush(stdout);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* How a run ended: as an exit code, in words, and as a small file of JSON. */
#include "cli/commands/run_end.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/commands.h"
#include "guest/channel.h"
#include "host/shown.h"

#define TAIL_BYTES 4096u /* of the console, when a command's guest ended unasked */

/* In the words of the status file. */
static const char *const end_names[] = {
    [VM_END_POWEROFF] = "poweroff", [VM_END_RESET] = "reset",     [VM_END_TRIPLE_FAULT] = "triple-fault",
    [VM_END_SIGNAL] = "signal",     [VM_END_ESCAPE] = "escape",   [VM_END_HALTED] = "halted",
    [VM_END_PANIC] = "panic",       [VM_END_COMMAND] = "command", [VM_END_ERROR] = "error"};

static const char *const end_words[] = {[VM_END_POWEROFF] = "powered off",
					[VM_END_RESET] = "reset itself",
					[VM_END_TRIPLE_FAULT] = "died of a triple fault",
					[VM_END_HALTED] = "halted all its vCPUs with interrupts off",
					[VM_END_PANIC] = "panicked"};

static int plain_exit(const struct run_end *e)
{
	switch (e->end) {
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
		return 128 + e->signal;
	case VM_END_COMMAND:
	case VM_END_ERROR:
		break;
	}
	return EXIT_FAILURE;
}

static int command_exit(uint32_t status, const char *name, const char *workdir)
{
	uint32_t value = status & 0xffff;

	switch (status >> 16) {
	case CHANNEL_STATUS_EXITED:
		return (int)value;
	case CHANNEL_STATUS_SIGNALED:
		return 128 + (int)value;
	case CHANNEL_STATUS_NOT_FOUND:
		fprintf(stderr, "riffle: %s: not found in the guest: %s\n", SHOWN(name), strerror((int)value));
		return COMMAND_EXIT_NOT_FOUND;
	case CHANNEL_STATUS_CANNOT_RUN:
		fprintf(stderr, "riffle: %s: cannot be run in the guest: %s\n", SHOWN(name), strerror((int)value));
		return COMMAND_EXIT_CANNOT_RUN;
	case CHANNEL_STATUS_NO_DIRECTORY:
		fprintf(stderr, "riffle: %s: working directory: cannot be entered in the guest: %s\n",
			SHOWN(workdir ? workdir : "/"), strerror((int)value));
		return COMMAND_EXIT_CANNOT_RUN;
	default:
		fprintf(stderr, "riffle: the guest's init failed: %s\n", strerror((int)value));
		return COMMAND_EXIT_ERROR;
	}
}

/* What the kernel said last: the only trace of why a command has no status. Control characters do no harm then. */
static void print_tail(const struct machine *machine)
{
	uint8_t tail[TAIL_BYTES];
	uint32_t count = machine_console_tail(machine, tail, sizeof tail), from = 0;

	if (count == sizeof tail)
		while (from < count && tail[from++] != '\n')
			;
	if (from == count)
		return;
	fputs("riffle: the last of its console:\n", stderr);
	for (uint32_t i = from; i < count; i++)
		if (tail[i] == '\n' || tail[i] == '\t' || (tail[i] >= ' ' && tail[i] < 0x7f))
			fputc(tail[i], stderr);
		else if (tail[i] != '\r')
			fputc('?', stderr);
	if (tail[count - 1] != '\n')
		fputc('\n', stderr);
}

int run_end_report(const struct run_end *e, const struct run_options *o, const struct machine *machine)
{
	if (e->failed)
		return o->command ? COMMAND_EXIT_ERROR : EXIT_FAILURE;
	if (!o->command) {
		if (e->end == VM_END_HALTED)
			fputs("riffle: the guest halted all its vCPUs with interrupts off\n", stderr);
		return plain_exit(e);
	}
	if (e->end == VM_END_COMMAND) {
		int code = command_exit(e->status, o->command[0], o->workdir);

		if (code == COMMAND_EXIT_ERROR && e->status >> 16 == CHANNEL_STATUS_INIT_FAILED)
			print_tail(machine);
		return code;
	}
	if (e->end == VM_END_SIGNAL)
		return 128 + e->signal;
	if (e->end == VM_END_ESCAPE) {
		fputs("riffle: ended from the console before the command did\n", stderr);
		return COMMAND_EXIT_LOST;
	}
	fprintf(stderr, "riffle: the guest%s %s before the command ended\n", e->end == VM_END_PANIC ? "'s kernel" : "",
		end_words[e->end]);
	print_tail(machine);
	return e->end == VM_END_PANIC ? COMMAND_EXIT_PANIC : COMMAND_EXIT_LOST;
}

int run_end_open(const char *path, const struct run_options *o)
{
	/* emptied only when it is known to be nothing that the machine is made of; a FIFO that nobody reads is an
	 * error, and no reason to wait */
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
	const char *input;
	struct stat st;

	if (fd < 0) {
		fprintf(stderr, "riffle: %s: --status-out: cannot be opened for writing: %s\n", SHOWN(path),
			strerror(errno));
		return -1;
	}
	input = fstat(fd, &st) ? NULL : machine_config_uses(&o->machine, &st);
	if (input) {
		fprintf(stderr, "riffle: %s: --status-out: is the machine's %s\n", SHOWN(path), input);
		close(fd);
		return -1;
	}
	if (ftruncate(fd, 0) < 0 && errno != EINVAL) { /* EINVAL: no regular file */
		fprintf(stderr, "riffle: %s: --status-out: cannot be emptied: %s\n", SHOWN(path), strerror(errno));
		close(fd);
		return -1;
	}
	return fd;
}

static int format_status(char *text, size_t room, const struct run_end *e, int code)
{
	static const char *const kinds[] = {[CHANNEL_STATUS_EXITED] = "exited",
					    [CHANNEL_STATUS_SIGNALED] = "signaled",
					    [CHANNEL_STATUS_NOT_FOUND] = "not-found",
					    [CHANNEL_STATUS_CANNOT_RUN] = "cannot-run",
					    [CHANNEL_STATUS_NO_DIRECTORY] = "no-directory",
					    [CHANNEL_STATUS_INIT_FAILED] = "init-failed"};
	static const char *const values[] = {
	    [CHANNEL_STATUS_EXITED] = "status",      [CHANNEL_STATUS_SIGNALED] = "signal",
	    [CHANNEL_STATUS_NOT_FOUND] = "errno",    [CHANNEL_STATUS_CANNOT_RUN] = "errno",
	    [CHANNEL_STATUS_NO_DIRECTORY] = "errno", [CHANNEL_STATUS_INIT_FAILED] = "errno"};
	const char *end = e->failed ? "error" : end_names[e->end];

	/* a command that ended has its status, also where output was lost then */
	if (e->end == VM_END_COMMAND)
		return snprintf(text, room,
				"{\"end\": \"command\", \"command\": \"%s\", \"%s\": %u, %s\"exit_code\": %d}\n",
				kinds[e->status >> 16], values[e->status >> 16], e->status & 0xffff,
				e->failed ? "\"error\": \"output was lost\", " : "", code);
	if (!e->failed && e->end == VM_END_SIGNAL)
		return snprintf(text, room, "{\"end\": \"signal\", \"signal\": %d, \"exit_code\": %d}\n", e->signal,
				code);
	return snprintf(text, room, "{\"end\": \"%s\", \"exit_code\": %d}\n", end, code);
}

bool run_end_write(int fd, const char *path, const struct run_end *e, int code)
{
	char text[256];
	int length = format_status(text, sizeof text, e, code);
	bool written = length > 0 && write(fd, text, (size_t)length) == length;

	if (close(fd) < 0)
		written = false;
	if (!written)
		fprintf(stderr, "riffle: %s: --status-out: cannot be written: %s\n", SHOWN(path), strerror(errno));
	return written;
}

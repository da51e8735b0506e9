/* SPDX-License-Identifier: Apache-2.0 */
/* Runs that end in a snapshot, and those that begin with an item of a stock. */
#include "cli/commands/run_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "host/input.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"
#include "machine/stock_start.h"

static int make_file(int directory, const char *name)
{
	return openat(directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

bool run_saved_open(struct run_options *o)
{
	struct machine_config *m = &o->machine;
	struct riffle_error error;
	struct stat st;
	int directory = -1;

	signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error like any other */
	m->save_state_fd = m->save_memory_fd = -1;
	if (mkdir(o->save_to, 0700) == 0 || errno == EEXIST)
		directory = open(o->save_to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory >= 0 && fstat(directory, &st) == 0 && snapshot_file_trust(&st, &error)) {
		report_error(o->save_to, &error);
		close(directory);
		return false;
	}
	if (directory >= 0) {
		m->save_memory_fd = make_file(directory, "memory");
		m->save_state_fd = m->save_memory_fd < 0 ? -1 : make_file(directory, "state");
	}
	if (m->save_state_fd < 0) {
		riffle_fail_system(&error, errno, "--save-to", "the files of a snapshot cannot be made there");
		report_error(o->save_to, &error);
	}
	if (directory >= 0)
		close(directory);
	return m->save_state_fd >= 0;
}

int run_saved_now(struct machine *machine, const struct run_options *o, struct riffle_error *error)
{
	struct machine_snapshot snapshot = {
	    .state_fd = o->machine.save_state_fd, .memory_fd = o->machine.save_memory_fd, .fresh = true};

	return machine_snapshot_write(machine, &snapshot, error);
}

/* What this run says of networks and vsock stands instead of what the item was made with. */
static size_t overrides(const struct run_options *o, struct machine_net_override *nets, char (*ids)[12])
{
	size_t count = 0;

	for (unsigned i = 0; i < o->machine.devices.net_count; i++) {
		const struct machine_net *net = &o->machine.devices.nets[i];

		if (net->kind != MACHINE_NET_TAP)
			continue;
		snprintf(ids[count], sizeof ids[count], "%u", i);
		nets[count] = (struct machine_net_override){.id = ids[count], .tap = net->tap};
		count++;
	}
	return count;
}

static void thrown_away(void *opaque, const char *blame, const struct riffle_error *error)
{
	(void)opaque;
	report_error(blame, error);
	fputs("riffle: that item of the stock is thrown away\n", stderr);
}

int run_from_stock(struct machine **machine, const struct run_options *o, const struct machine_observer *observer,
		   struct phases *phases, const char **blame, struct riffle_error *error)
{
	struct machine_net_override nets[MACHINE_NETS_MAX];
	char ids[MACHINE_NETS_MAX][12];
	struct stock_start start = {.from = o->from_stock,
				    .load = {.track_dirty = o->machine.track_dirty,
					     .vsock_path = o->machine.devices.vsock.path,
					     .nets = nets,
					     .host = &o->machine},
				    .thrown_away = thrown_away};

	if (!o->from_stock)
		return RUN_NOT_FROM_STOCK;
	start.load.net_count = overrides(o, nets, ids);
	int status = stock_start(machine, &start, observer, phases, blame, error);

	if (status != STOCK_EMPTY)
		return status;
	if (!o->machine.kernel)
		return riffle_fail(error, RIFFLE_ERR_IO, "stock", "is empty, and no kernel is given");
	if (observer->notice)
		observer->notice(observer->opaque, "the stock is empty: the kernel is loaded afresh");
	return RUN_NOT_FROM_STOCK;
}

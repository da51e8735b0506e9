/* SPDX-License-Identifier: Apache-2.0 */
/* Runs that end in a snapshot, and those that begin with an item of a stock. */
#include "cli/commands/run_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fail.h"
#include "host/input.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"
#include "machine/stock_match.h"
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
	struct machine_snapshot snapshot = {.state_fd = o->machine.save_state_fd,
					    .memory_fd = o->machine.save_memory_fd,
					    .fresh = true,
					    .to_consume = true};

	return machine_snapshot_write(machine, &snapshot, error);
}

/* Without a kernel there is no machine to compare: the item has it, but for where networks and vsock lead. */
static int connect_item(struct machine_config *item, const struct machine_config *ours, struct riffle_error *error)
{
	const struct machine_devices_config *d = &ours->devices;
	struct machine_config *whole;

	if (d->net_count > item->devices.net_count)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "--net",
					    "is given for more networks than the stock's item has", d->net_count,
					    item->devices.net_count);
	if (d->vsock.path && !item->devices.vsock.path)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "--vsock", "the stock's item has none");
	if (d->vsock.path && d->vsock.cid != item->devices.vsock.cid)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "--vsock: cid",
					    "is not the one of the stock's item", d->vsock.cid,
					    item->devices.vsock.cid);
	whole = malloc(sizeof *whole);
	if (!whole)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "machine", "out of memory");
	*whole = *item;
	memcpy(whole->devices.nets, d->nets, d->net_count * sizeof *d->nets);
	if (d->vsock.path)
		whole->devices.vsock = d->vsock;
	whole->boot_timer = ours->boot_timer;
	stock_take_devices(item, whole);
	free(whole);
	return 0;
}

static int described(void *opaque, struct machine_config *item, struct riffle_error *error)
{
	static const struct stock_names options = {.vcpus = "--cpus",
						   .smt = "smt",
						   .memory = "--memory",
						   .cpu = "cpu-config",
						   .kernel = "KERNEL",
						   .initrd = "--initrd",
						   .line = "--cmdline",
						   .boot = "--boot",
						   .mode = "--randomize",
						   .disks = "--disk",
						   .nets = "--net",
						   .pmems = "pmem",
						   .vsock = "--vsock",
						   .cid = "--vsock: cid",
						   .rng = "--rng",
						   .balloon = "--balloon"};
	const struct machine_config *ours = opaque;
	int status;

	if (!ours->kernel)
		return connect_item(item, ours, error);
	status = stock_match(item, ours, &options, error);
	if (!status)
		stock_take_devices(item, ours);
	return status;
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
	struct stock_start start = {
	    .from = o->from_stock,
	    .load = {.track_dirty = o->machine.track_dirty,
		     .pages = o->machine.huge_pages ? MACHINE_PAGES_AS_SAVED : MACHINE_PAGES_SMALL,
		     .described = described,
		     .opaque = (void *)&o->machine,
		     .host = &o->machine},
	    .thrown_away = thrown_away};

	if (!o->from_stock)
		return RUN_NOT_FROM_STOCK;
	if (o->machine.huge_2m)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "huge_pages",
				   "2M: the memory of a stock's item is a file, whose pages are not the host's pool's");
	int status = stock_start(machine, &start, observer, phases, blame, error);

	if (status != STOCK_EMPTY)
		return status;
	if (!o->machine.kernel)
		return riffle_fail(error, RIFFLE_ERR_IO, "stock",
				   start.bad ? "has no item that is whole, and no kernel is given"
					     : "is empty, and no kernel is given");
	if (observer->notice)
		observer->notice(observer->opaque,
				 start.bad ? "the stock has no item that is whole: the kernel is loaded afresh"
					   : "the stock is empty: the kernel is loaded afresh");
	return RUN_NOT_FROM_STOCK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Runs that end in a snapshot, and those that begin with an item of a stock. */
#include "cli/run_saved.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/input.h"
#include "cli/stock.h"
#include "common/fail.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"

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

/* Takes an item, by the directory or by the daemon's socket. 0: none. */
static int take(const struct run_options *o, struct stock *stock, struct stock_item *item, const char **blame,
		struct riffle_error *error)
{
	*blame = o->from_stock;
	if (strncmp(o->from_stock, "unix:", 5) == 0) {
		int taken = stock_ask(o->from_stock + 5, item);

		if (taken < 0)
			riffle_fail_system(error, errno, "stock", "its socket does not answer");
		return taken;
	}
	if (stock->directory_fd < 0 && stock_open(stock, o->from_stock, error))
		return -1;
	return stock_take(stock, item);
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

static int load(struct machine **machine, const struct run_options *o, const struct stock_item *item,
		const struct machine_observer *observer, struct phases *phases, const char **blame,
		struct riffle_error *error)
{
	struct machine_net_override nets[MACHINE_NETS_MAX];
	char ids[MACHINE_NETS_MAX][12], state[24], memory[24];
	struct machine_load load = {.consume = true,
				    .track_dirty = o->machine.track_dirty,
				    .state_path = state,
				    .memory_path = memory,
				    .vsock_path = o->machine.devices.vsock.path,
				    .nets = nets,
				    .host = &o->machine};

	load.net_count = overrides(o, nets, ids);
	snprintf(state, sizeof state, "fd:%d", item->state_fd);
	snprintf(memory, sizeof memory, "fd:%d", item->memory_fd);
	int status = machine_snapshot_load(machine, &load, observer, phases, NULL, blame, error);

	close(item->state_fd);
	close(item->memory_fd);
	*blame = *blame == state || *blame == memory ? o->from_stock : *blame;
	return status;
}

/* The item itself is at fault, and another may be good. */
static bool is_bad(int status)
{
	return status == RIFFLE_ERR_FORMAT || status == RIFFLE_ERR_CHECKSUM || status == RIFFLE_ERR_CHANGED ||
	       status == RIFFLE_ERR_TRUST;
}

int run_from_stock(struct machine **machine, const struct run_options *o, const struct machine_observer *observer,
		   struct phases *phases, const char **blame, struct riffle_error *error)
{
	struct stock stock = {.directory_fd = -1};
	struct stock_item item;
	int status = RUN_NOT_FROM_STOCK, taken;

	if (!o->from_stock)
		return status;
	while ((taken = take(o, &stock, &item, blame, error)) > 0) {
		status = load(machine, o, &item, observer, phases, blame, error);
		if (!is_bad(status))
			break;
		report_error(*blame, error);
		fputs("riffle: that item of the stock is thrown away\n", stderr);
		if (stock.directory_fd >= 0)
			stock_count(&stock, "bad");
		machine_destroy(*machine);
		*machine = NULL;
	}
	stock_close(&stock);
	if (taken > 0)
		return status;
	if (taken < 0)
		return (int)error->status;
	if (!o->machine.kernel)
		return riffle_fail(error, RIFFLE_ERR_IO, "stock", "is empty, and no kernel is given");
	if (observer->notice)
		observer->notice(observer->opaque, "the stock is empty: the kernel is loaded afresh");
	return RUN_NOT_FROM_STOCK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Machines made of a stock's items. */
#include "machine/stock_start.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/stock.h"

struct paths {
	char state[24], memory[24];
};

static void set_paths(struct stock_start *start, struct paths *paths, const struct stock_item *item)
{
	snprintf(paths->state, sizeof paths->state, "fd:%d", item->state_fd);
	snprintf(paths->memory, sizeof paths->memory, "fd:%d", item->memory_fd);
	start->load.state_path = paths->state;
	start->load.memory_path = paths->memory;
	start->load.consume = true;
}

/* The item itself is at fault, and another may be good. */
static bool is_bad(int status)
{
	return status == RIFFLE_ERR_FORMAT || status == RIFFLE_ERR_CHECKSUM || status == RIFFLE_ERR_CHANGED ||
	       status == RIFFLE_ERR_TRUST;
}

struct looking {
	struct stock_start *start;
	const char **blame;
};

static void forget_kvm(struct stock_start *start)
{
	if (start->load.has_kvm)
		close(start->load.kvm_fd);
	start->load.has_kvm = false;
}

/* An item that does not match, or that this host cannot run, stays in the stock. A damaged one is reported when loaded.
 */
static int look(void *opaque, const struct stock_item *item, struct riffle_error *error)
{
	const struct looking *l = opaque;
	struct stock_start *start = l->start;
	const char *blame;
	struct paths paths;

	forget_kvm(start);
	set_paths(start, &paths, item);
	int status = machine_snapshot_compare(&start->load, &start->load.kvm_fd, &blame, error);

	start->load.state_path = start->load.memory_path = NULL;
	start->load.has_kvm = !status;
	if (!status || is_bad(status))
		return 0;
	*l->blame = blame ? start->from : NULL;
	return status;
}

/* 1: an item, 0: none, -1: an error. */
static int take(struct stock_start *start, struct stock *stock, struct stock_item *item, const char **blame,
		struct riffle_error *error)
{
	if (strncmp(start->from, "unix:", 5) == 0)
		return stock_ask(start->from + 5, item, error);
	if (stock->directory_fd < 0 && stock_open(stock, start->from, error))
		return -1;
	return stock_take(stock, item, look, &(struct looking){start, blame}, error);
}

static int load(struct machine **machine, struct stock_start *start, const struct stock_item *item,
		const struct machine_observer *observer, struct phases *phases, const char **blame,
		struct riffle_error *error)
{
	struct paths paths;

	set_paths(start, &paths, item);
	int status = machine_snapshot_load(machine, &start->load, observer, phases, NULL, blame, error);

	start->load.has_kvm = false; /* the machine's now */
	close(item->state_fd);
	close(item->memory_fd);
	*blame = *blame == paths.state || *blame == paths.memory ? start->from : *blame;
	start->load.state_path = start->load.memory_path = NULL;
	return status;
}

int stock_start(struct machine **machine, struct stock_start *start, const struct machine_observer *observer,
		struct phases *phases, const char **blame, struct riffle_error *error)
{
	struct stock stock = {.directory_fd = -1};
	struct stock_item item;
	int status = 0, taken = 0;

	*machine = NULL;
	*blame = start->from;
	start->bad = 0;
	while (start->bad < STOCK_BAD_MAX && (taken = take(start, &stock, &item, blame, error)) > 0) {
		status = load(machine, start, &item, observer, phases, blame, error);
		if (!is_bad(status))
			break;
		start->bad++;
		taken = 0;
		if (start->thrown_away)
			start->thrown_away(start->opaque, *blame, error);
		if (stock.directory_fd >= 0)
			stock_count(&stock, "bad");
		machine_destroy(*machine);
		*machine = NULL;
		*blame = start->from;
	}
	forget_kvm(start);
	stock_close(&stock);
	return taken < 0 ? (int)error->status : taken ? status : STOCK_EMPTY;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Machines made of a stock's items. */
#include "machine/stock_start.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fail.h"
#include "machine/stock.h"

/* 1: an item, 0: none, -1: an error. */
static int take(const char *from, struct stock *stock, struct stock_item *item, struct riffle_error *error)
{
	if (strncmp(from, "unix:", 5) == 0) {
		int taken = stock_ask(from + 5, item);

		if (taken < 0)
			riffle_fail_system(error, errno, "stock", "its daemon does not answer");
		return taken;
	}
	if (stock->directory_fd < 0 && stock_open(stock, from, error))
		return -1;
	return stock_take(stock, item);
}

static int load(struct machine **machine, struct stock_start *start, const struct stock_item *item,
		const struct machine_observer *observer, struct phases *phases, const char **blame,
		struct riffle_error *error)
{
	char state[24], memory[24];

	snprintf(state, sizeof state, "fd:%d", item->state_fd);
	snprintf(memory, sizeof memory, "fd:%d", item->memory_fd);
	start->load.state_path = state;
	start->load.memory_path = memory;
	start->load.consume = true;
	int status = machine_snapshot_load(machine, &start->load, observer, phases, NULL, blame, error);

	close(item->state_fd);
	close(item->memory_fd);
	*blame = *blame == state || *blame == memory ? start->from : *blame;
	start->load.state_path = start->load.memory_path = NULL;
	return status;
}

/* The item itself is at fault, and another may be good. */
static bool is_bad(int status)
{
	return status == RIFFLE_ERR_FORMAT || status == RIFFLE_ERR_CHECKSUM || status == RIFFLE_ERR_CHANGED ||
	       status == RIFFLE_ERR_TRUST;
}

int stock_start(struct machine **machine, struct stock_start *start, const struct machine_observer *observer,
		struct phases *phases, const char **blame, struct riffle_error *error)
{
	struct stock stock = {.directory_fd = -1};
	struct stock_item item;
	int status = 0, taken;

	*machine = NULL;
	*blame = start->from;
	while ((taken = take(start->from, &stock, &item, error)) > 0) {
		status = load(machine, start, &item, observer, phases, blame, error);
		if (!is_bad(status))
			break;
		if (start->thrown_away)
			start->thrown_away(start->opaque, *blame, error);
		if (stock.directory_fd >= 0)
			stock_count(&stock, "bad");
		machine_destroy(*machine);
		*machine = NULL;
		*blame = start->from;
	}
	stock_close(&stock);
	return taken < 0 ? (int)error->status : taken ? status : STOCK_EMPTY;
}

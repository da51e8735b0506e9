// SPDX-License-Identifier: Apache-2.0
/* A start from a stock: the item must be the machine that was configured, and gets the devices of this host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/log.h"
#include "api/metrics.h"
#include "api/vmm.h"
#include "common/fail.h"
#include "machine/stock_start.h"

static int differs(const char *field, uint64_t item, uint64_t configured, struct riffle_error *error)
{
	return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, field,
				    "the stock's item is of another machine than was configured", item, configured);
}

static int compare_devices(const struct machine_devices_config *item, const struct machine_devices_config *ours,
			   struct riffle_error *error)
{
	if (item->disk_count != ours->disk_count)
		return differs("drives", item->disk_count, ours->disk_count, error);
	if (item->net_count != ours->net_count)
		return differs("network-interfaces", item->net_count, ours->net_count, error);
	if (item->pmem_count != ours->pmem_count)
		return differs("pmem", item->pmem_count, ours->pmem_count, error);
	if (!item->vsock.path != !ours->vsock.path)
		return differs("vsock", item->vsock.path != NULL, ours->vsock.path != NULL, error);
	if (ours->vsock.path && item->vsock.cid != ours->vsock.cid)
		return differs("guest_cid", item->vsock.cid, ours->vsock.cid, error);
	if (item->rng.wanted != ours->rng.wanted)
		return differs("entropy", item->rng.wanted, ours->rng.wanted, error);
	if (item->balloon.wanted != ours->balloon.wanted)
		return differs("balloon", item->balloon.wanted, ours->balloon.wanted, error);
	return 0;
}

/* The item's line has the words for its devices, which ours gets when they are made. */
static int compare_lines(const struct machine_config *item, const struct machine_config *ours,
			 struct riffle_error *error)
{
	struct machine_config *whole = malloc(sizeof *whole);
	int status;

	if (!whole)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "machine", "out of memory");
	*whole = *ours;
	status = machine_config_check_line(whole, error);
	if (!status && strcmp(item->command_line, whole->command_line) != 0)
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, "boot_args",
				     "the stock's item has another kernel command line than was configured");
	free(whole);
	return status;
}

static int described(void *opaque, struct machine_config *item, struct riffle_error *error)
{
	const struct machine_config *ours = opaque;
	int status;

	if (item->vcpus != ours->vcpus)
		return differs("vcpu_count", item->vcpus, ours->vcpus, error);
	if (item->smt != ours->smt)
		return differs("smt", item->smt, ours->smt, error);
	if (item->memory_bytes != ours->memory_bytes)
		return differs("mem_size_mib", item->memory_bytes >> 20, ours->memory_bytes >> 20, error);
	if ((status = compare_devices(&item->devices, &ours->devices, error)) ||
	    (status = compare_lines(item, ours, error)))
		return status;
	item->devices = ours->devices;
	return 0;
}

static void thrown_away(void *opaque, const char *blame, const struct riffle_error *error)
{
	char words[300];

	(void)opaque;
	riffle_error_format(error, words, sizeof words);
	log_always(LOG_WARN, "vmm", "An item of the stock is thrown away: %s: %s", blame ? blame : "", words);
	metrics_count_bad_item();
}

int vmm_start_from_stock(struct vmm *vmm, struct machine_config *config, const struct machine_observer *observer,
			 struct phases *phases, const char **blame, struct riffle_error *error)
{
	struct stock_start start = {
	    .from = vmm->resources.boot_source.body.stock,
	    .load = {.track_dirty = config->track_dirty, .described = described, .opaque = config, .host = config},
	    .thrown_away = thrown_away};
	int status = STOCK_EMPTY;

	if (!start.from)
		return status;
	status = stock_start(&vmm->machine, &start, observer, phases, blame, error);
	if (status == STOCK_EMPTY) {
		*blame = NULL;
		log_always(LOG_WARN, "vmm", "The stock is empty: the kernel is loaded afresh.");
	}
	metrics_set_origin(status == STOCK_EMPTY ? METRICS_STOCK_EMPTY : METRICS_FROM_STOCK, 0);
	return status;
}

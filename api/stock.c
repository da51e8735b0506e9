// SPDX-License-Identifier: Apache-2.0
/* A start from a stock: the item must be the machine that was configured, and gets the devices of this host. */
#include "api/log.h"
#include "api/metrics.h"
#include "api/vmm.h"
#include "common/fail.h"
#include "machine/stock_match.h"
#include "machine/stock_start.h"

static int described(void *opaque, struct machine_config *item, struct riffle_error *error)
{
	static const struct stock_names names = {.vcpus = "vcpu_count",
						 .smt = "smt",
						 .memory = "mem_size_mib",
						 .cpu = "cpu-config",
						 .kernel = "kernel_image_path",
						 .initrd = "initrd_path",
						 .line = "boot_args",
						 .boot = "kernel_image_path",
						 .mode = "randomize",
						 .disks = "drives",
						 .nets = "network-interfaces",
						 .pmems = "pmem",
						 .vsock = "vsock",
						 .cid = "guest_cid",
						 .rng = "entropy",
						 .balloon = "balloon"};
	int status = stock_match(item, opaque, &names, error);

	if (!status)
		stock_take_devices(item, opaque);
	return status;
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
	struct stock_start start = {.from = vmm->resources.boot_source.body.stock,
				    .load = {.track_dirty = config->track_dirty,
					     .pages = config->huge_pages ? MACHINE_PAGES_HUGE : MACHINE_PAGES_SMALL,
					     .described = described,
					     .opaque = config,
					     .host = config},
				    .thrown_away = thrown_away};
	int status = STOCK_EMPTY;

	if (!start.from)
		return status;
	if (config->huge_2m)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "huge_pages",
				   "2M: the memory of a stock's item is a file, whose pages are not the host's pool's");
	status = stock_start(&vmm->machine, &start, observer, phases, blame, error);
	if (status == STOCK_EMPTY) {
		*blame = NULL;
		log_always(LOG_WARN, "vmm", "The stock %s: the kernel is loaded afresh.",
			   start.bad ? "has no item that is whole" : "is empty");
	}
	if (!status && config->huge_pages)
		log_always(LOG_WARN, "vmm", "Guest memory is a file's: its pages are as large as the file's.");
	metrics_set_origin(status == STOCK_EMPTY ? METRICS_STOCK_EMPTY : METRICS_FROM_STOCK, 0);
	return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a stock's item is the machine that was configured. */
#include "machine/stock_match.h"

#include <stdlib.h>
#include <string.h>

#include "common/fail.h"
#include "host/mode.h"

static int differs(const char *field, uint64_t item, uint64_t configured, struct riffle_error *error)
{
	return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, field,
				    "the stock's item is of another machine than was configured", item, configured);
}

static int match_devices(const struct machine_devices_config *item, const struct machine_devices_config *ours,
			 const struct stock_names *names, struct riffle_error *error)
{
	if (item->disk_count != ours->disk_count)
		return differs(names->disks, item->disk_count, ours->disk_count, error);
	if (item->net_count != ours->net_count)
		return differs(names->nets, item->net_count, ours->net_count, error);
	if (item->pmem_count != ours->pmem_count)
		return differs(names->pmems, item->pmem_count, ours->pmem_count, error);
	if (!item->vsock.path != !ours->vsock.path)
		return differs(names->vsock, item->vsock.path != NULL, ours->vsock.path != NULL, error);
	if (ours->vsock.path && item->vsock.cid != ours->vsock.cid)
		return differs(names->cid, item->vsock.cid, ours->vsock.cid, error);
	if (item->rng.wanted != ours->rng.wanted)
		return differs(names->rng, item->rng.wanted, ours->rng.wanted, error);
	if (item->balloon.wanted != ours->balloon.wanted)
		return differs(names->balloon, item->balloon.wanted, ours->balloon.wanted, error);
	return 0;
}

/* The item's line has the words for its devices, which ours gets when they are made. */
static int match_lines(const struct machine_config *item, const struct machine_config *ours, const char *name,
		       struct riffle_error *error)
{
	struct machine_config *whole = malloc(sizeof *whole);
	int status;

	if (!whole)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "machine", "out of memory");
	*whole = *ours;
	status = machine_config_check_line(whole, error);
	if (!status && strcmp(item->command_line, whole->command_line) != 0)
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, name,
				     "the stock's item has another kernel command line than was configured");
	free(whole);
	return status;
}

static int match_file(const struct machine_file *item, const char *ours, const char *name, struct riffle_error *error)
{
	bool same;
	int status = machine_file_compare(&same, item, ours, error);

	if (status || same)
		return status;
	return riffle_fail(error, RIFFLE_ERR_ARGUMENT, name,
			   !item->given ? "the stock's item has none, unlike what was configured"
			   : !ours      ? "the stock's item has one, unlike what was configured"
				   : "the stock's item was made of a file with other contents than was configured");
}

static int match_mode(const struct machine_config *item, const struct machine_config *ours,
		      const struct stock_names *names, struct riffle_error *error)
{
	static const char *const problems[] = {
	    "the stock's item has mode off, unlike what was configured",
	    "the stock's item has mode physical, unlike what was configured",
	    "the stock's item has mode kaslr, unlike what was configured",
	    "the stock's item has mode fgkaslr, unlike what was configured",
	};
	const struct machine_layout *layout = &ours->layout;
	bool bootstrap = !strcmp(item->origin.mode, "bootstrap");
	enum riffle_mode mode = RIFFLE_MODE_OFF;
	bool slide = false;

	if (bootstrap != (ours->boot == MACHINE_BOOT_BOOTSTRAP))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, names->boot,
				   bootstrap ? "the stock's item boots by its bootstrap, unlike what was configured"
					     : "the stock's item does not boot by its bootstrap");
	if (bootstrap)
		return 0;
	(void)mode_parse(item->origin.mode, &mode, &slide); /* one of the names: the description was checked */
	if (!layout->automatic && layout->slide != slide)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, names->mode,
				   layout->slide ? "the stock's item has no slides, unlike what was configured"
						 : "the stock's item has slides, unlike what was configured");
	/* what `automatic` came to is known to the item alone, but never below kaslr where that is asked for */
	if (layout->automatic ? layout->optional || mode >= RIFFLE_MODE_KASLR : mode == layout->mode)
		return 0;
	return riffle_fail(error, RIFFLE_ERR_ARGUMENT, names->mode, problems[mode]);
}

int stock_match(const struct machine_config *item, const struct machine_config *ours, const struct stock_names *names,
		struct riffle_error *error)
{
	int status;

	if (!item->origin.mode || !item->origin.identified)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "origin",
				   "the item does not tell what it was made of: it is an earlier riffle's");
	if (item->vcpus != ours->vcpus)
		return differs(names->vcpus, item->vcpus, ours->vcpus, error);
	if (item->smt != ours->smt)
		return differs(names->smt, item->smt, ours->smt, error);
	if (item->memory_bytes != ours->memory_bytes)
		return differs(names->memory, item->memory_bytes >> 20, ours->memory_bytes >> 20, error);
	if ((status = match_devices(&item->devices, &ours->devices, names, error)) ||
	    (status = match_lines(item, ours, names->line, error)) ||
	    (status = match_file(&item->origin.kernel, ours->kernel, names->kernel, error)) ||
	    (status = match_file(&item->origin.initrd, ours->initrd_path, names->initrd, error)) ||
	    (status = match_mode(item, ours, names, error)))
		return status;
	if (item->origin.cpu != machine_origin_cpu(ours))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, names->cpu,
				   "the stock's item has another CPU configuration than was configured");
	return 0;
}

void stock_take_devices(struct machine_config *item, const struct machine_config *configured)
{
	struct machine_net before[MACHINE_NETS_MAX];
	const unsigned count = item->devices.net_count;

	memcpy(before, item->devices.nets, sizeof before);
	item->devices = configured->devices;
	/* a guest that knows its address keeps it, unless another was asked for */
	for (unsigned i = 0; i < item->devices.net_count && i < count; i++) {
		struct machine_net *net = &item->devices.nets[i];

		if (net->mac_kind == MACHINE_MAC_RANDOM) {
			net->mac_kind = before[i].mac_kind;
			memcpy(net->mac, before[i].mac, sizeof net->mac);
		}
	}
	item->boot_timer = item->boot_timer || configured->boot_timer;
}

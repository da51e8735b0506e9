// SPDX-License-Identifier: Apache-2.0
/* What GET shows, and PATCH looks for, of a machine that was made of a snapshot. */
#include <stdio.h>
#include <string.h>

#include "api/vmm.h"
#include "common/fail.h"

/* ---- names for devices that riffle run gave none ---- */

/* Where each device's id is in a description, whatever its kind. */
static const char **id_of(struct machine_devices_config *d, unsigned kind, unsigned index)
{
	return kind == 0               ? index < d->disk_count ? &d->disks[index].id : NULL
	       : kind == 1             ? index < d->net_count ? &d->nets[index].id : NULL
	       : index < d->pmem_count ? &d->pmems[index].id
				       : NULL;
}

static bool is_taken(struct machine_devices_config *d, unsigned kind, const char *id)
{
	const char **other;

	for (unsigned i = 0; (other = id_of(d, kind, i)); i++)
		if (*other && !strcmp(*other, id))
			return true;
	return false;
}

/*
 * Its number, as snapshots call a network without id; longer where another device has that id. Requests find it by this
 * name, and a snapshot of the machine has it.
 */
static bool name_device(struct vmm *vmm, struct machine_devices_config *d, unsigned kind, unsigned index)
{
	char id[MACHINE_DISKS_MAX + 16];

	snprintf(id, sizeof id, "%u", index);
	while (is_taken(d, kind, id))
		strcat(id, "_"); /* no more often than there are devices */
	return (*id_of(d, kind, index) = arena_copy(&vmm->load_arena, id)) != NULL;
}

int vmm_adopt_names(struct vmm *vmm, struct machine_devices_config *devices, struct riffle_error *error)
{
	const char **id;

	for (unsigned kind = 0; kind < 3; kind++)
		for (unsigned i = 0; (id = id_of(devices, kind, i)); i++)
			if ((!*id || !**id) && !name_device(vmm, devices, kind, i))
				return riffle_fail(error, RIFFLE_ERR_MEMORY, "devices", "out of memory");
	return 0;
}

/* ---- a snapshot that riffle run or an earlier version made: from the machine's description ---- */

static void adopt_bucket(bool *has, struct body_bucket *to, const struct limiter_bucket_config *from)
{
	*has = from->size && from->refill_ms;
	*to = (struct body_bucket){.size = from->size,
				   .one_time_burst = from->one_time_burst,
				   .refill_time = from->refill_ms,
				   .has_burst = from->one_time_burst};
}

static void adopt_limits(bool *has, struct body_limiter *to, const struct limiter_config *from)
{
	adopt_bucket(&to->has_bandwidth, &to->bandwidth, &from->bytes);
	adopt_bucket(&to->has_ops, &to->ops, &from->ops);
	*has = to->has_bandwidth || to->has_ops;
}

static void adopt_drive(struct vmm_drive *to, const struct machine_disk *from)
{
	to->fd = -1;
	to->body = (struct body_drive){.drive_id = arena_copy(&to->arena, from->id),
				       .partuuid = from->partuuid ? arena_copy(&to->arena, from->partuuid) : NULL,
				       .path_on_host = arena_copy(&to->arena, from->path),
				       .is_root_device = from->root,
				       .is_read_only = from->read_only,
				       .io_engine = from->async ? ENGINE_ASYNC : ENGINE_SYNC,
				       .cache_type = from->cache == DISK_CACHE_UNSAFE ? CACHE_UNSAFE : CACHE_WRITEBACK,
				       .has_read_only = true};
	adopt_limits(&to->body.has_limiter, &to->body.rate_limiter, &from->limits);
}

static void adopt_net(struct vmm_net *to, const struct machine_net *from)
{
	to->fd = -1;
	to->mmds = from->hook != NULL;
	to->body = (struct body_net){.iface_id = arena_copy(&to->arena, from->id),
				     .host_dev_name = arena_copy(&to->arena, from->tap ? from->tap : ""),
				     .mtu = from->mtu,
				     .has_mtu = from->mtu,
				     .has_mac = from->mac_kind == MACHINE_MAC_GIVEN};
	memcpy(to->body.guest_mac, from->mac, sizeof from->mac);
	adopt_limits(&to->body.has_rx, &to->body.rx, &from->rx);
	adopt_limits(&to->body.has_tx, &to->body.tx, &from->tx);
}

static void adopt_pmem(struct vmm_pmem *to, const struct machine_pmem *from)
{
	to->fd = -1;
	to->body = (struct body_pmem){.id = arena_copy(&to->arena, from->id),
				      .path_on_host = arena_copy(&to->arena, from->path),
				      .root_device = from->root,
				      .read_only = from->read_only};
	adopt_limits(&to->body.has_limiter, &to->body.rate_limiter, &from->limits);
}

static void adopt_machine(struct vmm_resources *r, const struct machine_config *config)
{
	r->machine.vcpu_count = (uint8_t)config->vcpus;
	r->machine.mem_size_mib = config->memory_bytes >> 20;
	r->machine.smt = config->smt;
	r->boot_source.body.boot_args = arena_copy(&r->boot_source.arena, config->command_line);
}

static void adopt_description(struct vmm_resources *r, const struct machine_config *config)
{
	const struct machine_devices_config *d = &config->devices;

	adopt_machine(r, config);
	for (unsigned i = 0; i < d->disk_count; i++)
		adopt_drive(&r->drives[r->drive_count++], &d->disks[i]);
	for (unsigned i = 0; i < d->net_count; i++)
		adopt_net(&r->nets[r->net_count++], &d->nets[i]);
	for (unsigned i = 0; i < d->pmem_count; i++)
		adopt_pmem(&r->pmems[r->pmem_count++], &d->pmems[i]);
	r->vsock.set = d->vsock.path != NULL;
	if (r->vsock.set) {
		r->vsock.body.guest_cid = (uint32_t)d->vsock.cid;
		r->vsock.body.uds_path = arena_copy(&r->vsock.arena, d->vsock.path);
	}
	r->has_entropy = d->rng.wanted;
	adopt_limits(&r->entropy.has_limiter, &r->entropy.rate_limiter, &d->rng.limits);
	r->has_balloon = d->balloon.wanted;
	r->balloon = (struct body_balloon){.amount_mib = (uint32_t)(d->balloon.balloon.target_bytes >> 20),
					   .deflate_on_oom = d->balloon.balloon.deflate_on_oom,
					   .free_page_hinting = d->balloon.balloon.hinting,
					   .free_page_reporting = d->balloon.balloon.reporting,
					   .stats_polling_interval_s = d->balloon.balloon.stats_s};
}

/* ---- otherwise from what GET /vm/config showed when it was made, which is a configuration file ---- */

/* A view of a device without a name is of whichever stands in its place. */
static bool is_called(const char *shown, const char *id)
{
	return !*shown || !strcmp(shown, id);
}

/* Whether both speak of the same devices; what else the view says is only shown. */
static bool agrees(const struct body_file *view, const struct machine_config *config)
{
	const struct machine_devices_config *d = &config->devices;
	const struct body_drive *drives = view->drives.items;
	const struct body_net *nets = view->network_interfaces.items;
	const struct body_pmem *pmems = view->pmem.items;

	if (view->drives.count != d->disk_count || view->network_interfaces.count != d->net_count ||
	    view->pmem.count != d->pmem_count || view->has_balloon != d->balloon.wanted ||
	    view->has_entropy != d->rng.wanted || view->has_vsock != (d->vsock.path != NULL) || !view->has_machine ||
	    view->machine_config.vcpu_count != config->vcpus)
		return false;
	for (unsigned i = 0; i < d->disk_count; i++)
		if (!drives[i].path_on_host || !is_called(drives[i].drive_id, d->disks[i].id))
			return false;
	for (unsigned i = 0; i < d->net_count; i++)
		if (!is_called(nets[i].iface_id, d->nets[i].id))
			return false;
	for (unsigned i = 0; i < d->pmem_count; i++)
		if (!is_called(pmems[i].id, d->pmems[i].id))
			return false;
	return true;
}

static void adopt_view_devices(struct vmm_resources *r, const struct body_file *view,
			       const struct machine_devices_config *d)
{
	const struct body_drive *drives = view->drives.items;
	const struct body_net *nets = view->network_interfaces.items;
	const struct body_pmem *pmems = view->pmem.items;

	/* ids are the description's, whose memory the machine has */
	for (unsigned i = 0; i < d->disk_count; i++) {
		r->drives[r->drive_count] = (struct vmm_drive){.body = drives[i], .fd = -1};
		r->drives[r->drive_count++].body.drive_id = d->disks[i].id;
	}
	for (unsigned i = 0; i < d->pmem_count; i++) {
		r->pmems[r->pmem_count] = (struct vmm_pmem){.body = pmems[i], .fd = -1};
		r->pmems[r->pmem_count++].body.id = d->pmems[i].id;
	}
	for (unsigned i = 0; i < d->net_count; i++) {
		struct vmm_net *net = &r->nets[r->net_count++];

		*net = (struct vmm_net){.body = nets[i], .fd = -1, .mmds = d->nets[i].hook != NULL};
		net->body.iface_id = d->nets[i].id;
		/* the request to load it may have named another */
		if (d->nets[i].tap)
			net->body.host_dev_name = arena_copy(&net->arena, d->nets[i].tap);
	}
	r->vsock.set = view->has_vsock;
	r->vsock.body.guest_cid = view->vsock.guest_cid;
	if (r->vsock.set)
		r->vsock.body.uds_path = arena_copy(&r->vsock.arena, d->vsock.path);
	r->has_entropy = view->has_entropy;
	r->entropy = view->entropy;
	r->has_balloon = view->has_balloon;
	r->balloon = view->balloon;
	r->has_hotplug = view->has_hotplug;
	r->hotplug = view->memory_hotplug;
}

static int adopt_view(struct vmm_resources *r, const struct machine_config *config, struct riffle_error *error)
{
	struct body_file view = {.memory_hotplug = BODY_HOTPLUG_DEFAULTS};
	struct json_text t;

	if (!schema_read(&t, config->front_end, strlen(config->front_end), &schema_file, &view, &r->boot_source.arena))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "front_end", "is not a microVM configuration");
	if (!agrees(&view, config))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "front_end", "contradicts the machine's description");
	r->machine = view.machine_config;
	r->template = r->machine.has_template ? VMM_TEMPLATE_STATIC : VMM_TEMPLATE_NONE;
	r->boot_source.set = true;
	r->boot_source.body = view.boot_source;
	adopt_view_devices(r, &view, &config->devices);
	return 0;
}

int vmm_adopt(struct vmm *vmm, const struct machine_config *config, struct riffle_error *error)
{
	struct vmm_resources *r = &vmm->resources;
	int status = 0;

	if (config->front_end)
		status = adopt_view(r, config, error);
	else
		adopt_description(r, config);
	r->vsock.listener = -1;
	/* not the snapshot's, but the load's */
	r->machine.huge_pages = config->huge_2m ? HUGE_2M : config->huge_pages ? HUGE_TRANSPARENT : HUGE_NONE;
	r->machine.track_dirty_pages = config->track_dirty;
	return status;
}

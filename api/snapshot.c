// SPDX-License-Identifier: Apache-2.0
/* PUT /snapshot/create and /snapshot/load. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/counts.h"
#include "api/log.h"
#include "api/metrics.h"
#include "api/vmm.h"
#include "api/watch.h"
#include "machine/snapshot.h"

bool vmm_create_snapshot(struct vmm *vmm, struct action *action, struct reply *reply)
{
	const struct body_snapshot_create *body = &action->u.snapshot_create;
	const bool changed = body->snapshot_type == SNAPSHOT_DIFF;
	const uint64_t begun = counts_clock_us();
	struct riffle_error error;
	const char *blame = NULL;
	char words[300];

	if (vmm->state != VMM_PAUSED)
		return reply_fault(reply,
				   "Create snapshot error: Cannot save the microVM state: the microVM must be paused.");
	if (machine_snapshot_create(vmm->machine, body->snapshot_path, body->mem_file_path, changed, &blame, &error)) {
		riffle_error_format(&error, words, sizeof words);
		return reply_fault(reply, "Create snapshot error: %s%s%s", blame ? blame : "", blame ? ": " : "",
				   words);
	}
	reply_done(reply);
	counts_carried_out(ACTION_SNAPSHOT_CREATE, changed, begun, reply);
	return true;
}

/* ---- what GET shows, and PATCH looks for, of a machine that was loaded ---- */

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
	to->body = (struct body_drive){.drive_id = arena_copy(&to->arena, from->id ? from->id : ""),
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
	to->body = (struct body_net){.iface_id = arena_copy(&to->arena, from->id ? from->id : ""),
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
	to->body = (struct body_pmem){.id = arena_copy(&to->arena, from->id ? from->id : ""),
				      .path_on_host = arena_copy(&to->arena, from->path),
				      .root_device = from->root,
				      .read_only = from->read_only};
	adopt_limits(&to->body.has_limiter, &to->body.rate_limiter, &from->limits);
}

static void adopt(struct vmm *vmm, const struct machine_config *config)
{
	const struct machine_devices_config *d = &config->devices;
	struct vmm_resources *r = &vmm->resources;

	r->machine.vcpu_count = (uint8_t)config->vcpus;
	r->machine.mem_size_mib = config->memory_bytes >> 20;
	r->machine.smt = config->smt;
	r->machine.huge_pages = config->huge_2m ? HUGE_2M : config->huge_pages ? HUGE_TRANSPARENT : HUGE_NONE;
	r->machine.track_dirty_pages = config->track_dirty;
	r->boot_source.body.boot_args = arena_copy(&r->boot_source.arena, config->command_line);
	for (unsigned i = 0; i < d->disk_count; i++)
		adopt_drive(&r->drives[r->drive_count++], &d->disks[i]);
	for (unsigned i = 0; i < d->net_count; i++)
		adopt_net(&r->nets[r->net_count++], &d->nets[i]);
	for (unsigned i = 0; i < d->pmem_count; i++)
		adopt_pmem(&r->pmems[r->pmem_count++], &d->pmems[i]);
	r->vsock.set = d->vsock.path != NULL;
	r->vsock.listener = -1;
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

/* ---- loading ---- */

/* One that was loaded: what is asked of it, and the answer when nothing can fail any more. */
struct loading {
	struct vmm *vmm;
	struct machine_net_override *nets;
	bool paused, deprecated;
	uint64_t begun;
};

static void notice(void *opaque, const char *text)
{
	(void)opaque;
	log_always(LOG_WARN, "vmm", "%s", text);
}

static void before_run(void *opaque)
{
	struct loading *l = opaque;
	struct reply reply = {.deprecated = l->deprecated};

	l->vmm->state = l->paused ? VMM_PAUSED : VMM_RUNNING;
	metrics_freeze(l->paused);
	reply_done(&reply);
	counts_carried_out(ACTION_SNAPSHOT_LOAD, false, l->begun, &reply);
	l->vmm->started(l->vmm->opaque, &reply);
}

static bool fail(struct vmm *vmm, bool deprecated, const char *blame, const struct riffle_error *error)
{
	struct reply reply = {.deprecated = deprecated};
	char words[300];

	riffle_error_format(error, words, sizeof words);
	reply_fault(&reply, "Load snapshot error: Failed to restore from snapshot: %s%s%s", blame ? blame : "",
		    blame ? ": " : "", words);
	watch_end();
	machine_destroy(vmm->machine);
	vmm->machine = NULL;
	vmm->state = VMM_NOT_STARTED;
	vmm->fatal = true;
	vmm->started(vmm->opaque, &reply);
	return false;
}

/* The metadata service, but not what is stored in it, comes with the snapshot. */
static int described(void *opaque, struct machine_config *config, struct riffle_error *error)
{
	return vmm_adopt_mmds(opaque, &config->devices, error);
}

static bool describe_load(struct loading *l, struct machine_load *load, const struct body_snapshot_load *body)
{
	const struct body_net_override *nets = body->network_overrides.items;
	const bool uffd = body->has_backend && body->mem_backend.backend_type == BACKEND_UFFD;

	*load = (struct machine_load){.state_path = body->snapshot_path,
				      .memory_path =
					  body->has_backend ? body->mem_backend.backend_path : body->mem_file_path,
				      .uffd_path = uffd ? body->mem_backend.backend_path : NULL,
				      .share_layout = !l->vmm->settings.one_time_snapshots,
				      .clock_realtime = body->clock_realtime,
				      .start_paused = !body->resume_vm,
				      .pages = (enum machine_load_pages)body->huge_pages,
				      .track_dirty = body->track_dirty_pages || body->enable_diff_snapshots,
				      .net_count = body->network_overrides.count,
				      .vsock_path = body->vsock_override,
				      .described = described,
				      .opaque = l->vmm};
	l->paused = load->start_paused;
	l->nets = calloc(load->net_count + 1, sizeof *l->nets);
	if (!l->nets)
		return false;
	for (size_t i = 0; i < load->net_count; i++)
		l->nets[i] = (struct machine_net_override){.id = nets[i].iface_id, .tap = nets[i].host_dev_name};
	load->nets = l->nets;
	return true;
}

bool vmm_may_load(const struct vmm *vmm, struct reply *reply)
{
	return vmm->resources.for_boot
		   ? reply_fault(reply, "Load snapshot error: Loading a microVM snapshot not allowed after configuring "
					"boot-specific resources.")
		   : true;
}

bool vmm_run_snapshot(struct vmm *vmm, struct action *action, enum vm_end *end, struct riffle_error *error)
{
	struct loading loading = {.vmm = vmm, .deprecated = action->deprecated, .begun = counts_clock_us()};
	const struct machine_observer observer = {
	    .notice = notice, .before_run = before_run, .booted = watch_booted, .opaque = &loading};
	const struct body_snapshot_load *body = &action->u.snapshot_load;
	struct machine_config *host = calloc(1, sizeof *host);
	struct machine_snapshot_info info;
	struct machine_load load;
	struct phases phases;
	struct reply reply = {0};
	const char *blame = NULL;
	int status = 0;

	if (action->deprecated)
		log_always(LOG_WARN, "firecracker::api_server", "%s", action->deprecated);
	vmm->load_arena = action->arena;
	action->arena = (struct arena){0};

	if (!host || !describe_load(&loading, &load, body)) {
		error->status = RIFFLE_ERR_MEMORY;
		*error =
		    (struct riffle_error){.status = RIFFLE_ERR_MEMORY, .field = "snapshot", .problem = "out of memory"};
		status = RIFFLE_ERR_MEMORY;
	}
	if (!status && !vmm_describe_host(vmm, host, &reply)) {
		free(reply.body);
		*error =
		    (struct riffle_error){.status = RIFFLE_ERR_IO, .field = "serial", .problem = "cannot be opened"};
		status = RIFFLE_ERR_IO;
	}
	phases_start(&phases, 0);
	watch_start();
	if (!status) {
		load.host = host;
		status = machine_snapshot_load(&vmm->machine, &load, &observer, &phases, &info, &blame, error);
	}
	if (!status) {
		if (load.pages > MACHINE_PAGES_SMALL && !load.uffd_path)
			log_always(LOG_WARN, "vmm", "Guest memory is a file's: its pages are as large as the file's.");
		metrics_set_origin(METRICS_FROM_SNAPSHOT, info.uses);
		if (info.uses)
			log_always(
			    LOG_WARN, "vmm",
			    "guests made of this snapshot before: %llu. They all have one kernel layout, and what "
			    "is learned of it in one serves against the others. --one-time-snapshots refuses this.",
			    (unsigned long long)info.uses);
		adopt(vmm, machine_description(vmm->machine));
		status = watch_machine(vmm->machine, error);
	}
	if (!status) {
		status = machine_run(vmm->machine, end, error);
		watch_stop();
	}
	bool ran = vmm->state != VMM_NOT_STARTED;

	if (!ran)
		fail(vmm, loading.deprecated, blame, error);
	free(loading.nets);
	free(host);
	return ran;
}

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
	char words[300], *view;
	bool untracked;
	int status;

	if (vmm->state != VMM_PAUSED)
		return reply_fault(reply,
				   "Create snapshot error: Cannot save the microVM state: Operation not allowed: "
				   "save/restore unavailable while running");
	view = vmm_view_config(vmm);
	if (!view)
		return reply_fault(reply, "Create snapshot error: Out of memory.");
	machine_set_front_end(vmm->machine, view);
	status = machine_snapshot_create(vmm->machine, body->snapshot_path, body->mem_file_path, changed, &untracked,
					 &blame, &error);
	machine_set_front_end(vmm->machine, NULL);
	free(view);
	if (status) {
		riffle_error_format(&error, words, sizeof words);
		return reply_fault(reply, "Create snapshot error: %s%s%s", blame ? blame : "", blame ? ": " : "",
				   words);
	}
	if (untracked)
		log_always(LOG_WARN, "vmm",
			   "Nothing tells what this guest changed: the snapshot of its changes has all of its memory. "
			   "track_dirty_pages makes KVM track it.");
	reply_done(reply);
	counts_carried_out(ACTION_SNAPSHOT_CREATE, changed, begun, reply);
	return true;
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

/* What clients look for when a file cannot be opened; "" for everything else. */
static const char *kind_of_failure(const struct riffle_error *error)
{
	if (!error->sys_errno)
		return "";
	if (!strcmp(error->field, "state file"))
		return "Failed to get snapshot state from file: Failed to open snapshot file: ";
	if (!strcmp(error->field, "memory file"))
		return "Failed to load guest memory: Error creating guest memory from file: Failed to load guest "
		       "memory: ";
	if (!strcmp(error->field, "page fault handler"))
		return "Failed to load guest memory: Error creating guest memory from uffd: Failed to connect to UDS "
		       "Unix stream: ";
	if (!strcmp(error->field, "disk image"))
		return "Virtio backend error: Error manipulating the backing file: ";
	return "";
}

static bool fail(struct vmm *vmm, bool deprecated, const char *blame, const struct riffle_error *error)
{
	static const char prefix[] = "Load snapshot error: Failed to restore from snapshot";
	struct reply reply = {.deprecated = deprecated};
	const char *kind = kind_of_failure(error);
	char words[300], os[160];

	riffle_error_format(error, words, sizeof words);
	if (*kind)
		reply_fault(&reply, "%s: %s%s %s", prefix, kind, vmm_os_error(error->sys_errno, os, sizeof os),
			    blame ? blame : "");
	else
		reply_fault(&reply, "%s: %s%s%s", prefix, blame ? blame : "", blame ? ": " : "", words);
	watch_end();
	machine_destroy(vmm->machine);
	vmm->machine = NULL;
	vmm->state = VMM_NOT_STARTED;
	vmm->fatal = true;
	vmm->started(vmm->opaque, &reply);
	return false;
}

/* The metadata service, but not what is stored in it, comes with the snapshot; devices get the names that they lack. */
static int described(void *opaque, struct machine_config *config, struct riffle_error *error)
{
	int status = vmm_adopt_names(opaque, &config->devices, error);

	return status ? status : vmm_adopt_mmds(opaque, &config->devices, error);
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
				      .strict_pages = true,
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
		status = vmm_adopt(vmm, machine_description(vmm->machine), error);
		blame = status ? load.state_path : NULL;
	}
	if (!status) {
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

// SPDX-License-Identifier: Apache-2.0
/* What is done to a machine that runs or is paused, in its event loop's thread. */
#include <stdio.h>
#include <string.h>

#include "api/counts.h"
#include "api/log.h"
#include "api/metrics.h"
#include "api/vmm.h"
#include "machine/control.h"

static bool internal_fault(struct reply *reply, const char *prefix, const struct riffle_error *error)
{
	char words[300];

	if (!strcmp(error->field, "id") || !strcmp(error->field, "balloon"))
		return reply_fault(reply, "%sFailed perform action on device: Device not found", prefix);
	riffle_error_format(error, words, sizeof words);
	return reply_fault(reply, "%s%s", prefix, words);
}

static void update_bucket(bool *has, struct limiter_bucket_config *to, bool given, const struct body_bucket *from)
{
	*has = given;
	if (given)
		*to = (struct limiter_bucket_config){from->size, from->refill_time, from->one_time_burst};
}

static struct limiter_update update_of(bool has, const struct body_limiter *l)
{
	struct limiter_update update = {0};

	if (has) {
		update_bucket(&update.has_bytes, &update.bytes, l->has_bandwidth, &l->bandwidth);
		update_bucket(&update.has_ops, &update.ops, l->has_ops, &l->ops);
	}
	return update;
}

/* What GET shows of it from now on. */
static void note_limiter(bool *has, struct body_limiter *kept, bool given, const struct body_limiter *l)
{
	if (!given)
		return;
	if (!*has)
		memset(kept, 0, sizeof *kept);
	*has = true;
	if (l->has_bandwidth) {
		kept->has_bandwidth = true;
		kept->bandwidth = l->bandwidth;
	}
	if (l->has_ops) {
		kept->has_ops = true;
		kept->ops = l->ops;
	}
}

static struct vmm_drive *find_drive(struct vmm *vmm, const char *id)
{
	for (unsigned i = 0; i < vmm->resources.drive_count; i++)
		if (!strcmp(vmm->resources.drives[i].body.drive_id, id))
			return &vmm->resources.drives[i];
	return NULL;
}

static struct vmm_net *find_net(struct vmm *vmm, const char *id)
{
	for (unsigned i = 0; i < vmm->resources.net_count; i++)
		if (!strcmp(vmm->resources.nets[i].body.iface_id, id))
			return &vmm->resources.nets[i];
	return NULL;
}

static struct vmm_pmem *find_pmem(struct vmm *vmm, const char *id)
{
	for (unsigned i = 0; i < vmm->resources.pmem_count; i++)
		if (!strcmp(vmm->resources.pmems[i].body.id, id))
			return &vmm->resources.pmems[i];
	return NULL;
}

#define DRIVE_PREFIX "Drive config error: Unable to patch the block device: "
#define DRIVE_SUFFIX " Please verify the request arguments."

static bool drive_fault(struct reply *reply, const char *path, const struct riffle_error *error)
{
	char words[300];

	if (error->sys_errno)
		vmm_os_error(error->sys_errno, words, sizeof words);
	else
		riffle_error_format(error, words, sizeof words);
	return reply_fault(
	    reply, DRIVE_PREFIX "Block: Virtio backend error: Error manipulating the backing file: %s %s" DRIVE_SUFFIX,
	    words, path);
}

/*
 * The path that GET shows from now on has an arena of its own, which the next one replaces: a client may repeat this
 * for as long as the guest runs. The first path stays, since the machine's description points to it.
 */
static bool patch_file(struct vmm *vmm, struct vmm_drive *drive, const char *path, struct reply *reply)
{
	struct arena arena = {NULL};
	char *copy = arena_copy(&arena, path);
	struct riffle_error error;

	if (!copy)
		return reply_fault(reply, "Out of memory.");
	if (machine_disk_set_file(vmm->machine, drive->body.drive_id, copy, &error)) {
		arena_free(&arena);
		return drive_fault(reply, path, &error);
	}
	drive->body.path_on_host = copy;
	arena_free(&drive->patched);
	drive->patched = arena;
	return true;
}

static bool patch_drive(struct vmm *vmm, struct action *action, struct reply *reply)
{
	const struct body_drive_patch *body = &action->u.drive_patch;
	const struct limiter_update update = update_of(body->has_limiter, &body->rate_limiter);
	struct vmm_drive *drive = find_drive(vmm, body->drive_id);
	struct riffle_error error;

	if (!drive)
		return reply_fault(reply,
				   DRIVE_PREFIX "Failed perform action on device: Device not found" DRIVE_SUFFIX);
	if (!body->path_on_host && !body->has_limiter)
		return reply_fault(reply,
				   DRIVE_PREFIX "Block: Running method expected different backend." DRIVE_SUFFIX);
	if (body->path_on_host && !patch_file(vmm, drive, body->path_on_host, reply))
		return false;
	if (body->has_limiter) {
		if (machine_disk_set_limits(vmm->machine, body->drive_id, &update, &error))
			return internal_fault(reply, DRIVE_PREFIX, &error);
		note_limiter(&drive->body.has_limiter, &drive->body.rate_limiter, true, &body->rate_limiter);
	}
	return reply_done(reply);
}

static bool patch_net(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Network config error: Unable to update the net device: ";
	const struct body_net_patch *body = &action->u.net_patch;
	const struct limiter_update rx = update_of(body->has_rx, &body->rx), tx = update_of(body->has_tx, &body->tx);
	struct vmm_net *net = find_net(vmm, body->iface_id);
	struct riffle_error error;

	if (!net)
		return reply_fault(reply, "%sFailed perform action on device: Device not found", prefix);
	if (machine_net_set_limits(vmm->machine, body->iface_id, &rx, &tx, &error))
		return internal_fault(reply, prefix, &error);
	note_limiter(&net->body.has_rx, &net->body.rx, body->has_rx, &body->rx);
	note_limiter(&net->body.has_tx, &net->body.tx, body->has_tx, &body->tx);
	return reply_done(reply);
}

static bool patch_pmem(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Pmem config error: Unable to patch the pmem device: ";
	const struct body_drive_patch *body = &action->u.drive_patch;
	const struct limiter_update update = update_of(body->has_limiter, &body->rate_limiter);
	struct vmm_pmem *pmem = find_pmem(vmm, body->drive_id);
	struct riffle_error error;

	if (!pmem)
		return reply_fault(reply, "%sFailed perform action on device: Device not found" DRIVE_SUFFIX, prefix);
	if (!body->has_limiter)
		return reply_done(reply);
	if (machine_pmem_set_limits(vmm->machine, body->drive_id, &update, &error))
		return internal_fault(reply, prefix, &error);
	note_limiter(&pmem->body.has_limiter, &pmem->body.rate_limiter, true, &body->rate_limiter);
	return reply_done(reply);
}

static bool patch_balloon(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Balloon update error: ";
	struct vmm_resources *r = &vmm->resources;
	uint32_t mib = action->u.balloon_amount.amount_mib;
	struct riffle_error error;

	if (r->has_balloon && mib > r->machine.mem_size_mib)
		return reply_fault(reply, "%sRequested memory should be less than %lluMiB", prefix,
				   (unsigned long long)r->machine.mem_size_mib);
	if (machine_balloon_set_target(vmm->machine, (uint64_t)mib << 20, &error))
		return internal_fault(reply, prefix, &error);
	r->balloon.amount_mib = mib;
	return reply_done(reply);
}

static bool patch_balloon_stats(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Balloon update error: ";
	struct vmm_resources *r = &vmm->resources;
	uint16_t seconds = action->u.balloon_stats.stats_polling_interval_s;
	struct riffle_error error;

	if (r->has_balloon && seconds == r->balloon.stats_polling_interval_s)
		return reply_done(reply);
	if (r->has_balloon && (!seconds || !r->balloon.stats_polling_interval_s))
		return reply_fault(reply, "%sCannot enable/disable the statistics after boot.", prefix);
	if (machine_balloon_set_interval(vmm->machine, seconds, &error))
		return internal_fault(reply, prefix, &error);
	r->balloon.stats_polling_interval_s = seconds;
	return reply_done(reply);
}

static bool get_balloon_stats(struct vmm *vmm, struct reply *reply)
{
	static const char *const names[BALLOON_STATS] = {
	    "swap_in",          "swap_out",    "major_faults",        "minor_faults",     "free_memory", "total_memory",
	    "available_memory", "disk_caches", "hugetlb_allocations", "hugetlb_failures", "oom_kill",    "alloc_stall",
	    "async_scan",       "direct_scan", "async_reclaim",       "direct_reclaim"};
	struct balloon_state state;
	struct riffle_error error;
	char *text = NULL;
	size_t bytes;
	FILE *to;

	if (machine_balloon_state(vmm->machine, &state, &error))
		return internal_fault(reply, "Internal VMM error: ", &error);
	if (!vmm->resources.balloon.stats_polling_interval_s)
		return reply_fault(reply, "Internal VMM error: Statistics for the balloon device are not enabled");
	to = open_memstream(&text, &bytes);
	if (!to)
		return reply_fault(reply, "Out of memory.");
	fprintf(to, "{\"target_pages\":%llu,\"actual_pages\":%llu,\"target_mib\":%llu,\"actual_mib\":%llu",
		(unsigned long long)(state.target_bytes / BALLOON_PAGE),
		(unsigned long long)(state.actual_bytes / BALLOON_PAGE), (unsigned long long)(state.target_bytes >> 20),
		(unsigned long long)(state.actual_bytes >> 20));
	for (unsigned i = 0; i < BALLOON_STATS; i++)
		if (state.stats.there & 1u << i)
			fprintf(to, ",\"%s\":%llu", names[i], (unsigned long long)state.stats.value[i]);
	fputc('}', to);
	if (fclose(to))
		return reply_fault(reply, "Out of memory.");
	return reply_body(reply, text);
}

static bool get_hinting(struct vmm *vmm, struct reply *reply)
{
	static const char prefix[] = "Balloon update error: ";
	struct balloon_state state;
	struct riffle_error error;
	char guest[24] = "null", *text;

	if (machine_balloon_state(vmm->machine, &state, &error))
		return internal_fault(reply, prefix, &error);
	if (!vmm->resources.balloon.free_page_hinting)
		return reply_fault(reply, "%sFree page hinting is not enabled", prefix);
	if (state.hint_guest_answered)
		snprintf(guest, sizeof guest, "%u", state.hint_guest_command);
	if (asprintf(&text, "{\"host_cmd\":%u,\"guest_cmd\":%s}", state.hint_host_command, guest) < 0)
		return reply_fault(reply, "Out of memory.");
	return reply_body(reply, text);
}

static bool done_or_fault(struct reply *reply, const char *prefix, int status, const struct riffle_error *error)
{
	return status ? internal_fault(reply, prefix, error) : reply_done(reply);
}

static bool set_state(struct vmm *vmm, enum machine_action action, enum vmm_state state, struct reply *reply)
{
	const uint64_t begun = counts_clock_us();
	struct riffle_error error;

	if (vmm->state != state && machine_control(vmm->machine, action, &error))
		return internal_fault(reply, "Internal VMM error: ", &error);
	vmm->state = state;
	metrics_freeze(state == VMM_PAUSED);
	reply_done(reply);
	counts_carried_out(state == VMM_PAUSED ? ACTION_PAUSE : ACTION_RESUME, false, begun, reply);
	return true;
}

static bool get_balloon(struct vmm *vmm, struct reply *reply)
{
	if (!vmm->resources.has_balloon)
		return reply_fault(reply, "Internal VMM error: Failed perform action on device: Device not found");
	char *body = vmm_view_balloon(vmm);

	return body ? reply_body(reply, body) : reply_fault(reply, "Out of memory.");
}

static void handle_balloon(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Balloon update error: ";
	struct riffle_error error = {0};

	switch (action->kind) {
	case ACTION_GET_BALLOON_STATS:
		get_balloon_stats(vmm, reply);
		break;
	case ACTION_GET_HINTING:
		get_hinting(vmm, reply);
		break;
	case ACTION_PATCH_BALLOON:
		patch_balloon(vmm, action, reply);
		break;
	case ACTION_PATCH_BALLOON_STATS:
		patch_balloon_stats(vmm, action, reply);
		break;
	case ACTION_HINTING_START:
		done_or_fault(reply, prefix,
			      machine_balloon_hint_start(vmm->machine, action->u.hinting.acknowledge_on_stop, &error),
			      &error);
		break;
	case ACTION_HINTING_STOP:
		done_or_fault(reply, prefix, machine_balloon_hint_stop(vmm->machine, &error), &error);
		break;
	default:
		get_balloon(vmm, reply);
		break;
	}
}

void vmm_handle_running(struct vmm *vmm, struct action *action, struct reply *reply)
{
	struct riffle_error error = {0};

	switch (action->kind) {
	case ACTION_GET_BALLOON:
	case ACTION_GET_BALLOON_STATS:
	case ACTION_GET_HINTING:
	case ACTION_PATCH_BALLOON:
	case ACTION_PATCH_BALLOON_STATS:
	case ACTION_HINTING_START:
	case ACTION_HINTING_STOP:
		handle_balloon(vmm, action, reply);
		break;
	case ACTION_PATCH_DRIVE:
		patch_drive(vmm, action, reply);
		break;
	case ACTION_PATCH_NET:
		patch_net(vmm, action, reply);
		break;
	case ACTION_PATCH_PMEM:
		patch_pmem(vmm, action, reply);
		break;
	case ACTION_CTRL_ALT_DEL:
		done_or_fault(reply, "Internal VMM error: ", machine_ctrl_alt_del(vmm->machine, &error), &error);
		break;
	case ACTION_FLUSH_METRICS:
		vmm_flush_metrics(vmm, reply);
		break;
	case ACTION_PAUSE:
		set_state(vmm, MACHINE_PAUSE, VMM_PAUSED, reply);
		break;
	case ACTION_RESUME:
		set_state(vmm, MACHINE_RESUME, VMM_RUNNING, reply);
		break;
	case ACTION_DELETE_DRIVE:
	case ACTION_DELETE_NET:
	case ACTION_DELETE_PMEM:
		reply_fault(reply, "Internal VMM error: PCI is not enabled");
		break;
	case ACTION_GET_HOTPLUG:
		reply_fault(reply, "Internal VMM error: Failed perform action on device: Device not found");
		break;
	case ACTION_PATCH_HOTPLUG:
		reply_fault(reply, "Memory hotplug update error: Failed perform action on device: Device not found");
		break;
	case ACTION_SNAPSHOT_CREATE:
		vmm_create_snapshot(vmm, action, reply);
		break;
	default:
		reply_fault(reply, "The requested operation is not supported after starting the microVM.");
		break;
	}
}

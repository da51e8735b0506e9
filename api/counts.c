/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as metrics count them: by method and endpoint, those that were not understood, and how long some took. */
#include "api/counts.h"

#include <string.h>
#include <time.h>

#include "api/log.h"
#include "api/metrics.h"

#define NONE METRIC_OWN_COUNT

#define PAIR(group, name) METRIC(group, name##_count), METRIC(group, name##_fails)

static const struct counted {
	enum http_method method;
	const char *endpoint; /* the path's first segment */
	enum metric count, fails;
} counted[] = {
    {HTTP_GET, "", METRIC(get_api_requests, instance_info_count), NONE},
    {HTTP_GET, "version", METRIC(get_api_requests, vmm_version_count), NONE},
    {HTTP_GET, "machine-config", METRIC(get_api_requests, machine_cfg_count), NONE},
    {HTTP_GET, "mmds", METRIC(get_api_requests, mmds_count), NONE},
    {HTTP_GET, "hotplug", METRIC(get_api_requests, hotplug_memory_count), NONE},
    {HTTP_PUT, "actions", PAIR(put_api_requests, actions)},
    {HTTP_PUT, "boot-source", PAIR(put_api_requests, boot_source)},
    {HTTP_PUT, "drives", PAIR(put_api_requests, drive)},
    {HTTP_PUT, "logger", PAIR(put_api_requests, logger)},
    {HTTP_PUT, "machine-config", PAIR(put_api_requests, machine_cfg)},
    {HTTP_PUT, "cpu-config", PAIR(put_api_requests, cpu_cfg)},
    {HTTP_PUT, "metrics", PAIR(put_api_requests, metrics)},
    {HTTP_PUT, "network-interfaces", PAIR(put_api_requests, network)},
    {HTTP_PUT, "mmds", PAIR(put_api_requests, mmds)},
    {HTTP_PUT, "vsock", PAIR(put_api_requests, vsock)},
    {HTTP_PUT, "pmem", PAIR(put_api_requests, pmem)},
    {HTTP_PUT, "serial", PAIR(put_api_requests, serial)},
    {HTTP_PUT, "hotplug", PAIR(put_api_requests, hotplug_memory)},
    {HTTP_PATCH, "drives", PAIR(patch_api_requests, drive)},
    {HTTP_PATCH, "network-interfaces", PAIR(patch_api_requests, network)},
    {HTTP_PATCH, "machine-config", PAIR(patch_api_requests, machine_cfg)},
    {HTTP_PATCH, "mmds", PAIR(patch_api_requests, mmds)},
    {HTTP_PATCH, "hotplug", PAIR(patch_api_requests, hotplug_memory)},
    {HTTP_PATCH, "pmem", PAIR(patch_api_requests, pmem)},
};

void counts_request(const struct http_request *request, bool understood)
{
	const char *path = request->path + strspn(request->path, "/");
	size_t bytes = strcspn(path, "/");

	if (request->method != HTTP_GET && !request->body_bytes)
		return; /* refused before anybody looks at the path */
	for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
		const struct counted *c = &counted[i];

		if (c->method != request->method || strlen(c->endpoint) != bytes || memcmp(c->endpoint, path, bytes))
			continue;
		metrics_count(c->count);
		if (!understood && c->fails != NONE)
			metrics_count(c->fails);
		return;
	}
}

uint64_t counts_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static const struct timed {
	enum action_kind kind;
	bool diff;
	const char *words;
	enum metric answered, carried_out;
} timed[] = {
    {ACTION_PAUSE, false, "pause vm", METRIC(latencies_us, pause_vm), METRIC(latencies_us, vmm_pause_vm)},
    {ACTION_RESUME, false, "resume vm", METRIC(latencies_us, resume_vm), METRIC(latencies_us, vmm_resume_vm)},
    {ACTION_SNAPSHOT_LOAD, false, "load snapshot", METRIC(latencies_us, load_snapshot),
     METRIC(latencies_us, vmm_load_snapshot)},
    {ACTION_SNAPSHOT_CREATE, false, "create full snapshot", METRIC(latencies_us, full_create_snapshot),
     METRIC(latencies_us, vmm_full_create_snapshot)},
    {ACTION_SNAPSHOT_CREATE, true, "create diff snapshot", METRIC(latencies_us, diff_create_snapshot),
     METRIC(latencies_us, vmm_diff_create_snapshot)},
};

static const struct timed *find(enum action_kind kind, bool diff, const struct reply *reply)
{
	for (size_t i = 0; reply->status < 300 && i < sizeof timed / sizeof *timed; i++)
		if (timed[i].kind == kind && (kind != ACTION_SNAPSHOT_CREATE || timed[i].diff == diff))
			return &timed[i];
	return NULL;
}

void counts_answered(enum action_kind kind, bool diff, uint64_t begun_us, const struct reply *reply)
{
	const struct timed *t = find(kind, diff, reply);
	uint64_t us = counts_clock_us() - begun_us;

	if (!t)
		return;
	metrics_store(t->answered, us);
	log_always(LOG_INFO, "firecracker::api_server", "'%s' API request took %llu us.", t->words,
		   (unsigned long long)us);
}

void counts_carried_out(enum action_kind kind, bool diff, uint64_t begun_us, const struct reply *reply)
{
	const struct timed *t = find(kind, diff, reply);
	uint64_t us = counts_clock_us() - begun_us;

	if (!t)
		return;
	metrics_store(t->carried_out, us);
	log_always(LOG_INFO, "vmm", "'%s' VMM action took %llu us.", t->words, (unsigned long long)us);
}

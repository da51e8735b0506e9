/* SPDX-License-Identifier: Apache-2.0 */
/* Carries out on a running machine's devices what machine/control.h offers. */
#include "machine/control.h"

#include <errno.h>
#include <string.h>

#include "common/fail.h"
#include "machine/internal.h"

struct loop *machine_loop(struct machine *m)
{
	return &m->loop;
}

void machine_post(struct machine *m, struct loop_task *task)
{
	loop_post(&m->loop, task);
}

static int no_device(struct riffle_error *error)
{
	return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "id", "no such device");
}

static bool is(const char *id, const char *wanted)
{
	return id && !strcmp(id, wanted);
}

static struct block *find_disk(const struct machine *m, const char *id)
{
	for (unsigned i = 0; i < m->devices.disk_count; i++)
		if (is(m->devices.disk_ids[i], id))
			return m->devices.disks[i];
	return NULL;
}

static struct virtio_device *find_net(const struct machine *m, const char *id)
{
	for (unsigned i = 0; i < m->devices.net_count; i++)
		if (is(m->devices.nets[i].id, id))
			return m->devices.nets[i].device;
	return NULL;
}

int machine_disk_set_file(struct machine *m, const char *id, const char *path, struct riffle_error *error)
{
	struct block *disk = find_disk(m, id);
	int status = disk ? block_set_file(disk, path, error) : no_device(error);

	for (unsigned i = 0; !status && i < m->config.devices.disk_count; i++)
		if (is(m->config.devices.disks[i].id, id))
			m->config.devices.disks[i].path = path;
	return status;
}

/* What a snapshot is to say from now on. */
static void note_limits(struct limiter_config *limits, const struct limiter_update *update)
{
	if (update->has_bytes)
		limits->bytes = update->bytes;
	if (update->has_ops)
		limits->ops = update->ops;
}

int machine_disk_set_limits(struct machine *m, const char *id, const struct limiter_update *update,
			    struct riffle_error *error)
{
	struct block *disk = find_disk(m, id);

	if (!disk)
		return no_device(error);
	block_limit(disk, update);
	for (unsigned i = 0; i < m->config.devices.disk_count; i++)
		if (is(m->config.devices.disks[i].id, id))
			note_limits(&m->config.devices.disks[i].limits, update);
	return 0;
}

int machine_net_set_limits(struct machine *m, const char *id, const struct limiter_update *rx,
			   const struct limiter_update *tx, struct riffle_error *error)
{
	struct virtio_device *net = find_net(m, id);

	if (!net)
		return no_device(error);
	net_set_limits(net, rx, tx);
	for (unsigned i = 0; i < m->config.devices.net_count; i++)
		if (is(m->config.devices.nets[i].id, id)) {
			note_limits(&m->config.devices.nets[i].rx, rx);
			note_limits(&m->config.devices.nets[i].tx, tx);
		}
	return 0;
}

static void note_pmem_limits(struct machine *m, const char *id, const struct limiter_update *update)
{
	for (unsigned i = 0; i < m->config.devices.pmem_count; i++)
		if (is(m->config.devices.pmems[i].id, id))
			note_limits(&m->config.devices.pmems[i].limits, update);
}

int machine_pmem_set_limits(struct machine *m, const char *id, const struct limiter_update *update,
			    struct riffle_error *error)
{
	for (unsigned i = 0; i < m->devices.pmem_count; i++)
		if (is(m->devices.pmem_ids[i], id)) {
			pmem_limit(m->devices.pmems[i], update);
			note_pmem_limits(m, id, update);
			return 0;
		}
	return no_device(error);
}

const struct net_counters *machine_net_counters(const struct machine *m, const char *id)
{
	const struct virtio_device *net = find_net(m, id);

	return net ? net_counters(net) : NULL;
}

static int find_balloon(const struct machine *m, struct virtio_device **balloon, struct riffle_error *error)
{
	*balloon = m->devices.balloon;
	return *balloon ? 0 : riffle_fail(error, RIFFLE_ERR_ARGUMENT, "balloon", "there is none");
}

int machine_balloon_set_target(struct machine *m, uint64_t bytes, struct riffle_error *error)
{
	struct virtio_device *balloon;
	int status = find_balloon(m, &balloon, error);

	return status ? status : balloon_set_target(balloon, bytes, error);
}

int machine_balloon_set_interval(struct machine *m, uint16_t seconds, struct riffle_error *error)
{
	struct virtio_device *balloon;
	int status = find_balloon(m, &balloon, error);

	if (!status && !(status = balloon_set_stats_interval(balloon, seconds, error)))
		m->config.devices.balloon.balloon.stats_s = seconds;
	return status;
}

int machine_balloon_state(struct machine *m, struct balloon_state *state, struct riffle_error *error)
{
	struct virtio_device *balloon;
	int status = find_balloon(m, &balloon, error);

	if (!status)
		balloon_state(balloon, state);
	return status;
}

int machine_balloon_hint_start(struct machine *m, bool acknowledge, struct riffle_error *error)
{
	struct virtio_device *balloon;
	int status = find_balloon(m, &balloon, error);

	return status ? status : balloon_hint_start(balloon, acknowledge, error);
}

int machine_balloon_hint_stop(struct machine *m, struct riffle_error *error)
{
	struct virtio_device *balloon;
	int status = find_balloon(m, &balloon, error);

	return status ? status : balloon_hint_stop(balloon, error);
}

int machine_ctrl_alt_del(struct machine *m, struct riffle_error *error)
{
	pthread_mutex_lock(&m->bus.lock);
	bool typed = i8042_ctrl_alt_del(&m->i8042);

	pthread_mutex_unlock(&m->bus.lock);
	return typed ? 0
		     : riffle_fail(error, RIFFLE_ERR_ARGUMENT, "keyboard",
				   "the guest has not read what was typed before");
}

int machine_renew_generation(struct machine *m, struct riffle_error *error)
{
	int status = generation_renew(vm_memory(m->vm), error);

	if (!status)
		irq_raise(&m->irq_generation);
	return status;
}

int machine_disks_sync(struct machine *m, struct riffle_error *error)
{
	int failed = 0;

	for (unsigned i = 0; i < m->devices.disk_count; i++)
		if (block_sync(m->devices.disks[i]) && !failed)
			failed = errno;
	return failed ? riffle_fail_system(error, failed, "disk", "cannot be synchronised") : 0;
}

// SPDX-License-Identifier: Apache-2.0
/* Bodies of GET, key for key as Firecracker shows them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/vmm.h"

/* A text that grows. */
struct view {
	char *text;
	size_t used, room;
	bool failed;
};

static void add(struct view *v, const char *bytes, size_t count)
{
	if (v->used + count + 1 > v->room && !v->failed) {
		size_t room = 2 * (v->used + count + 1);
		char *text = realloc(v->text, room);

		v->failed = !text;
		if (text) {
			v->text = text;
			v->room = room;
		}
	}
	if (v->failed)
		return;
	memcpy(v->text + v->used, bytes, count);
	v->used += count;
	v->text[v->used] = 0;
}

__attribute__((format(printf, 2, 3))) static void print(struct view *v, const char *format, ...)
{
	char text[512];
	va_list args;
	int bytes;

	va_start(args, format);
	bytes = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (bytes < 0 || (size_t)bytes >= sizeof text)
		v->failed = true;
	else
		add(v, text, (size_t)bytes);
}

static char *finished(struct view *v)
{
	if (!v->failed)
		return v->text;
	free(v->text);
	return NULL;
}

static void add_string(struct view *v, const char *string)
{
	static const char from[] = "\"\\\n\r\t\b\f", into[] = "\"\\nrtbf";

	if (!string) {
		print(v, "null");
		return;
	}
	add(v, "\"", 1);
	for (const char *c = string; *c; c++) {
		const char *found = strchr(from, *c);

		if (found)
			print(v, "\\%c", into[found - from]);
		else if ((unsigned char)*c < ' ')
			print(v, "\\u%04x", (unsigned char)*c);
		else
			add(v, c, 1);
	}
	add(v, "\"", 1);
}

/* The comma before it, but for the first; the name; the colon. */
static void add_key(struct view *v, const char *name)
{
	if (v->used && v->text && v->text[v->used - 1] != '{')
		print(v, ",");
	print(v, "\"%s\":", name);
}

static void add_text(struct view *v, const char *name, const char *string)
{
	add_key(v, name);
	add_string(v, string);
}

static void add_bool(struct view *v, const char *name, bool value)
{
	add_key(v, name);
	print(v, "%s", value ? "true" : "false");
}

static void add_number(struct view *v, const char *name, uint64_t value)
{
	add_key(v, name);
	print(v, "%" PRIu64, value);
}

static const char *const state_words[] = {"Not started", "Running", "Paused"};

char *vmm_view_info(const struct vmm *vmm)
{
	struct view v = {.text = NULL};

	print(&v, "{");
	add_text(&v, "id", vmm->settings.id);
	add_text(&v, "state", state_words[vmm->state]);
	add_text(&v, "vmm_version", FIRECRACKER_VERSION);
	add_text(&v, "app_name", "Firecracker");
	print(&v, "}");
	return finished(&v);
}

char *vmm_view_version(void)
{
	struct view v = {.text = NULL};

	print(&v, "{");
	add_text(&v, "firecracker_version", FIRECRACKER_VERSION);
	print(&v, "}");
	return finished(&v);
}

static void add_machine(struct view *v, const struct vmm_resources *r)
{
	const struct body_machine *m = &r->machine;

	print(v, "{");
	add_number(v, "vcpu_count", m->vcpu_count);
	add_number(v, "mem_size_mib", m->mem_size_mib);
	add_bool(v, "smt", m->smt);
	if (r->template == VMM_TEMPLATE_STATIC)
		add_text(v, "cpu_template", body_template_words[m->cpu_template]);
	add_bool(v, "track_dirty_pages", m->track_dirty_pages);
	add_text(v, "huge_pages", body_huge_words[m->huge_pages]);
	print(v, "}");
}

char *vmm_view_machine(const struct vmm *vmm)
{
	struct view v = {.text = NULL};

	add_machine(&v, &vmm->resources);
	return finished(&v);
}

static void add_balloon(struct view *v, const struct body_balloon *b)
{
	print(v, "{");
	add_number(v, "amount_mib", b->amount_mib);
	add_bool(v, "deflate_on_oom", b->deflate_on_oom);
	add_number(v, "stats_polling_interval_s", b->stats_polling_interval_s);
	add_bool(v, "free_page_hinting", b->free_page_hinting);
	add_bool(v, "free_page_reporting", b->free_page_reporting);
	print(v, "}");
}

char *vmm_view_balloon(const struct vmm *vmm)
{
	struct view v = {.text = NULL};

	add_balloon(&v, &vmm->resources.balloon);
	return finished(&v);
}

static bool limits(bool has, const struct body_bucket *bucket)
{
	return has && bucket->size && bucket->refill_time;
}

static void add_bucket(struct view *v, const char *name, bool has, const struct body_bucket *bucket)
{
	add_key(v, name);
	if (!limits(has, bucket)) {
		print(v, "null");
		return;
	}
	print(v, "{");
	add_number(v, "size", bucket->size);
	add_key(v, "one_time_burst");
	/* none and 0 are the same bucket */
	if (bucket->one_time_burst)
		print(v, "%" PRIu64, bucket->one_time_burst);
	else
		print(v, "null");
	add_number(v, "refill_time", bucket->refill_time);
	print(v, "}");
}

static void add_limiter(struct view *v, const char *name, bool has, const struct body_limiter *limiter)
{
	add_key(v, name);
	if (!has ||
	    (!limits(limiter->has_bandwidth, &limiter->bandwidth) && !limits(limiter->has_ops, &limiter->ops))) {
		print(v, "null");
		return;
	}
	print(v, "{");
	add_bucket(v, "bandwidth", limiter->has_bandwidth, &limiter->bandwidth);
	add_bucket(v, "ops", limiter->has_ops, &limiter->ops);
	print(v, "}");
}

static void add_drive(struct view *v, const struct body_drive *d)
{
	print(v, "{");
	add_text(v, "drive_id", d->drive_id);
	add_text(v, "partuuid", d->partuuid);
	add_bool(v, "is_root_device", d->is_root_device);
	add_text(v, "cache_type", body_cache_words[d->cache_type]);
	add_bool(v, "is_read_only", d->is_read_only);
	add_text(v, "path_on_host", d->path_on_host);
	add_limiter(v, "rate_limiter", d->has_limiter, &d->rate_limiter);
	add_text(v, "io_engine", body_engine_words[d->io_engine]);
	add_text(v, "socket", d->socket);
	print(v, "}");
}

static void add_net(struct view *v, const struct body_net *n)
{
	print(v, "{");
	add_text(v, "iface_id", n->iface_id);
	add_text(v, "host_dev_name", n->host_dev_name);
	add_key(v, "guest_mac");
	if (n->has_mac)
		print(v, "\"%02x:%02x:%02x:%02x:%02x:%02x\"", n->guest_mac[0], n->guest_mac[1], n->guest_mac[2],
		      n->guest_mac[3], n->guest_mac[4], n->guest_mac[5]);
	else
		print(v, "null");
	add_key(v, "mtu");
	if (n->has_mtu)
		print(v, "%u", n->mtu);
	else
		print(v, "null");
	add_limiter(v, "rx_rate_limiter", n->has_rx, &n->rx);
	add_limiter(v, "tx_rate_limiter", n->has_tx, &n->tx);
	print(v, "}");
}

static void add_pmem(struct view *v, const struct body_pmem *p)
{
	print(v, "{");
	add_text(v, "id", p->id);
	add_text(v, "path_on_host", p->path_on_host);
	add_bool(v, "root_device", p->root_device);
	add_bool(v, "read_only", p->read_only);
	add_limiter(v, "rate_limiter", p->has_limiter, &p->rate_limiter);
	print(v, "}");
}

static void add_boot_source(struct view *v, const struct vmm_boot_source *b)
{
	print(v, "{");
	add_text(v, "kernel_image_path", b->set ? b->body.kernel_image_path : "");
	add_text(v, "initrd_path", b->body.initrd_path);
	add_text(v, "boot_args", b->body.boot_args);
	if (b->body.has_randomize)
		add_text(v, "randomize", body_randomize_words[b->body.randomize]);
	if (b->body.layout_out)
		add_text(v, "layout_out", b->body.layout_out);
	if (b->body.stock)
		add_text(v, "stock", b->body.stock);
	print(v, "}");
}

static void add_mmds(struct view *v, const struct vmm_resources *r)
{
	bool first = true;

	for (unsigned i = 0; i < r->net_count; i++)
		if (r->nets[i].mmds)
			first = false;
	if (first || !r->mmds.set) {
		print(v, "null");
		return;
	}
	print(v, "{");
	add_text(v, "version", body_mmds_words[r->mmds.version]);
	add_key(v, "network_interfaces");
	print(v, "[");
	first = true;
	for (unsigned i = 0; i < r->net_count; i++)
		if (r->nets[i].mmds) {
			print(v, "%s", first ? "" : ",");
			add_string(v, r->nets[i].body.iface_id);
			first = false;
		}
	print(v, "]");
	add_key(v, "ipv4_address");
	print(v, "\"%u.%u.%u.%u\"", r->mmds.address >> 24, r->mmds.address >> 16 & 0xff, r->mmds.address >> 8 & 0xff,
	      r->mmds.address & 0xff);
	add_bool(v, "imds_compat", r->mmds.imds_compat);
	print(v, "}");
}

static void add_null(struct view *v, const char *name)
{
	add_key(v, name);
	print(v, "null");
}

static void add_few(struct view *v, const struct vmm_resources *r)
{
	add_key(v, "vsock");
	if (r->vsock.set) {
		print(v, "{");
		add_number(v, "guest_cid", r->vsock.body.guest_cid);
		add_text(v, "uds_path", r->vsock.body.uds_path);
		print(v, "}");
	} else {
		print(v, "null");
	}
	add_key(v, "entropy");
	if (r->has_entropy) {
		print(v, "{");
		add_limiter(v, "rate_limiter", r->entropy.has_limiter, &r->entropy.rate_limiter);
		print(v, "}");
	} else {
		print(v, "null");
	}
	add_key(v, "pmem");
	print(v, "[");
	for (unsigned i = 0; i < r->pmem_count; i++) {
		print(v, "%s", i ? "," : "");
		add_pmem(v, &r->pmems[i].body);
	}
	print(v, "]");
	add_key(v, "memory-hotplug");
	if (r->has_hotplug) {
		print(v, "{");
		add_number(v, "total_size_mib", r->hotplug.total_size_mib);
		add_number(v, "block_size_mib", r->hotplug.block_size_mib);
		add_number(v, "slot_size_mib", r->hotplug.slot_size_mib);
		print(v, "}");
	} else {
		print(v, "null");
	}
}

char *vmm_view_config(const struct vmm *vmm)
{
	const struct vmm_resources *r = &vmm->resources;
	struct view v = {.text = NULL};

	print(&v, "{");
	add_key(&v, "balloon");
	if (r->has_balloon)
		add_balloon(&v, &r->balloon);
	else
		print(&v, "null");
	add_key(&v, "drives");
	print(&v, "[");
	for (unsigned i = 0; i < r->drive_count; i++) {
		print(&v, "%s", i ? "," : "");
		add_drive(&v, &r->drives[i].body);
	}
	print(&v, "]");
	add_key(&v, "boot-source");
	add_boot_source(&v, &r->boot_source);
	add_null(&v, "cpu-config");
	add_null(&v, "logger");
	add_key(&v, "machine-config");
	add_machine(&v, r);
	add_null(&v, "metrics");
	add_key(&v, "mmds-config");
	add_mmds(&v, r);
	add_key(&v, "network-interfaces");
	print(&v, "[");
	for (unsigned i = 0; i < r->net_count; i++) {
		print(&v, "%s", i ? "," : "");
		add_net(&v, &r->nets[i].body);
	}
	print(&v, "]");
	add_few(&v, r);
	print(&v, "}");
	return finished(&v);
}

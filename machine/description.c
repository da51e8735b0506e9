/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description as JSON, for the state file of a snapshot. */
#include "machine/description.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fail.h"

/* ---- writing ---- */

static json_t *bucket(const struct limiter_bucket_config *b)
{
	const uint64_t most = INT64_MAX;

	return json_pack("[I, I, I]", (json_int_t)(b->size < most ? b->size : most),
			 (json_int_t)(b->refill_ms < most ? b->refill_ms : most),
			 (json_int_t)(b->one_time_burst < most ? b->one_time_burst : most));
}

static json_t *limits(const struct limiter_config *l)
{
	return json_pack("{s:o, s:o}", "bytes", bucket(&l->bytes), "ops", bucket(&l->ops));
}

static json_t *disk(const struct machine_disk *d)
{
	return json_pack("{s:s*, s:s, s:b, s:b, s:b, s:s*, s:b, s:i, s:i, s:b, s:s*, s:o}", "id", d->id, "path",
			 d->path, "shared", d->shared, "read_only", d->read_only, "root", d->root, "partuuid",
			 d->partuuid, "raw", d->raw, "cache", (int)d->cache, "io", (int)d->io, "async", d->async,
			 "serial", d->serial, "limits", limits(&d->limits));
}

static json_t *forwards(const struct passt_config *user)
{
	json_t *list = json_array();

	for (size_t i = 0; i < user->forwards; i++) {
		const struct passt_forward *f = &user->forward[i];

		json_array_append_new(list, json_pack("{s:b, s:s, s:i, s:i}", "udp", f->udp, "address", f->address,
						      "host", f->host_port, "guest", f->guest_port));
	}
	return list;
}

static json_t *net(const struct machine_net *n)
{
	json_t *mac = json_null();

	if (n->mac_kind == MACHINE_MAC_GIVEN) {
		mac = json_array();
		for (unsigned i = 0; i < sizeof n->mac; i++)
			json_array_append_new(mac, json_integer(n->mac[i]));
	}
	return json_pack("{s:s*, s:i, s:s*, s:o, s:b, s:o, s:i, s:o, s:o, s:b}", "id", n->id, "kind", (int)n->kind,
			 "tap", n->tap, "forwards", forwards(&n->user), "host_loopback", n->user.host_loopback, "mac",
			 mac, "mtu", n->mtu, "rx", limits(&n->rx), "tx", limits(&n->tx), "metadata", n->metadata);
}

static json_t *metadata(const struct machine_metadata *m)
{
	return m->wanted ? json_pack("{s:i, s:I, s:b}", "version", m->version, "address", (json_int_t)m->address,
				     "imds_compat", m->imds_compat)
			 : json_null();
}

static json_t *pmem(const struct machine_pmem *p)
{
	return json_pack("{s:s*, s:s, s:b, s:b, s:o}", "id", p->id, "path", p->path, "read_only", p->read_only, "root",
			 p->root, "limits", limits(&p->limits));
}

static json_t *vsock(const struct machine_vsock *v)
{
	return v->path ? json_pack("{s:s, s:I}", "path", v->path, "cid", (json_int_t)v->cid) : json_null();
}

static json_t *balloon(const struct machine_balloon *b)
{
	return b->wanted ? json_pack("{s:I, s:b, s:b, s:b, s:i}", "target", (json_int_t)b->balloon.target_bytes,
				     "deflate_on_oom", b->balloon.deflate_on_oom, "reporting", b->balloon.reporting,
				     "hinting", b->balloon.hinting, "stats", b->balloon.stats_s)
			 : json_null();
}

static json_t *devices(const struct machine_devices_config *d)
{
	json_t *disks = json_array(), *nets = json_array(), *pmems = json_array();

	for (unsigned i = 0; i < d->disk_count; i++)
		json_array_append_new(disks, disk(&d->disks[i]));
	for (unsigned i = 0; i < d->net_count; i++)
		json_array_append_new(nets, net(&d->nets[i]));
	for (unsigned i = 0; i < d->pmem_count; i++)
		json_array_append_new(pmems, pmem(&d->pmems[i]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "metadata", metadata(&d->metadata), "disks", disks,
			 "nets", nets, "pmems", pmems, "rng", d->rng.wanted ? limits(&d->rng.limits) : json_null(),
			 "vsock", vsock(&d->vsock), "balloon", balloon(&d->balloon));
}

/* What is not known of it is left out. */
static json_t *origin(const struct machine_origin *o)
{
	char kernel[MACHINE_FILE_WORD], initrd[MACHINE_FILE_WORD], cpu[20];

	if (!o->mode)
		return NULL;
	machine_file_print(kernel, &o->kernel);
	machine_file_print(initrd, &o->initrd);
	snprintf(cpu, sizeof cpu, "%llx", (unsigned long long)o->cpu);
	return json_pack("{s:s, s:f, s:f, s:i, s:s*, s:s*, s:s*}", "mode", o->mode, "virtual_bits", o->virtual_bits,
			 "physical_bits", o->physical_bits, "chunks", (int)o->chunks, "kernel",
			 o->identified ? kernel : NULL, "initrd", o->identified ? initrd : NULL, "cpu",
			 o->identified ? cpu : NULL);
}

int description_write(char **text, const struct machine_config *config, struct riffle_error *error)
{
	json_t *json = json_pack("{s:i, s:I, s:b, s:b, s:b, s:s, s:b, s:s*, s:o*, s:o}", "vcpus", (int)config->vcpus,
				 "memory", (json_int_t)config->memory_bytes, "smt", config->smt, "huge_2m",
				 config->huge_2m, "huge_pages", config->huge_pages, "command_line",
				 config->command_line, "boot_timer", config->boot_timer, "front_end", config->front_end,
				 "origin", origin(&config->origin), "devices", devices(&config->devices));
	const json_t *d = json_object_get(json, "devices");
	/* jansson leaves out what it cannot make */
	bool complete = json_array_size(json_object_get(d, "disks")) == config->devices.disk_count &&
			json_array_size(json_object_get(d, "nets")) == config->devices.net_count &&
			json_array_size(json_object_get(d, "pmems")) == config->devices.pmem_count;

	complete = complete && json;
	*text = complete ? json_dumps(json, JSON_INDENT(1)) : NULL;
	json_decref(json);
	return *text ? 0
		     : riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "snapshot",
				   "a path or id of the machine is not UTF-8, and cannot be saved");
}

/* ---- reading ---- */

/* The first thing that was wrong stands. */
struct parse {
	const char *field;
};

static bool refuse(struct parse *parse, const char *field)
{
	if (!parse->field)
		parse->field = field;
	return false;
}

static bool read_bucket(struct parse *parse, json_t *json, struct limiter_bucket_config *b)
{
	json_int_t size, refill, burst;

	if (json_unpack(json, "[I, I, I !]", &size, &refill, &burst) || size < 0 || refill < 0 || burst < 0)
		return refuse(parse, "limits");
	*b = (struct limiter_bucket_config){(uint64_t)size, (uint64_t)refill, (uint64_t)burst};
	return true;
}

static bool read_limits(struct parse *parse, json_t *json, struct limiter_config *l)
{
	json_t *bytes, *ops;

	if (json_unpack(json, "{s:o, s:o !}", "bytes", &bytes, "ops", &ops))
		return refuse(parse, "limits");
	return read_bucket(parse, bytes, &l->bytes) && read_bucket(parse, ops, &l->ops);
}

static bool read_disk(struct parse *parse, json_t *json, struct machine_disk *d)
{
	int shared, read_only, root, raw, cache, io, async = 0;
	json_t *l;

	if (json_unpack(json, "{s?s, s:s, s:b, s:b, s:b, s?s, s:b, s:i, s:i, s?b, s?s, s:o!}", "id", &d->id, "path",
			&d->path, "shared", &shared, "read_only", &read_only, "root", &root, "partuuid", &d->partuuid,
			"raw", &raw, "cache", &cache, "io", &io, "async", &async, "serial", &d->serial, "limits", &l))
		return refuse(parse, "disks");
	if (cache < DISK_CACHE_WRITEBACK || cache > DISK_CACHE_UNSAFE)
		return refuse(parse, "cache");
	if (io < BLOCK_ENGINE_AUTO || io > BLOCK_ENGINE_WORKERS)
		return refuse(parse, "io");
	d->shared = shared;
	d->read_only = read_only;
	d->root = root;
	d->raw = raw;
	d->cache = (enum disk_cache)cache;
	d->io = (enum block_engine_kind)io;
	d->async = async;
	return read_limits(parse, l, &d->limits);
}

static bool read_forwards(struct parse *parse, json_t *json, struct passt_config *user)
{
	size_t count = json_array_size(json);

	if (!json_is_array(json) || count > PASST_FORWARDS_MAX)
		return refuse(parse, "forwards");
	for (size_t i = 0; i < count; i++) {
		struct passt_forward *f = &user->forward[i];
		const char *address;
		int udp, host, guest;

		if (json_unpack(json_array_get(json, i), "{s:b, s:s, s:i, s:i !}", "udp", &udp, "address", &address,
				"host", &host, "guest", &guest) ||
		    host < 1 || host > UINT16_MAX || guest < 1 || guest > UINT16_MAX ||
		    strlen(address) >= sizeof f->address ||
		    strspn(address, "0123456789abcdefABCDEF.:") != strlen(address))
			return refuse(parse, "forwards");
		f->udp = udp;
		strcpy(f->address, address);
		f->host_port = (uint16_t)host;
		f->guest_port = (uint16_t)guest;
	}
	user->forwards = count;
	return true;
}

static bool read_mac(struct parse *parse, json_t *json, struct machine_net *n)
{
	if (json_is_null(json)) {
		n->mac_kind = MACHINE_MAC_NONE;
		return true;
	}
	if (json_array_size(json) != sizeof n->mac)
		return refuse(parse, "mac");
	for (size_t i = 0; i < sizeof n->mac; i++) {
		json_int_t byte =
		    json_is_integer(json_array_get(json, i)) ? json_integer_value(json_array_get(json, i)) : -1;

		if (byte < 0 || byte > UINT8_MAX)
			return refuse(parse, "mac");
		n->mac[i] = (uint8_t)byte;
	}
	n->mac_kind = MACHINE_MAC_GIVEN;
	return true;
}

static bool read_net(struct parse *parse, json_t *json, struct machine_net *n)
{
	json_t *mac, *rx, *tx, *list;
	int kind, mtu, loopback, reaches = 0;

	if (json_unpack(json, "{s?s, s:i, s?s, s:o, s:b, s:o, s:i, s:o, s:o, s?b !}", "id", &n->id, "kind", &kind,
			"tap", &n->tap, "forwards", &list, "host_loopback", &loopback, "mac", &mac, "mtu", &mtu, "rx",
			&rx, "tx", &tx, "metadata", &reaches))
		return refuse(parse, "nets");
	if (kind < MACHINE_NET_TAP || kind > MACHINE_NET_USER || (kind == MACHINE_NET_TAP && !n->tap))
		return refuse(parse, "kind");
	if (mtu < 0 || mtu > UINT16_MAX)
		return refuse(parse, "mtu");
	n->kind = (enum machine_net_kind)kind;
	n->fd = -1;
	n->mtu = (uint16_t)mtu;
	n->user.host_loopback = loopback;
	n->metadata = reaches;
	return read_forwards(parse, list, &n->user) && read_mac(parse, mac, n) && read_limits(parse, rx, &n->rx) &&
	       read_limits(parse, tx, &n->tx);
}

static bool read_pmem(struct parse *parse, json_t *json, struct machine_pmem *p)
{
	int read_only, root;
	json_t *l;

	if (json_unpack(json, "{s?s, s:s, s:b, s:b, s:o !}", "id", &p->id, "path", &p->path, "read_only", &read_only,
			"root", &root, "limits", &l))
		return refuse(parse, "pmems");
	p->read_only = read_only;
	p->root = root;
	return read_limits(parse, l, &p->limits);
}

static bool read_vsock(struct parse *parse, json_t *json, struct machine_vsock *v)
{
	json_int_t cid;

	if (json_is_null(json))
		return true;
	if (json_unpack(json, "{s:s, s:I !}", "path", &v->path, "cid", &cid) || cid < 0)
		return refuse(parse, "vsock");
	v->cid = (uint64_t)cid;
	return true;
}

static bool read_balloon(struct parse *parse, json_t *json, struct machine_balloon *b)
{
	int deflate, reporting, hinting, stats;
	json_int_t target;

	if (json_is_null(json))
		return true;
	if (json_unpack(json, "{s:I, s:b, s:b, s:b, s:i !}", "target", &target, "deflate_on_oom", &deflate, "reporting",
			&reporting, "hinting", &hinting, "stats", &stats) ||
	    target < 0 || stats < 0 || stats > UINT16_MAX)
		return refuse(parse, "balloon");
	b->wanted = true;
	b->balloon.target_bytes = (uint64_t)target;
	b->balloon.deflate_on_oom = deflate;
	b->balloon.reporting = reporting;
	b->balloon.hinting = hinting;
	b->balloon.stats_s = (uint16_t)stats;
	return true;
}

static bool read_metadata(struct parse *parse, json_t *json, struct machine_metadata *m)
{
	json_int_t address;
	int compat;

	if (!json || json_is_null(json))
		return true;
	if (json_unpack(json, "{s:i, s:I, s:b !}", "version", &m->version, "address", &address, "imds_compat",
			&compat) ||
	    m->version < 1 || m->version > 2 || address < 0 || address > UINT32_MAX)
		return refuse(parse, "metadata");
	m->wanted = true;
	m->address = (uint32_t)address;
	m->imds_compat = compat;
	return true;
}

static bool read_devices(struct parse *parse, json_t *json, struct machine_devices_config *d)
{
	json_t *disks, *nets, *pmems, *rng, *v, *b, *m = NULL;

	if (json_unpack(json, "{s?o, s:o, s:o, s:o, s:o, s:o, s:o !}", "metadata", &m, "disks", &disks, "nets", &nets,
			"pmems", &pmems, "rng", &rng, "vsock", &v, "balloon", &b))
		return refuse(parse, "devices");
	if (!json_is_array(disks) || json_array_size(disks) > MACHINE_DISKS_MAX)
		return refuse(parse, "disks");
	if (!json_is_array(nets) || json_array_size(nets) > MACHINE_NETS_MAX)
		return refuse(parse, "nets");
	for (size_t i = 0; i < json_array_size(disks); i++)
		if (!read_disk(parse, json_array_get(disks, i), &d->disks[d->disk_count++]))
			return false;
	for (size_t i = 0; i < json_array_size(nets); i++)
		if (!read_net(parse, json_array_get(nets, i), &d->nets[d->net_count++]))
			return false;
	if (!json_is_array(pmems) || json_array_size(pmems) > MACHINE_PMEMS_MAX)
		return refuse(parse, "pmems");
	for (size_t i = 0; i < json_array_size(pmems); i++)
		if (!read_pmem(parse, json_array_get(pmems, i), &d->pmems[d->pmem_count++]))
			return false;
	d->rng.wanted = !json_is_null(rng);
	if (d->rng.wanted && !read_limits(parse, rng, &d->rng.limits))
		return false;
	return read_metadata(parse, m, &d->metadata) && read_vsock(parse, v, &d->vsock) &&
	       read_balloon(parse, b, &d->balloon);
}

static bool read_origin(struct parse *parse, json_t *json, struct machine_origin *o)
{
	const char *mode, *kernel = NULL, *initrd = NULL, *cpu = NULL;
	char *end;
	int chunks;

	if (!json)
		return true;
	if (json_unpack(json, "{s:s, s:F, s:F, s:i, s?s, s?s, s?s !}", "mode", &mode, "virtual_bits", &o->virtual_bits,
			"physical_bits", &o->physical_bits, "chunks", &chunks, "kernel", &kernel, "initrd", &initrd,
			"cpu", &cpu) ||
	    !(o->mode = machine_origin_mode(mode)) || chunks < 0 || chunks > UINT16_MAX + 1 ||
	    !(o->virtual_bits >= 0 && o->virtual_bits <= 64 && o->physical_bits >= 0 && o->physical_bits <= 64))
		return refuse(parse, "origin");
	o->chunks = (unsigned)chunks;
	o->identified = kernel && initrd && cpu;
	if (!o->identified)
		return !kernel && !initrd && !cpu ? true : refuse(parse, "origin");
	o->cpu = strtoull(cpu, &end, 16);
	return !*end && *cpu && machine_file_parse(&o->kernel, kernel) && machine_file_parse(&o->initrd, initrd)
		   ? true
		   : refuse(parse, "origin");
}

static bool read_machine(struct parse *parse, json_t *json, struct machine_config *config)
{
	int vcpus, huge, timer, smt = 0, huge_2m = 0;
	json_int_t memory;
	const char *line, *front_end = NULL;
	json_t *d, *o = NULL;

	if (json_unpack(json, "{s:i, s:I, s?b, s?b, s:b, s:s, s:b, s?s, s?o, s:o !}", "vcpus", &vcpus, "memory",
			&memory, "smt", &smt, "huge_2m", &huge_2m, "huge_pages", &huge, "command_line", &line,
			"boot_timer", &timer, "front_end", &front_end, "origin", &o, "devices", &d))
		return refuse(parse, "machine");
	if (vcpus < 1 || vcpus > (int)RIFFLE_BOOT_VCPUS_MAX)
		return refuse(parse, "vcpus");
	if (memory < 0)
		return refuse(parse, "memory");
	if (strlen(line) >= sizeof config->command_line)
		return refuse(parse, "command_line");
	config->vcpus = (unsigned)vcpus;
	config->memory_bytes = (uint64_t)memory;
	config->smt = smt;
	config->huge_2m = huge_2m;
	config->huge_pages = huge;
	config->boot_timer = timer;
	config->front_end = front_end;
	strcpy(config->command_line, line);
	return read_origin(parse, o, &config->origin) && read_devices(parse, d, &config->devices);
}

int description_read(struct machine_config *config, json_t **owner, const char *text, size_t bytes,
		     struct riffle_error *error)
{
	struct parse parse = {0};
	json_error_t problem;

	*owner = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &problem);
	if (!*owner)
		return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "description", "is not JSON; at byte",
					 (uint64_t)(problem.position > 0 ? problem.position : 0));
	if (read_machine(&parse, *owner, config))
		return 0;
	json_decref(*owner);
	*owner = NULL;
	return riffle_fail(error, RIFFLE_ERR_FORMAT, parse.field,
			   "this member of the machine's description is missing, not known or out of range");
}

const char *description_mode(const char *text, size_t bytes)
{
	json_t *root = json_loadb(text, bytes, 0, NULL);
	const char *mode = NULL;

	if (root)
		json_unpack(root, "{s:{s:s}}", "origin", "mode", &mode);
	if (mode)
		mode = machine_origin_mode(mode);
	json_decref(root);
	return mode;
}

// SPDX-License-Identifier: Apache-2.0
/* From method, path and body to an action, in the order of Firecracker's checks. */
#include <stdio.h>
#include <string.h>

#include "api/action.h"

#define SEGMENTS_MAX 4u
#define SEGMENT_BYTES 1024u

/* A request taken apart: the path's first segments, "" where there is none. */
struct asked {
	const struct http_request *http;
	struct action *action;
	struct reply *reply;
	const char *segment[SEGMENTS_MAX];
	unsigned segments;
	char path[SEGMENT_BYTES];
};

static const char *method_name(enum http_method method)
{
	static const char *const names[] = {
	    [HTTP_GET] = "GET", [HTTP_PUT] = "PUT", [HTTP_PATCH] = "PATCH", [HTTP_DELETE] = "DELETE"};

	return names[method];
}

static bool unknown(struct asked *a, const char *path)
{
	return reply_fault(a->reply, "Invalid request method and/or path: %s %s.", method_name(a->http->method), path);
}

/* Leading slashes and one at the end say nothing. */
static void split(struct asked *a)
{
	const char *path = a->http->path;
	size_t bytes;

	while (*path == '/')
		path++;
	bytes = strlen(path);
	if (bytes >= sizeof a->path)
		bytes = sizeof a->path - 1;
	memcpy(a->path, path, bytes);
	a->path[bytes] = 0;
	if (bytes && a->path[bytes - 1] == '/')
		a->path[--bytes] = 0;
	for (unsigned i = 0; i < SEGMENTS_MAX; i++)
		a->segment[i] = "";
	if (!bytes && !*path)
		return;
	for (char *at = a->path; at && a->segments < SEGMENTS_MAX; a->segments++) {
		char *slash = strchr(at, '/');

		if (slash)
			*slash++ = 0;
		a->segment[a->segments] = at;
		at = slash;
	}
}

/* Letters and digits beyond ASCII, roughly: what is not in a block of signs. */
static bool is_letter(uint32_t c)
{
	static const struct {
		uint32_t first, last;
	} signs[] = {{0x80, 0xa9},     {0xab, 0xb1},     {0xb4, 0xb4},     {0xb6, 0xb8},     {0xbb, 0xbb},
		     {0xbf, 0xbf},     {0xd7, 0xd7},     {0xf7, 0xf7},     {0x2c2, 0x2c5},   {0x300, 0x36f},
		     {0x2000, 0x206f}, {0x20a0, 0x2101}, {0x2190, 0x245f}, {0x2500, 0x2bff}, {0x3000, 0x3004},
		     {0x3008, 0x3020}, {0xd800, 0xf8ff}, {0xfe00, 0xfe6f}, {0xff01, 0xff0f}, {0x1f000, 0x1faff}};

	for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
		if (c >= signs[i].first && c <= signs[i].last)
			return false;
	return true;
}

/* The next character of valid UTF-8. */
static uint32_t next_character(const char **at)
{
	const unsigned char *c = (const unsigned char *)*at;
	unsigned more = *c < 0x80 ? 0 : *c < 0xe0 ? 1 : *c < 0xf0 ? 2 : 3;
	uint32_t value = more == 0 ? *c : *c & (0x3f >> more);

	for (unsigned i = 1; i <= more; i++)
		value = value << 6 | (c[i] & 0x3f);
	*at += more + 1;
	return value;
}

/* An id in the path; NULL after an answer. */
static const char *checked_id(struct asked *a)
{
	const char *id = a->segment[1];

	if (!*id) {
		reply_fault(a->reply, "The ID cannot be empty.");
		return NULL;
	}
	for (const char *at = id; *at;) {
		uint32_t c = next_character(&at);
		bool good = c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z' && c < 0x80);

		if (!good && (c < 0x80 || !is_letter(c))) {
			reply_fault(a->reply,
				    "API Resource IDs can only contain alphanumeric characters and underscores.");
			return NULL;
		}
	}
	return id;
}

static bool body_fault(struct asked *a, const char *problem)
{
	return reply_fault(a->reply, "An error occurred when deserializing the json body of a request: %s.", problem);
}

static bool json_fault(struct asked *a, const struct json_text *t)
{
	return body_fault(a, t->error);
}

static bool body(struct asked *a, enum action_kind kind, const struct schema *schema, void *to)
{
	struct json_text t;

	a->action->kind = kind;
	return schema_read(&t, (const char *)a->http->body, a->http->body_bytes, schema, to, &a->action->arena) ||
	       json_fault(a, &t);
}

static bool simple(struct asked *a, enum action_kind kind)
{
	a->action->kind = kind;
	return true;
}

static bool deprecated(struct asked *a, bool condition, const char *words)
{
	if (condition)
		a->action->deprecated = words;
	return true;
}

static bool any_json(struct asked *a, enum action_kind kind)
{
	struct json_text t;

	a->action->kind = kind;
	scan_begin(&t, (const char *)a->http->body, a->http->body_bytes);
	if (!scan_skip(&t) || !scan_end(&t))
		return json_fault(a, &t);
	a->action->json = (struct schema_raw){(const char *)a->http->body, a->http->body_bytes};
	return true;
}

static bool same_id(struct asked *a, const char *path_id, const char *body_id)
{
	return !strcmp(path_id, body_id) ||
	       reply_fault(a->reply, "The id from the path does not match the id from the body!");
}

static bool same_net_id(struct asked *a, const char *path_id, const char *body_id)
{
	return !strcmp(path_id, body_id) ||
	       reply_fault(a->reply, "The id from the path [%s] does not match the id from the body [%s]!", path_id,
			   body_id);
}

static bool put_machine(struct asked *a)
{
	struct body_machine *m = &a->action->u.machine;

	if (!body(a, ACTION_PUT_MACHINE, &schema_machine_put, m))
		return false;
	/* what a PUT leaves out is reset, but for the template */
	m->has_smt = m->has_track = m->has_huge = true;
	return deprecated(a, m->has_template, "PUT /machine-config: cpu_template field is deprecated.");
}

static bool patch_machine(struct asked *a)
{
	struct body_machine *m = &a->action->u.machine;

	if (!body(a, ACTION_PUT_MACHINE, &schema_machine_patch, m))
		return false;
	if (!m->has_vcpus && !m->has_memory && !m->has_smt && !m->has_template && !m->has_track && !m->has_huge)
		return reply_fault(a->reply, "Empty PATCH request.");
	return deprecated(a, m->has_template, "PATCH /machine-config: cpu_template field is deprecated.");
}

static bool put_drive(struct asked *a)
{
	struct body_drive *drive = &a->action->u.drive;
	const char *id = checked_id(a);

	return id && body(a, ACTION_PUT_DRIVE, &schema_drive, drive) && same_id(a, id, drive->drive_id);
}

static bool patch_drive(struct asked *a)
{
	struct body_drive_patch *drive = &a->action->u.drive_patch;
	const char *id = checked_id(a);

	return id && body(a, ACTION_PATCH_DRIVE, &schema_drive_patch, drive) && same_id(a, id, drive->drive_id);
}

static bool put_net(struct asked *a)
{
	struct body_net *net = &a->action->u.net;
	const char *id = checked_id(a);

	return id && body(a, ACTION_PUT_NET, &schema_net, net) && same_net_id(a, id, net->iface_id);
}

static bool patch_net(struct asked *a)
{
	struct body_net_patch *net = &a->action->u.net_patch;
	const char *id = checked_id(a);

	return id && body(a, ACTION_PATCH_NET, &schema_net_patch, net) && same_net_id(a, id, net->iface_id);
}

static bool put_pmem(struct asked *a)
{
	struct body_pmem *pmem = &a->action->u.pmem;
	const char *id = checked_id(a);

	return id && body(a, ACTION_PUT_PMEM, &schema_pmem, pmem) && same_id(a, id, pmem->id);
}

static bool patch_pmem(struct asked *a)
{
	struct body_drive_patch *pmem = &a->action->u.drive_patch;
	const char *id = checked_id(a);

	return id && body(a, ACTION_PATCH_PMEM, &schema_pmem_patch, pmem) && same_id(a, id, pmem->drive_id);
}

static bool put_vsock(struct asked *a)
{
	struct body_vsock *vsock = &a->action->u.vsock;

	return body(a, ACTION_PUT_VSOCK, &schema_vsock, vsock) &&
	       deprecated(a, vsock->vsock_id, "PUT /vsock: vsock_id field is deprecated.");
}

static bool put_mmds(struct asked *a)
{
	struct body_mmds *mmds = &a->action->u.mmds;

	if (a->segments < 2)
		return any_json(a, ACTION_PUT_MMDS);
	if (strcmp(a->segment[1], "config"))
		return reply_fault(a->reply, "Unrecognized PUT request path `%s`.", a->segment[1]);
	return body(a, ACTION_PUT_MMDS_CONFIG, &schema_mmds, mmds) &&
	       deprecated(a, mmds->version == BODY_MMDS_V1, "PUT /mmds/config: V1 is deprecated. Use V2 instead.");
}

static bool put_actions(struct asked *a)
{
	struct body_instance instance;

	if (!body(a, ACTION_START, &schema_instance, &instance))
		return false;
	a->action->kind = instance.action_type == INSTANCE_START           ? ACTION_START
			  : instance.action_type == INSTANCE_FLUSH_METRICS ? ACTION_FLUSH_METRICS
									   : ACTION_CTRL_ALT_DEL;
	return true;
}

static bool patch_vm(struct asked *a)
{
	struct body_vm vm;

	if (!body(a, ACTION_PAUSE, &schema_vm, &vm))
		return false;
	a->action->kind = vm.state == VM_STATE_PAUSED ? ACTION_PAUSE : ACTION_RESUME;
	return true;
}

static bool load_snapshot(struct asked *a)
{
	struct body_snapshot_load *load = &a->action->u.snapshot_load;

	if (!body(a, ACTION_SNAPSHOT_LOAD, &schema_snapshot_load, load))
		return false;
	if (load->has_backend && load->mem_file_path)
		return body_fault(a,
				  "too many fields: either `mem_backend` or `mem_file_path` exclusively is required");
	if (!load->has_backend && !load->mem_file_path)
		return body_fault(a, "missing field: either `mem_backend` or `mem_file_path` is required");
	deprecated(a, load->has_diff, "PUT /snapshot/load: enable_diff_snapshots field is deprecated.");
	return deprecated(a, load->mem_file_path, "PUT /snapshot/load: mem_file_path field is deprecated.");
}

static bool put_snapshot(struct asked *a)
{
	char path[SEGMENT_BYTES + 16];

	if (a->segments < 2)
		return reply_fault(a->reply, "Missing snapshot operation type.");
	if (!strcmp(a->segment[1], "create")) {
		a->action->u.snapshot_create = BODY_SNAPSHOT_DEFAULTS;
		return body(a, ACTION_SNAPSHOT_CREATE, &schema_snapshot_create, &a->action->u.snapshot_create);
	}
	if (!strcmp(a->segment[1], "load"))
		return load_snapshot(a);
	snprintf(path, sizeof path, "/snapshot/%s", a->segment[1]);
	return unknown(a, path);
}

static bool put_hotplug(struct asked *a)
{
	a->action->u.hotplug = BODY_HOTPLUG_DEFAULTS;
	return body(a, ACTION_PUT_HOTPLUG, &schema_hotplug, &a->action->u.hotplug);
}

static bool get_balloon(struct asked *a)
{
	if (a->segments < 2)
		return simple(a, ACTION_GET_BALLOON);
	if (!strcmp(a->segment[1], "statistics"))
		return simple(a, ACTION_GET_BALLOON_STATS);
	if (!strcmp(a->segment[1], "hinting") && !strcmp(a->segment[2], "status"))
		return simple(a, ACTION_GET_HINTING);
	if (!strcmp(a->segment[1], "hinting"))
		return reply_fault(a->reply, "Unrecognized GET request path `/hinting/%s`.", a->segment[2]);
	return reply_fault(a->reply, "Unrecognized GET request path `%s`.", a->segment[1]);
}

static bool patch_hinting(struct asked *a)
{
	if (!strcmp(a->segment[2], "stop"))
		return simple(a, ACTION_HINTING_STOP);
	if (!strcmp(a->segment[2], "start")) {
		a->action->u.hinting.acknowledge_on_stop = true;
		if (!a->http->body_bytes)
			return simple(a, ACTION_HINTING_START);
		return body(a, ACTION_HINTING_START, &schema_hinting, &a->action->u.hinting);
	}
	return reply_fault(a->reply, "Unrecognized PATCH request path `/hinting/%s`.", a->segment[2]);
}

static bool patch_balloon(struct asked *a)
{
	if (!strcmp(a->segment[1], "hinting"))
		return patch_hinting(a);
	if (!a->http->body_bytes)
		return reply_fault(a->reply, "Empty PATCH request.");
	if (!strcmp(a->segment[1], "statistics"))
		return body(a, ACTION_PATCH_BALLOON_STATS, &schema_balloon_stats, &a->action->u.balloon_stats);
	return body(a, ACTION_PATCH_BALLOON, &schema_balloon_amount, &a->action->u.balloon_amount);
}

static bool delete_one(struct asked *a, enum action_kind kind)
{
	const char *id = checked_id(a);

	if (!id)
		return false;
	a->action->kind = kind;
	a->action->id = arena_copy(&a->action->arena, id);
	return a->action->id || reply_fault(a->reply, "Out of memory.");
}

static bool is(const struct asked *a, const char *first)
{
	return !strcmp(a->segment[0], first);
}

static bool is_pair(const struct asked *a, const char *first, const char *second)
{
	return is(a, first) && !strcmp(a->segment[1], second);
}

static bool get(struct asked *a)
{
	if (a->http->body_bytes)
		return reply_fault(a->reply, "GET request cannot have a body.");
	if (is(a, ""))
		return simple(a, ACTION_GET_INFO);
	if (is(a, "balloon"))
		return get_balloon(a);
	if (is(a, "version"))
		return simple(a, ACTION_GET_VERSION);
	if (is_pair(a, "vm", "config"))
		return simple(a, ACTION_GET_CONFIG);
	if (is(a, "machine-config"))
		return simple(a, ACTION_GET_MACHINE);
	if (is(a, "mmds"))
		return simple(a, ACTION_GET_MMDS);
	if (is_pair(a, "hotplug", "memory"))
		return simple(a, ACTION_GET_HOTPLUG);
	return unknown(a, a->segment[0]);
}

static bool put(struct asked *a)
{
	struct action *action = a->action;

	if (!a->http->body_bytes)
		return reply_fault(a->reply, "Empty PUT request.");
	if (is(a, "actions"))
		return put_actions(a);
	if (is(a, "balloon"))
		return body(a, ACTION_PUT_BALLOON, &schema_balloon, &action->u.balloon);
	if (is(a, "boot-source"))
		return body(a, ACTION_PUT_BOOT_SOURCE, &schema_boot_source, &action->u.boot_source);
	if (is(a, "cpu-config"))
		return body(a, ACTION_PUT_CPU, &schema_cpu, &action->u.cpu);
	if (is(a, "drives"))
		return put_drive(a);
	if (is(a, "pmem"))
		return put_pmem(a);
	if (is(a, "logger"))
		return body(a, ACTION_PUT_LOGGER, &schema_logger, &action->u.logger);
	if (is(a, "serial"))
		return body(a, ACTION_PUT_SERIAL, &schema_serial, &action->u.serial);
	if (is(a, "machine-config"))
		return put_machine(a);
	if (is(a, "metrics"))
		return body(a, ACTION_PUT_METRICS, &schema_metrics, &action->u.metrics);
	if (is(a, "mmds"))
		return put_mmds(a);
	if (is(a, "network-interfaces"))
		return put_net(a);
	if (is(a, "snapshot"))
		return put_snapshot(a);
	if (is(a, "vsock"))
		return put_vsock(a);
	if (is(a, "entropy"))
		return body(a, ACTION_PUT_ENTROPY, &schema_entropy, &action->u.entropy);
	if (is_pair(a, "hotplug", "memory"))
		return put_hotplug(a);
	return unknown(a, a->segment[0]);
}

static bool patch(struct asked *a)
{
	if (is(a, "balloon"))
		return patch_balloon(a);
	if (!a->http->body_bytes)
		return reply_fault(a->reply, "Empty PATCH request.");
	if (is(a, "drives"))
		return patch_drive(a);
	if (is(a, "machine-config"))
		return patch_machine(a);
	if (is(a, "mmds"))
		return any_json(a, ACTION_PATCH_MMDS);
	if (is(a, "network-interfaces"))
		return patch_net(a);
	if (is(a, "pmem"))
		return patch_pmem(a);
	if (is(a, "vm"))
		return patch_vm(a);
	if (is_pair(a, "hotplug", "memory"))
		return body(a, ACTION_PATCH_HOTPLUG, &schema_hotplug_patch, &a->action->u.hotplug_patch);
	return unknown(a, a->segment[0]);
}

static bool delete_any(struct asked *a)
{
	if (a->http->body_bytes)
		return reply_fault(a->reply, "DELETE request cannot have a body.");
	if (is(a, "drives"))
		return delete_one(a, ACTION_DELETE_DRIVE);
	if (is(a, "network-interfaces"))
		return delete_one(a, ACTION_DELETE_NET);
	if (is(a, "pmem"))
		return delete_one(a, ACTION_DELETE_PMEM);
	return unknown(a, a->segment[0]);
}

bool router_parse(const struct http_request *request, struct action *action, struct reply *reply)
{
	static bool (*const by_method[])(struct asked *) = {
	    [HTTP_GET] = get, [HTTP_PUT] = put, [HTTP_PATCH] = patch, [HTTP_DELETE] = delete_any};
	struct asked asked = {.http = request, .action = action, .reply = reply};

	memset(action, 0, sizeof *action);
	split(&asked);
	if (by_method[request->method](&asked))
		return true;
	arena_free(&action->arena);
	return false;
}

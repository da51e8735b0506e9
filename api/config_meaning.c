/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the values of a configuration file mean. Each section is applied as a request would be. A value that is refused
 * is told by its key and replaced by a harmless one, so that the next try shows what else is wrong; so is one that
 * could not be read, which has been told.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/config_parts.h"
#include "api/vmm.h"

#define TRIES 16u /* more than a section has keys */

typedef bool put_function(struct vmm *vmm, struct action *action, struct reply *reply);

struct meaning {
	struct check *c;
	struct vmm *vmm;
	bool memory_unknown, nets_unknown; /* what is compared with them cannot be judged */
};

/* A section, or an element of one, while it is applied. */
struct section;
struct trial {
	struct meaning *m;
	const struct section *section;
	const struct part *part;
	struct action action;
	uint64_t good;         /* fields that were read, by their numbers */
	const char *place[64]; /* of each field's value */
};

/* Which key the words of a refusal are about. */
struct rule {
	const char *words, *key;
};

struct section {
	const char *name;
	put_function *put;
	const struct schema *schema;
	bool list;
	/* puts something in a key's place that is not refused */
	void (*mend)(struct trial *trial, const char *key);
	const struct rule *rules; /* ended by one without words */
};

static bool is(const char *key, const char *name)
{
	return !strcmp(key, name);
}

static void mend_machine(struct trial *t, const char *key)
{
	struct body_machine *b = &t->action.u.machine;

	if (is(key, "vcpu_count")) {
		b->vcpu_count = 1;
		b->has_vcpus = true;
	} else if (is(key, "mem_size_mib")) {
		b->mem_size_mib = 1024;
		b->has_memory = true;
		t->m->memory_unknown = true;
	}
}

static const struct rule machine_rules[] = {{"number of vCPUs", "vcpu_count"}, {"memory size", "mem_size_mib"}, {0}};

static void mend_boot(struct trial *t, const char *key)
{
	struct body_boot_source *b = &t->action.u.boot_source;

	if (is(key, "kernel_image_path"))
		b->kernel_image_path = "/dev/null";
	else if (is(key, "initrd_path"))
		b->initrd_path = NULL;
	else if (is(key, "boot_args"))
		b->boot_args = NULL;
	else if (is(key, "layout_out"))
		b->layout_out = NULL;
}

static const struct rule boot_rules[] = {{"kernel file", "kernel_image_path"},
					 {"initrd file", "initrd_path"},
					 {"command line", "boot_args"},
					 {"layout_out", "layout_out"},
					 {0}};

static void mend_drive(struct trial *t, const char *key)
{
	struct body_drive *b = &t->action.u.drive;

	if (is(key, "drive_id")) {
		b->drive_id = arena_copy(&t->action.arena, t->part->key); /* no other has that */
	} else if (is(key, "is_root_device")) {
		b->is_root_device = false;
	} else if (is(key, "path_on_host") || is(key, "socket")) {
		b->path_on_host = "/dev/null";
		b->socket = NULL;
	}
}

static const struct rule drive_rules[] = {{"root block device", "is_root_device"},
					  {"Vhost", "socket"},
					  {"Invalid block config", "path_on_host"},
					  {"backing file", "path_on_host"},
					  {0}};

static void mend_net(struct trial *t, const char *key)
{
	struct body_net *b = &t->action.u.net;

	if (is(key, "iface_id")) {
		b->iface_id = arena_copy(&t->action.arena, t->part->key);
		t->m->nets_unknown = true;
	} else if (is(key, "guest_mac")) {
		b->has_mac = false;
	} else if (is(key, "mtu")) {
		b->has_mtu = false;
	} else if (is(key, "host_dev_name")) {
		b->host_dev_name = "tap";
	}
}

static const struct rule net_rules[] = {{"MAC address", "guest_mac"}, {"MTU", "mtu"}, {0}};

static void mend_vsock(struct trial *t, const char *key)
{
	if (is(key, "uds_path"))
		t->action.u.vsock.uds_path = "v";
}

static const struct rule vsock_rules[] = {{"path must", "uds_path"}, {0}};

static void mend_balloon(struct trial *t, const char *key)
{
	if (is(key, "amount_mib"))
		t->action.u.balloon.amount_mib = 0;
}

static const struct rule balloon_rules[] = {{"Amount of pages", "amount_mib"}, {0}};

static void mend_mmds(struct trial *t, const char *key)
{
	struct body_mmds *b = &t->action.u.mmds;

	if (is(key, "ipv4_address"))
		b->has_address = false;
}

static const struct rule mmds_rules[] = {
    {"IPv4 address", "ipv4_address"}, {"network interface IDs", "network_interfaces"}, {0}};

static void mend_entropy(struct trial *t, const char *key)
{
	(void)t;
	(void)key;
}

static const struct rule no_rules[] = {{0}};

static void mend_pmem(struct trial *t, const char *key)
{
	struct body_pmem *b = &t->action.u.pmem;

	if (is(key, "id"))
		b->id = arena_copy(&t->action.arena, t->part->key);
	else if (is(key, "root_device"))
		b->root_device = false;
	else if (is(key, "path_on_host"))
		b->path_on_host = "/dev/zero"; /* which is no empty file */
}

static const struct rule pmem_rules[] = {
    {"root device", "root_device"}, {"root pmem device", "root_device"}, {"backing file", "path_on_host"}, {0}};

/* The sizes are compared with each other. */
static void mend_hotplug(struct trial *t, const char *key)
{
	struct body_hotplug *b = &t->action.u.hotplug;

	if (is(key, "block_size_mib"))
		b->block_size_mib = 2;
	else if (is(key, "slot_size_mib"))
		b->slot_size_mib = b->block_size_mib < 128 ? 128 : b->block_size_mib;
	else if (is(key, "total_size_mib"))
		b->total_size_mib = b->slot_size_mib;
}

static const struct rule hotplug_rules[] = {
    {"Block size", "block_size_mib"}, {"Slot size", "slot_size_mib"}, {"Total size", "total_size_mib"}, {0}};

/* In the order in which they are applied, whatever theirs in the file: later ones are judged by earlier ones. */
static const struct section sections[] = {
    {"machine-config", vmm_put_machine, &schema_machine_put, false, mend_machine, machine_rules},
    {"boot-source", vmm_put_boot_source, &schema_boot_source, false, mend_boot, boot_rules},
    {"drives", vmm_put_drive, &schema_drive, true, mend_drive, drive_rules},
    {"network-interfaces", vmm_put_net, &schema_net, true, mend_net, net_rules},
    {"vsock", vmm_put_vsock, &schema_vsock, false, mend_vsock, vsock_rules},
    {"balloon", vmm_put_balloon, &schema_balloon, false, mend_balloon, balloon_rules},
    {"mmds-config", vmm_put_mmds_config, &schema_mmds, false, mend_mmds, mmds_rules},
    {"entropy", vmm_put_entropy, &schema_entropy, false, mend_entropy, no_rules},
    {"pmem", vmm_put_pmem, &schema_pmem, true, mend_pmem, pmem_rules},
    {"memory-hotplug", vmm_put_hotplug, &schema_hotplug, false, mend_hotplug, hotplug_rules},
};
#define SECTIONS (sizeof sections / sizeof *sections)

static void read_member(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct trial *t = opaque;
	const struct schema *schema = t->section->schema;
	const size_t which = config_field(schema, name);
	const struct action before = t->action;
	struct json_text text;

	(void)at;
	if (which == schema->count || t->place[which])
		return;
	t->place[which] = value->text;
	if (schema_read_value(&text, value->text, value->bytes, &schema->fields[which], &t->action.u, &t->action.arena))
		t->good |= UINT64_C(1) << which;
	else
		t->action.u = before.u; /* of a list or an object a part may have been read */
}

/* What could not be read, or is missing though it must be there. */
static bool is_unknown(const struct trial *t, size_t which)
{
	return !(t->good & UINT64_C(1) << which) &&
	       (t->place[which] || t->section->schema->fields[which].flags & SCHEMA_REQUIRED);
}

/* Whether a refusal that is about the key says something: not of what is unknown, or compared with what is. */
static bool counts(const struct trial *t, size_t which, const char *key)
{
	return (which == t->section->schema->count || !is_unknown(t, which)) &&
	       !(t->m->memory_unknown && is(key, "amount_mib")) &&
	       !(t->m->nets_unknown && is(key, "network_interfaces"));
}

/* Tells what is wrong, and mends it; false: nothing can be. */
static bool refused(struct trial *t, const char *text)
{
	const struct schema *schema = t->section->schema;
	const struct rule *rule = t->section->rules;
	const char *colon = strstr(text, ": ");
	char key[CONFIG_KEY_BYTES];

	text = colon ? colon + 2 : text;
	while (rule->words && !strstr(text, rule->words))
		rule++;
	if (!rule->words) {
		config_report(t->m->c, t->part->text, t->part->key, text);
		return false;
	}
	const size_t which = config_field(schema, rule->key);

	if (counts(t, which, rule->key)) {
		config_join(key, t->part->key, rule->key);
		config_report(t->m->c, t->place[which] ? t->place[which] : t->part->text, key, text);
	}
	t->section->mend(t, rule->key);
	return !is(rule->key, "network_interfaces");
}

static void try_part(struct meaning *m, const struct section *section, const struct part *part)
{
	struct trial t = {.m = m, .section = section, .part = part};
	bool done = *part->text != '{';

	if (section->schema == &schema_hotplug)
		t.action.u.hotplug = BODY_HOTPLUG_DEFAULTS;
	if (!done)
		config_members(part, read_member, &t);
	for (size_t i = 0; i < section->schema->count; i++)
		if (!done && is_unknown(&t, i))
			section->mend(&t, section->schema->fields[i].name);
	for (unsigned i = 0; !done && i < TRIES; i++) {
		struct reply reply = {0};

		done = section->put(m->vmm, &t.action, &reply) || !refused(&t, reply.body ? reply.body : "");
		reply_free(&reply);
	}
	arena_free(&t.action.arena);
}

struct element_trial {
	struct meaning *m;
	const struct section *section;
};

static void try_element(void *opaque, const struct part *element)
{
	const struct element_trial *e = opaque;

	try_part(e->m, e->section, element);
}

/* ---- files that would be written, which no request is made for ---- */

/* What opening a file for writing would fail with, that is made if it is not there; 0: nothing. */
static int write_problem(const char *path, bool must_be_new)
{
	struct stat st;
	char *copy;
	int number;

	if (!stat(path, &st))
		return must_be_new ? EEXIST : S_ISDIR(st.st_mode) ? EISDIR : access(path, W_OK) ? errno : 0;
	if (errno != ENOENT)
		return errno;
	copy = strdup(path);
	number = copy && access(dirname(copy), W_OK | X_OK) ? errno : 0;
	free(copy);
	return number;
}

/* What taking from a stock would fail with at once. */
static int stock_problem(const char *from)
{
	const bool socket = !strncmp(from, "unix:", 5);
	struct stat st;

	if (stat(socket ? from + 5 : from, &st))
		return errno;
	return socket ? S_ISSOCK(st.st_mode) ? 0 : ENOTSOCK : S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
}

static void check_file(void *opaque, const char *name, const char *at, const struct part *value)
{
	static const char *const keys[] = {"logger.log_path", "metrics.metrics_path", "boot-source.layout_out",
					   "boot-source.stock"};
	struct check *c = opaque;
	struct json_text t;
	char problem[200], *path;
	size_t bytes, which = 0;
	int number;

	(void)name;
	(void)at;
	while (which < 4 && !is(value->key, keys[which]))
		which++;
	if (which == 4 || *value->text != '"')
		return;
	scan_begin(&t, value->text, value->bytes);
	if (!scan_string(&t, &path, &bytes))
		return;
	number = strlen(path) != bytes ? 0 : which == 3 ? stock_problem(path) : write_problem(path, which == 2);
	free(path);
	if (!number)
		return;
	snprintf(problem, sizeof problem, "cannot be %s: %s",
		 which == 3   ? "opened"
		 : which == 2 ? "made"
			      : "opened for writing",
		 strerror(number));
	config_report(c, value->text, value->key, problem);
}

/* ---- the whole ---- */

/* Where each section is, first those that are applied; "" if it is not there. */
struct found {
	struct check *c;
	struct part parts[SECTIONS];
};

static void find_section(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct found *found = opaque;

	(void)at;
	for (size_t i = 0; i < SECTIONS; i++)
		if (is(name, sections[i].name) && *value->text != 'n' && !found->parts[i].text)
			found->parts[i] = *value;
	config_members(value, check_file, found->c);
}

struct place_of {
	const char *name, *text;
};

static void find_place(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct place_of *place = opaque;

	(void)at;
	if (is(name, place->name) && !place->text)
		place->text = value->text;
}

/* What only all of it together shows: devices that find no place, in the machine or on the kernel's command line. */
static void check_whole(struct meaning *m, const struct found *found)
{
	const struct part *drives = NULL, *boot = NULL;
	struct place_of line = {.name = "boot_args"};
	struct riffle_error error;
	char problem[300], key[CONFIG_KEY_BYTES];

	for (size_t i = 0; i < SECTIONS; i++)
		if (is(sections[i].name, "drives"))
			drives = &found->parts[i];
		else if (is(sections[i].name, "boot-source"))
			boot = &found->parts[i];
	if (!drives->text || !boot->text || !m->vmm->resources.boot_source.set || !vmm_check_machine(m->vmm, &error))
		return;
	riffle_error_format(&error, problem, sizeof problem);
	if (strcmp(error.field, "command line") != 0 && strcmp(error.field, "command_line") != 0) {
		config_report(m->c, drives->text, drives->key, problem);
		return;
	}
	config_join(key, boot->key, line.name);
	config_members(boot, find_place, &line);
	config_report(m->c, line.text ? line.text : boot->text, key, problem);
}

void config_check_meaning(struct check *c, const struct part *file)
{
	const struct vmm_settings settings = {.id = FIRECRACKER_DEFAULT_ID, .checks_only = true};
	struct vmm *vmm = calloc(1, sizeof *vmm);
	struct found found = {.c = c};
	struct meaning m = {.c = c, .vmm = vmm};

	if (!vmm)
		return;
	vmm_init(vmm, &settings);
	config_members(file, find_section, &found);
	for (size_t i = 0; i < SECTIONS; i++) {
		struct element_trial e = {&m, &sections[i]};

		if (found.parts[i].text && sections[i].list)
			config_elements(&found.parts[i], try_element, &e);
		else if (found.parts[i].text)
			try_part(&m, &sections[i], &found.parts[i]);
	}
	check_whole(&m, &found);
	vmm_destroy(vmm);
	free(vmm);
}

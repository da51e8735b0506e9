/* SPDX-License-Identifier: Apache-2.0 */
/* Every fault of a configuration file, each with its line and key, where reading it for use stops at the first. */
#include "api/config_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/config_file.h"
#include "host/input.h"

#define KEY_BYTES 256u

struct check {
	config_fault *fault;
	void *opaque;
	unsigned faults;
	/* a place in the text and its line: the next fault is not far from it */
	const char *at;
	unsigned line;
	struct arena arena;
};

/* A value in the file: where it begins, and what it is called. */
struct part {
	const char *text;
	size_t bytes;
	char key[KEY_BYTES];
};

static unsigned line_of(struct check *c, const char *at)
{
	for (; c->at < at; c->at++)
		c->line += *c->at == '\n';
	while (c->at > at)
		c->line -= *--c->at == '\n';
	return c->line;
}

static void report(struct check *c, const char *at, const char *key, const char *problem)
{
	c->faults++;
	c->fault(c->opaque, line_of(c, at), key, problem);
}

/* serde's words end in " at line L column C", counted from where the part begins. */
static void report_scan(struct check *c, const struct part *part, const char *key, const struct json_text *t)
{
	char problem[JSON_ERROR_BYTES];
	const char *place = NULL;
	unsigned line = 1;

	for (const char *p = t->error; (p = strstr(p, " at line ")); p++)
		place = p;
	if (place)
		line = (unsigned)strtoul(place + 9, NULL, 10);
	snprintf(problem, sizeof problem, "%.*s", place ? (int)(place - t->error) : (int)sizeof problem - 1, t->error);
	c->faults++;
	c->fault(c->opaque, line_of(c, part->text) + (line ? line - 1 : 0), key, problem);
}

static void join(char *to, const char *path, const char *name)
{
	snprintf(to, KEY_BYTES, "%.120s%s%.120s", path, *path ? "." : "", name);
}

static const struct schema_field *find_field(const struct schema *schema, const char *name)
{
	for (size_t i = 0; i < schema->count; i++)
		if (!strcmp(schema->fields[i].name, name))
			return &schema->fields[i];
	return NULL;
}

/*
 * Calls `each` for each member of an object whose syntax is known to be good; each() gets the key's place and the
 * value.
 */
static void each_member(const struct part *object,
			void (*each)(void *opaque, const char *name, const char *at, const struct part *value),
			void *opaque)
{
	struct json_text t;
	bool first = true, more;

	scan_begin(&t, object->text, object->bytes);
	if (scan_peek(&t) != '{' || !scan_enter(&t))
		return;
	while (scan_next_key(&t, &first, &more) && more) {
		const char *at = t.at;
		struct part value;
		size_t bytes;
		char *name;

		if (!scan_string(&t, &name, &bytes))
			return;
		if (scan_colon(&t) && scan_peek(&t) >= 0) {
			value.text = t.at;
			join(value.key, object->key, name);
			if (scan_skip(&t)) {
				value.bytes = (size_t)(t.at - value.text);
				each(opaque, name, at, &value);
			}
		}
		free(name);
		if (t.failed)
			return;
	}
}

static void check_struct(struct check *c, const struct schema *schema, const struct part *part);

/* One field of an object by itself: whatever else is wrong there is somebody else's. */
static void check_alone(struct check *c, const struct schema *schema, const struct schema_field *field,
			const struct part *part)
{
	const struct schema alone = {
	    .name = schema->name, .fields = field, .count = 1, .bytes = schema->bytes, .open = true};
	void *object = calloc(1, schema->bytes);
	struct json_text t;
	char key[KEY_BYTES];

	join(key, part->key, field->name);
	if (object && !schema_read(&t, part->text, part->bytes, &alone, object, &c->arena))
		report_scan(c, part, key, &t);
	free(object);
}

static void check_list(struct check *c, const struct schema *schema, const struct part *list)
{
	struct json_text t;
	bool first = true, more;
	unsigned index = 0;

	scan_begin(&t, list->text, list->bytes);
	if (!scan_enter(&t))
		return;
	while (scan_next_element(&t, &first, &more) && more && scan_peek(&t) >= 0) {
		struct part element = {.text = t.at};

		if (!scan_skip(&t))
			return;
		element.bytes = (size_t)(t.at - element.text);
		snprintf(element.key, sizeof element.key, "%.*s[%u]", (int)KEY_BYTES - 16, list->key, index++);
		check_struct(c, schema, &element);
	}
}

struct member {
	struct check *c;
	const struct schema *schema;
	const struct part *object;
	const struct schema_field *field; /* the one that is looked for */
	struct part value;
	bool found;
};

static void remember(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct member *m = opaque;

	(void)at;
	if (strcmp(name, m->field->name) || m->found)
		return;
	m->value = *value;
	m->found = true;
}

static void check_field(struct check *c, const struct schema *schema, const struct schema_field *field,
			const struct part *object)
{
	struct member m = {.c = c, .schema = schema, .field = field};

	each_member(object, remember, &m);
	if (m.found && field->kind == SCHEMA_STRUCT && *m.value.text == '{')
		check_struct(c, field->schema, &m.value);
	else if (m.found && field->kind == SCHEMA_LIST && field->element->kind == SCHEMA_STRUCT && *m.value.text == '[')
		check_list(c, field->element->schema, &m.value);
	else
		check_alone(c, schema, field, object);
}

static void check_name(void *opaque, const char *name, const char *at, const struct part *value)
{
	const struct member *m = opaque;

	if (find_field(m->schema, name))
		return;
	if (m->schema->open && *m->object->key)
		return;
	report(m->c, at, value->key,
	       *m->object->key ? "there is no such key" : "there is no such section: it is ignored");
}

static void check_struct(struct check *c, const struct schema *schema, const struct part *part)
{
	struct member m = {.c = c, .schema = schema, .object = part};
	struct json_text t;

	scan_begin(&t, part->text, part->bytes);
	if (scan_peek(&t) != '{') {
		report(c, part->text, part->key, "is no object");
		return;
	}
	each_member(part, check_name, &m);
	for (size_t i = 0; i < schema->count; i++)
		check_field(c, schema, &schema->fields[i], part);
}

/* ---- what values mean: each section as a request, but for those that would change the host ---- */

struct meaning {
	struct check *c;
	struct vmm *vmm;
};

typedef bool put_function(struct vmm *vmm, struct action *action, struct reply *reply);

static void try_put(struct meaning *m, put_function *put, const struct part *part, const struct schema *schema,
		    bool fixed)
{
	struct action action = {0};
	struct reply reply = {0};
	struct json_text t;

	if (schema == &schema_hotplug)
		action.u.hotplug = BODY_HOTPLUG_DEFAULTS;
	if (schema_read(&t, part->text, part->bytes, schema, &action.u, &action.arena)) {
		if (fixed)
			action.u.machine.has_smt = action.u.machine.has_track = action.u.machine.has_huge = true;
		if (!put(m->vmm, &action, &reply)) {
			const char *text = reply.body ? reply.body : "", *colon = strstr(text, ": ");

			report(m->c, part->text, part->key, colon ? colon + 2 : text);
		}
	}
	reply_free(&reply);
	arena_free(&action.arena);
}

static void try_list(struct meaning *m, put_function *put, const struct part *list, const struct schema *schema)
{
	struct json_text t;
	bool first = true, more;
	unsigned index = 0;

	scan_begin(&t, list->text, list->bytes);
	if (scan_peek(&t) != '[' || !scan_enter(&t))
		return;
	while (scan_next_element(&t, &first, &more) && more && scan_peek(&t) >= 0) {
		struct part element = {.text = t.at};

		if (!scan_skip(&t))
			return;
		element.bytes = (size_t)(t.at - element.text);
		snprintf(element.key, sizeof element.key, "%.*s[%u]", (int)KEY_BYTES - 16, list->key, index++);
		try_put(m, put, &element, schema, false);
	}
}

/* "cpu-config", by whichever way it is given. */
static void try_cpu(struct meaning *m, const struct part *part)
{
	if (*part->text == '{')
		try_put(m, vmm_put_cpu, part, &schema_cpu, false);
}

/* In the order in which they are applied, whatever theirs in the file: later ones are judged by earlier ones. */
static const struct section {
	const char *name;
	put_function *put;
	const struct schema *schema;
	bool list;
} sections[] = {
    {"machine-config", vmm_put_machine, &schema_machine_put, false},
    {"cpu-config", NULL, &schema_cpu, false},
    {"boot-source", vmm_put_boot_source, &schema_boot_source, false},
    {"drives", vmm_put_drive, &schema_drive, true},
    {"network-interfaces", vmm_put_net, &schema_net, true},
    {"vsock", vmm_put_vsock, &schema_vsock, false},
    {"balloon", vmm_put_balloon, &schema_balloon, false},
    {"mmds-config", vmm_put_mmds_config, &schema_mmds, false},
    {"entropy", vmm_put_entropy, &schema_entropy, false},
    {"pmem", vmm_put_pmem, &schema_pmem, true},
    {"memory-hotplug", vmm_put_hotplug, &schema_hotplug, false},
};
#define SECTIONS (sizeof sections / sizeof *sections)

/* Where each is, "" if it is not there. */
static void find_section(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct part *found = opaque;

	(void)at;
	for (size_t i = 0; i < SECTIONS; i++)
		if (!strcmp(name, sections[i].name) && strncmp(value->text, "null", 4))
			found[i] = *value;
}

/* What only all of it together shows: devices that find no place, in the machine or on the kernel's command line. */
static void check_whole(struct meaning *m, const struct part *found)
{
	const struct part *drives = NULL, *boot = NULL;
	struct riffle_error error;
	char problem[300], key[KEY_BYTES];

	for (size_t i = 0; i < SECTIONS; i++)
		if (!strcmp(sections[i].name, "drives"))
			drives = &found[i];
		else if (!strcmp(sections[i].name, "boot-source"))
			boot = &found[i];
	if (!drives->text || !boot->text || !vmm_check_machine(m->vmm, &error))
		return;
	riffle_error_format(&error, problem, sizeof problem);
	if (strcmp(error.field, "command line") != 0 && strcmp(error.field, "command_line") != 0) {
		report(m->c, drives->text, drives->key, problem);
		return;
	}
	join(key, boot->key, "boot_args");
	report(m->c, boot->text, key, problem);
}

static void check_meaning(struct check *c, const struct part *file)
{
	const struct vmm_settings settings = {.id = FIRECRACKER_DEFAULT_ID, .checks_only = true};
	struct vmm *vmm = calloc(1, sizeof *vmm);
	struct part found[SECTIONS] = {{.text = NULL}};
	struct meaning m = {c, vmm};

	if (!vmm)
		return;
	vmm_init(vmm, &settings);
	each_member(file, find_section, found);
	for (size_t i = 0; i < SECTIONS; i++) {
		const struct section *s = &sections[i];

		if (!found[i].text)
			continue;
		if (s->list)
			try_list(&m, s->put, &found[i], s->schema);
		else if (s->put)
			try_put(&m, s->put, &found[i], s->schema, s->schema == &schema_machine_put);
		else
			try_cpu(&m, &found[i]);
	}
	if (!c->faults)
		check_whole(&m, found);
	vmm_destroy(vmm);
	free(vmm);
}

/* The file's own line and column are in the words; the line of the fault is that of its name. */
static void check_cpu_file(struct check *c, const struct part *part, const char *path)
{
	struct body_cpu body = {.kvm_capabilities.count = 0};
	struct json_text t;
	size_t bytes;
	char *text = config_file_read_cpu(path, &bytes);

	if (!text)
		report(c, part->text, part->key, input_open_problem(errno));
	else if (!schema_read(&t, text, bytes, &schema_cpu, &body, &c->arena))
		report(c, part->text, part->key, t.error);
	free(text);
}

/* cpu-config is an object, or the name of a file that holds one. */
static void check_cpu(struct check *c, const struct part *file)
{
	static const struct schema_field field = {.name = "cpu-config"};
	struct member m = {.c = c, .field = &field};
	size_t bytes;
	struct json_text t;
	char *path;

	each_member(file, remember, &m);
	if (!m.found || !strncmp(m.value.text, "null", 4))
		return;
	if (*m.value.text == '{') {
		check_struct(c, &schema_cpu, &m.value);
		return;
	}
	scan_begin(&t, m.value.text, m.value.bytes);
	if (scan_peek(&t) != '"' || !scan_string(&t, &path, &bytes)) {
		report(c, m.value.text, m.value.key, "is neither an object nor the name of a file");
		return;
	}
	check_cpu_file(c, &m.value, path);
	free(path);
}

unsigned config_check(const char *text, size_t bytes, config_fault *fault, void *opaque)
{
	struct check c = {.fault = fault, .opaque = opaque, .at = text, .line = 1};
	const struct part file = {.text = text, .bytes = bytes, .key = ""};
	struct json_text t;

	scan_begin(&t, text, bytes);
	if (scan_peek(&t) < 0 || !scan_skip(&t) || !scan_end(&t)) {
		if (!t.failed)
			scan_fail_next(&t, "EOF while parsing a value");
		scan_place(&t);
		report_scan(&c, &file, "", &t);
		return c.faults;
	}
	check_struct(&c, &schema_file, &file);
	check_cpu(&c, &file);
	if (!c.faults)
		check_meaning(&c, &file);
	arena_free(&c.arena);
	return c.faults;
}

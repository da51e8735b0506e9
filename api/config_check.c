/* SPDX-License-Identifier: Apache-2.0 */
/* Every fault of a configuration file, each with its line and key, where reading it for use stops at the first. */
#include "api/config_check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/config_file.h"
#include "api/config_parts.h"
#include "host/input.h"

static unsigned line_of(struct check *c, const char *at)
{
	for (; c->at < at; c->at++)
		c->line += *c->at == '\n';
	while (c->at > at)
		c->line -= *--c->at == '\n';
	return c->line;
}

void config_report(struct check *c, const char *at, const char *key, const char *problem)
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

/* ---- parts ---- */

void config_join(char to[CONFIG_KEY_BYTES], const char *path, const char *name)
{
	snprintf(to, CONFIG_KEY_BYTES, "%.120s%s%.120s", path, *path ? "." : "", name);
}

void config_members(const struct part *object, config_each_member *each, void *opaque)
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
			config_join(value.key, object->key, name);
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

void config_elements(const struct part *list, config_each_element *each, void *opaque)
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
		snprintf(element.key, sizeof element.key, "%.*s[%u]", (int)CONFIG_KEY_BYTES - 16, list->key, index++);
		each(opaque, &element);
	}
}

size_t config_field(const struct schema *schema, const char *name)
{
	size_t i = 0;

	while (i < schema->count && strcmp(schema->fields[i].name, name) != 0)
		i++;
	return i;
}

/* ---- what is there ---- */

static void check_struct(struct check *c, const struct schema *schema, const struct part *part);
static void check_value(struct check *c, const struct schema_field *field, const struct part *value);

struct element_check {
	struct check *c;
	const struct schema_field *field; /* of a list's elements, or of a map's members */
};

static void check_element(void *opaque, const struct part *element)
{
	const struct element_check *e = opaque;

	check_value(e->c, e->field, element);
}

static void check_pair(void *opaque, const char *name, const char *at, const struct part *value)
{
	(void)name;
	(void)at;
	check_element(opaque, value);
}

/* A value by itself, as what it is to be. */
static void check_alone(struct check *c, const struct schema_field *field, const struct part *value)
{
	struct schema_field alone = *field;
	struct json_text t;
	void *object = calloc(1, 64 + field->bytes + (field->schema ? field->schema->bytes : 0));

	alone.offset = alone.given = 0;
	if (object && !schema_read_value(&t, value->text, value->bytes, &alone, object, &c->arena))
		report_scan(c, value, value->key, &t);
	free(object);
}

static void check_value(struct check *c, const struct schema_field *field, const struct part *value)
{
	static const struct schema_field text = {.kind = SCHEMA_STRING};
	struct element_check e = {c, field->kind == SCHEMA_MAP ? &text : field->element};

	if (field->kind == SCHEMA_STRUCT && *value->text == '{')
		check_struct(c, field->schema, value);
	else if (field->kind == SCHEMA_LIST && *value->text == '[')
		config_elements(value, check_element, &e);
	else if (field->kind == SCHEMA_MAP && *value->text == '{')
		config_members(value, check_pair, &e);
	else
		check_alone(c, field, value);
}

struct object_check {
	struct check *c;
	const struct schema *schema;
	const struct part *object;
	uint64_t seen; /* by the fields' numbers */
};

static void check_member(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct object_check *o = opaque;
	const size_t which = config_field(o->schema, name);
	char problem[160];

	if (which == o->schema->count) {
		if (!*o->object->key)
			config_report(o->c, at, value->key, "there is no such section: it is ignored");
		else if (!o->schema->open)
			config_report(o->c, at, value->key, "there is no such key");
		return;
	}
	if (o->seen & UINT64_C(1) << which) {
		snprintf(problem, sizeof problem, "duplicate field `%.100s`", name);
		config_report(o->c, at, value->key, problem);
	}
	o->seen |= UINT64_C(1) << which;
	check_value(o->c, &o->schema->fields[which], value);
}

static void check_struct(struct check *c, const struct schema *schema, const struct part *part)
{
	struct object_check o = {.c = c, .schema = schema, .object = part};
	char key[CONFIG_KEY_BYTES], problem[160];

	config_members(part, check_member, &o);
	for (size_t i = 0; i < schema->count; i++) {
		const struct schema_field *field = &schema->fields[i];

		if (!(field->flags & SCHEMA_REQUIRED) || o.seen & UINT64_C(1) << i)
			continue;
		config_join(key, part->key, field->name);
		snprintf(problem, sizeof problem, "missing field `%.100s`", field->name);
		config_report(c, part->text + part->bytes - 1, key, problem);
	}
}

/* ---- cpu-config: an object, or the name of a file that holds one ---- */

/* The file's own line and column are in the words; the line of the fault is that of its name. */
static void check_cpu_file(struct check *c, const struct part *part, const char *path)
{
	struct body_cpu body = {.kvm_capabilities.count = 0};
	struct json_text t;
	size_t bytes;
	char *text = config_file_read_cpu(path, &bytes);

	if (!text)
		config_report(c, part->text, part->key, input_open_problem(errno));
	else if (!schema_read(&t, text, bytes, &schema_cpu, &body, &c->arena))
		config_report(c, part->text, part->key, t.error);
	free(text);
}

static void check_cpu(void *opaque, const char *name, const char *at, const struct part *value)
{
	struct check *c = opaque;
	struct json_text t;
	size_t bytes;
	char *path;

	(void)at;
	if (strcmp(name, "cpu-config") != 0 || *value->text == 'n')
		return;
	if (*value->text == '{') {
		check_struct(c, &schema_cpu, value);
		return;
	}
	scan_begin(&t, value->text, value->bytes);
	if (scan_peek(&t) != '"' || !scan_string(&t, &path, &bytes)) {
		config_report(c, value->text, value->key, "is neither an object nor the name of a file");
		return;
	}
	check_cpu_file(c, value, path);
	free(path);
}

/* ---- the whole ---- */

/* The member of an object in which its syntax fails, by name; "" where that is not inside of one. */
static void find_syntax_fault(const char *text, size_t bytes, char key[CONFIG_KEY_BYTES], unsigned depth)
{
	char path[CONFIG_KEY_BYTES];
	struct json_text t;
	bool first = true, more;

	scan_begin(&t, text, bytes);
	if (scan_peek(&t) != '{' || !scan_enter(&t))
		return;
	while (scan_next_key(&t, &first, &more) && more) {
		const char *value;
		size_t length;
		char *name;

		if (!scan_string(&t, &name, &length))
			return;
		bool colon = scan_colon(&t);

		scan_peek(&t);
		value = t.at;
		if (!colon || !scan_skip(&t)) {
			memcpy(path, key, sizeof path);
			config_join(key, path, name);
			if (colon && depth)
				find_syntax_fault(value, (size_t)(text + bytes - value), key, depth - 1);
			free(name);
			return;
		}
		free(name);
	}
}

unsigned config_check(const char *text, size_t bytes, config_fault *fault, void *opaque)
{
	struct check c = {.fault = fault, .opaque = opaque, .at = text, .line = 1};
	const struct part file = {.text = text, .bytes = bytes, .key = ""};
	struct part object = file;
	char key[CONFIG_KEY_BYTES] = "";
	struct json_text t;

	scan_begin(&t, text, bytes);
	if (scan_peek(&t) < 0 || !scan_skip(&t) || !scan_end(&t)) {
		if (!t.failed)
			scan_fail_next(&t, "EOF while parsing a value");
		scan_place(&t);
		find_syntax_fault(text, bytes, key, 8);
		report_scan(&c, &file, key, &t);
		return c.faults;
	}
	while (object.bytes && object.text[object.bytes - 1] != '}')
		object.bytes--; /* what is missing is missing before the closing brace */
	scan_begin(&t, text, bytes);
	if (scan_peek(&t) != '{') {
		config_report(&c, t.at, "", "is no object");
		return c.faults;
	}
	check_struct(&c, &schema_file, &object);
	config_members(&file, check_cpu, &c);
	config_check_meaning(&c, &file);
	arena_free(&c.arena);
	return c.faults;
}

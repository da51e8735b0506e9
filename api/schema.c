// SPDX-License-Identifier: Apache-2.0
/* Reads JSON by a schema, in serde's order of checks: what serde sees first is what the error is about. */
#include "api/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/json_words.h"

struct arena_block {
	struct arena_block *next;
	max_align_t bytes[];
};

void *arena_get(struct arena *arena, size_t bytes)
{
	struct arena_block *block = bytes < SIZE_MAX / 2 ? calloc(1, sizeof *block + bytes) : NULL;

	if (!block)
		return NULL;
	block->next = arena->first;
	arena->first = block;
	return block->bytes;
}

char *arena_copy(struct arena *arena, const char *string)
{
	char *copy = arena_get(arena, strlen(string) + 1);

	return copy ? strcpy(copy, string) : NULL;
}

void arena_free(struct arena *arena)
{
	while (arena->first) {
		struct arena_block *next = arena->first->next;

		free(arena->first);
		arena->first = next;
	}
}

static bool read_value(struct json_text *t, const struct schema_field *field, void *to, struct arena *arena);

static const char *integer_name(enum schema_kind kind)
{
	switch (kind) {
	case SCHEMA_U8:
		return "u8";
	case SCHEMA_U16:
		return "u16";
	case SCHEMA_U32:
		return "u32";
	case SCHEMA_U64:
		return "u64";
	default:
		return "usize";
	}
}

static uint64_t integer_max(enum schema_kind kind)
{
	switch (kind) {
	case SCHEMA_U8:
		return UINT8_MAX;
	case SCHEMA_U16:
		return UINT16_MAX;
	case SCHEMA_U32:
		return UINT32_MAX;
	default:
		return UINT64_MAX;
	}
}

static void store(enum schema_kind kind, void *to, uint64_t value)
{
	if (kind == SCHEMA_U8)
		*(uint8_t *)to = (uint8_t)value;
	else if (kind == SCHEMA_U16)
		*(uint16_t *)to = (uint16_t)value;
	else if (kind == SCHEMA_U32)
		*(uint32_t *)to = (uint32_t)value;
	else
		*(uint64_t *)to = value;
}

static bool read_integer(struct json_text *t, enum schema_kind kind, void *to)
{
	const char *name = integer_name(kind);
	struct json_number number;
	char words[100];
	int c = scan_peek(t);

	if (c != '-' && (c < '0' || c > '9'))
		return scan_mismatch(t, name);
	if (!scan_number(t, &number))
		return false;
	if (number.kind == JSON_UNSIGNED && number.u <= integer_max(kind)) {
		store(kind, to, number.u);
		return true;
	}
	scan_number_words(&number, words, sizeof words);
	scan_fail_value(t, "invalid %s: %s, expected %s", number.kind == JSON_FLOAT ? "type" : "value", words, name);
	return scan_place(t);
}

/* A string of the arena, without NULs in it: nothing that it could be used for takes one. */
static bool read_string(struct json_text *t, const char *expected, const char **to, size_t *bytes, struct arena *arena)
{
	char *string, *copy;

	if (scan_peek(t) != '"')
		return scan_mismatch(t, expected);
	if (!scan_string(t, &string, bytes))
		return false;
	if (strlen(string) != *bytes) {
		char *shown = json_quoted(string, *bytes);

		scan_fail_value(t, "invalid value: string %.1500s, expected %s without NUL", shown ? shown : "",
				expected);
		free(shown);
		free(string);
		return scan_place(t);
	}
	copy = arena_copy(arena, string);
	free(string);
	*to = copy;
	return copy || scan_fail(t, "out of memory");
}

/* "`a`", "`a` or `b`", "one of `a`, `b`, `c`" */
struct names {
	char text[900];
	size_t used;
	unsigned count, all;
};

static void add_name(struct names *names, const char *name)
{
	const char *before = !names->count ? names->all > 2 ? "one of " : "" : names->all == 2 ? " or " : ", ";
	int bytes = snprintf(names->text + names->used, sizeof names->text - names->used, "%s`%s`", before, name);

	names->used += (size_t)bytes;
	if (names->used >= sizeof names->text)
		names->used = sizeof names->text - 1;
	names->count++;
}

static bool read_choice(struct json_text *t, const struct schema_field *field, int *to, struct arena *arena)
{
	struct names names = {.used = 0};
	const char *word;
	size_t bytes;
	int c = scan_peek(t);

	if (c != '"')
		return scan_fail_next(t, c < 0 ? "EOF while parsing a value" : "expected value");
	if (!read_string(t, "variant identifier", &word, &bytes, arena))
		return false;
	for (int i = 0; field->choices[i]; i++) {
		if (!strcmp(word, field->choices[i])) {
			*to = i;
			return true;
		}
		names.all++;
	}
	for (int i = 0; field->choices[i]; i++)
		add_name(&names, field->choices[i]);
	scan_fail_value(t, "unknown variant `%.1500s`, expected %s", word, names.text);
	return scan_place(t);
}

static bool read_text(struct json_text *t, const struct schema_field *field, void *to, struct arena *arena)
{
	const char *string, *problem;
	size_t bytes;

	if (!read_string(t, field->expected ? field->expected : "a string", &string, &bytes, arena))
		return false;
	problem = field->convert(string, bytes, to);
	if (!problem)
		return true;
	const char *hole = strstr(problem, "%s");

	if (hole)
		scan_fail_value(t, "%.*s%.1500s%s", (int)(hole - problem), problem, string, hole + 2);
	else
		scan_fail_value(t, "%s", problem);
	return field->flags & SCHEMA_LATE ? false : scan_place(t);
}

static size_t size_of(const struct schema_field *field)
{
	switch (field->kind) {
	case SCHEMA_BOOL:
		return sizeof(bool);
	case SCHEMA_U8:
		return 1;
	case SCHEMA_U16:
		return 2;
	case SCHEMA_U32:
		return 4;
	case SCHEMA_U64:
	case SCHEMA_USIZE:
		return 8;
	case SCHEMA_STRING:
	case SCHEMA_PATH:
		return sizeof(char *);
	case SCHEMA_CHOICE:
		return sizeof(int);
	case SCHEMA_STRUCT:
		return field->schema->bytes;
	case SCHEMA_TEXT:
		return field->bytes;
	default:
		return sizeof(struct schema_list);
	}
}

/* Room for one more item; the old items stay where they are until the arena goes. */
static void *grow(struct json_text *t, struct schema_list *list, size_t item_bytes, size_t *room, struct arena *arena)
{
	if (list->count == *room) {
		size_t more = *room ? 2 * *room : 4;
		void *items = arena_get(arena, more * item_bytes);

		if (!items) {
			scan_fail(t, "out of memory");
			return NULL;
		}
		if (list->count)
			memcpy(items, list->items, list->count * item_bytes);
		list->items = items;
		*room = more;
	}
	return (char *)list->items + list->count++ * item_bytes;
}

static bool read_list(struct json_text *t, const struct schema_field *element, struct schema_list *list,
		      struct arena *arena)
{
	size_t bytes = size_of(element), room = 0;
	bool first = true, more;

	*list = (struct schema_list){NULL, 0};
	if (scan_peek(t) != '[')
		return scan_mismatch(t, "a sequence");
	if (scan_enter(t))
		while (scan_next_element(t, &first, &more) && more) {
			void *item = grow(t, list, bytes, &room, arena);

			if (!item || !read_value(t, element, item, arena))
				break;
		}
	return scan_leave(t, ']');
}

static bool read_map(struct json_text *t, struct schema_list *list, struct arena *arena)
{
	size_t room = 0, bytes;
	bool first = true, more;

	*list = (struct schema_list){NULL, 0};
	if (scan_peek(t) != '{')
		return scan_mismatch(t, "a map");
	if (scan_enter(t))
		while (scan_next_key(t, &first, &more) && more) {
			struct schema_pair *pair = grow(t, list, sizeof *pair, &room, arena);

			if (!pair || !read_string(t, "a string", &pair->name, &bytes, arena) || !scan_colon(t) ||
			    !read_string(t, "a string", &pair->value, &bytes, arena))
				break;
		}
	return scan_leave(t, '}');
}

static bool read_any(struct json_text *t, struct schema_raw *raw)
{
	scan_peek(t);
	raw->text = t->at;
	if (!scan_skip(t))
		return false;
	raw->bytes = (size_t)(t->at - raw->text);
	return true;
}

static bool read_value(struct json_text *t, const struct schema_field *field, void *to, struct arena *arena)
{
	size_t bytes;

	switch (field->kind) {
	case SCHEMA_BOOL:
		return scan_bool(t, to);
	case SCHEMA_U8:
	case SCHEMA_U16:
	case SCHEMA_U32:
	case SCHEMA_U64:
	case SCHEMA_USIZE:
		return read_integer(t, field->kind, to);
	case SCHEMA_STRING:
		return read_string(t, "a string", to, &bytes, arena);
	case SCHEMA_PATH:
		return read_string(t, "path string", to, &bytes, arena);
	case SCHEMA_CHOICE:
		return read_choice(t, field, to, arena);
	case SCHEMA_TEXT:
		return read_text(t, field, to, arena);
	case SCHEMA_STRUCT:
		return schema_read_struct(t, field->schema, to, arena);
	case SCHEMA_LIST:
		return read_list(t, field->element, to, arena);
	case SCHEMA_MAP:
		return read_map(t, to, arena);
	case SCHEMA_ANY:
		return read_any(t, to);
	}
	return false;
}

static bool unknown_field(struct json_text *t, const struct schema *schema, const char *name)
{
	struct names names = {.used = 0};

	for (size_t i = 0; i < schema->count; i++)
		names.all += !(schema->fields[i].flags & SCHEMA_HIDDEN);
	for (size_t i = 0; i < schema->count; i++)
		if (!(schema->fields[i].flags & SCHEMA_HIDDEN))
			add_name(&names, schema->fields[i].name);
	if (!names.all)
		return scan_fail_value(t, "unknown field `%.1500s`, there are no fields", name);
	return scan_fail_value(t, "unknown field `%.1500s`, expected %s", name, names.text);
}

static bool read_field(struct json_text *t, const struct schema_field *field, char *object, struct arena *arena)
{
	if (!scan_colon(t))
		return false;
	if (field->flags & SCHEMA_NULLABLE && scan_peek(t) == 'n')
		return scan_null(t);
	if (!read_value(t, field, object + field->offset, arena))
		return false;
	if (field->given)
		*(bool *)(object + field->given - 1) = true;
	return true;
}

bool schema_read_value(struct json_text *t, const char *text, size_t bytes, const struct schema_field *field,
		       void *object, struct arena *arena)
{
	scan_begin(t, text, bytes);
	if (field->flags & SCHEMA_NULLABLE && scan_peek(t) == 'n')
		return scan_null(t) && scan_end(t);
	if (!read_value(t, field, (char *)object + field->offset, arena) || !scan_end(t))
		return false;
	if (field->given)
		*((bool *)object + field->given - 1) = true;
	return true;
}

/* The key, and which field it is: schema->count if it is none. */
static bool read_key(struct json_text *t, const struct schema *schema, size_t *which)
{
	char *key;
	size_t bytes;

	if (!scan_string(t, &key, &bytes))
		return false;
	for (*which = 0; *which < schema->count; ++*which) {
		const char *name = schema->fields[*which].name;

		if (strlen(name) == bytes && !memcmp(name, key, bytes))
			break;
	}
	if (*which == schema->count && !schema->open)
		unknown_field(t, schema, key);
	free(key);
	return !t->failed;
}

static bool read_fields(struct json_text *t, const struct schema *schema, void *object, struct arena *arena)
{
	bool first = true, more;
	uint64_t seen = 0;
	size_t which;

	for (;;) {
		if (!scan_next_key(t, &first, &more))
			return false;
		if (!more)
			break;
		if (!read_key(t, schema, &which))
			return false;
		if (which == schema->count) {
			if (!scan_colon(t) || !scan_skip(t))
				return false;
			continue;
		}
		if (seen & UINT64_C(1) << which)
			return scan_fail_value(t, "duplicate field `%s`", schema->fields[which].name);
		seen |= UINT64_C(1) << which;
		if (!read_field(t, &schema->fields[which], object, arena))
			return false;
	}
	for (size_t i = 0; i < schema->count; i++)
		if (schema->fields[i].flags & SCHEMA_REQUIRED && !(seen & UINT64_C(1) << i))
			return scan_fail_value(t, "missing field `%s`", schema->fields[i].name);
	return true;
}

bool schema_read_struct(struct json_text *t, const struct schema *schema, void *object, struct arena *arena)
{
	int c = scan_peek(t);

	if (t->failed)
		return false;
	if (c != '{')
		return scan_mismatch(t, schema->name);
	if (scan_enter(t))
		read_fields(t, schema, object, arena);
	return scan_leave(t, '}');
}

bool schema_read(struct json_text *t, const char *text, size_t bytes, const struct schema *schema, void *object,
		 struct arena *arena)
{
	scan_begin(t, text, bytes);
	return schema_read_struct(t, schema, object, arena) && scan_end(t);
}

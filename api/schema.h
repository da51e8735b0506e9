/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON into C structs, driven by tables that correspond to Firecracker's serde attributes. */
#ifndef RIFFLE_API_SCHEMA_H
#define RIFFLE_API_SCHEMA_H

#include "api/json_text.h"

/* Memory for the strings and lists of one request, freed all at once. Zeroed is empty. */
struct arena {
	struct arena_block *first;
};

void *arena_get(struct arena *arena, size_t bytes); /* zeroed; NULL: no memory */
char *arena_copy(struct arena *arena, const char *string);
void arena_free(struct arena *arena);

enum schema_kind {
	SCHEMA_BOOL, /* bool */
	SCHEMA_U8,   /* uint8_t, and so on */
	SCHEMA_U16,
	SCHEMA_U32,
	SCHEMA_U64,
	SCHEMA_USIZE,  /* uint64_t */
	SCHEMA_STRING, /* const char * */
	SCHEMA_PATH,   /* the same, under another name */
	SCHEMA_CHOICE, /* int: which of `choices` */
	SCHEMA_TEXT,   /* a string that `convert` turns into something */
	SCHEMA_STRUCT, /* a struct of `schema` */
	SCHEMA_LIST,   /* struct schema_list of `element` */
	SCHEMA_MAP,    /* struct schema_list of struct schema_pair: strings by name */
	SCHEMA_ANY,    /* struct schema_raw: any value, unread */
};

struct schema_list {
	void *items;
	size_t count;
};

struct schema_pair {
	const char *name, *value;
};

/* Where a value starts in the text, and how long it is. */
struct schema_raw {
	const char *text;
	size_t bytes;
};

enum {
	SCHEMA_REQUIRED = 1, /* an error if it is missing */
	SCHEMA_NULLABLE = 2, /* null is the same as nothing */
	SCHEMA_HIDDEN = 4,   /* an extension: omitted from Firecracker's lists of expected names */
	SCHEMA_LATE = 8,     /* TEXT: an error of `convert` is reported at the end of the struct */
};

struct schema;
struct schema_field {
	const char *name;
	enum schema_kind kind;
	unsigned flags;
	size_t offset;
	size_t given; /* 1 + offset of a bool that is set if a value other than null was given; 0: none */
	const char *const *choices;
	/* NULL, or a static error text with %s for the string */
	const char *(*convert)(const char *string, size_t bytes, void *to);
	const char *expected; /* TEXT: what was expected, for a value that is not a string */
	const struct schema *schema;
	const struct schema_field *element;
	size_t bytes; /* TEXT as an element of a list: what `convert` writes */
};

struct schema {
	const char *name; /* "struct MachineConfig" */
	const struct schema_field *fields;
	size_t count; /* at most 64 */
	size_t bytes; /* of the C struct */
	bool open;    /* unknown members are ignored */
};

#define SCHEMA(variable, rust_name, type, table, ...)                                                                  \
	const struct schema variable = {.name = "struct " rust_name,                                                   \
					.fields = table,                                                               \
					.count = sizeof(table) / sizeof *(table),                                      \
					.bytes = sizeof(type),                                                         \
					__VA_ARGS__}

/* Reads one object into *object, which holds the defaults. Strings are in the arena. False: see t->error. */
bool schema_read_struct(struct json_text *t, const struct schema *schema, void *object, struct arena *arena);

/* The same for a whole text. */
bool schema_read(struct json_text *t, const char *text, size_t bytes, const struct schema *schema, void *object,
		 struct arena *arena);

/* One member of an object by itself, as what it is there; elements of lists have offset 0. */
bool schema_read_value(struct json_text *t, const char *text, size_t bytes, const struct schema_field *field,
		       void *object, struct arena *arena);

#endif

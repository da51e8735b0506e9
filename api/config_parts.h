/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file by its parts, each with its place, for whoever names its faults. */
#ifndef RIFFLE_API_CONFIG_PARTS_H
#define RIFFLE_API_CONFIG_PARTS_H

#include "api/bodies.h"
#include "api/config_check.h"

#define CONFIG_KEY_BYTES 256u

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
	char key[CONFIG_KEY_BYTES];
};

void config_report(struct check *c, const char *at, const char *key, const char *problem);
/* "path.name" */
void config_join(char to[CONFIG_KEY_BYTES], const char *path, const char *name);

typedef void config_each_member(void *opaque, const char *name, const char *at, const struct part *value);
typedef void config_each_element(void *opaque, const struct part *element);
/* Of a text whose syntax is known to be good; `at` is the key's place. Nothing if it is no object, or no list. */
void config_members(const struct part *object, config_each_member *each, void *opaque);
void config_elements(const struct part *list, config_each_element *each, void *opaque);

/* The member's number in the schema, `count` if it has none of that name. */
size_t config_field(const struct schema *schema, const char *name);

/*
 * What the values mean, whatever else is wrong with the file: each section as a request, but for those that would
 * change the host.
 */
void config_check_meaning(struct check *c, const struct part *file);

#endif

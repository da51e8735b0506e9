/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a newc archive as its format describes it, independently of the code that writes it. */
#ifndef NEWC_READER_H
#define NEWC_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct newc_file {
	unsigned ino, mode, uid, gid, links, mtime, size, major, minor;
	const char *name;
	const uint8_t *data;
};

struct newc {
	struct newc_file file[512];
	size_t count;
};

/* False if the archive is malformed, lacks its trailer, or has anything after it. */
static inline bool newc_read(struct newc *newc, const uint8_t *bytes, size_t count)
{
	size_t at = 0;

	newc->count = 0;
	while (count - at >= 110) {
		unsigned field[13];
		struct newc_file *f = &newc->file[newc->count];
		char digits[9] = "";

		if (memcmp(bytes + at, "070701", 6) || newc->count == 512)
			return false;
		for (int i = 0; i < 13; i++) {
			memcpy(digits, bytes + at + 6 + 8 * i, 8);
			field[i] = (unsigned)strtoul(digits, NULL, 16);
		}
		*f = (struct newc_file){field[0], field[1], field[2], field[3],  field[4],
					field[5], field[6], field[9], field[10], (const char *)bytes + at + 110,
					NULL};
		if (field[11] > count - at - 110 || !field[11] || f->name[field[11] - 1] ||
		    strlen(f->name) != field[11] - 1)
			return false;
		at = (at + 110 + field[11] + 3) & ~(size_t)3;
		if (at > count || f->size > count - at)
			return false;
		f->data = bytes + at;
		at = (at + f->size + 3) & ~(size_t)3;
		if (!strcmp(f->name, "TRAILER!!!"))
			return at == count;
		newc->count++;
	}
	return false;
}

static inline const struct newc_file *newc_find(const struct newc *newc, const char *name)
{
	for (size_t i = 0; i < newc->count; i++)
		if (!strcmp(newc->file[i].name, name))
			return &newc->file[i];
	return NULL;
}

#endif

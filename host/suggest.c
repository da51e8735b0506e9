/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of an option that there is not, and which one may have been meant. */
#include "host/suggest.h"

#include <stdio.h>
#include <string.h>

#include "host/shown.h"

#define LONGEST 40 /* letters of an option; a longer word is not compared */

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* Damerau's distance, of neighbours swapped once. Both are no longer than LONGEST. */
static unsigned distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	unsigned rows[3][LONGEST + 1];

	for (size_t j = 0; j <= b_length; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= a_length; i++) {
		unsigned *row = rows[i % 3];
		const unsigned *above = rows[(i - 1) % 3], *before = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= b_length; j++) {
			row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], before[j - 2] + 1);
		}
	}
	return rows[a_length % 3][b_length];
}

const char *suggest_option(const char *word, const struct option *options)
{
	const char *best = NULL;
	unsigned best_distance = LONGEST;
	size_t length;

	if (strncmp(word, "--", 2))
		return NULL;
	word += 2;
	length = strcspn(word, "=");
	if (length == 0 || length > LONGEST)
		return NULL;
	for (; options->name; options++) {
		size_t name_length = strlen(options->name);
		unsigned far;

		if (name_length > LONGEST)
			continue;
		far = distance(word, length, options->name, name_length);
		if (far == 0)
			return NULL;
		if (far * 3 <= name_length && far < best_distance) {
			best = options->name;
			best_distance = far;
		}
	}
	return best;
}

void say_no_option(const char *command, const char *word, const struct option *options)
{
	const char *meant = suggest_option(word, options);

	fprintf(stderr, "riffle %s: '%s' is no option or lacks its argument; %s%s%sriffle %s --help shows more\n",
		command, SHOWN(word), meant ? "perhaps --" : "", meant ? meant : "", meant ? " is meant; " : "",
		command);
}

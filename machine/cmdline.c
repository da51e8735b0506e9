/* SPDX-License-Identifier: Apache-2.0 */
/* What a monitor has to read in a kernel's command line: the words that are for the loader. */
#include "machine/cmdline.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define GIVEN_MAX 32u

/* arch/x86/boot/cmdline.c: everything up to the blank separates words */
static bool is_blank(char c)
{
	return (unsigned char)c <= ' ';
}

bool cmdline_has_word(const char *line, const char *word)
{
	size_t length = strlen(word);

	while (*line) {
		size_t bytes = 0;

		while (line[bytes] && !is_blank(line[bytes]))
			bytes++;
		if (bytes == length && !memcmp(line, word, length))
			return true;
		line += bytes;
		while (*line && is_blank(*line))
			line++;
	}
	return false;
}

/* One parameter at a time, as lib/cmdline.c's next_arg(): quotes hold blanks, and are dropped around a whole value. */
struct words {
	const char *at;
	char word[256]; /* of a longer one the beginning, which none of those wanted here is */
};

static bool next_word(struct words *words)
{
	bool quoted = false;
	size_t bytes = 0;

	while (*words->at && is_blank(*words->at))
		words->at++;
	if (!*words->at)
		return false;
	for (; *words->at && (quoted || !is_blank(*words->at)); words->at++) {
		if (*words->at == '"')
			quoted = !quoted;
		else if (bytes < sizeof words->word - 1)
			words->word[bytes++] = *words->at;
	}
	words->word[bytes] = 0;
	return true;
}

/* kernel/reboot.c, reboot_setup(): of each part its first letter counts, and in the end the last one of a kind */
bool cmdline_tells_panic(const char *line)
{
	static const char prefix[] = "reboot=", panic_prefix[] = "panic_";
	struct words words = {.at = line};
	bool panic = false, other = false;

	while (next_word(&words)) {
		if (strncmp(words.word, prefix, sizeof prefix - 1))
			continue;
		for (const char *part = words.word + sizeof prefix - 1; part; part = strchr(part, ',')) {
			bool *mode = &other;

			part += *part == ',';
			if (!strncmp(part, panic_prefix, sizeof panic_prefix - 1)) {
				part += sizeof panic_prefix - 1;
				mode = &panic;
			}
			if (*part && strchr("wchsg", *part))
				*mode = *part == 'w';
		}
	}
	return panic && !other;
}

/* lib/cmdline.c, memparse() */
static uint64_t parse_size(const char *text, const char **end)
{
	static const char units[] = "KMGTPE";
	char *after;
	uint64_t size =
	    *text == '-' || is_blank(*text) ? (after = (char *)(uintptr_t)text, 0) : strtoull(text, &after, 0);
	const char *unit = *after ? strchr(units, *after & ~0x20) : NULL;

	if (unit && after != text) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);

		size = size > UINT64_MAX >> shift ? UINT64_MAX : size << shift;
		after++;
	}
	*end = after;
	return size;
}

struct memory_words {
	uint64_t limit; /* RAM ends here at the latest */
	bool exact;     /* RAM is what is given, and nothing else */
	struct riffle_range given[GIVEN_MAX];
	size_t given_count;
	struct riffle_range *taken;
	size_t taken_count, capacity;
};

static void take(struct memory_words *m, uint64_t start, uint64_t bytes)
{
	if (!bytes || !m->capacity)
		return;
	if (bytes > UINT64_MAX - start)
		bytes = UINT64_MAX - start;
	if (m->taken_count < m->capacity) {
		m->taken[m->taken_count++] = (struct riffle_range){start, bytes};
		return;
	}
	struct riffle_range *last = &m->taken[m->capacity - 1];
	uint64_t end = start + bytes > last->address + last->bytes ? start + bytes : last->address + last->bytes;

	last->address = start < last->address ? start : last->address;
	last->bytes = end - last->address;
}

static void limit_to(struct memory_words *m, uint64_t size)
{
	if (size && size < m->limit)
		m->limit = size;
}

/* arch/x86/kernel/e820.c, parse_memmap_one() */
static void read_memmap(struct memory_words *m, const char *value)
{
	const char *end;

	if (!strncmp(value, "exactmap", 8)) {
		m->exact = true;
		m->given_count = 0;
		return;
	}
	uint64_t bytes = parse_size(value, &end);

	if (end == value)
		return;
	switch (*end) {
	case '@':
		if (m->given_count < GIVEN_MAX)
			m->given[m->given_count++] = (struct riffle_range){parse_size(end + 1, &end), bytes};
		break;
	case '#': /* ACPI */
	case '$': /* reserved */
	case '!': /* persistent memory */
	case '%': /* another type */
		take(m, parse_size(end + 1, &end), bytes);
		break;
	default:
		limit_to(m, bytes);
		break;
	}
}

static void read_memmaps(struct memory_words *m, char *values)
{
	char *rest = values;

	for (char *value; (value = strsep(&rest, ","));)
		read_memmap(m, value);
}

static int by_address(const void *a, const void *b)
{
	const struct riffle_range *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

/* Takes what lies between the ranges that were given. */
static void take_gaps(struct memory_words *m)
{
	uint64_t end = 0;

	qsort(m->given, m->given_count, sizeof *m->given, by_address);
	for (size_t i = 0; i < m->given_count; i++) {
		const struct riffle_range *g = &m->given[i];
		uint64_t after = g->bytes > UINT64_MAX - g->address ? UINT64_MAX : g->address + g->bytes;

		if (g->address > end)
			take(m, end, g->address - end);
		end = after > end ? after : end;
	}
	take(m, end, UINT64_MAX - end);
}

size_t cmdline_reserved(const char *line, struct riffle_range *ranges, size_t capacity)
{
	struct memory_words m = {.limit = UINT64_MAX, .taken = ranges, .capacity = capacity};
	struct words words = {.at = line};
	const char *end;

	while (next_word(&words) && strcmp(words.word, "--")) {
		if (!strncmp(words.word, "mem=", 4) && strcmp(words.word + 4, "nopentium"))
			limit_to(&m, parse_size(words.word + 4, &end));
		else if (!strncmp(words.word, "memmap=", 7))
			read_memmaps(&m, words.word + 7);
	}
	if (m.exact)
		take_gaps(&m);
	if (m.limit != UINT64_MAX)
		take(&m, m.limit, UINT64_MAX - m.limit);
	return m.taken_count;
}

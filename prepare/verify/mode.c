/* SPDX-License-Identifier: Apache-2.0 */
/* The mode of /proc/kallsyms, the one value in the kernel's code that a shuffle changes and that is no reference. */
#include "prepare/verify/internal.h"

#define MOVE_BYTES 5u /* mov $…,%esi, and call */
#define CALL 0xe8

/* fs/proc: both take a name, a mode, a directory, and what serves the file */
static const char *const creators[] = {"proc_create", "proc_create_data", NULL};

static bool ends_with(const char *name, const char *end)
{
	size_t bytes = strlen(name), of_end = strlen(end);

	return bytes >= of_end && !strcmp(name + bytes - of_end, end);
}

/* kernel/kallsyms.c's initcall, by its own name or by that of clang's stub for it, into which it is inlined. */
static bool is_initcall(const struct symbol *symbol)
{
	if (symbol->type != 't' && symbol->type != 'T')
		return false;
	return !strcmp(symbol->name, "kallsyms_init") ||
	       (!strncmp(symbol->name, "__initstub_", 11) && ends_with(symbol->name, "_kallsyms_init6"));
}

static bool is_creator(const struct verify *v, uint32_t offset)
{
	uint32_t at;

	for (const char *const *name = creators; *name; name++)
		if (verify_symbol(v, *name, &at) && at == offset)
			return true;
	return false;
}

/* Its one move of 0444 to %esi, before its one call of a creator; 0 when it is not like that. */
static uint32_t mode_in(const struct verify *v, uint32_t start, uint32_t end)
{
	static const uint8_t move[MOVE_BYTES] = {0xbe, 0444 & 0xff, 0444 >> 8, 0, 0};
	uint32_t moves = 0, calls = 0, moved = 0, called = 0;

	for (uint32_t at = start; end - start >= MOVE_BYTES && at <= end - MOVE_BYTES; at++) {
		if (!bit_get(v->start, at))
			continue;
		if (!memcmp(v->bytes + at, move, sizeof move)) {
			moves++;
			moved = at;
		} else if (v->bytes[at] == CALL && is_creator(v, at + MOVE_BYTES + riffle_get32(v->bytes + at + 1))) {
			calls++;
			called = at;
		}
	}
	return moves == 1 && calls == 1 && moved < called ? moved + 1 : 0;
}

int verify_find_mode(struct verify *v, struct riffle_error *error)
{
	uint32_t found = 0;
	uint8_t part;
	int status;

	for (uint32_t i = 0; i < v->symbol_count; i++) {
		uint32_t next = i + 1, start = v->symbol[i].offset;

		if (!is_initcall(&v->symbol[i]) || !verify_in_code(v, start))
			continue;
		while (next < v->symbol_count && v->symbol[next].offset == start)
			next++;
		found++;
		v->mode = next < v->symbol_count ? mode_in(v, start, v->symbol[next].offset) : 0;
	}
	if (found != 1)
		v->mode = 0;
	if (!v->mode)
		return 0;
	status = verify_new_part(v, "kallsyms-mode", v->mode, 4, &part, error);
	if (!status)
		v->part[part].fields = 1;
	return status;
}

void verify_write_mode(const struct verify *v, const struct places *p, uint8_t *image)
{
	if (v->mode && p->shuffled)
		riffle_put32(image + place_of(p, v->mode), 0400);
}

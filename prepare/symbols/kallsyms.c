/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the kallsyms tables in a kernel's image by their structure alone, and reads the symbols out of them. */
#include "prepare/symbols/kallsyms.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "common/kernel_map.h"
#include "prepare/symbols/symbols.h"

/*
 * What scripts/kallsyms.c leaves in .rodata, in order (each table aligned to 8 bytes, or 4):
 *
 *   5.10 to 6.3:  [offsets][relative_base] num_syms names markers [seqs_of_names] token_table token_index
 *   from 6.4 on:  num_syms names markers token_table token_index offsets [relative_base] seqs_of_names
 *
 * names: for each symbol a length (one byte, two when bit 7 is set) and that many codes; each code stands for the
 * string token_table[token_index[code]]; all strings together are the symbol's type letter and its name. markers: where
 * in names each 256th symbol starts. offsets: 32 bits a symbol, ascending by address: to be added to relative_base; on
 * SMP kernels up to 6.14 (percpu symbols count from 0) absolute when not negative, else relative_base - 1 - offset;
 * without a relative_base (7.2) a distance from the entry itself.
 *
 * token_index is the anchor: 256 rising 16-bit numbers that begin with 0 and fit the strings right before them.
 */
#define TOKENS 256u
#define TOKEN_INDEX_BYTES (TOKENS * 2)
#define TOKEN_MAX 1024u
#define NAME_MAX 1024u /* KSYM_NAME_LEN is 512 */
#define SYMBOLS_MAX (UINT32_C(1) << 22)
#define MARKER_STEP 256u
#define PADDING_MAX 16u
/* hostile bytes may look like a table again and again: steps for each byte of the image; a kernel's take less than one
 */
#define WORK_PER_BYTE 4u
/* what names may unpack to, for each byte that they take; a kernel's are about doubled, and no token is longer than 1
 * KiB */
#define EXPANSION_MAX 16u

struct kallsyms {
	const uint8_t *image;
	size_t bytes;
	uint64_t address; /* of image[0] */
	size_t token_table, token_index;
	size_t num_syms; /* where the number stands */
	uint32_t count;  /* and what it is */
	size_t names, names_end, markers;
	uint64_t work;
};

static bool is_worn_out(const struct kallsyms *k)
{
	return k->work > (uint64_t)k->bytes * WORK_PER_BYTE;
}

static size_t align_up(size_t at, size_t align)
{
	return (at + align - 1) & ~(align - 1);
}

static unsigned token_at(const struct kallsyms *k, unsigned code)
{
	return riffle_get16(k->image + k->token_index + code * 2);
}

static bool looks_like_index(const uint8_t *p)
{
	unsigned last = 0;

	if (riffle_get16(p))
		return false;
	for (unsigned i = 1; i < TOKENS; i++) {
		unsigned v = riffle_get16(p + i * 2);

		if (v <= last || v - last > TOKEN_MAX)
			return false;
		last = v;
	}
	return true;
}

/* Every string of a table at `start` has the length that the index gives it, and is printable. */
static bool strings_fit(struct kallsyms *k, size_t start, size_t last_bytes)
{
	for (unsigned i = 0; i < TOKENS; i++) {
		const uint8_t *s = k->image + start + token_at(k, i);
		size_t bytes = i + 1 < TOKENS ? token_at(k, i + 1) - token_at(k, i) - 1 : last_bytes;

		k->work += bytes;
		if (s[bytes])
			return false;
		for (size_t j = 0; j < bytes; j++)
			if (s[j] <= ' ' || s[j] == 0x7f)
				return false;
	}
	return true;
}

/* Goes back from token_index to the table: its last string, which padding may follow, then all before it. */
static bool find_token_table(struct kallsyms *k)
{
	size_t before = token_at(k, TOKENS - 1);

	for (size_t padding = 0; padding < PADDING_MAX && padding + before + 1 <= k->token_index && !is_worn_out(k);
	     padding++) {
		size_t end = k->token_index - padding; /* behind the last string's NUL */
		size_t last = end - 1;

		if (k->image[last])
			return false;
		while (last > before && end - last <= TOKEN_MAX && k->image[last - 1])
			last--;
		k->work += end - last;
		if (last >= before && strings_fit(k, last - before, end - 1 - last)) {
			k->token_table = last - before;
			return true;
		}
	}
	return false;
}

/* Steps over one name; returns where the next starts, 0 when there is no name here. */
static size_t next_name(const struct kallsyms *k, size_t at, size_t end, size_t *codes, size_t *code_count)
{
	size_t bytes;

	if (at >= end)
		return 0;
	bytes = k->image[at++];
	if (bytes & 0x80) {
		if (at >= end)
			return 0;
		bytes = (bytes & 0x7f) | (size_t)k->image[at++] << 7;
	}
	if (!bytes || bytes > NAME_MAX || bytes > end - at)
		return 0;
	*codes = at;
	*code_count = bytes;
	return at + bytes;
}

/* Where `count` names from k->names on end, 0 when they do not. */
static size_t walk_names(struct kallsyms *k)
{
	size_t at = k->names, codes, code_count;

	for (uint32_t i = 0; i < k->count; i++) {
		k->work++;
		if (is_worn_out(k) || !(at = next_name(k, at, k->token_table, &codes, &code_count)))
			return 0;
	}
	return at;
}

/* The markers at `markers` name just the places where each 256th name starts. */
static bool markers_fit(struct kallsyms *k, size_t markers)
{
	size_t at = k->names, codes, code_count;

	for (uint32_t i = 0; i < k->count; i++) {
		if (i % MARKER_STEP == 0 && riffle_get32(k->image + markers + i / MARKER_STEP * 4) != at - k->names)
			return false;
		k->work++;
		at = next_name(k, at, k->token_table, &codes, &code_count);
	}
	return true;
}

static size_t marker_bytes_of(const struct kallsyms *k)
{
	return ((size_t)k->count + MARKER_STEP - 1) / MARKER_STEP * 4;
}

/* num_syms, names and markers from `at` on, and nothing but seqs_of_names between them and token_table */
static bool names_fit(struct kallsyms *k, size_t at, size_t names)
{
	size_t markers, gap, marker_bytes = marker_bytes_of(k);

	k->num_syms = at;
	k->names = names;
	k->names_end = walk_names(k);
	if (!k->names_end)
		return false;
	for (size_t align = 4; align <= 8; align += 4) {
		k->markers = markers = align_up(k->names_end, align);
		if (!riffle_inside(markers, marker_bytes, k->token_table))
			continue;
		gap = k->token_table - markers - marker_bytes;
		if ((gap < PADDING_MAX ||
		     (gap >= 3 * (size_t)k->count && gap < 3 * (size_t)k->count + 2 * PADDING_MAX)) &&
		    markers_fit(k, markers))
			return true;
	}
	return false;
}

/* Backwards from token_table for the number of symbols that makes everything in between fit. */
static bool find_names(struct kallsyms *k)
{
	size_t at = k->token_table & ~(size_t)3;

	while (at >= 4 && !is_worn_out(k)) {
		k->work++;
		at -= 4;
		k->count = riffle_get32(k->image + at);
		if (!k->count || k->count > SYMBOLS_MAX || k->count > (k->token_table - at) / 2)
			continue;
		if (at % 8 == 0 && !riffle_get32(k->image + at + 4) && names_fit(k, at, at + 8))
			return true;
		if (names_fit(k, at, at + 4))
			return true;
	}
	return false;
}

/* How the offsets are to be read. */
enum reading { PERCPU_ABSOLUTE, RELATIVE, SELF_RELATIVE };

struct addresses {
	enum reading reading;
	size_t offsets;
	size_t base_at;
	uint64_t base;
};

static uint64_t address_of(const struct kallsyms *k, const struct addresses *a, uint32_t i)
{
	size_t at = a->offsets + (size_t)i * 4;
	int32_t offset = (int32_t)riffle_get32(k->image + at);

	switch (a->reading) {
	case PERCPU_ABSOLUTE:
		return offset >= 0 ? (uint64_t)offset : a->base - 1 - (uint64_t)(int64_t)offset;
	case RELATIVE:
		return a->base + (uint32_t)offset;
	default:
		return k->address + at + (uint64_t)(int64_t)offset;
	}
}

/* Read this way, the addresses ascend and most of them are this kernel's. */
static bool addresses_fit(struct kallsyms *k, const struct addresses *a)
{
	uint64_t last = 0;
	uint32_t inside = 0;

	for (uint32_t i = 0; i < k->count; i++) {
		uint64_t address = address_of(k, a, i);

		k->work++;
		if (address < last)
			return false;
		last = address;
		inside += address >= k->address && address - k->address <= k->bytes;
	}
	return inside >= k->count / 2 + k->count % 2;
}

static bool try_based(struct kallsyms *k, struct addresses *a, size_t offsets, size_t base)
{
	if (!riffle_inside(offsets, (size_t)k->count * 4, k->bytes) || !riffle_inside(base, 8, k->bytes))
		return false;
	a->offsets = offsets;
	a->base_at = base;
	a->base = riffle_get64(k->image + base);
	/* the lowest symbol's address: lld's kernels have some far below the image, but 32 bits lead from there to its
	 * end */
	if (a->base > k->address + k->bytes || k->address + k->bytes - a->base > UINT32_MAX)
		return false;
	a->reading = PERCPU_ABSOLUTE;
	if (addresses_fit(k, a))
		return true;
	a->reading = RELATIVE;
	return addresses_fit(k, a);
}

static bool find_addresses(struct kallsyms *k, struct addresses *a)
{
	size_t bytes = (size_t)k->count * 4, behind = k->token_index + TOKEN_INDEX_BYTES;

	/* before the names: offsets, padding, base, num_syms */
	if (k->num_syms % 8 == 0 && k->num_syms >= 8 + align_up(bytes, 8) &&
	    try_based(k, a, k->num_syms - 8 - align_up(bytes, 8), k->num_syms - 8))
		return true;
	for (size_t align = 4; align <= 8; align += 4) {
		size_t offsets = align_up(behind, align);

		if (try_based(k, a, offsets, align_up(offsets + bytes, 8)))
			return true;
		if (riffle_inside(offsets, bytes, k->bytes)) {
			*a = (struct addresses){SELF_RELATIVE, offsets, 0, 0};
			if (addresses_fit(k, a))
				return true;
		}
	}
	return false;
}

/* Spells a name out; returns its length with the type letter, 0 when it is too long. */
static size_t expand(const struct kallsyms *k, size_t codes, size_t code_count, char *name)
{
	size_t used = 0;

	for (size_t i = 0; i < code_count; i++) {
		const char *token = (const char *)k->image + k->token_table + token_at(k, k->image[codes + i]);
		size_t bytes = strlen(token);

		if (bytes > NAME_MAX - used)
			return 0;
		memcpy(name + used, token, bytes);
		used += bytes;
	}
	return used;
}

/* How long all names are, spelt out, a NUL behind each and its type left out. */
static int measure_names(size_t *bytes, const struct kallsyms *k, struct riffle_error *error)
{
	size_t length[TOKENS], at = k->names, codes, code_count, packed = 0;

	for (unsigned i = 0; i < TOKENS; i++)
		length[i] = strlen((const char *)k->image + k->token_table + token_at(k, i));
	*bytes = 0;
	for (uint32_t i = 0; i < k->count; i++) {
		size_t name = 0;

		at = next_name(k, at, k->token_table, &codes, &code_count);
		for (size_t j = 0; at && j < code_count; j++)
			name += length[k->image[codes + j]];
		/* a type and a letter at least */
		if (!at || !name || name > NAME_MAX)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms", "symbol's name is too long", i);
		*bytes += name;
		packed += code_count + 1;
	}
	if (*bytes > packed * EXPANSION_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "kallsyms",
					    "names unpack to more than any kernel's", *bytes, packed * EXPANSION_MAX);
	return RIFFLE_OK;
}

static int read_symbols(struct symbols *symbols, const struct kallsyms *k, const struct addresses *a,
			struct riffle_error *error)
{
	size_t at = k->names, codes, code_count, bytes;
	char name[NAME_MAX];
	int status = measure_names(&bytes, k, error);

	if (status)
		return status;
	for (uint32_t i = 0; i < k->count; i++) {
		at = next_name(k, at, k->token_table, &codes, &code_count);
		bytes = expand(k, codes, code_count, name);
		if (!bytes)
			return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms", "symbol's name is too long", i);
		/* of aliases the kernel shows the first of its table: so do we, all ranks being equal */
		status = symbols_add(symbols, address_of(k, a, i), 0, name + 1, bytes - 1, error);
		if (status)
			return status;
	}
	return symbols_finish(symbols, error);
}

static int find(struct kallsyms *k, struct addresses *a, struct riffle_error *error)
{
	for (; riffle_inside(k->token_index, TOKEN_INDEX_BYTES, k->bytes); k->token_index += 4) {
		if (looks_like_index(k->image + k->token_index) && find_token_table(k) && find_names(k) &&
		    find_addresses(k, a))
			return RIFFLE_OK;
	}
	return riffle_fail(error, RIFFLE_ERR_FORMAT, "kallsyms", "no such tables in this kernel");
}

int symbols_from_kallsyms(struct symbols *symbols, const uint8_t *image, size_t bytes, struct riffle_error *error)
{
	struct kallsyms k = {.image = image, .bytes = bytes, .address = symbols->start};
	struct addresses a;
	int status = find(&k, &a, error);

	return status ? status : read_symbols(symbols, &k, &a, error);
}

/* Three bytes a symbol, the highest first, each number below the count once: no other bytes are like that. */
static int is_permutation(bool *yes, const struct kallsyms *k, size_t seqs, struct riffle_error *error)
{
	uint8_t *seen = calloc(k->count, 1);

	if (!seen)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "kallsyms", "needs more memory than there is");
	*yes = true;
	for (uint32_t i = 0; *yes && i < k->count; i++) {
		const uint8_t *p = k->image + seqs + (size_t)i * 3;
		uint32_t seq = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

		*yes = seq < k->count && !seen[seq];
		if (*yes)
			seen[seq] = 1;
	}
	free(seen);
	return RIFFLE_OK;
}

/* Where kallsyms_seqs_of_names lies; 0 in kernels from before it. */
static int find_seqs(size_t *seqs, const struct kallsyms *k, const struct addresses *a, struct riffle_error *error)
{
	size_t bytes = (size_t)k->count * 3, from, end;
	bool yes;
	int status;

	*seqs = 0;
	if (a->offsets < k->num_syms) { /* up to 6.3: before the tokens, or not at all */
		from = k->markers + marker_bytes_of(k);
		end = k->token_table;
		if (end - from < PADDING_MAX)
			return RIFFLE_OK;
	} else {
		from = a->reading == SELF_RELATIVE ? a->offsets + (size_t)k->count * 4 : a->base_at + 8;
		end = k->bytes;
	}
	/* a single marker is 0 like the padding in front of it, so the end of the markers is not exact */
	for (size_t at = align_up(from, 4); at < from + PADDING_MAX; at += 4) {
		if (!riffle_inside(at, bytes, end))
			continue;
		status = is_permutation(&yes, k, at, error);
		if (status)
			return status;
		if (yes) {
			*seqs = at;
			return RIFFLE_OK;
		}
	}
	return riffle_fail_found(error, RIFFLE_ERR_FORMAT, "kallsyms_seqs_of_names", "does not number each symbol once",
				 k->address + from);
}

int kallsyms_find(struct kallsyms_place *place, const uint8_t *image, size_t bytes, uint64_t address,
		  struct riffle_error *error)
{
	struct kallsyms k = {.image = image, .bytes = bytes, .address = address};
	struct addresses a;
	size_t seqs;
	int status;

	status = find(&k, &a, error);
	if (!status)
		status = find_seqs(&seqs, &k, &a, error);
	if (status)
		return status;
	*place = (struct kallsyms_place){
	    .self_relative = a.reading == SELF_RELATIVE,
	    .absolute_percpu = a.reading == PERCPU_ABSOLUTE,
	    .count = k.count,
	    .num_syms = k.num_syms,
	    .offsets = a.offsets,
	    .base = a.base_at,
	    .relative_base = a.base,
	    .names = k.names,
	    .names_bytes = k.names_end - k.names,
	    .markers = k.markers,
	    .seqs = seqs,
	    .tokens = k.token_table,
	    .tokens_bytes = k.token_index + TOKEN_INDEX_BYTES - k.token_table,
	};
	return RIFFLE_OK;
}

static void make_plain(char *to, const char *from, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		to[i] = from[i] > ' ' && from[i] < 0x7f ? from[i] : '?';
	to[bytes] = 0;
}

int kallsyms_read(char **names, const struct kallsyms_place *place, const uint8_t *image, size_t bytes,
		  uint64_t address, kallsyms_add *add, void *opaque, struct riffle_error *error)
{
	struct kallsyms k = {.image = image,
			     .bytes = bytes,
			     .address = address,
			     .token_table = place->tokens,
			     .token_index = place->tokens + place->tokens_bytes - TOKEN_INDEX_BYTES,
			     .names = place->names,
			     .count = place->count};
	struct addresses a = {.reading = place->self_relative     ? SELF_RELATIVE
					 : place->absolute_percpu ? PERCPU_ABSOLUTE
								  : RELATIVE,
			      .offsets = place->offsets,
			      .base = place->relative_base};
	size_t at = place->names, codes, code_count, used;
	char name[NAME_MAX], *next;
	int status;

	*names = NULL;
	status = measure_names(&used, &k, error);
	if (status)
		return status;
	next = *names = malloc(used + 1);
	if (!next)
		return riffle_fail_found(error, RIFFLE_ERR_MEMORY, "kallsyms", "needs more memory than there is", used);
	for (uint32_t i = 0; i < k.count; i++) {
		at = next_name(&k, at, k.token_table, &codes, &code_count);
		used = expand(&k, codes, code_count, name);
		make_plain(next, name + 1, used - 1);
		add(opaque, address_of(&k, &a, i), name[0], next);
		next += used;
	}
	return RIFFLE_OK;
}

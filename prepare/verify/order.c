/* SPDX-License-Identifier: Apache-2.0 */
/* The sorted tables under a layout: decoded to addresses, the addresses moved, sorted by them, written anew. */
#include <stdlib.h>

#include "prepare/verify/internal.h"

struct entry {
	uint64_t key;  /* address after the shuffle, without delta */
	uint32_t from; /* number at link time: entries of one address stay in that order */
};

static int by_key(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (x->from > y->from) - (x->from < y->from);
}

static struct entry *new_entries(uint32_t count, struct riffle_error *error)
{
	struct entry *entries = calloc((size_t)count + 1, sizeof *entries);

	if (!entries)
		riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	return entries;
}

/* The link address that a distance at `field` leads to. */
static uint64_t led_to(const struct verify *v, uint32_t field)
{
	return v->link_virt + field + (uint64_t)(int64_t)(int32_t)riffle_get32(v->bytes + field);
}

static void put_distance(const struct verify *v, uint8_t *image, uint32_t field, uint64_t address)
{
	riffle_put32(image + field, (uint32_t)(address - (v->link_virt + field)));
}

static int write_extable(const struct verify *v, const struct places *p, uint8_t *image, struct riffle_error *error)
{
	uint32_t count = v->extable.entries;
	struct entry *entry = new_entries(count, error);

	if (!entry)
		return error->status;
	for (uint32_t i = 0; i < count; i++)
		entry[i] = (struct entry){place_address(p, v, led_to(v, v->extable.offset + 12 * i)), i};
	qsort(entry, count, sizeof *entry, by_key);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t from = v->extable.offset + 12 * entry[i].from, to = v->extable.offset + 12 * i;

		put_distance(v, image, to, entry[i].key);
		put_distance(v, image, to + 4, place_address(p, v, led_to(v, from + 4)));
		if (v->extable.handlers)
			put_distance(v, image, to + 8, place_address(p, v, led_to(v, from + 8)));
		else
			memcpy(image + to + 8, v->bytes + from + 8, 4);
	}
	free(entry);
	return 0;
}

static int write_orc(const struct verify *v, const struct places *p, uint8_t *image, struct riffle_error *error)
{
	uint32_t count = v->orc.entries;
	struct entry *entry = new_entries(count, error);

	if (!entry)
		return error->status;
	for (uint32_t i = 0; i < count; i++)
		entry[i] = (struct entry){place_address(p, v, led_to(v, v->orc.offset + 4 * i)), i};
	qsort(entry, count, sizeof *entry, by_key);
	for (uint32_t i = 0; i < count; i++) {
		put_distance(v, image, v->orc.offset + 4 * i, entry[i].key);
		memcpy(image + v->orc.second + 6 * i, v->bytes + v->orc.second + 6 * entry[i].from, 6);
	}
	free(entry);
	return 0;
}

/*
 * Addresses in full; 0 for weak functions that were overridden (6.15, and stable ones). ftrace skips 0, and what KASLR
 * makes of it: without a shuffle the kernel's own relocations have added to it.
 */
static int write_mcount(const struct verify *v, const struct places *p, uint8_t *image, struct riffle_error *error)
{
	uint32_t count = v->mcount.entries;
	struct entry *entry = new_entries(count, error);

	if (!entry)
		return error->status;
	for (uint32_t i = 0; i < count; i++)
		entry[i] = (struct entry){place_address(p, v, riffle_get64(v->bytes + v->mcount.offset + 8 * i)), i};
	qsort(entry, count, sizeof *entry, by_key);
	for (uint32_t i = 0; i < count; i++)
		riffle_put64(image + v->mcount.offset + 8 * i, entry[i].key ? entry[i].key + p->delta : 0);
	free(entry);
	return 0;
}

static uint32_t encode_address(const struct verify *v, uint32_t place, uint64_t address)
{
	const struct names *n = &v->names;
	uint64_t base = n->base ? riffle_get64(v->bytes + n->base) : 0;

	if (n->self_relative)
		return (uint32_t)(address - (v->link_virt + n->offsets + 4 * place));
	if (!n->absolute_percpu)
		return (uint32_t)(address - base);
	return address >= base ? (uint32_t)(base - 1 - address) : (uint32_t)address;
}

static void write_seqs(const struct verify *v, const struct entry *entry, uint32_t *place, uint8_t *image)
{
	const struct names *n = &v->names;

	for (uint32_t i = 0; i < n->count; i++)
		place[entry[i].from] = i;
	for (uint32_t i = 0; i < n->count; i++) {
		const uint8_t *from = v->bytes + n->seqs + 3 * i;
		uint32_t seq = place[(uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2]];
		uint8_t *to = image + n->seqs + 3 * i;

		to[0] = (uint8_t)(seq >> 16);
		to[1] = (uint8_t)(seq >> 8);
		to[2] = (uint8_t)seq;
	}
}

static int write_kallsyms(const struct verify *v, const struct places *p, uint8_t *image, struct riffle_error *error)
{
	const struct names *n = &v->names;
	struct entry *entry = new_entries(n->count, error);
	uint32_t *place = calloc(n->count + 1, sizeof *place), at = n->names;

	if (!entry || !place) {
		free(entry);
		free(place);
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "verify", "out of memory");
	}
	for (uint32_t i = 0; i < n->count; i++)
		entry[i] = (struct entry){place_address(p, v, n->address[i]), i};
	qsort(entry, n->count, sizeof *entry, by_key);
	for (uint32_t i = 0; i < n->count; i++) {
		uint32_t from = n->name[entry[i].from], bytes = n->name[entry[i].from + 1] - from;

		riffle_put32(image + n->offsets + 4 * i, encode_address(v, i, entry[i].key));
		memcpy(image + at, v->bytes + from, bytes);
		if (i % 256 == 0)
			riffle_put32(image + n->markers + i / 256 * 4, at - n->names);
		at += bytes;
	}
	if (n->seqs)
		write_seqs(v, entry, place, image);
	free(entry);
	free(place);
	return 0;
}

int verify_write_sorted(const struct verify *v, const struct places *p, uint8_t *image, struct riffle_error *error)
{
	int status;

	/* KASLR alone leaves all of them as they are, which need not be sorted: the kernel may sort them as it starts
	 */
	if (!p->shuffled)
		return 0;
	status = write_extable(v, p, image, error);
	if (!status)
		status = write_orc(v, p, image, error);
	if (!status)
		status = write_mcount(v, p, image, error);
	if (!status && v->names.present)
		status = write_kallsyms(v, p, image, error);
	return status;
}

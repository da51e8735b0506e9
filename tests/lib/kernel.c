/* SPDX-License-Identifier: Apache-2.0 */
/* A small kernel's contents: segments whose relocated fields hold what the kernel's linker would have put there. */
#include <stdlib.h>
#include <string.h>

#include "tests/lib/kernel_parts.h"

struct test_kernel_spec test_kernel_spec(void)
{
	return (struct test_kernel_spec){.link_phys = 16u << 20,
					 .entry_offset = 0x10,
					 .segment_bytes = 1024,
					 .bss_bytes = 0x1800,
					 .relocs = 12,
					 .percpu_at_zero = true,
					 .rela = false,
					 .sections = true,
					 .seed = 1};
}

static void add(struct test_relocs *relocs, uint32_t offset)
{
	relocs->offset = realloc(relocs->offset, (relocs->count + 1) * sizeof offset);
	if (!relocs->offset)
		abort();
	relocs->offset[relocs->count++] = offset;
}

static void fill(struct test_kernel *k, uint64_t *state)
{
	unsigned s;
	uint32_t i;

	for (s = 0; s < TEST_SEGMENTS; s++) {
		k->bytes[s] = malloc(k->spec.segment_bytes);
		if (!k->bytes[s])
			abort();
		for (i = 0; i < k->spec.segment_bytes; i++)
			k->bytes[s][i] = (uint8_t)(1 + test_random(state) % 255);
	}
}

/* init/version-timestamp.c's banner and a .notes section, at the start of .data */
static void put_banner_and_note(struct test_kernel *k)
{
	static const char banner[] = "Linux version " TEST_KERNEL_VERSION "\n";
	static const uint32_t note[] = {4, 20, NT_GNU_BUILD_ID};
	uint8_t *data = k->bytes[TEST_DATA];

	memcpy(data, banner, sizeof banner);
	data += TEST_NOTE_AT;
	memcpy(data, note, sizeof note);
	memcpy(data + 12, "GNU", 4);
	memcpy(data + 16, TEST_KERNEL_BUILD_ID, 20);
}

static void put_field(struct test_kernel *k, unsigned segment, uint32_t at, unsigned kind, uint64_t *state)
{
	uint64_t target = k->link_virt + test_random(state) % k->image_bytes;
	uint32_t offset = k->start[segment] + at;
	uint8_t *field = k->bytes[segment] + at;
	uint32_t low = (uint32_t)target;

	switch (kind) {
	case 0:
		memcpy(field, &target, 8);
		add(&k->reloc64, offset);
		break;
	case 1:
		memcpy(field, &low, 4);
		add(&k->reloc32, offset);
		break;
	default: /* gs:[rip + distance]: the percpu offset less the address behind the field */
		low = (uint32_t)(test_random(state) % k->spec.segment_bytes - (k->link_virt + offset + 4));
		memcpy(field, &low, 4);
		add(&k->reloc32_inverse, offset);
		break;
	}
}

/* Fields lie 16 bytes and more apart, some of them unaligned, as kernels have it. */
static void put_fields(struct test_kernel *k, uint64_t *state)
{
	unsigned s, kinds;
	uint32_t i;

	for (s = 0; s < TEST_SEGMENTS; s++) {
		kinds = s == TEST_PERCPU ? 1 : s == TEST_TEXT && k->spec.percpu_at_zero ? 3 : 2;
		for (i = 0; i < k->spec.relocs && TEST_FIELD_AT(i) + 16 <= k->spec.segment_bytes; i++)
			put_field(k, s, TEST_FIELD_AT(i), i % kinds, state);
	}
}

void test_relocs_list(struct test_bytes *list, uint64_t link_virt, const struct test_relocs *reloc64,
		      const struct test_relocs *inverse, const struct test_relocs *reloc32)
{
	const struct test_relocs *lists[] = {reloc64, inverse, reloc32};
	unsigned n;
	uint32_t i;

	for (n = 0; n < 3; n++) {
		if (!lists[n])
			continue;
		test_bytes_word(list, 0);
		for (i = 0; i < lists[n]->count; i++)
			test_bytes_word(list, (uint32_t)link_virt + lists[n]->offset[i]);
	}
}

void test_kernel_build(struct test_kernel *k, const struct test_kernel_spec *spec)
{
	uint64_t state = spec->seed;
	uint32_t pages = (spec->segment_bytes + 4095) / 4096;
	unsigned s;

	memset(k, 0, sizeof *k);
	k->spec = *spec;
	k->link_virt = UINT64_C(0xffffffff80000000) + spec->link_phys;
	for (s = 0; s < TEST_SEGMENTS; s++)
		k->start[s] = s * pages * 4096;
	k->image_bytes = k->start[TEST_INIT] + spec->segment_bytes + spec->bss_bytes;
	fill(k, &state);
	put_banner_and_note(k);
	put_fields(k, &state);
	test_relocs_list(&k->list, k->link_virt, &k->reloc64, spec->percpu_at_zero ? &k->reloc32_inverse : NULL,
			 &k->reloc32);
	test_kernel_write_elf(k);
}

void test_kernel_free(struct test_kernel *k)
{
	unsigned s;

	for (s = 0; s < TEST_SEGMENTS; s++)
		free(k->bytes[s]);
	free(k->reloc64.offset);
	free(k->reloc32.offset);
	free(k->reloc32_inverse.offset);
	test_bytes_free(&k->elf);
	test_bytes_free(&k->list);
	memset(k, 0, sizeof *k);
}

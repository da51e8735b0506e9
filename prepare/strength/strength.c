/* SPDX-License-Identifier: Apache-2.0 */
/* Counts a kernel's gadgets by class, and those of them that a shuffle of functions leaves at a fixed distance. */
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "prepare/strength/internal.h"

static const char *const names[STRENGTH_CLASSES] = {
    [STRENGTH_LOAD_RDI] = "load_rdi",
    [STRENGTH_LOAD_RSI] = "load_rsi",
    [STRENGTH_LOAD_RDX] = "load_rdx",
    [STRENGTH_LOAD_RCX] = "load_rcx",
    [STRENGTH_LOAD_R8] = "load_r8",
    [STRENGTH_LOAD_R9] = "load_r9",
    [STRENGTH_STORE] = "store",
    [STRENGTH_READ] = "read",
    [STRENGTH_PIVOT] = "pivot",
    [STRENGTH_CALL] = "call",
    [STRENGTH_CALL_LOADED] = "call_loaded",
    [STRENGTH_CONTROL] = "control",
    [STRENGTH_USER] = "user",
};

#define STACK (UINT16_C(1) << 4) /* rsp */
#define CLASS(name) (UINT32_C(1) << STRENGTH_##name)

const char *strength_class_name(enum strength_class class)
{
	return names[class];
}

bool strength_is_useful(uint32_t classes)
{
	return classes & (CLASS(LOAD_RDI) | CLASS(LOAD_RSI) | CLASS(LOAD_RDX) | CLASS(STORE) | CLASS(PIVOT) |
			  CLASS(CALL_LOADED) | CLASS(CONTROL));
}

static void count(struct strength_counts *counts, uint32_t classes)
{
	counts->starts++;
	for (unsigned i = 0; i < STRENGTH_CLASSES; i++)
		counts->class[i] += classes >> i & 1;
}

/* A gadget's effect, kept until it is known which registers others can load. */
struct found {
	uint32_t at; /* in the text */
	uint32_t classes;
	uint16_t through;
	bool fixed;
};

struct measurement {
	struct strength *strength;
	struct gadget_text text;
	uint8_t *moves; /* of each byte of the text: part of a chunk */
	struct found *found;
	uint32_t count, room;
	uint16_t loadable[2]; /* registers that a gadget that returns can load: of all gadgets, of the fixed ones */
	uint16_t stacked;     /* of the fixed ones: from the stack */
};

/* A hole that the linker filled: as many equal bytes as no code has. */
#define HOLE_BYTES 64u

static uint32_t run_of(const struct gadget_text *text, uint32_t at)
{
	uint32_t end = at;

	while (end < text->bytes && text->code[end] == text->code[at])
		end++;
	return end - at;
}

/* Ranges that follow each other without a gap change places with each other: how many do from `first` on. */
static uint32_t region_of(const struct shuffle *shuffle, uint32_t first)
{
	uint32_t i = first;

	while (i < shuffle->range_count && shuffle->range[i].pin == SHUFFLE_PIN_NONE)
		i++;
	return i - first;
}

static void mark_range(struct measurement *m, const struct shuffle_range *range)
{
	const struct gadget_text *text = &m->text;

	if (range->offset >= text->offset && riffle_inside(range->offset - text->offset, range->bytes, text->bytes))
		memset(m->moves + (range->offset - text->offset), 1, range->bytes);
}

static int mark_moves(struct measurement *m, const struct shuffle *shuffle, struct riffle_error *error)
{
	const struct gadget_text *text = &m->text;
	struct strength *strength = m->strength;

	m->moves = calloc(text->bytes, 1);
	if (!m->moves)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "gadgets", "out of memory");
	for (uint32_t i = 0; shuffle && i < shuffle->range_count;) {
		uint32_t count = region_of(shuffle, i);

		for (uint32_t k = i; k < i + count && count >= STRENGTH_PLACES; k++)
			mark_range(m, &shuffle->range[k]);
		i += count ? count : 1;
	}
	for (uint32_t at = 0, run; at < text->bytes; at += run) {
		run = run_of(text, at);
		if (run >= HOLE_BYTES)
			continue;
		strength->text_bytes += run;
		for (uint32_t i = at; i < at + run; i++)
			strength->fixed_bytes += !m->moves[i];
	}
	return 0;
}

/* Where a gadget's last instruction ends. */
static uint32_t end_of(const struct gadget_text *text, uint32_t at)
{
	for (unsigned left = text->steps[at]; left; left--)
		at += text->length[at];
	return at;
}

static int keep(struct measurement *m, uint32_t at, const struct gadget_effect *e, struct riffle_error *error)
{
	bool fixed = !m->moves[at] && !m->moves[end_of(&m->text, at) - 1];

	if (m->count == m->room) {
		uint32_t more = m->room ? 2 * m->room : 65536;
		struct found *grown = reallocarray(m->found, more, sizeof *grown);

		if (!grown)
			return riffle_fail(error, RIFFLE_ERR_MEMORY, "gadgets", "out of memory");
		m->found = grown;
		m->room = more;
	}
	m->found[m->count++] = (struct found){at, e->classes, e->through, fixed};
	if (e->returns) {
		m->loadable[0] |= e->loaded;
		m->loadable[1] |= fixed ? e->loaded : 0;
		m->stacked |= fixed ? e->stacked : 0;
	}
	return 0;
}

static int find_all(struct measurement *m, struct riffle_error *error)
{
	struct gadget_effect effect;
	int status = 0;

	for (uint32_t at = 0; at < m->text.bytes && !status; at++) {
		if (!m->text.steps[at])
			continue;
		gadget_effect(&effect, &m->text, at);
		status = keep(m, at, &effect, error);
	}
	return status;
}

/* A call is as good as a loaded one when a chain can load what it goes through; the stack pointer is there already. */
static uint32_t with_loaded(const struct found *f, uint16_t loadable)
{
	return f->classes & CLASS(CALL) && !(f->through & ~(loadable | STACK)) ? f->classes | CLASS(CALL_LOADED)
									       : f->classes;
}

/* The two ways: a jump through memory that a register points to, or through a register that was loaded from there. */
static bool is_kit(const struct measurement *m)
{
	const uint16_t known = m->stacked | STACK;
	struct gadget_effect e;
	uint16_t fetched = 0;

	for (unsigned pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; i < m->count; i++) {
			if (!m->found[i].fixed)
				continue;
			gadget_effect(&e, &m->text, m->found[i].at);
			if (!(e.pointers & ~known) && e.returns)
				fetched |= e.fetched;
			if (!pass || !(e.classes & CLASS(CALL)))
				continue;
			if (e.through_memory && e.through & ~STACK && !(e.through & ~(known | e.stacked)))
				return true;
			if (!e.through_memory && !(e.through & ~(fetched | (e.pointers & ~known ? 0 : e.fetched))))
				return true;
		}
	return false;
}

static int sum_up(struct measurement *m, struct riffle_error *error)
{
	struct strength *s = m->strength;

	s->kit = is_kit(m);
	s->gadget = calloc((size_t)m->count + 1, sizeof *s->gadget);
	if (!s->gadget)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "gadgets", "out of memory");
	for (uint32_t i = 0; i < m->count; i++) {
		const struct found *f = &m->found[i];
		uint32_t classes = with_loaded(f, m->loadable[1]);

		count(&s->all, with_loaded(f, m->loadable[0]));
		if (!f->fixed)
			continue;
		count(&s->fixed, classes);
		if (strength_is_useful(classes))
			s->gadget[s->gadget_count++] = (struct strength_gadget){m->text.offset + f->at, classes};
	}
	return 0;
}

int strength_measure(struct strength *strength, const struct riffle_image *image, const struct shuffle *shuffle,
		     struct riffle_error *error)
{
	struct measurement m = {.strength = strength};
	int status;

	memset(strength, 0, sizeof *strength);
	status = gadgets_find(&m.text, image, error);
	if (!status)
		status = mark_moves(&m, shuffle, error);
	if (!status)
		status = find_all(&m, error);
	if (!status)
		status = sum_up(&m, error);
	gadgets_free(&m.text);
	free(m.moves);
	free(m.found);
	if (status)
		strength_free(strength);
	return status;
}

void strength_free(struct strength *strength)
{
	free(strength->gadget);
	strength->gadget = NULL;
	strength->gadget_count = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of the search for the mode of /proc/kallsyms: found in every form of the call, and nowhere else. */
#include "work_builder.h"

#define CREATE 0x3000u /* proc_create() */
#define OTHER 0x3040u  /* some other function */
#define TEXT 0x4000u
#define INIT TEXT           /* kallsyms_init(), in code that does not move */
#define NEXT (INIT + 0x80u) /* the function behind it */
#define DATA (TEXT + 2 * OTHER_BYTES)
#define NAME (DATA + 0x10u) /* "kallsyms" */
#define OTHER_NAME (DATA + 0x20u)

#define MODE "\xbe\x24\x01\x00\x00" /* mov $0444,%esi */

struct code {
	struct builder *b;
	uint32_t at;
};

static struct builder *kernel(void)
{
	struct builder *b = build(TEXT);

	add_symbol(b, CREATE, "proc_create");
	add_symbol(b, OTHER, "other");
	add_symbol(b, INIT, "kallsyms_init");
	add_symbol(b, NEXT, "next_init");
	CODE(b, CREATE, "\xc3");
	CODE(b, OTHER, "\xc3");
	CODE(b, NEXT, "\xc3");
	put(b, NAME, "kallsyms", 9);
	put(b, OTHER_NAME, "kallsyms_too", 13);
	return b;
}

static void emit(struct code *c, const char *bytes, size_t count)
{
	put(c->b, c->at, bytes, count);
	c->at += (uint32_t)count;
}

#define EMIT(c, bytes) emit(c, bytes, sizeof(bytes) - 1)

static void emit_rel32(struct code *c, const char *opcode, size_t count, uint32_t target)
{
	put_rel32(c->b, c->at, opcode, count, target);
	c->at += (uint32_t)count + 4;
}

/* mov $string,%rdi */
static void emit_name(struct code *c, uint32_t string)
{
	EMIT(c, "\x48\xc7\xc7");
	riffle_put32(c->b->work.bytes + c->at, (uint32_t)(LINK + string));
	c->at += 4;
}

static uint32_t found(struct builder *b)
{
	uint32_t mode;

	good(b, code_decode(&b->work, &b->error));
	good(b, kallsyms_mode_find(&b->work, &b->error));
	mode = b->result.kallsyms_mode;
	tear_down(b);
	return mode;
}

/* mov $0444,%esi; mov $"kallsyms",%rdi; call proc_create; ret */
static void emit_call(struct code *c)
{
	EMIT(c, MODE);
	emit_name(c, NAME);
	emit_rel32(c, "\xe8", 1, CREATE);
	EMIT(c, "\xc3");
}

/* What compilers make of it: gcc's order and clang's, with other instructions between, by a jump, relative to %rip. */
static void test_forms(void **state)
{
	struct code c = {kernel(), INIT};

	(void)state;
	EMIT(&c, "\x31\xd2"); /* xor %edx,%edx */
	emit_call(&c);
	assert_int_equal(found(c.b), INIT + 3);

	c = (struct code){kernel(), INIT};
	emit_name(&c, NAME);
	EMIT(&c, MODE);
	EMIT(&c, "\x48\x89\xe5\x31\xd2"); /* mov %rsp,%rbp; xor %edx,%edx */
	emit_rel32(&c, "\xe8", 1, CREATE);
	assert_int_equal(found(c.b), INIT + 8);

	c = (struct code){kernel(), INIT};
	emit_rel32(&c, "\xe8", 1, OTHER); /* __fentry__ */
	EMIT(&c, MODE);
	emit_rel32(&c, "\x48\x8d\x3d", 3, NAME);
	emit_rel32(&c, "\xe9", 1, CREATE);
	assert_int_equal(found(c.b), INIT + 6);

	/* mov $0444,%rsi */
	c = (struct code){kernel(), INIT};
	emit_name(&c, NAME);
	EMIT(&c, "\x48\xc7\xc6\x24\x01\x00\x00");
	emit_rel32(&c, "\xe8", 1, CREATE);
	assert_int_equal(found(c.b), INIT + 10);
}

/* Another function of the family, and one without a name of its own where the call is. */
static void test_names(void **state)
{
	struct code c = {kernel(), INIT};

	(void)state;
	c.b->work.symbol[1].name = "proc_create_data";
	c.b->work.symbol[3].name = "__initstub__kmod_kallsyms__389_1052_kallsyms_init6";
	emit_call(&c);
	assert_int_equal(found(c.b), INIT + 1);

	c = (struct code){kernel(), INIT};
	c.b->work.symbol[1].name = "sysfs_create_file";
	emit_call(&c);
	assert_int_equal(found(c.b), 0);

	/* data of such a name is no function */
	c = (struct code){kernel(), INIT};
	c.b->work.symbol[1].type = 'd';
	emit_call(&c);
	assert_int_equal(found(c.b), 0);

	/* more functions of such names than any kernel has */
	c = (struct code){kernel(), INIT};
	for (uint32_t i = 0; i < 32; i++)
		add_symbol(c.b, NEXT + 16 + i, "proc_create_x");
	emit_call(&c);
	assert_int_equal(found(c.b), 0);
}

/* What comes between the mode and the call, and makes it another one or unknown. */
static void test_doubts(void **state)
{
	static const struct {
		const char *what, *code;
		size_t bytes;
	} doubts[] = {
#define DOUBT(what, code) {what, code, sizeof(code) - 1}
	    DOUBT("mov $0400,%esi", "\xbe\x00\x01\x00\x00"),
	    DOUBT("mov %ebx,%esi", "\x89\xde"),
	    DOUBT("mov $0x24,%sil", "\x40\xb6\x24"),
	    DOUBT("or $1,%esi", "\x83\xce\x01"),
	    DOUBT("mov %esi,%eax", "\x89\xf0"),
	    DOUBT("mov (%rsi),%eax", "\x8b\x06"),
	    DOUBT("mov (%rax,%rsi),%eax", "\x8b\x04\x30"),
	    DOUBT("lods", "\xac"),
	    DOUBT("xor %edi,%edi", "\x31\xff"),
	    DOUBT("stos", "\xaa"),
	    DOUBT("jmp, to the next instruction", "\xeb\x00"),
	    DOUBT("je, to the next instruction", "\x74\x00"),
	    DOUBT("call *%rax", "\xff\xd0"),
	    DOUBT("what is no instruction", "\x06"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof doubts / sizeof *doubts; i++) {
		struct code c = {kernel(), INIT};
		uint32_t mode;

		EMIT(&c, MODE);
		emit_name(&c, NAME);
		emit(&c, doubts[i].code, doubts[i].bytes);
		emit_rel32(&c, "\xe8", 1, CREATE);
		mode = found(c.b);
		if (mode)
			fail_msg("%s: found %x", doubts[i].what, mode);
	}
}

static void test_other_arguments(void **state)
{
	static const char *const modes[] = {
	    "\xbe\x24\x01\x01\x00", /* mov $0x10124,%esi */
	    "\xbe\x00\x01\x00\x00", /* mov $0400,%esi */
	    "\xbf\x24\x01\x00\x00", /* mov $0444,%edi */
	    "\x68\x24\x01\x00\x00", /* push $0444 */
	};
	struct code c;

	(void)state;
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		c = (struct code){kernel(), INIT};
		emit(&c, modes[i], 5);
		emit_name(&c, NAME);
		emit_rel32(&c, "\xe8", 1, CREATE);
		assert_int_equal(found(c.b), 0);
	}
	/* movabs $0444,%rsi: its field has 64 bits */
	c = (struct code){kernel(), INIT};
	EMIT(&c, "\x48\xbe\x24\x01\x00\x00\x00\x00\x00\x00");
	emit_name(&c, NAME);
	emit_rel32(&c, "\xe8", 1, CREATE);
	assert_int_equal(found(c.b), 0);
	/* another file; and one outside the image */
	for (uint32_t i = 0; i < 2; i++) {
		c = (struct code){kernel(), INIT};
		EMIT(&c, MODE);
		emit_name(&c, i ? TEXT + 3 * OTHER_BYTES - 4 : OTHER_NAME);
		emit_rel32(&c, "\xe8", 1, CREATE);
		assert_int_equal(found(c.b), 0);
	}
	/* no call at all */
	c = (struct code){kernel(), INIT};
	EMIT(&c, MODE);
	emit_name(&c, NAME);
	EMIT(&c, "\xc3");
	assert_int_equal(found(c.b), 0);
}

/* Two such calls: one of them must not be closed alone. Those of other files do not count. */
static void test_one_of_two(void **state)
{
	struct code c = {kernel(), INIT};

	(void)state;
	emit_call(&c);
	c.at = NEXT;
	EMIT(&c, MODE);
	emit_name(&c, OTHER_NAME);
	emit_rel32(&c, "\xe8", 1, CREATE);
	assert_int_equal(found(c.b), INIT + 1);

	for (unsigned i = 0; i < 2; i++) {
		c = (struct code){kernel(), INIT};
		emit_call(&c);
		c.at = NEXT;
		if (i)
			EMIT(&c, MODE);
		emit_name(&c, NAME);
		emit_rel32(&c, "\xe8", 1, CREATE);
		assert_int_equal(found(c.b), 0);
	}
}

/* A branch of the function into the middle comes with arguments of its own. */
static void test_entered(void **state)
{
	struct code c = {kernel(), INIT};

	(void)state;
	emit_call(&c);
	emit_rel32(&c, "\x0f\x84", 2, INIT + 5);
	assert_int_equal(found(c.b), 0);

	c = (struct code){kernel(), INIT};
	emit_call(&c);
	emit_rel32(&c, "\x0f\x84", 2, INIT + 12); /* to the call itself */
	assert_int_equal(found(c.b), 0);

	/* to the first of the instructions, or behind the last: all or nothing */
	c = (struct code){kernel(), INIT};
	emit_call(&c);
	emit_rel32(&c, "\x0f\x84", 2, INIT);
	emit_rel32(&c, "\x0f\x84", 2, INIT + 17);
	assert_int_equal(found(c.b), INIT + 1);
}

/* A mode that moves or that the kernel's own relocations change is not one that a load can write. */
static void test_places(void **state)
{
	struct code c = {kernel(), 0x3080};

	(void)state;
	c.b->work.symbol[3].offset = 0x3080;
	emit_call(&c);
	assert_int_equal(found(c.b), 0);

	for (uint32_t i = 0; i < 3; i++)
		for (uint32_t k = 0; k < 2; k++) {
			struct image_relocs *list;

			c = (struct code){kernel(), INIT};
			list = i == 0   ? &c.b->image.reloc64
			       : i == 1 ? &c.b->image.reloc32
					: &c.b->image.reloc32_inverse;
			emit_call(&c);
			relocate(c.b, list, k ? INIT + 4 : INIT + 1 - (i ? 3 : 7));
			assert_int_equal(found(c.b), 0);
		}
	/* next to it */
	c = (struct code){kernel(), INIT};
	emit_call(&c);
	relocate(c.b, &c.b->image.reloc32, INIT + 1 - 4);
	relocate(c.b, &c.b->image.reloc32, INIT + 5);
	assert_int_equal(found(c.b), INIT + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_forms),           cmocka_unit_test(test_names),      cmocka_unit_test(test_doubts),
	    cmocka_unit_test(test_other_arguments), cmocka_unit_test(test_one_of_two), cmocka_unit_test(test_entered),
	    cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

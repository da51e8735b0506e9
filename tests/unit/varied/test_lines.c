/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of objdump made of every address, mnemonic and operand that matters: what is read of each is as recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "prepare/verify/internal.h"
#include "tests/unit/recorded.h"

static void test_lines(void **state)
{
	static const char *const addresses[] = {
	    "ffffffff81000010:\t", "  ffffffff8100abcd:\t", "0:\t",   "ffffffff81000010: ",
	    "ffffffff81000010;\t", "ffffffff81000010",      "g10:\t", "",
	    "<function>:\t",       "\tffffffff81000010:\t"};
	static const char *const words[] = {
	    "ret",          "retq",       "lret",      "lretq",      "iret",        "iretq",    "iretd",
	    "sysret",       "sysretq",    "sysretl",   "sysexit",    "sysexitl",    "sysexitq", "jmp",
	    "jmpq",         "ljmp",       "ljmpq",     "call",       "callq",       "calls",    "cal",
	    "ud0",          "ud1",        "ud2",       "ud3",        "int3",        "int1",     "int",
	    "vmresume",     "vmlaunch",   "nop",       "nopw",       "nopl",        "no",       "xchg",
	    "xchgl",        "xadd",       "mov",       "lea",        "loop",        "loopne",   "loo",
	    "je",           "jne,pt",     "jrcxz",     "xbegin",     "xabort",      "bzhiqq",   "lock addl",
	    "rep ret",      "repz retq",  "repnz jmp", "data16 nop", "addr32 call", "bnd jmp",  "notrack jmp",
	    "cs nopw",      "ds jmp",     "es lea",    "ss mov",     "fs mov",      "gs mov",   "xacquire lock addl",
	    "xrelease mov", "rex.W call", "rex",       "re ret",     "lock",        "repp ret", "",
	};
	static const char *const operands[] = {
	    "",
	    "   ffffffff81000200",
	    " ffffffff81000200 <f>",
	    " ffffffff81000200 <f+0x1>\n",
	    " ffffffff81000200\n",
	    " ffffffff81000200,%rax",
	    " *%rax",
	    " *0x10(%rax)",
	    " %ax,%ax",
	    " %ax,%ax\n",
	    " %eax,%ax",
	    " 0x123(%rip)        # ffffffff81000200 <f>",
	    " -0x123(%rip),%rax        # ffffffff81000200",
	    " $0x1,0x0(%rip)        # 200",
	    " (%rip)        # 200",
	    " 0x10(%rip)",
	    " %gs:-0x7f(%rip)        # ffffffff80000000",
	    " 0x10(%rax)  # 200",
	    " 12x",
	    " x12",
	};
	static const struct recording wanted = {"lines", UINT64_C(0x41544f23546af19f), 4200, 9800};
	struct recorded r = recorded_begin(wanted.name);

	(void)state;
	for (size_t a = 0; a < sizeof addresses / sizeof *addresses; a++)
		for (size_t w = 0; w < sizeof words / sizeof *words; w++)
			for (size_t o = 0; o < sizeof operands / sizeof *operands; o++) {
				struct objdump_line line;
				char text[256];

				snprintf(text, sizeof text, "%s%s%s", addresses[a], words[w], operands[o]);
				if (!verify_parse_line(&line, text)) {
					r.refused++;
					continue;
				}
				r.accepted++;
				record(&r, "%s: %llx%s%s%s%s, %llx, %lld", text, (unsigned long long)line.address,
				       line.branch ? " branch" : "", line.rip ? " rip" : "", line.stops ? " stops" : "",
				       line.padding ? " padding" : "", (unsigned long long)line.target,
				       (long long)line.displacement);
			}
	assert_true(recorded_is(&r, &wanted));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests_name("varied-lines", tests, NULL, NULL);
}

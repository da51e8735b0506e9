/* SPDX-License-Identifier: Apache-2.0 */
/* One line of objdump -d: what the instruction refers to, and whether control runs on behind it. */
#include <ctype.h>
#include <stdlib.h>

#include "prepare/verify/internal.h"

static bool is_word(const char *text, size_t bytes, const char *const *list)
{
	for (; *list; list++)
		if (strlen(*list) == bytes && !memcmp(*list, text, bytes))
			return true;
	return false;
}

static bool is_prefix(const char *text, size_t bytes)
{
	static const char *const prefixes[] = {"lock", "rep",     "repz",     "repnz",    "data16", "addr32",
					       "bnd",  "notrack", "cs",       "ds",       "es",     "ss",
					       "fs",   "gs",      "xacquire", "xrelease", NULL};

	return is_word(text, bytes, prefixes) || (bytes >= 3 && !memcmp(text, "rex", 3));
}

/* calls count as ends: those that return are followed by more code of the same function */
static bool does_stop(const char *text, size_t bytes)
{
	static const char *const stops[] = {"ret",    "retq",    "lret",    "lretq",   "iret",     "iretq",
					    "sysret", "sysretq", "sysretl", "sysexit", "sysexitl", "sysexitq",
					    "jmp",    "jmpq",    "ljmp",    "ljmpq",   "call",     "callq",
					    "ud0",    "ud1",     "ud2",     "int3",    "vmresume", NULL};

	return is_word(text, bytes, stops);
}

static bool does_nothing(const char *text, size_t bytes, const char *operands)
{
	return (bytes >= 3 && !memcmp(text, "nop", 3)) || (bytes == 4 && !memcmp(text, "int3", 4)) ||
	       (bytes == 4 && !memcmp(text, "xchg", 4) && !strncmp(operands, "%ax,%ax", 7));
}

static bool takes_place(const char *text, size_t bytes)
{
	return text[0] == 'j' || (bytes >= 4 && !memcmp(text, "call", 4)) || (bytes >= 4 && !memcmp(text, "loop", 4)) ||
	       (bytes == 6 && !memcmp(text, "xbegin", 6));
}

/* A direct branch's operand is a bare number and nothing else. */
static bool parse_place(const char *operands, uint64_t *target)
{
	char *end;

	if (!isxdigit((unsigned char)*operands))
		return false;
	*target = strtoull(operands, &end, 16);
	return !*end || *end == ' ' || *end == '\n';
}

static bool parse_rip(const char *operands, struct objdump_line *line)
{
	const char *rip = strstr(operands, "(%rip)"), *number = rip, *target = rip ? strstr(rip, "# ") : NULL;
	uint64_t value;

	if (!rip || !target)
		return false;
	while (number > operands && (isxdigit((unsigned char)number[-1]) || number[-1] == 'x'))
		number--;
	value = strtoull(number, NULL, 16);
	line->displacement = (int64_t)(number > operands && number[-1] == '-' ? 0 - value : value);
	line->target = strtoull(target + 2, NULL, 16);
	return number < rip;
}

bool verify_parse_line(struct objdump_line *line, const char *text)
{
	const char *word;
	size_t bytes;
	char *end;

	*line = (struct objdump_line){0};
	while (*text == ' ')
		text++;
	if (!isxdigit((unsigned char)*text))
		return false;
	line->address = strtoull(text, &end, 16);
	if (end[0] != ':' || end[1] != '\t')
		return false;
	for (word = end + 2;; word += bytes) {
		while (*word == ' ')
			word++;
		bytes = strcspn(word, " ,\n");
		if (!bytes || !is_prefix(word, bytes))
			break;
	}
	text = word + bytes;
	text += strcspn(text, " \n"); /* a hint: jne,pt */
	while (*text == ' ')
		text++;
	line->stops = does_stop(word, bytes);
	line->padding = does_nothing(word, bytes, text);
	line->branch = takes_place(word, bytes) && parse_place(text, &line->target);
	line->rip = !line->branch && parse_rip(text, line);
	return true;
}

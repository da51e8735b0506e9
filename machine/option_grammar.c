/* SPDX-License-Identifier: Apache-2.0 */
/* The grammar of options that describe a device: VALUE,key=value,flag and one error that says what was expected. */
#include "machine/option_grammar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool read_number(const char *text, uint64_t *number, char **end)
{
	if (!is_digit(*text))
		return false; /* strtoull() would take blanks and signs */
	errno = 0;
	*number = strtoull(text, end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
	return errno == 0;
}

bool option_grammar_number(const char *text, uint64_t *number)
{
	char *end;

	return read_number(text, number, &end) && !*end;
}

bool option_grammar_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMGT";
	char *end;

	if (!read_number(text, size, &end))
		return false;
	const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;

	if (unit) {
		unsigned shift = 10 * (unsigned)(unit - units + 1);

		if (*size > UINT64_MAX >> shift)
			return false;
		*size <<= shift;
		end++;
	}
	return !*end;
}

static int hex(char c)
{
	return is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

static bool read_mac(const char *text, uint64_t *mac)
{
	*mac = 0;
	for (unsigned i = 0; i < 6; i++, text += 3) {
		int high = hex(text[0]), low = high < 0 ? -1 : hex(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0'))
			return false;
		*mac = *mac << 8 | (uint64_t)(high << 4 | low);
	}
	return !(*mac >> 40 & 1);
}

static const char *expected(const struct option_key *key, char *text, size_t room)
{
	if (key->expected)
		return key->expected;
	switch (key->kind) {
	case OPTION_FLAG:
		return "no value";
	case OPTION_NUMBER:
	case OPTION_SIZE:
		snprintf(text, room, key->max ? "a %s from %" PRIu64 " to %" PRIu64 : "a %s of at least %" PRIu64,
			 key->kind == OPTION_SIZE ? "size" : "number", key->min, key->max);
		return text;
	case OPTION_MAC:
		return "a unicast MAC address like 06:00:ac:10:00:02";
	default:
		return "a value";
	}
}

static bool read_value(const struct option_key *key, const char *text, struct option_value *value)
{
	switch (key->kind) {
	case OPTION_FLAG:
		return false;
	case OPTION_TEXT:
		value->text = text;
		return *text;
	case OPTION_NUMBER:
	case OPTION_SIZE:
		return (key->kind == OPTION_SIZE ? option_grammar_size(text, &value->number)
						 : option_grammar_number(text, &value->number)) &&
		       value->number >= key->min && (!key->max || value->number <= key->max);
	case OPTION_CHOICE:
		for (value->number = 0; key->choices[value->number]; value->number++)
			if (!strcmp(text, key->choices[value->number]))
				return true;
		return false;
	case OPTION_MAC:
		return read_mac(text, &value->number);
	}
	return false;
}

/* Cuts the next part off, halving doubled commas; NULL: there is none. */
static char *next_part(char **rest)
{
	char *part = *rest, *from = part, *to = part;

	if (!part)
		return NULL;
	for (; *from; from++) {
		if (*from == ',') {
			if (from[1] != ',')
				break;
			from++;
		}
		*to++ = *from;
	}
	*rest = *from ? from + 1 : NULL;
	*to = 0;
	return part;
}

struct parser {
	const struct option_grammar *grammar;
	struct option_value *values;
	char *problem;
	size_t room;
};

static const struct option_key *find(const struct option_grammar *grammar, const char *name, size_t bytes)
{
	for (size_t i = 0; i < grammar->key_count; i++)
		if (strlen(grammar->keys[i].name) == bytes && !memcmp(grammar->keys[i].name, name, bytes))
			return &grammar->keys[i];
	return NULL;
}

static bool unknown(const struct parser *p, const char *part)
{
	int at = snprintf(p->problem, p->room, "%s: unknown key '%.40s', expected ", p->grammar->option, part);

	for (size_t i = 0; i < p->grammar->key_count && at >= 0 && (size_t)at < p->room; i++)
		at += snprintf(p->problem + at, p->room - (size_t)at, "%s%s%s",
			       !i                               ? ""
			       : i + 1 == p->grammar->key_count ? " or "
								: ", ",
			       p->grammar->keys[i].name, p->grammar->keys[i].kind == OPTION_FLAG ? "" : "=");
	return false;
}

static bool bad_value(const struct parser *p, const struct option_key *key, const char *found)
{
	char text[96];

	if (found)
		snprintf(p->problem, p->room, "%s: %s: found '%.60s', expected %s", p->grammar->option, key->name,
			 found, expected(key, text, sizeof text));
	else
		snprintf(p->problem, p->room, "%s: %s: has no value, expected %s", p->grammar->option, key->name,
			 expected(key, text, sizeof text));
	return false;
}

static bool take_part(const struct parser *p, char *part)
{
	char *equals = strchr(part, '=');
	const struct option_key *key = find(p->grammar, part, equals ? (size_t)(equals - part) : strlen(part));

	if (!key)
		return unknown(p, part);
	struct option_value *value = &p->values[key - p->grammar->keys];

	if (value->given && !key->list) {
		snprintf(p->problem, p->room, "%s: %s: is given twice, expected once", p->grammar->option, key->name);
		return false;
	}
	if (key->list && value->count == OPTION_LIST_MAX) {
		snprintf(p->problem, p->room, "%s: %s: is given too often, expected at most %u times",
			 p->grammar->option, key->name, OPTION_LIST_MAX);
		return false;
	}
	value->given = true;
	if (!equals)
		return key->kind == OPTION_FLAG || bad_value(p, key, NULL);
	if (!read_value(key, equals + 1, value))
		return bad_value(p, key, equals + 1);
	if (key->list)
		value->list[value->count++] = value->text;
	return true;
}

static bool parse(const struct parser *p, char *rest)
{
	const struct option_grammar *grammar = p->grammar;

	if (grammar->first) {
		const char *first = next_part(&rest);

		if (!*first) {
			snprintf(p->problem, p->room, "%s: has no value, expected %s", grammar->option, grammar->first);
			return false;
		}
		p->values[grammar->key_count] = (struct option_value){.given = true, .text = first};
	} else if (!*rest) {
		rest = NULL; /* no parts at all */
	}
	for (char *part; (part = next_part(&rest));)
		if (!take_part(p, part))
			return false;
	for (size_t i = 0; i < grammar->key_count; i++)
		if (grammar->keys[i].required && !p->values[i].given) {
			char text[96];

			snprintf(p->problem, p->room, "%s: %s: is missing, expected %s", grammar->option,
				 grammar->keys[i].name, expected(&grammar->keys[i], text, sizeof text));
			return false;
		}
	return true;
}

bool option_grammar_parse(const struct option_grammar *grammar, const char *text, struct option_value *values,
			  char **storage, char *problem, size_t room)
{
	const struct parser parser = {.grammar = grammar, .values = values, .problem = problem, .room = room};

	memset(values, 0, (grammar->key_count + 1) * sizeof *values);
	*storage = strdup(text);
	if (!*storage) {
		snprintf(problem, room, "%s: out of memory", grammar->option);
		return false;
	}
	if (parse(&parser, *storage))
		return true;
	free(*storage);
	*storage = NULL;
	return false;
}

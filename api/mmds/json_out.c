/* SPDX-License-Identifier: Apache-2.0 */
/* JSON values as text, byte for byte as Rust's serde_json prints them: compact, keys sorted, shortest numbers. */
#include "api/mmds/json_out.h"

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add_string(struct text *text, const char *string, size_t length)
{
	static const char short_escapes[0x20] = {
	    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r',
	};
	size_t plain = 0; /* where the bytes begin that need no escape */

	text_add_string(text, "\"");
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)string[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		text_add(text, string + plain, i - plain);
		plain = i + 1;
		if (c >= 0x20)
			text_print(text, "\\%c", c);
		else if (short_escapes[c])
			text_print(text, "\\%c", short_escapes[c]);
		else
			text_print(text, "\\u%04x", c);
	}
	text_add(text, string + plain, length - plain);
	text_add_string(text, "\"");
}

/* The fewest digits that are read back as the same number; the value is digits * 10^(*exponent). */
static unsigned shortest_digits(double value, char digits[20], int *exponent)
{
	char printed[32];

	for (int precision = 1; precision <= 17; precision++) {
		snprintf(printed, sizeof printed, "%.*e", precision - 1, value);
		if (strtod(printed, NULL) == value)
			break;
	}
	const char *e = strchr(printed, 'e');
	unsigned count = 0;

	for (const char *p = printed; p < e; p++)
		if (*p >= '0' && *p <= '9')
			digits[count++] = *p;
	while (count > 1 && digits[count - 1] == '0')
		count--;
	*exponent = (int)strtol(e + 1, NULL, 10) - (int)count + 1;
	digits[count] = 0;
	return count;
}

static void add_zeros(struct text *text, int count)
{
	while (count-- > 0)
		text_add_string(text, "0");
}

/* Positional between 1e-5 and 1e16, scientific outside; always recognisable as no integer. */
static void add_real(struct text *text, double value)
{
	char digits[20];
	int exponent;

	if (!isfinite(value)) {
		text_add_string(text, "null");
		return;
	}
	if (signbit(value)) {
		text_add_string(text, "-");
		value = -value;
	}
	int count = (int)shortest_digits(value, digits, &exponent);
	int point = count + exponent; /* digits before the decimal point */

	if (value == 0.0) {
		text_add_string(text, "0.0");
	} else if (exponent >= 0 && point <= 16) {
		text_add_string(text, digits);
		add_zeros(text, exponent);
		text_add_string(text, ".0");
	} else if (point > 0 && point <= 16) {
		text_print(text, "%.*s.%s", point, digits, digits + point);
	} else if (point > -5 && point <= 0) {
		text_add_string(text, "0.");
		add_zeros(text, -point);
		text_add_string(text, digits);
	} else if (count == 1) {
		text_print(text, "%se%d", digits, point - 1);
	} else {
		text_print(text, "%c.%se%d", digits[0], digits + 1, point - 1);
	}
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **json_out_sorted_keys(const json_t *object, size_t *count)
{
	json_t *o = (json_t *)(uintptr_t)object; /* jansson's iterators take no const */
	size_t i = 0;
	const char **keys = malloc((json_object_size(object) + 1) * sizeof *keys);

	if (!keys)
		return NULL;
	for (void *at = json_object_iter(o); at; at = json_object_iter_next(o, at))
		keys[i++] = json_object_iter_key(at);
	qsort(keys, i, sizeof *keys, compare_keys);
	*count = i;
	return keys;
}

static void add_object(struct text *text, const json_t *object)
{
	size_t count;
	const char **keys = json_out_sorted_keys(object, &count);

	if (!keys) {
		text->failed = true;
		return;
	}
	text_add_string(text, "{");
	for (size_t i = 0; i < count; i++) {
		if (i)
			text_add_string(text, ",");
		add_string(text, keys[i], strlen(keys[i]));
		text_add_string(text, ":");
		json_out_add(text, json_object_get(object, keys[i]));
	}
	text_add_string(text, "}");
	free(keys);
}

static void add_array(struct text *text, const json_t *array)
{
	text_add_string(text, "[");
	for (size_t i = 0; i < json_array_size(array); i++) {
		if (i)
			text_add_string(text, ",");
		json_out_add(text, json_array_get(array, i));
	}
	text_add_string(text, "]");
}

void json_out_add(struct text *text, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		add_object(text, value);
		break;
	case JSON_ARRAY:
		add_array(text, value);
		break;
	case JSON_STRING:
		add_string(text, json_string_value(value), json_string_length(value));
		break;
	case JSON_INTEGER:
		text_print(text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		add_real(text, json_real_value(value));
		break;
	default:
		text_add_string(text, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
		break;
	}
}

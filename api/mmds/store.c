/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata that the host stores for its guest: one JSON value of limited size. */
#include "api/mmds/store.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/mmds/json_out.h"

void mmds_store_clear(struct mmds_store *store)
{
	json_decref(store->value);
	store->value = NULL;
}

static enum mmds_status check_size(const struct mmds_store *store, const json_t *value)
{
	struct text text = {0};

	json_out_add(&text, value);
	enum mmds_status status = text.failed ? MMDS_NO_MEMORY : text.length > store->limit ? MMDS_TOO_LARGE : MMDS_OK;

	text_clear(&text);
	return status;
}

enum mmds_status mmds_store_put(struct mmds_store *store, json_t *value)
{
	enum mmds_status status = check_size(store, value);

	if (status)
		return status;
	json_incref(value);
	json_decref(store->value);
	store->value = value;
	return MMDS_OK;
}

/* What `target` becomes, a new reference; `target` is given up. NULL: no memory. */
static json_t *merge(json_t *target, const json_t *patch)
{
	if (!json_is_object(patch)) {
		json_decref(target);
		return json_deep_copy(patch);
	}
	if (!json_is_object(target)) {
		json_decref(target);
		target = json_object();
	}
	json_t *from = (json_t *)(uintptr_t)patch; /* jansson's iterators take no const */

	for (void *at = json_object_iter(from); target && at; at = json_object_iter_next(from, at)) {
		const char *key = json_object_iter_key(at);
		const json_t *value = json_object_iter_value(at);

		if (json_is_null(value)) {
			json_object_del(target, key);
			continue;
		}
		json_t *merged = merge(json_incref(json_object_get(target, key)), value);

		if (!merged || json_object_set_new(target, key, merged)) {
			json_decref(target);
			target = NULL;
		}
	}
	return target;
}

enum mmds_status mmds_store_patch(struct mmds_store *store, const json_t *patch)
{
	if (!store->value)
		return MMDS_NOT_SET;
	json_t *copy = json_deep_copy(store->value);
	json_t *merged = copy ? merge(copy, patch) : NULL;

	if (!merged)
		return MMDS_NO_MEMORY;
	enum mmds_status status = check_size(store, merged);

	if (status) {
		json_decref(merged);
		return status;
	}
	json_decref(store->value);
	store->value = merged;
	return MMDS_OK;
}

enum mmds_status mmds_store_text(const struct mmds_store *store, struct text *text)
{
	if (store->value && !json_is_null(store->value))
		json_out_add(text, store->value);
	else
		text_add_string(text, "{}");
	return text->failed ? MMDS_NO_MEMORY : MMDS_OK;
}

/* ---- paths ---- */

/* The path with each run of slashes made one, and none at the end; zero-terminated. NULL: no memory. */
static char *clean(const char *path, size_t length)
{
	char *cleaned = malloc(length + 1);
	size_t used = 0;

	if (!cleaned)
		return NULL;
	for (size_t i = 0; i < length; i++)
		if (path[i] != '/' || !used || cleaned[used - 1] != '/')
			cleaned[used++] = path[i];
	if (used && cleaned[used - 1] == '/')
		used--;
	cleaned[used] = 0;
	return cleaned;
}

/* In place: ~1 is a slash and ~0 a tilde. */
static void unescape(char *token)
{
	char *to = token;

	for (const char *from = token; *from; from++) {
		if (from[0] == '~' && (from[1] == '0' || from[1] == '1'))
			*to++ = *++from == '0' ? '~' : '/';
		else
			*to++ = *from;
	}
	*to = 0;
}

static const json_t *element(const json_t *array, const char *token)
{
	size_t digits = strspn(token, "0123456789");

	/* decimal, without leading zeros; more digits than this no array has elements */
	if (!digits || token[digits] || digits > 9 || (token[0] == '0' && digits > 1))
		return NULL;
	return json_array_get(array, (size_t)strtoul(token, NULL, 10));
}

/* `path` is written to. */
static const json_t *find(const json_t *value, char *path)
{
	if (*path && *path != '/')
		return NULL;
	while (value && *path) {
		char *token = path + 1;

		path = token + strcspn(token, "/");
		char end = *path;

		*path = 0;
		unescape(token);
		if (json_is_object(value))
			value = json_object_get(value, token);
		else
			value = json_is_array(value) ? element(value, token) : NULL;
		*path = end;
	}
	return value;
}

static enum mmds_status add_imds(const json_t *value, struct text *text)
{
	if (json_is_string(value)) {
		text_add(text, json_string_value(value), json_string_length(value));
		return MMDS_OK;
	}
	if (!json_is_object(value))
		return MMDS_WRONG_TYPE;
	size_t count;
	const char **keys = json_out_sorted_keys(value, &count);

	if (!keys)
		return MMDS_NO_MEMORY;
	for (size_t i = 0; i < count; i++) {
		if (i)
			text_add_string(text, "\n");
		text_add_string(text, keys[i]);
		if (json_is_object(json_object_get(value, keys[i])))
			text_add_string(text, "/");
	}
	free(keys);
	return MMDS_OK;
}

enum mmds_status mmds_store_get(const struct mmds_store *store, const char *path, size_t length, bool as_json,
				struct text *text)
{
	char *cleaned = clean(path, length);
	enum mmds_status status = MMDS_OK;

	if (!cleaned)
		return MMDS_NO_MEMORY;
	json_t *nothing = json_null();
	const json_t *value = find(store->value ? store->value : nothing, cleaned);

	if (!value)
		status = MMDS_NOT_FOUND;
	else if (as_json)
		json_out_add(text, value);
	else
		status = add_imds(value, text);
	free(cleaned);
	return text->failed ? MMDS_NO_MEMORY : status;
}

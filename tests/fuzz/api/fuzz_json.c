/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the JSON reader with each schema: it must accept exactly what jansson accepts. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "api/bodies.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct schema *const schemas[] = {
    &schema_machine_put, &schema_machine_patch, &schema_boot_source,     &schema_drive,
    &schema_drive_patch, &schema_net,           &schema_net_patch,       &schema_pmem,
    &schema_pmem_patch,  &schema_vsock,         &schema_entropy,         &schema_serial,
    &schema_metrics,     &schema_mmds,          &schema_balloon,         &schema_hinting,
    &schema_hotplug,     &schema_instance,      &schema_snapshot_create, &schema_snapshot_load,
    &schema_cpu,         &schema_file,
};

/* Differences that do not count: numbers out of range, and the nesting limit. */
static void compare(const char *text, size_t size, bool good)
{
	json_error_t error;
	json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	enum json_error_code code = value ? json_error_unknown : json_error_code(&error);

	if (good && !value && code != json_error_numeric_overflow && code != json_error_stack_overflow)
		abort();
	json_decref(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct json_text t;
	struct arena arena = {NULL};
	uint64_t object[256] = {0};
	const struct schema *schema;
	char *text;

	if (!size)
		return 0;
	schema = schemas[data[0] % (sizeof schemas / sizeof *schemas)];
	if (schema->bytes > sizeof object)
		abort();
	text = malloc(size - 1 ? size - 1 : 1);
	memcpy(text, data + 1, size - 1);
	if (schema_read(&t, text, size - 1, schema, object, &arena)) {
		fuzz_accepted++;
		/* what a schema accepts is JSON */
		compare(text, size - 1, true);
	} else if (!strstr(t.error, " at line ")) {
		abort();
	}
	arena_free(&arena);
	scan_begin(&t, text, size - 1);
	compare(text, size - 1, scan_skip(&t) && scan_end(&t));
	free(text);
	return 0;
}

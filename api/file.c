/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: read whole, then carried out section by section, as if each were a request. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/vmm.h"

#define CPU_FILE_MAX (1u << 20)

/* The body that an action of this kind has, in the action's union. */
static bool carry_out(struct vmm *vmm, enum action_kind kind, const void *body, size_t bytes, struct reply *reply)
{
	struct action action = {.kind = kind};

	/* what strings and lists it has is the file's, which is kept as long as the VMM */
	memcpy(&action.u, body, bytes);
	reply_free(reply);
	memset(reply, 0, sizeof *reply);
	vmm_handle(vmm, &action, reply);
	arena_free(&action.arena);
	return reply->status < 300;
}

#define CARRY_OUT(kind, body) carry_out(vmm, kind, &(body), sizeof(body), reply)

static bool carry_out_list(struct vmm *vmm, enum action_kind kind, const struct schema_list *list, size_t bytes,
			   struct reply *reply)
{
	for (size_t i = 0; i < list->count; i++)
		if (!carry_out(vmm, kind, (const char *)list->items + i * bytes, bytes, reply))
			return false;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The text of the file that cpu-config names, in the arena; NULL after reply_fault(). */
static char *read_cpu_file(struct vmm *vmm, const struct schema_raw *raw, size_t *bytes, struct reply *reply)
{
	static const struct schema_field field = {.name = "path", .kind = SCHEMA_PATH, .flags = SCHEMA_REQUIRED};
	static const struct schema schema = {.fields = &field, .count = 1, .bytes = sizeof(const char *)};
	char words[160], *text, *wrapped = NULL;
	const char *path = NULL;
	struct json_text json;
	ssize_t got = 0;

	/* a string alone is read as a member */
	if (asprintf(&wrapped, "{\"path\":%.*s}", (int)raw->bytes, raw->text) < 0 ||
	    !schema_read(&json, wrapped, strlen(wrapped), &schema, &path, &vmm->file_arena)) {
		free(wrapped);
		reply_fault(reply, "Error with reading the CPU template file: it has no valid name");
		return NULL;
	}
	free(wrapped);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	text = fd < 0 ? NULL : arena_get(&vmm->file_arena, CPU_FILE_MAX + 1);
	*bytes = 0;
	while (text && *bytes < CPU_FILE_MAX && (got = read(fd, text + *bytes, CPU_FILE_MAX - *bytes)) > 0)
		*bytes += (size_t)got;
	if (fd < 0 || !text || got < 0 || *bytes == CPU_FILE_MAX) {
		reply_fault(reply, "Error with reading the CPU template file: %s: %s", path,
			    *bytes == CPU_FILE_MAX ? "it is too large" : vmm_os_error(errno, words, sizeof words));
		text = NULL;
	}
	if (fd >= 0)
		close(fd);
	return text;
}

/* An object, or the name of a file that holds it. */
static bool configure_cpu(struct vmm *vmm, struct schema_raw raw, struct reply *reply)
{
	struct body_cpu body = {{0}};
	struct json_text json;

	while (raw.bytes && is_blank(*raw.text))
		raw.text++, raw.bytes--;
	if (raw.bytes && *raw.text == '"') {
		raw.text = read_cpu_file(vmm, &raw, &raw.bytes, reply);
		if (!raw.text)
			return false;
	}
	if (!schema_read(&json, raw.text, raw.bytes, &schema_cpu, &body, &vmm->file_arena))
		return reply_fault(reply, "Failed to deserialize the CPU template: %s", json.error);
	return CARRY_OUT(ACTION_PUT_CPU, body);
}

/* In Firecracker's order. */
static bool carry_out_all(struct vmm *vmm, struct body_file *f, struct reply *reply)
{
	return (!f->has_logger || CARRY_OUT(ACTION_PUT_LOGGER, f->logger)) &&
	       (!f->has_metrics || CARRY_OUT(ACTION_PUT_METRICS, f->metrics)) &&
	       (!f->has_machine || CARRY_OUT(ACTION_PUT_MACHINE, f->machine_config)) &&
	       (!f->has_cpu || configure_cpu(vmm, f->cpu_config, reply)) &&
	       CARRY_OUT(ACTION_PUT_BOOT_SOURCE, f->boot_source) &&
	       carry_out_list(vmm, ACTION_PUT_DRIVE, &f->drives, sizeof(struct body_drive), reply) &&
	       carry_out_list(vmm, ACTION_PUT_NET, &f->network_interfaces, sizeof(struct body_net), reply) &&
	       (!f->has_vsock || CARRY_OUT(ACTION_PUT_VSOCK, f->vsock)) &&
	       (!f->has_balloon || CARRY_OUT(ACTION_PUT_BALLOON, f->balloon)) &&
	       (!f->has_mmds || CARRY_OUT(ACTION_PUT_MMDS_CONFIG, f->mmds_config)) &&
	       (!f->has_entropy || CARRY_OUT(ACTION_PUT_ENTROPY, f->entropy)) &&
	       carry_out_list(vmm, ACTION_PUT_PMEM, &f->pmem, sizeof(struct body_pmem), reply) &&
	       (!f->has_hotplug || CARRY_OUT(ACTION_PUT_HOTPLUG, f->memory_hotplug));
}

bool vmm_configure(struct vmm *vmm, const char *text, size_t bytes, struct reply *reply)
{
	struct body_file *file = calloc(1, sizeof *file);
	struct json_text json;
	bool done;

	if (!file)
		return reply_fault(reply, "Out of memory.");
	file->memory_hotplug = BODY_HOTPLUG_DEFAULTS;
	if (schema_read(&json, text, bytes, &schema_file, file, &vmm->file_arena))
		done = carry_out_all(vmm, file, reply);
	else
		done = reply_fault(reply, "Invalid JSON: %s", json.error);
	free(file);
	return done;
}

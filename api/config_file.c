// SPDX-License-Identifier: Apache-2.0
/* The configuration file: read by the same tables as requests, applied by the same functions. */
#include "api/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/input.h"

#define CPU_FILE_MAX (1u << 20)

struct apply {
	struct vmm *vmm;
	char *problem;
	size_t room;
};

typedef bool put_function(struct vmm *vmm, struct action *action, struct reply *reply);

/* A section as a request. Its fault begins with a request's kind of error, for which the file's has another name. */
static bool apply_one(struct apply *a, const char *kind, put_function *put, struct action *action, const void *body,
		      size_t bytes)
{
	struct reply reply = {0};
	bool good;

	memcpy(&action->u, body, bytes);
	good = put(a->vmm, action, &reply);
	if (!good) {
		const char *text = reply.body ? reply.body : "", *colon = strstr(text, ": ");

		snprintf(a->problem, a->room, "%s: %s", kind, colon ? colon + 2 : text);
	}
	reply_free(&reply);
	arena_free(&action->arena);
	return good;
}

/* The strings of one body of the file, copied for whoever keeps the body. */
static const char *copied(struct arena *arena, const char *string, bool *failed)
{
	char *copy = string ? arena_copy(arena, string) : NULL;

	*failed |= string && !copy;
	return copy;
}

static bool no_memory(struct apply *a)
{
	snprintf(a->problem, a->room, "out of memory");
	return false;
}

static bool apply_boot_source(struct apply *a, struct body_boot_source b)
{
	struct action action = {0};
	bool failed = false;

	b.kernel_image_path = copied(&action.arena, b.kernel_image_path, &failed);
	b.initrd_path = copied(&action.arena, b.initrd_path, &failed);
	b.boot_args = copied(&action.arena, b.boot_args, &failed);
	b.layout_out = copied(&action.arena, b.layout_out, &failed);
	b.stock = copied(&action.arena, b.stock, &failed);
	return failed ? no_memory(a) : apply_one(a, "Boot source error", vmm_put_boot_source, &action, &b, sizeof b);
}

static bool apply_drive(struct apply *a, struct body_drive b)
{
	struct action action = {0};
	bool failed = false;

	b.drive_id = copied(&action.arena, b.drive_id, &failed);
	b.partuuid = copied(&action.arena, b.partuuid, &failed);
	b.path_on_host = copied(&action.arena, b.path_on_host, &failed);
	b.socket = copied(&action.arena, b.socket, &failed);
	return failed ? no_memory(a) : apply_one(a, "Block device error", vmm_put_drive, &action, &b, sizeof b);
}

static bool apply_net(struct apply *a, struct body_net b)
{
	struct action action = {0};
	bool failed = false;

	b.iface_id = copied(&action.arena, b.iface_id, &failed);
	b.host_dev_name = copied(&action.arena, b.host_dev_name, &failed);
	return failed ? no_memory(a) : apply_one(a, "Network device error", vmm_put_net, &action, &b, sizeof b);
}

static bool apply_pmem(struct apply *a, struct body_pmem b)
{
	struct action action = {0};
	bool failed = false;

	b.id = copied(&action.arena, b.id, &failed);
	b.path_on_host = copied(&action.arena, b.path_on_host, &failed);
	return failed ? no_memory(a) : apply_one(a, "Pmem device error", vmm_put_pmem, &action, &b, sizeof b);
}

static bool apply_vsock(struct apply *a, struct body_vsock b)
{
	struct action action = {0};
	bool failed = false;

	b.uds_path = copied(&action.arena, b.uds_path, &failed);
	b.vsock_id = NULL;
	return failed ? no_memory(a) : apply_one(a, "Vsock device error", vmm_put_vsock, &action, &b, sizeof b);
}

static bool apply_machine(struct apply *a, struct body_machine b)
{
	struct action action = {0};

	b.has_smt = b.has_track = b.has_huge = true;
	return apply_one(a, "VM config error", vmm_put_machine, &action, &b, sizeof b);
}

char *config_file_read_cpu(const char *path, size_t *bytes)
{
	int fd = input_open_text(path);
	struct stat st;
	char *text = NULL;
	ssize_t count = -1;
	int number;

	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st)) {
		if (!S_ISREG(st.st_mode) || st.st_size > CPU_FILE_MAX)
			errno = S_ISREG(st.st_mode) ? EFBIG : EINVAL;
		else if ((text = malloc((size_t)st.st_size + 1)))
			count = read(fd, text, (size_t)st.st_size);
	}
	number = errno;
	close(fd);
	if (count < 0) {
		free(text);
		errno = number;
		return NULL;
	}
	*bytes = (size_t)count;
	return text;
}

static bool apply_cpu_text(struct apply *a, const char *text, size_t bytes, bool in_file)
{
	struct body_cpu body = {.kvm_capabilities.count = 0};
	struct action action = {0};
	struct json_text t;

	if (schema_read(&t, text, bytes, &schema_cpu, &body, &action.arena))
		return apply_one(a, "CPU configuration error", vmm_put_cpu, &action, &body, sizeof body);
	arena_free(&action.arena);
	if (in_file)
		snprintf(a->problem, a->room, "Invalid JSON: %s", t.error);
	else
		snprintf(a->problem, a->room,
			 "Invalid JSON: data did not match any variant of untagged enum CustomCpuTemplateOrPath: %s",
			 t.error);
	return false;
}

/* An object, or the path of a file that holds it. */
static bool apply_cpu(struct apply *a, const struct schema_raw *raw)
{
	struct json_text t;
	char *path, *text;
	size_t bytes;
	bool good;

	scan_begin(&t, raw->text, raw->bytes);
	if (scan_peek(&t) != '"')
		return apply_cpu_text(a, raw->text, raw->bytes, false);
	if (!scan_string(&t, &path, &bytes))
		return no_memory(a);
	text = config_file_read_cpu(path, &bytes);
	free(path);
	if (!text) {
		snprintf(a->problem, a->room, "File operation error: %s (os error %d)", input_open_problem(errno),
			 errno);
		return false;
	}
	good = apply_cpu_text(a, text, bytes, true);
	free(text);
	return good;
}

#define APPLY(a, kind, put, body) apply_one(a, kind, put, &(struct action){0}, &(body), sizeof(body))

static bool apply_first(struct apply *a, const struct body_file *f)
{
	const struct body_drive *drives = f->drives.items;

	if (f->has_logger && !APPLY(a, "Logger error", vmm_put_logger, f->logger))
		return false;
	if (f->has_metrics && !APPLY(a, "Metrics error", vmm_put_metrics, f->metrics))
		return false;
	if (f->has_machine && !apply_machine(a, f->machine_config))
		return false;
	if ((f->has_cpu && !apply_cpu(a, &f->cpu_config)) || !apply_boot_source(a, f->boot_source))
		return false;
	for (size_t i = 0; i < f->drives.count; i++)
		if (!apply_drive(a, drives[i]))
			return false;
	return true;
}

static bool apply_second(struct apply *a, const struct body_file *f)
{
	const struct body_net *nets = f->network_interfaces.items;

	for (size_t i = 0; i < f->network_interfaces.count; i++)
		if (!apply_net(a, nets[i]))
			return false;
	return (!f->has_vsock || apply_vsock(a, f->vsock)) &&
	       (!f->has_balloon || APPLY(a, "Balloon device error", vmm_put_balloon, f->balloon));
}

static bool apply_third(struct apply *a, const struct body_file *f)
{
	const struct body_pmem *pmems = f->pmem.items;

	if (f->has_mmds && !APPLY(a, "MMDS config error", vmm_put_mmds_config, f->mmds_config))
		return false;
	if (f->has_entropy && !APPLY(a, "Entropy device error", vmm_put_entropy, f->entropy))
		return false;
	for (size_t i = 0; i < f->pmem.count; i++)
		if (!apply_pmem(a, pmems[i]))
			return false;
	return !f->has_hotplug || APPLY(a, "Memory hotplug config error", vmm_put_hotplug, f->memory_hotplug);
}

static bool read_file(const char *text, struct body_file *file, struct arena *arena, char *problem, size_t room)
{
	struct json_text t;

	memset(file, 0, sizeof *file);
	file->memory_hotplug = BODY_HOTPLUG_DEFAULTS;
	if (schema_read(&t, text, strlen(text), &schema_file, file, arena))
		return true;
	snprintf(problem, room, "Invalid JSON: %s", t.error);
	return false;
}

bool config_file_apply(struct vmm *vmm, const char *text, bool (*metadata)(void *opaque), void *opaque, char *problem,
		       size_t room)
{
	struct apply a = {vmm, problem, room};
	struct body_file file;
	struct arena arena = {NULL};
	bool good = read_file(text, &file, &arena, problem, room) && apply_first(&a, &file) &&
		    apply_second(&a, &file) && (!metadata || metadata(opaque)) && apply_third(&a, &file);

	arena_free(&arena);
	vmm->resources.for_boot = true;
	return good;
}

bool config_file_check(const char *text, char *problem, size_t room)
{
	struct body_file file;
	struct arena arena = {NULL};
	bool good = read_file(text, &file, &arena, problem, room);

	arena_free(&arena);
	return good;
}

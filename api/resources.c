// SPDX-License-Identifier: Apache-2.0
/* What PUTs before the start do at once: check, open, and keep, or leave everything as it was. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/vmm.h"

#define COMMAND_LINE_MAX 2047u

const char *vmm_os_error(int number, char *text, size_t room)
{
	char words[128];

	snprintf(text, room, "%s (os error %d)", strerror_r(number, words, sizeof words), number);
	return text;
}
#define OS_ERROR(number) vmm_os_error(number, (char[160]){0}, 160)

/* The memory of what is kept changes hands. */
static void take_arena(struct arena *to, struct action *action)
{
	arena_free(to);
	*to = action->arena;
	action->arena.first = NULL;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vmm_resources_init(struct vmm_resources *r)
{
	memset(r, 0, sizeof *r);
	r->machine = (struct body_machine){.vcpu_count = 1, .mem_size_mib = 128};
	r->boot_source.kernel_fd = r->boot_source.initrd_fd = r->vsock.listener = r->serial_fd = -1;
}

void vmm_resources_free(struct vmm_resources *r)
{
	arena_free(&r->boot_source.arena);
	close_fd(&r->boot_source.kernel_fd);
	close_fd(&r->boot_source.initrd_fd);
	for (unsigned i = 0; i < r->drive_count; i++) {
		arena_free(&r->drives[i].arena);
		arena_free(&r->drives[i].patched);
		close_fd(&r->drives[i].fd);
	}
	for (unsigned i = 0; i < r->net_count; i++) {
		arena_free(&r->nets[i].arena);
		close_fd(&r->nets[i].fd);
	}
	for (unsigned i = 0; i < r->pmem_count; i++) {
		arena_free(&r->pmems[i].arena);
		close_fd(&r->pmems[i].fd);
	}
	arena_free(&r->vsock.arena);
	close_fd(&r->vsock.listener);
	close_fd(&r->serial_fd);
	arena_free(&r->serial_arena);
	arena_free(&r->cpu_arena);
	vmm_resources_init(r);
}

/* What the kernel can be given as its command line. */
static const char *command_line_problem(const char *line)
{
	if (strlen(line) > COMMAND_LINE_MAX)
		return "inserting string would make command line too long";
	for (; *line; line++)
		if (*line < ' ' || *line > '~')
			return "string contains non-printable ASCII character";
	return NULL;
}

bool vmm_put_boot_source(struct vmm *vmm, struct action *action, struct reply *reply)
{
	struct vmm_boot_source *kept = &vmm->resources.boot_source;
	const struct body_boot_source *body = &action->u.boot_source;
	int kernel = open(body->kernel_image_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), initrd = -1;
	const char *problem;

	if (kernel < 0)
		return reply_fault(reply, "Boot source error: The kernel file cannot be opened: %s", OS_ERROR(errno));
	if (body->initrd_path) {
		initrd = open(body->initrd_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (initrd < 0) {
			reply_fault(reply,
				    "Boot source error: The initrd file cannot be opened due to invalid path or "
				    "invalid permissions. %s",
				    OS_ERROR(errno));
			close(kernel);
			return false;
		}
	}
	problem = body->boot_args ? command_line_problem(body->boot_args) : NULL;
	if (body->stock && body->layout_out) {
		close_fd(&kernel);
		close_fd(&initrd);
		return reply_fault(reply,
				   "Boot source error: layout_out: cannot be combined with stock: an item does not "
				   "tell its layout");
	}
	if (problem) {
		close_fd(&kernel);
		close_fd(&initrd);
		return reply_fault(reply, "Boot source error: The kernel command line is invalid: %s", problem);
	}
	close_fd(&kept->kernel_fd);
	close_fd(&kept->initrd_fd);
	kept->set = true;
	kept->body = *body;
	kept->kernel_fd = kernel;
	kept->initrd_fd = initrd;
	take_arena(&kept->arena, action);
	return reply_done(reply);
}

static const char *machine_problem(const struct vmm_resources *r, const struct body_machine *m)
{
	if (m->vcpu_count < 1 || m->vcpu_count > 32 || (m->smt && m->vcpu_count > 1 && m->vcpu_count % 2))
		return "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if "
		       "SMT is enabled.";
	if (!m->mem_size_mib || (m->huge_pages == HUGE_2M && m->mem_size_mib % 2))
		return "The memory size (MiB) is either 0, or not a multiple of the configured page size.";
	if (r->has_balloon && m->mem_size_mib < r->balloon.amount_mib)
		return "The memory size (MiB) is smaller than the previously set balloon device target size.";
	return NULL;
}

bool vmm_put_machine(struct vmm *vmm, struct action *action, struct reply *reply)
{
	struct vmm_resources *r = &vmm->resources;
	const struct body_machine *given = &action->u.machine;
	struct body_machine m = r->machine;
	const char *problem;

	m.vcpu_count = given->has_vcpus ? given->vcpu_count : m.vcpu_count;
	m.mem_size_mib = given->has_memory ? given->mem_size_mib : m.mem_size_mib;
	m.smt = given->has_smt ? given->smt : m.smt;
	m.track_dirty_pages = given->has_track ? given->track_dirty_pages : m.track_dirty_pages;
	m.huge_pages = given->has_huge ? given->huge_pages : m.huge_pages;
	problem = machine_problem(r, &m);
	if (problem)
		return reply_fault(reply, "Machine config error: %s", problem);
	if (given->has_template) {
		r->template = given->cpu_template == TEMPLATE_NONE ? VMM_TEMPLATE_NONE : VMM_TEMPLATE_STATIC;
		m.cpu_template = given->cpu_template;
	}
	r->machine = m;
	return reply_done(reply);
}

bool vmm_put_cpu(struct vmm *vmm, struct action *action, struct reply *reply)
{
	struct vmm_resources *r = &vmm->resources;

	r->template = VMM_TEMPLATE_CUSTOM;
	r->cpu = action->u.cpu;
	take_arena(&r->cpu_arena, action);
	return reply_done(reply);
}

static unsigned find_drive(const struct vmm_resources *r, const char *id)
{
	unsigned i = 0;

	while (i < r->drive_count && strcmp(r->drives[i].body.drive_id, id))
		i++;
	return i;
}

static unsigned find_pmem(const struct vmm_resources *r, const char *id)
{
	unsigned i = 0;

	while (i < r->pmem_count && strcmp(r->pmems[i].body.id, id))
		i++;
	return i;
}

static const struct vmm_pmem *pmem_root(const struct vmm_resources *r)
{
	for (unsigned i = 0; i < r->pmem_count; i++)
		if (r->pmems[i].body.root_device)
			return &r->pmems[i];
	return NULL;
}

static bool has_drive_root(const struct vmm_resources *r)
{
	return r->drive_count && r->drives[0].body.is_root_device;
}

/* A file or device for the guest; what it is is looked at when the machine is built. */
static int open_backing(const char *path, bool read_only)
{
	return open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* A new root drive goes to the front; one that becomes it changes places with the first. */
static void keep_drive(struct vmm_resources *r, unsigned at, const struct vmm_drive *drive)
{
	if (at < r->drive_count) {
		close_fd(&r->drives[at].fd);
		arena_free(&r->drives[at].arena);
		r->drives[at] = *drive;
		if (at && drive->body.is_root_device) {
			r->drives[at] = r->drives[0];
			r->drives[0] = *drive;
		}
		return;
	}
	r->drive_count++;
	if (drive->body.is_root_device) {
		memmove(&r->drives[1], &r->drives[0], at * sizeof *r->drives);
		at = 0;
	}
	r->drives[at] = *drive;
}

bool vmm_put_drive(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Drive config error: Unable to create the virtio block device:";
	struct vmm_resources *r = &vmm->resources;
	struct vmm_drive drive = {.body = action->u.drive, .fd = -1};
	struct body_drive *body = &drive.body;
	unsigned at = find_drive(r, body->drive_id);

	if (body->is_root_device && (pmem_root(r) || (has_drive_root(r) && at != 0)))
		return reply_fault(reply, "Drive config error: A root block device already exists!");
	if (body->socket && !body->path_on_host && !body->has_read_only && !body->has_limiter && !body->has_engine)
		return reply_fault(reply,
				   "%s Vhost user backend error: Vhost-user error: vhost-user is not supported by "
				   "riffle",
				   prefix);
	if (!body->path_on_host || body->socket)
		return reply_fault(reply, "%s Invalid block config.", prefix);
	if (at == VMM_DEVICES_MAX)
		return reply_fault(reply, "%s there are too many drives", prefix);
	drive.fd = open_backing(body->path_on_host, body->is_read_only);
	if (drive.fd < 0)
		return reply_fault(reply, "%s Virtio backend error: Error manipulating the backing file: %s %s", prefix,
				   OS_ERROR(errno), body->path_on_host);
	if (!body->has_engine)
		body->io_engine = ENGINE_SYNC;
	take_arena(&drive.arena, action);
	keep_drive(r, at, &drive);
	return reply_done(reply);
}

static const char *pmem_problem(const struct vmm_resources *r, const struct body_pmem *body, unsigned at)
{
	const struct vmm_pmem *root = pmem_root(r);

	if (body->root_device && has_drive_root(r))
		return "Attempt to add pmem as a root device while the root device defined as a block device";
	if (body->root_device && root && root != &r->pmems[at])
		return "A root pmem device already exist";
	if (at == VMM_DEVICES_MAX)
		return "Unable to create the virtio-pmem device: there are too many";
	return NULL;
}

bool vmm_put_pmem(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Pmem config error:";
	struct vmm_resources *r = &vmm->resources;
	struct vmm_pmem pmem = {.body = action->u.pmem, .fd = -1};
	unsigned at = find_pmem(r, pmem.body.id);
	const char *problem = pmem_problem(r, &pmem.body, at);
	struct stat st;

	if (problem)
		return reply_fault(reply, "%s %s", prefix, problem);
	pmem.fd = open_backing(pmem.body.path_on_host, pmem.body.read_only);
	if (pmem.fd < 0 || fstat(pmem.fd, &st)) {
		reply_fault(reply, "%s Unable to create the virtio-pmem device: Error accessing backing file: %s",
			    prefix, OS_ERROR(errno));
		close_fd(&pmem.fd);
		return false;
	}
	if (S_ISREG(st.st_mode) && !st.st_size) {
		close_fd(&pmem.fd);
		return reply_fault(reply, "%s Unable to create the virtio-pmem device: Error backing file size is 0",
				   prefix);
	}
	take_arena(&pmem.arena, action);
	if (at < r->pmem_count) {
		close_fd(&r->pmems[at].fd);
		arena_free(&r->pmems[at].arena);
	} else {
		r->pmem_count++;
	}
	r->pmems[at] = pmem;
	return reply_done(reply);
}

bool vmm_put_entropy(struct vmm *vmm, struct action *action, struct reply *reply)
{
	vmm->resources.has_entropy = true;
	vmm->resources.entropy = action->u.entropy;
	return reply_done(reply);
}

bool vmm_put_serial(struct vmm *vmm, struct action *action, struct reply *reply)
{
	struct vmm_resources *r = &vmm->resources;

	r->serial = action->u.serial;
	take_arena(&r->serial_arena, action);
	return reply_done(reply);
}

bool vmm_put_balloon(struct vmm *vmm, struct action *action, struct reply *reply)
{
	struct vmm_resources *r = &vmm->resources;

	if (action->u.balloon.amount_mib > r->machine.mem_size_mib)
		return reply_fault(reply, "Balloon config error: Amount of pages requested is too large.");
	r->has_balloon = true;
	r->balloon = action->u.balloon;
	return reply_done(reply);
}

bool vmm_put_hotplug(struct vmm *vmm, struct action *action, struct reply *reply)
{
	static const char prefix[] = "Memory hotplug config error:";
	const struct body_hotplug *h = &action->u.hotplug;

	if (h->block_size_mib < 2)
		return reply_fault(reply, "%s Block size must not be lower than 2 MiB", prefix);
	if (h->block_size_mib & (h->block_size_mib - 1))
		return reply_fault(reply, "%s Block size must be a power of 2", prefix);
	if (h->slot_size_mib < 128)
		return reply_fault(reply, "%s Slot size must not be lower than 128 MiB", prefix);
	if (h->slot_size_mib % h->block_size_mib)
		return reply_fault(reply, "%s Slot size must be a multiple of block size (%llu MiB)", prefix,
				   (unsigned long long)h->block_size_mib);
	if (h->total_size_mib < h->slot_size_mib)
		return reply_fault(reply, "%s Total size must not be lower than slot size (%llu MiB)", prefix,
				   (unsigned long long)h->slot_size_mib);
	if (h->total_size_mib % h->slot_size_mib)
		return reply_fault(reply, "%s Total size must be a multiple of slot size (%llu MiB)", prefix,
				   (unsigned long long)h->slot_size_mib);
	vmm->resources.has_hotplug = true;
	vmm->resources.hotplug = *h;
	return reply_done(reply);
}

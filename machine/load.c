/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel and initrd into guest memory; the kernel by one thread while another makes the VM and its vCPUs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <riffle/riffle.h>

#include "common/fail.h"
#include "host/input.h"
#include "host/pool.h"
#include "machine/cmdline.h"
#include "machine/internal.h"

/* Whichever of the two is done first helps with what is left of the load. */
struct loader {
	struct machine *m;
	uint64_t ns;     /* what the load took, and */
	uint64_t cpu_ns; /* how much of a processor, in both threads */
	int status;
	struct riffle_error error;
};

/* A system call, unlike the time of day, and so for those only who want to see it. */
static uint64_t thread_cpu(const struct machine *m)
{
	return m->config.boot_timer ? phases_thread_cpu() : 0;
}

static void load_first(void *opaque)
{
	struct loader *loader = opaque;
	struct machine *m = loader->m;
	struct riffle_workers workers;
	uint64_t cpu = thread_cpu(m);
	struct phases clock;

	phases_start(&clock, 0);
	pool_workers(m->pool, &workers);
	loader->status = riffle_load_shuffled(&m->loaded, &m->kernel.plan, &m->kernel.source, &m->layout, &m->memory,
					      m->config.layout.lazy_tables ? RIFFLE_LOAD_LAZY_TABLES : 0, &workers,
					      m->workspace, m->workspace_bytes, &loader->error);
	loader->ns = phases_lap(&clock);
	loader->cpu_ns = thread_cpu(m) - cpu;
	pool_over(m->pool); /* the other thread goes on, with what `loader` was */
}

static void note_load(struct machine *m, const struct loader *loader)
{
	double share = m->loaded.load_ticks ? (double)m->loaded.relocate_ticks / (double)m->loaded.load_ticks : 0;

	m->randomisation.load_ns = loader->ns;
	phases_end(m->phases, "vCPU set-up, load beside it");
	phases_add(m->phases, "  load", (uint64_t)((double)loader->ns * (1 - share)));
	phases_add(m->phases, "  relocate", (uint64_t)((double)loader->ns * share));
	phases_add(m->phases, "  CPU of load and relocate", loader->cpu_ns);
}

int machine_load_kernel(struct machine *m, struct riffle_error *error)
{
	struct loader loader = {.m = m};
	uint64_t cpu;
	int status;

	m->pool = pool_start(0);
	if (!m->pool)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "threads", "cannot be started");
	status = vm_start_first(m->vm, !m->config.own_signals, load_first, &loader, error);
	if (status)
		return status;
	status = machine_open_vm(m, error);
	cpu = thread_cpu(m);
	pool_help(m->pool);
	loader.cpu_ns += thread_cpu(m) - cpu;
	if (!status && loader.status) {
		m->blame = m->config.kernel;
		*error = loader.error;
		status = loader.status;
	}
	if (!status)
		note_load(m, &loader);
	return status;
}

static int open_initrd(struct machine *m, uint64_t *bytes, struct riffle_error *error)
{
	struct stat st;

	if (!strncmp(m->config.initrd_path, "fd:", 3)) {
		int status = input_open(&m->initrd_fd, &st, m->config.initrd_path, error);

		if (status)
			return status;
	} else {
		m->initrd_fd = open(m->config.initrd_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (m->initrd_fd < 0)
			return riffle_fail_system(error, errno, "open", "failed");
	}
	if (fstat(m->initrd_fd, &st))
		return riffle_fail_system(error, errno, "fstat", "failed");
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "initrd",
				   S_ISREG(st.st_mode) ? "is empty" : "is not a regular file");
	*bytes = (uint64_t)st.st_size;
	return 0;
}

/* A unified kernel image brings an initrd; one that the user gives stands instead of it. */
static int open_unified_initrd(struct machine *m, uint64_t *bytes, struct riffle_error *error)
{
	m->initrd_fd = fcntl(m->kernel.uki_fd, F_DUPFD_CLOEXEC, 3);
	if (m->initrd_fd < 0)
		return riffle_fail_system(error, errno, "initrd", "of the unified kernel image cannot be had");
	m->initrd_offset = m->kernel.uki.initrd.offset;
	*bytes = m->kernel.uki.initrd.bytes;
	return 0;
}

/* Finds the initrd's place, by its size alone; its bytes come in machine_load_initrd(). */
int machine_place_initrd(struct machine *m, const struct riffle_plan *plan, struct riffle_error *error)
{
	uint64_t bytes = 0;
	int status = 0;

	if (m->config.initrd)
		bytes = m->config.initrd->bytes;
	else if (m->config.initrd_path)
		status = open_initrd(m, &bytes, error);
	else if (m->kernel_opened && m->kernel.uki_fd >= 0 && m->kernel.uki.initrd.bytes)
		status = open_unified_initrd(m, &bytes, error);
	else
		return 0;
	m->blame = m->config.initrd_path;
	if (status)
		return status;
	m->description.initrd_bytes = bytes;
	status = riffle_boot_place_initrd(&m->description.initrd_address, &m->description, plan, bytes, error);
	if (!status)
		m->blame = NULL;
	return status;
}

static int read_initrd(struct machine *m, void *memory, struct riffle_error *error)
{
	struct riffle_source source;
	int status = riffle_source_from_fd(&source, m->initrd_fd, error);

	if (!status)
		status = source.read(source.opaque, m->initrd_offset, memory, m->description.initrd_bytes, error);
	close(m->initrd_fd);
	m->initrd_fd = -1;
	return status;
}

int machine_load_initrd(struct machine *m, struct riffle_error *error)
{
	const struct machine_initrd *made = m->config.initrd;
	uint64_t bytes = m->description.initrd_bytes;
	int status;

	if (!bytes)
		return 0;
	void *memory = guest_memory_at(vm_memory(m->vm), m->description.initrd_address, bytes);

	if (!memory)
		return riffle_fail_found(error, RIFFLE_ERR_SPACE, "initrd", "does not lie in the guest's memory",
					 m->description.initrd_address);
	m->blame = m->config.initrd_path;
	status = made ? made->fill(made->opaque, memory, bytes, error) : read_initrd(m, memory, error);
	if (!status)
		m->blame = NULL;
	phases_end(m->phases, "initrd");
	return status;
}

static int read_whole(void **file, uint64_t *bytes, const char *name, struct riffle_error *error)
{
	struct riffle_source source;
	struct stat st;
	int fd, status = input_open(&fd, &st, name, error);

	*file = NULL;
	if (status)
		return status;
	status = riffle_source_from_fd(&source, fd, error);
	if (!status && (!source.bytes || source.bytes > UINT64_C(1) << 30))
		status =
		    riffle_fail_found(error, RIFFLE_ERR_FORMAT, "file", "is empty or larger than 1 GiB", source.bytes);
	if (!status) {
		*bytes = source.bytes;
		*file = malloc(source.bytes);
		status = *file ? source.read(source.opaque, 0, *file, source.bytes, error)
			       : riffle_fail(error, RIFFLE_ERR_MEMORY, "file", "cannot be held");
	}
	close(fd);
	return status;
}

/* The paper's baseline: the guest's own bootstrap unpacks and randomises the kernel. */
int machine_load_bootstrap(struct machine *m, struct riffle_error *error)
{
	uint64_t bytes = 0;
	void *file;
	int status;

	m->randomisation.mode = "bootstrap";
	m->blame = m->config.kernel;
	status = read_whole(&file, &bytes, m->config.kernel, error);
	m->blame = status ? m->blame : NULL;
	phases_end(m->phases, "open");
	if (!status && !m->config.layout.automatic && machine_is_off(m) &&
	    !cmdline_has_word(m->config.command_line, "nokaslr"))
		status = machine_config_command_line(&m->config, "nokaslr", true, error);
	if (!status)
		status = machine_open_vm(m, error);
	if (!status)
		status = machine_place_initrd(m, NULL, error);
	phases_end(m->phases, "vCPU set-up");
	if (!status) {
		m->blame = m->config.kernel;
		status = riffle_boot_write_bzimage(&m->registers, &m->description, file, bytes, error);
	}
	phases_end(m->phases, "load");
	free(file);
	if (status)
		return status;
	m->blame = NULL;
	return machine_load_initrd(m, error);
}

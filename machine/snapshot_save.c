/* SPDX-License-Identifier: Apache-2.0 */
/* Saves a machine: its state and its memory, in that order into memory and in the other onto stable storage. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <riffle/version.h>

#include "common/fail.h"
#include "machine/description.h"
#include "machine/restore.h"
#include "machine/snapshot.h"
#include "monitor/snapshot/components.h"
#include "monitor/snapshot/memory.h"

/*
 * What cannot be opened once the process is confined. The pagemap of a process that is not dumpable belongs to root: it
 * is opened while there is nothing to be seen yet. jansson reads /dev/urandom before its first object.
 */
void machine_prepare_saving(struct machine *m)
{
	int dumpable = prctl(PR_GET_DUMPABLE);

	json_object_seed(0);
	if (!dumpable)
		prctl(PR_SET_DUMPABLE, 1);
	m->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (!dumpable)
		prctl(PR_SET_DUMPABLE, 0);
}

static void save_machine(const struct machine *m, struct state_writer *writer)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	state_begin(writer, STATE_MACHINE, 0, 1);
	state_put_block(writer, RIFFLE_VERSION_STRING, strlen(RIFFLE_VERSION_STRING));
	state_put64(writer, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	state_put_block(writer, m->layout_id, sizeof m->layout_id);
	state_put8(writer, (uint8_t)m->config.layout.mode);
	state_put32(writer, m->config.vcpus);
	state_put64(writer, m->config.memory_bytes);
	state_end(writer);
}

/* The description as it is now: a MAC that was drawn, a balloon's size that was changed. */
static int save_config(struct machine *m, struct state_writer *writer, struct riffle_error *error)
{
	struct machine_config *config = malloc(sizeof *config);
	char *text = NULL;

	if (!config)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "description", "out of memory");
	*config = m->config;
	for (unsigned i = 0; i < config->devices.net_count; i++) {
		struct machine_net *net = &config->devices.nets[i];

		if (net->mac_kind == MACHINE_MAC_RANDOM) {
			net->mac_kind = MACHINE_MAC_GIVEN;
			memcpy(net->mac, m->devices.nets[i].device->config, sizeof net->mac);
		}
	}
	if (m->devices.balloon) {
		struct balloon_state state;

		balloon_state(m->devices.balloon, &state);
		config->devices.balloon.balloon.target_bytes = state.target_bytes;
	}
	int status = description_write(&text, config, error);

	if (!status) {
		state_begin(writer, STATE_CONFIG, 0, 1);
		state_put_block(writer, text, strlen(text));
		state_end(writer);
	}
	free(text);
	free(config);
	return status;
}

static void save_platform(struct machine *m, struct state_writer *writer)
{
	pthread_mutex_lock(&m->bus.lock); /* the console's writer may call the serial port */
	serial_save(&m->serial, writer);
	i8042_save(&m->i8042, writer);
	cmos_save(&m->cmos, writer);
	power_save(&m->power, writer);
	state_begin(writer, STATE_INPUT, 0, 1);
	state_put_block(writer, m->console.bytes, m->console.count);
	state_end(writer);
	pthread_mutex_unlock(&m->bus.lock);
}

static int save_state(struct machine *m, struct state_writer *writer, struct riffle_error *error)
{
	int status;

	save_machine(m, writer);
	if ((status = save_config(m, writer, error)) || (status = vcpus_save(m->vm, writer, error)) ||
	    (status = chips_save(m->vm, writer, error)))
		return status;
	save_platform(m, writer);
	for (unsigned i = 0; !status && i < m->devices.count; i++) {
		status = virtio_save(&m->devices.slots[i], i, writer, error);
		memory_mark_rings(m->devices.slots[i].device);
	}
	return status ? status : state_finish(writer, error);
}

static int write_state(int fd, const struct state_writer *writer, struct riffle_error *error)
{
	for (size_t at = 0; at < writer->bytes;) {
		ssize_t done = pwrite(fd, writer->data + at, writer->bytes - at, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return riffle_fail_system(error, done ? errno : ENOSPC, "state file", "cannot be written");
		at += (size_t)done;
	}
	if (ftruncate(fd, (off_t)writer->bytes) < 0 || fsync(fd) < 0)
		return riffle_fail_system(error, errno, "state file", "cannot be written");
	return 0;
}

int machine_snapshot_write(struct machine *m, struct machine_snapshot *snapshot, struct riffle_error *error)
{
	struct memory_save memory = {.fd = snapshot->memory_fd,
				     .changed = snapshot->changed,
				     .fresh = snapshot->fresh,
				     .pagemap_fd = m->pagemap_fd};
	struct state_writer writer = {0};
	bool was_running = vm_state(m->vm) == VM_RUNNING;
	uint64_t begun = loop_now();
	int status;

	if (!m->config.can_save)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "snapshot", "this machine was not made to be saved");
	if (m->config.command)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "snapshot",
				   "a guest that runs a command for this process cannot be saved");
	if ((status = machine_control(m, MACHINE_PAUSE, error)))
		return status;
	if (vm_state(m->vm) == VM_ENDED)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "machine", "has ended");
	status = save_state(m, &writer, error);
	if (!status)
		status = memory_save(m->vm, &memory, error);
	if (was_running)
		machine_control(m, MACHINE_RESUME, NULL);
	snapshot->paused_ns = loop_now() - begun;
	snapshot->memory_bytes = memory.written;
	/* the guest need not wait for the disk */
	if (!status && fsync(snapshot->memory_fd) < 0)
		status = riffle_fail_system(error, errno, "memory file", "cannot be written");
	if (!status)
		status = write_state(snapshot->state_fd, &writer, error);
	state_writer_free(&writer);
	return status;
}

/* ---- at the guest's own word ---- */

static void save_now(void *opaque)
{
	struct machine *m = opaque;
	struct machine_snapshot snapshot = {
	    .state_fd = m->config.save_state_fd, .memory_fd = m->config.save_memory_fd, .fresh = true};

	if (machine_snapshot_write(m, &snapshot, &m->save_error))
		vm_fail(m->vm, &m->save_error);
	else
		vm_end(m->vm, VM_END_POWEROFF);
}

static void marked(void *opaque, uint64_t ns)
{
	struct machine *m = opaque;

	(void)ns;
	vm_pause_soon(m->vm); /* not an instruction beyond the mark */
	loop_post(&m->loop, &m->save_at_mark);
}

void machine_save_at_mark(struct machine *m)
{
	if (!m->config.save_at_mark)
		return;
	m->save_at_mark = (struct loop_task){.run = save_now, .opaque = m};
	m->boot_timer.marked = marked;
	m->boot_timer.opaque = m;
}

/* ---- by paths ---- */

struct new_file {
	char path[4096];
	int fd;
};

/* Beside the file that it will be, so that it can be renamed; nobody else may read it: it shows the kernel's layout. */
static int make_file(struct new_file *file, const char *path, struct riffle_error *error)
{
	file->fd = -1;
	if ((size_t)snprintf(file->path, sizeof file->path, "%s.%ld.part", path, (long)getpid()) >= sizeof file->path)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "path", "is too long");
	unlink(file->path);
	file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return file->fd < 0 ? riffle_fail_system(error, errno, "open", "cannot be made") : 0;
}

static void drop_file(struct new_file *file)
{
	if (file->fd < 0)
		return;
	close(file->fd);
	unlink(file->path);
	file->fd = -1;
}

static int name_file(struct new_file *file, const char *path, struct riffle_error *error)
{
	if (rename(file->path, path) < 0)
		return riffle_fail_system(error, errno, "rename", "failed");
	close(file->fd);
	file->fd = -1;
	return 0;
}

static void sync_directory(const char *path)
{
	char directory[4096];
	const char *slash = strrchr(path, '/');
	int fd;

	snprintf(directory, sizeof directory, "%.*s", slash && slash > path ? (int)(slash - path) : 1,
		 slash ? path : ".");
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

static int forget_state(const char *path, struct riffle_error *error)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return riffle_fail_system(error, errno, "unlink", "the old state cannot be removed");
	sync_directory(path);
	return 0;
}

static int create_changed(struct machine *m, struct new_file *state, const char *state_path, const char *memory_path,
			  const char **blame, struct riffle_error *error)
{
	struct machine_snapshot snapshot = {.state_fd = state->fd, .changed = true};
	struct stat st;
	int status;

	*blame = memory_path;
	snapshot.memory_fd = open(memory_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (snapshot.memory_fd < 0)
		return riffle_fail_system(error, errno, "open", "cannot be opened");
	if (fstat(snapshot.memory_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(snapshot.memory_fd);
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory file", "is no regular file");
	}
	/* of another size it is no earlier memory of this guest */
	snapshot.fresh = !st.st_size || (uint64_t)st.st_size != m->config.memory_bytes;
	if (snapshot.fresh && st.st_size && ftruncate(snapshot.memory_fd, 0) < 0)
		status = riffle_fail_system(error, errno, "memory file", "cannot be emptied");
	else if (!(status = forget_state(state_path, error)))
		status = machine_snapshot_write(m, &snapshot, error);
	close(snapshot.memory_fd);
	return status;
}

static int create_full(struct machine *m, struct new_file *state, struct new_file *memory, const char *state_path,
		       const char *memory_path, const char **blame, struct riffle_error *error)
{
	struct machine_snapshot snapshot = {.state_fd = state->fd, .fresh = true};
	int status;

	*blame = memory_path;
	if ((status = make_file(memory, memory_path, error)))
		return status;
	snapshot.memory_fd = memory->fd;
	if ((status = machine_snapshot_write(m, &snapshot, error)) || (status = forget_state(state_path, error)))
		return status;
	return name_file(memory, memory_path, error);
}

int machine_snapshot_create(struct machine *m, const char *state_path, const char *memory_path, bool changed,
			    const char **blame, struct riffle_error *error)
{
	struct new_file state = {.fd = -1}, memory = {.fd = -1};
	int status;

	*blame = state_path;
	status = make_file(&state, state_path, error);
	if (!status)
		status = changed ? create_changed(m, &state, state_path, memory_path, blame, error)
				 : create_full(m, &state, &memory, state_path, memory_path, blame, error);
	if (!status) {
		*blame = state_path;
		status = name_file(&state, state_path, error);
	}
	if (!status) {
		sync_directory(memory_path);
		sync_directory(state_path);
	}
	drop_file(&memory);
	drop_file(&state);
	return status;
}

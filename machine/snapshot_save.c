/* SPDX-License-Identifier: Apache-2.0 */
/* Saves a machine: its state and its memory, in that order into memory and in the other onto stable storage. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <riffle/version.h>

#include "common/fail.h"
#include "common/write_all.h"
#include "machine/description.h"
#include "machine/restore.h"
#include "machine/snapshot.h"
#include "machine/snapshot_files.h"
#include "monitor/snapshot/components.h"
#include "monitor/snapshot/extents.h"
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

void machine_set_front_end(struct machine *m, const char *text)
{
	m->config.front_end = text;
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
	config->origin.mode = m->randomisation.mode;
	config->origin.virtual_bits = m->randomisation.virtual_bits;
	config->origin.physical_bits = m->randomisation.physical_bits;
	config->origin.chunks = m->randomisation.chunks;
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

static int save_state(struct machine *m, const uint8_t id[MACHINE_ID_BYTES], struct state_writer *writer,
		      struct riffle_error *error)
{
	int status;

	save_machine(m, writer);
	state_begin(writer, STATE_SAVE, 0, 1);
	state_put(writer, id, MACHINE_ID_BYTES);
	state_end(writer);
	if ((status = save_config(m, writer, error)) || (status = vcpus_save(m->vm, writer, error)) ||
	    (status = chips_save(m->vm, writer, error)))
		return status;
	save_platform(m, writer);
	for (unsigned i = 0; !status && i < m->devices.count; i++) {
		status = virtio_save(&m->devices.slots[i], i, writer, error);
		memory_mark_rings(m->devices.slots[i].device);
	}
	return status;
}

static int write_state(int fd, const struct state_writer *writer, struct riffle_error *error)
{
	if (!riffle_write_at(fd, writer->data, writer->bytes, 0) || ftruncate(fd, (off_t)writer->bytes) < 0 ||
	    fsync(fd) < 0)
		return riffle_fail_system(error, errno, "state file", "cannot be written");
	return 0;
}

/* A save on its way: until it is known whether its files have their names, its pages can be given back. */
struct saving {
	struct machine *machine;
	struct state_writer writer;
	struct memory_save memory;
	uint8_t id[MACHINE_ID_BYTES];
	bool to_resume;
	uint64_t begun;
};

int machine_snapshot_may(const struct machine *m, struct riffle_error *error)
{
	if (!m->config.can_save)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "snapshot", "this machine was not made to be saved");
	if (m->config.command)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "snapshot",
				   "a guest that runs a command for this process cannot be saved");
	return 0;
}

/* A file that may not grow is an error of the write, and not the end of a process that has a handler for the signal. */
static void hold_too_large(sigset_t *before)
{
	sigset_t too_large;

	sigemptyset(&too_large);
	sigaddset(&too_large, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &too_large, before);
}

static void forget_too_large(const sigset_t *before)
{
	const struct timespec now = {0};
	sigset_t too_large;

	sigemptyset(&too_large);
	sigaddset(&too_large, SIGXFSZ);
	if (sigismember(before, SIGXFSZ) != 1)
		while (sigtimedwait(&too_large, NULL, &now) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* Pauses the guest, and takes its state. In a new file for all memory something may be written before. */
static int begin_saving(struct saving *s, struct machine *m, const struct machine_snapshot *snapshot,
			struct riffle_error *error)
{
	sigset_t before;
	int status;

	*s = (struct saving){.machine = m,
			     .memory = {.fd = snapshot->memory_fd,
					.changed = snapshot->changed,
					.fresh = snapshot->fresh,
					.pagemap_fd = m->pagemap_fd}};
	if ((status = machine_snapshot_may(m, error)))
		return status;
	if (getrandom(s->id, sizeof s->id, 0) != sizeof s->id)
		return riffle_fail_full(error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	if (vm_state(m->vm) == VM_RUNNING) {
		hold_too_large(&before);
		status = memory_save_prepare(m->vm, &s->memory, error);
		forget_too_large(&before);
		if (status)
			return status;
		s->to_resume = true;
	}
	s->begun = loop_now();
	if ((status = machine_control(m, MACHINE_PAUSE, error)))
		return status;
	if (vm_state(m->vm) == VM_ENDED)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "machine", "has ended");
	return save_state(m, s->id, &s->writer, error);
}

static void let_go(struct saving *s)
{
	if (s->to_resume)
		machine_control(s->machine, MACHINE_RESUME, NULL);
	s->to_resume = false;
}

static int write_files(struct saving *s, struct machine_snapshot *snapshot, struct riffle_error *error)
{
	int status;

	status = memory_save(s->machine->vm, &s->memory, error);
	let_go(s);
	snapshot->paused_ns = loop_now() - s->begun;
	snapshot->memory_bytes = s->memory.written;
	snapshot->untracked = s->memory.untracked;
	/* the guest need not wait for the disk */
	if (!status && fsync(snapshot->memory_fd) < 0)
		status = riffle_fail_system(error, errno, "memory file", "cannot be written");
	if (!status && snapshot->to_consume)
		extents_save(snapshot->memory_fd, s->machine->config.memory_bytes, &s->writer);
	if (!status)
		status = state_finish(&s->writer, error);
	return status ? status : write_state(snapshot->state_fd, &s->writer, error);
}

static int write_saving(struct saving *s, struct machine_snapshot *snapshot, struct riffle_error *error)
{
	sigset_t before;

	hold_too_large(&before);
	int status = write_files(s, snapshot, error);

	forget_too_large(&before);
	return status;
}

/* `saved`: what changes from now on changes against this save. */
static void end_saving(struct saving *s, bool saved)
{
	let_go(s);
	memory_save_end(s->machine->vm, &s->memory, saved);
	if (saved) {
		memcpy(s->machine->save_id, s->id, sizeof s->id);
		s->machine->has_save = true;
	}
	state_writer_free(&s->writer);
}

int machine_snapshot_write(struct machine *m, struct machine_snapshot *snapshot, struct riffle_error *error)
{
	struct saving saving;
	int status = begin_saving(&saving, m, snapshot, error);

	if (!status)
		status = write_saving(&saving, snapshot, error);
	end_saving(&saving, !status);
	return status;
}

/* ---- at the guest's own word ---- */

static void save_now(void *opaque)
{
	struct machine *m = opaque;
	struct machine_snapshot snapshot = {.state_fd = m->config.save_state_fd,
					    .memory_fd = m->config.save_memory_fd,
					    .fresh = true,
					    .to_consume = true};

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

enum how {
	IN_PLACE, /* the memory file has what it had at the last save */
	CHANGED,  /* a new file of what changed */
	WHOLE
};

/* Whether the state at the path is known not to be the last save's. */
static bool is_another_save(const struct machine *m, const char *state_path, const struct stat *state)
{
	struct machine_snapshot_info info;
	struct riffle_error ignored;

	if (!state->st_mode)
		return false;
	return machine_snapshot_look(state_path, &info, &ignored) || !info.has_save || !m->has_save ||
	       memcmp(info.save_id, m->save_id, sizeof m->save_id) != 0;
}

static enum how choose_how(const struct machine *m, bool changed, const char *state_path, const struct stat *state,
			   const struct stat *memory)
{
	if (!changed)
		return WHOLE;
	/* of another size it is no earlier memory of this guest */
	if (!memory->st_mode || (uint64_t)memory->st_size != m->config.memory_bytes)
		return CHANGED;
	return is_another_save(m, state_path, state) ? WHOLE : IN_PLACE;
}

static int open_in_place(int *fd, const char *path, struct riffle_error *error)
{
	struct stat st;

	*fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (*fd < 0)
		return riffle_fail_system(error, errno, "open", "cannot be opened");
	if (fstat(*fd, &st) < 0 || !S_ISREG(st.st_mode))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory file", "is not a regular file");
	return snapshot_file_trust(&st, error);
}

static int check_paths(const char *state_path, struct stat *state, const char *memory_path, struct stat *memory,
		       const char **blame, struct riffle_error *error)
{
	int status;

	*blame = state_path;
	if ((status = snapshot_file_check(AT_FDCWD, state_path, state, error)))
		return status;
	*blame = memory_path;
	if ((status = snapshot_file_check(AT_FDCWD, memory_path, memory, error)))
		return status;
	return snapshot_files_are_one(state_path, state, memory_path, memory)
		   ? riffle_fail(error, RIFFLE_ERR_ARGUMENT, "memory file", "is the state file too")
		   : 0;
}

/* Memory that is changed in place is no save's until the new state is there. */
static int forget_state(const char *path, struct riffle_error *error)
{
	if (unlink(path) < 0 && errno != ENOENT)
		return riffle_fail_system(error, errno, "unlink", "the old state cannot be removed");
	snapshot_file_sync(AT_FDCWD, path);
	return 0;
}

static int make_files(struct snapshot_file *state, const char *state_path, struct snapshot_file *memory,
		      const char *memory_path, enum how how, int *in_place, const char **blame,
		      struct riffle_error *error)
{
	uint32_t number;
	char tag[SNAPSHOT_TAG_DIGITS + 1];
	int status;

	if (getrandom(&number, sizeof number, 0) != sizeof number)
		return riffle_fail_full(error, RIFFLE_ERR_RANDOM, errno, "getrandom", "failed", 0, 0, 0, 0);
	snprintf(tag, sizeof tag, "%08x", number);
	snapshot_files_sweep(AT_FDCWD, state_path, false);
	snapshot_files_sweep(AT_FDCWD, memory_path, false);
	*blame = state_path;
	if ((status = snapshot_file_make(state, AT_FDCWD, state_path, tag, error)))
		return status;
	*blame = memory_path;
	return how == IN_PLACE ? open_in_place(in_place, memory_path, error)
			       : snapshot_file_make(memory, AT_FDCWD, memory_path, tag, error);
}

static int create(struct machine *m, struct snapshot_file *state, struct snapshot_file *memory, int in_place,
		  bool changed, bool *untracked, const char **blame, struct riffle_error *error)
{
	struct machine_snapshot snapshot = {.state_fd = state->fd,
					    .memory_fd = in_place >= 0 ? in_place : memory->fd,
					    .changed = changed,
					    .fresh = in_place < 0};
	struct saving saving;
	int status = begin_saving(&saving, m, &snapshot, error);

	if (!status && in_place >= 0)
		status = forget_state(state->name, error);
	if (!status)
		status = write_saving(&saving, &snapshot, error);
	if (!status)
		status = snapshot_files_name(memory, state, blame, error);
	*untracked = snapshot.untracked;
	end_saving(&saving, !status);
	if (!status) {
		snapshot_files_sweep(AT_FDCWD, state->name, true);
		if (memory->fd >= 0)
			snapshot_files_sweep(AT_FDCWD, memory->name, true);
	}
	return status;
}

int machine_snapshot_create(struct machine *m, const char *state_path, const char *memory_path, bool changed,
			    bool *untracked, const char **blame, struct riffle_error *error)
{
	struct snapshot_file state = {.fd = -1}, memory = {.fd = -1};
	struct stat state_st, memory_st;
	int in_place = -1;

	*untracked = false;

	int status = check_paths(state_path, &state_st, memory_path, &memory_st, blame, error);

	if (!status) {
		enum how how = choose_how(m, changed, state_path, &state_st, &memory_st);

		status = make_files(&state, state_path, &memory, memory_path, how, &in_place, blame, error);
		if (!status)
			status = create(m, &state, &memory, in_place, how != WHOLE, untracked, blame, error);
	}
	if (in_place >= 0)
		close(in_place);
	snapshot_file_drop(&memory);
	snapshot_file_drop(&state);
	return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a machine of a snapshot, once: each further guest of it would have the same kernel layout. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fail.h"
#include "machine/control.h"
#include "machine/description.h"
#include "machine/internal.h"
#include "machine/restore.h"
#include "machine/snapshot.h"
#include "monitor/snapshot/components.h"
#include "monitor/snapshot/extents.h"
#include "monitor/snapshot/uffd.h"

/* A state file that is open, locked and read. */
struct opened_state {
	int fd;
	bool counts; /* its uses can be written */
	uint8_t *data;
	size_t bytes;
	struct state_file file;
};

static int open_name(const char *name, int flags)
{
	char *end;

	if (strncmp(name, "fd:", 3) != 0)
		return open(name, flags | O_CLOEXEC | O_NONBLOCK);
	long fd = strtol(name + 3, &end, 10);

	return *end || end == name + 3 || fd < 0 || fd > INT32_MAX ? (errno = EBADF, -1)
								   : fcntl((int)fd, F_DUPFD_CLOEXEC, 3);
}

static int read_whole(struct opened_state *state, struct riffle_error *error)
{
	struct stat st;

	if (fstat(state->fd, &st) < 0)
		return riffle_fail_system(error, errno, "state file", "fstat failed");
	if (!S_ISREG(st.st_mode))
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "state file", "is not a regular file");
	if (st.st_size > (off_t)STATE_BYTES_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "state file", "is too large",
					    (uint64_t)st.st_size, STATE_BYTES_MAX);
	state->data = malloc((size_t)st.st_size + 1);
	if (!state->data)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "state file", "out of memory");
	while (state->bytes < (size_t)st.st_size) {
		ssize_t got = pread(state->fd, state->data + state->bytes, (size_t)st.st_size - state->bytes,
				    (off_t)state->bytes);

		if (got < 0 && errno != EINTR)
			return riffle_fail_system(error, errno, "state file", "cannot be read");
		if (got == 0)
			break; /* cut meanwhile, which its size will show */
		state->bytes += got > 0 ? (size_t)got : 0;
	}
	return state_open(&state->file, state->data, state->bytes, error);
}

static void close_state(struct opened_state *state)
{
	if (state->fd >= 0)
		close(state->fd);
	if (state->data)
		explicit_bzero(state->data, state->bytes);
	free(state->data);
}

/* The lock is held until the use is counted, so that of two who load at a time the second sees the first. */
static int open_state(struct opened_state *state, const char *path, bool lock, struct riffle_error *error)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	*state = (struct opened_state){.fd = -1};
	state->fd = lock ? open_name(path, O_RDWR) : -1;
	state->counts = state->fd >= 0 && (fcntl(state->fd, F_GETFL) & O_ACCMODE) == O_RDWR;
	if (state->fd < 0)
		state->fd = open_name(path, O_RDONLY);
	if (state->fd < 0)
		return riffle_fail_system(error, errno, "state file", "cannot be opened");
	if (state->counts) {
		int result;

		do
			result = fcntl(state->fd, F_OFD_SETLKW, &whole);
		while (result < 0 && errno == EINTR);
		if (result < 0)
			return riffle_fail_system(error, errno, "state file", "cannot be locked");
	}
	return read_whole(state, error);
}

static int read_info(struct machine_snapshot_info *info, const struct opened_state *state, struct riffle_error *error)
{
	struct state_reader reader;

	memset(info, 0, sizeof *info);
	if (!state_section(&state->file, STATE_MACHINE, 0, &reader))
		return state_missing("machine", error);
	state_get_block(&reader, "riffle_version", info->riffle_version, sizeof info->riffle_version - 1);
	info->created_ns = state_get64(&reader, "created");
	size_t id = state_get_block(&reader, "layout_id", info->layout_id, sizeof info->layout_id);

	if (id != sizeof info->layout_id)
		state_refuse(&reader, "layout_id", "has another size", id);
	info->layout_mode = state_get8(&reader, "layout_mode");
	if (info->layout_mode > RIFFLE_MODE_FGKASLR)
		state_refuse(&reader, "layout_mode", "is out of range", info->layout_mode);
	info->vcpus = state_get32(&reader, "vcpus");
	info->memory_bytes = state_get64(&reader, "memory_bytes");
	info->uses = riffle_get64(state->data + STATE_USES_OFFSET);
	int status = state_close_section(&reader, error);

	if (!status && state_section(&state->file, STATE_CONFIG, 0, &reader)) {
		size_t bytes;
		const char *text = state_get_block_at(&reader, "description", &bytes);

		if (text)
			info->mode = description_mode(text, bytes);
	}
	if (status || !state_section(&state->file, STATE_SAVE, 0, &reader))
		return status;
	info->has_save = true;
	state_get(&reader, "save_id", info->save_id, sizeof info->save_id);
	return state_close_section(&reader, error);
}

int machine_snapshot_look(const char *path, struct machine_snapshot_info *info, struct riffle_error *error)
{
	struct opened_state state;
	int status = open_state(&state, path, false, error);

	if (!status)
		status = read_info(info, &state, error);
	close_state(&state);
	return status;
}

static int check_use(const struct opened_state *state, const struct machine_load *load, uint64_t uses,
		     struct riffle_error *error)
{
	if (load->share_layout)
		return 0;
	if (!state->counts)
		return riffle_fail(error, RIFFLE_ERR_TRUST, "uses",
				   "the file cannot be written, so nothing tells whether another guest has its kernel "
				   "layout");
	if (uses)
		return riffle_fail_found(
		    error, RIFFLE_ERR_TRUST, "uses",
		    "a guest was restored from this snapshot before: another would have the same kernel "
		    "layout",
		    uses);
	return 0;
}

/* On stable storage before the guest runs. */
static int count_use(const struct opened_state *state, uint64_t uses, struct riffle_error *error)
{
	uint64_t now = uses + 1;

	if (!state->counts)
		return 0;
	if (pwrite(state->fd, &now, sizeof now, STATE_USES_OFFSET) != sizeof now || fdatasync(state->fd) < 0)
		return riffle_fail_system(error, errno, "state file", "its use cannot be counted");
	return 0;
}

static int read_config(struct machine_config *config, json_t **owner, const struct machine_load *load,
		       const struct opened_state *state, struct riffle_error *error)
{
	const struct machine_config *host = load->host;
	struct state_reader reader;
	size_t bytes;
	int status;

	if (!state_section(&state->file, STATE_CONFIG, 0, &reader))
		return state_missing("description", error);
	const char *text = state_get_block_at(&reader, "description", &bytes);

	if ((status = state_close_section(&reader, error)) ||
	    (status = description_read(config, owner, text, bytes, error)))
		return status;
	config->console = host->console;
	config->own_signals = host->own_signals;
	config->keep_halted = host->keep_halted;
	config->timed = host->timed;
	config->accept_emulation = host->accept_emulation;
	config->unconfined = host->unconfined;
	config->controlled = host->controlled;
	config->vcpu_name = host->vcpu_name;
	config->can_save = host->can_save;
	config->snapshot_socket = host->snapshot_socket;
	config->dump_path = host->dump_path;
	config->track_dirty = load->track_dirty;
	if (load->pages != MACHINE_PAGES_AS_SAVED) {
		config->huge_pages = load->pages != MACHINE_PAGES_SMALL;
		config->huge_2m = load->pages == MACHINE_PAGES_2M;
	}
	if (load->strict_pages && config->huge_2m && !load->uffd_path)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "huge_pages",
				   "Cannot restore hugetlbfs backed snapshot by mapping the memory file. Please use "
				   "uffd.");
	return 0;
}

/* By its id, or where it has none by its number, from 0 on. */
static bool is_called(const struct machine_net *net, unsigned number, const char *id)
{
	char text[12];

	snprintf(text, sizeof text, "%u", number);
	return !strcmp(net->id ? net->id : text, id);
}

/* Where the guest's networks and its vsock are on this host, if not where they were. */
static int override_devices(struct machine_config *config, const struct machine_load *load, struct riffle_error *error)
{
	for (size_t i = 0; i < load->net_count; i++) {
		const struct machine_net_override *o = &load->nets[i];
		struct machine_net *net = NULL;

		for (unsigned n = 0; n < config->devices.net_count; n++)
			if (is_called(&config->devices.nets[n], n, o->id))
				net = &config->devices.nets[n];
		if (!net)
			return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "network_overrides",
					   "the snapshot has no network with this id");
		net->kind = MACHINE_NET_TAP;
		net->tap = o->tap;
	}
	for (unsigned n = 0; n < config->devices.net_count; n++)
		if (config->devices.nets[n].kind == MACHINE_NET_FD && config->devices.nets[n].tap)
			config->devices.nets[n].kind = MACHINE_NET_TAP;
	if (load->vsock_path && !config->devices.vsock.path)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "vsock_override", "the snapshot has no vsock");
	if (load->vsock_path)
		config->devices.vsock.path = load->vsock_path;
	return 0;
}

/* What nobody replaced. */
static int check_descriptors(const struct machine_config *config, struct riffle_error *error)
{
	for (unsigned n = 0; n < config->devices.net_count; n++)
		if (config->devices.nets[n].kind == MACHINE_NET_FD && config->devices.nets[n].fd < 0)
			return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "network_overrides",
					   "must name a tap for a network that was a descriptor of the saved process");
	return 0;
}

static int describe(struct machine_config *config, const struct machine_load *load, struct riffle_error *error)
{
	int status = override_devices(config, load, error);

	if (!status && load->described)
		status = load->described(load->opaque, config, error);
	return status ? status : check_descriptors(config, error);
}

int machine_snapshot_compare(const struct machine_load *load, int *kvm_fd, const char **blame,
			     struct riffle_error *error)
{
	struct machine_config *config = malloc(sizeof *config);
	struct opened_state state = {.fd = -1};
	json_t *owner = NULL;
	int status;

	*kvm_fd = -1;
	*blame = load->state_path;
	if (!config)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "struct machine", "out of memory");
	machine_config_init(config);
	if (!(status = open_state(&state, load->state_path, false, error)) &&
	    !(status = read_config(config, &owner, load, &state, error)) && !(status = describe(config, load, error))) {
		*blame = NULL;
		status = machine_check_kvm(kvm_fd, config, error);
	}
	if (status && *kvm_fd >= 0)
		close(*kvm_fd);
	json_decref(owner);
	close_state(&state);
	free(config);
	return status;
}

static int restore_input(struct machine *m, const struct state_file *file, struct riffle_error *error)
{
	struct state_reader reader;

	if (!state_section(file, STATE_INPUT, 0, &reader))
		return state_missing("console input", error);
	m->console.count = (unsigned)state_get_block(&reader, "console input", m->console.bytes, CONSOLE_INPUT_BYTES);
	return state_close_section(&reader, error);
}

/* vCPUs before the chips that interrupt them, and both before the devices that raise interrupts. */
static int restore(struct machine *m, const struct machine_load *load, const struct state_file *file,
		   struct riffle_error *error)
{
	int status;

	if (state_count(file, STATE_VIRTIO) != m->devices.count)
		return riffle_fail_expected(error, RIFFLE_ERR_FORMAT, "devices", "the state has another number of them",
					    state_count(file, STATE_VIRTIO), m->devices.count);
	if ((status = vcpus_restore(m->vm, file, error)) ||
	    (status = chips_restore(m->vm, file, load->clock_realtime, error)) ||
	    (status = serial_restore(&m->serial, file, error)) || (status = i8042_restore(&m->i8042, file, error)) ||
	    (status = cmos_restore(&m->cmos, file, error)) || (status = power_restore(&m->power, file, error)) ||
	    (status = restore_input(m, file, error)))
		return status;
	for (unsigned i = 0; !status && i < m->devices.count; i++)
		status = virtio_restore(&m->devices.slots[i], i, file, error);
	return status;
}

static int open_memory(struct guest_memory_file *file, const struct machine_load *load, bool huge_pages,
		       struct riffle_error *error)
{
	*file = (struct guest_memory_file){.fd = -1, .shared = load->consume, .huge_pages = huge_pages};
	if (load->uffd_path)
		return 0;
	file->fd = open_name(load->memory_path, load->consume ? O_RDWR : O_RDONLY);
	return file->fd < 0 ? riffle_fail_system(error, errno, "memory file", "cannot be opened") : 0;
}

static int build(struct machine *m, const struct machine_load *load, const struct opened_state *state,
		 const struct machine_snapshot_info *info, struct riffle_error *error)
{
	struct guest_memory_extent extents[GUEST_MEMORY_EXTENTS_MAX];
	struct guest_memory_file memory;
	int status;

	m->blame = load->state_path;
	if (info->vcpus != m->config.vcpus || info->memory_bytes != m->config.memory_bytes)
		return riffle_fail(error, RIFFLE_ERR_FORMAT, "memory_bytes",
				   "the state and its description do not agree");
	if ((status = describe(&m->config, load, error)))
		return status;
	m->blame = NULL;
	if ((status = machine_ask_kvm(m, error)))
		return status;
	m->blame = load->uffd_path ? load->uffd_path : load->memory_path;
	if ((status = open_memory(&memory, load, m->config.huge_pages, error)))
		return status;
	m->blame = load->state_path;
	if ((status =
		 extents_load(extents, &memory.extent_count, memory.fd, info->memory_bytes, &state->file, error))) {
		if (memory.fd >= 0)
			close(memory.fd);
		return status;
	}
	memory.extents = memory.extent_count ? extents : NULL;
	m->memory_file = memory.fd >= 0 ? &memory : NULL;
	memcpy(m->layout_id, info->layout_id, sizeof m->layout_id);
	memcpy(m->save_id, info->save_id, sizeof m->save_id);
	m->has_save = info->has_save;
	m->config.layout.mode = (enum riffle_mode)info->layout_mode;
	m->randomisation = (struct machine_randomisation){.mode = m->config.origin.mode,
							  .virtual_bits = m->config.origin.virtual_bits,
							  .physical_bits = m->config.origin.physical_bits,
							  .chunks = m->config.origin.chunks};
	m->blame = NULL;
	status = machine_build_platform(m, error);
	if (!status && m->memory_file && m->vm)
		m->memory_file = NULL;
	if (status) {
		if (!m->blame)
			m->blame = load->memory_path;
		return status;
	}
	if (load->uffd_path) {
		m->blame = load->uffd_path;
		if ((status = uffd_serve(&m->uffd, vm_memory(m->vm), load->uffd_path, error)))
			return status;
		m->blame = NULL;
	}
	return 0;
}

static int fill(struct machine *m, const struct machine_load *load, const struct opened_state *state,
		struct riffle_error *error)
{
	int status = machine_open_vm(m, error);

	if (status)
		return status;
	phases_end(m->phases, "vCPUs and devices");
	m->blame = load->state_path;
	if ((status = restore(m, load, &state->file, error)))
		return status;
	m->blame = NULL;
	/* the guest's kernel seeds its random numbers anew */
	return machine_renew_generation(m, error);
}

/* Devices and the new generation use memory, for whose pages another process may let us wait. */
static int build_watched(struct machine *m, const struct machine_load *load, const struct opened_state *state,
			 const struct machine_snapshot_info *info, struct riffle_error *error)
{
	struct riffle_error late;
	int status = build(m, load, state, info, error);

	if (status)
		return status;
	if ((status = uffd_watch_begin(&m->uffd, vm_memory(m->vm), UFFD_PATIENCE_S, error)))
		return status;
	status = fill(m, load, state, error);
	/* what was read as zeros may have been refused for that */
	int given_up = uffd_watch_end(&m->uffd, &late);

	if (!given_up)
		return status;
	m->blame = load->uffd_path;
	*error = late;
	return given_up;
}

int machine_snapshot_load(struct machine **result, const struct machine_load *load,
			  const struct machine_observer *observer, struct phases *phases,
			  struct machine_snapshot_info *info_out, const char **blame, struct riffle_error *error)
{
	struct machine_snapshot_info info;
	struct machine_config *config = malloc(sizeof *config);
	struct opened_state state = {.fd = -1};
	struct machine *m = NULL;
	json_t *owner = NULL;
	int status = 0;

	*result = NULL;
	*blame = load->state_path;
	if (!config && load->has_kvm)
		close(load->kvm_fd);
	if (!config)
		return riffle_fail(error, RIFFLE_ERR_MEMORY, "struct machine", "out of memory");
	machine_config_init(config);
	if (!(status = open_state(&state, load->state_path, true, error)) &&
	    !(status = read_info(&info, &state, error)) && !(status = check_use(&state, load, info.uses, error)))
		status = read_config(config, &owner, load, &state, error);
	if (!status) {
		phases_end(phases, "state");
		m = *result = machine_allocate(config, observer, phases);
		if (!m)
			status = riffle_fail(error, RIFFLE_ERR_MEMORY, "struct machine", "out of memory");
	}
	if (m) {
		if (load->has_kvm)
			m->kvm_fd = load->kvm_fd;
		m->description_owner = owner;
		m->restored = true;
		m->start_paused = load->start_paused;
		status = build_watched(m, load, &state, &info, error);
		*blame = m->blame;
	} else {
		json_decref(owner);
		if (load->has_kvm)
			close(load->kvm_fd);
	}
	if (!status) {
		*blame = load->state_path;
		status = count_use(&state, info.uses, error);
	}
	if (!status)
		*blame = NULL;
	if (info_out && !status)
		*info_out = info;
	close_state(&state);
	free(config);
	return status;
}

const struct machine_config *machine_description(const struct machine *m)
{
	return &m->config;
}

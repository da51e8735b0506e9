/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's description: its defaults and its checks. */
#include "machine/config.h"

#include <string.h>
#include <sys/stat.h>

#include "common/fail.h"
#include "monitor/core/memory.h"
#include "monitor/virtio/mmio.h"

void machine_config_init(struct machine_config *config)
{
	*config = (struct machine_config){
	    .vcpus = 1,
	    .memory_bytes = UINT64_C(256) << 20,
	    .huge_pages = true,
	    .command_line = MACHINE_COMMAND_LINE,
	    .layout.automatic = true,
	};
}

int machine_config_command_line(struct machine_config *config, const char *text, bool append,
				struct riffle_error *error)
{
	size_t length = strlen(text), used = append ? strlen(config->command_line) : 0;
	size_t blank = append && used != 0;
	/* what follows "--" is init's, and stays last */
	char *init = append ? strstr(config->command_line, " -- ") : NULL;

	if (length >= sizeof config->command_line - used - blank)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "command line", "is too long",
					    used + blank + length, sizeof config->command_line - 1);
	if (init) {
		memmove(init + 1 + length, init, strlen(init) + 1);
		*init = ' ';
		memcpy(init + 1, text, length);
		return 0;
	}
	if (blank)
		config->command_line[used] = ' ';
	memcpy(config->command_line + used + blank, text, length + 1);
	config->command_line_given |= !append;
	return 0;
}

/* Where the words for init begin, with the blank before them; NULL: there are none. */
static const char *init_words(const char *line)
{
	for (const char *at = line; (at = strstr(at, "--")); at += 2)
		if ((at == line || at[-1] == ' ') && (!at[2] || at[2] == ' '))
			return at == line ? at : at - 1;
	return NULL;
}

int machine_config_kernel_words(struct machine_config *config, const char *text, struct riffle_error *error)
{
	const char *init = init_words(config->command_line);
	char rest[sizeof config->command_line];

	if (!init)
		return machine_config_command_line(config, text, true, error);
	size_t length = strlen(config->command_line) + 1 + strlen(text);

	if (length >= sizeof config->command_line)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "command line", "is too long", length,
					    sizeof config->command_line - 1);
	strcpy(rest, init);
	config->command_line[init - config->command_line] = 0;
	int status = machine_config_command_line(config, text, true, error);

	/* of a line that was for init alone the blank is missing */
	return status ? status : machine_config_command_line(config, rest + (*rest == ' '), true, error);
}

static bool is_file(const char *path, const struct stat *file)
{
	struct stat st;

	return path && stat(path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

const char *machine_config_uses(const struct machine_config *config, const struct stat *file)
{
	if (!S_ISREG(file->st_mode) && !S_ISBLK(file->st_mode))
		return NULL;
	if (is_file(config->kernel, file))
		return "kernel";
	if (is_file(config->relocs, file))
		return "relocations";
	if (is_file(config->initrd_path, file))
		return "initrd";
	if (is_file(config->layout.replay, file))
		return "layout";
	for (unsigned i = 0; i < config->devices.disk_count; i++)
		if (is_file(config->devices.disks[i].path, file))
			return "disk";
	for (unsigned i = 0; i < config->devices.pmem_count; i++)
		if (is_file(config->devices.pmems[i].path, file))
			return "persistent memory";
	return NULL;
}

static int check_layout(const struct machine_config *config, struct riffle_error *error)
{
	const struct machine_layout *layout = &config->layout;

	if (layout->replay && layout->has_seed)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "layout",
				   "a file replays a whole layout; a seed cannot be combined with it");
	if (layout->slide && (layout->automatic || layout->mode < RIFFLE_MODE_KASLR))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "randomize", "has slides only with kaslr or fgkaslr");
	if (config->boot == MACHINE_BOOT_DIRECT)
		return 0;
	if (layout->replay || layout->has_seed || layout->out || config->relocs || layout->lazy_tables)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "boot",
				   "with bootstrap the guest randomises itself; no layout, seed, tables or relocs goes "
				   "with it");
	if (!layout->automatic && layout->mode != RIFFLE_MODE_OFF)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "boot",
				   "with bootstrap the guest chooses how it randomises itself; only off or auto goes "
				   "with it");
	return 0;
}

static int check_devices(const struct machine_config *config, struct riffle_error *error)
{
	const struct machine_devices_config *devices = &config->devices;
	uint64_t balloon = devices->balloon.balloon.target_bytes;
	unsigned roots = 0, count = machine_devices_wanted(devices);

	for (unsigned i = 0; i < devices->disk_count; i++)
		roots += devices->disks[i].root;
	for (unsigned i = 0; i < devices->pmem_count; i++)
		roots += devices->pmems[i].root;
	if (roots > 1)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "root", "is more than one device", roots, 1);
	if (devices->balloon.wanted && balloon > config->memory_bytes)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "balloon", "is larger than the guest's memory",
					    balloon, config->memory_bytes);
	if (count > VIRTIO_MMIO_SLOTS)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "devices", "are more than there are slots",
					    count, VIRTIO_MMIO_SLOTS);
	return 0;
}

int machine_config_check(const struct machine_config *config, struct riffle_error *error)
{
	bool path_needed = config->console.kind == MACHINE_CONSOLE_FILE || config->console.kind == MACHINE_CONSOLE_UNIX;

	if (config->vcpus < 1 || config->vcpus > RIFFLE_BOOT_VCPUS_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "vcpus", "must be from 1 to 32", config->vcpus,
					    RIFFLE_BOOT_VCPUS_MAX);
	if (config->memory_bytes < GUEST_MEMORY_STEP || config->memory_bytes % GUEST_MEMORY_STEP)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "memory", "is not a multiple of 2 MiB",
					    config->memory_bytes, GUEST_MEMORY_STEP);
	if (config->memory_bytes > GUEST_MEMORY_MAX)
		return riffle_fail_expected(error, RIFFLE_ERR_ARGUMENT, "memory", "is too large", config->memory_bytes,
					    GUEST_MEMORY_MAX);
	if (!config->kernel)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "kernel", "is missing");
	if (config->initrd_path && config->initrd)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "initrd", "is given twice");
	if (path_needed && (!config->console.path || !*config->console.path))
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "console", "needs a path");
	if (config->command && config->console.kind == MACHINE_CONSOLE_STDIO)
		return riffle_fail(error, RIFFLE_ERR_ARGUMENT, "console",
				   "cannot be on stdio, where the command's streams are");
	int status = check_devices(config, error);

	return status ? status : check_layout(config, error);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Computes the key of a stock's items from the machine's description and the files it names. */
#include "cli/commands/stock_key.h"

#include <errno.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <riffle/version.h>

#include "common/checksum.h"
#include "common/fail.h"

struct making {
	XXH64_state_t hash;
	const char **blame;
	struct riffle_error *error;
	char path[4096]; /* storage for *blame */
};

enum change {
	IDENTITY,  /* which file it is, and its size */
	CONTENT,   /* the mtime and mode too */
	ATTRIBUTES /* the ctime too, which cannot be set back */
};

static int fail(struct making *m, const char *path, const char *field, int number)
{
	snprintf(m->path, sizeof m->path, "%s", path);
	*m->blame = m->path;
	return riffle_fail_system(m->error, number, field, "cannot be examined");
}

static uint64_t hash_file(const char *name, const struct stat *st, enum change change)
{
	const uint64_t identity[] = {st->st_dev, st->st_ino, st->st_mode & S_IFMT, st->st_rdev, (uint64_t)st->st_size};
	const uint64_t content[] = {(uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec, st->st_mode,
				    st->st_uid, st->st_gid};
	const uint64_t attributes[] = {(uint64_t)st->st_ctim.tv_sec, (uint64_t)st->st_ctim.tv_nsec};
	XXH64_state_t hash;

	XXH64_reset(&hash, 0);
	XXH64_update(&hash, name, strlen(name) + 1);
	XXH64_update(&hash, identity, sizeof identity);
	if (change >= CONTENT)
		XXH64_update(&hash, content, sizeof content);
	if (change >= ATTRIBUTES)
		XXH64_update(&hash, attributes, sizeof attributes);
	return XXH64_digest(&hash);
}

/* A sum, since entries come in any order. Without the ctime of the directory itself, which changes when it is moved. */
static int add_directory(struct making *m, const char *path, const char *field)
{
	char *paths[] = {(char *)path, NULL};
	FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	uint64_t sum = 0;
	int status = 0;

	if (!fts)
		return fail(m, path, field, errno);
	for (FTSENT *entry; !status && (errno = 0, entry = fts_read(fts));) {
		if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS)
			status = fail(m, entry->fts_path, field, entry->fts_errno);
		else if (entry->fts_info != FTS_DP)
			sum += hash_file(entry->fts_path, entry->fts_statp,
					 entry->fts_level == FTS_ROOTLEVEL ? CONTENT : ATTRIBUTES);
	}
	if (!status && errno)
		status = fail(m, path, field, errno);
	fts_close(fts);
	XXH64_update(&m->hash, &sum, sizeof sum);
	return status;
}

static int add_file(struct making *m, const char *path, const char *field, enum change change)
{
	struct stat st;
	char *end;
	long fd;

	if (!path)
		return 0;
	if (!strncmp(path, "fd:", 3) && (fd = strtol(path + 3, &end, 10), !*end && end != path + 3)) {
		if (fd < 0 || fd > INT32_MAX || fstat((int)fd, &st) < 0)
			return fail(m, path, field, EBADF);
	} else if (stat(path, &st) < 0) {
		return fail(m, path, field, errno);
	}
	if (S_ISDIR(st.st_mode))
		return add_directory(m, path, field);
	uint64_t file = hash_file(path, &st, change);

	XXH64_update(&m->hash, &file, sizeof file);
	return 0;
}

/* ---- the files that a configuration file names ---- */

static int add_devices(struct making *m, const json_t *list, const char *field, const char *read_only)
{
	const json_t *device;
	size_t i;
	int status = 0;

	json_array_foreach(list, i, device) if (!status) status =
	    add_file(m, json_string_value(json_object_get(device, "path_on_host")), field,
		     json_is_true(json_object_get(device, read_only)) ? CONTENT : IDENTITY);
	return status;
}

static int add_config(struct making *m, const char *path)
{
	json_error_t problem;
	json_t *json;
	int status;

	if (!path)
		return 0;
	if ((status = add_file(m, path, "--config", CONTENT)))
		return status;
	json = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
	if (!json) {
		snprintf(m->path, sizeof m->path, "%s", path);
		*m->blame = m->path;
		return riffle_fail_found(m->error, RIFFLE_ERR_FORMAT, "--config", "is not valid JSON, see this line",
					 (uint64_t)problem.line);
	}
	const json_t *source = json_object_get(json, "boot-source");

	if (!(status =
		  add_file(m, json_string_value(json_object_get(source, "kernel_image_path")), "kernel", CONTENT)) &&
	    !(status = add_file(m, json_string_value(json_object_get(source, "initrd_path")), "initrd", CONTENT)) &&
	    !(status = add_file(m, json_string_value(json_object_get(json, "cpu-config")), "cpu-config", CONTENT)) &&
	    !(status = add_devices(m, json_object_get(json, "drives"), "drives", "is_read_only")))
		status = add_devices(m, json_object_get(json, "pmem"), "pmem", "read_only");
	json_decref(json);
	return status;
}

/* ---- all of it ---- */

static int add_files(struct making *m, const struct run_options *o)
{
	const struct machine_config *c = &o->machine;
	int status;

	if ((status = add_config(m, o->config)) || (status = add_file(m, c->kernel, "kernel", CONTENT)) ||
	    (status = add_file(m, c->relocs, "--relocs", CONTENT)) ||
	    (status = add_file(m, o->initrd_directory ? o->initrd_directory : c->initrd_path, "initrd", CONTENT)) ||
	    (status = add_file(m, c->layout.replay, "--layout", CONTENT)))
		return status;
	for (unsigned i = 0; !status && i < c->devices.disk_count; i++)
		status =
		    add_file(m, c->devices.disks[i].path, "--disk", c->devices.disks[i].read_only ? CONTENT : IDENTITY);
	return status;
}

/* Tells builds of one version apart. Without the ctime, which changes when the running file is replaced. */
static void add_riffle(struct making *m)
{
	struct stat st;

	XXH64_update(&m->hash, RIFFLE_VERSION_STRING, sizeof RIFFLE_VERSION_STRING);
	if (stat("/proc/self/exe", &st) < 0)
		return;
	const uint64_t identity[] = {st.st_dev, st.st_ino, (uint64_t)st.st_size, (uint64_t)st.st_mtim.tv_sec,
				     (uint64_t)st.st_mtim.tv_nsec};

	XXH64_update(&m->hash, identity, sizeof identity);
}

int stock_key_make(char key[STOCK_KEY_DIGITS + 1], const struct stock_key *of, const char **blame,
		   struct riffle_error *error)
{
	static struct making m;
	int status;

	m.blame = blame;
	m.error = error;
	XXH64_reset(&m.hash, 0);
	add_riffle(&m);
	XXH64_update(&m.hash, of->stage, strlen(of->stage) + 1);
	for (const char *const *word = of->words; *word; word++)
		XXH64_update(&m.hash, *word, strlen(*word) + 1);
	if ((status = add_files(&m, of->options)))
		return status;
	snprintf(key, STOCK_KEY_DIGITS + 1, "%016llx", (unsigned long long)XXH64_digest(&m.hash));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a prepared kernel from any other file, and gets a prepared one in place of the other. */
#include "kernel/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "common/fail.h"
#include "common/source.h"
#include "host/input.h"
#include "host/shown.h"
#include "kernel/cache.h"

/* the files of a request, open, and what they were when they were opened */
struct inputs {
	int kernel, relocs;
	struct stat kernel_st, relocs_st;
};

static int open_plan(struct opened_kernel *k, const struct kernel_request *request, struct riffle_error *error)
{
	return request->base_alone ? riffle_plan_open_base(&k->plan, &k->source, error)
				   : riffle_plan_open(&k->plan, &k->source, error);
}

/* Without frames: what a worker wrote is not compressed, and a plan that says otherwise is refused. */
static int open_made(struct opened_kernel *k, const struct kernel_request *request, struct riffle_error *error)
{
	int status = riffle_source_from_fd(&k->source, k->fd, error);

	return status ? status : open_plan(k, request, error);
}

static int open_prepared(struct opened_kernel *k, const struct kernel_request *request, struct inputs *inputs,
			 struct riffle_error *error)
{
	int status = input_trust(inputs->kernel, &inputs->kernel_st, error);

	if (status)
		return status;
	k->fd = inputs->kernel;
	inputs->kernel = -1;
	k->way = KERNEL_IS_PREPARED;
	riffle_source_of_file(&k->source, k->fd, (uint64_t)inputs->kernel_st.st_size);
	status = frame_reader_begin(&k->frames, &k->source, error);
	return status ? status : open_plan(k, request, error);
}

/*
 * Opens a file as a prepared kernel before anything else is asked of it, which tells a prepared one without reading its
 * start twice. False: it is none, and the descriptor is where it was.
 */
static bool try_prepared(struct opened_kernel *k, const struct kernel_request *request, struct inputs *inputs,
			 int *status, struct riffle_error *error)
{
	int fd = inputs->kernel;

	*status = open_prepared(k, request, inputs, error);
	if (!*status || input_is_prepared(fd))
		return true;
	frame_reader_end(k->frames);
	k->frames = NULL;
	k->fd = -1;
	inputs->kernel = fd;
	*status = 0;
	return false;
}

/*
 * File times advance in steps of some milliseconds: a file that was written within the last step could be written once
 * more without its times telling. Waits until it is older than that, so that they do.
 */
static int settle(int fd, struct stat *st, struct riffle_error *error)
{
	const int64_t step = 20000000;
	struct timespec now;

	for (int tries = 0; tries < 50; tries++) {
		int64_t age;

		if (fstat(fd, st) < 0)
			return riffle_fail_system(error, errno, "file", "cannot be examined");
		clock_gettime(CLOCK_REALTIME, &now);
		age = (now.tv_sec - st->st_ctim.tv_sec) * INT64_C(1000000000) + now.tv_nsec - st->st_ctim.tv_nsec;
		/* a time in the future is somebody's clock, and not worth waiting for */
		if (age < 0 || age > step)
			return 0;
		nanosleep(&(struct timespec){.tv_nsec = step}, NULL);
	}
	return riffle_fail(error, RIFFLE_ERR_CHANGED, "file", "keeps changing");
}

static int check_unchanged(int fd, const struct stat *before, struct riffle_error *error)
{
	struct stat st;
	char old_name[CACHE_NAME_BYTES], new_name[CACHE_NAME_BYTES];

	if (fstat(fd, &st) < 0)
		return riffle_fail_system(error, errno, "file", "cannot be examined");
	cache_entry_name(old_name, before, NULL);
	cache_entry_name(new_name, &st, NULL);
	if (strcmp(old_name, new_name))
		return riffle_fail(error, RIFFLE_ERR_CHANGED, "file", "was changed while it was prepared");
	return 0;
}

/* FAT has no ctime of its own: a file overwritten with its old size and mtime is the same by all that an entry goes by.
 */
static bool tells_of_changes(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 || (fs.f_type != MSDOS_SUPER_MAGIC && fs.f_type != EXFAT_SUPER_MAGIC);
}

/* Runs the worker, and makes sure that what it read is what the files' identities stand for. */
static int prepare_into(struct opened_kernel *k, const struct kernel_request *request, const struct inputs *inputs,
			int out_fd, struct riffle_error *error)
{
	struct riffle_error changed;
	const struct spawn_files files = {inputs->kernel, inputs->relocs, -1, out_fd, RIFFLE_COMPRESSION_NONE};
	int status = request->preparing ? request->preparing(request->opaque, true, error) : 0;

	if (status) {
		k->blame = NULL;
		return status;
	}
	status = spawn_worker(&k->words, &files, error);
	if (request->preparing)
		request->preparing(request->opaque, false, error);
	/* a file that changed explains whatever else went wrong */
	if (check_unchanged(inputs->kernel, &inputs->kernel_st, &changed)) {
		*error = changed;
		return (int)changed.status;
	}
	if (inputs->relocs >= 0 && check_unchanged(inputs->relocs, &inputs->relocs_st, &changed)) {
		k->blame = request->relocs;
		*error = changed;
		return (int)changed.status;
	}
	if (status)
		k->blame = spawn_blame(error, request->kernel, request->relocs, NULL);
	return status;
}

static int prepare_into_memory(struct opened_kernel *k, const struct kernel_request *request,
			       const struct inputs *inputs, struct riffle_error *error)
{
	int status;

	k->fd = memfd_create("riffle-prepared", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (k->fd < 0)
		return riffle_fail_system(error, errno, "memory", "for the prepared kernel cannot be allocated");
	status = prepare_into(k, request, inputs, k->fd, error);
	if (status)
		return status;
	/* refused where somebody can still write to it */
	if (fcntl(k->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return riffle_fail_system(error, errno, "memory", "of the prepared kernel cannot be sealed");
	k->way = KERNEL_CACHE_MISS;
	return open_made(k, request, error);
}

/* True for errors of the cache's disk, which another place to write to may not have. */
static bool is_output_error(const struct riffle_error *error)
{
	return error->status == RIFFLE_ERR_IO && !strcmp(error->field, "output");
}

static void note_cache(struct opened_kernel *k, const char *directory, const struct riffle_error *error)
{
	char line[160];

	riffle_error_format(error, line, sizeof line);
	snprintf(k->notice, sizeof k->notice, "%.120s: %s; kernel prepared for this run alone", SHOWN(directory), line);
}

/* Prepares into the cache; when that fails for a reason of the cache's own, *fall_back is set. */
static int prepare_into_cache(struct opened_kernel *k, const struct kernel_request *request,
			      const struct inputs *inputs, const char *directory, const char *name, bool *fall_back,
			      struct riffle_error *error)
{
	struct riffle_error cache_error;
	struct cache_file file;
	int status;

	*fall_back = false;
	if (cache_create(&file, directory, &cache_error)) {
		note_cache(k, directory, &cache_error);
		*fall_back = true;
		return (int)cache_error.status;
	}
	status = prepare_into(k, request, inputs, file.fd, error);
	if (status && is_output_error(error)) {
		note_cache(k, directory, error);
		*fall_back = true;
	}
	if (status) {
		cache_close(&file);
		return status;
	}
	/* what could not be used next time gets no name */
	k->way = KERNEL_CACHE_MISS;
	k->fd = file.fd;
	status = open_made(k, request, error);
	if (!status) {
		if (cache_publish(&file, name, &cache_error))
			note_cache(k, directory, &cache_error);
		else
			cache_trim(&file, name, CACHE_BYTES_MAX);
	}
	file.fd = -1;
	cache_close(&file);
	return status;
}

static int open_other(struct opened_kernel *k, const struct kernel_request *request, struct inputs *inputs,
		      struct riffle_error *error)
{
	const struct stat *relocs_st = inputs->relocs >= 0 ? &inputs->relocs_st : NULL;
	char directory[4096], name[CACHE_NAME_BYTES];
	bool cached = false, fall_back = true;
	int status;

	if (!request->no_cache) {
		cached = cache_directory(directory, sizeof directory, request->cache_directory);
		if (!cached)
			snprintf(
			    k->notice, sizeof k->notice,
			    "no cache: neither XDG_CACHE_HOME nor HOME is set; kernel prepared for this run alone");
		if (cached && !tells_of_changes(inputs->kernel)) {
			cached = false;
			snprintf(
			    k->notice, sizeof k->notice,
			    "no cache: the kernel's file system does not tell of every change; kernel prepared for "
			    "this run alone");
		}
	}
	if (cached) {
		cache_entry_name(name, &inputs->kernel_st, relocs_st);
		k->fd = cache_lookup(directory, name, request->base_alone, &k->source, &k->plan);
		if (k->fd >= 0) {
			k->way = KERNEL_CACHE_HIT;
			return 0;
		}
	}
	status = settle(inputs->kernel, &inputs->kernel_st, error);
	if (!status && relocs_st) {
		status = settle(inputs->relocs, &inputs->relocs_st, error);
		if (status)
			k->blame = request->relocs;
	}
	if (status)
		return status;
	if (cached) {
		cache_entry_name(name, &inputs->kernel_st, relocs_st);
		status = prepare_into_cache(k, request, inputs, directory, name, &fall_back, error);
	}
	return fall_back ? prepare_into_memory(k, request, inputs, error) : status;
}

/* What else there is in the file is for the caller to ask for. The worker has said what is wrong with a broken one. */
static void keep_uki(struct opened_kernel *k, struct inputs *inputs)
{
	struct riffle_error ignored;

	if (uki_read(&k->uki, inputs->kernel, (uint64_t)inputs->kernel_st.st_size, &ignored) || !uki_is(&k->uki))
		return;
	k->uki_fd = inputs->kernel;
	inputs->kernel = -1;
}

int kernel_open(struct opened_kernel *k, const struct kernel_request *request, struct riffle_error *error)
{
	struct inputs inputs = {.kernel = -1, .relocs = -1};
	bool prepared = false;
	int status;

	memset(k, 0, sizeof *k);
	k->plan = (struct riffle_plan)RIFFLE_PLAN_INIT;
	k->fd = k->uki_fd = -1;
	k->blame = request->kernel;
	status = input_open(&inputs.kernel, &inputs.kernel_st, request->kernel, error);
	if (!status && request->relocs) {
		status = input_open(&inputs.relocs, &inputs.relocs_st, request->relocs, error);
		if (status)
			k->blame = request->relocs;
	}
	if (!status && request->relocs && (prepared = input_is_prepared(inputs.kernel)))
		status = riffle_fail(error, RIFFLE_ERR_ARGUMENT, "--relocs",
				     "is of no use: this kernel is prepared already");
	else if (!status && !request->relocs)
		prepared = try_prepared(k, request, &inputs, &status, error);
	if (!status && !prepared)
		status = open_other(k, request, &inputs, error);
	if (!status && !prepared)
		keep_uki(k, &inputs);
	if (inputs.kernel >= 0)
		close(inputs.kernel);
	if (inputs.relocs >= 0)
		close(inputs.relocs);
	if (status)
		kernel_close(k);
	return status;
}

void kernel_close(struct opened_kernel *k)
{
	riffle_plan_close(&k->plan);
	frame_reader_end(k->frames);
	k->frames = NULL;
	if (k->fd >= 0)
		close(k->fd);
	if (k->uki_fd >= 0)
		close(k->uki_fd);
	k->fd = k->uki_fd = -1;
}

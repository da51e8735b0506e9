/* SPDX-License-Identifier: Apache-2.0 */
/* The steps from a kernel file to a prepared kernel, in the order in which they may fail. */
#include "kernel/analysed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <riffle/plan.h>

#include "common/fail.h"
#include "kernel/frame_reader.h"
#include "kernel/sandbox.h"
#include "kernel/spawn.h"
#include "prepare/analysis/prepared.h"

/* Says in the error's field which of the files it is about: the worker's caller knows them by names. */
static int blame_debug(struct analysed *kernel, struct riffle_error *error)
{
	struct riffle_error told = *error;

	if (!strcmp(told.field, "debug vmlinux"))
		snprintf(kernel->problem, sizeof kernel->problem, "%s", told.problem);
	else
		snprintf(kernel->problem, sizeof kernel->problem, "its %s %s", told.field, told.problem);
	error->field = SPAWN_DEBUG_FIELD;
	error->problem = kernel->problem;
	return (int)error->status;
}

static int analyse(struct analysed *kernel, int debug_fd, struct riffle_error *error)
{
	struct shuffle_debug *debug = NULL;
	int status;

	if (!kernel->image->relocatable)
		return riffle_fail(error, RIFFLE_ERR_UNSUPPORTED, "relocations", "are missing: nothing in it can move");
	if (debug_fd >= 0 && shuffle_debug_open(&debug, kernel->image, debug_fd, error))
		return blame_debug(kernel, error);
	status = shuffle_analyse(&kernel->shuffle, kernel->image, debug, error);
	shuffle_debug_close(debug);
	return status;
}

/* lzop has done its work; who wrote what it unpacked is not known. */
static int no_more_programs(struct riffle_error *error)
{
	return sandbox_filter(SANDBOX_PLAIN, error);
}

/* A kernel whose sections cannot slide apart can be shuffled all the same. */
static void give_up_slides(struct analysed *kernel, const struct riffle_error *why)
{
	struct shuffle_slides *s = &kernel->shuffle->slides;

	s->block_count = 0;
	riffle_error_format(why, s->none, sizeof s->none);
}

/* A kernel that cannot be shuffled is a kernel all the same. */
static void give_up_shuffle(struct analysed *kernel, const struct riffle_error *why)
{
	shuffle_free(kernel->shuffle);
	kernel->shuffle = NULL;
	riffle_error_format(why, kernel->no_shuffle, sizeof kernel->no_shuffle);
}

int analysed_open(struct analysed *kernel, int kernel_fd, int relocs, int debug, const char *no_shuffle,
		  struct riffle_error *error)
{
	const bool lzo = riffle_image_peek_compression(kernel_fd) == RIFFLE_COMPRESSION_LZO;
	struct riffle_error why;
	int status;

	memset(kernel, 0, sizeof *kernel);
	kernel->must_shuffle = debug >= 0;
	status = sandbox_filter(lzo ? SANDBOX_RUNS_PROGRAM : SANDBOX_PLAIN, error);
	if (!status)
		status =
		    riffle_image_open_confined(&kernel->image, kernel_fd, relocs, lzo ? no_more_programs : NULL, error);
	if (status)
		return status;
	if (no_shuffle) {
		snprintf(kernel->no_shuffle, sizeof kernel->no_shuffle, "%s", no_shuffle);
		return RIFFLE_OK;
	}
	if (!analyse(kernel, debug, &why))
		return RIFFLE_OK;
	give_up_shuffle(kernel, &why);
	if (!kernel->must_shuffle)
		return RIFFLE_OK;
	*error = why;
	analysed_close(kernel);
	return (int)why.status;
}

void analysed_close(struct analysed *kernel)
{
	shuffle_free(kernel->shuffle);
	kernel->shuffle = NULL;
	riffle_image_close(kernel->image);
	kernel->image = NULL;
}

static int check_result(int fd, struct riffle_error *error)
{
	struct frame_reader *frames = NULL;
	struct riffle_source source;
	struct riffle_plan plan = RIFFLE_PLAN_INIT;
	int status;

	status = riffle_source_from_fd(&source, fd, error);
	if (!status)
		status = frame_reader_begin(&frames, &source, error);
	if (!status)
		status = riffle_plan_open(&plan, &source, error);
	riffle_plan_close(&plan);
	frame_reader_end(frames);
	return status;
}

static int write_checked(const struct analysed *kernel, enum riffle_compression storage, int out,
			 struct riffle_error *error)
{
	int status = riffle_prepared_write(kernel->image, kernel->shuffle, kernel->no_shuffle, storage, out, error);

	return status ? status : check_result(out, error);
}

int analysed_write(struct analysed *kernel, enum riffle_compression storage, int out, struct riffle_error *error)
{
	int status;

	/* a disk that is full has nothing to do with slides or the shuffle */
	while ((status = write_checked(kernel, storage, out, error)) && status != RIFFLE_ERR_IO && kernel->shuffle) {
		if (kernel->shuffle->slides.block_count)
			give_up_slides(kernel, error);
		else if (!kernel->must_shuffle)
			give_up_shuffle(kernel, error);
		else
			break;
		if (ftruncate(out, 0) < 0)
			return riffle_fail_system(error, errno, "output", "cannot be emptied");
	}
	return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A directory to pack, and the resulting archive. */
#ifndef PACK_FIXTURE_H
#define PACK_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "initramfs/initramfs.h"
#include "newc_reader.h"

struct fixture {
	char path[64];
	int fd;
	struct initramfs *archive;
	struct riffle_error error;
	uint8_t *bytes;
	uint64_t count;
	struct newc newc;
};

static inline int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	strcpy(f->path, "/tmp/riffle-pack-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY);
	assert_true(f->fd >= 0);
	assert_int_equal(initramfs_new(&f->archive, &f->error), 0);
	*state = f;
	return 0;
}

static inline int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[128];

	snprintf(command, sizeof command, "rm -rf %s", f->path);
	assert_int_equal(system(command), 0);
	initramfs_free(f->archive);
	close(f->fd);
	free(f->bytes);
	free(f);
	return 0;
}

static inline void put_file(const struct fixture *f, const char *name, const void *data, size_t bytes)
{
	int fd = openat(f->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	close(fd);
}

static inline int collect(struct fixture *f)
{
	const struct initramfs_directory directory = {.fd = f->fd};

	return initramfs_add_directory(f->archive, &directory, &f->error);
}

static inline int write_archive(struct fixture *f)
{
	assert_int_equal(initramfs_layout(f->archive, &f->count, &f->error), 0);
	free(f->bytes);
	f->bytes = calloc(1, f->count + 1);
	f->bytes[f->count] = 0xa5; /* detects an overrun by one byte */
	int status = initramfs_write(f->archive, f->bytes, &f->error);

	assert_int_equal(f->bytes[f->count], 0xa5);
	if (!status)
		assert_true(newc_read(&f->newc, f->bytes, f->count));
	return status;
}

static inline void pack(struct fixture *f)
{
	assert_int_equal(collect(f), 0);
	assert_int_equal(write_archive(f), 0);
}

static inline const struct newc_file *get(struct fixture *f, const char *name)
{
	const struct newc_file *file = newc_find(&f->newc, name);

	if (!file)
		fail_msg("%s is not in the archive", name);
	return file;
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

#endif

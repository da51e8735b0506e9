/* SPDX-License-Identifier: Apache-2.0 */
/* Opens corrupted kernels and checks how they are refused and that nothing is left behind. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/image/hostile.h"

void make_input(struct input *in)
{
	struct test_kernel_spec spec = test_kernel_spec();

	memset(in, 0, sizeof *in);
	spec.rela = true;
	test_kernel_build(&in->k, &spec);
	test_bytes_add(&in->list, in->k.list.at, in->k.list.count);
}

void free_input(struct input *in)
{
	test_kernel_free(&in->k);
	test_bytes_free(&in->list);
	test_bytes_free(&in->bzimage);
}

int try_open(int fd, int relocs_fd, struct riffle_error *error)
{
	struct riffle_image *image = (struct riffle_image *)(uintptr_t)1;
	int status;

	memset(error, 0, sizeof *error);
	status = riffle_image_open(&image, fd, relocs_fd, error);
	if (status)
		assert_null(image);
	else
		riffle_image_close(image);
	close(fd);
	if (relocs_fd >= 0)
		close(relocs_fd);
	return status;
}

void expect(const char *what, int status, const struct riffle_error *error, int wanted, const char *field)
{
	char text[256];

	if (!status)
		fail_msg("%s: was accepted", what);
	riffle_error_format(error, text, sizeof text);
	if (status != wanted || (int)error->status != status || strcmp(error->field, field))
		fail_msg("%s: status %d (wanted %d, field %s): %s", what, status, wanted, field, text);
	assert_null(strchr(text, '\n'));
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

int run_clean(const struct CMUnitTest *tests, size_t count)
{
	unsigned before = open_descriptors();
	int failed = _cmocka_run_group_tests("refused", tests, count, NULL, NULL);

	if (open_descriptors() != before) {
		fprintf(stderr, "%u descriptors were open before, %u are now\n", before, open_descriptors());
		return 1;
	}
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* make-analysis-seeds DIRECTORY: regenerates the seed of fuzz-analysis, tests/fuzz/corpus/analysis. */
#include <stdio.h>

#include "tests/lib/kernels.h"

int main(int argc, char **argv)
{
	struct test_bytes kernel = {0};
	char path[4096];
	FILE *file;

	if (argc != 2) {
		fprintf(stderr, "usage: make-analysis-seeds DIRECTORY\n");
		return 2;
	}
	test_movable_kernel(&kernel);
	snprintf(path, sizeof path, "%s/kernel", argv[1]);
	file = fopen(path, "wb");
	if (!file || fwrite(kernel.at, 1, kernel.count, file) != kernel.count || fclose(file)) {
		perror(path);
		return 1;
	}
	test_bytes_free(&kernel);
	return 0;
}

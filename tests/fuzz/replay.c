/* SPDX-License-Identifier: Apache-2.0 */
/* replay DIRECTORY: runs a fuzz target once on each file there, and fails if one is not fully accepted. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *directory, const char *name)
{
	static uint8_t bytes[4 << 20];
	unsigned long before = fuzz_accepted;
	char path[4096];
	size_t size;
	uint8_t *exact;
	FILE *file;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	file = fopen(path, "rb");
	if (!file) {
		perror(path);
		return 1;
	}
	size = fread(bytes, 1, sizeof bytes, file);
	fclose(file);
	exact = malloc(size ? size : 1);
	memcpy(exact, bytes, size);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
	printf("%s: %s\n", path, fuzz_accepted == before ? "REFUSED" : "taken");
	return fuzz_accepted == before;
}

int main(int argc, char **argv)
{
	int refused = 0, seeds = 0;
	struct dirent *entry;
	DIR *directory;

	if (argc != 2 || !(directory = opendir(argv[1]))) {
		fprintf(stderr, "usage: replay DIRECTORY\n");
		return 2;
	}
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.') {
			refused += replay(argv[1], entry->d_name);
			seeds++;
		}
	closedir(directory);
	return refused || !seeds;
}

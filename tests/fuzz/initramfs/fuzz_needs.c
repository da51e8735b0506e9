/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the readers of untrusted ELF files, of the loader's cache, and of the guest init's configuration. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/config.h"
#include "initramfs/libraries.h"
#include "tests/fuzz/accepted.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file that is present shows that the entry before it was understood. */
static void note(void *opaque, const char *path)
{
	(void)opaque;
	(void)path;
	fuzz_accepted++;
}

static void read_elf(const uint8_t *data, size_t size)
{
	struct riffle_error error;
	struct library_user user = {.path = "/nonexistent/program"};
	const struct library_places places = {.cache = data, .cache_bytes = size, .directories = "/nonexistent"};
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (!elf_read_needs(&user.needs, fd, &error)) {
		for (size_t i = 0; i < user.needs.count; i++)
			library_find(&places, &user, user.needs.needed[i], note, NULL);
		elf_free_needs(&user.needs);
		fuzz_accepted++;
	}
	close(fd);
	memset(&user.needs, 0, sizeof user.needs);
	library_find(&places, &user, "libc.so.6", note, NULL);
}

static void read_config(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	char **pointers;
	struct config config;

	memcpy(text, data, size);
	pointers = calloc(config_pointers(text, size), sizeof *pointers);
	if (!config_parse(&config, text, size, pointers)) {
		if (!config.argc || config.argv[config.argc] || config.environment[config.environment_count])
			abort();
		fuzz_accepted++;
	}
	free(pointers);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	read_elf(data, size);
	read_config(data, size);
	return 0;
}
